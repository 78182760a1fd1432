"""What is kept: on disk, in memory, and nowhere in clear."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from gateway.core.errors import CredentialsGone, StoreUnavailable
from gateway.core.model import (
    AccessToken,
    AttributeScope,
    AttributesSelection,
    Certificate,
    Event,
    EventKind,
    Json,
    MqttBasic,
    Peer,
    PresharedKey,
    Provisioned,
    ProvisionType,
    Reading,
    Revoked,
    Secret,
    SeriesQuery,
    Wire,
)
from gateway.store.credentials import credentials_from_bytes, credentials_to_bytes
from gateway.store.identity import uuid7, uuid_text
from gateway.store.migrate import migrations
from gateway.store.queries import QUERIES, rows_statement
from gateway.store.retention import Retention
from gateway.store.sql_store import SqlStore
from gateway.store.sqlite import SqliteDriver, _check_ours, _statements
from gateway.store.vault import Vault

pytestmark = pytest.mark.every_database

ROOT = Path(__file__).parents[2]
VALUES = {
    "boolean": True,
    "whole": -(2**63),
    "real": 42.0,
    "text": "plain",
    "json": Json('{"a":[1,2]}'),
    "number-like": "12",
}
ALL = AttributesSelection()


@pytest.fixture
async def device(new_fleet):
    fleet = await new_fleet()
    return await fleet.waiting("d")


async def test_attributes_come_back_as_they_were(store, device):
    """Every kind of value survives, a later value replaces an earlier one, keys are selectable."""
    await store.save_attributes(device, AttributeScope.CLIENT, VALUES, 1)
    await store.save_attributes(device, AttributeScope.CLIENT, {"text": "later"}, 2)
    await store.save_attributes(device, AttributeScope.SHARED, {"s": 1}, 2)
    found = await store.attributes(device, ALL)
    assert found.client == VALUES | {"text": "later"}
    assert found.shared == {"s": 1}
    some = AttributesSelection(client=("text", "missing"), shared=())
    found = await store.attributes(device, some)
    assert (found.client, found.shared) == ({"text": "later"}, {})


async def test_a_read_sees_what_was_sent_before(store, device):
    """An attribute request right behind a publish, not awaited, still sees its value."""
    saving = asyncio.create_task(store.save_attributes(device, AttributeScope.CLIENT, {"k": 1}, 1))
    await asyncio.sleep(0)
    found = await store.attributes(device, ALL)
    assert found.client == {"k": 1}
    await saving


async def test_readings_and_their_latest(store, registry, device):
    """Readings are kept by time; the latest is the newest by time, not by arrival."""
    await store.save_readings(device, [Reading(20, "t", 2.5), Reading(10, "t", 1)])
    await store.save_readings(device, [Reading(15, "t", 9), Reading(20, "t", 3)])
    assert await registry._registrar.latest(device.id) == [Reading(20, "t", 3)]
    readings = await registry._registrar.series(device.id, SeriesQuery(key="t", since=0, until=100))
    assert readings == [Reading(10, "t", 1), Reading(15, "t", 9), Reading(20, "t", 3)]


async def test_a_removed_device_can_say_nothing_more(store, registry, device):
    """A session of a removed device is told so, and its neighbours in the batch are stored."""
    other = (await registry.add_device(await registry.profile("fleet"), "e")).device
    await registry.remove_device(await registry.device("d"))
    gone, kept = await asyncio.gather(
        store.save_readings(device, [Reading(1, "t", 1)]),
        store.save_readings(other, [Reading(1, "t", 1)]),
        return_exceptions=True,
    )
    assert isinstance(gone, CredentialsGone)
    assert kept is None
    with pytest.raises(CredentialsGone):
        await store.save_attributes(device, AttributeScope.CLIENT, {"k": 1}, 1)


async def test_old_readings_and_events_are_forgotten(store, registry, device, clock):
    """Retention takes what is older than its days, and leaves the latest value and newest event."""
    day = 86_400_000
    old, new = clock.now - 8 * day, clock.now - 6 * day
    await store.save_readings(device, [Reading(old, "t", 1), Reading(new, "t", 2)])
    await store.save_readings(device, [Reading(old, "only", 3)])
    retention = Retention(store, clock, readings_keep_days=7, events_keep_days=1)
    await retention.sweep()
    registrar = registry._registrar
    assert await registrar.series(device.id, SeriesQuery(key="t", since=0, until=2**62)) == [
        Reading(new, "t", 2)
    ]
    assert [reading.key for reading in await registrar.latest(device.id)] == ["only", "t"]
    before = await registry.events()
    assert len(before) > 1
    clock.now += 2 * day
    await retention.sweep()
    await store.writer.settled()
    left, swept = await registry.events()
    assert left == before[-1]
    assert (swept.kind, swept.detail) == (EventKind.AUDIT_SWEEP, {"events": str(len(before) - 1)})


@pytest.mark.parametrize(
    "credentials",
    [
        AccessToken(Secret("token")),
        MqttBasic("c", 'u"', Secret("p,\\")),
        MqttBasic(),
        Certificate("MIIB"),
        PresharedKey('i"', Secret("ab" * 32)),
        Revoked("mark"),
    ],
)
def test_credentials_survive_sealing(credentials):
    """Each kind of credentials comes back equal from its sealed bytes."""
    clear = credentials_to_bytes(credentials)
    assert credentials_from_bytes(credentials.type.value, clear) == credentials


def test_uuids_are_version_7_and_ordered():
    """RFC 9562: version, variant, and time first."""
    made = uuid.UUID(bytes=uuid7(1_790_000_000_000))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.bytes[:6] == (1_790_000_000_000).to_bytes(6)
    assert uuid7(1) < uuid7(2)
    assert uuid_text(made.bytes) == str(made)


async def test_a_file_is_opened_again_with_all_that_was_in_it(tmp_path, clock):
    """What was answered is in the file; a second process on it sees and changes the same."""
    path = tmp_path / "g.db"
    first, second = (SqlStore(SqliteDriver(path), Vault(bytes(32))) for _ in range(2))
    await first.open()
    await second.open()
    from gateway.core.model import Peer, Wire
    from gateway.core.ports import NewDevice

    def new(name):
        return NewDevice(
            organisation_id=1,
            profile_id=1,
            name=name,
            type="t",
            credentials=AccessToken(Secret("clear-" + name)),
            provision_state=None,
            peer=Peer(Wire.SHELL, "x"),
            at=clock(),
        )

    results = await asyncio.gather(
        *(store.create_device(new(f"d{n % 20}")) for n in range(40) for store in (first, second)),
        return_exceptions=True,
    )
    born = [result for result in results if type(result).__name__ == "Provisioned"]
    assert len(born) == 20
    assert len({result.device.id for result in born}) == 20
    await first.close()
    await second.close()
    rows = sqlite3.connect(path)
    assert rows.execute("SELECT count(*) FROM device").fetchone() == (20,)
    rows.close()
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"clear-" not in content


async def test_migrations_run_once(tmp_path):
    """Opening a store again applies nothing again; versions are numbered from 1."""
    scripts = migrations("sqlite")
    assert [number for number, _ in scripts] == list(range(1, len(scripts) + 1))
    for _ in range(2):
        driver = SqliteDriver(tmp_path / "g.db")
        await driver.open()
        assert await driver.migrate(scripts) == scripts[-1][0]
        await driver.close()


async def test_a_failing_migration_leaves_the_version(tmp_path):
    """A script that breaks halfway changes nothing."""
    driver = SqliteDriver(tmp_path / "g.db")
    await driver.open()
    with pytest.raises(Exception, match="syntax"):
        await driver.migrate([(1, "CREATE TABLE a (x); CREATE TABLE nonsense nonsense;")])
    assert await driver.migrate([(1, "CREATE TABLE a (x);")]) == 1
    await driver.close()


@pytest.mark.parametrize("name", [name for name in QUERIES if "VALUES (*)" in QUERIES[name]])
def test_many_row_statements_match_their_tables(name):
    """Each many-row statement is accepted by the real schema, for one row and for many."""
    db = sqlite3.connect(":memory:")
    for _, script in migrations("sqlite"):
        db.executescript(script)
    for rows in (1, 128):
        statement = rows_statement(QUERIES[name], rows)
        db.execute("EXPLAIN " + statement, [None] * statement.count("?"))
    db.close()


@pytest.mark.parametrize("name", [name for name in QUERIES if "VALUES (*)" not in QUERIES[name]])
def test_every_statement_is_accepted_by_the_schema(name):
    """No statement names a column that is not there."""
    db = sqlite3.connect(":memory:")
    for _, script in migrations("sqlite"):
        db.executescript(script)
    numbers = {int(number) for number in re.findall(r"\?(\d+)", QUERIES[name])}
    db.execute("EXPLAIN " + QUERIES[name], [None] * max(numbers, default=0))
    db.close()


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("CREATE TABLE a (x); CREATE TABLE b (y);", 2),
        ("INSERT INTO a VALUES (';');\n-- a; comment\nSELECT 1;\n", 2),
        ("SELECT 1", 1),
        ("\n;\n", 0),
    ],
)
def test_scripts_are_split_into_their_statements(script, statements):
    """A semicolon in a text or a comment ends nothing."""
    assert len([one for one in _statements(script) if one.strip(" \n;")]) == statements


async def test_simultaneous_first_starts_agree(tmp_path):
    """Of several processes that open a fresh file at once, none fails, and all see one schema."""
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from gateway.store.sqlite import SqliteDriver\n"
        "from gateway.store.sql_store import SqlStore\n"
        "from gateway.store.vault import Vault, load_master_key\n"
        "async def main():\n"
        "    path = Path(sys.argv[1])\n"
        "    store = SqlStore(SqliteDriver(path), Vault(load_master_key(path, None)))\n"
        "    await store.open()\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(tmp_path / "g.db"), cwd=ROOT
        )
        for _ in range(4)
    ]
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0] * 4


async def test_a_store_sealed_with_another_key_is_not_opened(tmp_path):
    """The wrong master key is noticed at the start, not by every device."""
    first = SqlStore(SqliteDriver(tmp_path / "g.db"), Vault(bytes(32)))
    await first.open()
    await first.close()
    second = SqlStore(SqliteDriver(tmp_path / "g.db"), Vault(bytes([1]) * 32))
    with pytest.raises(StoreUnavailable, match="master key"):
        await second.open()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("PRAGMA user_version = 99", "newer one"),
        ("PRAGMA application_id = 7", "another program"),
    ],
)
async def test_other_databases_are_left_alone(tmp_path, statement, told):
    """A newer Gatehouse's file, and another program's, are refused with the reason."""
    store = SqlStore(SqliteDriver(tmp_path / "g.db"), Vault(bytes(32)))
    await store.open()
    await store.close()
    db = sqlite3.connect(tmp_path / "g.db")
    db.execute(statement)
    db.close()
    with pytest.raises(StoreUnavailable, match=told):
        await SqlStore(SqliteDriver(tmp_path / "g.db"), Vault(bytes(32))).open()


def test_a_store_that_another_process_makes_meanwhile_is_ours(tmp_path):
    """Between the two looks at a fresh file somebody else's first migration may be committed."""
    path = tmp_path / "g.db"
    looks = []

    def trace(statement):
        looks.append(statement)
        if len(looks) == 2:
            asyncio.run(make())

    async def make():
        other = SqlStore(SqliteDriver(path), Vault(bytes(32)))
        await other.open()
        await other.close()

    connection = sqlite3.connect(path, isolation_level=None)
    connection.set_trace_callback(trace)
    _check_ours(connection)
    connection.close()
    assert len(looks) == 2


async def test_long_transactions_of_another_process_let_others_in_between(tmp_path):
    """An import that commits one batch after the other does not make the gateway refuse devices."""
    stores = [SqlStore(SqliteDriver(tmp_path / "g.db"), Vault(bytes(32))) for _ in range(2)]
    for store in stores:
        await store.open()

    async def long(tx):
        await tx.fetch("next_ids", "user", 0)
        time.sleep(0.15)  # the thread that writes, not the loop

    async def keep_on():
        while True:
            await stores[0].driver.transact(long)

    importing = asyncio.create_task(keep_on())
    try:
        for _ in range(4):
            await stores[1].probe()
    finally:
        importing.cancel()
        await asyncio.gather(importing, return_exceptions=True)
        for store in stores:
            await store.close()


async def test_a_removed_device_reads_nothing(store, registry, device):
    """The session of a removed device is told so when it asks for attributes, too."""
    await registry.remove_device(await registry.device("d"))
    with pytest.raises(CredentialsGone):
        await store.attributes(device, ALL)


async def test_a_removed_devices_readings_go_with_it(store, registry, device):
    """However many there are, nothing of a removed device stays."""
    await store.save_readings(device, [Reading(ts, "t", ts) for ts in range(5000)])
    await registry.remove_device(await registry.device("d"))
    registrar = registry._registrar
    assert await registrar.series(device.id, SeriesQuery(key="t", since=0, until=2**62)) == []
    assert await registrar.latest(device.id) == []


async def test_a_claim_that_cannot_be_answered_is_not_made(store, registry, new_fleet):
    """When the stored credentials do not open, the device stays claimable."""
    fleet = await new_fleet(ProvisionType.CHECK_PRE_PROVISIONED_DEVICES, name="check")
    await fleet.waiting("m")
    event = Event(kind=EventKind.DEVICE_PROVISION, at=1, peer=Peer(Wire.HTTP, "x"), subject="m")
    right, store.vault = store.vault, Vault(bytes([7]) * 32)
    with pytest.raises(StoreUnavailable):
        await store.claim_device(fleet.profile, "m", event)
    store.vault = right
    assert isinstance(await store.claim_device(fleet.profile, "m", event), Provisioned)


async def test_a_profile_made_again_is_not_the_old_one(store, registry, new_fleet):
    """A key that comes back with another profile opens that one, not a remembered one."""
    fleet = await new_fleet(name="again")
    old = await store.find_fleet_ticket(fleet.ticket.key)
    await registry.remove_profile(fleet.profile)
    await new_fleet(ProvisionType.DISABLED, name="again")
    new = await store.find_fleet_ticket(fleet.ticket.key)
    assert (new.id, new.profile.id) != (old.id, old.profile.id)
    assert new.profile.provision_type is ProvisionType.DISABLED


async def test_an_opening_that_is_given_up_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that answered later would find its loop closed: Ctrl-C at a bad moment."""
    connect, begun, ended = sqlite3.connect, threading.Event(), []

    def slow(*args: object, **options: object) -> sqlite3.Connection:
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            time.sleep(0.1)
            ended.append(True)
        return connect(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(sqlite3, "connect", slow)
    driver = SqliteDriver(tmp_path / "g.db")
    opening = asyncio.ensure_future(driver.open())
    while not begun.is_set():
        await asyncio.sleep(0.001)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert ended == [True]
    await driver.close()
