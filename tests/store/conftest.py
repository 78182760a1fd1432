"""What the store's tests share: a registrar, a device, events."""

from __future__ import annotations

import sqlite3

import pytest
from issued import given, signed

from gateway.core.model import (
    PROVISIONED,
    DeviceProfile,
    Event,
    EventKind,
    Outcome,
    Peer,
    ProvisionType,
    Wire,
)
from gateway.core.pki.model import SerialReservation
from gateway.core.ports import NewDevice, NewProfile
from gateway.store.migrate import migrations
from gateway.store.postgres import PostgresDriver
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore
from gateway.store.sqlite import SqliteDriver
from gateway.store.vault import Vault


@pytest.fixture(scope="module")
def schema():
    """An SQLite database with nothing in it, to ask for plans of statements."""
    connection = sqlite3.connect(":memory:")
    for _, script in migrations("sqlite"):
        connection.executescript(script)
    yield connection
    connection.close()


@pytest.fixture
def registrar(store):
    return SqlRegistrar(store)


@pytest.fixture
async def device(new_fleet):
    fleet = await new_fleet()
    return await fleet.waiting("d")


@pytest.fixture
def event(clock):
    """Makes an event of now."""

    def make(kind: EventKind = EventKind.DEVICE_ATTRIBUTES, **fields: object) -> Event:
        return Event(kind=kind, at=clock.now, peer=Peer(Wire.SHELL, "tester"), **fields)

    return make


@pytest.fixture
def told(registrar):
    """The events of a kind so far: their outcomes and reasons, and devices."""

    async def find(kind: EventKind) -> list[tuple[Outcome, str, int | None]]:
        events = await registrar.events(after_seq=0, limit=1000, device_id=None)
        return [(one.outcome, one.reason, one.device_id) for one in events if one.kind is kind]

    return find


@pytest.fixture
def reserve(store, clock):
    """Reserves a serial number for a device, with a key of its own unless one is named."""

    def make(serial: int, name: str = "d", key: bytes | None = None, by: SqlStore = store):
        return by.reserve_serial(
            SerialReservation(
                serial=serial,
                authority_id=1,
                key_digest=key or serial.to_bytes(32),
                organisation_id=1,
                name=name,
                at=clock.now,
            )
        )

    return make


@pytest.fixture
def newcomer(clock):
    """A device about to be born in a profile, with a certificate of ours or other credentials."""

    def make(profile, name="n", *, issued=None, credentials=None, **fields):
        return NewDevice(
            organisation_id=profile.organisation_id,
            profile_id=profile.id,
            name=name,
            type="t",
            credentials=credentials or given(issued),
            provision_state=PROVISIONED,
            peer=Peer(Wire.HTTP, "x"),
            at=clock.now,
            issued=issued,
            **fields,
        )

    return make


@pytest.fixture
async def certified(store, new_fleet, reserve, newcomer):
    """A device born with certificate 1, whose key is 1."""
    fleet = await new_fleet(name="certified")
    assert await reserve(1, "c")
    born = await store.create_device(newcomer(fleet.profile, "c", issued=signed(1)))
    return born.device


@pytest.fixture
def drivers(database, request, tmp_path):
    """Two on one database, not yet opened."""
    if database == "sqlite":
        return [SqliteDriver(tmp_path / "g.db") for _ in range(2)]
    url = request.getfixturevalue("postgres_url")
    return [PostgresDriver(url) for _ in range(2)]


@pytest.fixture
async def stores(drivers):
    """Two stores on one database, as two gateways have them."""
    opened = [SqlStore(driver, Vault(bytes(32))) for driver in drivers]
    for one in opened:
        await one.open()
    yield opened
    for one in opened:
        await one.close()


@pytest.fixture
def keep_profile(event):
    """Keeps a profile as it is, without a ticket."""

    async def make(store, name="kept", kind=ProvisionType.X509_CERTIFICATE_CHAIN, **fields):
        profile = DeviceProfile(id=0, name=name, provision_type=kind, **fields)
        new = NewProfile(profile=profile, key=None, secret=None, spare=None)
        return await SqlRegistrar(store).save_profile(new, event(EventKind.PROFILE_CREATE))

    return make
