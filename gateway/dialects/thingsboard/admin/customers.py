"""Customers: the organisations below the root, as ThingsBoard's REST has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct, structs

from gateway.core.errors import Forbidden
from gateway.core.model import Actor, Organisation, Page, Permission
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import (
    NO_PERMISSION,
    Desk,
    bad_request,
    body_of,
    json_reply,
    not_found,
)
from gateway.dialects.thingsboard.admin.device_shapes import read_object
from gateway.dialects.thingsboard.admin.finder import Finder, words
from gateway.dialects.thingsboard.admin.words import (
    PAGING,
    EntityId,
    PageAnswer,
    Version,
    page_of,
    paging_of,
    text_of,
    uuid_of,
    uuids_of,
)
from gateway.wire.call import Call, Format, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.people import People

SEE: Final = (Permission.ORG_VIEW,)
_ORDERS: Final = {"title": "name", "name": "name", "createdTime": "created"}
_CONTACT: Final = ("country", "state", "city", "address", "address2", "zip", "phone", "email")
_IN_USE: Final = "The customer has users, device profiles or customers of its own!"


class Contact(Struct, rename="camel", kw_only=True):
    """How to reach somebody."""

    country: str | None = None
    state: str | None = None
    city: str | None = None
    address: str | None = None
    address2: str | None = None
    zip: str | None = None
    phone: str | None = None
    email: str | None = None
    additional_info: dict[str, Any] | None = None


class CustomerBody(Contact, kw_only=True):
    """A customer to be saved: changed when it has an `id`. Its contact data are then replaced."""

    id: EntityId | None = None
    title: str | None = None
    parent_customer_id: EntityId | None = None
    version: Version | None = None


class CustomerAnswer(Contact, kw_only=True):
    """`parentCustomerId` is null directly below the tenant."""

    id: EntityId
    created_time: int
    title: str
    name: str
    tenant_id: EntityId
    parent_customer_id: EntityId | None = None
    version: int


class TenantAnswer(Contact, kw_only=True):
    """The root organisation."""

    id: EntityId
    created_time: int
    title: str
    name: str
    region: str = "Global"
    version: int


class ShortAnswer(Struct, rename="camel"):
    title: str
    is_public: bool = False


class CustomerRoutes:
    def __init__(self, people: People, finder: Finder) -> None:
        self._people = people
        self._finder = finder

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        rows = (
            ("customer.show", "GET /api/customer/{customerId}", self._show, SEE, _SHOW),
            ("customer.short", f"GET {_ONE}/shortInfo", self._short, SEE, _SHORT),
            ("customer.title", f"GET {_ONE}/title", self._title, SEE, _TITLE),
            ("customer.list", "GET /api/customers", self._list, SEE, _LIST),
            ("customer.by_ids", "GET /api/customers/list", self._by_ids, SEE, _BY_IDS),
            ("customer.named", "GET /api/tenant/customers", self._named, SEE, _NAMED),
            ("customer.save", "POST /api/customer", self._save, _SAVES, _SAVE),
            ("customer.remove", f"DELETE {_ONE}", self._remove, _REMOVES, _REMOVE),
            ("tenant.show", "GET /api/tenant/{tenantId}", self._tenant, SEE, _TENANT),
        )
        return tuple(
            desk.route(name, http, handler, needs=needs, operation=operation)
            for name, http, handler, needs, operation in rows
        )

    async def _show(self, call: Call, actor: Actor) -> Reply:
        found = await self._finder.customer(actor, call.params["customerId"])
        return json_reply(await self._answer(found))

    async def _short(self, call: Call, actor: Actor) -> Reply:
        found = await self._finder.customer(actor, call.params["customerId"])
        return json_reply(ShortAnswer(found.name))

    async def _title(self, call: Call, actor: Actor) -> Reply:
        found = await self._finder.customer(actor, call.params["customerId"])
        return Reply(found.name.encode(), format=Format.TEXT)

    async def _named(self, call: Call, actor: Actor) -> Reply:
        title = text_of(call.query, "customerTitle", required=True)
        found = await self._people.organisation_named(actor, title)
        if found is None or found.parent_id is None:
            raise not_found()
        return json_reply(await self._answer(found))

    async def _list(self, call: Call, actor: Actor) -> Reply:
        """Also several by their ids: so older clients ask."""
        if "customerIds" in call.query:
            return await self._by_ids(call, actor)
        asked = paging_of(call, tuple(_ORDERS))
        found = await self._people.organisations(
            actor,
            page=asked.page,
            page_size=asked.page_size,
            text=asked.text,
            order=_ORDERS.get(asked.sort, "created"),
            descending=asked.descending,
        )
        data = [await self._answer(one) for one in found.data]
        return json_reply(
            page_of(Page(data=data, total=found.total, has_next=found.has_next), asked.page_size)
        )

    async def _by_ids(self, call: Call, actor: Actor) -> Reply:
        found = [
            await self._people.organisation(actor, one) for one in uuids_of(call, "customerIds")
        ]
        customers = [one for one in found if one is not None and one.parent_id is not None]
        return json_reply([await self._answer(one) for one in customers])

    async def _save(self, call: Call, actor: Actor) -> Reply:
        body = body_of(call, CustomerBody)
        if body.title is None or not body.title.strip():
            raise bad_request("Customer title should be specified!")
        wanted = Permission.ORG_CREATE if body.id is None else Permission.ORG_EDIT
        if not actor.may(wanted):
            raise Forbidden(NO_PERMISSION)
        known = None if body.id is None else await self._finder.customer(actor, body.id.id)
        parent = None
        if body.parent_customer_id is not None and known is None:
            parent = await self._finder.customer(actor, body.parent_customer_id.id)
        with words("Customer with such title already exists!", "Customer"):
            saved = await self._people.save_organisation(
                actor,
                name=body.title,
                parent=parent,
                uuid=known.uuid if known is not None else None,
                info=contact_info(body),
                version=body.version,
            )
        return json_reply(await self._answer(saved))

    async def _remove(self, call: Call, actor: Actor) -> Reply:
        found = await self._finder.customer(actor, call.params["customerId"])
        with words("", "Customer", in_use=_IN_USE):
            await self._people.remove_organisation(actor, found, unassign=True)
        return Reply()

    async def _tenant(self, call: Call, actor: Actor) -> Reply:
        uuid = uuid_of(call.params["tenantId"], "tenantId")
        found = await self._people.organisation(actor, uuid)
        if found is None or found.parent_id is not None:
            raise not_found(f"Tenant with id [{uuid}] is not found")
        return json_reply(
            TenantAnswer(
                **_contact(found),
                id=EntityId(found.uuid, "TENANT"),
                created_time=found.created_at,
                title=found.name,
                name=found.name,
                version=found.version,
            )
        )

    async def _answer(self, customer: Organisation) -> CustomerAnswer:
        root = await self._people.root()
        parent = None
        if customer.parent_id is not None and customer.parent_id != root.id:
            above = await self._people.organisation_numbered(customer.parent_id)
            parent = EntityId(above.uuid, "CUSTOMER") if above is not None else None
        return CustomerAnswer(
            **_contact(customer),
            id=EntityId(customer.uuid, "CUSTOMER"),
            created_time=customer.created_at,
            title=customer.name,
            name=customer.name,
            tenant_id=EntityId(root.uuid, "TENANT"),
            parent_customer_id=parent,
            version=customer.version,
        )


def contact_info(body: CustomerBody) -> str:
    """Contact data as they are kept."""
    names = (*_CONTACT, "additional_info")
    given = {name: value for name in names if (value := getattr(body, name)) is not None}
    return msgspec.json.encode(given).decode()


def _contact(organisation: Organisation) -> dict[str, Any]:
    """What was kept, as members of `Contact`; nothing of what has another type."""
    kept = read_object(organisation.info)
    contact = {name: kept[name] for name in _CONTACT if isinstance(kept.get(name), str)}
    more = kept.get("additional_info")
    return {**contact, "additional_info": more if isinstance(more, dict) else None}


_ONE: Final = "/api/customer/{customerId}"
_SAVES: Final = (Permission.ORG_CREATE, Permission.ORG_EDIT)
_REMOVES: Final = (Permission.ORG_DELETE,)

TAG: Final = "Customers"
_FOUND = "The customer."
_SHOW = Operation(
    summary="Show a customer",
    tag=TAG,
    answers=answers(_FOUND, CustomerAnswer, 400, 401, 403, 404),
)
_SHORT = Operation(
    summary="Show the title of a customer, as JSON",
    tag=TAG,
    answers=answers("Its title.", ShortAnswer, 400, 401, 403, 404),
)
_TITLE = Operation(
    summary="Show the title of a customer",
    tag=TAG,
    answers=answers("Its title.", str, 400, 401, 403, 404, media="text/plain"),
)
_IDS = Query("customerIds", "their ids, with commas between", required=True)
_LIST = Operation(
    summary="List customers",
    tag=TAG,
    about="Those below the caller's organisation. With `customerIds` the answer is a list of these "
    "alone, and `pageSize` and `page` are left out.",
    query=tuple(structs.replace(one, required=False) for one in (*PAGING, _IDS)),
    answers=answers(
        "A page of customers.", PageAnswer[CustomerAnswer] | list[CustomerAnswer], 400, 401, 403
    ),
)
_BY_IDS = Operation(
    summary="Show several customers",
    tag=TAG,
    about="Those of them that the caller sees, in the order asked for; at most 1000.",
    query=(_IDS,),
    answers=answers("The customers.", list[CustomerAnswer], 400, 401, 403),
)
_NAMED = Operation(
    summary="Find a customer by its title",
    tag=TAG,
    query=(Query("customerTitle", "the whole title", required=True),),
    answers=answers(_FOUND, CustomerAnswer, 400, 401, 403, 404),
)
_SAVE = Operation(
    summary="Make or change a customer",
    tag=TAG,
    about="A new one is below `parentCustomerId`, else below the caller's organisation. It stays "
    "where it is in the tree.",
    body=CustomerBody,
    body_example={"title": "Acme", "email": "office@example.com"},
    answers=answers(_FOUND, CustomerAnswer, 400, 401, 403, 404, 409),
)
_REMOVE = Operation(
    summary="Remove a customer",
    tag=TAG,
    about="Its devices are taken back. One that has users, device profiles or customers of its own "
    "stays.",
    answers=answers("It is gone.", None, 400, 401, 403, 404),
)
_TENANT = Operation(
    summary="Show the tenant, which is the root of all organisations",
    tag=TAG,
    answers=answers("The tenant.", TenantAnswer, 400, 401, 403, 404),
)
