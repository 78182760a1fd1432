"""Provision profiles, ThingsBoard's design of 2020 (contract, section 6, draft A).

A profile of its own kind: it admits devices by key and secret, gives them to a customer and puts
them into a group, and the type a device names is the device profile it gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs

from gateway.core.errors import KeyTaken
from gateway.core.model import (
    Actor,
    BirthRule,
    DeviceProfile,
    Organisation,
    Page,
    ProvisionType,
    Secret,
)
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import (
    Desk,
    bad_request,
    body_of,
    json_reply,
    not_found,
)
from gateway.dialects.thingsboard.admin.profiles import EDIT, SEE
from gateway.dialects.thingsboard.admin.words import (
    NULL_UUID,
    PAGING,
    EntityId,
    PageAnswer,
    page_of,
    paging_of,
    uuid_of,
)
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.catalogue import Catalogue
    from gateway.core.people import People

_KIND: Final = "PROVISION_PROFILE"
_KEY_TAKEN: Final = "Provision profile with such provision profile key already exists!"
_SORTABLE: Final = ("createdTime",)


class ProvisionCredentials(Struct, rename="camel"):
    provision_profile_key: str | None = None
    provision_profile_secret: str | None = None

    def __repr__(self) -> str:
        return "ProvisionCredentials(***)"


class ProvisionProfileBody(Struct, rename="camel", kw_only=True):
    """All may be absent: key and secret are then made. Changed when it has an `id`."""

    id: EntityId | None = None
    credentials: ProvisionCredentials | None = None
    customer_id: EntityId | None = None
    group_name: str | None = None
    pre_provision_allowed: bool | None = None


class ProvisionProfileAnswer(Struct, rename="camel", kw_only=True):
    id: EntityId
    created_time: int
    tenant_id: EntityId
    customer_id: EntityId
    credentials: ProvisionCredentials
    pre_provision_allowed: bool
    group_name: str | None


class ProvisionProfileRoutes:
    def __init__(self, catalogue: Catalogue, people: People) -> None:
        self._catalogue = catalogue
        self._people = people

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        rows = (
            ("provision_profile.save", f"POST {_ALL}", self._save, EDIT, _SAVE),
            ("provision_profile.list", f"GET {_ALL}", self._list, SEE, _LIST),
            ("provision_profile.show", f"GET {_ONE}", self._show, SEE, _SHOW),
            ("provision_profile.remove", f"DELETE {_ONE}", self._remove, EDIT, _REMOVE),
        )
        return tuple(
            desk.route(name, http, handler, needs=needs, operation=operation)
            for name, http, handler, needs, operation in rows
        )

    async def _save(self, call: Call, actor: Actor) -> Reply:
        body = ProvisionProfileBody()
        if call.body.strip() not in (b"", b"null"):
            body = body_of(call, ProvisionProfileBody)
        before = None
        if body.id is not None:
            before = await self._found(actor, body.id.id)
        given = body.credentials or ProvisionCredentials()
        try:
            saved = await self._catalogue.save(
                actor,
                await self._wished(actor, body, before),
                key=_secret(given.provision_profile_key),
                secret=_secret(given.provision_profile_secret),
            )
        except KeyTaken:
            raise bad_request(_KEY_TAKEN) from None
        return json_reply(await self._answer(saved))

    async def _wished(
        self, actor: Actor, body: ProvisionProfileBody, before: DeviceProfile | None
    ) -> DeviceProfile:
        """What is absent stays as it is."""
        profile = before or _NEW
        birth = profile.birth
        if body.customer_id is not None:
            customer = await self._customer(actor, body.customer_id)
            birth = structs.replace(birth, customer_id=customer)
        if body.group_name is not None:
            group = body.group_name.strip()
            birth = structs.replace(birth, groups=(group,) if group else ())
        allowed = body.pre_provision_allowed
        if allowed is None:
            allowed = profile.pre_provision_allowed
        return structs.replace(profile, birth=birth, pre_provision_allowed=allowed)

    async def _customer(self, actor: Actor, wanted: EntityId) -> int | None:
        identity = uuid_of(wanted.id, "customerId")
        if identity == NULL_UUID:
            return None
        found = await self._people.organisation(actor, identity)
        if found is None or found.parent_id is None:
            raise not_found()
        return found.id

    async def _list(self, call: Call, actor: Actor) -> Reply:
        paging = paging_of(call, _SORTABLE)
        found = await self._catalogue.page(
            actor,
            page=paging.page,
            page_size=paging.page_size,
            text=paging.text,
            order="created",
            descending=paging.descending,
            provision=True,
        )
        data = [await self._answer(profile) for profile in found.data]
        page = Page(data=data, total=found.total, has_next=found.has_next)
        return json_reply(page_of(page, paging.page_size))

    async def _show(self, call: Call, actor: Actor) -> Reply:
        return json_reply(await self._answer(await self._found(actor, call.params["id"])))

    async def _remove(self, call: Call, actor: Actor) -> Reply:
        """The devices it admitted stay: they are of other profiles."""
        await self._catalogue.remove(actor, await self._found(actor, call.params["id"]))
        return Reply()

    async def _found(self, actor: Actor, text: str) -> DeviceProfile:
        found = await self._catalogue.find_provision(actor, uuid_of(text, "id"))
        if found is None:
            raise not_found()
        return found

    async def _answer(self, profile: DeviceProfile) -> ProvisionProfileAnswer:
        ticket = await self._catalogue.ticket(profile)
        customer = await self._customer_of(profile)
        shown = ProvisionCredentials()
        if ticket is not None:
            shown = ProvisionCredentials(ticket.key.reveal(), ticket.secret.reveal())
        return ProvisionProfileAnswer(
            id=EntityId(profile.uuid, _KIND),
            created_time=profile.created_at,
            tenant_id=EntityId((await self._people.root()).uuid, "TENANT"),
            customer_id=EntityId(customer.uuid if customer else NULL_UUID, "CUSTOMER"),
            credentials=shown,
            pre_provision_allowed=profile.pre_provision_allowed,
            group_name=profile.birth.groups[0] if profile.birth.groups else None,
        )

    async def _customer_of(self, profile: DeviceProfile) -> Organisation | None:
        number = profile.birth.customer_id
        return None if number is None else await self._people.organisation_numbered(number)


_NEW: Final = DeviceProfile(
    id=0,
    name="",
    provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES,
    birth=BirthRule(profile_by_type=True),
)


def _secret(text: str | None) -> Secret | None:
    return Secret(text) if text else None


# ── for the document ──────────────────────────────────────────────────────────────────────────

_ALL: Final = "/api/device/provision"
_ONE: Final = "/api/device/provision/{id}"
_TAG: Final = "provision profiles"
_PATH: Final = {"id": "the provision profile's UUID"}

_SAVE: Final = Operation(
    summary="Save a provision profile",
    tag=_TAG,
    about=(
        "The design of 2020. Without a body: a profile with a key and a secret of 20 letters and "
        "digits each. Devices it admits are the customer's and in the group; the `deviceType` they "
        "name is the device profile they get. `preProvisionAllowed`: a device that is there "
        "already and waits receives its credentials, once."
    ),
    body=ProvisionProfileBody,
    body_required=False,
    body_example={"preProvisionAllowed": False, "groupName": "meters"},
    answers=answers("As it is now.", ProvisionProfileAnswer, 400, 401, 403, 404),
)
_LIST: Final = Operation(
    summary="Provision profiles",
    tag=_TAG,
    query=PAGING,
    answers=answers("A page.", PageAnswer[ProvisionProfileAnswer], 400, 401, 403),
)
_SHOW: Final = Operation(
    summary="A provision profile",
    tag=_TAG,
    path=_PATH,
    answers=answers("The profile.", ProvisionProfileAnswer, 400, 401, 403, 404),
)
_REMOVE: Final = Operation(
    summary="Remove a provision profile",
    tag=_TAG,
    about="Its key admits nobody any more; the devices it admitted stay.",
    path=_PATH,
    answers=answers("It is gone.", None, 400, 401, 403, 404),
)
