"""How many may be provisioned in how long, by whom."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TypeAlias

from msgspec import Struct

from gateway.core.limits import Bucket, Rate, provisions_of
from gateway.core.model import DeviceProfile, FleetTicket
from gateway.core.networks import subnet_of

Party: TypeAlias = tuple[str, int | str, int]
"""Whose bucket: a word, a number or an address, and the profile whose own rate it is, or 0."""

_SPREAD = 0.5
"""How much longer than it must, at most, somebody is told to wait."""
_GOLDEN = 0.6180339887498949
"""Multiples of it, without their whole part, are spread evenly."""
_MOST_PROFILES = 10_000
_FORGET_AT_ONCE = 5
"""One more than a request can make."""


class Paces(Struct, frozen=True, kw_only=True):
    """Rates of provisioning requests that show a right secret; None is unlimited.

    `secret`: with one fleet secret; `profile`: of one profile; `address`: from one address (of
    IPv6: one /64); `organisation`: of all profiles of one organisation.
    """

    secret: Rate | None = None
    profile: Rate | None = None
    address: Rate | None = None
    organisation: Rate | None = None


class Pacer:
    """Rates of provisioning: per fleet secret, profile, address and organisation.

    A profile's `limits` may have others than `paces` for its secrets, itself and addresses.
    At most `most` parties are remembered; those not heard of for the longest time are forgotten,
    and so have their full allowance again.
    """

    def __init__(self, paces: Paces | None = None, *, most: int = 100_000) -> None:
        self._paces = paces or Paces()
        self._off = self._paces == Paces()
        self._most = most
        self._own: dict[int, tuple[DeviceProfile, tuple[tuple[str, Rate, bool], ...]]] = {}
        self._buckets: OrderedDict[Party, tuple[Rate, Bucket]] = OrderedDict()
        self._nameless = 0.0

    def __len__(self) -> int:
        return len(self._buckets)

    def limits(self, profile: DeviceProfile) -> bool:
        """Whether anything is counted for devices of this profile."""
        return not self._off or bool(profile.limits)

    def take(self, ticket: FleetTicket, address: str, name: str, now: int) -> int:
        """Count one request, or say how long it has to wait in seconds; 0 for now.

        The wait differs by the device's `name`, so that those told to wait do not come back at
        once. Raises `ValueError` for limits of a profile that were never proven.
        """
        return self.take_of(ticket.profile, ticket.id, address, name, now)

    def take_of(
        self, profile: DeviceProfile, ticket_id: int | None, address: str, name: str, now: int
    ) -> int:
        """The same for a request that came with no fleet secret: `ticket_id` None."""
        if not self.limits(profile):
            return 0
        concerned = self._concerned(profile, ticket_id, address)
        buckets = [self._bucket(party, rate) for party, rate in concerned]
        wait_ms = max((bucket.wait(1, now) for bucket in buckets), default=0)
        if wait_ms:
            return -(-int(wait_ms * (1 + _SPREAD * self._share(name))) // 1000)
        for bucket in buckets:
            bucket.spend(1, now)
        self._make_room(now)
        return 0

    def _concerned(
        self, profile: DeviceProfile, ticket_id: int | None, address: str
    ) -> list[tuple[Party, Rate]]:
        named: dict[str, int | str | None] = {
            "secret": ticket_id,
            "profile": profile.id,
            "address": subnet_of(address),
            "organisation": profile.organisation_id,
        }
        return [
            ((what, of, profile.id if own else 0), rate)
            for what, rate, own in self._rates(profile)
            if (of := named[what]) is not None
        ]

    def _rates(self, profile: DeviceProfile) -> tuple[tuple[str, Rate, bool], ...]:
        """What is limited, how, and whether by the profile itself."""
        kept = self._own.get(profile.id)
        if kept is not None and (kept[0] is profile or kept[0].limits == profile.limits):
            return kept[1]
        own = provisions_of(profile.limits)
        found = []
        for what in ("secret", "profile", "address", "organisation"):
            rate = own[what] if what in own else getattr(self._paces, what)
            if rate is not None:
                found.append((what, rate, what in own))
        if len(self._own) >= _MOST_PROFILES:
            self._own.clear()
        rates = tuple(found)
        self._own[profile.id] = profile, rates
        return rates

    def _bucket(self, party: Party, rate: Rate) -> Bucket:
        """The bucket of a party; a new one when its rate is another than before."""
        known = self._buckets
        kept = known.get(party)
        if kept is not None and (kept[0] is rate or kept[0] == rate):
            known.move_to_end(party)
            return kept[1]
        bucket = Bucket(rate)
        known[party] = rate, bucket
        known.move_to_end(party)
        return bucket

    def _make_room(self, now: int) -> None:
        """Forget a few that were not used for long and have nothing to tell; and those beyond the
        bound, whatever they tell."""
        known = self._buckets
        for _ in range(_FORGET_AT_ONCE):
            if known and next(iter(known.values()))[1].full(now):
                known.popitem(last=False)
        while len(known) > self._most:
            known.popitem(last=False)

    def _share(self, name: str) -> float:
        """From 0 to 1, always the same for a name; those without one are spread evenly."""
        if not name:
            self._nameless = (self._nameless + _GOLDEN) % 1.0
            return self._nameless
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=2).digest()
        return int.from_bytes(digest) / 0xFFFF
