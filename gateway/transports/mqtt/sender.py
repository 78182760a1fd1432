"""The outgoing half of a connection: packets gathered, and bodies in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from gateway.transports.mqtt.outflow import Outflow
from gateway.transports.mqtt.steps import Body, Step
from gateway.transports.streams import Stream

if TYPE_CHECKING:
    from gateway.transports.mqtt.listener import MqttListener

log = structlog.get_logger()


class Sender(Stream):
    """Writes to one client, and closes. `Connection` is the other half.

    What becomes ready within one turn of the loop leaves in one write, save while a body leaves in
    pieces: then everything waits behind that.
    """

    __slots__ = ("_outflow",)

    _listener: MqttListener

    def __init__(self, listener: MqttListener) -> None:
        super().__init__(listener)
        self._outflow: Outflow | None = None

    def _poured(self) -> None:
        """No more bodies are on their way, and the session goes on: the other half's to say how."""
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
            self._end_pouring()
            return
        self._transport.set_write_buffer_limits(high=self._listener.max_write_buffer)
        self._poured()

    def _end_pouring(self) -> None:
        """The last body is with the transport: its last piece has as long as any last bytes."""
        if not self._transport.is_closing():
            wheel, now = self._listener.wheel, self._listener.loop.time()
            wheel.drop(self)
            wheel.place(self, now + self._listener.close_timeout_s)
            self._transport.close()

    # ── the end ───────────────────────────────────────────────────────────────────────────────

    def _hang_up(self) -> None:
        """A body that is on its way leaves before."""
        if self._outflow is None:
            self._transport.close()

    def _check_closing(self, now: float) -> None:
        """The last bytes had their time to leave."""
        if self._outflow is not None and self._outflow.last:
            self._listener.wheel.place(self, now)  # an answer is cut for stalling alone
        else:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        outflow, self._outflow = self._outflow, None
        if outflow is not None:
            self._abandon(outflow.task)
        super().connection_lost(exc)
