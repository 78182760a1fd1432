"""What pairs of static tokens need of the store."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from gateway.core.model import DeviceProfile, Event, Organisation, RefusalReason, Secret, User


class StaticState(StrEnum):
    UNCLAIMED = "UNCLAIMED"
    CLAIMED = "CLAIMED"


class StaticToken(Struct, frozen=True, kw_only=True):
    """A pair of tokens: one is printed for people, with the other a device was made.

    `device_id` is the number the device has, or will have. `organisation_id` made it; `holder_id`
    has claimed it, for the person `owner_id`; both are None until somebody does.
    """

    id: int
    organisation_id: int
    profile_id: int
    device_id: int
    holder_id: int | None = None
    owner_id: int | None = None
    claimed_at: int | None = None
    created_at: int = 0

    @property
    def state(self) -> StaticState:
        return StaticState.UNCLAIMED if self.claimed_at is None else StaticState.CLAIMED


class StaticTokenRecord(Struct, frozen=True, kw_only=True):
    """A pair as people see it, with the token to claim by, and never that of the device.

    `path` is that of the organisation which made it, `holder_path` of that which has it, "": none.
    `device_name` is empty until the device is born.
    """

    pair: StaticToken
    claim: Secret
    path: str
    organisation_name: str
    profile_name: str
    holder_path: str = ""
    holder_name: str = ""
    owner_email: str = ""
    device_name: str = ""


class NewPair(Struct, frozen=True):
    """Both tokens of a pair about to be made."""

    claim: Secret
    token: Secret


class NewPairs(Struct, frozen=True, kw_only=True):
    """Pairs about to be made; they get their numbers, and a ticket each, from the store."""

    pairs: tuple[NewPair, ...]
    organisation_id: int
    profile_id: int
    event: Event


class StaticClaim(Struct, frozen=True, kw_only=True):
    """Somebody takes the device of a claim token for an organisation, and for a person."""

    claim: Secret
    organisation_id: int
    owner_id: int | None
    event: Event


class PairQuery(Struct, frozen=True, kw_only=True):
    """Which pairs, in the order they were made. `path`: made by the organisation with that path, or
    with `below` by any at or below it. `after_id`: later ones alone; `skip`: less the first."""

    path: str
    below: bool = False
    profile_id: int | None = None
    state: StaticState | None = None
    after_id: int = 0
    skip: int = 0
    limit: int = 100


class StaticTokenStore(Protocol):
    """Each change is one transaction with its events."""

    async def issue_pairs(self, new: NewPairs) -> list[StaticToken]:
        """Reserve a number for each, never used for another device, with a ticket that stands.

        Raises `Conflict` GONE when the organisation or the profile is no more."""

    async def claim_pair(self, claim: StaticClaim) -> StaticToken | RefusalReason:
        """Decides: an unclaimed pair is claimed, and its device, born or not, is in that
        organisation and that person's from now on.

        The same claim once more gives the same. UNKNOWN_TOKEN; CUSTOMER_HAS_IT when it is claimed
        by others, or its device was given away. Raises `Conflict` GONE without the organisation or
        the person."""

    async def unclaim_pair(self, pair: StaticToken, event: Event) -> bool:
        """Decides: False when it is not claimed as it was seen. Its device is back with the
        organisation that made the pair, unless it was moved elsewhere meanwhile."""

    async def revoke_pair(self, pair: StaticToken, event: Event) -> bool:
        """Decides: False when it was revoked already. A device that is not born never will be; one
        that is stays what it is."""

    async def pair_by_claim(self, claim: Secret) -> StaticTokenRecord | None: ...

    async def pair_of_device(self, device_id: int) -> StaticTokenRecord | None: ...

    async def pair(self, number: int, path: str) -> StaticTokenRecord | None:
        """That of this number, if it was made at or below `path`."""

    async def pairs(self, query: PairQuery) -> Sequence[StaticTokenRecord]: ...

    async def count_pairs(self, query: PairQuery) -> int: ...

    async def profile(self, profile_id: int) -> DeviceProfile | None: ...

    async def organisation_numbered(self, number: int) -> Organisation | None: ...

    async def user_numbered(self, number: int) -> User | None: ...

    async def record(self, event: Event) -> None:
        """Write down what happened. May be dropped under overload."""
