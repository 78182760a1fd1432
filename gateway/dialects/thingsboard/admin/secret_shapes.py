"""Fleet secrets as the REST API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct, structs

from gateway.core.fleet_custody import OVERLAP_MS
from gateway.core.fleet_secret_store import Borne, Bounds
from gateway.core.model import FleetTicket
from gateway.dialects.thingsboard.admin.words import EntityId

MOST_NAMES: Final = 1_000
"""Keys derived with one request."""

_Moment = Annotated[int, Meta(ge=0, le=2**53)]


class BoundsBody(Struct, rename="camel", kw_only=True):
    """What is absent is unbounded."""

    not_before: _Moment | None = None
    expires_at: _Moment | None = None
    max_uses: _Moment | None = None
    networks: tuple[str, ...] = ()


class SecretBody(BoundsBody, rename="camel", kw_only=True):
    """`key` and `secret` are made at random where they are absent."""

    device_profile_id: EntityId
    label: str
    derived: bool = False
    key: str | None = None
    secret: str | None = None

    def __repr__(self) -> str:
        return "SecretBody(***)"


class RotateBody(Struct, rename="camel", kw_only=True):
    """`overlapMs`: how long the old one is good; seven days unless it is said."""

    label: str = ""
    overlap_ms: _Moment = OVERLAP_MS
    expires_at: _Moment | None = None


class QuarantineBody(Struct, rename="camel", kw_only=True):
    """`since`: suspend what it bore from then on; 0: all."""

    since: _Moment = 0


class DeriveBody(Struct):
    """Names of devices."""

    names: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MOST_NAMES)]


class SecretAnswer(Struct, rename="camel", kw_only=True):
    """Times are in milliseconds. `uses` are counted where there is a bound of them."""

    id: int
    device_profile_id: EntityId
    device_profile_name: str
    label: str
    created_time: int
    not_before: int | None
    expires_at: int | None
    max_uses: int | None
    uses: int
    networks: tuple[str, ...]
    derived: bool
    quarantined_since: int | None
    revoked_at: int | None
    last_used_at: int | None


class PairAnswer(SecretAnswer, rename="camel", kw_only=True):
    """One that was made just now, with its pair."""

    key: str
    secret: str

    def __repr__(self) -> str:
        return "PairAnswer(***)"


class BorneAnswer(Struct, rename="camel", kw_only=True):
    """A device that the secret bore. Times are in milliseconds."""

    id: EntityId
    device_number: int
    name: str
    provisioned_at: int
    seen_at: int | None
    suspended: bool


class RadiusAnswer(Struct, rename="camel", kw_only=True):
    """`count` is of all of them; `after` of the next request, if there are more, is `next`."""

    count: int
    data: list[BorneAnswer]
    next: int | None


class SuspendedAnswer(Struct):
    """How many devices are suspended."""

    suspended: int


class DerivedKey(Struct):
    """What the device of that name shows in place of the group secret."""

    name: str
    key: str

    def __repr__(self) -> str:
        return "DerivedKey(***)"


def bounds_of(body: BoundsBody) -> Bounds:
    """What a body bounds, in the words of the core."""
    return Bounds(
        not_before=body.not_before,
        expires_at=body.expires_at,
        max_uses=body.max_uses,
        networks=body.networks,
    )


def secret_answer(ticket: FleetTicket) -> SecretAnswer:
    """A fleet secret without its pair."""
    return SecretAnswer(
        id=ticket.id,
        device_profile_id=EntityId(ticket.profile.uuid, "DEVICE_PROFILE"),
        device_profile_name=ticket.profile.name,
        label=ticket.label,
        created_time=ticket.created_at,
        not_before=ticket.not_before,
        expires_at=ticket.expires_at,
        max_uses=ticket.max_uses,
        uses=ticket.uses,
        networks=ticket.networks,
        derived=ticket.derived,
        quarantined_since=ticket.quarantined_since,
        revoked_at=ticket.revoked_at,
        last_used_at=ticket.last_used_at,
    )


def pair_answer(ticket: FleetTicket) -> PairAnswer:
    """The same with its pair."""
    shown = structs.asdict(secret_answer(ticket))
    return PairAnswer(**shown, key=ticket.key.reveal(), secret=ticket.secret.reveal())


def borne_answer(device: Borne) -> BorneAnswer:
    """A device that a fleet secret bore."""
    return BorneAnswer(
        id=EntityId(device.uuid, "DEVICE"),
        device_number=device.id,
        name=device.name,
        provisioned_at=device.provisioned_at,
        seen_at=device.seen_at,
        suspended=device.suspended,
    )
