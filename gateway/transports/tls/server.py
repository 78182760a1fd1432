"""What the TLS connections of one listener share: room, deadlines, and the pace of handshakes.

A handshake costs a fifth of a millisecond to several, and a power cut brings thousands at once.
Their bytes wait in line and are worked off for a few milliseconds in each turn of the loop, so that
those who are in already do not wait behind them. Handshakes that were begun go first: work on them
is lost when they come too late.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

from gateway.core.model import Wire
from gateway.transports.room import Room
from gateway.transports.tls.contexts import Contexts
from gateway.transports.tls.stream import TlsStream
from gateway.transports.tls.tally import Tally
from gateway.wire.call import Report, Vouch

_HALF = "half_handshake_flood"


class TlsServer:
    """Puts TLS under the protocols of one listener.

    - `handshake_timeout_s`: until a handshake is done, and whoever showed a certificate is known.
    - `max_handshakes`: under way at once; beyond it one that takes long makes room, or one of a
      network that has many (see `Room`), else the new connection is closed.
    - `report`: told of handshakes that were not finished, turned away, or refused for the size of
      the client's chain: each reason at most once in `report_every_s` seconds.
    - `turn_s`: how long handshakes are worked on before others have their turn.
    """

    def __init__(
        self,
        contexts: Contexts,
        *,
        handshake_timeout_s: float = 10.0,
        max_handshakes: int = 2000,
        report: Report | None = None,
        report_every_s: float = 10.0,
        turn_s: float = 0.003,
    ) -> None:
        self.contexts = contexts
        self.tally = Tally(report, report_every_s)
        self._timeout_s = handshake_timeout_s
        self._turn_s = turn_s
        self._under_way: Room[TlsStream] = Room(max_handshakes)
        self._fresh: deque[TlsStream] = deque()
        self._begun: deque[TlsStream] = deque()
        self._awake = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def handshakes(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    def under(
        self,
        protocol: Callable[[], asyncio.Protocol],
        *,
        wire: Wire,
        vouch: Vouch | None = None,
    ) -> Callable[[], asyncio.Protocol]:
        """Makes protocols for sockets, each of which serves one `protocol` once TLS stands.

        With `vouch`, a client that showed a certificate is served when it is answered; what it
        answered is the transport's extra information `verdict`.
        """
        return lambda: TlsStream(self, protocol, wire, vouch)

    def stop(self) -> None:
        """Cut the handshakes under way. Those that are done are the listener's to close."""
        for stream in list(self._under_way):
            stream.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.tally.flush()

    # ── what streams ask of it ────────────────────────────────────────────────────────────────

    def enter(self, stream: TlsStream) -> bool:
        """Count a handshake in, or say that there is no room."""
        room, host = self._under_way, stream.host
        loop = asyncio.get_running_loop()
        now = loop.time()
        if len(room) >= room.most:
            former = room.in_the_way(host, now)
            self.tally.count(_HALF, (former or stream).peer)
            if former is None:
                return False
            room.leave(former)
            former.abort()
        room.enter(stream, host, now)
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._cut_late)
        return True

    def leave(self, stream: TlsStream) -> None:
        """A handshake is done, or its connection is lost."""
        self._under_way.leave(stream)

    def queue(self, stream: TlsStream, *, begun: bool) -> None:
        """Have `stream.proceed` called when it is its turn."""
        (self._begun if begun else self._fresh).append(stream)
        if not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._turn)

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    def _turn(self) -> None:
        until = perf_counter() + self._turn_s
        begun, fresh = self._begun, self._fresh
        try:
            while begun or fresh:
                (begun or fresh).popleft().proceed()
                if perf_counter() >= until:
                    break
        finally:  # a protocol that fails must not stop all others
            self._awake = bool(begun or fresh)
            if self._awake:
                asyncio.get_running_loop().call_soon(self._turn)

    def _cut_late(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        late = []
        for stream in self._under_way:
            until = self._under_way.began(stream) + self._timeout_s
            if until > now:
                self._timer = loop.call_at(until, self._cut_late)
                break
            late.append(stream)
        for stream in late:
            self.tally.count(_HALF, stream.peer)
            self.leave(stream)
            stream.abort()
