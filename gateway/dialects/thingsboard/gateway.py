"""The MQTT gateway API: one connection speaks for many devices (contract, section 9).

A publish is acknowledged once, when all devices in it succeeded and what they sent is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from msgspec import Struct

from gateway.core.children import DEFAULT_TYPE, Children
from gateway.core.claiming import Claiming
from gateway.core.errors import CredentialsGone
from gateway.core.model import AttributesSelection, Device, Reading, Refused, Value
from gateway.core.ports import Clock
from gateway.core.presence import Attendance
from gateway.core.rpc import Rpc
from gateway.core.traffic import Traffic
from gateway.dialects.thingsboard.callers import Callers
from gateway.dialects.thingsboard.gateway_guest import RESPONSE_TOPIC, GatewayGuest
from gateway.dialects.thingsboard.readings import MOST_VALUES
from gateway.wire.call import BadPayload, Call, Conduct, Format, Reply, Status
from gateway.wire.route import Route

_T = TypeVar("_T")
_Sized = TypeVar("_Sized", list[Reading], dict[str, Value])


class _Present(Struct, Generic[_T]):
    """A device that is present through the gateway, and what it sent."""

    device: Device
    name: str
    told: _T


_Save: TypeAlias = Callable[[Sequence[_Present[_T]]], Awaitable[list[_Present[_T]]]]

_DONE = Reply()
_UNKNOWN_TOPIC = Reply(status=Status.NOT_FOUND, reason="nothing is served here")
_FULL = Reply(status=Status.FAILED, reason="this gateway speaks for as many devices as it may")

# Contract, section 9. What is not on disk is not acknowledged, so that an older client sends it
# again; a device that is refused for good is, or its gateway would send it for ever.
CONDUCT = {
    Status.UNDECODABLE: Conduct(ack=0x99, close=None, ack_v3=False, close_v3=True, close_qos0=0x99),
    Status.BAD_REQUEST: Conduct(ack=0x99, close=None, ack_v3=False, close_v3=True, close_qos0=0x99),
    Status.NOT_FOUND: Conduct(ack=0x90, close=None, ack_v3=True, close_v3=False),
    Status.FAILED: Conduct(ack=0x80, close=None, ack_v3=True, close_v3=False),
    Status.INTERNAL: Conduct(ack=0x83, close=None, ack_v3=False, close_v3=True),
    Status.OVERLOADED: Conduct(ack=0x97, close=None, ack_v3=False, close_v3=True),
    Status.LIMITED: Conduct(ack=0x97, close=0x97, ack_v3=False, close_v3=True),
}


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
                conduct=CONDUCT,
                quiet=True,
            )
            for topic, handler in handlers.items()
        )

    async def connect(self, call: Call) -> Reply:
        name, device_type = _guest(call).codec.connect(call.body)
        child = await self._child(call, name, device_type or DEFAULT_TYPE)
        if isinstance(child, Reply):
            return child
        return await self._limited(call, [child], [None]) or _DONE

    async def disconnect(self, call: Call) -> Reply:
        """Of a device that is not connected: nothing, and no failure either."""
        _guest(call).leave(_guest(call).codec.disconnect(call.body))
        return _DONE

    async def telemetry(self, call: Call) -> Reply:
        sent = _guest(call).codec.telemetry(call.body, self._clock(), self._max_values)
        return await self._keep(call, sent, self._save_readings)

    async def attributes(self, call: Call) -> Reply:
        sent = _guest(call).codec.attributes(call.body, self._max_values)
        return await self._keep(call, sent, self._save_attributes)

    async def attributes_request(self, call: Call) -> Reply:
        guest = _guest(call)
        asked = guest.codec.attributes_request(call.body)
        child = await self._child(call, asked.device, DEFAULT_TYPE)
        if isinstance(child, Reply):
            return child
        limited = await self._limited(call, [child], [None])
        if limited is not None:
            return limited
        selection = (
            AttributesSelection(asked.keys, ())
            if asked.client
            else AttributesSelection((), asked.keys)
        )
        found = await self._traffic.attributes(child, selection)
        values = dict(found.client if asked.client else found.shared)
        body = guest.codec.attributes_response(asked, values)
        return Reply(body, format=Format.JSON, topic=RESPONSE_TOPIC)

    async def rpc_answer(self, call: Call) -> Reply:
        """An answer nobody waits for any more is taken all the same."""
        name, request_id, answer = _guest(call).codec.rpc_answer(call.body)
        child = await self._child(call, name, DEFAULT_TYPE)
        if isinstance(child, Reply):
            return child
        limited = await self._limited(call, [child], [None])
        if limited is None:
            await self._rpc.answered(child, request_id, answer)
        return limited or _DONE

    async def claim(self, call: Call) -> Reply:
        sent = [
            (name, (key, lasting)) for name, key, lasting in _guest(call).codec.claim(call.body)
        ]
        present, refused = await self._entered(call, sent)
        limited = await self._limited(call, [one.device for one in present], [None] * len(present))
        if limited is not None:
            return limited
        offers = (self._claiming.offer(one.device, *one.told, call.peer) for one in present)
        await asyncio.gather(*offers)
        return _failed(refused) if refused else _DONE

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
            return Reply(status=Status.FAILED, reason=f"a device was refused: {found.reason.value}")
        return guest.enter(name, found)

    async def _keep(
        self, call: Call, sent: Sequence[tuple[str, _Sized]], save: _Save[_Sized]
    ) -> Reply:
        """Store what each device sent; those whose login is of yesterday enter anew, once."""
        present, refused = await self._entered(call, sent)
        limited = await self._limited(
            call, [one.device for one in present], [len(one.told) for one in present]
        )
        if limited is not None:
            return limited
        gone = await save(present)
        if gone:
            again, more = await self._entered(call, self._forgotten(_guest(call), gone))
            refused += more + len(await save(again))
        return _failed(refused) if refused else _DONE

    async def _entered(
        self, call: Call, sent: Sequence[tuple[str, _T]]
    ) -> tuple[list[_Present[_T]], int]:
        """The devices named, each with what it sent; and how many were refused."""
        entering = [self._child(call, name, DEFAULT_TYPE) for name, _ in sent]
        if all(name in _guest(call).children for name, _ in sent):
            children = [await one for one in entering]
        else:
            # Those that are born share a commit.
            children = await asyncio.gather(*entering)
        present = [
            _Present(child, name, told)
            for child, (name, told) in zip(children, sent, strict=True)
            if isinstance(child, Device)
        ]
        return present, len(sent) - len(present)

    def _forgotten(self, guest: GatewayGuest, gone: Sequence[_Present[_T]]) -> list[tuple[str, _T]]:
        for one in gone:
            guest.leave(one.name)
        return [(one.name, one.told) for one in gone]

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

    async def _save_readings(
        self, present: Sequence[_Present[list[Reading]]]
    ) -> list[_Present[list[Reading]]]:
        """Store in one decision; give back those whose login is gone."""
        saved = await self._traffic.save_many_readings([(one.device, one.told) for one in present])
        return [one for one, kept in zip(present, saved, strict=True) if not kept]

    async def _save_attributes(
        self, present: Sequence[_Present[dict[str, Value]]]
    ) -> list[_Present[dict[str, Value]]]:
        """The same for attributes."""
        results = await asyncio.gather(
            *(self._traffic.save_client_attributes(one.device, one.told) for one in present),
            return_exceptions=True,
        )
        gone = []
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


def _failed(refused: int) -> Reply:
    noun = "device was" if refused == 1 else "devices were"
    return Reply(status=Status.FAILED, reason=f"{refused} {noun} refused; the rest is stored")
