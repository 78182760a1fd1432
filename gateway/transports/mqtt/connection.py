"""One client's connection: from bytes to packets to calls of the core, and back.

No task while it idles and no timer of its own. A CONNECT and a served PUBLISH are one task each,
because they wait for the core; the router's time limit needs a task to cancel. So are bodies that
leave in pieces, because they wait for the peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.packets import (
    AUTH_METHOD,
    Connect,
    MalformedPacket,
    Packet,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
)
from gateway.transports.mqtt.sender import Sender
from gateway.transports.mqtt.session import (
    BAD_AUTHENTICATION_METHOD,
    QUOTA_EXCEEDED,
    SERVER_UNAVAILABLE,
    SERVER_UNAVAILABLE_V3,
    Session,
    hello,
)
from gateway.transports.mqtt.steps import Step
from gateway.wire.call import Admitted, Hello, Rejected, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Router

if TYPE_CHECKING:
    from gateway.transports.mqtt.listener import MqttListener

log = structlog.get_logger()

_UNAVAILABLE = Rejected(SERVER_UNAVAILABLE_V3, SERVER_UNAVAILABLE)
_ANSWERED = (Status.OK, Status.REFUSED)


class Connection(Sender):
    """One client's socket. In turn: awaiting CONNECT, being greeted, open, closed.

    To the dialect's guest of an open session it is the `Link`. The guest's `closed` is called from
    within whatever ended the session: `close`, or a `push` that found the client too far behind.
    """

    __slots__ = ("_calls", "_decoder", "_early", "_greeting", "_session")

    def __init__(self, listener: MqttListener) -> None:
        super().__init__(listener)
        self._decoder = Decoder(max_packet=listener.terms.max_packet)
        self._session: Session | None = None
        self._greeting: asyncio.Task[None] | None = None
        self._early: list[Packet] | None = None
        self._calls = 0

    # ── asyncio.Protocol ──────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        if self._closed or self._listener.stopping:
            # Unacknowledged, so sent again elsewhere; read, so that closing does not reset.
            return
        self._decoder.feed(data)
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        session = self._session
        if session is not None and session.admitted is not None:
            log.debug("mqtt.closed", peer=self._peer.address, session=session.admitted.name)
            session.admitted = None  # it holds the guest, which may hold this link

    # ── packets in ────────────────────────────────────────────────────────────────────────────

    def _advance(self) -> None:
        """Handle packets until there is none, or as many calls are under way as may be."""
        listener, session = self._listener, self._session
        if listener.stopping:
            return
        terms = listener.terms
        if session is not None:
            session.heard_at = listener.loop.time()
        try:
            while self._under_way() < terms.max_inflight:
                packet = self._next_packet()
                if packet is None:
                    # Early packets are bounded twice.
                    self._read_on(not self._early or _size(self._early) <= terms.max_packet)
                    return
                self._handle(packet)
                if self._closed:
                    return
            self._read_on(False)
        except MalformedPacket as exc:
            self.close(exc.code)

    def _under_way(self) -> int:
        """Calls that are not answered, and answers that leave in pieces."""
        return self._calls if self._outflow is None else self._calls + self._outflow.bodies

    def _poured(self) -> None:
        if self._session is not None:
            # It took a body to its end, so it lives.
            self._session.heard_at = self._listener.loop.time()
        if self._paused:
            self._advance()

    def _next_packet(self) -> Packet | None:
        if self._early and self._greeting is None:
            packet = self._early.pop(0)
            self._early = self._early or None
            return packet
        return self._decoder.take()

    def _handle(self, packet: Packet) -> None:
        session = self._session
        if session is None:
            self._open(packet)
        elif self._greeting is not None:
            self._keep_for_later(packet)
        elif type(packet) is Publish:
            self._publish(session, packet)
        elif type(packet) is Subscribe:
            self._subscribe(session, packet)
        elif type(packet) is Unsubscribe:
            self._unsubscribe(session, packet)
        else:
            self._do(session.receive(packet))
            if type(packet) is Ping and self._guest is not None:
                self._guest.heard()

    def _subscribe(self, session: Session, packet: Subscribe) -> None:
        step, granted = session.subscribe(packet)
        self._do(step)
        for topic_filter in granted:
            if self._guest is not None:
                self._guest.subscribed(topic_filter)

    def _unsubscribe(self, session: Session, packet: Unsubscribe) -> None:
        step, revoked = session.unsubscribe(packet)
        self._do(step)
        for topic_filter in revoked:
            if self._guest is not None:
                self._guest.unsubscribed(topic_filter)

    def _keep_for_later(self, packet: Packet) -> None:
        if self._early is None:
            self._early = []
        if len(self._early) >= self._listener.max_early:
            self.close(QUOTA_EXCEEDED)
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
            self.close(BAD_AUTHENTICATION_METHOD)
            return
        self._opened_at = now
        listener.wheel.place(self, now + listener.greet_timeout_s)
        chain = self._transport.get_extra_info("chain", ())
        self._greeting = self._task(self._greet(self._session, hello(packet, self._peer, chain)))

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

    def _admit(self, session: Session, admitted: Admitted) -> None:
        listener = self._listener
        session.heard_at = listener.loop.time()
        assigned = "" if session.has_client_id else listener.new_client_id()
        self._send(session.admit(admitted, assigned))
        listener.wheel.drop(self)
        listener.wheel.place(self, session.deadline())
        log.debug("mqtt.opened", peer=self._peer.address, session=admitted.name)
        self._guest = admitted.guest
        if self._guest is not None:
            self._guest.opened(self)
        if not self._closed:
            self._advance()

    # ── PUBLISH ───────────────────────────────────────────────────────────────────────────────

    def _publish(self, session: Session, packet: Publish) -> None:
        step = session.publish(packet)
        if step is not None:
            self._do(step)
            return
        self._calls += 1
        assert session.admitted is not None
        self._task(self._serve(session, session.admitted, packet))

    async def _serve(self, session: Session, admitted: Admitted, packet: Publish) -> None:
        try:
            await self._answer(session, admitted, packet)
        except Exception:
            log.exception("mqtt.call_failed", peer=self._peer.address)
            self.cut()
        finally:
            self._calls -= 1
            self._done()
        if self._paused and not self._closed:
            self._advance()

    async def _answer(self, session: Session, admitted: Admitted, packet: Publish) -> None:
        router: Router = admitted.router  # it may be another by the time the call is answered

        def taken() -> None:
            nonlocal packet
            if packet.qos and not self._closed:
                self._do(session.take(packet))
                packet = Publish(packet.topic, packet.payload)

        route, reply = await router.answer(
            packet.topic,
            packet.payload,
            self._peer,
            device=admitted.device,
            session=admitted.state,
            guest=admitted.guest,
            taken=taken,
        )
        if self._closed:
            return
        topic = self._reply_topic(router, packet, route, reply)
        conduct = route.conduct if route is not None else {}
        now = self._listener.loop.time()
        self._do(session.settle(packet, reply, topic, now, conduct))
        if topic is not None and not self._closed:
            self._listener.wheel.place(self, session.deadline())

    def _reply_topic(
        self, router: Router, packet: Publish, route: Route | None, reply: Reply
    ) -> str | None:
        """Where the answer is published; None when it has no body on MQTT."""
        if reply.status not in _ANSWERED and reply.ack is None:
            return None
        if reply.topic:
            return reply.topic
        if route is None or route.mqtt_reply is None:
            return None
        if "{" not in route.mqtt_reply:
            return route.mqtt_reply
        found = router.match(packet.topic)
        return route.mqtt_reply.format_map(found[1]) if found is not None else None

    # ── what the dialect says unasked ─────────────────────────────────────────────────────────

    @property
    def version(self) -> int:
        """The protocol level: 3, 4 or 5."""
        assert self._session is not None
        return self._session.version

    def push(
        self,
        topic: str,
        body: bytes,
        delivered: Callable[[], None] | None = None,
        *,
        unasked: int = 1,
    ) -> bool:
        """Publish to the client. See `Link`; False, too, when the client takes none so large."""
        session = self._session
        if self._closed or session is None:
            return False
        step = session.push(topic, body, delivered, unasked)
        if step is None:
            return False
        self._do(step)
        return not self._closed

    def close(self, code: int, reason: str = "") -> None:
        """End the session with an MQTT 5 reason code; older clients see the connection close."""
        if not self._closed:
            session = self._session
            farewell = session.farewell(code, reason) if session is not None else b""
            self._do(Step(farewell, close=True))

    def _over(self) -> None:
        self._early = None
        greeting, self._greeting = self._greeting, None
        self._abandon(greeting)
        super()._over()

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    def check(self, now: float) -> None:
        session = self._session
        if self._closed:
            self._check_closing(now)
        elif session is None or session.admitted is None:
            self._check_opening(now)
        elif self._calls or self._outflow is not None:
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
        limit_s = listener.opening_timeout_s if session is None else listener.greet_timeout_s
        if now < self._opened_at + limit_s:
            listener.wheel.place(self, self._opened_at + limit_s)
        elif session is None:
            self._close()
        else:
            self._do(Step(session.reject(_UNAVAILABLE), close=True))


def _size(held: list[Packet]) -> int:
    return sum(len(packet.payload) for packet in held if isinstance(packet, Publish))
