"""Room for handshakes under way: who has to go when there is none left."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import islice
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_SHARE: Final = 4
"""The part of the room that one network may have when others want in: one in four."""
_LOOKED_AT: Final = 32
"""How many of the oldest are looked at: of a network that has its share, one is among them."""


class Room(Generic[T]):
    """Handshakes, the oldest first.

    - `most`: at once. One more makes the oldest go, if that has gone on for `stale_s`: who takes
      part in a handshake is done in two or three round trips. If it has not, one goes whose
      network has a quarter of the room, for another network's; so nobody keeps all others out by
      himself, and a flood from everywhere cannot throw out those that are being served.
    """

    __slots__ = ("_inside", "_networks", "_stale_s", "most")

    def __init__(self, most: int, *, stale_s: float = 2.0) -> None:
        self.most = most
        self._stale_s = stale_s
        self._inside: dict[T, tuple[str | bytes, float]] = {}
        self._networks: dict[str | bytes, int] = {}

    def __len__(self) -> int:
        return len(self._inside)

    def __iter__(self) -> Iterator[T]:
        return iter(self._inside)

    def began(self, one: T) -> float:
        """When it came in. Raises `KeyError` for one that is not here."""
        return self._inside[one][1]

    def enter(self, one: T, host: str, now: float) -> None:
        network = network_of(host)
        self._inside[one] = (network, now)
        self._networks[network] = self._networks.get(network, 0) + 1

    def leave(self, one: T) -> bool:
        """Whether it was here."""
        found = self._inside.pop(one, None)
        if found is None:
            return False
        left = self._networks[found[0]] - 1
        if left:
            self._networks[found[0]] = left
        else:
            del self._networks[found[0]]
        return True

    def in_the_way(self, host: str, now: float) -> T | None:
        """Who has to go for one more from `host`, now that there is no room; None: turn it away."""
        oldest = next(iter(self._inside))
        if now - self._inside[oldest][1] >= self._stale_s:
            return oldest
        share = max(1, self.most // _SHARE)
        if self._networks.get(network_of(host), 0) >= share:
            return None
        for one in islice(self._inside, _LOOKED_AT):
            if self._networks[self._inside[one][0]] >= share:
                return one
        return None


def network_of(host: str) -> str | bytes:
    """Whose an address is: of IPv6 the first 64 bits, which are one customer's at least."""
    if ":" not in host or host.startswith("::ffff:"):
        return host
    try:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8]
    except OSError:
        return host
