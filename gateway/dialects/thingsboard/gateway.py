"""The MQTT gateway API: one connection speaks for many devices (contract, section 9).

A publish is acknowledged once, when all devices in it succeeded and what they sent is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from msgspec import Struct

from gateway.core.children import DEFAULT_TYPE, Children
from gateway.core.claiming import Claiming
from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    Attributes,
    AttributesSelection,
    Device,
    Peer,
    Reading,
    RefusalReason,
    Refused,
    Secret,
    Value,
)
from gateway.core.ports import Clock
from gateway.core.presence import Attendance
from gateway.core.rpc import Rpc
from gateway.core.traffic import Traffic
from gateway.dialects.thingsboard.callers import Callers
from gateway.dialects.thingsboard.gateway_guest import RESPONSE_TOPIC, GatewayGuest
from gateway.dialects.thingsboard.gateway_messages import ChildAttributesRequest
from gateway.dialects.thingsboard.readings import MOST_VALUES
from gateway.wire.call import BadPayload, Call, Conduct, Reply, Status
from gateway.wire.route import Route

_T = TypeVar("_T")


class _Present(Struct, Generic[_T]):
    """A device that is present through the gateway, and what it sent."""

    device: Device
    name: str
    told: _T


_Claim: TypeAlias = tuple[Secret, int]
_Save: TypeAlias = Callable[[Sequence[_Present[_T]]], Awaitable[list[_Present[_T]]]]

_DONE = Reply()
_UNKNOWN_TOPIC = Reply(status=Status.NOT_FOUND, reason="nothing is served here")
_GONE_AGAIN = Reply(status=Status.FAILED, reason="a device's login changed twice")
_NO_ROOM = frozenset({RefusalReason.PROFILE_FULL, RefusalReason.ORGANISATION_FULL})
"""What the contract calls the device limit of the tenant."""
_FULL = Reply(status=Status.FULL, reason="this gateway speaks for as many devices as it may")

# Contract, section 9. What is not on disk is not acknowledged, so that an older client sends it
# again; a device that is refused for good is, or its gateway would send it for ever. What becomes
# of a bad payload is for the session to say, since the gateway's profile has a word in it (7.4).
CONDUCT: Mapping[Status, Conduct] = {
    Status.NOT_FOUND: Conduct(ack=0x90, close=None, ack_v3=True, close_v3=False),
    Status.FULL: Conduct(ack=0x97, close=None, ack_v3=True, close_v3=False),
    Status.FAILED: Conduct(ack=0x80, close=None, ack_v3=True, close_v3=False),
    Status.INTERNAL: Conduct(ack=0x83, close=None, ack_v3=False, close_v3=True),
    Status.OVERLOADED: Conduct(ack=0x97, close=None, ack_v3=False, close_v3=True),
    Status.LIMITED: Conduct(ack=0x97, close=0x97, ack_v3=False, close_v3=True),
}
REQUEST_CONDUCT: Mapping[Status, Conduct] = {
    **CONDUCT,
    Status.FAILED: Conduct(ack=0x83, close=None, ack_v3=True, close_v3=False),
}
"""Of a request for attributes, which has a reason code of its own."""


class GatewayApi:
    """What a gateway publishes. `max_children` bounds the devices of one connection."""

    def __init__(
        self,
        *,
        callers: Callers,
        traffic: Traffic,
        children: Children,
        claiming: Claiming,
        rpc: Rpc,
        attendance: Attendance,
        clock: Clock,
        max_values: int = MOST_VALUES,
        max_children: int = 10_000,
    ) -> None:
        self._callers = callers
        self._traffic = traffic
        self._children = children
        self._claiming = claiming
        self._rpc = rpc
        self._attendance = attendance
        self._clock = clock
        self._max_values = max_values
        self._max_children = max_children

    def routes(self) -> tuple[Route, ...]:
        """Served to sessions whose device is a gateway; their guest is a `GatewayGuest`."""
        handlers = {
            "connect": self.connect,
            "disconnect": self.disconnect,
            "telemetry": self.telemetry,
            "attributes": self.attributes,
            "attributes/request": self.attributes_request,
            "rpc": self.rpc_answer,
            "claim": self.claim,
            "{rest*}": self.unknown,
        }
        return tuple(
            Route(
                name=f"thingsboard.gateway.{topic.replace('/', '.').strip('{}*')}",
                handler=handler,
                mqtt=(f"v1/gateway/{topic}",),
                conduct=REQUEST_CONDUCT if topic == "attributes/request" else CONDUCT,
                quiet=True,
            )
            for topic, handler in handlers.items()
        )

    async def connect(self, call: Call) -> Reply:
        name, device_type = _guest(call).codec.connect(call.body)
        child = await self._counted(call, name, device_type or DEFAULT_TYPE)
        return child if isinstance(child, Reply) else _DONE

    async def disconnect(self, call: Call) -> Reply:
        """Of a device that is not connected: nothing, and no failure either."""
        _guest(call).leave(_guest(call).codec.disconnect(call.body))
        return _DONE

    async def telemetry(self, call: Call) -> Reply:
        sent = _guest(call).codec.telemetry(call.body, self._clock(), self._max_values)
        return await self._keep(call, sent, self._save_readings, points=len)

    async def attributes(self, call: Call) -> Reply:
        sent = _guest(call).codec.attributes(call.body, self._max_values)
        return await self._keep(call, sent, self._save_attributes, points=len)

    async def attributes_request(self, call: Call) -> Reply:
        codec = _guest(call).codec
        asked = codec.attributes_request(call.body)
        child = await self._counted(call, asked.device, DEFAULT_TYPE)
        if isinstance(child, Reply):
            return child
        found = await self._found(call, asked)
        if isinstance(found, Reply):
            return found
        values = dict(found.client if asked.client else found.shared)
        body = codec.attributes_response(asked, values)
        return Reply(body, format=codec.format, topic=RESPONSE_TOPIC)

    async def rpc_answer(self, call: Call) -> Reply:
        """An answer nobody waits for any more is taken all the same."""
        name, request_id, answer = _guest(call).codec.rpc_answer(call.body)
        child = await self._counted(call, name, DEFAULT_TYPE)
        if isinstance(child, Reply):
            return child
        await self._rpc.answered(child, request_id, answer)
        return _DONE

    async def claim(self, call: Call) -> Reply:
        """What becomes of a claim is not told, but that it was heard."""
        sent = [
            (name, (key, lasting)) for name, key, lasting in _guest(call).codec.claim(call.body)
        ]
        return await self._keep(call, sent, partial(self._save_claims, call.peer))

    async def unknown(self, _call: Call) -> Reply:
        return _UNKNOWN_TOPIC

    # ── devices by name ─────────────────────────────────────────────────────────────────────

    async def _child(self, call: Call, name: str, device_type: str) -> Device | Reply:
        """The device the gateway names; found or born, and present from now on."""
        guest = _guest(call)
        present = guest.children.get(name)
        if present is not None and not present.closed:
            self._attendance.heard(present.device.id)
            return present.device
        if len(guest.children) >= self._max_children:
            return _FULL
        found = await self._children.enter(guest.device, name, device_type, call.peer)
        if isinstance(found, Refused):
            status = Status.FULL if found.reason in _NO_ROOM else Status.FAILED
            return Reply(status=status, reason=f"a device was refused: {found.reason.value}")
        if name not in guest.children and len(guest.children) >= self._max_children:
            return _FULL  # others entered meanwhile
        return guest.enter(name, found)

    async def _counted(self, call: Call, name: str, device_type: str) -> Device | Reply:
        """The same for a message of one device without data points, and the message counted."""
        child = await self._child(call, name, device_type)
        if isinstance(child, Reply):
            return child
        return await self._limited(call, [child], [None]) or child

    async def _entered(
        self, call: Call, sent: Sequence[tuple[str, _T]]
    ) -> tuple[list[_Present[_T]], list[Reply]]:
        """The devices named, each with what it sent; and why others were refused."""
        known = _guest(call).children
        if all(name in known for name, _ in sent):
            children = [await self._child(call, name, DEFAULT_TYPE) for name, _ in sent]
        else:
            # Those that are born share a commit.
            children = await asyncio.gather(
                *(self._child(call, name, DEFAULT_TYPE) for name, _ in sent)
            )
        present = [
            _Present(child, name, told)
            for child, (name, told) in zip(children, sent, strict=True)
            if isinstance(child, Device)
        ]
        return present, [child for child in children if isinstance(child, Reply)]

    async def _limited(
        self, call: Call, children: Sequence[Device], points: Sequence[int | None]
    ) -> Reply | None:
        """Count a message for each child; the first that is too much ends it."""
        gateway = _guest(call).device
        for child, count in zip(children, points, strict=True):
            limited = await self._callers.limited(child, count, gateway=gateway)
            if limited is not None:
                return limited
        return None

    # ── what they sent, and what they ask for ───────────────────────────────────────────────

    async def _keep(
        self,
        call: Call,
        sent: Sequence[tuple[str, _T]],
        save: _Save[_T],
        points: Callable[[_T], int | None] = lambda _: None,
    ) -> Reply:
        """Store what each device sent; those whose login is of yesterday enter anew, once."""
        present, refused = await self._entered(call, sent)
        limited = await self._limited(
            call, [one.device for one in present], [points(one.told) for one in present]
        )
        if limited is not None:
            return limited
        gone = await save(present)
        if gone:
            for one in gone:
                _guest(call).forget(one.name, one.device)
            again, more = await self._entered(call, [(one.name, one.told) for one in gone])
            refused += more + [_GONE_AGAIN for _ in await save(again)]
        return _failed(refused) if refused else _DONE

    async def _save_readings(
        self, present: Sequence[_Present[list[Reading]]]
    ) -> list[_Present[list[Reading]]]:
        """Store in one decision; give back those whose login is gone."""
        saved = await self._traffic.save_many_readings([(one.device, one.told) for one in present])
        return [one for one, kept in zip(present, saved, strict=True) if not kept]

    async def _save_attributes(
        self, present: Sequence[_Present[dict[str, Value]]]
    ) -> list[_Present[dict[str, Value]]]:
        save = self._traffic.save_client_attributes
        return await _each(present, [save(one.device, one.told) for one in present])

    async def _save_claims(
        self, peer: Peer, present: Sequence[_Present[_Claim]]
    ) -> list[_Present[_Claim]]:
        offer = self._claiming.offer
        return await _each(present, [offer(one.device, *one.told, peer) for one in present])

    async def _found(self, call: Call, asked: ChildAttributesRequest) -> Attributes | Reply:
        """The attributes; a device whose login is of yesterday enters anew, once."""
        keys = asked.keys
        selection = AttributesSelection(keys, ()) if asked.client else AttributesSelection((), keys)
        for _ in range(2):
            child = await self._child(call, asked.device, DEFAULT_TYPE)
            if isinstance(child, Reply):
                return child
            try:
                return await self._traffic.attributes(child, selection)
            except CredentialsGone:
                _guest(call).forget(asked.device, child)
        return _failed([_GONE_AGAIN])


async def _each(
    present: Sequence[_Present[_T]], saving: Sequence[Coroutine[Any, Any, object]]
) -> list[_Present[_T]]:
    """Await what saves each one's; give back those whose login is gone."""
    gone = []
    results = await asyncio.gather(*saving, return_exceptions=True)
    for one, result in zip(present, results, strict=True):
        if isinstance(result, CredentialsGone):
            gone.append(one)
        elif isinstance(result, BaseException):
            raise result
    return gone


def _guest(call: Call) -> GatewayGuest:
    guest = call.guest
    if not isinstance(guest, GatewayGuest):
        raise BadPayload("this session speaks for no other device")
    return guest


def _failed(refused: Sequence[Reply]) -> Reply:
    """That there were too many devices is told first: the contract has a number for it."""
    full = next((one for one in refused if one.status is Status.FULL), None)
    if full is not None:
        return full
    noun = "device was" if len(refused) == 1 else "devices were"
    return Reply(status=Status.FAILED, reason=f"{len(refused)} {noun} refused; the rest is served")
