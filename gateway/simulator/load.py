"""Load on one wire, made of raw sockets and requests built by hand: cheap, so that a core can ask
about as fast as another one can answer. It knows just enough of each protocol to count answers.

Each load keeps a number of requests under way for some seconds, all on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from typing import Any, Final, cast

from gateway.core.errors import GatehouseError
from gateway.simulator.bare import packet_end
from gateway.simulator.processes import FleetPair
from gateway.simulator.tally import Measured, Tally

HOST: Final = "127.0.0.1"
_SUCCESS: Final = b'"SUCCESS"'
_OPEN_S: Final = 10.0
_DRAIN_S: Final = 2.0
_REPEAT_S: Final = 2.0
"""A datagram without an answer is sent again after so long (RFC 7252: 2 to 3 s)."""


class LoadFailed(GatehouseError):
    """The load could not be put on the server; the message says what did not work."""


class Bodies:
    """Provisioning requests, each with a name of its own and all of the same length."""

    __slots__ = ("_after", "_before", "_next", "size")

    def __init__(self, pair: FleetPair) -> None:
        self._before = b'{"deviceName":"load-%b-' % os.urandom(6).hex().encode()
        self._after = b'","provisionDeviceKey":"%b","provisionDeviceSecret":"%b"}' % (
            pair.key.reveal().encode(),
            pair.secret.reveal().encode(),
        )
        self._next = 0
        self.size = len(self.next())

    def next(self) -> bytes:
        self._next += 1
        return self._before + b"%09d" % self._next + self._after


class Asker(ABC):
    """One request at a time; `ready` is done when the first may be sent, or cannot be."""

    def __init__(self, tally: Tally, bodies: Bodies) -> None:
        self.tally = tally
        self.bodies = bodies
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked_at = 0.0
        self.waiting = False

    def ask(self) -> None:
        """Send a request with a new name."""
        self.waiting = True
        self.tally.under_way += 1
        self.asked_at = time.perf_counter()
        self.send()

    def answer(self, *, good: bool) -> None:
        """An answer came: count it, and ask again while there is time."""
        self.waiting = False
        self.tally.count(self.asked_at, good=good)
        if self.tally.open:
            self.ask()

    def lost(self, exc: Exception | None) -> None:
        """The way to the server is gone, and with it what was asked. This asker stays silent."""
        if not self.ready.done():
            self.ready.set_exception(LoadFailed(f"a connection was closed ({exc or 'no reason'})"))
        if self.waiting:
            self.waiting = False
            self.tally.count(self.asked_at, good=False)

    def repeat(self, _older_than: float) -> None:  # noqa: B027 - not every wire has to
        """Send again what was asked before that time. Streams need not."""

    @abstractmethod
    def send(self) -> None:
        """Put one request on the wire."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the way to the server."""


class Http(Asker, asyncio.Protocol):
    """`POST /api/v1/provision` on a connection that stays open."""

    _transport: asyncio.Transport

    def __init__(self, tally: Tally, bodies: Bodies) -> None:
        super().__init__(tally, bodies)
        self._head = (
            b"POST /api/v1/provision HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % bodies.size
        )
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost(exc)

    def close(self) -> None:
        self._transport.abort()

    def send(self) -> None:
        self._transport.write(self._head + self.bodies.next())

    def data_received(self, data: bytes) -> None:
        heard = self._heard + data
        head = heard.find(b"\r\n\r\n")
        if head < 0 or len(heard) < head + 4 + _content_length(heard[:head]):
            self._heard = heard
            return
        self._heard = b""
        self.answer(good=heard.startswith(b"HTTP/1.1 200") and _SUCCESS in heard)


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    if at < 0:
        raise LoadFailed("the server answers without Content-Length")
    return int(head[at + 15 :].split(b"\r", 1)[0])


_REQUEST: Final = b"\0\x12/provision/request"
_RESPONSE: Final = b"/provision/response"
_SUBSCRIBE: Final = b"\x82\x18\0\1\0\x13" + _RESPONSE + b"\1"
_DISCONNECT: Final = b"\xe0\0"


class _MqttSession(asyncio.Protocol):
    """Connects as `provision`, subscribes, publishes at QoS 1 (MQTT 3.1.1)."""

    _transport: asyncio.Transport
    _heard = b""
    _packet = 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        client = b"\0\x11load-" + os.urandom(6).hex().encode()
        hello = b"\0\4MQTT\4\x82\0\x3c" + client + b"\0\x09provision"
        self._transport.write(bytes((0x10, len(hello))) + hello)

    def publish(self, body: bytes) -> None:
        self._packet = self._packet % 0xFFFF + 1
        length = len(_REQUEST) + 2 + len(body)
        head = bytes((0x32, length & 0x7F | 0x80, length >> 7)) + _REQUEST
        self._transport.write(head + self._packet.to_bytes(2, "big") + body)

    def data_received(self, data: bytes) -> None:
        heard = self._heard + data
        start = 0
        while (end := packet_end(heard, start)) is not None:
            self._take(heard[start:end])
            start = end
        self._heard = heard[start:]

    def _take(self, packet: bytes) -> None:
        match packet[0] >> 4:
            case 2 if packet[3] == 0:
                self._transport.write(_SUBSCRIBE)
            case 2:
                self._transport.close()
            case 9:
                self.subscribed()
            case 3:
                if packet[0] & 6:
                    at = packet.index(_RESPONSE) + len(_RESPONSE)
                    self._transport.write(b"\x40\2" + packet[at : at + 2])
                self.responded(good=_SUCCESS in packet)

    def subscribed(self) -> None:
        raise NotImplementedError

    def responded(self, *, good: bool) -> None:
        raise NotImplementedError


class MqttOpen(_MqttSession, Asker):
    """Requests on a provision session that stays open."""

    def send(self) -> None:
        self.publish(self.bodies.next())

    def subscribed(self) -> None:
        self.ready.set_result(None)

    def responded(self, *, good: bool) -> None:
        self.answer(good=good)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost(exc)

    def close(self) -> None:
        self._transport.abort()


class MqttCycle(Asker):
    """A whole visit per request: connect, subscribe, publish, be answered, disconnect."""

    def __init__(self, tally: Tally, bodies: Bodies, port: int) -> None:
        super().__init__(tally, bodies)
        self._port = port
        self._visit: asyncio.Task[None] | None = None
        self.ready.set_result(None)

    def send(self) -> None:
        self._visit = asyncio.get_running_loop().create_task(self._come())

    async def _come(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _Visit(self), HOST, self._port
            )
        except OSError:
            self.lost(None)

    def close(self) -> None:
        if self._visit is not None:
            self._visit.cancel()


class _Visit(_MqttSession):
    def __init__(self, lane: MqttCycle) -> None:
        self._lane = lane
        self._answered = False

    def subscribed(self) -> None:
        self.publish(self._lane.bodies.next())

    def responded(self, *, good: bool) -> None:
        self._answered = True
        self._transport.write(_DISCONNECT)
        self._transport.close()
        self._lane.answer(good=good)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answered:
            self._lane.lost(exc)


class Coap(Asker, asyncio.DatagramProtocol):
    """Confirmable `POST /api/v1/provision` from a port of its own (RFC 7252)."""

    _OPTIONS: Final = b"\xb3api\x02v1\x09provision\x11\x32\xff"
    _transport: asyncio.DatagramTransport

    def __init__(self, tally: Tally, bodies: Bodies) -> None:
        super().__init__(tally, bodies)
        self._token = os.urandom(4)
        self._number = int.from_bytes(os.urandom(2), "big")
        self._tail = self._datagram = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.ready.set_result(None)

    def send(self) -> None:
        self._number += 1
        number = self._number.to_bytes(4, "big")
        self._tail = self._token + number
        head = b"\x48\x02" + number[2:] + self._tail
        self._datagram = head + self._OPTIONS + self.bodies.next()
        self._transport.sendto(self._datagram)

    def repeat(self, older_than: float) -> None:
        if self.waiting and self.asked_at < older_than:
            self._transport.sendto(self._datagram)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data[0] >> 4 == 4:
            # A separate response is acknowledged, also when it comes again.
            self._transport.sendto(b"\x60\0" + data[2:4])
        if data[1] and data[4:12] == self._tail and self.waiting:
            self.answer(good=data[1] == 0x41)

    def error_received(self, exc: Exception) -> None:
        self.lost(exc)

    def close(self) -> None:
        self._transport.abort()


async def _open(port: int, wire: str, tally: Tally, bodies: Bodies) -> Asker:
    loop = asyncio.get_running_loop()
    asker: Asker
    try:
        match wire:
            case "http":
                _, asker = await loop.create_connection(lambda: Http(tally, bodies), HOST, port)
            case "mqtt":
                _, asker = await loop.create_connection(lambda: MqttOpen(tally, bodies), HOST, port)
            case "mqtt-cycle":
                asker = MqttCycle(tally, bodies, port)
            case _:
                _, asker = await loop.create_datagram_endpoint(
                    lambda: Coap(tally, bodies), remote_addr=(HOST, port)
                )
        async with asyncio.timeout(_OPEN_S):
            await asker.ready
    except (OSError, TimeoutError) as exc:
        raise LoadFailed(f"{wire}: the server does not take connections ({exc})") from exc
    return asker


async def put_load(
    wire: str, port: int, pair: FleetPair, *, at_once: int = 64, seconds: float = 3.0
) -> Measured:
    """Keep `at_once` provisioning requests under way on `wire` for `seconds`.

    `wire` is `http`, `mqtt` (open sessions), `mqtt-cycle` or `coap`. Raises `LoadFailed`.
    """
    tally, bodies = Tally(), Bodies(pair)
    askers: list[Asker] = []
    try:
        while len(askers) < at_once:
            askers.append(await _open(port, wire, tally, bodies))
        tally.begin()
        for asker in askers:
            asker.ask()
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            await asyncio.sleep(min(left, 0.5))
            for asker in askers:
                asker.repeat(time.perf_counter() - _REPEAT_S)
        measured = tally.end()
        await _drain(tally)
        return measured
    finally:
        for asker in askers:
            asker.close()


async def _drain(tally: Tally) -> None:
    """Let what is under way be answered, so that the server is not busy with it afterwards."""
    end = time.perf_counter() + _DRAIN_S
    while tally.under_way > 0 and time.perf_counter() < end:
        await asyncio.sleep(0.01)
