"""The outgoing half of a connection: bytes gathered, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from gateway.core.model import Peer

if TYPE_CHECKING:
    from gateway.transports.blynk.listener import BlynkListener


class Sender(asyncio.Protocol):
    """Writes to one device, and closes. `Connection` is the other half.

    What becomes ready within one turn of the loop leaves in one write.
    """

    __slots__ = ("_closed", "_gathered", "_listener", "_out", "_peer", "_transport", "slot")

    _transport: asyncio.Transport
    _peer: Peer

    def __init__(self, listener: BlynkListener) -> None:
        self.slot = -1
        self._listener = listener
        self._out: list[bytes] | None = None
        self._gathered = 0
        self._closed = False

    def _over(self) -> None:
        """Nothing is read any more, and nothing but what is already here is sent."""
        raise NotImplementedError

    # ── flow ──────────────────────────────────────────────────────────────────────────────────

    def pause_writing(self) -> None:
        """More than `max_write_buffer` bytes wait for a peer that does not read."""
        self.cut()

    def _send(self, data: bytes) -> None:
        if self._closed:
            return
        if self._out is None:
            self._out = [data]
            self._listener.flush_soon(self)
        else:
            self._out.append(data)
        self._gathered += len(data)
        if self._gathered > self._listener.max_write_buffer:
            self.flush()

    def flush(self) -> None:
        """Hand what was gathered to the transport, in one write."""
        out, self._out, self._gathered = self._out, None, 0
        if out is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    # ── the end ───────────────────────────────────────────────────────────────────────────────

    def _close(self) -> None:
        """Send what there is to send, then close. A peer that does not take it is cut in time."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        listener = self._listener
        listener.wheel.drop(self)
        listener.wheel.place(self, listener.loop.time() + listener.close_timeout_s)
        self._transport.close()
        self._over()

    def cut(self) -> None:
        """Close at once and drop what was not sent."""
        self._closed = True
        self._out = None
        self._transport.abort()
        self._over()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._closed = True
        self._out = None
        self._over()

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._listener.loop.create_task(work)
        self._listener.tasks.add(task)
        return task

    def _done(self) -> None:
        """The running task is at its end. Cheaper than a callback for each."""
        task = asyncio.current_task()
        assert task is not None
        self._listener.tasks.discard(task)

    def _abandon(self, task: asyncio.Task[None]) -> None:
        # Cancelled before its first step, it never comes to take itself off the list.
        self._listener.tasks.discard(task)
        task.cancel()
