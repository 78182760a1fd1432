"""Wrong secrets: how long who showed one has to wait, and when it is enough.

Who guesses must be slowed down and stopped, and nobody must be able to shut a fleet out: thousands
of its devices come from one address (NAT), some of them with a wrong secret, and all at once; and
who shares their address, or forges it in a datagram, must not keep them out. So

- What is counted is *different* wrong pairs of key and secret. A broken device shows the same one
  again and again: that is no guess, and is answered as ever, however often. All the devices that
  still have last year's secret are one wrong pair.
- They are counted at each address (of IPv6: its /64, which is what one customer has), for each key
  at that address, and for each key from wherever they come. The first few cost nothing. Then the
  wait doubles from one second on, up to a bound; then it is long, which is told once (`Shut`).
  After that the waits begin anew.
- The wait of an address is told to what is wrong alone, and not where a right secret of any key
  came from lately: other fleets may live there.
- The waits of a key at an address do not hold where its right secret came from lately: who knows
  it has no need to guess it. When much is guessed beside it, that is told, and nobody is shut out.
- What was wrong for a key from elsewhere counts only at addresses that have shown several wrong
  ones for that very key themselves: a botnet has so many guesses for each of its addresses, and
  cannot shut out a fleet with a broken device or two.
- In a wait what is shown is still looked at: one that is right is served, and one that is wrong
  counts, so that whoever does not wait is shut out all the sooner. When the door to a key is shut,
  nothing is looked at but one request in `PEEK_MS`: that is nothing to who guesses, and opens the
  door to a fleet whose address a guesser shares, as soon as one of its devices has its turn.
- What is wrong in datagrams that prove no address is counted apart (`origin_of`): who forges
  addresses shuts out nobody who comes over TCP or TLS.
- Keys that exist and keys that do not are counted alike, so that waits tell nobody which do; but
  apart, so that inventing keys makes nothing forgotten about those that exist.

Counts are of this process and forgotten at its end. Each table is bounded; who was not heard of for
the longest time is forgotten first. Texts that were shown are kept as keyed digests alone.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Generic, TypeVar

from msgspec import Struct

from gateway.core.model import Peer, ProvisionKey, Secret, Wire
from gateway.core.networks import host_of, subnet_of

K = TypeVar("K")

PEEK_MS = 10_000
"""How often one request is looked at while the door to its key is shut."""
_UNSURE = "?"
_SEVERAL = 3
"""Different wrong ones of an address for a key, above which it concerns it what others guess."""
_LATELY_MS = 1000
"""Who was right is not written down again so soon: most of a fleet behind one address."""


class Leniency(Struct, frozen=True, kw_only=True):
    """How much is forgiven. `free` wrong ones cost nothing, each of the `more` that follow twice
    the wait of the one before, up to `longest_wait_s`; the last of them shuts the door for
    `shut_s`. Both what was wrong and what was right is forgotten `forget_s` after the last of it.
    `most`: addresses, keys, pairs that are remembered, of each kind.
    """

    free: int = 15
    more: int = 20
    longest_wait_s: int = 300
    shut_s: int = 900
    forget_s: int = 3600
    most: int = 50_000


class Whom(StrEnum):
    """Who is shut out."""

    PLACE = "address and key"
    """Whoever comes from that address with that key."""
    ADDRESS = "address"
    """Whatever is wrong from that address, with any key."""
    KEY = "key"
    """Whoever has shown several wrong ones for that key, wherever they are."""
    NOBODY = "nobody"
    """Right ones of that key come from the same address."""


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
    """What has to be waited for in ms (0: nothing), should it be wrong. `shut`: do not look."""

    wait_ms: int = 0
    shut: bool = False


FREE = Toll()


class _Tally:
    """Wrong ones of somebody: how many, the last of them, and until when to wait; when the last was
    looked at while the door was shut. Times are ms."""

    __slots__ = ("at", "count", "looked_at", "shut", "until")

    def __init__(self, now: int) -> None:
        self.count = 0
        self.at = now
        self.until = 0
        self.shut = False
        self.looked_at = now

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


class _Seen:
    """What was heard of lately, and when (ms), the last at the end."""

    __slots__ = ("_known", "_rule")

    def __init__(self, rule: Leniency) -> None:
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._rule = rule

    def __len__(self) -> int:
        return len(self._known)

    def is_new(self, name: bytes, now: int) -> bool:
        """Whether `name` was not heard of lately; it is now."""
        known = self._known
        at = known.get(name)
        if at is None and len(known) >= self._rule.most:
            known.popitem(last=False)
        known[name] = now
        known.move_to_end(name)
        return at is None or now - at > self._rule.forget_s * 1000


class _Book:
    """What was wrong for keys: those that exist, or those that do not. By keyed digests."""

    __slots__ = ("guessed", "keys", "pairs", "places")

    def __init__(self, rule: Leniency) -> None:
        self.places: _Tallies[bytes] = _Tallies(rule)
        """Keys at addresses."""
        self.pairs = _Seen(rule)
        """Pairs at addresses: whether one is new there."""
        self.keys: _Tallies[bytes] = _Tallies(rule)
        self.guessed = _Seen(rule)
        """Pairs from anywhere: whether one is new for its key."""

    def __len__(self) -> int:
        return len(self.places) + len(self.pairs) + len(self.keys) + len(self.guessed)


class Guesses:
    """Counts what is wrong from origins (`origin_of`), for keys; remembers what is right."""

    def __init__(self, rule: Leniency | None = None) -> None:
        self._rule = rule = rule or Leniency()
        self._most_ms = max(rule.longest_wait_s, rule.shut_s) * 1000
        self._salt = secrets.token_bytes(16)
        self._addresses: _Tallies[str] = _Tallies(rule)
        self._known, self._strange = _Book(rule), _Book(rule)
        self._right: _Tallies[tuple[str, str]] = _Tallies(rule)
        """Of address and key that were right; counts what is wrong beside it. A key as text, since
        each request asks for it."""
        self._proven: _Tallies[str] = _Tallies(rule)
        """Addresses that showed something right."""

    def remembered(self) -> int:
        """How many addresses, keys and pairs are remembered in all."""
        right = len(self._right) + len(self._proven)
        return len(self._addresses) + len(self._known) + len(self._strange) + right

    def is_home(self, origin: str, proof: ProvisionKey, now: int) -> bool:
        """Whether a right secret of that key came from there just now: then there is no toll, and
        another right one is no news."""
        known = self._right.get((_home(origin), proof.key.reveal()), now)
        return known is not None and 0 <= now - known.at < _LATELY_MS

    def toll(self, origin: str, proof: ProvisionKey, now: int) -> Toll:
        """What has to be waited for there before `proof` may be shown."""
        if self._addresses.get(origin, now) is None:
            return FREE  # nothing wrong came from there: nearly everybody
        if self._right.get((_home(origin), proof.key.reveal()), now) is not None:
            return FREE
        where, key = self._digest(origin, proof.key), self._digest("", proof.key)
        for book in (self._known, self._strange):
            place = book.places.get(where, now)
            if place is None:
                continue
            toll = self._longest(_concerned(place, book.keys.get(key, now)), now)
            if toll.shut and not 0 <= now - place.looked_at < PEEK_MS:
                place.looked_at = now
                return Toll(toll.wait_ms)
            if toll.wait_ms:
                return toll
        return FREE

    def wrong(self, origin: str, proof: ProvisionKey, now: int, *, known: bool) -> Guessed:
        """`proof` is wrong; `known`: there is such a key."""
        book = self._known if known else self._strange
        at_address = self._addresses.of(origin, now)
        place = book.places.of(self._digest(origin, proof.key), now)
        for_key = book.keys.of(self._digest("", proof.key), now)
        beside = self._right.get((_home(origin), proof.key.reveal()), now)
        proven = self._proven.get(_home(origin), now) is not None
        shut: list[Shut | None] = []
        if book.pairs.is_new(self._digest(origin, proof), now):
            whom = Whom.PLACE if beside is None else Whom.NOBODY
            shut.append(self._count(beside or place, whom, now))
            if not proven:
                shut.append(self._count(at_address, Whom.ADDRESS, now))
        if book.guessed.is_new(self._digest("", proof), now):
            shut.append(self._count(for_key, Whom.KEY, now))
        concerned = _concerned(place, for_key) if beside is None else []
        wait = self._longest(concerned if proven else [*concerned, at_address], now)
        return Guessed(wait.wait_ms, tuple(one for one in shut if one is not None))

    def right(self, origin: str, proof: ProvisionKey, now: int) -> None:
        """`proof` is right. No count of anything wrong is changed by it."""
        home = _home(origin)
        self._right.of((home, proof.key.reveal()), now)
        self._proven.of(home, now)

    def _count(self, tally: _Tally, whom: Whom, now: int) -> Shut | None:
        """One more; its wait begins now."""
        rule = self._rule
        tally.count += 1
        if tally.count <= rule.free or (tally.shut and now < tally.until):
            return None
        beyond = tally.count - rule.free
        tally.looked_at = now
        if beyond < rule.more:
            tally.until = now + min(2 ** min(beyond - 1, 30), rule.longest_wait_s) * 1000
            return None
        tally.shut, tally.until = True, now + rule.shut_s * 1000
        return Shut(whom, tally.count, rule.shut_s)

    def _longest(self, concerned: Sequence[_Tally], now: int) -> Toll:
        wait_ms, shut = 0, False
        for tally in concerned:
            if own_ms := tally.wait(now, self._most_ms):
                wait_ms, shut = max(wait_ms, own_ms), shut or tally.shut
        return Toll(wait_ms, shut) if wait_ms else FREE

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


def _concerned(place: _Tally, for_key: _Tally | None) -> list[_Tally]:
    """What has to be waited for at `place`, a key at an address."""
    if for_key is None or place.count <= _SEVERAL:
        return [place]
    return [place, for_key]


def origin_of(peer: Peer) -> str:
    """Whose a request is: of its address (`subnet_of`), and of one that may be forged apart."""
    host = host_of(peer)
    origin = subnet_of(host) if ":" in host else host
    return f"{origin}{_UNSURE}" if peer.wire is Wire.COAP else origin


def _home(origin: str) -> str:
    """Where right ones come from: who knows a secret has no need to forge an address."""
    return origin.removesuffix(_UNSURE)
