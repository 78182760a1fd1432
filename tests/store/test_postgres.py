"""What is PostgreSQL's own: several gateways on one database, and a server that comes and goes."""

from __future__ import annotations

import asyncio
import sqlite3

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import ConfigError, StoreUnavailable
from gateway.core.model import (
    AccessToken,
    AttributeScope,
    AttributesSelection,
    DeviceProfile,
    Event,
    EventKind,
    Outcome,
    Peer,
    Provisioned,
    ProvisionType,
    Reading,
    RefusalReason,
    Refused,
    Secret,
    Wire,
)
from gateway.core.ports import NewDevice, NewProfile
from gateway.store.events import tell
from gateway.store.migrate import migrations
from gateway.store.postgres import (
    QUERIES,
    PostgresDriver,
    PostgresTransaction,
    list_without_nul,
    with_nul,
    without_nul,
)
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore
from gateway.store.vault import Vault

pytestmark = pytest.mark.postgres

AT = 1_790_000_000_000
SHELL = Peer(Wire.SHELL, "x")


def event(kind=EventKind.DEVICE_PROVISION, subject="x"):
    return Event(kind=kind, at=AT, peer=SHELL, subject=subject)


def new(name, *, profile_id, token=None, **fields):
    return NewDevice(
        organisation_id=1,
        profile_id=profile_id,
        name=name,
        type="t",
        credentials=AccessToken(Secret(token or f"clear-{name}")),
        peer=SHELL,
        at=AT,
        **{"provision_state": "provisioned"} | fields,
    )


@pytest.fixture
async def gateways(postgres_url):
    """Two stores on one database, as two gateways have them."""
    stores = [SqlStore(PostgresDriver(postgres_url), Vault(bytes(32))) for _ in range(2)]
    for store in stores:
        await store.open()
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
async def profile(gateways):
    return await save_profile(gateways[0], "p", "key-00001")


def save_profile(store, name, key):
    made = NewProfile(
        profile=DeviceProfile(
            id=0, name=name, provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES
        ),
        key=Secret(key),
        secret=None,
        spare=(Secret("spare-key"), Secret("spare-secret")),
    )
    return SqlRegistrar(store).save_profile(made, event(EventKind.PROFILE_CREATE))


@pytest.fixture
async def driver(postgres_url):
    opened = PostgresDriver(postgres_url)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def connection(postgres_url):
    """Somebody else's connection to the same database."""
    opened = await asyncpg.connect(postgres_url)
    yield opened
    await opened.close()


# ── statements and schema ─────────────────────────────────────────────────────────────────────


SEARCH = "device_search"
"""SQLite's index of texts. PostgreSQL has none without an extension, and is never asked for it."""


async def test_every_statement_is_accepted_by_the_schema(connection):
    """No statement is in words PostgreSQL does not know, for one row or for many."""
    for statement in QUERIES.values():
        if SEARCH in statement:
            continue
        if "VALUES (*)" in statement:
            statement = (await PostgresTransaction(connection, {}).from_arrays(statement)).statement
        await connection.prepare(statement)


async def test_both_databases_have_the_same_tables(connection):
    """A column that is added to one schema is in the other as well."""
    rows = await connection.fetch(
        "SELECT table_name::text, column_name::text, is_nullable = 'NO'"
        " FROM information_schema.columns"
        " NATURAL JOIN information_schema.tables WHERE table_type = 'BASE TABLE'"
        " AND table_schema = 'public' AND table_name <> 'schema_version'"
    )
    lite = sqlite3.connect(":memory:")
    for _, script in migrations("sqlite"):
        lite.executescript(script)
    expected = lite.execute(
        'SELECT t.name, c.name, c."notnull" OR c.pk FROM sqlite_master t'
        " JOIN pragma_table_info(t.name) c WHERE t.type = 'table'"
    ).fetchall()
    lite.close()
    assert {tuple(row) for row in rows} == {
        (table, column, bool(solid))
        for table, column, solid in expected
        if not table.startswith(SEARCH)
    }


@settings(deadline=None, max_examples=80)
@given(st.lists(st.text(st.sampled_from("a\x00\ufdd0\ufdd1\ufdd2"))))
def test_escaped_texts_come_back(texts):
    """What PostgreSQL cannot hold is written without NUL, and read as it was."""
    for text in texts:
        assert "\x00" not in without_nul(text)
        assert with_nul(without_nul(text)) == text


async def test_nul_is_kept(gateways, profile):
    """A NUL in keys and values, which PostgreSQL refuses, survives, also when asked for by name."""
    store = gateways[0]
    device = (await store.create_device(new("d", profile_id=profile.id))).device
    values = {"k\x00": "a\x00b", "k": "\x00", "k\ufdd0": "\ufdd0"}
    await store.save_attributes(device, AttributeScope.CLIENT, values, AT)
    await store.save_readings(device, [Reading(1, key, text) for key, text in values.items()])
    found = await store.attributes(device, AttributesSelection())
    assert found.client == values
    some = AttributesSelection(client=("k\x00", "k\ufdd0", "none\x00"), shared=())
    found = await store.attributes(device, some)
    assert found.client == {"k\x00": "a\x00b", "k\ufdd0": "\ufdd0"}
    latest = await SqlRegistrar(store).latest(device.id)
    assert {reading.key: reading.value for reading in latest} == values
    assert list_without_nul('["a"]') == '["a"]'


# ── several gateways ──────────────────────────────────────────────────────────────────────────


async def test_two_gateways_share_the_names(gateways, profile):
    """Forty creations of twenty names through two gateways make twenty devices."""
    results = await asyncio.gather(
        *(
            store.create_device(new(f"d{n % 20}", profile_id=profile.id, token=f"{n}-{turn}"))
            for n in range(20)
            for turn, store in enumerate(gateways)
        )
    )
    born = [result for result in results if isinstance(result, Provisioned)]
    assert len({result.device.name for result in born}) == len(born) == 20
    assert results.count(Refused(RefusalReason.NAME_TAKEN)) == 20
    listed = await SqlRegistrar(gateways[1]).devices(
        after_id=0, limit=100, profile_id=None, text=""
    )
    assert {one.device.id for one in listed} == {result.device.id for result in born}
    for result in born:
        for store in gateways:
            known = await store.find_credentials(result.credentials.id)
            assert known is not None
            assert known.device.name == result.device.name


async def test_two_gateways_share_the_credentials(gateways, profile):
    """Twenty devices that ask for one token through two gateways: one gets it, nobody is left."""
    results = await asyncio.gather(
        *(
            gateways[n % 2].create_device(new(f"d{n}", profile_id=profile.id, token="one"))
            for n in range(20)
        )
    )
    assert sum(isinstance(result, Provisioned) for result in results) == 1
    assert results.count(Refused(RefusalReason.CREDENTIALS_TAKEN)) == 19
    assert await SqlRegistrar(gateways[0]).count_devices() == 1


async def test_two_gateways_claim_a_device_once(gateways, profile):
    """Of twenty claims of one waiting device through two gateways one succeeds."""
    await gateways[0].create_device(new("m", profile_id=profile.id, provision_state=None))
    results = await asyncio.gather(
        *(gateways[n % 2].claim_device(profile, "m", event(subject="m")) for n in range(20))
    )
    assert sum(isinstance(result, Provisioned) for result in results) == 1
    assert results.count(Refused(RefusalReason.ALREADY_PROVISIONED)) == 19
    told = await SqlRegistrar(gateways[0]).events(after_seq=0, limit=100, device_id=None)
    outcomes = [one.outcome for one in told if one.kind is EventKind.DEVICE_PROVISION]
    assert outcomes.count(Outcome.SUCCESS) == 1
    assert outcomes.count(Outcome.REFUSED) == 19


async def test_a_mixture_through_two_gateways_ends_well(gateways, profile):
    """Births, claims, readings and attributes of the same devices, crosswise: nothing is lost."""
    names = [f"d{n}" for n in range(30)]
    made = await asyncio.gather(
        *(
            gateways[0].create_device(new(name, profile_id=profile.id, provision_state=None))
            for name in names
        )
    )
    devices = [result.device for result in made]

    async def busy(store, order, at):
        for device in order:
            claims = store.claim_device(profile, device.name, event(subject=device.name))
            readings = store.save_readings(device, [Reading(at, "t", at), Reading(at, "u", at)])
            values = store.save_attributes(device, AttributeScope.CLIENT, {"a": at, "b": at}, at)
            birth = store.create_device(new(f"{device.name}-{at}", profile_id=profile.id))
            yield asyncio.gather(readings, claims, birth, values)

    first = [one async for one in busy(gateways[0], devices, 1)]
    second = [one async for one in busy(gateways[1], devices[::-1], 2)]
    results = await asyncio.gather(*first, *second)
    assert sum(isinstance(one[1], Provisioned) for one in results) == 30
    assert all(isinstance(one[2], Provisioned) for one in results)
    registrar = SqlRegistrar(gateways[0])
    for device in devices:
        assert [one.value for one in await registrar.latest(device.id)] == [2, 2]


async def test_events_are_numbered_in_the_order_of_their_commits(gateways, connection):
    """An event cannot appear below one that was already seen: whoever follows misses none."""
    first, second = (store.driver for store in gateways)
    event = Event(kind=EventKind.DEVICE_CREATE, at=AT, peer=Peer(Wire.SHELL, "x"))
    holding, go = asyncio.Event(), asyncio.Event()

    async def slow(tx):
        tell(tx, [event])
        await gateways[0].chain.write(tx)
        holding.set()
        await go.wait()

    async def quick(tx):
        tell(tx, [event])
        await gateways[1].chain.write(tx)

    before = asyncio.create_task(first.transact(slow))
    await holding.wait()
    behind = asyncio.create_task(second.transact(quick))
    await asyncio.sleep(0.1)
    assert not behind.done()
    go.set()
    await asyncio.gather(before, behind)
    rows = await connection.fetch("SELECT seq FROM event ORDER BY seq")
    assert [row[0] for row in rows] == [1, 2]


async def test_a_removed_device_leaves_nothing_that_arrived_meanwhile(
    gateways, profile, connection
):
    """Attributes being saved while another gateway removes the device go with it."""
    first, second = gateways
    device = (await first.create_device(new("d", profile_id=profile.id))).device
    holding, go = asyncio.Event(), asyncio.Event()

    async def saving(tx):
        assert await tx.fetch("generations", f"[{device.id}]") == [(device.id, 1)]
        holding.set()
        await go.wait()
        await tx.insert_rows("insert_attributes", [(device.id, "c", "k", 1, 1, None, None, AT)])

    saved = asyncio.create_task(first.driver.transact(saving))
    await holding.wait()
    removed = asyncio.create_task(
        SqlRegistrar(second).remove_device(device.id, event(EventKind.DEVICE_REMOVE))
    )
    await asyncio.sleep(0.1)
    assert not removed.done()
    go.set()
    await saved
    assert await removed
    assert await connection.fetchval("SELECT count(*) FROM attribute") == 0


async def test_a_deadlock_is_decided_again(postgres_url, gateways):
    """Of two transactions that wait for each other one is run again; both are written."""
    drivers = [store.driver for store in gateways]
    met, runs = asyncio.Barrier(2), []

    async def crosswise(driver, names):
        async def work(tx):
            again = driver in runs
            runs.append(driver)
            for name in names:
                await tx._connection.execute(
                    "UPDATE sequence SET last = last + 1 WHERE name = $1", name
                )
                if not again and name == names[0]:
                    await met.wait()

        await driver.transact(work)

    names = ["profile", "ticket"]
    await asyncio.gather(crosswise(drivers[0], names), crosswise(drivers[1], names[::-1]))
    assert len(runs) >= 3
    last = "SELECT last FROM sequence WHERE name = ANY($1)"
    assert [row[0] for row in await (await drivers[0]._writer()).fetch(last, names)] == [2, 2]


async def test_a_taken_key_is_told_whoever_was_quicker(gateways):
    """Two gateways that give one provision key to two profiles: one is told that it is taken."""
    results = await asyncio.gather(
        *(save_profile(store, f"p{turn}", "the-one-key") for turn, store in enumerate(gateways)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["DeviceProfile", "KeyTaken"]
    assert len(await SqlRegistrar(gateways[0]).profiles()) == 1


# ── migrations ────────────────────────────────────────────────────────────────────────────────


async def test_two_gateways_start_on_an_empty_database(empty_url):
    """Whoever comes second finds the tables made; looking at the version makes nothing."""
    drivers = [PostgresDriver(empty_url) for _ in range(2)]
    for driver in drivers:
        await driver.open()
    assert await drivers[0].migrate(()) == 0
    assert await drivers[0].rows("has_versions") == [(0,)]
    scripts = migrations("postgres")
    versions = await asyncio.gather(*(driver.migrate(scripts) for driver in drivers))
    assert versions == [scripts[-1][0]] * 2
    assert await drivers[0].rows("count_devices") == [(0,)]
    for driver in drivers:
        await driver.close()


async def test_a_failing_migration_leaves_the_version(driver):
    """A script that breaks halfway changes nothing, and is made good by a better one."""
    now = await driver.migrate(())
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await driver.migrate([(now + 1, "CREATE TABLE a (x int); CREATE TABLE nonsense nonsense;")])
    assert await driver.migrate([(now + 1, "CREATE TABLE a (x int);")]) == now + 1
    assert await driver.migrate([(now + 1, "CREATE TABLE a (x int);")]) == now + 1


async def test_a_newer_schema_is_not_ours(driver, connection):
    """A database that a newer Gatehouse migrated is left alone."""
    await connection.execute("INSERT INTO schema_version VALUES (99)")
    with pytest.raises(StoreUnavailable, match="version 99"):
        await driver.migrate(migrations("postgres"))
    assert await driver.migrate(()) == 99


@pytest.mark.parametrize("table", ["device (a int)", "schema_version (version text)"])
async def test_another_programs_tables_are_left_alone(empty_url, table):
    """A database that is somebody else's is refused in words, and nothing is added to it."""
    stranger = await asyncpg.connect(empty_url)
    await stranger.execute(f"CREATE TABLE {table}")
    driver = PostgresDriver(empty_url)
    await driver.open()
    with pytest.raises(StoreUnavailable, match="another program"):
        await driver.migrate(migrations("postgres"))
    await driver.close()
    count = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert await stranger.fetchval(count) == 1
    await stranger.close()


# ── a server that comes and goes ──────────────────────────────────────────────────────────────


async def test_a_restarted_server_is_found_again(postgres_server, gateways, profile):
    """While the server is away everything is `StoreUnavailable`; then all goes on by itself."""
    store = gateways[0]
    first = await store.create_device(new("before", profile_id=profile.id))
    assert isinstance(first, Provisioned)
    postgres_server.stop()
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.create_device(new("during", profile_id=profile.id))
            with pytest.raises(StoreUnavailable):
                await store.find_credentials(first.credentials.id)
        assert not store.writer.healthy
    finally:
        postgres_server.start()
    known = await store.find_credentials(first.credentials.id)
    assert known is not None
    assert known.device == first.device
    await store.probe()
    assert store.writer.healthy
    assert isinstance(await store.create_device(new("during", profile_id=profile.id)), Provisioned)


async def test_a_connection_that_breaks_inside_a_transaction(driver, connection):
    """The transaction is told to have failed, none of it is written, and the next one works."""

    async def work(tx):
        await tx.fetch("insert_setting", "a", b"")
        await connection.execute("SELECT pg_terminate_backend($1)", tx._connection.get_server_pid())
        await tx.fetch("insert_setting", "b", b"")

    with pytest.raises(StoreUnavailable):
        await driver.transact(work)

    async def again(tx):
        return await tx.fetch("setting", "a")

    assert await driver.transact(again) == []


async def test_a_mistake_of_ours_is_no_condition_of_the_server(driver):
    """A wrong statement or value propagates as it is, and the connection stays of use."""

    async def wrong_value(tx):
        await tx.fetch("insert_setting", "a", "hunter2")

    async def wrong_statement(tx):
        await tx._connection.execute("SELECT nonsense")

    with pytest.raises(asyncpg.DataError):
        await driver.transact(wrong_value)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await driver.transact(wrong_statement)
    with pytest.raises(asyncpg.InterfaceError):
        await driver.rows("events", 1)

    async def right(tx):
        await tx.fetch("insert_setting", "a", b"x")

    await driver.transact(right)
    assert await driver.point("setting", "a") == (b"x",)


@pytest.mark.parametrize(
    ("limit", "reason"), [({"write_s": 0.2}, "in time"), ({"turn_s": 0.2}, "lock timeout")]
)
async def test_a_turn_that_does_not_come_is_given_up(postgres_url, connection, limit, reason):
    """What is not answered or let go of in time is unavailable, and holds up nobody else."""
    driver = PostgresDriver(postgres_url, **limit)
    await driver.open()
    holding = connection.transaction()
    await holding.start()
    await connection.execute("SELECT * FROM sequence FOR UPDATE")

    async def waits(tx):
        await tx.fetch("next_ids", "device", 1)
        return True

    with pytest.raises(StoreUnavailable, match=reason):
        await driver.transact(waits)
    await holding.rollback()
    assert await driver.transact(waits)
    await driver.close()


async def test_a_wait_for_the_turn_is_not_taken_for_work(
    gateways, profile, connection, monkeypatch
):
    """Beside an import, whose transactions are long and follow one another: what comes meanwhile
    still shares one, however long those before had to wait."""
    monkeypatch.setattr("gateway.store.writer._LONGEST_S", 0.2)
    store, lone = gateways[0], []
    for together in (1, 40):
        await connection.execute("BEGIN")
        await connection.fetch(QUERIES["take_turn"])
        births = [
            asyncio.create_task(store.create_device(new(f"{together}-{n}", profile_id=profile.id)))
            for n in range(together)
        ]
        await asyncio.sleep(0.25)
        await connection.execute("COMMIT")
        await asyncio.wait(births, return_when=asyncio.FIRST_COMPLETED)
        lone.append(store.writer.sizes.counts[0])
        await asyncio.gather(*births)
    assert lone[0] == lone[1]


@pytest.mark.parametrize(
    ("old", "wrong"),
    [("hunter2", "swordfish"), ("/test_", "/nowhere_"), ("?host=", "?host=/nowhere")],
)
async def test_a_server_that_does_not_let_us_in(postgres_url, old, wrong):
    """A wrong password, database or address is unavailable; no message shows the password."""
    driver = PostgresDriver(postgres_url.replace(old, wrong, 1))
    with pytest.raises(StoreUnavailable) as caught:
        await driver.open()
    await driver.close()
    for word in ("hunter2", "swordfish"):
        assert word not in str(caught.value) + repr(driver)


async def test_an_address_that_cannot_be_meant(postgres_url):
    """An option asyncpg does not know how to use is an error of the configuration."""
    driver = PostgresDriver(postgres_url + "&sslmode=sometimes")
    with pytest.raises(ConfigError, match="sslmode") as caught:
        await driver.open()
    assert "hunter2" not in str(caught.value)


async def test_a_closed_store_is_unavailable(driver):
    """After `close` nothing is reached for, and closing twice is allowed."""
    await driver.close()
    await driver.close()
    with pytest.raises(StoreUnavailable):
        await driver.rows("profiles")
