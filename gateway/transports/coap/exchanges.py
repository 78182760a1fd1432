"""What is remembered of exchanges: answers given, and responses not yet acknowledged (RFC 7252,
section 4.2 to 4.5)."""

from __future__ import annotations

import heapq
import math
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

Address: TypeAlias = tuple[Any, ...]
"""A socket address as the event loop gives it; opaque here, but equal for equal peers."""

_AGED_PER_TICK = 5000
_STALE_ALLOWED = 4096
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


class Party(Protocol):
    """Whoever wants to hear what became of a confirmable message."""

    def acknowledged(self) -> None:
        """The peer has it."""

    def lost(self) -> None:
        """The peer reset it, or never answered."""


class _Waiting:
    __slots__ = ("addr", "datagram", "left", "message_id", "over", "party", "wait_s")

    def __init__(
        self,
        message_id: int,
        datagram: bytes,
        addr: Address,
        party: Party | None,
        wait_s: float,
        left: int,
    ) -> None:
        self.message_id = message_id
        self.datagram = datagram
        self.addr = addr
        self.party = party
        self.wait_s = wait_s
        self.left = left
        self.over = False


class Unacknowledged:
    """Confirmable messages of ours, sent again until the peer says it has them.

    The waits are `ack_timeout_s` times 1 to 1.5, doubled each time, `max_retransmit` times
    (RFC 7252, section 4.2). Of more than `most` the oldest is given up.

    A tick costs what is due, not what waits: messages stand in a heap by their time. One settled
    before it is due stays there as a husk until then, or until husks are the larger part.
    """

    __slots__ = (
        "_ack_timeout_s",
        "_due",
        "_jitter",
        "_max_retransmit",
        "_most",
        "_now",
        "_send",
        "_sequence",
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
        self._waiting: OrderedDict[tuple[Address, int], _Waiting] = OrderedDict()
        self._due: list[tuple[float, int, _Waiting]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: tuple[Address, int]) -> bool:
        return key in self._waiting

    def send(
        self, message_id: int, datagram: bytes, addr: Address, party: Party | None = None
    ) -> None:
        """Send `datagram` now, and again until `settle` is called with its message id.

        `party` is told how it ended, once.
        """
        given_up = None
        if len(self._waiting) >= self._most:
            oldest, message_id_of_oldest = next(iter(self._waiting))
            given_up = self._drop(message_id_of_oldest, oldest)
        wait_s = self._ack_timeout_s * (1 + self._jitter() / 2)
        waiting = _Waiting(message_id, datagram, addr, party, wait_s, self._max_retransmit)
        self._waiting[addr, message_id] = waiting
        self._wait(waiting, self._now())
        self._send(datagram, addr)
        if given_up is not None and given_up.party is not None:
            given_up.party.lost()

    def settle(self, message_id: int, addr: Address, *, reset: bool = False) -> bool:
        """The peer acknowledged or reset a message. False for one not waiting (any more)."""
        waiting = self._drop(message_id, addr)
        if waiting is None:
            return False
        party = waiting.party
        if party is not None:
            if reset:
                party.lost()
            else:
                party.acknowledged()
        return True

    def forget(self, message_id: int, addr: Address) -> None:
        """Send it no more, and tell nobody."""
        self._drop(message_id, addr)

    def tick(self, now: float) -> None:
        """Send again what is due, give up what was sent often enough."""
        due = self._due
        while due and due[0][0] <= now:
            waiting = heapq.heappop(due)[2]
            if waiting.over:
                continue
            if waiting.left:
                waiting.left -= 1
                waiting.wait_s *= 2
                self._wait(waiting, now)
                self._send(waiting.datagram, waiting.addr)
            else:
                del self._waiting[waiting.addr, waiting.message_id]
                waiting.over = True
                if waiting.party is not None:
                    waiting.party.lost()

    def _wait(self, waiting: _Waiting, now: float) -> None:
        self._sequence += 1  # so that no two messages are ever compared
        heapq.heappush(self._due, (now + waiting.wait_s, self._sequence, waiting))

    def _drop(self, message_id: int, addr: Address) -> _Waiting | None:
        waiting = self._waiting.pop((addr, message_id), None)
        if waiting is not None:
            waiting.over = True
            waiting.datagram = b""
            if len(self._due) > 2 * len(self._waiting) + _STALE_ALLOWED:
                # In place: a tick may be under way, and look at this very list.
                self._due[:] = [entry for entry in self._due if not entry[2].over]
                heapq.heapify(self._due)
        return waiting


class MessageIds:
    """Ids for messages of ours that are no acknowledgements (RFC 7252, section 4.4).

    Peers that hear from us often (`keep`) have ids of their own, in sequence: a common counter
    goes round within seconds when thousands are notified, and might meet one peer in step, which
    would take the message for an old one.
    """

    __slots__ = ("_common", "_own", "_unacknowledged")

    def __init__(self, unacknowledged: Unacknowledged) -> None:
        self._unacknowledged = unacknowledged
        self._common = secrets.randbelow(0x10000)
        self._own: dict[Address, list[int]] = {}  # the last id, and how many keep it

    def keep(self, addr: Address) -> None:
        """From now on `addr` has ids of its own, until `release` was called as often."""
        own = self._own.setdefault(addr, [secrets.randbelow(0x10000), 0])
        own[1] += 1

    def release(self, addr: Address) -> None:
        own = self._own[addr]
        own[1] -= 1
        if not own[1]:
            del self._own[addr]

    def next(self, addr: Address) -> int:
        """An id that no unacknowledged message to `addr` has."""
        own = self._own.get(addr)
        last = self._common if own is None else own[0]
        while True:
            last = last + 1 & 0xFFFF
            if (addr, last) not in self._unacknowledged:
                break
        if own is None:
            self._common = last
        else:
            own[0] = last
        return last
