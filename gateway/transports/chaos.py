"""Listeners whose answers go astray, for `gatehouse chaos`. Nothing else imports this.

- HTTP: a dropped answer is a connection that closes. Nothing can be answered twice.
- CoAP: datagrams are not sent, sent late, or sent twice; each repetition has a fate of its own.
- MQTT: neither the acknowledgement nor the answer is sent, or both late, or the answer twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar, Final

from aiohttp import web
from msgspec import structs

from gateway.core.model import Peer, Wire
from gateway.transports.coap import CoapListener
from gateway.transports.coap.endpoint import Endpoint, describe
from gateway.transports.coap.exchanges import Address
from gateway.transports.coap.message import (
    FIRST_RESPONSE_CODE,
    MalformedMessage,
    Settled,
    decode,
)
from gateway.transports.coap.request import understand
from gateway.transports.coap.resources import Resources
from gateway.transports.http import HttpListener
from gateway.transports.http_connection import Connection as HttpConnection
from gateway.transports.mqtt import MqttListener
from gateway.transports.mqtt.connection import Connection as MqttConnection
from gateway.transports.mqtt.packets import Publish
from gateway.transports.mqtt.session import Session
from gateway.wire.call import Admitted, Reply, Status
from gateway.wire.chaos import UNHARMED, Chaos
from gateway.wire.route import Route
from gateway.wire.router import Router

_MOST_REMEMBERED: Final = 10_000
"""CoAP requests whose answers are told apart; those of older ones arrive."""
_HEADER: Final = 4


def chaotic(
    chaos: Chaos,
) -> tuple[type[HttpListener], type[MqttListener], type[CoapListener]]:
    """The three kinds of listeners, with `chaos` behind each."""

    class Http(ChaoticHttp):
        mischief = chaos

    class Mqtt(ChaoticMqtt):
        mischief = chaos

    class Coap(ChaoticCoap):
        mischief = chaos

    return Http, Mqtt, Coap


class ChaoticHttp(HttpListener):
    """HTTP whose connections close instead of an answer, or whose answers are late."""

    mischief: ClassVar[Chaos]

    async def _answer(
        self, request: web.BaseRequest, body: bytes, connection: HttpConnection
    ) -> web.StreamResponse:
        response = await super()._answer(request, body, connection)
        found = self._router.match(connection.address) if connection.address else None
        if found is None:
            return response
        peer = connection.peer
        fate = self.mischief.fate(found[0].name, peer.wire, peer.address)
        if fate.drop:
            connection.force_close()
        elif fate.delay_s:
            await asyncio.sleep(fate.delay_s)
        return response


# ── MQTT ──────────────────────────────────────────────────────────────────────────────────────


class ChaoticMqtt(MqttListener):
    """MQTT whose clients may wait in vain, or hear twice."""

    mischief: ClassVar[Chaos]

    def _protocol(self) -> ChaoticConnection:
        return ChaoticConnection(self, self.mischief)


class ChaoticConnection(MqttConnection):
    """One client of it."""

    __slots__ = ("_chaos",)

    def __init__(self, listener: MqttListener, chaos: Chaos) -> None:
        super().__init__(listener)
        self._chaos = chaos

    async def _answer(self, session: Session, admitted: Admitted, packet: Publish) -> None:
        once = _Once(admitted.router, self._chaos)
        await super()._answer(session, structs.replace(admitted, router=once), packet)
        if once.again is not None and not self._closed:
            route, reply = once.again
            topic = self._reply_topic(once.router, packet, route, reply)
            if topic is not None:
                self.push(topic, reply.body)


class _Once:
    """A router for one call. `again` is what is to be sent a second time."""

    def __init__(self, router: Router, chaos: Chaos) -> None:
        self.router = router
        self.match = router.match
        self.again: tuple[Route, Reply] | None = None
        self._chaos = chaos

    async def answer(
        self, address: str, body: bytes, peer: Peer, **more: Any
    ) -> tuple[Route | None, Reply]:
        route, reply = await self.router.answer(address, body, peer, **more)
        if route is None:
            return route, reply
        fate = self._chaos.fate(route.name, peer.wire, peer.address)
        if fate.drop:
            # Neither acknowledged nor a reason to close: the client hears nothing.
            return route, structs.replace(reply, status=Status.IGNORED)
        await asyncio.sleep(fate.delay_s)
        if fate.twice:
            self.again = route, reply
        return route, reply


# ── CoAP ──────────────────────────────────────────────────────────────────────────────────────


class ChaoticCoap(CoapListener):
    """CoAP, plain or over DTLS, whose responses are lost on their way, late, or doubled."""

    mischief: ClassVar[Chaos]

    def __init__(self, router: Router, **options: Any) -> None:
        super().__init__(router, **options)
        wire = Wire.COAP if self._dtls is None else Wire.COAPS
        self._endpoint_kind = _endpoints(self.mischief, router, wire)


def _endpoints(chaos: Chaos, served: Router, over: Wire) -> type[Endpoint]:
    class Kind(ChaoticEndpoint):
        mischief = chaos
        router = served
        wire = over

    return Kind


class _Astray:
    """What is between a message layer and its socket: datagrams that are responses go astray.

    Responses are known by their peer and token, since nothing else of them says what was asked.
    """

    def __init__(
        self,
        chaos: Chaos,
        send: Callable[[bytes, Address], None],
        wire: Wire,
        name: Callable[[Address], str],
    ) -> None:
        self._chaos = chaos
        self._send = send
        self._wire = wire
        self._name = name
        self._routes: OrderedDict[tuple[Address, bytes], str] = OrderedDict()

    def remember(self, addr: Address, token: bytes, route: str) -> None:
        """A request for this route came from there."""
        self._routes[addr, token] = route
        while len(self._routes) > _MOST_REMEMBERED:
            self._routes.popitem(last=False)

    def __call__(self, datagram: bytes, addr: Address) -> None:
        token = datagram[_HEADER : _HEADER + (datagram[0] & 0x0F)]
        route = self._routes.get((addr, token))
        fate = UNHARMED
        if route is not None and datagram[1] >= FIRST_RESPONSE_CODE:
            fate = self._chaos.fate(route, self._wire, self._name(addr))
        if fate.drop:
            return
        for _ in range(1 + fate.twice):
            if fate.delay_s:
                asyncio.get_running_loop().call_later(fate.delay_s, self._send, datagram, addr)
            else:
                self._send(datagram, addr)


class ChaoticEndpoint(Endpoint):
    """A message layer whose `send` knows what each peer asked for."""

    mischief: ClassVar[Chaos]
    router: ClassVar[Router]
    wire: ClassVar[Wire]

    def __init__(
        self, resources: Resources, send: Callable[[bytes, Address], None], **options: Any
    ) -> None:
        name = options.get("name", describe)
        self._astray = _Astray(self.mischief, send, self.wire, name)
        super().__init__(resources, self._astray, **options)

    def received(self, datagram: bytes, addr: Address) -> None:
        """Take one datagram. Never raises."""
        try:
            message = decode(datagram)
            ask = understand(message, "")
            # In pieces first, as `Resources.take` does: one of them may hold a slash.
            found = self.router.match(ask.segments) if ask.segments else None
            found = found or self.router.match(ask.address)
        except (MalformedMessage, Settled):
            found = None
        if found is not None:
            self._astray.remember(addr, message.token, found[0].name)
        super().received(datagram, addr)
