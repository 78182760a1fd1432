"""Clients that listen while they speak: MQTT sessions and CoAP observers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiocoap import Message
from ground import MOST_PATIENCE_S
from wires import CON, GET, HOST, PUBACK, PUBLISH, SUBACK, Coap, Mqtt, Packet, Published, packet

HEARD_S = 3_600.0


class Speaker:
    """An open MQTT session: acknowledgements find who waits for them, messages go to `hear`."""

    def __init__(self, mqtt: Mqtt, hear: Callable[[Speaker, Published], None]) -> None:
        self.mqtt = mqtt
        self._hear = hear
        self._waiting: dict[int, asyncio.Future[Packet]] = {}
        self._last = 0

    async def listen(self) -> None:
        """Until the server hangs up."""
        while (got := await self.mqtt.next(HEARD_S)) is not None:
            if got.kind == PUBLISH:
                self._hear(self, self.mqtt.opened(got))
            elif got.kind in (PUBACK, SUBACK):
                waiting = self._waiting.pop(int.from_bytes(got.body[:2]), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(got)

    def say(self, topic: str, payload: str) -> None:
        """Publish without asking whether it arrived."""
        self.mqtt.publish(topic, payload.encode())

    async def deliver(self, topic: str, payload: str) -> int:
        """Publish at QoS 1; the reason code of the acknowledgement, 0 before MQTT 5."""
        number = self._number()
        body = _text(topic) + number.to_bytes(2) + (b"\0" if self.mqtt.version == 5 else b"")
        answer = await self._ask(number, packet(PUBLISH | 2, body + payload.encode()))
        return answer.body[2] if len(answer.body) > 2 else 0

    async def subscribe(self, *filters: str) -> bool:
        """Whether all of them were granted."""
        number = self._number()
        body = number.to_bytes(2) + (b"\0" if self.mqtt.version == 5 else b"")
        body += b"".join(_text(one) + b"\1" for one in filters)
        answer = await self._ask(number, packet(0x82, body))
        return all(code < 0x80 for code in answer.body[-len(filters) :])

    def _number(self) -> int:
        self._last = self._last % 65_535 + 1
        return self._last

    async def _ask(self, number: int, data: bytes) -> Packet:
        waiting: asyncio.Future[Packet] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        self.mqtt.send(data)
        async with asyncio.timeout(MOST_PATIENCE_S):
            return await waiting


def _text(value: str) -> bytes:
    raw = value.encode()
    return len(raw).to_bytes(2) + raw


@asynccontextmanager
async def speaking(
    port: int,
    version: int,
    token: str,
    hear: Callable[[Speaker, Published], None],
    *,
    receive_buffer: int = 0,
) -> AsyncIterator[Speaker]:
    """A session that is logged in. It ends without goodbye: who wants to part well says so.

    `receive_buffer`: bytes the system keeps for it; 0 is as many as it likes. Raises
    `ConnectionError` within the `async with` when the server hangs up.
    """
    plug = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    plug.setblocking(False)
    if receive_buffer:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(plug, (HOST, port))
    reader, writer = await asyncio.open_connection(sock=plug)
    mqtt = Mqtt(version, reader, writer)
    owner = asyncio.current_task()
    assert owner is not None
    code = await mqtt.connect(username=token)
    if code:
        writer.close()
        raise ConnectionError(f"login refused with {code}")
    speaker = Speaker(mqtt, hear)
    listening = asyncio.create_task(speaker.listen())
    hung_up = False

    def wake(_task: asyncio.Task[None]) -> None:
        nonlocal hung_up
        hung_up = True
        owner.cancel()

    listening.add_done_callback(wake)
    try:
        yield speaker
    except asyncio.CancelledError:
        if hung_up and not owner.uncancel():
            raise ConnectionError("the server hung up") from None
        raise
    finally:
        listening.remove_done_callback(wake)
        listening.cancel()
        with suppress(asyncio.CancelledError, OSError, TimeoutError):
            await listening
        writer.transport.abort()


def part(speaker: Speaker) -> None:
    """Say goodbye."""
    speaker.mqtt.send(b"\xe0\x00")


class Watcher(Coap):
    """A CoAP device that is also told things: notifications go to those who registered."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[bytes, Callable[[Any], None]] = {}

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.raw.clear()
        hear = self.heard.get(data[4 : 4 + (data[0] & 15)])
        if hear is not None and data[1]:
            hear(Message.decode(data))

    async def observe(self, path: str, hear: Callable[[Any], None]) -> int:
        """Register; the code of the answer. From then on `hear` gets the notifications."""
        datagram, token = self.datagram(GET, path, kind=CON, observe=0)
        answer = await self.send(datagram, token)
        self.heard[token] = hear
        return code_of(answer)


def code_of(message: Any) -> int:
    """Class and detail in one byte: 0x45 is 2.05."""
    return int(message.code)


@asynccontextmanager
async def watching(port: int) -> AsyncIterator[Watcher]:
    """A UDP port, closed at the end without a word."""
    loop = asyncio.get_running_loop()
    transport, device = await loop.create_datagram_endpoint(Watcher, remote_addr=(HOST, port))
    try:
        yield device
    finally:
        transport.close()
