"""Servers that do nothing but answer: what the wire alone costs in this language, on this machine.

`python -m gateway.simulator.bare http|mqtt|amqtt|coap|aiocoap` prints `bare ready NAME=PORT` and
serves on 127.0.0.1 until told to stop. Nothing is decided and nothing is stored. `mqtt` and `coap`
decode only what finding the answer's address takes; the others what their library always does.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, cast

_TOKEN = "0123456789abcdefghij"  # noqa: S105 - opens nothing
ANSWER = (
    b'{"credentialsValue":"%b","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}'
    % _TOKEN.encode()
)
"""What a provisioned device is told, with the same token each time."""

_HOST = "127.0.0.1"
_REQUEST, _TOPIC = b"/provision/request", b"/provision/response"
_PORT_TRIES = 16
_contexts: list[Any] = []
"""aiocoap's: they live as long as somebody holds on to them, and are shut down at the end."""
_open: list[asyncio.Server | asyncio.DatagramTransport] = []
"""What is closed at the end: uvloop warns of what is not, and where warnings are errors, hangs."""


def _port(listening: asyncio.Server) -> int:
    """Its port. It stays open until the process is told to stop."""
    _open.append(listening)
    return int(listening.sockets[0].getsockname()[1])


async def serve_http() -> int:
    """aiohttp's low-level server, the one the gateway uses: body read, constant answer."""
    from aiohttp import web

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(body=ANSWER, content_type="application/json")

    server = web.Server(handle, access_log=None)
    listening = await asyncio.get_running_loop().create_server(server, _HOST, 0, backlog=1024)
    return _port(listening)


class _Mqtt(asyncio.Protocol):
    """Finds the end of each packet, and answers by its type (MQTT 3.1.1, section 2.2.1)."""

    def __init__(self) -> None:
        self._heard = b""
        body = len(_TOPIC).to_bytes(2, "big") + _TOPIC + b"\0\1" + ANSWER
        self._response = b"\x32" + _remaining(len(body)) + body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        heard = self._heard + data
        start, out = 0, []
        while (end := packet_end(heard, start)) is not None:
            out.append(self._answer(heard, start, end))
            start = end
        self._heard = heard[start:]
        self._transport.write(b"".join(out))

    def _answer(self, heard: bytes, start: int, end: int) -> bytes:
        match heard[start] >> 4:
            case 1:
                return b"\x20\2\0\0"
            case 8:
                at = start + 2
                return b"\x90\3" + heard[at : at + 2] + b"\1"
            case 3:
                # QoS 1: a packet id follows the topic.
                at = start + 2 + (heard[start + 1] >= 0x80)
                at += 2 + int.from_bytes(heard[at : at + 2], "big")
                return b"\x40\2" + heard[at : at + 2] + self._response
            case 14:
                self._transport.close()
        return b""


def _remaining(length: int) -> bytes:
    """The remaining length of a packet shorter than 16384 bytes."""
    return bytes((length,)) if length < 0x80 else bytes((length & 0x7F | 0x80, length >> 7))


def packet_end(heard: bytes, start: int) -> int | None:
    """Where the MQTT packet at `start` ends; None while it is not all there (section 2.2.3)."""
    length = 0
    for digit in range(4):
        at = start + 1 + digit
        if at >= len(heard):
            return None
        length |= (heard[at] & 0x7F) << 7 * digit
        if heard[at] < 0x80:
            end = at + 1 + length
            return end if end <= len(heard) else None
    raise ValueError("a remaining length has at most four bytes")


async def serve_mqtt() -> int:
    """An `asyncio.Protocol`: each packet's type decides its constant answer."""
    listening = await asyncio.get_running_loop().create_server(_Mqtt, _HOST, 0, backlog=1024)
    return _port(listening)


async def serve_amqtt() -> int:
    """amqtt's packet classes over asyncio streams, and nothing of its broker."""
    # Imported here alone: it takes a tenth of a second and more, and no gateway needs it.
    from amqtt.adapters import StreamReaderAdapter
    from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
    from amqtt.mqtt import packet_class
    from amqtt.mqtt.connack import CONNECTION_ACCEPTED, ConnackPacket
    from amqtt.mqtt.connect import ConnectPacket
    from amqtt.mqtt.packet import DISCONNECT, MQTTFixedHeader, PacketIdVariableHeader
    from amqtt.mqtt.puback import PubackPacket
    from amqtt.mqtt.publish import PublishPacket
    from amqtt.mqtt.suback import SubackPacket
    from amqtt.mqtt.subscribe import SubscribePacket, SubscribePayload

    request, response = _REQUEST.decode(), _TOPIC.decode()

    def answer(packet: Any) -> bytes:
        match packet:
            case PublishPacket(packet_id=packet_id, topic_name=topic):
                ack = PubackPacket.build(packet_id).to_bytes() if packet_id else b""
                if topic != request:
                    return ack
                return ack + PublishPacket.build(response, ANSWER, 1, False, 1, False).to_bytes()
            case ConnectPacket():
                return ConnackPacket.build(0, CONNECTION_ACCEPTED).to_bytes()
            case SubscribePacket(
                variable_header=PacketIdVariableHeader(packet_id=packet_id),
                payload=SubscribePayload(topics=topics),
            ):
                return SubackPacket.build(packet_id, [1] * len(topics)).to_bytes()
        return b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = StreamReaderAdapter(reader)
        try:
            while (header := await MQTTFixedHeader.from_stream(heard)) is not None:
                if header.packet_type == DISCONNECT:
                    break
                writer.write(answer(await packet_class(header).from_stream(heard, header)))
                await writer.drain()
        except (AMQTTError, CodecError, MQTTError, NoDataError, OSError):
            pass  # the client is gone, or speaks something else; either way it is let go
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, _HOST, 0, backlog=1024)
    return _port(listening)


class _Coap(asyncio.DatagramProtocol):
    """2.01 with the request's message id and token (RFC 7252, section 3)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        tail = data[2 : 4 + (data[0] & 15)]
        self._transport.sendto(bytes((0x60 | len(tail) - 2, 0x41)) + tail + b"\xff" + ANSWER, addr)


async def serve_coap() -> int:
    """An `asyncio.DatagramProtocol`: message id and token returned, nothing remembered."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_Coap, (_HOST, 0))
    _open.append(transport)
    return int(transport.get_extra_info("sockname")[1])


async def serve_aiocoap() -> int:
    """aiocoap's own server with one resource that answers a constant."""
    # Named as text: half of its functions are typed, and calling the others would be an error.
    aiocoap: Any = import_module("aiocoap")
    resource: Any = import_module("aiocoap.resource")

    async def render_post(_request: Any) -> Any:
        return aiocoap.Message(code=aiocoap.CREATED, payload=ANSWER)

    provision = resource.Resource()
    provision.render_post = render_post
    site = resource.Site()
    site.add_resource(("api", "v1", "provision"), provision)
    for _ in range(_PORT_TRIES):
        port = _free_udp_port()
        try:
            context = await aiocoap.Context.create_server_context(
                site, bind=(_HOST, port), transports=["simplesocketserver"]
            )
        except OSError:
            continue  # taken meanwhile; aiocoap cannot pick one itself
        _contexts.append(context)
        return port
    raise OSError("no free UDP port")


def _free_udp_port() -> int:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


SERVERS: dict[str, Callable[[], Awaitable[int]]] = {
    "http": serve_http,
    "mqtt": serve_mqtt,
    "amqtt": serve_amqtt,
    "coap": serve_coap,
    "aiocoap": serve_aiocoap,
}


async def _main(name: str) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    port = await SERVERS[name]()
    sys.stdout.write(f"bare ready {name}={port}\n")
    sys.stdout.flush()
    await stopping.wait()
    for one in _open:
        one.close()
    for context in _contexts:
        await context.shutdown()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(sys.argv[1]))
