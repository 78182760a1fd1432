"""A device's side of each wire, down to the bytes.

Nothing here is shared with `gateway`: what it would get wrong on both sides would look right. MQTT
is written out by hand from the OASIS standards, HTTP from RFC 9112, CoAP messages are aiocoap's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from aiocoap import CON, Message
from aiocoap.numbers.codes import DELETE, GET, POST, PUT

__all__ = ["CON", "DELETE", "GET", "POST", "PUT"]

HOST = "127.0.0.1"
WAIT_S = 10.0
C = TypeVar("C", bound=asyncio.DatagramProtocol)

CONNACK, PUBLISH, PUBACK, PUBREC, PUBCOMP = 0x20, 0x30, 0x40, 0x50, 0x70
SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 0x90, 0xB0, 0xD0, 0xE0

# ── HTTP ──────────────────────────────────────────────────────────────────────────────────────


class HttpReply(NamedTuple):
    """One answer: header names in lower case, the body as sent."""

    status: int
    headers: dict[str, str]
    body: bytes


def http_request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: gate\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Http:
    """One kept-alive connection. Raises `ConnectionError` when the server hangs up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, method: str, path: str, body: bytes = b"") -> HttpReply:
        return await self.raw(http_request(method, path, body))

    async def raw(self, request: bytes) -> HttpReply:
        self.writer.write(request)
        async with asyncio.timeout(WAIT_S):
            return await self.read()

    async def read(self) -> HttpReply:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().rstrip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return HttpReply(int(first.split()[1]), headers, body)


@asynccontextmanager
async def http(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Http]:
    """A connection, closed at the end."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=tls)
    try:
        yield Http(reader, writer)
    finally:
        await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()


# ── MQTT ──────────────────────────────────────────────────────────────────────────────────────


class Packet(NamedTuple):
    """`kind` is the first byte without its flags."""

    kind: int
    flags: int
    body: bytes


def _text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2) + raw


def packet(first: int, body: bytes) -> bytes:
    """A control packet: its first byte, the remaining length, the rest."""
    size, digits = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        digits.append(digit | 0x80 if size else digit)
        if not size:
            return bytes((first,)) + bytes(digits) + body


def connect_packet(
    version: int,
    client_id: str = "",
    username: str | None = None,
    password: str | bytes | None = None,
    keep_alive: int = 60,
) -> bytes:
    flags = 0x02 | (username is not None) << 7 | (password is not None) << 6
    name = _text("MQIsdp" if version == 3 else "MQTT")
    body = name + bytes((version, flags)) + keep_alive.to_bytes(2)
    body += (b"\0" if version == 5 else b"") + _text(client_id)
    body += _text(username) if username is not None else b""
    body += _text(password) if password is not None else b""
    return packet(0x10, body)


def publish_packet(
    version: int, topic: str, payload: bytes, qos: int = 0, number: int = 1
) -> bytes:
    body = _text(topic) + (number.to_bytes(2) if qos else b"")
    return packet(0x30 | qos << 1, body + (b"\0" if version == 5 else b"") + payload)


class Published(NamedTuple):
    """A PUBLISH from the server."""

    topic: str
    payload: bytes
    qos: int


class Mqtt:
    """One connection. `next` is the next packet, None once the server hung up."""

    def __init__(
        self, version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.version = version
        self.reader = reader
        self.writer = writer
        self._numbers = itertools.count(1)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def next(self, within_s: float = WAIT_S) -> Packet | None:
        async with asyncio.timeout(within_s):
            try:
                first = (await self.reader.readexactly(1))[0]
                size = shift = 0
                while True:
                    digit = (await self.reader.readexactly(1))[0]
                    size |= (digit & 0x7F) << shift
                    shift += 7
                    if digit < 0x80:
                        break
                body = await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
        return Packet(first & 0xF0, first & 0x0F, body)

    async def expect(self, kind: int) -> Packet:
        got = await self.next()
        assert got is not None, f"hung up instead of {kind:#x}"
        assert got.kind == kind, f"{got} instead of {kind:#x}"
        return got

    async def connect(
        self,
        client_id: str = "",
        username: str | None = None,
        password: str | bytes | None = None,
    ) -> int:
        """Log in; the code of the CONNACK."""
        self.send(connect_packet(self.version, client_id, username, password))
        return (await self.expect(CONNACK)).body[1]

    def publish(self, topic: str, payload: bytes, qos: int = 0) -> int:
        number = next(self._numbers)
        self.send(publish_packet(self.version, topic, payload, qos, number))
        return number

    async def deliver(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 and wait for the acknowledgement of a success."""
        number = self.publish(topic, payload, 1)
        assert await self.expect(PUBACK) == Packet(PUBACK, 0, number.to_bytes(2))

    async def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """The code of each filter."""
        body = next(self._numbers).to_bytes(2) + (b"\0" if self.version == 5 else b"")
        body += b"".join(_text(one) + bytes((qos,)) for one in filters)
        self.send(packet(0x82, body))
        return list((await self.expect(SUBACK)).body[3 if self.version == 5 else 2 :])

    async def unsubscribe(self, topic_filter: str) -> bytes:
        """What follows the packet id (and MQTT 5's properties)."""
        body = next(self._numbers).to_bytes(2) + (b"\0" if self.version == 5 else b"")
        self.send(packet(0xA2, body + _text(topic_filter)))
        return (await self.expect(UNSUBACK)).body[3 if self.version == 5 else 2 :]

    async def published(self) -> Published:
        """The next packet, which must be a PUBLISH."""
        return self.opened(await self.expect(PUBLISH))

    def opened(self, got: Packet) -> Published:
        end = 2 + int.from_bytes(got.body[:2])
        qos = got.flags >> 1 & 3
        start = end + (2 if qos else 0)
        if qos:
            self.send(packet(0x40, got.body[end : end + 2]))
        if self.version == 5:
            assert got.body[start] == 0, "properties nobody asked for"
            start += 1
        return Published(got.body[2:end].decode(), got.body[start:], qos)

    async def outcome(self, quiet_s: float = 0.2) -> list[tuple[int, int]]:
        """Every packet until nothing more comes, by kind and reason code.

        A closed connection is `(0, 0)` at the end; one that stays has answered a ping.
        """
        self.send(b"\xc0\x00")
        told: list[tuple[int, int]] = []
        ponged = False
        while True:
            try:
                got = await self.next(quiet_s if ponged else WAIT_S)
            except TimeoutError:
                assert ponged, "neither closed nor alive"
                return told
            if got is None:
                return [*told, (0, 0)]
            ponged = ponged or got.kind == PINGRESP
            if got.kind != PINGRESP:
                at = 0 if got.kind == DISCONNECT else 2
                told.append((got.kind, got.body[at] if len(got.body) > at else 0))


@asynccontextmanager
async def mqtt(
    port: int, version: int = 4, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Mqtt]:
    """A connection on which nothing was said yet, closed at the end."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=tls)
    try:
        yield Mqtt(version, reader, writer)
    finally:
        await hang_up(writer)


# ── CoAP ──────────────────────────────────────────────────────────────────────────────────────


class Coap(asyncio.DatagramProtocol):
    """One UDP port. Answers come back by token; separate ones are acknowledged."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, asyncio.Future[Message]] = {}
        self._numbers = itertools.count(int.from_bytes(os.urandom(2)))
        self.raw: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, _addr: Any) -> None:
        self.raw.append(data)
        message = Message.decode(data)
        if message.mtype == CON:
            self.transport.sendto(b"\x60\x00" + data[2:4])
        waiting = self._waiting.get(message.token) if message.code else None
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def error_received(self, exc: OSError) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError(str(exc)))

    def datagram(
        self,
        code: Any,
        path: str,
        payload: bytes = b"",
        query: Sequence[str] = (),
        *,
        kind: Any = CON,
        **options: Any,
    ) -> tuple[bytes, bytes]:
        """A request as sent, and its token."""
        number = next(self._numbers)
        token = number.to_bytes(8)
        message = Message(
            code=code,
            payload=payload,
            uri_path=path.strip("/").split("/"),
            uri_query=query,
            _mtype=kind,
            _mid=number & 0xFFFF,
            _token=token,
            **options,
        )
        return message.encode(), token

    async def ask(
        self, code: Any, path: str, payload: bytes = b"", query: Sequence[str] = (), **more: Any
    ) -> Message:
        return await self.send(*self.datagram(code, path, payload, query, **more))

    async def send(self, datagram: bytes, token: bytes, within_s: float = WAIT_S) -> Message:
        """Send and await the answer with that token; repeated after two seconds, as devices do."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        try:
            async with asyncio.timeout(within_s):
                while True:
                    self.transport.sendto(datagram)
                    with suppress(TimeoutError):
                        return await asyncio.wait_for(asyncio.shield(future), 2.0)
        finally:
            future.cancel()
            del self._waiting[token]


@asynccontextmanager
async def speaking(kind: Callable[[], C], port: int) -> AsyncIterator[C]:
    """A UDP port of that kind, towards the gateway's."""
    loop = asyncio.get_running_loop()
    transport, device = await loop.create_datagram_endpoint(kind, remote_addr=(HOST, port))
    try:
        yield device
    finally:
        transport.close()
        await asyncio.sleep(0)


def coap(port: int) -> AbstractAsyncContextManager[Coap]:
    return speaking(Coap, port)


class Observing(Coap):
    """A UDP port whose answers wait in a queue for each token; `resets`: answered with RST."""

    def __init__(self) -> None:
        super().__init__()
        self.resets: set[bytes] = set()
        self.queues: dict[bytes, asyncio.Queue[Message]] = {}

    def datagram_received(self, data: bytes, addr: Any) -> None:
        message = Message.decode(data)
        if message.code and message.token in self.resets:
            self.transport.sendto(b"\x70\x00" + data[2:4])
        else:
            super().datagram_received(data, addr)
        if message.code and message.token in self.queues:
            self.queues[message.token].put_nowait(message)

    def observe(self, path: str, kind: Any = CON, query: Sequence[str] = ()) -> bytes:
        """Register; the token of the observation."""
        data, fresh = self.datagram(GET, path, query=query, kind=kind, observe=0)
        self.queues[fresh] = asyncio.Queue()
        self.transport.sendto(data)
        return fresh

    async def next(self, token: bytes, within_s: float = WAIT_S) -> Message:
        async with asyncio.timeout(within_s):
            return await self.queues[token].get()


def observing(port: int) -> AbstractAsyncContextManager[Observing]:
    return speaking(Observing, port)


def dotted(message: Message) -> str:
    """`4.00` and the like."""
    return f"{message.code >> 5}.{message.code & 31:02}"


# ── any wire ──────────────────────────────────────────────────────────────────────────────────

WIRES = ("http", "mqtt31", "mqtt311", "mqtt5", "coap")
VERSIONS = {"mqtt31": 3, "mqtt311": 4, "mqtt5": 5}


class Ports(NamedTuple):
    """Where a gateway listens; 0: it does not."""

    http: int
    mqtt: int
    coap: int
    https: int = 0
    mqtts: int = 0
    coaps: int = 0
    blynk_tcp: int = 0


async def provision(ports: Ports, wire: str, body: bytes, *, success: bool | None = None) -> bytes:
    """Send a provisioning request and give back the body of the answer.

    Whatever the decision, the wire's own numbers must be those of the contract (sections 3 to 5).
    """
    if wire == "http":
        async with http(ports.http) as web:
            reply = await web.ask("POST", "/api/v1/provision", body)
        assert reply.status == 200, reply
        assert reply.headers["content-type"] == "application/json"
        return reply.body
    if wire == "coap":
        async with coap(ports.coap) as device:
            answer = await device.ask(POST, "/api/v1/provision", body)
        assert dotted(answer) in ("2.01", "4.00"), answer
        if success is not None:
            assert dotted(answer) == ("2.01" if success else "4.00"), answer.payload
        return bytes(answer.payload)
    async with mqtt(ports.mqtt, VERSIONS[wire]) as session:
        assert await session.connect(username="provision") == 0
        await session.deliver("/provision/request", body)
        topic, payload, qos = await session.published()
        assert (topic, qos) == ("/provision/response", 1)
        return payload


async def provisioned(ports: Ports, wire: str, request: dict[str, Any]) -> dict[str, Any]:
    """The same with JSON."""
    answer: dict[str, Any] = json.loads(await provision(ports, wire, json.dumps(request).encode()))
    return answer


async def knows(ports: Ports, token: str) -> bool:
    """Whether an access token opens the device API, asked without changing anything."""
    async with http(ports.http) as web:
        return (await web.ask("GET", f"/api/v1/{token}/attributes?clientKeys=x")).status == 200
