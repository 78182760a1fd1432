"""Calls of devices' methods by people (ThingsBoard contract, section 17.5).

A call is stored and made by the gateway process that has the device, whichever that is; its end
is read from the store. So it does not matter which of several processes a caller reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from gateway.core.errors import Overloaded
from gateway.core.inventory import Inventory
from gateway.core.model import Actor, DeviceRecord, Permission, RpcCall, RpcState
from gateway.core.people import People
from gateway.core.ports import Clock
from gateway.core.registry import Registry
from gateway.dialects.thingsboard.admin.answers import ErrorAnswer, answers
from gateway.dialects.thingsboard.admin.desk import (
    GENERAL,
    Desk,
    Trouble,
    bad_request,
    body_of,
    json_reply,
    not_found,
)
from gateway.dialects.thingsboard.admin.reach import device_in_reach
from gateway.dialects.thingsboard.admin.stored_calls import StoredCallRoutes, is_json
from gateway.wire.call import Call, Format, Reply, Status
from gateway.wire.operation import Answer, Operation
from gateway.wire.route import Route

MOST_PARAMS: Final = 65_536
"""Bytes of the parameters of a call. MQTT packets end there by default."""
MOST_METHOD: Final = 255
MOST_RETRIES: Final = 1_000
_TAG = "RPC"
_CALLS: Final = (Permission.RPC_CALL,)
_DEVICE = {"deviceId": "UUID of the device"}
_SLACK_S = 1.0
"""How long after a call's time its end may take to be told by the process that made it."""
_EXAMPLE = {"method": "setLamp", "params": {"on": True}, "timeout": 5000}


class Asked(Struct, rename="camel"):
    """A call as somebody asks for it. `timeout` in ms; `expiration_time` in ms since the epoch."""

    method: str
    params: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"{}"))
    timeout: int | None = None
    persistent: bool = False
    expiration_time: int | None = None
    retries: int | None = None


class _Version(Struct, frozen=True):
    """Where one of the two forms of a call is, and how it tells that no answer came in time, and
    that the device is not there."""

    path: str
    late: int
    away: int


_V1 = _Version("/api/plugins/rpc", late=408, away=409)
_V2 = _Version("/api/rpc", late=504, away=504)


class RpcRoutes:
    """Makes calls, and shows those that wait.

    `nudge` is called when a call was stored, so that this process looks at once. Times in ms:
    `timeout_ms` is the time of a call that names none; none waits longer than `most_timeout_ms`,
    and a persistent one is kept for `most_expiry_ms` at most. `max_waiting` bounds the calls whose
    end is waited for: each is looked at ten times a second.
    """

    def __init__(
        self,
        inventory: Inventory,
        registry: Registry,
        people: People,
        clock: Clock,
        *,
        nudge: Callable[[], None] = lambda: None,
        timeout_ms: int = 10_000,
        most_timeout_ms: int = 600_000,
        most_expiry_ms: int = 365 * 86_400_000,
        max_waiting: int = 200,
    ) -> None:
        self._inventory = inventory
        self._registry = registry
        self._stored_calls = StoredCallRoutes(inventory, registry, people)
        self._clock = clock
        self._nudge = nudge
        self._timeout_ms = timeout_ms
        self._most_timeout_ms = most_timeout_ms
        self._most_expiry_ms = most_expiry_ms
        self._max_waiting = max_waiting
        self._waiting = 0

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        calls = (
            self._calling(desk, version, two_way=two_way)
            for version in (_V2, _V1)
            for two_way in (False, True)
        )
        return (*calls, *self._stored_calls.routes(desk))

    def _calling(self, desk: Desk, version: _Version, *, two_way: bool) -> Route:
        word = "twoway" if two_way else "oneway"

        async def handler(call: Call, actor: Actor) -> Reply:
            return await self._call(call, actor, version, two_way=two_way)

        told = dict(answers("", None, 400, 401, 403, 404))
        told[200] = Answer(
            "With `persistent`, `rpcId` names the stored call; else "
            + ("it is the device's answer." if two_way else "it left."),
            Any,
        )
        told[version.late] = Answer("The device did not answer in time.", ErrorAnswer)
        told[version.away] = Answer("The device is not there.", ErrorAnswer)
        if version.late == version.away:
            told[version.late] = Answer("The device is not there, or did not answer.", ErrorAnswer)
        if two_way:
            told[406] = Answer("The device's answer is not JSON.", ErrorAnswer)
        old = " (the older form)" if version is _V1 else ""
        return desk.route(
            f"rpc.{word}.{'v1' if version is _V1 else 'v2'}",
            f"POST {version.path}/{word}/{{deviceId}}",
            handler,
            needs=_CALLS,
            codes={Status.TIMEOUT: version.late},
            patient=True,
            operation=Operation(
                summary=f"Call a method of a device, {word.replace('way', ' way')}{old}",
                tag=_TAG,
                path=_DEVICE,
                body=Asked,
                body_example=_EXAMPLE,
                answers=told,
            ),
        )

    # ── calling ─────────────────────────────────────────────────────────────────────────────

    async def _call(self, call: Call, actor: Actor, version: _Version, *, two_way: bool) -> Reply:
        record = await device_in_reach(self._inventory, actor, call.params["deviceId"])
        asked = _asked(call)
        lasts_ms = self._lasts_ms(asked)
        registry = self._registry.acting_as(actor.peer)
        if asked.persistent:
            stored = await self._store(registry, record, asked, lasts_ms, two_way=two_way)
            return json_reply({"rpcId": stored.uuid})
        if self._waiting >= self._max_waiting:
            raise Overloaded("too many calls of devices are waited for")
        self._waiting += 1
        try:
            stored = await self._store(registry, record, asked, lasts_ms, two_way=two_way)
            ended = await registry.calls.end_of(stored, lasts_ms / 1000 + _SLACK_S)
        finally:
            self._waiting -= 1
        return _ended(ended, version)

    async def _store(
        self,
        registry: Registry,
        record: DeviceRecord,
        asked: Asked,
        lasts_ms: int,
        *,
        two_way: bool,
    ) -> RpcCall:
        """Leave the call to the process that has the device. Raises `Trouble` (404)."""
        stored = await registry.calls.save(
            record,
            asked.method,
            bytes(asked.params).decode(),
            lasts_s=lasts_ms / 1000,
            two_way=two_way,
            persistent=asked.persistent,
            retries=min(max(asked.retries or 0, 0), MOST_RETRIES),
        )
        if stored is None:
            raise not_found()
        self._nudge()
        return stored

    def _lasts_ms(self, asked: Asked) -> int:
        """How long the call has: to be answered, or, a persistent one, to reach its device too."""
        timeout = self._timeout_ms if asked.timeout is None else asked.timeout
        if asked.expiration_time is not None:
            timeout = asked.expiration_time - self._clock()
        if timeout <= 0:
            raise bad_request("timeout must be positive, and expirationTime in the future")
        return min(timeout, self._most_expiry_ms if asked.persistent else self._most_timeout_ms)


def _asked(call: Call) -> Asked:
    """Raises `Trouble` (400)."""
    asked = body_of(call, Asked)
    if not 0 < len(asked.method) <= MOST_METHOD:
        raise bad_request(f"method must have 1 to {MOST_METHOD} characters")
    if len(asked.params) > MOST_PARAMS:
        raise bad_request(f"params must have at most {MOST_PARAMS} bytes")
    try:
        bytes(asked.params).decode()
    except UnicodeDecodeError:
        raise bad_request("the body is not JSON") from None
    return asked


def _ended(call: RpcCall, version: _Version) -> Reply:
    """How a call that was waited for ended. Raises `Trouble`."""
    match call.state:
        case RpcState.SUCCESSFUL if not call.two_way:
            return Reply()
        case RpcState.SUCCESSFUL:
            return _answered(call.response or "")
        case RpcState.FAILED if version is _V1:
            raise Trouble(Status.CONFLICT, GENERAL, "No active connection to the remote device")
        case _:
            raise Trouble(Status.TIMEOUT, GENERAL, "Timeout to process RPC call")


def _answered(response: str) -> Reply:
    body = response.encode("utf-8", "replace")
    if not is_json(body):
        raise Trouble(Status.UNACCEPTABLE, GENERAL, "The device's answer is not JSON")
    return Reply(body, format=Format.JSON)
