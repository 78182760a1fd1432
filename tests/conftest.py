"""What every room's tests share: a store, a clock one can turn, counted tokens."""

from __future__ import annotations

import itertools
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

from postgres_server import PostgresServer, find_programs

from gateway.core.access import Access
from gateway.core.model import (
    Device,
    DeviceProfile,
    FleetTicket,
    Peer,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionType,
    RequestedCredentials,
    Secret,
    Wire,
)
from gateway.core.provisioning import Provisioner
from gateway.core.registry import ProfileDraft, Registry
from gateway.store.driver import Driver
from gateway.store.migrate import migrations
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore
from gateway.store.sqlite import SqliteDriver
from gateway.store.vault import Vault

# No example fails because the machine is busy. Where CI is set Hypothesis says so by itself, and
# draws the same examples each time, which this keeps.
settings.register_profile(
    "unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")

PEER = Peer(Wire.HTTP, "192.0.2.7:50123")


class FixedClock:
    """A clock that stands until it is turned."""

    def __init__(self, now: int = 1_790_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def tokens() -> Callable[[], str]:
    """Counted tokens of the usual length: token-00000000000001, …"""
    counter = itertools.count(1)
    return lambda: f"token-{next(counter):014d}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that the processes that share the tests end together."""
    here = Path(__file__).parent
    slow = ("trouble", "clients", "e2e", "cli")
    places = {name: place for place, name in enumerate(slow)}
    items.sort(key=lambda one: places.get(one.path.relative_to(here).parts[0], len(slow)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `every_database` run on each; the others on SQLite in memory."""
    everywhere = metafunc.definition.get_closest_marker("every_database")
    if everywhere and "database" in metafunc.fixturenames:
        metafunc.parametrize(
            "database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
        )


@pytest.fixture
def database() -> str:
    return "sqlite"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL server; without its programs the test is skipped, or fails in CI."""
    programs = find_programs()
    if programs is None:
        told = "PostgreSQL is not here; get it with `apt-get install postgresql`"
        if os.environ.get("GATEHOUSE_REQUIRE_CLIENTS") == "1":
            pytest.fail(told)
        pytest.skip(told)
    server = PostgresServer(programs)
    server.start()
    yield server
    server.remove()


@pytest.fixture
async def empty_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The address of a new database without tables."""
    name = postgres_server.new_name()
    async with _connection(postgres_server, "postgres") as connection:
        await connection.execute(f"CREATE DATABASE {name}")
    yield postgres_server.url(name)
    async with _connection(postgres_server, "postgres") as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> str:
    """The address of a migrated database in which nothing was done yet: one for all tests of this
    process, put back to what it was before each. Making one takes twenty times as long."""
    from gateway.store.postgres import PostgresDriver

    name = "test_migrated"
    if not postgres_server.put_back:
        async with _connection(postgres_server, "postgres") as connection:
            await connection.execute(f"CREATE DATABASE {name}")
        driver = PostgresDriver(postgres_server.url(name))
        await driver.open()
        await driver.migrate(migrations(driver.database))
        await driver.close()
        async with _connection(postgres_server, name) as connection:
            await connection.execute(_KEEP)
            postgres_server.put_back = await connection.fetchval(_PUT_BACK)
    async with _connection(postgres_server, name) as connection:
        await connection.execute(_ALONE)
        await connection.execute(postgres_server.put_back)
    return postgres_server.url(name)


_KEEP = """
CREATE SCHEMA kept;
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('CREATE TABLE kept.%1$I AS TABLE public.%1$I', name);
  END LOOP;
END $$
"""
_PUT_BACK = """
SELECT 'SET session_replication_role = replica;'
       || (SELECT string_agg(format('DELETE FROM %1$I; INSERT INTO %1$I TABLE kept.%1$I;',
                                    tablename), '')
             FROM pg_tables WHERE schemaname = 'public')
       || (SELECT string_agg(format('ALTER SEQUENCE %I RESTART;', sequencename), '')
             FROM pg_sequences WHERE schemaname = 'public')
"""
"""Tells how all tables become what they were."""
_ALONE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@asynccontextmanager
async def _connection(server: PostgresServer, database: str) -> AsyncIterator[Any]:
    import asyncpg

    connection = await asyncpg.connect(server.url(database))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture(scope="session", autouse=True)
def _migrated_once() -> Iterator[None]:
    """A database in memory begins as a copy of the first one: most of the time of opening it goes
    into its migrations, and thousands are opened."""
    migrate, migrated = SqliteDriver.migrate, dict[tuple[tuple[int, str], ...], bytes]()

    async def copy(driver: SqliteDriver, scripts: Iterable[tuple[int, str]]) -> int:
        steps = tuple(scripts)
        connection = driver._writer
        if driver._path is not None or connection is None:
            return await migrate(driver, steps)
        if steps in migrated and await connection.run(_is_empty):
            await connection.run(lambda db: db.deserialize(migrated[steps]))
            return steps[-1][0]
        version = await migrate(driver, steps)
        migrated[steps] = await connection.run(lambda db: db.serialize())
        return version

    SqliteDriver.migrate = copy  # type: ignore[method-assign]
    yield
    SqliteDriver.migrate = migrate  # type: ignore[method-assign]


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]


@pytest.fixture
def driver(database: str, request: pytest.FixtureRequest) -> Driver:
    """The database of this test, not yet opened."""
    if database == "sqlite":
        return SqliteDriver(None)
    from gateway.store.postgres import PostgresDriver

    return PostgresDriver(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(driver: Driver) -> AsyncIterator[SqlStore]:
    """The real SQL, by default on a database in memory."""
    opened = SqlStore(driver, Vault(bytes(32)))
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def registry(store: SqlStore, clock: FixedClock, tokens: Callable[[], str]) -> Registry:
    return Registry(
        store,
        SqlRegistrar(store),
        clock=clock,
        new_token=tokens,
        peer=Peer(Wire.SHELL, "tester"),
    )


@pytest.fixture
def provisioner(store: SqlStore, clock: FixedClock, tokens: Callable[[], str]) -> Provisioner:
    return Provisioner(
        store, clock=clock, new_token=tokens, readable=lambda text: text.startswith("MII")
    )


@pytest.fixture
def access(store: SqlStore) -> Access:
    return Access(store)


class Fleet:
    """A profile in the store, and requests with its key and secret."""

    def __init__(self, registry: Registry, ticket: FleetTicket) -> None:
        self.registry = registry
        self.ticket = ticket
        self.profile: DeviceProfile = ticket.profile

    def request(
        self,
        name: str | None = None,
        *,
        key: str | None = None,
        secret: str | None = None,
        credentials: RequestedCredentials | None = None,
        gateway: bool = False,
        device_type: str | None = None,
    ) -> ProvisionRequest:
        return ProvisionRequest(
            proof=ProvisionKey(
                self.ticket.key if key is None else Secret(key),
                self.ticket.secret if secret is None else Secret(secret),
            ),
            peer=PEER,
            device_name=name,
            credentials=credentials or RequestedCredentials(),
            gateway=gateway,
            device_type=device_type,
        )

    async def waiting(self, name: str) -> Device:
        """A pre-provisioned device that waits for its claim."""
        added = await self.registry.add_device(self.profile, name)
        assert isinstance(added, Provisioned)
        return added.device


@pytest.fixture
def new_fleet(registry: Registry) -> Callable[..., object]:
    """Makes a profile of a provision type, by default one open to new devices."""

    async def make(
        provision_type: ProvisionType = ProvisionType.ALLOW_CREATE_NEW_DEVICES,
        name: str = "fleet",
        **settings: object,
    ) -> Fleet:
        profile = DeviceProfile(id=0, name=name, provision_type=provision_type, **settings)  # type: ignore[arg-type]
        key = Secret(f"{name}-key-0001")
        secret = Secret(f"{name}-secret-0001")
        await registry.save_profile(ProfileDraft(profile=profile, key=key, secret=secret))
        stored = await registry.profile(name)
        assert stored is not None
        ticket = await registry.ticket(stored)
        assert ticket is not None
        return Fleet(registry, ticket)

    return make
