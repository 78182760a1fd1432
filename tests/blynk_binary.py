"""A device's side of Blynk's binary protocol, down to the bytes.

Nothing here is shared with `gateway`: what it would get wrong on both sides would look right.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

HOST = "127.0.0.1"
WAIT_S = 10.0

RESPONSE, LOGIN, PING, NOTIFY, BRIDGE, SYNC, INTERNAL = 0, 2, 6, 14, 15, 16, 17
PROPERTY, HARDWARE, GROUP, HW_LOGIN, REDIRECT = 19, 20, 21, 29, 41
DEBUG_PRINT, EVENT_LOG, EVENT_CLEAR = 55, 64, 65


class Said(NamedTuple):
    """A frame from the gateway; `body` has the status of a RESPONSE."""

    command: int
    message_id: int
    body: tuple[str, ...] | int


def frame(command: int, message_id: int, *parts: str | int) -> bytes:
    body = "\0".join(map(str, parts)).encode()
    return struct.pack("!BHH", command, message_id, len(body)) + body


class Board:
    """One connection. Raises `EOFError` when the gateway hangs up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.last_id = 0

    def send(self, command: int, *parts: str | int) -> int:
        """Send one frame; its message id."""
        self.last_id += 1
        self.writer.write(frame(command, self.last_id, *parts))
        return self.last_id

    async def read(self) -> Said:
        async with asyncio.timeout(WAIT_S):
            head = await self.reader.readexactly(5)
            command, message_id, length = struct.unpack("!BHH", head)
            if command == RESPONSE:
                return Said(command, message_id, length)
            body = await self.reader.readexactly(length)
        return Said(command, message_id, tuple(body.decode().split("\0")))

    async def ask(self, command: int, *parts: str | int) -> int:
        """Send one frame; the status of its RESPONSE, which comes next."""
        message_id = self.send(command, *parts)
        said = await self.read()
        assert said[:2] == (RESPONSE, message_id), said
        assert isinstance(said.body, int)
        return said.body

    async def login(self, token: str, command: int = HW_LOGIN) -> int:
        return await self.ask(command, token)

    async def is_closed(self) -> bool:
        """Whether the gateway hangs up without another byte."""
        try:
            async with asyncio.timeout(WAIT_S):
                return not await self.reader.read(1)
        except ConnectionError:
            return True


@asynccontextmanager
async def board(port: int) -> AsyncIterator[Board]:
    """A connection, closed at the end."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield Board(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
