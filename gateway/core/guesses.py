"""Wrong secrets: how long who showed one has to wait, and when it is enough.

Who guesses must be slowed down and stopped, and a fleet must never be shut out: thousands of its
devices come from one address (NAT), some of them with a wrong secret, and all at once. So

- What is counted is *different* wrong pairs of key and secret. A broken device shows the same one
  again and again: that is no guess, and is counted for that very pair alone, which then waits, and
  nobody else beside it. All the devices that still have last year's secret are one wrong pair.
- They are counted at each address (of IPv6: its /64, which is what one customer has), and for each
  key, from wherever they come. The first few cost nothing. Then the wait doubles from one second
  on, up to a bound; then the door is shut for a while, which is told once (`Shut`). After that
  while the waits begin anew, so that an address that is shut again and again still lets its good
  devices through in between.
- In a wait what is shown is looked at, though its answer is that it is too early: one that is wrong
  counts, so that whoever does not wait is shut out all the sooner; one that is right is remembered.
  When the door is shut nothing is looked at.
- An address that lately showed the right secret of a key does not wait for that key, whatever else
  is shown from there: who knows the secret has no need to guess it. When much is guessed beside it,
  that is told, and nobody is shut out. It is no pass for other keys.
- What was wrong for a key from elsewhere counts only at addresses that have shown something wrong
  themselves: a botnet has one guess for each of its addresses, and cannot shut out a fleet.
- Keys that exist and keys that do not are counted alike, so that waits tell nobody which do; but
  apart, so that inventing keys makes nothing forgotten about those that exist.

Counts are of this process and forgotten at its end. Each table is bounded; who was not heard of for
the longest time is forgotten first. Texts that were shown are kept as keyed digests alone.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from typing import Generic, TypeVar

from msgspec import Struct

from gateway.core.model import ProvisionKey, Secret

K = TypeVar("K")

_SUBNET_BYTES = 8
"""Of an IPv6 address: a customer's network has at least so many bits of its own to choose."""


class Leniency(Struct, frozen=True, kw_only=True):
    """How much is forgiven. `free` wrong ones cost nothing, each of the `more` that follow twice
    the wait of the one before, up to `longest_wait_s`; the last of them shuts the door for
    `shut_s`. Both what was wrong and what was right is forgotten `forget_s` after the last of it.
    `most`: addresses, keys, pairs that are remembered, of each kind.
    """

    free: int = 10
    more: int = 20
    longest_wait_s: int = 300
    shut_s: int = 900
    forget_s: int = 3600
    most: int = 50_000


class Whom(StrEnum):
    """Who is shut out."""

    ADDRESS = "address"
    KEY = "key"
    """Everybody who has shown something wrong, from that key."""
    PAIR = "pair"
    """Those who show this very pair of key and secret, from that address."""
    NOBODY = "nobody"
    """Right ones come from the same address."""


class Shut(Struct, frozen=True):
    """The door was shut just now: for whom, for how long, after how many wrong ones."""

    whom: Whom
    count: int
    seconds: int


class Guessed(Struct, frozen=True):
    """What a wrong one led to: how long to wait in ms (0: not at all), and which doors it shut."""

    wait_ms: int = 0
    shut: tuple[Shut, ...] = ()


class Toll(Struct, frozen=True):
    """What has to be waited for in ms (0: nothing). `shut`: do not even look at what is shown."""

    wait_ms: int = 0
    shut: bool = False


_FREE = Toll()


class _Tally:
    """Wrong ones of somebody: how many, the last of them, and until when to wait. Times are ms."""

    __slots__ = ("at", "count", "shut", "until")

    def __init__(self, now: int) -> None:
        self.count = 0
        self.at = now
        self.until = 0
        self.shut = False

    def begin_again(self, count: int) -> None:
        self.count, self.until, self.shut = count, 0, False

    def wait(self, now: int, most_ms: int) -> int:
        """At most `most_ms`, also when the clock was set back."""
        return min(max(0, self.until - now), most_ms)


class _Tallies(Generic[K]):
    """The tallies of one kind, those heard of last at the end."""

    __slots__ = ("_known", "_rule")

    def __init__(self, rule: Leniency) -> None:
        self._known: OrderedDict[K, _Tally] = OrderedDict()
        self._rule = rule

    def __len__(self) -> int:
        return len(self._known)

    def get(self, name: K, now: int) -> _Tally | None:
        tally = self._known.get(name)
        if tally is None:
            return None
        if now - tally.at > self._rule.forget_s * 1000 and now >= tally.until:
            del self._known[name]
            return None
        if tally.shut and now >= tally.until:
            tally.begin_again(self._rule.free)
        return tally

    def of(self, name: K, now: int) -> _Tally:
        """The tally of `name`, which is heard of just now."""
        tally = self.get(name, now)
        if tally is None:
            if len(self._known) >= self._rule.most:
                self._known.popitem(last=False)
            tally = self._known[name] = _Tally(now)
        else:
            tally.at = now
            self._known.move_to_end(name)
        return tally

    def forget(self, name: K) -> None:
        self._known.pop(name, None)


class Guesses:
    """Counts what is wrong at addresses, for keys and for pairs; remembers what is right."""

    def __init__(self, rule: Leniency | None = None) -> None:
        self._rule = rule = rule or Leniency()
        self._most_ms = max(rule.longest_wait_s, rule.shut_s) * 1000
        self._salt = secrets.token_bytes(16)
        self._addresses: _Tallies[str] = _Tallies(rule)
        self._keys: _Tallies[bytes] = _Tallies(rule)
        self._strange_keys: _Tallies[bytes] = _Tallies(rule)
        self._pairs: _Tallies[bytes] = _Tallies(rule)
        self._guessed: _Tallies[bytes] = _Tallies(rule)
        """Pairs from anywhere: whether one is new for its key."""
        self._right: _Tallies[tuple[str, Secret]] = _Tallies(rule)
        """Of address and key that were right; counts what is wrong beside it."""

    def remembered(self) -> int:
        """How many addresses, keys and pairs are remembered in all."""
        keys = len(self._keys) + len(self._strange_keys)
        pairs = len(self._pairs) + len(self._guessed) + len(self._right)
        return len(self._addresses) + keys + pairs

    def toll(self, address: str, proof: ProvisionKey, now: int) -> Toll:
        """What `address` has to wait for before it may show `proof`."""
        origin = origin_of(address)
        tally = self._addresses.get(origin, now)
        if tally is None:
            return _FREE  # nothing wrong came from there: nearly everybody
        concerned = [self._pairs.get(self._digest(origin, proof), now)]
        if self._right.get((origin, proof.key), now) is None:
            key = self._digest("", proof.key)
            concerned += [tally, self._keys.get(key, now), self._strange_keys.get(key, now)]
        return self._longest(concerned, now)

    def wrong(self, address: str, proof: ProvisionKey, now: int, *, known: bool) -> Guessed:
        """`proof` is wrong; `known`: there is such a key."""
        origin = origin_of(address)
        at_address = self._addresses.of(origin, now)
        pair = self._pairs.of(self._digest(origin, proof), now)
        beside = self._right.get((origin, proof.key), now)
        shut = [self._count(pair, Whom.PAIR, now)]
        concerned: list[_Tally | None] = [pair]
        if pair.count == 1:
            whom = Whom.ADDRESS if beside is None else Whom.NOBODY
            shut.append(self._count(beside or at_address, whom, now))
        keys = self._keys if known else self._strange_keys
        for_key = keys.of(self._digest("", proof.key), now)
        guessed = self._guessed.of(self._digest("", proof), now)
        guessed.count += 1
        if guessed.count == 1:
            shut.append(self._count(for_key, Whom.KEY, now))
        if beside is None:
            concerned += [at_address, for_key]
        told = tuple(one for one in shut if one is not None)
        return Guessed(self._longest(concerned, now).wait_ms, told)

    def right(self, address: str, proof: ProvisionKey, now: int) -> None:
        """`proof` is right. No count of anything wrong is changed by it, but its own, if it was
        wrong until now."""
        origin = origin_of(address)
        self._right.of((origin, proof.key), now)
        if self._addresses.get(origin, now) is not None:
            self._pairs.forget(self._digest(origin, proof))

    def _count(self, tally: _Tally, whom: Whom, now: int) -> Shut | None:
        """One more; its wait begins now."""
        rule = self._rule
        tally.count += 1
        if tally.count <= rule.free or (tally.shut and now < tally.until):
            return None
        beyond = tally.count - rule.free
        if beyond < rule.more:
            tally.until = now + min(2 ** min(beyond - 1, 30), rule.longest_wait_s) * 1000
            return None
        tally.shut, tally.until = True, now + rule.shut_s * 1000
        return Shut(whom, tally.count, rule.shut_s)

    def _longest(self, concerned: list[_Tally | None], now: int) -> Toll:
        wait_ms, shut = 0, False
        for tally in concerned:
            if tally is not None and (own_ms := tally.wait(now, self._most_ms)):
                wait_ms, shut = max(wait_ms, own_ms), shut or tally.shut
        return Toll(wait_ms, shut) if wait_ms else _FREE

    def _digest(self, origin: str, shown: ProvisionKey | Secret) -> bytes:
        key = shown.key if isinstance(shown, ProvisionKey) else shown
        texts = [origin, key.reveal()]
        if isinstance(shown, ProvisionKey):
            texts.append(shown.secret.reveal())
        digest = blake2b(digest_size=16, key=self._salt)
        for text in texts:
            raw = text.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(4) + raw)
        return digest.digest()


def origin_of(address: str) -> str:
    """Whose an address is: itself in IPv4, its /64 in IPv6. What is no address is itself."""
    return _subnet(address) if ":" in address else address


@lru_cache(maxsize=1024)
def _subnet(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return found.packed[:_SUBNET_BYTES].hex()
