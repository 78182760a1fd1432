"""What people need of the store, beyond what devices do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.core.model import (
    Attribute,
    AttributesChange,
    AttributeScope,
    ClaimResult,
    DeviceCredentials,
    DeviceProfile,
    Download,
    Event,
    FleetTicket,
    Lineage,
    Package,
    PackageKind,
    Presence,
    Reading,
    RefusalReason,
    RpcCall,
    Secret,
    SeriesQuery,
)
from gateway.core.pki.model import (
    CertificateRecord,
    RevocationReason,
)
from gateway.core.ports import DeviceListing, KnownCredentials, NewProfile


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
        self,
        *,
        after_id: int,
        limit: int,
        profile_id: int | None,
        text: str,
        online_at: int | None = None,
    ) -> list[DeviceListing]:
        """A page in the order of numbers; with `online_at` (now, ms) those online alone."""

    async def devices_per_profile(self) -> dict[int, int]: ...

    async def find_device(self, name_or_uuid: str) -> KnownCredentials | None: ...

    async def remove_device(self, device_id: int, event: Event) -> bool: ...

    async def lineage(self, device_id: int) -> Lineage | None:
        """None of a device that no fleet secret bore."""

    async def label(self, device_id: int) -> str:
        """Empty of a device that has none, or is no more."""

    async def expires_at(self, device_id: int) -> int | None:
        """When the device goes by itself (ms); None: it stays."""

    async def keep_device(self, device_id: int, until: int | None, event: Event) -> bool:
        """Decides: it stays until then, or (None) for good. False when it stays anyway."""

    async def rearm_device(self, device_id: int, event: Event) -> bool:
        """Forget that the device was provisioned, so that it may be claimed once more."""

    async def arm_device(
        self, device_id: int, code: Secret | None, until: int, event: Event
    ) -> bool:
        """Let a device that was provisioned ask for other credentials, until then: with this claim
        code, or (None) without a proof. False when it waits for its claim, or is no more."""

    async def events(self, *, after_seq: int, limit: int, device_id: int | None) -> list[Event]: ...

    async def last_events(self, *, limit: int, device_id: int | None) -> list[Event]: ...

    async def latest(self, device_id: int) -> list[Reading]: ...

    async def series(self, device_id: int, query: SeriesQuery) -> list[Reading]:
        """Readings, or their aggregation; a reading that is no number counts for `count` alone."""

    async def keys(self, device_id: int) -> list[str]: ...

    async def forget_readings(
        self, device_id: int, keys: Sequence[str], *, since: int, until: int, event: Event
    ) -> bool:
        """Forget the readings of `since <= ts < until`, and say so; False: no such device.

        The latest of a key becomes the newest that is left; a key without any is forgotten.
        """

    # ── attributes ────────────────────────────────────────────────────────────────────────────

    async def device_attributes(self, device_id: int) -> list[Attribute]:
        """All attributes of all scopes."""

    async def change_attributes(
        self, device_id: int, scope: AttributeScope, change: AttributesChange, event: Event
    ) -> AttributesChange | None:
        """Set and delete; a shared change writes its notice. What was really changed (a key that
        was not there cannot be deleted); None when there is no such device. The server attribute
        `provisionState` is the column of that name.
        """

    async def change_profile_attributes(
        self, profile_id: int, scope: AttributeScope, change: AttributesChange, event: Event
    ) -> int:
        """The same for all devices of a profile, in one statement a key; how many devices."""

    # ── credentials, claims ───────────────────────────────────────────────────────────────────

    async def replace_credentials(
        self, device_id: int, credentials: DeviceCredentials, event: Event
    ) -> bool:
        """New credentials; the old login is gone at the commit. False: no such device, or the
        credentials are another's."""

    async def revoke_credentials(
        self, device_id: int, reason: RevocationReason, event: Event
    ) -> bool:
        """Decides: nothing the device has lets it in any more; its certificates are REVOKED.

        With a notice, that ends its sessions. False when there is no such device, or they are
        revoked already.
        """

    async def revoke_certificate(
        self, serial: int, reason: RevocationReason, event: Event
    ) -> CertificateRecord | None:
        """Decides: revoke one certificate of ours; where it is a device's, its login too.

        As it was before; None when there is none of that number, or it is revoked already.
        """

    async def certificates(
        self, *, device_id: int | None = None, limit: int = 100
    ) -> list[CertificateRecord]:
        """Issued or revoked ones, newest first."""

    async def pending_credentials(self, device_id: int) -> DeviceCredentials | None:
        """What a device was given and has not used yet."""

    async def claim_for(
        self, device_id: int, customer: str, key: Secret | None, event: Event
    ) -> ClaimResult:
        """Decides: the device becomes the customer's, once.

        FAILURE when nothing is stored, it expired, or `key` is wrong (the stored claim is then
        dropped); CLAIMED when it has a customer. `customer` names an organisation below the root,
        made when there is none. `key` None: the operator needs none.
        """

    async def offer_claim_for(
        self, device_id: int, key: Secret, event: Event, expires_at: int, *, replace: bool
    ) -> RefusalReason | None:
        """Decides: store a claim that a person makes for a device. None when it is stored.

        NO_SUCH_DEVICE, CUSTOMER_HAS_IT, CLAIMING_DISABLED as for a device's own; CLAIM_STANDS when
        one stands that has not expired, unless `replace`.
        """

    async def unclaim(self, device_id: int, event: Event) -> bool: ...

    async def customer_name(self, organisation_id: int) -> str | None: ...

    # ── calls, presence, packages ─────────────────────────────────────────────────────────────

    async def save_call(self, call: RpcCall, event: Event) -> RpcCall | None:
        """Store a call with its notice; with its numbers. None when there is no such device."""

    async def calls(self, device_id: int, *, limit: int) -> list[RpcCall]:
        """Newest first."""

    async def call_named(self, identity: str) -> RpcCall | None:
        """The call of that UUID."""

    async def remove_call(self, call: RpcCall, event: Event) -> bool:
        """Decides: forget a call, however far it came. False when it is gone already."""

    async def presence(self, device_ids: Sequence[int], now: int) -> dict[int, Presence]: ...

    async def save_package(self, package: Package, event: Event) -> Package | None:
        """None when its kind, title and version exist."""

    async def packages(self) -> list[Package]: ...

    async def remove_package(self, package_id: int, event: Event) -> bool:
        """Decides: False while it is assigned."""

    async def assign_package(
        self,
        kind: PackageKind,
        package_id: int | None,
        event: Event,
        *,
        device_id: int | None = None,
        profile_id: int | None = None,
    ) -> None:
        """What a device or all devices of a profile are to run; None takes it back. With notice."""

    async def assigned(
        self, kind: PackageKind, *, device_id: int | None = None, profile_id: int | None = None
    ) -> Package | None: ...

    async def downloads(self, device_id: int) -> list[Download]: ...
