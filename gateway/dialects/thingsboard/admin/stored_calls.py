"""Persistent calls of devices' methods, looked at and forgotten by people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.core.inventory import Inventory
from gateway.core.model import Actor, DeviceRecord, Page, Permission, RpcCall, RpcState
from gateway.core.people import People
from gateway.core.registry import Registry
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import Desk, bad_request, json_reply, not_found
from gateway.dialects.thingsboard.admin.reach import device_in_reach
from gateway.dialects.thingsboard.admin.words import (
    PAGING,
    EntityId,
    PageAnswer,
    page_of,
    paging_of,
    uuid_of,
)
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

MOST_LISTED: Final = 1_000
"""Calls of a device that are looked at for a page of them: the newest."""
_USUAL = (400, 401, 403, 404)
_TAG = "RPC"
_CALLS: Final = (Permission.RPC_CALL,)
_DEVICE = {"deviceId": "UUID of the device"}
_RPC = {"rpcId": "UUID of the call"}


class RpcRequest(Struct, rename="camel", kw_only=True):
    """What was asked for."""

    id: str
    body: dict[str, Any]
    oneway: bool
    expiration_time: int
    persisted: bool = True


class RpcAnswer(Struct, rename="camel", kw_only=True):
    """A persistent call, and how far it came."""

    id: EntityId
    created_time: int
    tenant_id: EntityId
    device_id: EntityId
    expiration_time: int
    request: RpcRequest
    response: Any
    status: str
    additional_info: None = None


class StoredCallRoutes:
    """A part of `RpcRoutes`."""

    def __init__(self, inventory: Inventory, registry: Registry, people: People) -> None:
        self._inventory = inventory
        self._registry = registry
        self._people = people

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        return (
            desk.route(
                "rpc.persistent.get",
                "GET /api/rpc/persistent/{rpcId}",
                self._show,
                needs=_CALLS,
                operation=Operation(
                    summary="How far a persistent call came",
                    tag=_TAG,
                    path=_RPC,
                    answers=answers("The call.", RpcAnswer, *_USUAL),
                ),
            ),
            desk.route(
                "rpc.persistent.list",
                "GET /api/rpc/persistent/device/{deviceId}",
                self._list,
                needs=_CALLS,
                operation=Operation(
                    summary="The calls of a device, the newest first",
                    tag=_TAG,
                    path=_DEVICE,
                    query=(*PAGING, Query("rpcStatus", "those in this state", RpcState)),
                    answers=answers("A page of calls.", PageAnswer[RpcAnswer], *_USUAL),
                ),
            ),
            desk.route(
                "rpc.persistent.delete",
                "DELETE /api/rpc/persistent/{rpcId}",
                self._remove,
                needs=_CALLS,
                operation=Operation(
                    summary="Forget a persistent call",
                    about="A device that has not got it yet never will.",
                    tag=_TAG,
                    path=_RPC,
                    answers=answers("It is gone.", None, *_USUAL),
                ),
            ),
        )

    async def _show(self, call: Call, actor: Actor) -> Reply:
        stored, record = await self._in_reach(call, actor)
        return json_reply(_answer(stored, record, await self._root_uuid()))

    async def _list(self, call: Call, actor: Actor) -> Reply:
        paging = paging_of(call, tuple(_SORTS))
        wanted = _state(call.query.get("rpcStatus", ""))
        record = await device_in_reach(self._inventory, actor, call.params["deviceId"])
        found = [
            one
            for one in await self._registry.calls.of(record, limit=MOST_LISTED)
            if one.persistent and (wanted is None or one.state is wanted)
        ]
        if paging.sort:
            found.sort(key=_SORTS[paging.sort], reverse=paging.descending)
        begin, end = paging.page * paging.page_size, (paging.page + 1) * paging.page_size
        root = await self._root_uuid()
        data = [_answer(one, record, root) for one in found[begin:end]]
        page = Page(data=data, total=len(found), has_next=end < len(found))
        return json_reply(page_of(page, paging.page_size))

    async def _remove(self, call: Call, actor: Actor) -> Reply:
        stored, record = await self._in_reach(call, actor)
        calls = self._registry.acting_as(actor.peer).calls
        if not await calls.remove(record, stored):
            raise not_found()
        return Reply()

    async def _in_reach(self, call: Call, actor: Actor) -> tuple[RpcCall, DeviceRecord]:
        """A persistent call of a device that the caller sees. Raises `Trouble` (400, 404)."""
        stored = await self._registry.calls.named(uuid_of(call.params["rpcId"], "rpcId"))
        if stored is None or not stored.persistent:
            raise not_found()
        device = await self._registry.device_numbered(stored.device_id)
        record = await self._inventory.find(actor, device.uuid) if device is not None else None
        if record is None:
            raise not_found()
        return stored, record

    async def _root_uuid(self) -> str:
        return (await self._people.root()).uuid


def is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _state(text: str) -> RpcState | None:
    if not text:
        return None
    try:
        return RpcState(text)
    except ValueError:
        raise bad_request(f"rpcStatus must be one of {', '.join(RpcState)}") from None


def _answer(call: RpcCall, record: DeviceRecord, root_uuid: str) -> RpcAnswer:
    request = RpcRequest(
        id=call.uuid,
        body={"method": call.method, "params": msgspec.Raw(call.params)},
        oneway=not call.two_way,
        expiration_time=call.expires_at,
    )
    return RpcAnswer(
        id=EntityId(call.uuid, "RPC"),
        created_time=call.created_at,
        tenant_id=EntityId(root_uuid, "TENANT"),
        device_id=EntityId(record.device.uuid, "DEVICE"),
        expiration_time=call.expires_at,
        request=request,
        response=_shown(call.response),
        status=call.state.value,
    )


def _shown(response: str | None) -> Any:
    """What the device answered; as a text where it is no JSON."""
    if response is None:
        return None
    return msgspec.Raw(response) if is_json(response.encode("utf-8", "replace")) else response


_SORTS: Final[Mapping[str, Callable[[RpcCall], Any]]] = {
    "createdTime": lambda one: (one.created_at, one.id),
    "expirationTime": lambda one: (one.expires_at, one.id),
    "status": lambda one: (one.state.value, one.id),
}
