"""The outgoing half of a connection: bytes gathered, bodies in pieces, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import structlog

from gateway.core.model import Peer
from gateway.transports.mqtt.outflow import Outflow
from gateway.transports.mqtt.steps import Body, Step

if TYPE_CHECKING:
    from gateway.transports.mqtt.listener import MqttListener

log = structlog.get_logger()


class Sender(asyncio.Protocol):
    """Writes to one client, and closes. `Connection` is the other half.

    What becomes ready within one turn of the loop leaves in one write, save while a body leaves in
    pieces: then everything waits behind that.
    """

    __slots__ = ("_closed", "_listener", "_out", "_outflow", "_peer", "_transport", "slot")

    _transport: asyncio.Transport
    _peer: Peer

    def __init__(self, listener: MqttListener) -> None:
        self.slot = -1
        self._listener = listener
        self._out: list[bytes] | None = None
        self._outflow: Outflow | None = None
        self._closed = False

    # ── what the other half does ──────────────────────────────────────────────────────────────

    def _poured(self) -> None:
        """No more bodies are on their way, and the session goes on."""
        raise NotImplementedError

    def _over(self) -> None:
        """Nothing is read any more, and nothing but what is already here is sent."""
        raise NotImplementedError

    # ── flow ──────────────────────────────────────────────────────────────────────────────────

    def pause_writing(self) -> None:
        """More than `max_write_buffer` bytes wait for a peer that does not read, or a piece."""
        if self._outflow is not None:
            self._outflow.pause()
        else:
            self.cut()

    def resume_writing(self) -> None:
        if self._outflow is not None:
            self._outflow.resume()

    def _do(self, step: Step) -> None:
        if step.data:
            self._send(step.data)
        if step.body is not None:
            self._stream(step.body, last=step.close)
        if step.tail and not self._closed:
            self._send(step.tail)
        if step.close:
            self._close()
        if step.delivered is not None and not self._closed:
            step.delivered()

    def _send(self, data: bytes) -> None:
        if self._outflow is not None:
            if not self._outflow.add(data):
                self.cut()
        elif self._out is None:
            self._out = [data]
            self._listener.flush_soon(self)
        else:
            self._out.append(data)

    def flush(self) -> None:
        """Hand what was gathered to the transport, in one write."""
        out = self._out
        if out is not None:
            self._out = None
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    # ── bodies in pieces ──────────────────────────────────────────────────────────────────────

    def _stream(self, body: Body, *, last: bool) -> None:
        """Send a body in pieces; what is sent from now on waits behind it."""
        if self._outflow is None:
            self.flush()
            if self._closed:
                return
            self._outflow = Outflow(self._transport, self._listener.pace)
            self._outflow.task = self._task(self._pour(self._outflow))
        self._outflow.add(body)
        self._outflow.last = last

    async def _pour(self, outflow: Outflow) -> None:
        try:
            await outflow.run()
        except (TimeoutError, EOFError) as exc:
            log.info("mqtt.body_stalled", peer=self._peer.address, reason=str(exc))
            self.cut()
        except Exception:
            log.exception("mqtt.body_failed", peer=self._peer.address)
            self.cut()
        finally:
            self._outflow = None
            self._done()
        if self._closed:
            self._transport.close()
            return
        self._transport.set_write_buffer_limits(high=self._listener.max_write_buffer)
        self._poured()

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
        if self._outflow is None:
            self._transport.close()
        self._over()

    def _check_closing(self, now: float) -> None:
        """The last bytes had their time to leave."""
        if self._outflow is not None and self._outflow.last:
            self._listener.wheel.place(self, now)  # an answer is cut for stalling alone
        else:
            self._transport.abort()

    def cut(self) -> None:
        """Close at once and drop what was not sent."""
        self._closed = True
        self._out = None
        self._transport.abort()
        self._over()

    def connection_lost(self, _exc: Exception | None) -> None:
        outflow, self._outflow = self._outflow, None
        self._closed = True
        self._out = None
        if outflow is not None:
            self._abandon(outflow.task)
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

    def _abandon(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            # Cancelled before its first step, it never comes to take itself off the list.
            self._listener.tasks.discard(task)
            task.cancel()
