"""Lists of devices, and devices by name (contract, section 17.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from msgspec import Meta, Struct, structs

from gateway.core.model import (
    Actor,
    DeviceOrder,
    DeviceProfile,
    DeviceQuery,
    DeviceRecord,
    Page,
)
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import Desk, bad_request, json_reply, not_found
from gateway.dialects.thingsboard.admin.device_shapes import (
    DeviceAnswer,
    DeviceInfoAnswer,
    device_answer,
    device_info,
)
from gateway.dialects.thingsboard.admin.devices import SEE, TAG
from gateway.dialects.thingsboard.admin.finder import Finder
from gateway.dialects.thingsboard.admin.words import (
    MOST_PER_PAGE,
    PAGING,
    EntityId,
    PageAnswer,
    page_of,
    paging_of,
    text_of,
    uuids_of,
)
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.catalogue import Catalogue
    from gateway.core.inventory import Inventory
    from gateway.core.registry import Registry

_ORDERS: Final = {
    "createdTime": DeviceOrder.CREATED,
    "name": DeviceOrder.NAME,
    "type": DeviceOrder.PROFILE,
    "deviceProfileName": DeviceOrder.PROFILE,
    "label": DeviceOrder.LABEL,
    "customerTitle": DeviceOrder.CUSTOMER,
}


class SubtypeAnswer(Struct, rename="camel"):
    """A kind of devices: the name of a profile."""

    tenant_id: EntityId
    entity_type: str
    type: str


class DeviceListRoutes:
    """`registry` knows which devices are online."""

    def __init__(
        self, inventory: Inventory, catalogue: Catalogue, registry: Registry, finder: Finder
    ) -> None:
        self._inventory = inventory
        self._catalogue = catalogue
        self._registry = registry
        self._finder = finder

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        rows = (
            ("device.list", ("GET /api/tenant/devices", *_USERS), self._listed_or_named, _LIST),
            ("device.named", "GET /api/tenant/device", self._named, _NAMED),
            ("device.by_ids", "GET /api/devices", self._by_ids, _BY_IDS),
            ("device.types", "GET /api/device/types", self._types, _TYPES),
            ("device.infos", _INFO_PATHS, self._infos, _INFOS),
            ("device.info", "GET /api/device/info/{deviceId}", self._info, _INFO),
            ("customer.devices", _OF_CUSTOMER, self._of_customer, _CUSTOMER_LIST),
            ("customer.device_infos", _INFOS_OF_CUSTOMER, self._infos, _CUSTOMER_INFOS),
        )
        return tuple(
            desk.route(name, http, handler, needs=SEE, operation=operation)
            for name, http, handler, operation in rows
        )

    async def _listed_or_named(self, call: Call, actor: Actor) -> Reply:
        """ThingsBoard has both at one address; the parameters tell them apart."""
        if "deviceName" in call.query:
            return await self._named(call, actor)
        return await self._listed(call, actor, await self._query(call, actor))

    async def _of_customer(self, call: Call, actor: Actor) -> Reply:
        return await self._listed(call, actor, await self._query(call, actor))

    async def _listed(self, call: Call, actor: Actor, query: DeviceQuery | None) -> Reply:
        found = await self._page(actor, query)
        root = await self._finder.root_uuid()
        data = [device_answer(record, root) for record in found.data]
        return json_reply(page_of(structs.replace(found, data=data), _size(call)))

    async def _infos(self, call: Call, actor: Actor) -> Reply:
        if call.query.get("active"):
            raise bad_request("active: this list is not filtered by who is online")
        found = await self._page(actor, await self._query(call, actor))
        data = await self._informed(found.data)
        return json_reply(page_of(structs.replace(found, data=data), _size(call)))

    async def _info(self, call: Call, actor: Actor) -> Reply:
        record = await self._finder.device(actor, call.params["deviceId"])
        return json_reply((await self._informed([record]))[0])

    async def _informed(self, records: list[DeviceRecord]) -> list[DeviceInfoAnswer]:
        root = await self._finder.root_uuid()
        presence = await self._registry.presence([record.device for record in records])

        def is_online(record: DeviceRecord) -> bool:
            known = presence.get(record.device.id)
            return known is not None and known.online

        return [device_info(record, root, active=is_online(record)) for record in records]

    async def _named(self, call: Call, actor: Actor) -> Reply:
        name = text_of(call.query, "deviceName", required=True)
        record = await self._inventory.find_named(actor, name)
        if record is None:
            raise not_found()
        return json_reply(device_answer(record, await self._finder.root_uuid()))

    async def _by_ids(self, call: Call, actor: Actor) -> Reply:
        """Those of them that are in sight, in the order they were asked for."""
        ids = uuids_of(call, "deviceIds")
        if not ids:
            return json_reply([])
        found = await self._inventory.page(actor, DeviceQuery(ids=ids, page_size=len(ids)))
        records = {record.device.uuid: record for record in found.data}
        root = await self._finder.root_uuid()
        return json_reply([device_answer(records[one], root) for one in ids if one in records])

    async def _types(self, call: Call, actor: Actor) -> Reply:
        """The names of the profiles in sight; at most as many as a page may have."""
        found = await self._catalogue.page(actor, page_size=MOST_PER_PAGE)
        tenant = EntityId(await self._finder.root_uuid(), "TENANT")
        return json_reply([SubtypeAnswer(tenant, "DEVICE", one.name) for one in found.data])

    # ── which ones ──────────────────────────────────────────────────────────────────────────

    async def _page(self, actor: Actor, query: DeviceQuery | None) -> Page[DeviceRecord]:
        if query is None:
            return Page(data=[], total=0, has_next=False)
        return await self._inventory.page(actor, query)

    async def _query(self, call: Call, actor: Actor) -> DeviceQuery | None:
        """What is asked for; None when nothing can be such. Raises `Trouble` (400, 404)."""
        asked = paging_of(call, tuple(_ORDERS))
        customer = call.params.get("customerId")
        query = DeviceQuery(
            page=asked.page,
            page_size=asked.page_size,
            text=asked.text,
            order=_ORDERS.get(asked.sort, DeviceOrder.CREATED),
            descending=asked.descending,
            customer_id=(await self._finder.customer(actor, customer)).id if customer else None,
        )
        if not (call.query.get("type") or call.query.get("deviceProfileId")):
            return query
        profile_id = await self._profile_id(call, actor)
        return None if profile_id is None else structs.replace(query, profile_id=profile_id)

    async def _profile_id(self, call: Call, actor: Actor) -> int | None:
        """The profile the list is narrowed to, by id or by name."""
        given = call.query.get("deviceProfileId")
        if given:
            (uuid,) = uuids_of(call, "deviceProfileId") or ("",)
            profile = await self._catalogue.info_visible(actor, uuid)
        else:
            profile = await self._named_profile(actor, text_of(call.query, "type"))
        return profile.id if profile is not None else None

    async def _named_profile(self, actor: Actor, name: str) -> DeviceProfile | None:
        """That of the caller's organisation, else the root's: customers have devices of it."""
        own = await self._catalogue.named(actor, name)
        if own is not None:
            return own
        known = [one for one in await self._registry.profiles() if one.name == name]
        return min(known, key=lambda one: one.organisation_id, default=None)


def _size(call: Call) -> int:
    return int(call.query["pageSize"])


_USERS: Final = ("GET /api/user/devices",)
_INFO_PATHS: Final = ("GET /api/tenant/deviceInfos", "GET /api/deviceInfos/all")
_OF_CUSTOMER: Final = "GET /api/customer/{customerId}/devices"
_INFOS_OF_CUSTOMER: Final = "GET /api/customer/{customerId}/deviceInfos"

PageOrDevice: TypeAlias = Annotated[
    dict[str, Any],
    Meta(description="A page of devices (`data`, `totalPages`, …), or one device."),
]
_NAME = Query("deviceName", "the whole name", example="Sensor 7")
_NARROWED = (
    *PAGING,
    Query("type", "those of the profile of this name"),
    Query("deviceProfileId", "those of this profile"),
)
_A_PAGE = "A page of devices."
_LIST = Operation(
    summary="List devices, or find one by its name",
    tag=TAG,
    about="With `deviceName` the answer is that device alone; `pageSize` and `page` are then left "
    "out. `totalElements` is exact up to 10,000.",
    query=(*(structs.replace(one, required=False) for one in _NARROWED), _NAME),
    answers=answers("A page of devices, or the device.", PageOrDevice, 400, 401, 403, 404),
)
_NAMED = Operation(
    summary="Find a device by its name",
    tag=TAG,
    query=(structs.replace(_NAME, required=True),),
    answers=answers("The device.", DeviceAnswer, 400, 401, 403, 404),
)
_BY_IDS = Operation(
    summary="Show several devices",
    tag=TAG,
    about="Those of them that the caller sees, in the order asked for; at most 1000.",
    query=(Query("deviceIds", "their ids, with commas between", required=True),),
    answers=answers("The devices.", list[DeviceAnswer], 400, 401, 403),
)
_TYPES = Operation(
    summary="What kinds of devices there are",
    tag=TAG,
    answers=answers("The names of device profiles.", list[SubtypeAnswer], 401, 403),
)
_INFOS = Operation(
    summary="List devices with the names of what they belong to",
    tag=TAG,
    query=_NARROWED,
    answers=answers(_A_PAGE, PageAnswer[DeviceInfoAnswer], 400, 401, 403),
)
_INFO = Operation(
    summary="Show a device with the names of what it belongs to",
    tag=TAG,
    answers=answers("The device.", DeviceInfoAnswer, 400, 401, 403, 404),
)
_CUSTOMER_LIST = Operation(
    summary="List a customer's devices",
    tag=TAG,
    query=_NARROWED,
    answers=answers(_A_PAGE, PageAnswer[DeviceAnswer], 400, 401, 403, 404),
)
_CUSTOMER_INFOS = Operation(
    summary="List a customer's devices with the names of what they belong to",
    tag=TAG,
    query=_NARROWED,
    answers=answers(_A_PAGE, PageAnswer[DeviceInfoAnswer], 400, 401, 403, 404),
)
