"""Devices: saved, shown, removed, and given to customers (contract, section 17.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET, Struct, UnsetType

from gateway.core.errors import Forbidden
from gateway.core.model import (
    Actor,
    DeviceCredentials,
    DeviceDraft,
    DeviceRecord,
    NameConflict,
    Permission,
    Suffix,
)
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.credentials import (
    CredentialsBody,
    access_token,
    credentials_of,
)
from gateway.dialects.thingsboard.admin.desk import (
    NO_PERMISSION,
    Desk,
    bad_request,
    body_of,
    json_reply,
    not_found,
)
from gateway.dialects.thingsboard.admin.device_shapes import (
    DeviceAnswer,
    DeviceBody,
    device_answer,
)
from gateway.dialects.thingsboard.admin.finder import Finder, device_words
from gateway.dialects.thingsboard.admin.words import NULL_UUID, uuid_of
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.catalogue import Catalogue
    from gateway.core.inventory import Inventory

SEE: Final = (Permission.ORG_DEVICES_VIEW, Permission.OWN_DEVICES_VIEW)
CHANGE: Final = (Permission.ORG_DEVICES_EDIT, Permission.OWN_DEVICES_EDIT)
SAVE: Final = (Permission.ORG_DEVICES_CREATE, *CHANGE)
REMOVE: Final = (Permission.ORG_DEVICES_DELETE, Permission.OWN_DEVICES_DELETE)
SHARE: Final = (Permission.ORG_DEVICES_SHARE,)
MOST_SEPARATOR: Final = 32

NO_PROFILE: Final = "Device is referencing non existing device profile!"
NOT_ASSIGNED: Final = "Device isn't assigned to any customer!"


class WithCredentialsBody(Struct):
    """A device and the credentials it is to have."""

    device: DeviceBody | None = None
    credentials: CredentialsBody | None = None


class DeviceRoutes:
    def __init__(self, inventory: Inventory, catalogue: Catalogue, finder: Finder) -> None:
        self._inventory = inventory
        self._catalogue = catalogue
        self._finder = finder

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        return (
            desk.route("device.save", "POST /api/device", self._save, needs=SAVE, operation=_SAVE),
            desk.route(
                "device.save_with_credentials",
                "POST /api/device-with-credentials",
                self._save_with_credentials,
                needs=SAVE,
                operation=_SAVE_WITH_CREDENTIALS,
            ),
            desk.route(
                "device.show", "GET /api/device/{deviceId}", self._show, needs=SEE, operation=_SHOW
            ),
            desk.route(
                "device.remove",
                "DELETE /api/device/{deviceId}",
                self._remove,
                needs=REMOVE,
                operation=_REMOVE,
            ),
            desk.route(
                "device.assign",
                (
                    "POST /api/customer/{customerId}/device/{deviceId}",
                    "POST /api/owner/CUSTOMER/{customerId}/DEVICE/{deviceId}",
                ),
                self._assign,
                needs=SHARE,
                operation=_ASSIGN,
            ),
            desk.route(
                "device.unassign",
                (
                    "DELETE /api/customer/device/{deviceId}",
                    "POST /api/owner/TENANT/{tenantId}/DEVICE/{deviceId}",
                ),
                self._unassign,
                needs=SHARE,
                operation=_UNASSIGN,
            ),
        )

    async def _told(self, record: DeviceRecord) -> Reply:
        return json_reply(device_answer(record, await self._finder.root_uuid()))

    async def _show(self, call: Call, actor: Actor) -> Reply:
        return await self._told(await self._finder.device(actor, call.params["deviceId"]))

    async def _remove(self, call: Call, actor: Actor) -> Reply:
        record = await self._finder.device(actor, call.params["deviceId"])
        await self._inventory.remove(actor, record)
        return Reply()

    # ── saving ──────────────────────────────────────────────────────────────────────────────

    async def _save(self, call: Call, actor: Actor) -> Reply:
        body = body_of(call, DeviceBody)
        token = call.query.get("accessToken")
        return await self._saved(call, actor, body, access_token(token) if token else None)

    async def _save_with_credentials(self, call: Call, actor: Actor) -> Reply:
        body = body_of(call, WithCredentialsBody)
        if body.device is None:
            raise bad_request("Validation error: device must not be null")
        if body.credentials is None:
            raise bad_request("Validation error: credentials must not be null")
        return await self._saved(call, actor, body.device, credentials_of(body.credentials))

    async def _saved(
        self, call: Call, actor: Actor, body: DeviceBody, credentials: DeviceCredentials | None
    ) -> Reply:
        name = body.prove()
        record = None
        if body.id is not None:
            _demand(actor, *CHANGE)
            record = await self._finder.device(actor, body.id.id, change=True)
        else:
            _demand(actor, Permission.ORG_DEVICES_CREATE)
        profile_id, profile_name = await self._profile(actor, body, record)
        draft = DeviceDraft(
            name=name,
            profile_id=profile_id,
            profile_name=profile_name,
            label=_text(body.label),
            info=body.info(),
            gateway=body.is_gateway(),
            customer_id=await self._customer(actor, body, record),
            credentials=credentials,
            version=body.version,
        )
        conflict, separator, suffix = _naming(call)
        with device_words():
            if record is None:
                saved = await self._inventory.create(
                    actor, draft, conflict=conflict, separator=separator, suffix=suffix
                )
            else:
                saved = await self._inventory.update(
                    actor, record, draft, conflict=conflict, separator=separator, suffix=suffix
                )
        return await self._told(saved)

    async def _profile(
        self, actor: Actor, body: DeviceBody, record: DeviceRecord | None
    ) -> tuple[int | None, str]:
        """The profile that is meant, by number or by name; neither: the default one, or as it is.

        A device keeps its profile even where the caller sees the device alone.
        """
        if body.device_profile_id is None:
            kept = record is not None and body.type == record.profile_name
            return None, "" if kept else body.type or ""
        uuid = uuid_of(body.device_profile_id.id, "deviceProfileId")
        if record is not None and uuid == record.profile_uuid:
            return None, ""
        profile = await self._catalogue.find(actor, uuid)
        if profile is None:
            raise bad_request(NO_PROFILE)
        return profile.id, ""

    async def _customer(
        self, actor: Actor, body: DeviceBody, record: DeviceRecord | None
    ) -> int | UnsetType | None:
        """The number of the customer it is to have. Another one than now needs a permission."""
        given = body.customer_id
        if given is UNSET:
            return UNSET
        uuid = NULL_UUID if given is None else uuid_of(given.id, "customerId")
        now = record.customer_uuid if record is not None else ""
        if uuid == (now or NULL_UUID):
            return UNSET
        _demand(actor, *SHARE)
        if uuid == NULL_UUID:
            return None
        return (await self._finder.customer(actor, uuid)).id

    # ── customers ───────────────────────────────────────────────────────────────────────────

    async def _assign(self, call: Call, actor: Actor) -> Reply:
        customer = await self._finder.customer(actor, call.params["customerId"])
        record = await self._finder.device(actor, call.params["deviceId"])
        return await self._told(await self._inventory.assign(actor, record, customer))

    async def _unassign(self, call: Call, actor: Actor) -> Reply:
        tenant = call.params.get("tenantId")
        if tenant is not None and uuid_of(tenant, "tenantId") != await self._finder.root_uuid():
            raise not_found()
        record = await self._finder.device(actor, call.params["deviceId"])
        if record.device.customer_id is None:
            raise bad_request(NOT_ASSIGNED)
        return await self._told(await self._inventory.assign(actor, record, None))


def _demand(actor: Actor, *wanted: Permission) -> None:
    if not actor.may(*wanted):
        raise Forbidden(NO_PERMISSION)


def _text(given: str | UnsetType | None) -> str | UnsetType:
    return given if given is UNSET else given or ""


def _naming(call: Call) -> tuple[NameConflict, str, Suffix]:
    """What to do when the name is taken. Raises `Trouble` (400)."""
    query = call.query
    separator = query.get("uniquifySeparator", "_")
    if len(separator) > MOST_SEPARATOR:
        raise bad_request(f"uniquifySeparator is longer than {MOST_SEPARATOR} characters")
    return (
        _choice(NameConflict, query.get("nameConflictPolicy", ""), "nameConflictPolicy"),
        separator,
        _choice(Suffix, query.get("uniquifyStrategy", ""), "uniquifyStrategy"),
    )


def _choice(kind: Any, text: str, name: str) -> Any:
    """A member of an enumeration; its first for nothing."""
    members = list(kind)
    found = next((one for one in members if one.value == text.upper()), None)
    if found is None and text:
        raise bad_request(f"{name} must be {' or '.join(one.value for one in members)}")
    return found or members[0]


TAG: Final = "Devices"
_DEVICE = "The device."
_NAMING = (
    Query("nameConflictPolicy", "FAIL or UNIQUIFY: what to do when the name is taken"),
    Query("uniquifySeparator", "between the name and what makes it unique", example="_"),
    Query("uniquifyStrategy", "RANDOM or INCREMENTAL"),
)
_SAVE = Operation(
    summary="Make or change a device",
    tag=TAG,
    about="With an `id` it is changed, and what is absent stays. Its profile is `deviceProfileId`, "
    "else the one named `type` (made when there is none), else the default one. Without "
    "`accessToken` a new device gets a token of 20 letters and digits.",
    body=DeviceBody,
    body_example={"name": "Sensor 7", "type": "sensor", "label": "Roof"},
    query=(Query("accessToken", "the token it is to have"), *_NAMING),
    answers=answers(_DEVICE, DeviceAnswer, 400, 401, 403, 404, 409),
)
_SAVE_WITH_CREDENTIALS = Operation(
    summary="Make or change a device together with its credentials",
    tag=TAG,
    body=WithCredentialsBody,
    query=_NAMING,
    answers=answers(_DEVICE, DeviceAnswer, 400, 401, 403, 404, 409),
)
_SHOW = Operation(
    summary="Show a device",
    tag=TAG,
    answers=answers(_DEVICE, DeviceAnswer, 400, 401, 403, 404),
)
_REMOVE = Operation(
    summary="Remove a device",
    tag=TAG,
    about="With all that is kept of it. Its open sessions are over.",
    answers=answers("It is gone.", None, 400, 401, 403, 404),
)
_ASSIGN = Operation(
    summary="Give a device to a customer",
    tag=TAG,
    answers=answers(_DEVICE, DeviceAnswer, 400, 401, 403, 404, 409),
)
_UNASSIGN = Operation(
    summary="Take a device back from its customer",
    tag=TAG,
    answers=answers(_DEVICE, DeviceAnswer, 400, 401, 403, 404, 409),
)
