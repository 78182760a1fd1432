"""One client's connection: from bytes to packets to calls of the core, and back.

No task while it idles and no timer of its own. A CONNECT and a served PUBLISH are one task each,
because they wait for the core; the router's time limit needs a task to cancel.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import structlog

from gateway.core.model import Peer, Wire
from gateway.transports.listening import peer_name
from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.packets import AUTH_METHOD, Connect, MalformedPacket, Packet, Publish
from gateway.transports.mqtt.session import (
    BAD_AUTHENTICATION_METHOD,
    QUOTA_EXCEEDED,
    SERVER_UNAVAILABLE,
    SERVER_UNAVAILABLE_V3,
    Session,
    Step,
    hello,
)
from gateway.wire.call import Admitted, Hello, Rejected, Reply, Status
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.transports.mqtt.listener import MqttListener

log = structlog.get_logger()

_UNAVAILABLE = Rejected(SERVER_UNAVAILABLE_V3, SERVER_UNAVAILABLE)
_ANSWERED = (Status.OK, Status.REFUSED)


class Connection(asyncio.Protocol):
    """One client's socket. In turn: awaiting CONNECT, being greeted, open, closed."""

    __slots__ = (
        "_calls",
        "_closed",
        "_decoder",
        "_early",
        "_greeting",
        "_listener",
        "_opened_at",
        "_out",
        "_paused",
        "_peer",
        "_session",
        "_transport",
        "slot",
    )

    def __init__(self, listener: MqttListener) -> None:
        self.slot = -1
        self._listener = listener
        self._decoder = Decoder(max_packet=listener.terms.max_packet)
        self._session: Session | None = None
        self._greeting: asyncio.Task[None] | None = None
        self._early: list[Packet] | None = None
        self._out: list[bytes] | None = None
        self._calls = 0
        self._paused = False
        self._closed = False

    # ── asyncio.Protocol ──────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener = self._listener
        self._transport = cast(asyncio.Transport, transport)
        if not listener.enter(self):
            self._closed = True
            self._transport.abort()
            return
        self._peer = Peer(Wire.MQTT, peer_name(transport.get_extra_info("peername")))
        self._transport.set_write_buffer_limits(high=listener.max_write_buffer)
        self._opened_at = listener.loop.time()
        listener.wheel.place(self, self._opened_at + listener.connect_timeout_s)

    def data_received(self, data: bytes) -> None:
        if self._closed or self._listener.stopping:
            # Unacknowledged, so sent again elsewhere; read, so that closing does not reset.
            return
        self._decoder.feed(data)
        self._advance()

    def pause_writing(self) -> None:
        """More than `max_write_buffer` bytes wait for a peer that does not read."""
        self.cut()

    def connection_lost(self, _exc: Exception | None) -> None:
        session = self._session
        admitted = session.admitted if session is not None else None
        device = admitted.device if admitted is not None else None
        self._closed = True
        self._early = self._out = None
        self._abandon_greeting()
        self._listener.forget(self, device.id if device is not None else None)
        if admitted is not None:
            log.debug("mqtt.closed", peer=self._peer.address, session=admitted.name)

    # ── packets in ────────────────────────────────────────────────────────────────────────────

    def _advance(self) -> None:
        """Handle packets until there is none, or as many calls are under way as may be."""
        listener, session = self._listener, self._session
        if listener.stopping:
            return
        if session is not None:
            session.heard_at = listener.loop.time()
        try:
            while self._calls < listener.terms.max_inflight:
                packet = self._next_packet()
                if packet is None:
                    self._read_on(True)
                    return
                self._handle(packet)
                if self._closed:
                    return
            self._read_on(False)
        except MalformedPacket as exc:
            self.leave(exc.code)

    def _next_packet(self) -> Packet | None:
        if self._early and self._greeting is None:
            packet = self._early.pop(0)
            self._early = self._early or None
            return packet
        return self._decoder.take()

    def _read_on(self, wanted: bool) -> None:
        """Read, or leave the peer's bytes in its own buffers. Early packets are bounded twice."""
        if wanted and self._early and _size(self._early) > self._listener.terms.max_packet:
            wanted = False
        if wanted and self._paused:
            self._transport.resume_reading()
        elif not wanted and not self._paused:
            self._transport.pause_reading()
        self._paused = not wanted

    def _handle(self, packet: Packet) -> None:
        session = self._session
        if session is None:
            self._open(packet)
        elif self._greeting is not None:
            self._keep_for_later(packet)
        elif type(packet) is Publish:
            self._publish(session, packet)
        else:
            self._do(session.receive(packet))

    def _keep_for_later(self, packet: Packet) -> None:
        if self._early is None:
            self._early = []
        if len(self._early) >= self._listener.max_early:
            self.leave(QUOTA_EXCEEDED)
            return
        self._early.append(packet)

    # ── CONNECT ───────────────────────────────────────────────────────────────────────────────

    def _open(self, packet: Packet) -> None:
        if not isinstance(packet, Connect):
            self._close()
            return
        listener, now = self._listener, self._listener.loop.time()
        self._session = Session(packet, listener.terms, now)
        if AUTH_METHOD in packet.properties:
            self.leave(BAD_AUTHENTICATION_METHOD)
            return
        self._opened_at = now
        listener.wheel.place(self, now + listener.greet_timeout_s)
        self._greeting = self._task(self._greet(self._session, hello(packet, self._peer)))

    async def _greet(self, session: Session, said: Hello) -> None:
        verdict: Admitted | Rejected
        try:
            verdict = await self._listener.greet(said)
        except Exception:
            log.exception("mqtt.greeting_failed", peer=self._peer.address)
            verdict = _UNAVAILABLE
        finally:
            self._done()
        if self._closed:
            return
        self._greeting = None
        if isinstance(verdict, Admitted):
            self._admit(session, verdict)
        else:
            self._do(Step(session.reject(verdict), close=True))

    def _abandon_greeting(self) -> None:
        if self._greeting is not None:
            # Cancelled before its first step, it never comes to take itself off the list.
            self._listener.tasks.discard(self._greeting)
            self._greeting.cancel()
            self._greeting = None

    def _admit(self, session: Session, admitted: Admitted) -> None:
        listener = self._listener
        session.heard_at = listener.loop.time()
        assigned = "" if session.has_client_id else listener.new_client_id()
        self._send(session.admit(admitted, assigned))
        listener.wheel.drop(self)
        listener.wheel.place(self, session.deadline())
        if admitted.device is not None:
            listener.seat(self, admitted.device.id)
        log.debug("mqtt.opened", peer=self._peer.address, session=admitted.name)
        self._advance()

    # ── PUBLISH ───────────────────────────────────────────────────────────────────────────────

    def _publish(self, session: Session, packet: Publish) -> None:
        step = session.publish(packet)
        if step is not None:
            self._do(step)
            return
        self._calls += 1
        self._task(self._serve(session, packet))

    async def _serve(self, session: Session, packet: Publish) -> None:
        admitted = session.admitted
        assert admitted is not None
        try:
            route, reply = await admitted.router.answer(
                packet.topic,
                packet.payload,
                self._peer,
                device=admitted.device,
                session=admitted.state,
            )
            if not self._closed:
                topic = self._reply_topic(admitted, packet, route, reply)
                self._settle(session, packet, reply, topic)
        except Exception:
            log.exception("mqtt.call_failed", peer=self._peer.address)
            self.cut()
        finally:
            self._calls -= 1
            self._done()
        if self._paused and not self._closed:
            self._advance()

    def _reply_topic(
        self, admitted: Admitted, packet: Publish, route: Route | None, reply: Reply
    ) -> str | None:
        """Where the answer is published; None when it has no body on MQTT."""
        if route is None or route.mqtt_reply is None or reply.status not in _ANSWERED:
            return None
        if "{" not in route.mqtt_reply:
            return route.mqtt_reply
        _, params = admitted.router.match(packet.topic)
        return route.mqtt_reply.format_map(params)

    def _settle(self, session: Session, packet: Publish, reply: Reply, topic: str | None) -> None:
        self._do(session.settle(packet, reply, topic, self._listener.loop.time()))
        if topic is not None and not self._closed:
            self._listener.wheel.place(self, session.deadline())

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────

    def _task(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._listener.loop.create_task(work)
        self._listener.tasks.add(task)
        return task

    def _done(self) -> None:
        """The running task is at its end. Cheaper than a callback for each."""
        task = asyncio.current_task()
        assert task is not None
        self._listener.tasks.discard(task)

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    def check(self, now: float) -> None:
        """The wheel says that a time of this connection may have run out."""
        session = self._session
        if self._closed:
            self._transport.abort()
        elif session is None or session.admitted is None:
            self._check_opening(now)
        elif self._calls:
            # It waits for us, not we for it; and a paused connection cannot be heard.
            self._listener.wheel.place(self, now)
        else:
            step = session.expire(now)
            if step is not None:
                self._do(step)
            else:
                self._listener.wheel.place(self, session.deadline())

    def _check_opening(self, now: float) -> None:
        listener, session = self._listener, self._session
        limit_s = listener.connect_timeout_s if session is None else listener.greet_timeout_s
        if now < self._opened_at + limit_s:
            listener.wheel.place(self, self._opened_at + limit_s)
        elif session is None:
            self._close()
        else:
            self._do(Step(session.reject(_UNAVAILABLE), close=True))

    # ── bytes out ─────────────────────────────────────────────────────────────────────────────

    def _do(self, step: Step) -> None:
        if step.data:
            self._send(step.data)
        if step.close:
            self._close()

    def _send(self, data: bytes) -> None:
        if self._out is None:
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

    def leave(self, code: int) -> None:
        """End the session with an MQTT 5 reason code; older clients see the connection close."""
        if not self._closed:
            session = self._session
            self._do(Step(session.farewell(code) if session is not None else b"", close=True))

    def _close(self) -> None:
        """Send what there is to send, then close. A peer that does not take it is cut in time."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        self._early = None
        self._abandon_greeting()
        listener = self._listener
        listener.wheel.drop(self)
        listener.wheel.place(self, listener.loop.time() + listener.close_timeout_s)
        self._transport.close()

    def cut(self) -> None:
        """Close at once and drop what was not sent."""
        self._closed = True
        self._out = None
        self._transport.abort()


def _size(held: list[Packet]) -> int:
    return sum(len(packet.payload) for packet in held if isinstance(packet, Publish))
