"""The PostgreSQL driver: one connection that writes, a pool of others that look up.

Several gateways may work on one database, under READ COMMITTED:

- Whoever changes devices, profiles or events first takes the turn, a row lock that is held until
  the commit. So the sequence numbers of events are in the order of their commits, and locks are
  taken in one order everywhere. Readings and attributes go side by side, without it.
- Two transactions that get into each other's way all the same (a deadlock, or a key that was free
  a moment ago) are run again from the start.
- When the connection breaks during COMMIT nobody knows whether it took place. Callers hear
  `StoreUnavailable`; the device that asks again is told that its name is taken.

Rows are written from one array per column (`unnest`): one prepared statement for any number of
rows. PostgreSQL's text holds no NUL, which devices may send; it is escaped on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import asyncpg
import msgspec

from gateway.core.errors import ConfigError, StoreUnavailable
from gateway.store.driver import Row, Told, Work
from gateway.store.queries import columns_of, postgres_queries, postgres_words

T = TypeVar("T")

QUERIES = postgres_queries()

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_TRIES = 5
"""Runs of one transaction. Each further one means that yet another gateway was quicker."""
_CLOSE_S = 2.0
"""For a connection to be closed in good manners."""
_MIGRATION_S = 3600.0
"""For one migration, or for another process to be done with it."""
_SIDE_BY_SIDE = frozenset({"generations", "insert_readings", "insert_latest", "insert_attributes"})
"""Statements that need no turn."""
_CONFLICTS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.UniqueViolationError,
)
_CONDITIONS = ("08", "28", "3D", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that tell of the server's condition: connection, authorization, no such
database, rolled back, out of resources, locked, stopped by an operator, I/O error, internal."""
_STATES = ("25006", "25P03", "42501")
"""Single ones: read-only, idle in a transaction for too long, no permission."""


class Arrays(NamedTuple):
    """A many-row statement that takes an array per column, and which of those hold text."""

    statement: str
    text_columns: frozenset[int]

    def fill(self, rows: Sequence[Row]) -> Iterator[Sequence[Any]]:
        if "DO UPDATE" in self.statement:
            rows = sorted(rows)  # two gateways that lock the same rows do it in the same order
        for index, column in enumerate(zip(*rows, strict=True)):
            if index in self.text_columns:
                # The connection's codec for text is not asked for the members of an array.
                yield [text and without_nul(text) for text in column]
            else:
                yield column


class PostgresTransaction:
    """A transaction on the writing connection. `arrays` are remembered between transactions."""

    def __init__(self, connection: Any, arrays: dict[str, Arrays]) -> None:
        self._connection = connection
        self._arrays = arrays
        self._my_turn = False
        self.told = Told()
        self.waited_s = 0.0

    async def fetch(self, name: str, *params: Any) -> list[Row]:
        await self._take_turn(name)
        return [tuple(row) for row in await self._connection.fetch(QUERIES[name], *params)]

    async def insert_rows(self, name: str, rows: Sequence[Row]) -> int:
        if not rows:
            return 0
        await self._take_turn(name)
        arrays = self._arrays.get(name)
        if arrays is None:
            arrays = self._arrays[name] = await self.from_arrays(QUERIES[name])
        status = await self._connection.execute(arrays.statement, *arrays.fill(rows))
        return int(status.rpartition(" ")[2])

    async def from_arrays(self, statement: str) -> Arrays:
        """An `INSERT … VALUES (*)` taking arrays; the server is asked what its columns are."""
        places = ",".join(f"${number}" for number in range(1, columns_of(statement) + 1))
        single = await self._connection.prepare(statement.replace("(*)", f"({places})"))
        kinds = [kind.name for kind in single.get_parameters()]
        arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(kinds, 1))
        source = f"SELECT * FROM unnest({arrays})"  # noqa: S608 - the server's own words
        texts = frozenset(index for index, kind in enumerate(kinds) if kind == "text")
        return Arrays(statement.replace("VALUES (*)", source), texts)

    async def _take_turn(self, name: str) -> None:
        if not self._my_turn and name not in _SIDE_BY_SIDE:
            began = perf_counter()
            await self._connection.fetch(QUERIES["take_turn"])
            self.waited_s = perf_counter() - began
            self._my_turn = True

    async def savepoint(self) -> None:
        # A lock taken after the savepoint would be lost when going back to it.
        await self._take_turn("savepoint")
        await self._connection.execute("SAVEPOINT decision")
        self.told.mark()

    async def release(self) -> None:
        await self._connection.execute("RELEASE SAVEPOINT decision")
        self.told.keep()

    async def rollback_to_savepoint(self) -> None:
        await self._connection.execute("ROLLBACK TO SAVEPOINT decision")
        await self._connection.execute("RELEASE SAVEPOINT decision")
        self.told.drop()


class PostgresDriver:
    """One database on a PostgreSQL server; `url` as libpq takes it. It is never shown.

    `lookups` bounds the connections for reading, `connect_s` the seconds to get one, `answer_s`
    those the server may take for a look-up, `write_s` those for a statement that writes, `turn_s`
    those to wait for another gateway's lock (a stop has to fit in 10 s, this included). Broken
    connections are replaced at their next use.
    """

    database = "postgres"

    def __init__(
        self,
        url: str,
        *,
        lookups: int = 8,
        connect_s: float = 5,
        answer_s: float = 30,
        write_s: float = 5,
        turn_s: float = 2,
    ) -> None:
        self._url = url
        self._lookups = lookups
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._write_s = write_s
        self._turn_s = turn_s
        self._pool: Any = None
        self._connection: Any = None
        self._writing = asyncio.Lock()
        self._arrays: dict[str, Arrays] = {}

    async def open(self) -> None:
        try:
            with _as_unavailable():
                self._pool = await asyncpg.create_pool(
                    min_size=1,
                    max_size=self._lookups,
                    init=_speak_as_we_do,
                    reset=_leave_as_it_is,
                    **self._settings(self._answer_s),
                )
                await self._writer()
        except asyncpg.exceptions.ClientConfigurationError as exc:
            # The password stands where no message of asyncpg's reaches: see `config.Url`.
            raise ConfigError(f"[store] url: {exc}") from None

    def _settings(self, statement_s: float) -> dict[str, Any]:
        return {
            "dsn": self._url,
            "timeout": self._connect_s,
            "command_timeout": statement_s,
            "max_cached_statement_lifetime": 0,
            "server_settings": {"application_name": "gatehouse"},
        }

    async def _writer(self) -> Any:
        if self._pool is None:
            raise StoreUnavailable("the store is closed")
        if self._connection is None or self._connection.is_closed():
            connection = await asyncpg.connect(**self._settings(self._write_s))
            await _speak_as_we_do(connection)
            # A gateway that hangs with the turn in its hands must not stop the others for ever.
            await connection.execute(
                f"SET idle_in_transaction_session_timeout = {int(self._write_s * 1000)};"
                f"SET lock_timeout = {int(self._turn_s * 1000)}"
            )
            self._connection = connection
        return self._connection

    async def close(self) -> None:
        pool, connection = self._pool, self._connection
        self._pool = self._connection = None
        for one in (connection, pool):
            if one is not None:
                try:
                    await asyncio.wait_for(one.close(), _CLOSE_S)
                except Exception:
                    one.terminate()

    async def point(self, name: str, *params: Any) -> Row | None:
        with _as_unavailable():
            async with self._open_pool().acquire(timeout=self._answer_s) as connection:
                row = await connection.fetchrow(QUERIES[name], *params)
        return None if row is None else tuple(row)

    async def rows(self, name: str, *params: Any) -> list[Row]:
        return await self._fetch(QUERIES[name], params)

    async def read(self, statement: str, *params: Any) -> list[Row]:
        return await self._fetch(postgres_words(statement), params)

    async def _fetch(self, statement: str, params: Sequence[Any]) -> list[Row]:
        with _as_unavailable():
            async with self._open_pool().acquire(timeout=self._answer_s) as connection:
                return [tuple(row) for row in await connection.fetch(statement, *params)]

    def _open_pool(self) -> Any:
        if self._pool is None:
            raise StoreUnavailable("the store is closed")
        return self._pool

    async def transact(self, work: Work[T]) -> T:
        with _as_unavailable():
            async with self._writing:
                for _ in range(_TRIES - 1):
                    with contextlib.suppress(*_CONFLICTS):
                        return await self._attempt(work)
                return await self._attempt(work)

    async def _attempt(self, work: Work[T]) -> T:
        connection = await self._writer()
        try:
            await connection.execute(_BEGIN)
            tx = PostgresTransaction(connection, self._arrays)
            result = await work(tx)
            tx.told.prove_written()
            if await connection.execute("COMMIT") != "COMMIT":
                raise StoreUnavailable("the database server rolled the transaction back")
        except Exception:
            await self._roll_back(connection)
            raise
        except BaseException:
            connection.terminate()
            raise
        return result

    async def _roll_back(self, connection: Any) -> None:
        """Leave the connection fit for the next transaction, or closed."""
        try:
            await connection.execute("ROLLBACK", timeout=_CLOSE_S)
        except Exception:
            connection.terminate()

    async def expect_many(self) -> None:
        """It needs to know nothing of it."""

    async def migrate(self, scripts: Iterable[tuple[int, str]]) -> int:
        version, scripts = await self._version(), list(scripts)
        if scripts and version > scripts[-1][0]:
            raise StoreUnavailable(
                f"its schema is version {version}, and this Gatehouse knows {scripts[-1][0]}: a "
                "newer one made it; install that one"
            )
        for number, script in scripts:
            if number > version:
                await self._apply(number, script)
                version = number
        return version

    async def _version(self) -> int:
        """The stored version, 0 in a database that has none. Makes nothing."""
        if not (await self.rows("has_versions"))[0][0]:
            return 0
        try:
            return int((await self.rows("version"))[0][0])
        except asyncpg.SyntaxOrAccessError as exc:
            raise StoreUnavailable(_STRANGE) from exc

    async def _apply(self, number: int, script: str) -> None:
        """One migration in one transaction, unless another process has just done it."""
        try:
            with _as_unavailable():
                await self._apply_alone(number, script)
        except asyncpg.DuplicateTableError as exc:
            raise StoreUnavailable(_STRANGE) from exc

    async def _apply_alone(self, number: int, script: str) -> None:
        async with self._writing:
            connection = await self._writer()
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = 0")
                await connection.execute(_ALONE, _MIGRATING, timeout=_MIGRATION_S)
                await connection.execute(_VERSIONS)
                if number > await connection.fetchval(QUERIES["version"]):
                    await connection.execute(script, timeout=_MIGRATION_S)
                    await connection.execute(QUERIES["insert_version"], number)


_ALONE = "SELECT pg_advisory_xact_lock($1)"
_MIGRATING = 0x6761_7465_686F_7573
"""The advisory lock of migrations: "gatehous" in ASCII."""
_STRANGE = "it holds tables of another program"
_VERSIONS = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)"

# U+FDD0 to U+FDD2 are noncharacters (Unicode, section 23.7): nobody's text has them by right.
_MARK, _MARK_ITSELF, _NUL = "\ufdd0", "\ufdd0\ufdd1", "\ufdd0\ufdd2"


def without_nul(text: str) -> str:
    """`text` as PostgreSQL can hold it; `with_nul` is the inverse."""
    if "\x00" in text or _MARK in text:
        return text.replace(_MARK, _MARK_ITSELF).replace("\x00", _NUL)
    return text


def with_nul(text: str) -> str:
    if _MARK in text:
        return text.replace(_NUL, "\x00").replace(_MARK_ITSELF, _MARK)
    return text


def list_without_nul(text: str) -> str:
    """The same for a JSON list of texts, the only JSON that is given to statements."""
    if "\\u0000" in text or _MARK in text:
        return msgspec.json.encode([without_nul(one) for one in msgspec.json.decode(text)]).decode()
    return text


async def _speak_as_we_do(connection: Any) -> None:
    """Prepare a new connection."""
    for name, encoder, decoder in (
        ("text", without_nul, with_nul),
        ("json", list_without_nul, str),
    ):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=encoder, decoder=decoder, format="text"
        )


async def _leave_as_it_is(connection: Any) -> None:
    """Nothing to reset: no look-up changes its connection. It saves a round trip each."""


class _as_unavailable(contextlib.AbstractContextManager[None]):  # noqa: N801 - used as a statement
    """Turn what the server or the way to it could not do into `StoreUnavailable`."""

    def __exit__(self, kind: Any, exc: BaseException | None, trace: Any) -> None:
        reason = _reason(exc)
        if reason is not None:
            raise StoreUnavailable(reason) from exc


def _reason(exc: BaseException | None) -> str | None:
    """Why the database was not available; None when the fault is ours."""
    if isinstance(exc, TimeoutError):
        return "the database server did not answer in time"
    if isinstance(exc, OSError):
        return f"the database server cannot be reached ({exc.strerror or type(exc).__name__})"
    if isinstance(exc, asyncpg.exceptions.TargetServerAttributeNotMatched):
        return "no database server of those in the address takes writes"
    if isinstance(exc, asyncpg.InternalClientError):
        # Such as the farewell of a server that stops, when it arrives between two statements.
        return "the connection to the database server broke"
    if isinstance(exc, asyncpg.PostgresError):
        state = exc.sqlstate or ""
        if state.startswith(_CONDITIONS) or state in _STATES:
            return str(exc.args[0]) if exc.args else type(exc).__name__
    # asyncpg has one class for a closed connection and for wrong use; `DataError` is below it.
    if type(exc) is asyncpg.InterfaceError and "clos" in str(exc):
        return "the connection to the database server is closed"
    return None
