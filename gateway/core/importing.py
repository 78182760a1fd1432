"""Many devices at once: rows of a table, each created or brought up to date by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Final, Protocol, TypeAlias

from msgspec import Struct, field

from gateway.core.import_rows import ImportRow, Rejected
from gateway.core.model import Actor, Permission, Secret
from gateway.core.ports import Clock, NewToken

SLICE: Final = 64
"""Rows that are looked at before others on the loop are served; about a millisecond."""
_GAP_S: Final = 0.03
"""SQLite lets others in by chance: they look every 25 ms, in the first eighth of a second. So long
nobody must write, to let them find the door open."""


class Imported(StrEnum):
    """What became of a row that was taken."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


RowOutcome: TypeAlias = Imported | Rejected


class Tally(Struct):
    """How many rows came to which end."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0

    def add(self, outcomes: Sequence[RowOutcome]) -> None:
        created, updated = outcomes.count(Imported.CREATED), outcomes.count(Imported.UPDATED)
        unchanged = outcomes.count(Imported.UNCHANGED)
        self.created += created
        self.updated += updated
        self.unchanged += unchanged
        self.rejected += len(outcomes) - created - updated - unchanged

    @property
    def rows(self) -> int:
        return self.created + self.updated + self.unchanged + self.rejected


class Made(Struct):
    """Names of what a batch made because rows name it."""

    profiles: list[str] = field(default_factory=list)
    customers: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def clear(self) -> None:
        """The transaction is run again."""
        self.profiles.clear()
        self.customers.clear()
        self.groups.clear()


class ImportJob(Struct):
    """One file under way, as it is on disk: what was done is not done again.

    `position` is the number of the last row that is done. The rejects of all batches but the last
    are in the first `rejects_bytes` of the file of rejects; those of the last are in `pending`, so
    that a crash between the commit and the file loses none. `rejects_path` is that file, absolute.
    """

    id: int
    source: str
    position: int = 0
    tally: Tally = field(default_factory=Tally)
    rejects_bytes: int = 0
    pending: tuple[Rejected, ...] = ()
    rejects_path: str = ""


class Powers(Struct, frozen=True):
    """What the one who imports may do besides creating devices."""

    update: bool
    set_credentials: bool
    share: bool
    make_customers: bool
    make_profiles: bool


class PreparedRows(Struct, frozen=True):
    """Rows with what the store makes for each outside of a transaction; `kept` is its own."""

    rows: Sequence[ImportRow]
    kept: Sequence[object]


class ImportBatch(Struct, frozen=True, kw_only=True):
    """Rows that are decided in one transaction.

    `update` False: attributes and time series of devices that exist are left alone. `dry`: all is
    decided and nothing is kept. `job`, with `last` (the number of the last row of the batch) and
    `before` (rows that were rejected before they came here), is written along. The store fills
    `made`.
    """

    actor: Actor
    prepared: PreparedRows
    powers: Powers
    at: int
    update: bool = True
    dry: bool = False
    job: ImportJob | None = None
    last: int = 0
    before: tuple[Rejected, ...] = ()
    made: Made = field(default_factory=Made)


class ImportStore(Protocol):
    """What importing needs of the store. Raises `StoreUnavailable`, `Overloaded`."""

    def prepare(self, rows: Sequence[ImportRow], at: int) -> Sequence[object]:
        """What is made for each row before its transaction: ids, sealed credentials."""

    async def import_rows(self, batch: ImportBatch) -> list[RowOutcome]:
        """Decide all rows, in order, in one transaction. A row that is rejected undoes nothing.

        Raises `Conflict` (VERSION) when another process moved the job, or finished it.
        """

    async def begin_import(
        self, actor: Actor, fingerprint: bytes, source: str, at: int, *, anew: bool
    ) -> ImportJob:
        """The unfinished job of this fingerprint, or (also when `anew`) one from the beginning."""

    async def end_import(self, actor: Actor, job: ImportJob, at: int) -> None:
        """The whole file is done."""

    async def has_neighbours(self, at: int) -> bool:
        """Whether a gateway in another process wants its turns at writing, and is not served in
        the order of asking."""


class Importer:
    """Imports rows, as an actor, in batches of up to `most_rows`."""

    def __init__(self, store: ImportStore, *, clock: Clock, new_token: NewToken) -> None:
        self._store = store
        self._clock = clock
        self._new_token = new_token

    async def prepare(self, rows: Sequence[ImportRow]) -> PreparedRows:
        """Make ready for `write` what needs no transaction; it may go on beside another's. Others
        on the loop are served in between."""
        at, kept = self._clock(), list[object]()
        for start in range(0, len(rows), SLICE):
            some = rows[start : start + SLICE]
            for row in some:
                if row.credentials is None:
                    row.spare = Secret(self._new_token())
            kept += self._store.prepare(some, at)
            await asyncio.sleep(0)
        return PreparedRows(rows, kept)

    async def write(
        self,
        actor: Actor,
        prepared: PreparedRows,
        *,
        update: bool = True,
        dry: bool = False,
        job: ImportJob | None = None,
        last: int = 0,
        before: Sequence[Rejected] = (),
        made: Made | None = None,
    ) -> list[RowOutcome]:
        """Create or update the devices of these rows, in order, in one transaction.

        What was done is on disk when this returns. An existing device keeps what its row does not
        say; a new one without credentials gets a token. With a `job`, its position, its counts and
        its pending rejects are written in the same transaction, and here too. `made` is told what
        was made (of a dry run: would be) because rows name it.
        """
        batch = ImportBatch(
            actor=actor,
            prepared=prepared,
            powers=powers_of(actor),
            at=self._clock(),
            update=update,
            dry=dry,
            job=job,
            last=last,
            before=tuple(before),
            made=made or Made(),
        )
        outcomes = await self._store.import_rows(batch)
        if job is not None:
            moved(batch, job, outcomes)
        return outcomes

    async def import_rows(
        self, actor: Actor, rows: Sequence[ImportRow], *, update: bool = True, dry: bool = False
    ) -> list[RowOutcome]:
        """`prepare` and `write`."""
        return await self.write(actor, await self.prepare(rows), update=update, dry=dry)

    async def give_way(self) -> None:
        """Let a gateway on the same store write; returns at once where none is waiting for it."""
        if await self._store.has_neighbours(self._clock()):
            await asyncio.sleep(_GAP_S)

    async def begin(
        self, actor: Actor, fingerprint: bytes, source: str, *, anew: bool = False
    ) -> ImportJob:
        """The job of a file: from where it was left, or from its beginning."""
        return await self._store.begin_import(actor, fingerprint, source, self._clock(), anew=anew)

    async def end(self, actor: Actor, job: ImportJob) -> None:
        await self._store.end_import(actor, job, self._clock())


def powers_of(actor: Actor) -> Powers:
    may = actor.may
    return Powers(
        update=may(Permission.ORG_DEVICES_EDIT),
        set_credentials=may(Permission.SET_AUTH_TOKEN),
        share=may(Permission.ORG_DEVICES_SHARE),
        make_customers=may(Permission.ORG_CREATE),
        make_profiles=may(Permission.PRODUCT_EDIT),
    )


def moved(batch: ImportBatch, job: ImportJob, outcomes: Sequence[RowOutcome]) -> ImportJob:
    """Move `job` past this batch."""
    here = tuple(one for one in outcomes if isinstance(one, Rejected))
    job.position = batch.last
    job.pending = tuple(sorted((*batch.before, *here), key=attrgetter("number")))
    job.tally.add(outcomes)
    job.tally.rejected += len(batch.before)
    return job
