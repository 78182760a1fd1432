"""What a database must offer to carry `SqlStore`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

Row: TypeAlias = tuple[Any, ...]
T = TypeVar("T")


class Told:
    """The rows of the events told in a transaction, until they are written at its end."""

    __slots__ = ("_marks", "rows")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._marks: list[int] = []

    def mark(self) -> None:
        """A savepoint was made."""
        self._marks.append(len(self.rows))

    def keep(self) -> None:
        """What was told since the last savepoint holds."""
        self._marks.pop()

    def drop(self) -> None:
        """What was told since the last savepoint did not happen."""
        del self.rows[self._marks.pop() :]

    def prove_written(self) -> None:
        """Before a commit. Raises `RuntimeError` for events that it would lose: only decisions
        given to the `Writer` may tell some."""
        if self.rows:
            raise RuntimeError("events were told that nobody writes: decide it through the Writer")


class Transaction(Protocol):
    """An open write transaction. Statements are named as in `queries.sql`.

    `told`: see `gateway.store.events.tell`. `waited_s`: how long it waited for its turn, while it
    was open.
    """

    told: Told
    waited_s: float

    async def fetch(self, name: str, *params: Any) -> list[Row]:
        """Run one statement and return its rows (none for one that returns nothing)."""

    async def insert_rows(self, name: str, rows: Sequence[Row]) -> int:
        """Run a `VALUES (*)` statement for all rows; return how many rows were written."""

    async def savepoint(self) -> None: ...

    async def release(self) -> None: ...

    async def rollback_to_savepoint(self) -> None: ...


Work: TypeAlias = Callable[[Transaction], Awaitable[T]]


class Driver(Protocol):
    """One database. Raises `StoreUnavailable` for whatever the database could not do.

    `database` is its folder of migrations.
    """

    database: str

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def point(self, name: str, *params: Any) -> Row | None:
        """The first row of an indexed look-up that touches a handful of pages."""

    async def rows(self, name: str, *params: Any) -> list[Row]:
        """All rows of a query that may be long; it does not hold up the event loop."""

    async def read(self, statement: str, *params: Any) -> list[Row]:
        """As `rows`, for a statement that was composed; values stand at `?1`, `?2`, …"""

    async def transact(self, work: Work[T]) -> T:
        """Run `work` in one write transaction and return after it is durable.

        Rolled back when it raises. `work` must not wait for anything but its transaction, and may
        be run again from its start when somebody else's transaction got in its way.
        """

    async def expect_many(self) -> None:
        """Large transactions follow one another from now on."""

    async def migrate(self, scripts: Iterable[tuple[int, str]]) -> int:
        """Apply the scripts numbered above the stored version, each once; return the version."""
