"""One device's socket: from bytes to frames to calls of the core, and back.

No task while it idles and no timer of its own. Frames that need the core are served by one task,
one after another, until there is none left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Final

import structlog

from gateway.transports.blynk.frames import (
    HEAD_BYTES,
    BadFrame,
    Code,
    Command,
    Decoder,
    Frame,
    encode,
    encode_response,
)
from gateway.transports.streams import Stream
from gateway.wire.call import Admitted, Hello, Rejected, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Router

if TYPE_CHECKING:
    from gateway.transports.blynk.listener import BlynkListener

log = structlog.get_logger()

USERNAME: Final = "device"
"""Of every login: the token alone says whose it is (contract, section 7.1)."""
TURN: Final = 32
"""Frames of one connection that are handled before others have their turn."""
CODES: Final[Mapping[Status, int]] = {
    Status.OK: Code.OK,
    Status.REFUSED: Code.NOT_ALLOWED,
    Status.UNDECODABLE: Code.ILLEGAL_BODY,
    Status.BAD_REQUEST: Code.ILLEGAL_BODY,
    Status.UNAUTHENTICATED: Code.INVALID_TOKEN,
    Status.FORBIDDEN: Code.NOT_ALLOWED,
    Status.CONFLICT: Code.NOT_ALLOWED,
    Status.UNACCEPTABLE: Code.ILLEGAL_BODY,
    Status.NOT_FOUND: Code.ILLEGAL_COMMAND,
    Status.METHOD_NOT_ALLOWED: Code.ILLEGAL_COMMAND,
    Status.GONE: Code.INVALID_TOKEN,
    Status.DELETED: Code.INVALID_TOKEN,
    Status.TIMEOUT: Code.TIMEOUT,
    Status.OVERLOADED: Code.QUOTA_LIMIT,
    Status.LIMITED: Code.QUOTA_LIMIT,
    Status.PENDING: Code.QUOTA_LIMIT,
    Status.FULL: Code.QUOTA_LIMIT,
    Status.FAILED: Code.SERVER_ERROR,
    Status.INTERNAL: Code.SERVER_ERROR,
}
"""How a call ended, in this wire's numbers; `Route.blynk_codes` stands above it."""

_LOGINS = (Command.LOGIN, Command.HW_LOGIN)
_UNAVAILABLE = Rejected(Code.SERVER_ERROR, Code.SERVER_ERROR)


class Connection(Stream):
    """In turn: awaiting the login, being greeted, open, closed.

    To the dialect's guest of an open session it is the `Link`. The guest's `closed` is called from
    within whatever ended the session: `close`, or a `push` that found the device too far behind.
    """

    __slots__ = (
        "_admitted",
        "_decoder",
        "_ended",
        "_gathered",
        "_heard_at",
        "_last_id",
        "_worker",
    )

    _listener: BlynkListener

    def __init__(self, listener: BlynkListener) -> None:
        super().__init__(listener)
        self._decoder = Decoder(listener.max_body)
        self._admitted: Admitted | None = None
        self._worker: asyncio.Task[None] | None = None
        self._ended = False
        self._gathered = 0
        self._last_id = 0

    # ── asyncio.Protocol ──────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        if self._closed or self._listener.stopping:
            # Unanswered, so sent again elsewhere; read, so that closing does not reset.
            return
        self._decoder.feed(data)
        if self._worker is None:
            self._advance()
        if self._worker is not None:
            self._read_on(self._decoder.waiting <= self._listener.max_body + HEAD_BYTES)

    def eof_received(self) -> bool:
        """The device sends no more: what it sent is served, then the connection closes."""
        self._ended = True
        if self._worker is None:
            self._close()
        return True  # closing is ours to do

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._admitted is not None:
            log.debug("blynk.closed", peer=self._peer.address, session=self._admitted.name)
            self._admitted = None  # it holds the guest, which may hold this link

    def pause_writing(self) -> None:
        """More than `max_write_buffer` bytes wait for a peer that does not read."""
        self.cut()

    # ── frames in ─────────────────────────────────────────────────────────────────────────────

    def _advance(self) -> None:
        """Begin with what has come. A ping alone, the most there is, costs no task."""
        frame = self._take()
        if frame is not None and self._answered_at_once(frame):
            frame = self._take()
        if frame is not None:
            self._worker = self._task(self._work(frame))

    def _take(self) -> Frame | None:
        if self._closed or self._listener.stopping:
            return None
        try:
            frame = self._decoder.take()
        except BadFrame as exc:
            log.debug("blynk.bad_frame", peer=self._peer.address, reason=str(exc))
            if exc.message_id:
                self._send(encode_response(exc.message_id, exc.code))
            self._close()
            return None
        if frame is not None:
            self._heard_at = self._listener.loop.time()
        return frame

    def _answered_at_once(self, frame: Frame) -> bool:
        """Whether it is one that needs nobody."""
        if self._admitted is None or frame.command not in (Command.PING, Command.RESPONSE):
            return False
        if frame.command == Command.PING:
            self._send(encode_response(frame.message_id, Code.OK))
            if self._guest is not None:
                self._guest.heard()
        return True

    async def _work(self, frame: Frame | None) -> None:
        try:
            turn = 0
            while frame is not None:
                if not self._answered_at_once(frame):
                    await self._serve(frame)
                turn += 1
                if turn % TURN == 0:
                    await asyncio.sleep(0)
                if self._overstayed(self._listener.loop.time()):
                    self._close()
                frame = self._take()
        except Exception:
            log.exception("blynk.call_failed", peer=self._peer.address)
            self.cut()
        finally:
            self._worker = None
            self._done()
        if self._ended:
            self._close()
        else:
            self._read_on(True)

    async def _serve(self, frame: Frame) -> None:
        admitted = self._admitted
        if admitted is not None:
            await self._answer(admitted, frame)
        elif frame.command in _LOGINS:
            await self._greet(frame)
        else:
            self._send(encode_response(frame.message_id, Code.NOT_AUTHENTICATED))
            self._close()

    # ── the login ─────────────────────────────────────────────────────────────────────────────

    async def _greet(self, frame: Frame) -> None:
        listener = self._listener
        self._opened_at = listener.loop.time()
        listener.wheel.place(self, self._opened_at + listener.greet_timeout_s)
        verdict: Admitted | Rejected
        try:
            verdict = await listener.greet(Hello("", USERNAME, frame.body, self._peer, 0))
        except Exception:
            log.exception("blynk.greeting_failed", peer=self._peer.address)
            verdict = _UNAVAILABLE
        if self._closed:
            return
        if isinstance(verdict, Rejected):
            self._send(encode_response(frame.message_id, verdict.code_v3))
            self._close()
        else:
            self._send(encode_response(frame.message_id, Code.OK))
            self._admit(verdict)

    def _admit(self, admitted: Admitted) -> None:
        listener = self._listener
        self._admitted = admitted
        self._heard_at = self._opened_at = listener.loop.time()
        self._watch()
        log.debug("blynk.opened", peer=self._peer.address, session=admitted.name)
        self._guest = admitted.guest
        if self._guest is not None:
            self._guest.opened(self)

    # ── calls ─────────────────────────────────────────────────────────────────────────────────

    async def _answer(self, admitted: Admitted, frame: Frame) -> None:
        router: Router = admitted.router  # it may be another by the time the call is answered
        route, reply = await router.answer(
            frame.name,
            frame.body,
            self._peer,
            device=admitted.device,
            session=admitted.state,
            guest=admitted.guest,
        )
        if self._closed:
            return
        self._reply(frame, route, reply)
        if reply.status is Status.GONE or reply.close is not None:
            self._close()
        else:
            self._watch()  # the call may have changed how long the session lasts

    def _reply(self, frame: Frame, route: Route | None, reply: Reply) -> None:
        status = reply.status
        if status is Status.IGNORED:
            return
        if reply.topic and status is Status.OK:
            self._send(encode(reply.topic, frame.message_id, reply.body))
            return
        codes = route.blynk_codes if route is not None else {}
        self._send(encode_response(frame.message_id, codes.get(status, CODES[status])))

    # ── what the dialect says unasked ─────────────────────────────────────────────────────────

    @property
    def version(self) -> int:
        """There is one version of this protocol."""
        return 0

    def push(
        self,
        topic: str,
        body: bytes,
        delivered: Callable[[], None] | None = None,
        *,
        unasked: int = 1,
    ) -> bool:
        """Send a command of ours; `topic` is its name. Nothing tells that it arrived, so
        `delivered` is called at once. False when the session is over, or no frame holds it."""
        if self._closed:
            return False
        try:
            data = encode(topic, self._next_id(), body)
        except ValueError:
            return False
        self._send(data)
        if delivered is not None:
            delivered()
        return not self._closed

    def close(self, code: int, reason: str = "") -> None:
        """End the session; with a code that is not 0, a RESPONSE says it before."""
        if not self._closed:
            if code:
                self._send(encode_response(self._next_id(), code))
            self._close()

    def _send(self, data: bytes) -> None:
        if self._closed:
            return
        if self._out is None:
            self._out, self._gathered = [], 0
            self._listener.flush_soon(self)
        self._out.append(data)
        self._gathered += len(data)
        if self._gathered > self._listener.max_write_buffer:
            self.flush()

    def _next_id(self) -> int:
        """Ids of ours go round, and none is 0."""
        self._last_id = self._last_id % 0xFFFF + 1
        return self._last_id

    def _over(self) -> None:
        worker = self._worker
        if worker is not None and self._admitted is None and worker is not asyncio.current_task():
            self._abandon(worker)  # a login nobody waits for; a call is brought to its end
        super()._over()

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    def _watch(self) -> None:
        self._listener.wheel.place(self, self._deadline())

    def _deadline(self) -> float:
        """When the session is over, if nothing more is heard."""
        admitted = self._admitted
        assert admitted is not None
        idle_s = self._listener.idle_s if admitted.idle_s is None else admitted.idle_s
        lasts_s = inf if admitted.lasts_s is None else admitted.lasts_s
        return min(self._heard_at + idle_s, self._opened_at + lasts_s)

    def _overstayed(self, now: float) -> bool:
        """Whether a session that ends at its time, whatever arrives, has come to that."""
        lasts_s = None if self._admitted is None else self._admitted.lasts_s
        return lasts_s is not None and now >= self._opened_at + lasts_s

    def check(self, now: float) -> None:
        if self._closed:
            self._transport.abort()  # the last bytes had their time to leave
        elif self._admitted is None:
            self._check_login(now)
        elif self._worker is not None:
            self._listener.wheel.place(self, now)  # it waits for us, not we for it
        elif now >= self._deadline():
            self._close()
        else:
            self._listener.wheel.place(self, self._deadline())

    def _check_login(self, now: float) -> None:
        listener = self._listener
        greeting = self._worker is not None
        limit_s = listener.greet_timeout_s if greeting else listener.opening_timeout_s
        if now < self._opened_at + limit_s:
            listener.wheel.place(self, self._opened_at + limit_s)
            return
        if greeting:
            self._send(encode_response(1, Code.SERVER_ERROR))  # devices log in with 1
        self._close()
