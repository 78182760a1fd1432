"""`SqlStore`: the one implementation of the core's ports, over any `Driver`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    AccessToken,
    Attributes,
    AttributeScope,
    AttributesSelection,
    Certificate,
    Device,
    DeviceCredentials,
    DeviceCredentialsType,
    DeviceProfile,
    Event,
    FleetTicket,
    MqttBasic,
    ProfileTransport,
    Provisioned,
    ProvisionResult,
    Reading,
    RefusalReason,
    Refused,
    Secret,
    Value,
)
from gateway.core.ports import KnownCredentials, NewDevice
from gateway.core.tokens import random_bytes
from gateway.store.decisions import (
    Born,
    ClaimDevice,
    CreateDevice,
    Probe,
    RecordEvent,
    SaveAttributes,
    SaveReadings,
)
from gateway.store.driver import Driver, Row, Transaction
from gateway.store.migrate import migrations
from gateway.store.records import profile_from_row
from gateway.store.values import from_columns
from gateway.store.vault import Vault
from gateway.store.writer import Writer

log = structlog.get_logger()

_TRANSPORTS = {transport.value: transport for transport in ProfileTransport}
_MOST_TICKETS = 4096
"""Opened fleet tickets kept in memory."""
_FRESH_S = 0.01
"""How long an opened ticket is used before the database is asked whether it changed. The look-up
is a tenth of a provisioning; 10 ms is less than the command that changed it takes to return."""


_MOST_ATTRIBUTES = 10_000
"""Attributes of one scope in one answer; those asked for by name are all given."""
_VAULT_CHECK = b"gatehouse"


class _KeptTicket(msgspec.Struct):
    ticket: FleetTicket
    revision: int
    fresh_until: float


class SqlStore:
    """State in SQL. `writer` carries every change, the driver's look-ups carry every question."""

    def __init__(self, driver: Driver, vault: Vault, *, max_pending: int = 20_000) -> None:
        self.driver = driver
        self.vault = vault
        self.writer = Writer(driver, max_pending=max_pending)
        self._tickets: dict[str, _KeptTicket] = {}
        self._dropped_events = 0

    async def open(self) -> None:
        """Open, migrate, and see that the master key is the one this store was sealed with.

        Raises `StoreUnavailable`, and leaves nothing open then.
        """
        try:
            await self.driver.open()
            await self.driver.migrate(migrations(self.driver.database))
            await self._check_vault()
        except BaseException:
            await self.driver.close()
            raise
        self.writer.start()

    async def _check_vault(self) -> None:
        """A store made with one key and opened with another would refuse all its devices."""

        async def kept(tx: Transaction) -> bytes:
            sealed = self.vault.seal(_VAULT_CHECK, b"vault")
            await tx.fetch("insert_setting", "vault", sealed)
            return bytes((await tx.fetch("setting", "vault"))[0][0])

        self.vault.open(await self.driver.transact(kept), b"vault")

    async def close(self) -> None:
        """Commit what waits, then close."""
        await self.writer.close()
        await self.driver.close()

    async def probe(self) -> None:
        """Write something that changes nothing, durably. Raises when the store cannot."""
        await self.writer.submit(Probe())

    # ── provisioning ────────────────────────────────────────────────────────────────────────

    async def find_fleet_ticket(self, key: Secret) -> FleetTicket | None:
        text = key.reveal()
        kept = self._tickets.get(text)
        now = time.monotonic()
        if kept is not None and now < kept.fresh_until:
            return kept.ticket
        row = await self.driver.point("find_fleet_ticket", self.vault.digest(text))
        if row is None:
            self._tickets.pop(text, None)
            return None
        ticket_id, revision = row
        ticket: FleetTicket | None
        if kept is not None and kept.revision == revision and kept.ticket.id == ticket_id:
            ticket = kept.ticket
        else:
            ticket = await self.fleet_ticket(ticket_id)
        if ticket is not None:
            if len(self._tickets) >= _MOST_TICKETS:
                self._tickets.clear()
            self._tickets[text] = _KeptTicket(ticket, revision, now + _FRESH_S)
        return ticket

    def forget_tickets(self) -> None:
        """A ticket or profile was changed by this process: look again at once."""
        self._tickets.clear()

    async def fleet_ticket(self, ticket_id: int) -> FleetTicket | None:
        """The ticket, opened."""
        row = await self.driver.point("fleet_ticket", ticket_id)
        if row is None:
            return None
        number, sealed_key, sealed_secret, *profile = row
        return FleetTicket(
            id=number,
            profile=profile_from_row(profile),
            key=Secret(self.vault.open(sealed_key, b"key").decode()),
            secret=Secret(self.vault.open(sealed_secret, b"secret").decode()),
        )

    async def create_device(self, new: NewDevice) -> ProvisionResult:
        identity = uuid7(new.at)
        digest = self.vault.digest(new.credentials.id.reveal())
        sealed = self.vault.seal(credentials_to_bytes(new.credentials), digest)
        result = await self.writer.submit(
            CreateDevice(new, identity, digest, sealed, self.known_from_row)
        )
        if isinstance(result, Born):
            return Provisioned(_born(new, result.device_id, identity), new.credentials)
        return _claimed(result)

    async def claim_device(
        self, profile: DeviceProfile, name: str, event: Event
    ) -> ProvisionResult:
        return _claimed(
            await self.writer.submit(ClaimDevice(profile, name, event, self.known_from_row))
        )

    async def record(self, event: Event) -> None:
        if not self.writer.submit_unawaited(RecordEvent(event)):
            self._dropped_events += 1
            if self._dropped_events & (self._dropped_events - 1) == 0:
                log.warning("store.events_dropped", so_far=self._dropped_events)

    # ── devices ─────────────────────────────────────────────────────────────────────────────

    async def find_credentials(self, lookup_id: Secret) -> KnownCredentials | None:
        row = await self.driver.point("known_by_digest", self.vault.digest(lookup_id.reveal()))
        return None if row is None else self.known_from_row(row)

    async def known_device(self, device_id: int) -> KnownCredentials | None:
        """The device and its newest credentials."""
        row = await self.driver.point("known_by_id", device_id)
        return None if row is None else self.known_from_row(row)

    def known_from_row(self, row: Row) -> KnownCredentials:
        """A row of `known_by_digest` or `known_by_id`, its credentials opened."""
        *device, transport, kind, digest, sealed = row
        credentials = credentials_from_bytes(kind, self.vault.open(sealed, digest))
        return KnownCredentials(device_from_row(tuple(device), _TRANSPORTS[transport]), credentials)

    # ── readings and attributes ─────────────────────────────────────────────────────────────

    async def save_readings(self, device: Device, readings: Sequence[Reading]) -> None:
        await self.writer.submit(SaveReadings(device.id, device.credentials_row, readings))

    async def save_attributes(
        self, device: Device, scope: AttributeScope, values: Mapping[str, Value], at: int
    ) -> None:
        await self.writer.submit(
            SaveAttributes(device.id, device.credentials_row, scope, values, at)
        )

    async def attributes(self, device: Device, selection: AttributesSelection) -> Attributes:
        await self.writer.settled()
        if await self.driver.point("is_good_login", device.id, device.credentials_row) is None:
            raise CredentialsGone
        return Attributes(
            await self._scope(device.id, AttributeScope.CLIENT, selection.client),
            await self._scope(device.id, AttributeScope.SHARED, selection.shared),
        )

    async def _scope(
        self, device_id: int, scope: AttributeScope, wanted: tuple[str, ...] | None
    ) -> dict[str, Value]:
        if wanted == ():
            return {}
        if wanted is None:
            rows = await self.driver.rows("attributes", device_id, scope.value, _MOST_ATTRIBUTES)
        else:
            keys = msgspec.json.encode(wanted).decode()
            rows = await self.driver.rows("attributes_named", device_id, scope.value, keys)
        return {key: from_columns(*columns) for key, *columns in rows}


def _claimed(result: KnownCredentials | RefusalReason) -> ProvisionResult:
    if isinstance(result, RefusalReason):
        return Refused(result)
    return Provisioned(result.device, result.credentials)


def _born(new: NewDevice, number: int, identity: bytes) -> Device:
    return Device(
        id=number,
        uuid=uuid_text(identity),
        name=new.name,
        type=new.type,
        profile_id=new.profile_id,
        organisation_id=new.organisation_id,
        gateway=new.gateway,
        provision_state=new.provision_state,
        credentials_row=1,
        created_at=new.at,
    )


def device_from_row(row: Row, transport: ProfileTransport) -> Device:
    """The first ten columns of `known_by_id` and `devices` as a device."""
    number, identity, name, kind, profile, organisation, gateway, state, created, generation = row
    return Device(
        id=number,
        uuid=uuid_text(identity),
        name=name,
        type=kind,
        profile_id=profile,
        organisation_id=organisation,
        gateway=bool(gateway),
        provision_state=state,
        created_at=created,
        credentials_row=generation,
        transport=transport,
    )


def uuid_text(identity: bytes) -> str:
    """The 36 characters of a UUID."""
    text = identity.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid7(at: int) -> bytes:
    """A version 7 UUID (RFC 9562, section 5.7) for the time `at` in milliseconds."""
    tail = bytearray(random_bytes(10))
    tail[0] = 0x70 | (tail[0] & 0x0F)
    tail[2] = 0x80 | (tail[2] & 0x3F)
    return (at & 0xFFFF_FFFF_FFFF).to_bytes(6) + bytes(tail)


class _MqttBasicRecord(msgspec.Struct, array_like=True):
    client_id: str
    username: str
    password: str


def credentials_to_bytes(credentials: DeviceCredentials) -> bytes:
    """What is sealed. Its kind is known from the row."""
    match credentials:
        case AccessToken(token):
            return token.reveal().encode()
        case MqttBasic(client_id, username, password):
            record = _MqttBasicRecord(client_id, username, password.reveal())
            return msgspec.json.encode(record)
        case Certificate(text):
            return text.encode()


def credentials_from_bytes(kind: str, clear: bytes) -> DeviceCredentials:
    """The inverse of `credentials_to_bytes`."""
    match DeviceCredentialsType(kind):
        case DeviceCredentialsType.MQTT_BASIC:
            record = msgspec.json.decode(clear, type=_MqttBasicRecord)
            return MqttBasic(record.client_id, record.username, Secret(record.password))
        case DeviceCredentialsType.X509_CERTIFICATE:
            return Certificate(clear.decode())
        case _:
            return AccessToken(Secret(clear.decode()))
