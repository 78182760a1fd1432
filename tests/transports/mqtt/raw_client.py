"""A raw MQTT client for the tests of the listener."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from types import TracebackType
from typing import Any

from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.encoder import encode_connect, encode_publish
from gateway.transports.mqtt.packets import Connect, Packet

REQUEST = "/provision/request"


class Client:
    """A raw MQTT client: sends exactly what it is told, and waits for exactly one packet."""

    def __init__(self, port: int, version: int = 4, *, receive_buffer: int = 0) -> None:
        self.port = port
        self.version = version
        self.decoder = Decoder(version=version, client=True, max_packet=1 << 28)
        self.receive_buffer = receive_buffer

    async def __aenter__(self) -> Client:
        """Connect; a small `receive_buffer` makes what is not read wait at the other end soon."""
        peer = socket.socket()
        peer.setblocking(False)
        if self.receive_buffer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", self.port))
        self.reader, self.writer = await asyncio.open_connection(sock=peer, limit=65536)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def read(self) -> Packet | None:
        """The next packet; None when the connection is closed."""
        async with asyncio.timeout(5):
            while (packet := self.decoder.take()) is None:
                try:
                    data = await self.reader.read(65536)
                except ConnectionResetError:
                    return None
                if not data:
                    return None
                self.decoder.feed(data)
            return packet

    async def closed(self) -> bool:
        return await self.read() is None

    async def connect(self, **fields: Any) -> Packet | None:
        self.send(encode_connect(Connect(fields.pop("client_id", "c"), self.version, **fields)))
        return await self.read()

    def publish(self, body: bytes, qos: int = 1, packet_id: int = 7, topic: str = REQUEST) -> None:
        self.send(encode_publish(topic.encode(), body, qos, packet_id, self.version))
