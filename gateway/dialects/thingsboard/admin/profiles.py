"""Device profiles: listed, made, changed and removed (contract, section 17.2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.core.errors import Cause, Conflict, KeyTaken
from gateway.core.model import (
    PLAIN_POLICY,
    Actor,
    DeviceProfile,
    Page,
    Permission,
    ProfileTransport,
)
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import (
    VERSION_CONFLICT,
    Desk,
    Trouble,
    bad_request,
    body_of,
    json_reply,
    not_found,
)
from gateway.dialects.thingsboard.admin.profile_shapes import (
    PolicyWords,
    ProfileAnswer,
    ProfileBody,
    ProfileInfo,
    ProfileName,
    profile_answer,
    profile_id,
    profile_info,
    read_profile,
)
from gateway.dialects.thingsboard.admin.words import (
    MOST_PER_PAGE,
    PAGING,
    EntityId,
    PageAnswer,
    page_of,
    paging_of,
    uuid_of,
    uuids_of,
)
from gateway.wire.call import Call, Reply, Status
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.catalogue import Catalogue
    from gateway.core.catalogue_store import ProfileOrder
    from gateway.core.people import People

SEE: Final = (Permission.PRODUCT_VIEW,)
EDIT: Final = (Permission.PRODUCT_EDIT,)
_SEE_SHORT: Final = (
    Permission.PRODUCT_VIEW,
    Permission.ORG_DEVICES_VIEW,
    Permission.OWN_DEVICES_VIEW,
)
MOST_BODY_BYTES: Final = 1 << 20
"""Of a profile to be saved: it may bring an image and four schemas."""
MOST_NAMES: Final = 10_000
"""Given at once where names are not paged."""

_ORDERS: Final[dict[str, ProfileOrder]] = {
    "": "created",
    "createdTime": "created",
    "name": "name",
    "type": "created",
    "transportType": "transport",
}
_SORTABLE: Final = tuple(name for name in _ORDERS if name)

# ThingsBoard's own texts (section 17.2).
_KEY_TAKEN: Final = "Device profile with such provision device key already exists!"
_CERTIFICATE_TAKEN: Final = "Device profile with such certificate already exists!"
_NAME_TAKEN: Final = "Device profile with such name already exists!"
_CHANGED: Final = "Device profile was already changed by someone else"
_IN_USE: Final = "The device profile referenced by the devices cannot be deleted!"


class ProfileRoutes:
    """`words` tell and read policies; without them there are none in REST."""

    def __init__(
        self, catalogue: Catalogue, people: People, words: PolicyWords | None = None
    ) -> None:
        self._catalogue = catalogue
        self._people = people
        self._words = words

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        rows = (
            ("profile.show", f"GET {_ONE}", self._show, SEE, _SHOW),
            ("profile.remove", f"DELETE {_ONE}", self._remove, EDIT, _REMOVE),
            ("profile.default", f"POST {_ONE}/default", self._make_default, EDIT, _MAKE_DEFAULT),
            ("profile.names", "GET /api/deviceProfile/names", self._names, SEE, _NAMES),
            ("profile.list", "GET /api/deviceProfiles", self._list, SEE, _LIST),
            ("profile.infos", "GET /api/deviceProfileInfos", self._infos, SEE, _INFOS),
            (
                "profile.info.default",
                "GET /api/deviceProfileInfo/default",
                self._default,
                SEE,
                _DEFAULT,
            ),
            (
                "profile.info",
                "GET /api/deviceProfileInfo/{deviceProfileId}",
                self._info,
                _SEE_SHORT,
                _INFO,
            ),
        )
        save = desk.route(
            "profile.save",
            "POST /api/deviceProfile",
            self._save,
            needs=EDIT,
            operation=_SAVE,
            max_body_bytes=MOST_BODY_BYTES,
        )
        return (
            save,
            *(
                desk.route(name, http, handler, needs=needs, operation=operation)
                for name, http, handler, needs, operation in rows
            ),
        )

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def _show(self, call: Call, actor: Actor) -> Reply:
        return json_reply(await self._answer(await self._found(call, actor)))

    async def _list(self, call: Call, actor: Actor) -> Reply:
        paging = paging_of(call, _SORTABLE)
        found = await self._page(call, actor, None)
        tenant = await self._tenant()
        data = [
            profile_answer(profile, await self._catalogue.ticket(profile), tenant, self._words)
            for profile in found.data
        ]
        page = Page(data=data, total=found.total, has_next=found.has_next)
        return json_reply(page_of(page, paging.page_size))

    async def _infos(self, call: Call, actor: Actor) -> Reply:
        """A page; or several by their ids, as the clients ask as well."""
        tenant = await self._tenant()
        if call.query.get("deviceProfileIds"):
            found = [
                await self._catalogue.info_visible(actor, uuid)
                for uuid in uuids_of(call, "deviceProfileIds")
            ]
            return json_reply([profile_info(one, tenant) for one in found if one is not None])
        paging = paging_of(call, _SORTABLE)
        listed = await self._page(call, actor, _transport(call))
        data = [profile_info(profile, tenant) for profile in listed.data]
        page = Page(data=data, total=listed.total, has_next=listed.has_next)
        return json_reply(page_of(page, paging.page_size))

    async def _page(
        self, call: Call, actor: Actor, transport: ProfileTransport | None
    ) -> Page[DeviceProfile]:
        paging = paging_of(call, _SORTABLE)
        return await self._catalogue.page(
            actor,
            page=paging.page,
            page_size=paging.page_size,
            text=paging.text,
            order=_ORDERS[paging.sort],
            descending=paging.descending,
            transport=transport,
        )

    async def _names(self, call: Call, actor: Actor) -> Reply:
        """By name; with `activeOnly` those that devices have."""
        active = call.query.get("activeOnly", "").lower() == "true"
        names: list[ProfileName] = []
        for page in range(MOST_NAMES // MOST_PER_PAGE):
            found = await self._catalogue.page(
                actor, page=page, page_size=MOST_PER_PAGE, in_use=active
            )
            names += [ProfileName(profile_id(one), one.name) for one in found.data]
            if not found.has_next:
                break
        return json_reply(names)

    async def _default(self, call: Call, actor: Actor) -> Reply:
        found = await self._catalogue.default(actor)
        return json_reply(profile_info(found, await self._tenant()))

    async def _info(self, call: Call, actor: Actor) -> Reply:
        found = await self._catalogue.info_visible(actor, _uuid(call))
        if found is None:
            raise not_found()
        return json_reply(profile_info(found, await self._tenant()))

    # ── changing ────────────────────────────────────────────────────────────────────────────

    async def _save(self, call: Call, actor: Actor) -> Reply:
        body = body_of(call, ProfileBody)
        before = None
        if body.id is not None:
            before = await self._catalogue.find(actor, uuid_of(body.id.id, "id"))
            if before is None:
                raise not_found()
        wish = await asyncio.to_thread(read_profile, body, before, self._words)
        _check_hooks(actor, wish.profile, before)
        try:
            saved = await self._catalogue.save(
                actor, wish.profile, key=wish.key, secret=wish.secret, version=body.version
            )
        except (Conflict, KeyTaken) as exc:
            raise _told(exc, by_certificate=wish.profile.chain is not None) from None
        return json_reply(await self._answer(saved))

    async def _make_default(self, call: Call, actor: Actor) -> Reply:
        found = await self._found(call, actor)
        return json_reply(await self._answer(await self._catalogue.make_default(actor, found)))

    async def _remove(self, call: Call, actor: Actor) -> Reply:
        found = await self._found(call, actor)
        try:
            await self._catalogue.remove(actor, found)
        except Conflict as exc:
            raise _told(exc) from None
        return Reply()

    async def _found(self, call: Call, actor: Actor) -> DeviceProfile:
        found = await self._catalogue.find(actor, _uuid(call))
        if found is None:
            raise not_found()
        return found

    async def _answer(self, profile: DeviceProfile) -> ProfileAnswer:
        ticket = await self._catalogue.ticket(profile)
        return profile_answer(profile, ticket, await self._tenant(), self._words)

    async def _tenant(self) -> EntityId:
        return EntityId((await self._people.root()).uuid, "TENANT")


def _check_hooks(actor: Actor, wanted: DeviceProfile, before: DeviceProfile | None) -> None:
    """What this machine calls is said by those whose machine it is. Raises `Trouble` (400)."""
    if actor.organisation.parent_id is None:
        return
    policy, was = wanted.policy, before.policy if before is not None else PLAIN_POLICY
    if (policy.before, policy.after) != (was.before, was.after):
        raise bad_request("profileData.gatehouse: hooks are set by the root organisation alone")


def _uuid(call: Call) -> str:
    return uuid_of(call.params["deviceProfileId"], "deviceProfileId")


def _transport(call: Call) -> ProfileTransport | None:
    text = call.query.get("transportType", "")
    if not text:
        return None
    try:
        return ProfileTransport(text)
    except ValueError:
        raise bad_request("transportType must be DEFAULT, MQTT or COAP here") from None


def _told(exc: Conflict | KeyTaken, *, by_certificate: bool = False) -> Trouble | Conflict:
    """ThingsBoard's text for what it has one for."""
    match exc:
        case KeyTaken():
            return bad_request(_CERTIFICATE_TAKEN if by_certificate else _KEY_TAKEN)
        case Conflict(cause=Cause.NAME_TAKEN):
            return bad_request(_NAME_TAKEN)
        case Conflict(cause=Cause.IN_USE, args=("in use",)):
            return bad_request(_IN_USE)
        case Conflict(cause=Cause.VERSION):
            return Trouble(Status.CONFLICT, VERSION_CONFLICT, _CHANGED)
        case _:
            return exc


# ── for the document ──────────────────────────────────────────────────────────────────────────

_ONE: Final = "/api/deviceProfile/{deviceProfileId}"
_TAG: Final = "device profiles"
_PATH: Final = {"deviceProfileId": "the profile's UUID"}

_SHOW: Final = Operation(
    summary="A device profile",
    tag=_TAG,
    about="With its provision key and secret in clear.",
    path=_PATH,
    answers=answers("The profile.", ProfileAnswer, 400, 401, 403, 404),
)
_LIST: Final = Operation(
    summary="Device profiles",
    tag=_TAG,
    query=PAGING,
    answers=answers("A page.", PageAnswer[ProfileAnswer], 400, 401, 403),
)
_INFOS: Final = Operation(
    summary="Device profiles in short",
    tag=_TAG,
    about="With `deviceProfileIds` a plain list of those, without paging.",
    query=(
        *(Query(one.name, one.about, one.type, example=one.example) for one in PAGING),
        Query("transportType", "DEFAULT, MQTT or COAP: those of that transport"),
        Query("deviceProfileIds", "UUIDs, with commas between"),
    ),
    answers=answers(
        "A page, or a list.", PageAnswer[ProfileInfo] | list[ProfileInfo], 400, 401, 403
    ),
)
_NAMES: Final = Operation(
    summary="Names of device profiles",
    tag=_TAG,
    query=(Query("activeOnly", "only those that devices have", bool),),
    answers=answers("By name.", list[ProfileName], 401, 403),
)
_DEFAULT: Final = Operation(
    summary="The default device profile in short",
    tag=_TAG,
    about="That of devices which name none; made when there is none.",
    answers=answers("The profile.", ProfileInfo, 401, 403),
)
_INFO: Final = Operation(
    summary="A device profile in short",
    tag=_TAG,
    about="Also for those who see a device of that profile.",
    path=_PATH,
    answers=answers("The profile.", ProfileInfo, 400, 401, 403, 404),
)
_SAVE: Final = Operation(
    summary="Save a device profile",
    tag=_TAG,
    about=(
        "With an `id` it is changed, and what is absent stays. A provision key and secret are made "
        "where the strategy needs them: 20 letters and digits each. A new name becomes the type of "
        "its devices. A profile that a file defines is changed there (409). "
        "`profileData.gatehouse` has the settings that ThingsBoard has none for, with the keys and "
        "tables of a profile file (`admission`, `birth`, `answer`, `hooks`, `retry_window` …): a "
        "key that is absent stays, null puts it back, a table is replaced whole. It is told where "
        "it says anything."
    ),
    body=ProfileBody,
    body_example={
        "name": "Sensors",
        "type": "DEFAULT",
        "transportType": "DEFAULT",
        "provisionType": "ALLOW_CREATE_NEW_DEVICES",
        "profileData": {
            "configuration": {"type": "DEFAULT"},
            "transportConfiguration": {"type": "DEFAULT"},
            "provisionConfiguration": {"type": "ALLOW_CREATE_NEW_DEVICES"},
        },
    },
    answers=answers("As it is now.", ProfileAnswer, 400, 401, 403, 404, 409),
)
_MAKE_DEFAULT: Final = Operation(
    summary="Make a device profile the default one",
    tag=_TAG,
    path=_PATH,
    answers=answers("As it is now.", ProfileAnswer, 400, 401, 403, 404),
)
_REMOVE: Final = Operation(
    summary="Remove a device profile",
    tag=_TAG,
    about="One that devices have, or the default one, cannot be removed (400).",
    path=_PATH,
    answers=answers("It is gone.", None, 400, 401, 403, 404, 409),
)
