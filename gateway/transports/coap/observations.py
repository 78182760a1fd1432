"""Observations: who watches what, and notifications on their way to them (RFC 7641).

To one observer they go one at a time, the next when the last is acknowledged (NSTART, RFC 7252
section 4.7). To all observers together they go paced, so that thousands at once neither overflow
the kernel's buffers nor keep the acknowledgements from being read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from gateway.transports.coap import message as coap
from gateway.transports.coap.blocks import Key
from gateway.transports.coap.exchanges import Address, MessageIds, Unacknowledged
from gateway.transports.coap.message import CON, NON, Answer, assemble
from gateway.wire.call import Reply

_VERSION: Final = 0x40
_LARGEST_NUMBER: Final = 0xFFFFFF
_TRUST_S: Final = 43_200.0
"""A notification is confirmable, whatever was asked for, once nothing was acknowledged for this
long. RFC 7641, section 4.5, demands it every 24 h: else nobody would miss a peer that is gone."""
_DELETED: Final = Answer(coap.DELETED)

Delivered: TypeAlias = Callable[[], None]
_Waiting: TypeAlias = tuple[Reply, Delivered | None]

# What an observation is doing.
_OPENING: Final = 0  # its registration is being served
_IDLE: Final = 1
_READY: Final = 2  # it stands in line to send
_SENT: Final = 3  # the peer has something to acknowledge
_OVER: Final = 4  # the peer ended it; and from here on there is nothing to do
_ENDED: Final = 5  # this side did


class Observed(Struct, frozen=True):
    """What is observed: the key of its responses in blocks, and how the peer wants them.

    `content_format` is the peer's own of its request, `exponent` the size of blocks it asked for.
    """

    key: Key
    content_format: bytes | None = None
    exponent: int | None = None


class Notice(Struct, frozen=True, gc=False):
    """One notification to be put in words; `number` is that of its Observe option."""

    observed: Observed
    reply: Reply
    number: int


class Observation:
    """One peer's interest in one resource: an `Observer` for dialects, a `Party` for messages.

    Held by `Observations` under the peer's address and its token; about 0.9 KB while idle.
    """

    __slots__ = (
        "_all",
        "_delivered",
        "_number",
        "_on_end",
        "_waiting",
        "addr",
        "confirmable",
        "heard_at",
        "message_id",
        "observed",
        "state",
        "token",
    )

    def __init__(
        self,
        all_: Observations,
        addr: Address,
        token: bytes,
        confirmable: bool,
        observed: Observed,
    ) -> None:
        self._all = all_
        self.addr = addr
        self.token = token
        self.confirmable = confirmable
        self.observed = observed
        self.heard_at = all_.now()
        self.state = _OPENING
        self.message_id = -1
        self._number = 0
        self._waiting: deque[_Waiting] | None = None  # an empty one would cost 0.6 KB
        self._delivered: Delivered | None = None
        self._on_end: Callable[[], None] | None = None

    @property
    def identity(self) -> str:
        """Address, port and token."""
        return f"{self.observed.key[0]} {self.token.hex()}"

    # ── for the dialect ───────────────────────────────────────────────────────────────────────

    def notify(self, reply: Reply, delivered: Delivered | None = None) -> bool:
        """Send a notification, after those that wait. False when the observation is over.

        It is over, too, when more wait than may; `on_end` is called then.
        """
        if self.state >= _OVER:
            return False
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = deque()
        elif len(waiting) >= self._all.most_waiting:
            self.lost()
            return False
        waiting.append((reply, delivered))
        if self.state == _IDLE:
            self._stand_in_line()
        return True

    def end(self) -> None:
        """Send 2.02 without an Observe option, the last the peer hears; `on_end` is not called."""
        if self.state >= _OVER:
            return
        opening = self.state == _OPENING
        message_id = self._all.next_message_id(self.addr)
        self._close(_ENDED)
        if not opening:  # else the response to its registration says so
            self._all.send_last(self, message_id, _DELETED, self.confirmable)

    # ── for the endpoint ──────────────────────────────────────────────────────────────────────

    def accept(self, on_end: Callable[[], None]) -> bool:
        """The dialect agrees. False when the observation is over already: cancelled, or ended."""
        if self.state >= _OVER:
            if self.state == _OVER:
                on_end()
            return False
        self._on_end = on_end
        return True

    def answered(self, *, separately: bool) -> None:
        """The response to the registration was sent, `separately` as a CON of its own."""
        if self._on_end is None:
            self._close(_OVER)
        if self.state != _OPENING:
            return
        self.state = _SENT if separately else _IDLE
        if self.state == _IDLE and self._waiting:
            self._stand_in_line()

    def acknowledged(self) -> None:
        """The peer has the last notification, or the separate response to its registration."""
        if self.state >= _OVER:
            return
        self.heard_at = self._all.now()
        delivered, self._delivered = self._delivered, None
        self._rest()
        if delivered is not None:
            delivered()

    def lost(self) -> None:
        """The peer ended it: cancelled, reset a notification, or is silent."""
        on_end = self._close(_OVER)
        if on_end is not None:
            on_end()

    def transmit(self) -> None:
        """Send the first of what waits."""
        waiting = self._waiting
        assert waiting, "nothing waits"
        reply, delivered = waiting.popleft()
        self._number = self._number + 1 & _LARGEST_NUMBER
        notice = Notice(self.observed, reply, self._number)
        if self.confirmable or self._all.now() - self.heard_at >= _TRUST_S:
            self.state = _SENT
            self._delivered = delivered
            self._all.send(self, notice, confirmable=True)
            return
        self._all.send(self, notice, confirmable=False)
        self._rest()
        if delivered is not None:
            delivered()

    def _rest(self) -> None:
        self.state = _IDLE
        if self._waiting:
            self._stand_in_line()
        else:
            self._waiting = None

    def _stand_in_line(self) -> None:
        self.state = _READY
        self._all.stand_in_line(self)

    def _close(self, state: int) -> Callable[[], None] | None:
        """Over, and nothing waits any more. What was to be called at the end, once."""
        if self.state >= _OVER:
            return None
        self._all.forget(self)
        self.state = state
        self._waiting = self._delivered = None
        on_end, self._on_end = self._on_end, None
        return on_end


class Words(Protocol):
    """Who makes a response of a notice."""

    def notify(self, notice: Notice) -> Answer: ...


class Observations:
    """All observations of one endpoint, and the line of those who have something to send.

    - `most`: observations at one time; further ones are not begun.
    - `most_waiting`: notifications that wait for one observer; with more, its observation ends.
    - `burst`, `pace_s`: at most so many notifications are sent in so many seconds. 256 are about
      half of what the default receive buffer of Linux holds in acknowledgements.
    - `writable`: false while the socket takes nothing.
    """

    def __init__(
        self,
        words: Words,
        send: Callable[[bytes, Address], None],
        unacknowledged: Unacknowledged,
        message_ids: MessageIds,
        *,
        most: int = 20_000,
        most_waiting: int = 100,
        burst: int = 256,
        pace_s: float = 0.01,
        now: Callable[[], float] = time.monotonic,
        writable: Callable[[], bool] = lambda: True,
    ) -> None:
        self.most_waiting = most_waiting
        self.now = now
        self._words = words
        self._send = send
        self._unacknowledged = unacknowledged
        self._message_ids = message_ids
        self.next_message_id = message_ids.next
        self._most = most
        self._burst = burst
        self._pace_s = pace_s
        self._writable = writable
        self._loop = asyncio.get_running_loop()
        self._kept: dict[tuple[Address, bytes], Observation] = {}
        self._of: dict[Address, list[Observation]] = {}
        # A RST to a NON can only be told by its message id, so the last of each is known.
        self._unreliable: dict[tuple[Address, int], Observation] = {}
        self._line: deque[Observation] = deque()
        self._sent = 0
        self._sending = False
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def begin(
        self, addr: Address, token: bytes, confirmable: bool, observed: Observed
    ) -> Observation | None:
        """An observation that is opening, in place of one of the same identity; None when full."""
        key = (addr, token)
        former = self._kept.get(key)
        if former is not None:
            former.lost()
        if len(self._kept) >= self._most:
            return None
        observation = Observation(self, addr, token, confirmable, observed)
        self._kept[key] = observation
        self._of.setdefault(addr, []).append(observation)
        self._message_ids.keep(addr)
        return observation

    def cancel(self, addr: Address, token: bytes) -> bool:
        """The peer wants no more. False when there is no such observation."""
        found = self._kept.get((addr, token))
        if found is None:
            return False
        found.lost()
        return True

    def reset(self, message_id: int, addr: Address) -> None:
        """The peer reset a message of ours that was to be acknowledged by nobody."""
        found = self._unreliable.get((addr, message_id))
        if found is not None:
            found.lost()

    def lose(self, addr: Address) -> None:
        """The peer is gone: all its observations are over."""
        for observation in list(self._of.get(addr, ())):
            observation.lost()

    def close(self, last: Answer) -> None:
        """End them all: each is told `last` once, and its `on_end` is called."""
        for observation in list(self._kept.values()):
            if _OPENING < observation.state < _OVER:
                message_id = self.next_message_id(observation.addr)
                self.send_last(observation, message_id, last, confirmable=False)
            observation.lost()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ── for observations ──────────────────────────────────────────────────────────────────────

    def forget(self, observation: Observation) -> None:
        addr, message_id = observation.addr, observation.message_id
        del self._kept[addr, observation.token]
        alike = self._of[addr]
        alike.remove(observation)
        if not alike:
            del self._of[addr]
        self._message_ids.release(addr)
        if observation.state == _SENT:
            self._unacknowledged.forget(message_id, addr)
        self._unreliable.pop((addr, message_id), None)

    def send(self, observation: Observation, notice: Notice, *, confirmable: bool) -> None:
        addr = observation.addr
        message_id = self.next_message_id(addr)
        answer = self._words.notify(notice)
        datagram = _compose(observation.token, answer, message_id, confirmable)
        self._unreliable.pop((addr, observation.message_id), None)
        observation.message_id = message_id
        if confirmable:
            self._unacknowledged.send(message_id, datagram, addr, observation)
            return
        self._unreliable[addr, message_id] = observation
        self._send(datagram, addr)

    def send_last(
        self, observation: Observation, message_id: int, answer: Answer, confirmable: bool
    ) -> None:
        addr = observation.addr
        datagram = _compose(observation.token, answer, message_id, confirmable)
        if confirmable:
            self._unacknowledged.send(message_id, datagram, addr)
        else:
            self._send(datagram, addr)

    def stand_in_line(self, observation: Observation) -> None:
        """It has something to send: now, if there is room; else soon, after those before it."""
        self._line.append(observation)
        if not self._sending:
            self._go_on()

    def _go_on(self) -> None:
        self._sending = True
        try:
            while self._line and self._sent < self._burst and self._writable():
                observation = self._line.popleft()
                if observation.state == _READY:
                    self._sent += 1
                    observation.transmit()
        finally:
            self._sending = False
            if self._timer is None and (self._sent or self._line):
                self._timer = self._loop.call_later(self._pace_s, self._turn)

    def _turn(self) -> None:
        self._timer = None
        self._sent = 0
        self._go_on()


def _compose(token: bytes, answer: Answer, message_id: int, confirmable: bool) -> bytes:
    first = _VERSION | (CON if confirmable else NON) << 4 | len(token)
    start = bytes((first, answer.code)) + message_id.to_bytes(2, "big") + token
    return assemble(start, answer.options, answer.payload)
