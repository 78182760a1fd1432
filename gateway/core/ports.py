"""What the core asks of the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from gateway.core.model import (
    Attributes,
    AttributeScope,
    AttributesSelection,
    Device,
    DeviceCredentials,
    DeviceProfile,
    Event,
    FleetTicket,
    Peer,
    ProvisionResult,
    Reading,
    Secret,
    Value,
)

Clock: TypeAlias = Callable[[], int]
"""Milliseconds since the epoch, UTC."""

NewToken: TypeAlias = Callable[[], str]
"""A fresh random token: 20 alphanumerics, 119 bits."""


class NewDevice(Struct, frozen=True, kw_only=True):
    """A device about to be born, with its credentials.

    `claim_existing`: when the name is taken, claim that device instead, if it belongs to the
    same profile and waits (`DeviceProfile.pre_provision_allowed`).
    `warning`: written to the event's detail (an unreadable certificate that was stored anyway).
    """

    organisation_id: int
    profile_id: int
    name: str
    type: str
    credentials: DeviceCredentials
    provision_state: str | None
    peer: Peer
    at: int
    gateway: bool = False
    claim_existing: bool = False
    warning: str = ""


class NewProfile(Struct, frozen=True, kw_only=True):
    """A profile to be saved. `key` and `secret` None: keep what there is.

    `spare` is the key and secret it gets where there is nothing to keep; None: then it has none.
    """

    profile: DeviceProfile
    key: Secret | None
    secret: Secret | None
    spare: tuple[Secret, Secret] | None


class KnownCredentials(Struct, frozen=True):
    """A device and what it must show."""

    device: Device
    credentials: DeviceCredentials


class DeviceListing(Struct, frozen=True):
    """One row of a device list: never a secret."""

    device: Device
    profile_name: str
    credentials_type: str


class Store(Protocol):
    """The one place where state lives.

    Each method is one transaction. Methods that change something return after it is on disk,
    together with its event. A method whose docstring says "decides" is decided by a single
    statement: of any number of simultaneous callers exactly one is told yes.

    Every method may raise `StoreUnavailable` (nothing was written) or `Overloaded`.
    """

    async def find_fleet_ticket(self, key: Secret) -> FleetTicket | None:
        """The ticket of a provision key, with its profile. None when nobody has that key."""

    async def create_device(self, new: NewDevice) -> ProvisionResult:
        """Decides whether the name and the credentials are free; then the device exists.

        `Refused(NAME_TAKEN | CREDENTIALS_TAKEN)` otherwise, or with `claim_existing` the
        outcome of `claim_device`.
        """

    async def claim_device(
        self, profile: DeviceProfile, name: str, event: Event
    ) -> ProvisionResult:
        """Decides: mark a waiting device of this profile provisioned, once.

        `Refused(NO_SUCH_DEVICE | OTHER_PROFILE | ALREADY_PROVISIONED | BLOCKED)` otherwise.
        """

    async def record(self, event: Event) -> None:
        """Write down what happened. May be dropped under overload: the caller does not wait."""

    async def find_credentials(self, lookup_id: Secret) -> KnownCredentials | None:
        """The device whose credentials have this id, over all kinds and organisations."""

    async def save_readings(self, device: Device, readings: Sequence[Reading]) -> None:
        """Store readings and the latest value per key. Raises `CredentialsGone`."""

    async def save_attributes(
        self, device: Device, scope: AttributeScope, values: Mapping[str, Value], at: int
    ) -> None:
        """Store attributes; the last value of a key stands. Raises `CredentialsGone`."""

    async def attributes(self, device: Device, selection: AttributesSelection) -> Attributes:
        """Attributes as of everything saved before this call. Raises `CredentialsGone`."""


class Registrar(Protocol):
    """What people need beyond `Store`: lists, changes, and the truth about a device."""

    async def save_profile(self, new: NewProfile, event: Event) -> DeviceProfile:
        """Create the profile, or update the one of that name. Raises `KeyTaken`."""

    async def profiles(self) -> list[DeviceProfile]: ...

    async def profile_ticket(self, profile_id: int) -> FleetTicket | None: ...

    async def remove_profile(self, profile_id: int, event: Event) -> bool:
        """Decides: False when devices still use it."""

    async def rotate_ticket(
        self, profile_id: int, key: Secret | None, secret: Secret, event: Event
    ) -> bool:
        """Replace what is given. False when the profile has no ticket. Raises `KeyTaken`."""

    async def devices(
        self, *, after_id: int, limit: int, profile_id: int | None, text: str
    ) -> list[DeviceListing]: ...

    async def devices_per_profile(self) -> dict[int, int]: ...

    async def find_device(self, name_or_uuid: str) -> KnownCredentials | None: ...

    async def remove_device(self, device_id: int, event: Event) -> bool: ...

    async def rearm_device(self, device_id: int, event: Event) -> bool:
        """Forget that the device was provisioned, so that it may be claimed once more."""

    async def events(self, *, after_seq: int, limit: int, device_id: int | None) -> list[Event]: ...

    async def last_events(self, *, limit: int, device_id: int | None) -> list[Event]: ...

    async def latest(self, device_id: int) -> list[Reading]: ...
