"""What operators ask of the store: profiles, devices and events, listed and changed.

Every change is a `Decision` of the same writer, so that it shares transactions with the devices'
traffic and writes its event in them. Another process may do the same at the same time: SQLite
lets one writer in after the other, and every statement here decides by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec

from gateway.core.model import (
    Aggregation,
    Attribute,
    AttributesChange,
    AttributeScope,
    ClaimResult,
    DeviceCredentials,
    Download,
    Event,
    Lineage,
    Package,
    PackageKind,
    Presence,
    ProfileTransport,
    Reading,
    RefusalReason,
    Revoked,
    RpcCall,
    Secret,
    SeriesQuery,
)
from gateway.core.pki.model import CertificateRecord, RevocationReason
from gateway.core.ports import DeviceListing, KnownCredentials
from gateway.core.tokens import new_token
from gateway.store.archive import BeginForgetting, ForgetSpan, RemoveCall
from gateway.store.assignments import AssignPackage, AssignToProfile, RemovePackage, SavePackage
from gateway.store.attributes import ChangeAttributes, ChangeProfileAttributes, listed_attributes
from gateway.store.calls import SaveCall
from gateway.store.certificates import is_serial, record_from_row
from gateway.store.claims import ClaimFor, Unclaim, claim_digest
from gateway.store.credentials import credentials_from_bytes
from gateway.store.devices import ForgetDevice, RearmDevice, RemoveDevice
from gateway.store.events import event_from_row
from gateway.store.expiring import KeepDevice
from gateway.store.identity import uuid_bytes
from gateway.store.logins import (
    Login,
    ReplaceCredentials,
    RevokeCertificate,
    RevokeCredentials,
    kept_login,
)
from gateway.store.offers import OfferFor
from gateway.store.presence import NODE_LIVES_MS, presence_from_row
from gateway.store.records import (
    call_from_row,
    device_from_row,
    package_from_row,
)
from gateway.store.reprovisionings import ArmDevice, code_digest
from gateway.store.series import interval_of, reading_from_interval
from gateway.store.sql_profiles import ProfileShelf
from gateway.store.values import from_columns

_MOST_ATTRIBUTES = 30_000
"""Of one device in one answer, over all scopes."""
_FAR = 2**61


class SqlRegistrar(ProfileShelf):
    """The operators' half of the store; implements `core.registrar.Registrar`."""

    # ── devices ─────────────────────────────────────────────────────────────────────────────

    async def devices(
        self,
        *,
        after_id: int,
        limit: int,
        profile_id: int | None,
        text: str,
        online_at: int | None = None,
    ) -> list[DeviceListing]:
        page = (after_id, limit, text)
        if online_at is not None:
            seen = online_at - NODE_LIVES_MS
            rows = await self._driver.rows("devices_online", *page, profile_id, seen)
        elif profile_id is not None:
            rows = await self._driver.rows("devices_of_profile", *page, profile_id)
        else:
            rows = await self._driver.rows("devices", *page)
        return [
            DeviceListing(device_from_row(tuple(device), ProfileTransport.DEFAULT), profile, kind)
            for *device, profile, kind in rows
        ]

    async def find_device(self, name_or_uuid: str) -> KnownCredentials | None:
        try:
            identity = uuid.UUID(name_or_uuid).bytes
        except ValueError:
            identity = b""
        row = await self._driver.point("device_id_named", name_or_uuid, identity)
        return None if row is None else await self._store.known_device(row[0])

    async def count_devices(self) -> int:
        row = await self._driver.rows("count_devices")
        return int(row[0][0])

    async def devices_per_profile(self) -> dict[int, int]:
        return {row[0]: row[1] for row in await self._driver.rows("devices_per_profile")}

    async def remove_device(self, device_id: int, event: Event) -> bool:
        removed = await self._submit(RemoveDevice(device_id, event))
        # Its readings may be millions: in steps, so that others are served in between. What an
        # interruption leaves is found by the retention sweep.
        while removed and await self._submit(ForgetDevice(device_id)):
            pass
        return removed

    async def lineage(self, device_id: int) -> Lineage | None:
        row = await self._driver.point("device_lineage", device_id)
        return None if row is None else Lineage(row[0], bool(row[1]))

    async def label(self, device_id: int) -> str:
        row = await self._driver.point("label_of_device", device_id)
        return "" if row is None else row[0]

    async def expires_at(self, device_id: int) -> int | None:
        row = await self._driver.point("device_expires_at", device_id)
        return None if row is None else row[0]

    async def keep_device(self, device_id: int, until: int | None, event: Event) -> bool:
        return await self._submit(KeepDevice(device_id, until, event))

    async def rearm_device(self, device_id: int, event: Event) -> bool:
        return await self._submit(RearmDevice(device_id, event))

    async def arm_device(
        self, device_id: int, code: Secret | None, until: int, event: Event
    ) -> bool:
        digest = None if code is None else code_digest(self._store.vault, device_id, code)
        return await self._submit(ArmDevice(device_id, digest, until, event))

    # ── what happened, what was measured ────────────────────────────────────────────────────

    async def events(self, *, after_seq: int, limit: int, device_id: int | None) -> list[Event]:
        page = (after_seq, limit)
        if device_id is None:
            rows = await self._driver.rows("events", *page)
        else:
            rows = await self._driver.rows("events_of_device", *page, device_id)
        return [event_from_row(row) for row in rows]

    async def last_events(self, *, limit: int, device_id: int | None) -> list[Event]:
        if device_id is None:
            rows = await self._driver.rows("last_events", limit)
        else:
            rows = await self._driver.rows("last_events_of_device", limit, device_id)
        return [event_from_row(row) for row in reversed(rows)]

    async def latest(self, device_id: int) -> list[Reading]:
        rows = await self._driver.rows("latest", device_id)
        return [Reading(ts, key, from_columns(*columns)) for ts, key, *columns in rows]

    async def series(self, device_id: int, query: SeriesQuery) -> list[Reading]:
        """An aggregated value carries the begin of its interval.

        Of more values than `limit` the newest are given. Sums and extremes of whole numbers stay
        whole while they fit 64 bits.
        """
        # Such times never come; beyond them the arithmetic of SQL overflows.
        since, until = max(query.since, -_FAR), min(query.until, _FAR)
        query = msgspec.structs.replace(query, since=since, until=until)
        place = (device_id, query.key, since, until)
        backwards = True
        if query.aggregation is Aggregation.NONE:
            backwards = not query.oldest
            name = "readings" if backwards else "readings_from"
            rows = await self._driver.rows(name, *place, query.limit)
            found = [Reading(ts, key, from_columns(*columns)) for ts, key, *columns in rows]
        else:
            numbers_alone = int(query.aggregation is not Aggregation.COUNT)
            interval = interval_of(query)
            rows = await self._driver.rows(
                "reading_intervals", *place, interval, numbers_alone, query.limit
            )
            found = [reading_from_interval(query, row) for row in rows]
        return found if query.newest_first is backwards else found[::-1]

    async def keys(self, device_id: int) -> list[str]:
        return [row[0] for row in await self._driver.rows("keys", device_id)]

    async def forget_readings(
        self, device_id: int, keys: Sequence[str], *, since: int, until: int, event: Event
    ) -> bool:
        if not await self._submit(BeginForgetting(device_id, event)):
            return False
        left = list(keys)
        while left:
            left = await self._submit(ForgetSpan(device_id, left, since, until))
        return True

    # ── attributes ──────────────────────────────────────────────────────────────────────────

    async def device_attributes(self, device_id: int) -> list[Attribute]:
        device = await self._driver.point("device_state", device_id)
        if device is None:
            return []
        profile_id, state, created_at = device
        rows = await self._driver.rows("device_attributes", device_id, _MOST_ATTRIBUTES)
        packages = await self._driver.rows("packages_for", device_id, profile_id)
        return listed_attributes(rows, packages, state, created_at)

    async def change_attributes(
        self, device_id: int, scope: AttributeScope, change: AttributesChange, event: Event
    ) -> AttributesChange | None:
        return await self._submit(ChangeAttributes(device_id, scope, change, event))

    async def change_profile_attributes(
        self, profile_id: int, scope: AttributeScope, change: AttributesChange, event: Event
    ) -> int:
        return await self._submit(ChangeProfileAttributes(profile_id, scope, change, event))

    # ── credentials, claims ─────────────────────────────────────────────────────────────────

    async def replace_credentials(
        self, device_id: int, credentials: DeviceCredentials, event: Event
    ) -> bool:
        login = kept_login(self._store.vault, credentials)
        return await self._submit(ReplaceCredentials(device_id, login, event))

    async def revoke_credentials(
        self, device_id: int, reason: RevocationReason, event: Event
    ) -> bool:
        return await self._submit(RevokeCredentials(device_id, self._blank(), reason, event))

    async def revoke_certificate(
        self, serial: int, reason: RevocationReason, event: Event
    ) -> CertificateRecord | None:
        if not is_serial(serial):
            return None
        return await self._submit(RevokeCertificate(serial, self._blank(), reason, event))

    def _blank(self) -> Login:
        return kept_login(self._store.vault, Revoked(new_token()))

    async def certificates(
        self, *, device_id: int | None = None, limit: int = 100
    ) -> list[CertificateRecord]:
        if device_id is None:
            rows = await self._driver.rows("certificates", limit)
        else:
            rows = await self._driver.rows("certificates_of_device", limit, device_id)
        return [record_from_row(row) for row in rows]

    async def pending_credentials(self, device_id: int) -> DeviceCredentials | None:
        row = await self._driver.point("pending_of_device", device_id)
        if row is None:
            return None
        kind, digest, sealed = row
        return credentials_from_bytes(kind, self._store.vault.open(sealed, digest))

    async def claim_for(
        self, device_id: int, customer: str, key: Secret | None, event: Event
    ) -> ClaimResult:
        return await self._submit(ClaimFor(device_id, customer, key, event, self._store.vault))

    async def offer_claim_for(
        self, device_id: int, key: Secret, event: Event, expires_at: int, *, replace: bool
    ) -> RefusalReason | None:
        digest = claim_digest(self._store.vault, device_id, key)
        return await self._submit(OfferFor(device_id, digest, event, expires_at, replace=replace))

    async def unclaim(self, device_id: int, event: Event) -> bool:
        return await self._submit(Unclaim(device_id, event))

    async def customer_name(self, organisation_id: int) -> str | None:
        row = await self._driver.point("customer_name", organisation_id)
        return None if row is None else str(row[0])

    # ── calls, presence ─────────────────────────────────────────────────────────────────────

    async def save_call(self, call: RpcCall, event: Event) -> RpcCall | None:
        return await self._submit(SaveCall(call, event))

    async def calls(self, device_id: int, *, limit: int) -> list[RpcCall]:
        return [call_from_row(row) for row in await self._driver.rows("calls", device_id, limit)]

    async def call_named(self, identity: str) -> RpcCall | None:
        row = await self._driver.point("call_named", uuid_bytes(identity))
        return None if row is None else call_from_row(row)

    async def remove_call(self, call: RpcCall, event: Event) -> bool:
        return await self._submit(RemoveCall(call.id, event))

    async def presence(self, device_ids: Sequence[int], now: int) -> dict[int, Presence]:
        """As far as anything is known of them."""
        listed = msgspec.json.encode(device_ids).decode()
        rows = await self._driver.rows("presence", listed)
        return {row[0]: presence_from_row(row[1:], now) for row in rows}

    # ── packages ────────────────────────────────────────────────────────────────────────────

    async def save_package(self, package: Package, event: Event) -> Package | None:
        return await self._submit(SavePackage(package, event))

    async def packages(self) -> list[Package]:
        return [package_from_row(row) for row in await self._driver.rows("packages")]

    async def remove_package(self, package_id: int, event: Event) -> bool:
        return await self._submit(RemovePackage(package_id, event))

    async def assign_package(
        self,
        kind: PackageKind,
        package_id: int | None,
        event: Event,
        *,
        device_id: int | None = None,
        profile_id: int | None = None,
    ) -> None:
        """Raises `ConfigError` when package, device or profile are no more."""
        if device_id is not None:
            await self._submit(AssignPackage(kind, package_id, event, device_id))
        else:
            assert profile_id is not None, "a package is assigned to a device or to a profile"
            await self._submit(AssignToProfile(kind, package_id, event, profile_id))

    async def assigned(
        self, kind: PackageKind, *, device_id: int | None = None, profile_id: int | None = None
    ) -> Package | None:
        row = await self._driver.point("package_for", device_id, profile_id, kind.value)
        return None if row is None else package_from_row(row)

    async def downloads(self, device_id: int) -> list[Download]:
        rows = await self._driver.rows("downloads", device_id)
        return [
            Download(kind=PackageKind(kind), package_id=package_id, sent=sent, at=at)
            for kind, package_id, sent, at in rows
        ]
