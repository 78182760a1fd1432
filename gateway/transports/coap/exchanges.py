"""What is remembered of exchanges: answers given, and responses not yet acknowledged (RFC 7252,
section 4.2 to 4.5)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

Address: TypeAlias = tuple[Any, ...]
"""A socket address as the event loop gives it; opaque here, but equal for equal peers."""

_AGED_PER_TICK = 5000
# An entry whose time is not yet marked is younger than any mark.
_UNMARKED = 1e300


class Remembered:
    """Answers by exchange, for `lifetime_s` at least and about a second more at most.

    A dictionary, the order of its keys, and one time mark for all that was added within a second:
    an exchange costs its key, its datagram and about 60 bytes.
    """

    __slots__ = ("_added", "_answers", "_lifetime_s", "_marks", "_order", "_removed", "get")

    def __init__(self, lifetime_s: float) -> None:
        self._lifetime_s = lifetime_s
        self._answers: dict[bytes, bytes] = {}
        self._order: deque[bytes] = deque()
        self._marks: deque[tuple[float, int]] = deque()
        self._added = 0
        self._removed = 0
        self.get = self._answers.get
        """The answer given in an exchange, or None."""

    def __len__(self) -> int:
        return len(self._order)

    @property
    def oldest(self) -> float:
        """When the oldest was added, infinite for none. Good for comparing, to a second."""
        if self._marks:
            return self._marks[0][0]
        return _UNMARKED if self._order else math.inf

    def add(self, key: bytes, datagram: bytes) -> None:
        """Remember the answer to an exchange that is not remembered yet."""
        self._answers[key] = datagram
        self._order.append(key)
        self._added += 1

    def drop_oldest(self) -> None:
        del self._answers[self._order.popleft()]
        self._removed += 1
        while self._marks and self._marks[0][1] <= self._removed:
            self._marks.popleft()

    def age(self, now: float) -> None:
        """Mark the time, and forget what is too old: some thousands a call, never a long pause."""
        marks = self._marks
        if self._added > self._removed and (
            not marks or (self._added > marks[-1][1] and now >= marks[-1][0] + 1)
        ):
            marks.append((now, self._added))
        for _ in range(_AGED_PER_TICK):
            if not marks or marks[0][0] + self._lifetime_s > now:
                return
            self.drop_oldest()


class _Waiting:
    __slots__ = ("addr", "datagram", "due", "left", "wait_s")

    def __init__(
        self, datagram: bytes, addr: Address, due: float, wait_s: float, left: int
    ) -> None:
        self.datagram = datagram
        self.addr = addr
        self.due = due
        self.wait_s = wait_s
        self.left = left


class Unacknowledged:
    """Confirmable messages of ours, sent again until the peer says it has them.

    The waits are `ack_timeout_s` times 1 to 1.5, doubled each time, `max_retransmit` times
    (RFC 7252, section 4.2). Of more than `most` the oldest is given up.
    """

    __slots__ = (
        "_ack_timeout_s",
        "_jitter",
        "_max_retransmit",
        "_most",
        "_now",
        "_send",
        "_waiting",
    )

    def __init__(
        self,
        send: Callable[[bytes, Address], None],
        *,
        most: int,
        ack_timeout_s: float,
        max_retransmit: int,
        jitter: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._send = send
        self._most = most
        self._ack_timeout_s = ack_timeout_s
        self._max_retransmit = max_retransmit
        self._jitter = jitter
        self._now = now
        self._waiting: dict[tuple[Address, int], _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: tuple[Address, int]) -> bool:
        return key in self._waiting

    def send(self, message_id: int, datagram: bytes, addr: Address) -> None:
        """Send `datagram` now, and again until `settle` is called with its message id."""
        if len(self._waiting) >= self._most:
            del self._waiting[next(iter(self._waiting))]
        wait_s = self._ack_timeout_s * (1 + self._jitter() / 2)
        self._waiting[addr, message_id] = _Waiting(
            datagram, addr, self._now() + wait_s, wait_s, self._max_retransmit
        )
        self._send(datagram, addr)

    def settle(self, message_id: int, addr: Address) -> None:
        """The peer acknowledged or reset a message; one never sent, or long settled, is nothing."""
        self._waiting.pop((addr, message_id), None)

    def tick(self, now: float) -> None:
        """Send again what is due, give up what was sent often enough."""
        given_up = []
        for key, waiting in self._waiting.items():
            if waiting.due > now:
                continue
            if not waiting.left:
                given_up.append(key)
                continue
            waiting.left -= 1
            waiting.wait_s *= 2
            waiting.due = now + waiting.wait_s
            self._send(waiting.datagram, waiting.addr)
        for key in given_up:
            del self._waiting[key]
