"""The SQLite driver: aiosqlite's thread for writing, a connection on the loop for looking up.

Measured here, and why it is as it is:

- aiosqlite crosses to its thread once per awaited call. One crossing per statement costs a
  provisioning five; so a whole batch of decisions crosses once (`BatchConnection.run`) and runs
  to its commit there. This keeps aiosqlite's thread, queue and error passing.
- Looking up a token is 8 µs in SQLite and 60–150 µs through a thread on a busy loop. Indexed
  look-ups of single rows therefore run on the loop, on a read-only connection of their own, which
  WAL never makes wait for the writer. Longer reads go through a second aiosqlite connection.
- Rows are written with many-row `VALUES` statements: `executemany` lets go of the interpreter's
  lock once per row, and each time a busy event loop may keep it for a whole switch interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import aiosqlite

from gateway.core.errors import StoreUnavailable
from gateway.store.driver import Row, Told, Transaction, Work
from gateway.store.queries import QUERIES, rows_statement

T = TypeVar("T")

_MOST_ROWS = 128
"""Rows per statement. 128 × 10 columns stay far below SQLite's 32,766 bound values."""

_OLDEST = (3, 35, 0)
"""RETURNING came with it."""
_APPLICATION = 0x47484F55
"""`PRAGMA application_id` of our files: GHOU."""
_BUSY_S = 2.0
"""How long to wait for another process's write. A stop has to fit in 10 s, this included."""
_ASK_S = 0.001
"""How often it is asked for. SQLite's own wait asks ever more seldom, down to ten times a second:
beside an import, whose transactions are long and follow one another, it was hardly ever let in."""
_LONG_S, _GAP_S = 0.1, 3 * _ASK_S
"""After a transaction this long others get so long to begin theirs."""
_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(_BUSY_S * 1000)}",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA cache_size = -64000",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
)

_FOR_MANY = ("PRAGMA wal_autocheckpoint = 20000", "PRAGMA cache_size = -40000")
"""For large transactions that follow one another. A page that many of them change goes from the log
to the database once in 80 MB; a smaller cache does as well, and leaves room for the rows."""


class BatchConnection(aiosqlite.Connection):
    """aiosqlite's connection, with one more way in: run a function on its thread."""

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function(connection)` on the connection's thread and return its result."""
        return cast(T, await self._execute(function, self._conn))  # type: ignore[no-untyped-call]


async def _opened(connection: BatchConnection) -> BatchConnection:
    await connection
    return connection


class SqliteTransaction:
    """A transaction on the writing thread. Its methods never wait, they only look as if."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.told = Told()
        self.waited_s = 0.0  # it has its turn when it is opened

    async def fetch(self, name: str, *params: Any) -> list[Row]:
        return self._connection.execute(QUERIES[name], params).fetchall()

    async def insert_rows(self, name: str, rows: Sequence[Row]) -> int:
        written, start = 0, 0
        while start < len(rows):
            size = min(_MOST_ROWS, 1 << ((len(rows) - start).bit_length() - 1))
            values = [value for row in rows[start : start + size] for value in row]
            written += self._connection.execute(_rows_text(name, size), values).rowcount
            start += size
        return written

    async def savepoint(self) -> None:
        self._connection.execute("SAVEPOINT decision")
        self.told.mark()

    async def release(self) -> None:
        self._connection.execute("RELEASE decision")
        self.told.keep()

    async def rollback_to_savepoint(self) -> None:
        self._connection.execute("ROLLBACK TO decision")
        self._connection.execute("RELEASE decision")
        self.told.drop()


class SqliteDriver:
    """One SQLite database, in a file or (`path` None) in memory, the tests' double.

    The in-memory database has one connection, and every read runs on its thread.
    """

    database = "sqlite"

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._writer: BatchConnection | None = None
        self._reader: BatchConnection | None = None
        self._lookup: sqlite3.Connection | None = None
        self._rest_until = 0.0

    async def open(self) -> None:
        with _as_unavailable():
            # Tried here first: aiosqlite leaves a thread behind when opening fails.
            self._try_to_open()
            self._writer = await self._connect((*_PRAGMAS, "PRAGMA busy_timeout = 0"))
            if self._path is not None:
                reading = (_PRAGMAS[0], "PRAGMA query_only = ON")
                self._reader = await self._connect(reading)
                self._lookup = self._connector((*reading, "PRAGMA cache_size = -8000"))()

    def _try_to_open(self) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StoreUnavailable(
                f"SQLite {sqlite3.sqlite_version} is too old; 3.35 or newer is needed"
            )
        connection = self._connector(_PRAGMAS)()
        try:
            _check_ours(connection)
            _write_ahead(connection)
        finally:
            connection.close()

    async def _connect(self, pragmas: Iterable[str]) -> BatchConnection:
        connection = BatchConnection(self._connector(pragmas), iter_chunk_size=64)
        opening = asyncio.ensure_future(_opened(connection))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # Given up while it opens: its thread would answer a loop that is gone.
            await asyncio.wait((opening,))
            if opening.exception() is None:
                await connection.close()
            raise

    def _connector(self, pragmas: Iterable[str]) -> Callable[[], sqlite3.Connection]:
        target = ":memory:" if self._path is None else str(self._path)

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(
                target, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            for pragma in pragmas:
                connection.execute(pragma)
            return connection

        return connect

    async def close(self) -> None:
        if self._lookup is not None:
            self._lookup.close()
        for connection in (self._reader, self._writer):
            if connection is not None:
                await connection.close()
        self._lookup = self._reader = self._writer = None

    async def point(self, name: str, *params: Any) -> Row | None:
        if self._lookup is None:
            found = await self.rows(name, *params)
            return found[0] if found else None
        with _as_unavailable():
            return cast("Row | None", self._lookup.execute(QUERIES[name], params).fetchone())

    async def rows(self, name: str, *params: Any) -> list[Row]:
        return await self.read(QUERIES[name], *params)

    async def read(self, statement: str, *params: Any) -> list[Row]:
        connection = self._reader or self._open_writer()
        with _as_unavailable():
            return await connection.run(lambda db: db.execute(statement, params).fetchall())

    async def transact(self, work: Work[T]) -> T:
        def run(connection: sqlite3.Connection) -> T:
            if (rest_s := self._rest_until - time.monotonic()) > 0:
                time.sleep(rest_s)
            _begin(connection)
            began = time.monotonic()
            try:
                tx = _transaction(connection)
                result = _run_to_end(cast("Coroutine[Any, Any, T]", work(tx)))
                tx.told.prove_written()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            ended = time.monotonic()
            if self._path is not None and ended - began > _LONG_S:
                self._rest_until = ended + _GAP_S
            return result

        with _as_unavailable():
            # The thread finishes what it began: a caller that stops waiting undoes nothing.
            return await asyncio.shield(self._open_writer().run(run))

    async def expect_many(self) -> None:
        connection = self._open_writer()
        with _as_unavailable():
            for pragma in _FOR_MANY:
                await connection.execute(pragma)

    async def migrate(self, scripts: Iterable[tuple[int, str]]) -> int:
        def run(connection: sqlite3.Connection) -> int:
            # The lock first, then the look: another process may be at it too.
            _begin(connection)
            try:
                version = _migrate(connection, list(scripts))
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            return version

        with _as_unavailable():
            return await self._open_writer().run(run)

    async def integrity(self) -> list[str]:
        """SQLite's own check of the whole file: `["ok"]`, or what is wrong."""
        with _as_unavailable():
            found = await self._open_writer().run(
                lambda db: db.execute("PRAGMA integrity_check(20)").fetchall()
            )
        return [str(row[0]) for row in found]

    def _open_writer(self) -> BatchConnection:
        if self._writer is None:
            raise StoreUnavailable("the store is closed")
        return self._writer


def _check_ours(connection: sqlite3.Connection) -> None:
    """A file that is another program's database is left alone.

    The tables first: another process may be making the store, and its mark comes with them.
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != _APPLICATION:
        raise StoreUnavailable("it is another program's database")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Change to WAL. SQLite does not wait for others here, so we do."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin(connection: sqlite3.Connection) -> None:
    """Begin to write, as soon as no other process does."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as exc:
            busy = exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_ASK_S)
        else:
            return


def _migrate(connection: sqlite3.Connection, scripts: Sequence[tuple[int, str]]) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if not scripts:
        return version
    newest = scripts[-1][0]
    if version > newest:
        raise StoreUnavailable(
            f"its schema is version {version}, and this Gatehouse knows {newest}: a newer one "
            "made it; install that one"
        )
    for number, script in scripts:
        if number > version:
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    return newest


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would commit before it begins."""
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip(" \n;"):
        yield statement.removesuffix(";")


def _transaction(connection: sqlite3.Connection) -> Transaction:
    return SqliteTransaction(connection)


def _run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine that never really waits. Decisions are written once, for any driver."""
    try:
        work.send(None)
    except StopIteration as stop:
        return cast(T, stop.value)
    work.close()
    raise RuntimeError("a decision waited for something other than its transaction")


_texts: dict[tuple[str, int], str] = {}


def _rows_text(name: str, size: int) -> str:
    text = _texts.get((name, size))
    if text is None:
        text = _texts[(name, size)] = rows_statement(QUERIES[name], size)
    return text


class _as_unavailable(contextlib.AbstractContextManager[None]):  # noqa: N801 - used as a statement
    """Turn what SQLite could not do into `StoreUnavailable`. A class: cheaper than a generator."""

    def __exit__(self, kind: Any, exc: BaseException | None, trace: Any) -> None:
        # IntegrityError and its siblings are our mistakes, not the database's condition.
        if type(exc) in (sqlite3.OperationalError, sqlite3.DatabaseError):
            raise StoreUnavailable(str(exc)) from exc
