"""Bodies in pieces on their way to one client, and what has to wait behind them.

A PUBLISH cannot be interrupted: from the first byte of a body to its last, everything else for that
client waits here. A connection has one of these only while there is such a body.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque

from msgspec import Struct

from gateway.transports.mqtt.steps import Body


class Pace(Struct, frozen=True, kw_only=True):
    """How bodies leave: `piece` bytes at a time, at most about three of them in memory.

    A peer that takes nothing for `stall_s` seconds has stalled, and so has a source that gives
    nothing. `max_waiting` bytes of other packets may wait behind a body.
    """

    piece: int = 32 * 1024
    stall_s: float = 30.0
    max_waiting: int = 256 * 1024


class Outflow:
    """What is still to be written to one transport, in order. `add`, then one task in `run`.

    `bodies` are not yet written to their end. `last`: the connection closes once all is written,
    however long the peer takes for it. `task` is the one in `run`.
    """

    __slots__ = (
        "_pace",
        "_paused",
        "_queue",
        "_resumed",
        "_transport",
        "_waiting",
        "bodies",
        "last",
        "task",
    )

    def __init__(self, transport: asyncio.Transport, pace: Pace) -> None:
        self._transport = transport
        self._pace = pace
        self._queue: deque[bytes | Body] = deque()
        self._waiting = 0
        self._paused = False
        self._resumed: asyncio.Future[None] | None = None
        self.bodies = 0
        self.last = False
        self.task: asyncio.Task[None] | None = None

    def add(self, item: bytes | Body) -> bool:
        """Send this after all the rest. False when too much waits already."""
        if isinstance(item, Body):
            self.bodies += 1
        elif self._waiting + len(item) > self._pace.max_waiting:
            return False
        else:
            self._waiting += len(item)
        self._queue.append(item)
        return True

    def pause(self) -> None:
        """The transport has enough for now."""
        self._paused = True

    def resume(self) -> None:
        """The peer took it."""
        self._paused = False
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    async def run(self) -> None:
        """Write until nothing is left and the peer has taken almost all of it.

        Raises `TimeoutError` when the peer or a source stalls, `EOFError` when a source is not as
        long as it said, and whatever a source raises.
        """
        self._transport.set_write_buffer_limits(high=self._pace.piece)
        _keep_little_unsent(self._transport, self._pace.piece)
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, bytes):
                self._waiting -= len(item)
                await self._write(item)
            else:
                await self._pour(item)
                self.bodies -= 1

    async def _pour(self, body: Body) -> None:
        await self._write(body.head)
        source, offset, size = body.source, 0, body.source.size
        while offset < size:
            wanted = min(self._pace.piece, size - offset)
            async with asyncio.timeout(self._pace.stall_s):
                piece = await source.read(offset, wanted)
            if len(piece) != wanted:
                raise EOFError("a body is not as long as it said")
            offset += wanted
            await self._write(piece)

    async def _write(self, data: bytes) -> None:
        """Write, and let others have a turn; wait as long as the peer is behind."""
        self._transport.write(data)
        await asyncio.sleep(0)
        while self._paused:
            left = self._transport.get_write_buffer_size()
            self._resumed = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._resumed,), timeout=self._pace.stall_s)
            if self._paused and self._transport.get_write_buffer_size() >= left:
                raise TimeoutError("the peer takes nothing")


def _keep_little_unsent(transport: asyncio.Transport, size: int) -> None:
    """Have the system hold few bytes that the peer has no room for yet, where it can be told.

    Else it takes megabytes, and a slow peer looks like one that takes nothing while they leave.
    """
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    connection = transport.get_extra_info("socket")
    if option is not None and connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, size)
