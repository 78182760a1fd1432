"""What keeping fleet secrets needs of the store."""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct

from gateway.core.model import Event, FleetTicket, Secret


class Bounds(Struct, frozen=True, kw_only=True):
    """From when (ms), until when, how often and from where a fleet secret admits; see
    `FleetTicket`."""

    not_before: int | None = None
    expires_at: int | None = None
    max_uses: int | None = None
    networks: tuple[str, ...] = ()


NO_BOUNDS: Final = Bounds()


class NewFleetSecret(Struct, frozen=True, kw_only=True):
    """A pair about to be kept for the profile numbered `profile_id`.

    `derived`: `secret` is a group secret. `most`: how many the profile may have that are not
    revoked, this one included.
    """

    profile_id: int
    organisation_id: int
    label: str
    key: Secret
    secret: Secret
    bounds: Bounds
    derived: bool
    most: int
    event: Event


class FleetSecretQuery(Struct, frozen=True, kw_only=True):
    """Which fleet secrets, in the order of their numbers.

    `path` is that of the organisation at or below which their profiles are.
    """

    path: str
    profile_id: int | None = None
    label: str | None = None
    after_id: int = 0
    limit: int = 100


class Borne(Struct, frozen=True, kw_only=True):
    """A device that a fleet secret bore, or admitted to its claim, and when that was.

    `seen_at` is when it was last heard, None: never. `suspended`: its credentials are refused.
    """

    id: int
    uuid: str
    name: str
    provisioned_at: int
    seen_at: int | None
    suspended: bool


class FleetSecretStore(Protocol):
    """Each change is one transaction with its event, and counts from the next request on.

    Raises `Conflict` GONE for what is not there (any more), or was revoked, and leaves no trace.
    """

    async def add_secret(self, new: NewFleetSecret) -> FleetTicket:
        """Decides. Raises `Conflict` (NAME_TAKEN for the label, IN_USE for one too many) and
        `KeyTaken`."""

    async def rotate_secret(
        self, old: FleetTicket, new: NewFleetSecret, ends_at: int
    ) -> FleetTicket:
        """Decides as `add_secret`; the old pair ends at `ends_at`, or when it would have before."""

    async def secrets(self, query: FleetSecretQuery) -> list[FleetTicket]:
        """Opened, those that were revoked too."""

    async def secret_numbered(self, number: int, path: str) -> FleetTicket | None:
        """The one of that number, if its profile's organisation is at or below `path`."""

    async def bound_secret(self, number: int, bounds: Bounds, event: Event) -> None: ...

    async def revoke_secret(self, number: int, event: Event) -> None: ...

    async def quarantine_secret(self, number: int, since: int, event: Event) -> None:
        """What it bore since then is suspended; every gateway process ends their sessions."""

    async def release_secret(self, number: int, event: Event) -> bool:
        """False when it was in no quarantine. One that was revoked can be released as well."""

    async def borne(self, number: int, *, since: int, after_id: int, limit: int) -> list[Borne]:
        """The devices a secret bore since then, in the order of their numbers."""

    async def count_borne(self, number: int, since: int) -> int: ...
