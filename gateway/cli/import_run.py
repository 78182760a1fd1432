"""One run of `import`: rows in batches, each on disk before the next, to be taken up again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter

import click
from msgspec import Struct

from gateway.cli.import_findings import Findings
from gateway.cli.options import shown
from gateway.cli.rejects import Rejects
from gateway.core.csv_rows import Malformed, Row
from gateway.core.import_rows import ImportRow, Rejected, RowReader
from gateway.core.importing import SLICE, Importer, ImportJob, Made, PreparedRows, Tally
from gateway.core.model import Actor
from gateway.store.imports import TAKEN

_MOST_TOLD = 20
"""Rejected rows that are named on the terminal; all are in the file."""

_HEAD_START_S = 0.001
"""Until a batch is on the store's thread; while rows are read that thread has to wait its turn."""


class Options(Struct, frozen=True, kw_only=True):
    """How rows are imported."""

    update: bool
    dry: bool
    batch: int
    """Rows in one transaction at most,"""
    batch_characters: int = 2_000_000
    """and about as many characters: with long cells a batch has fewer rows."""
    width: int
    """Columns of the table: a row may have fewer cells, and more only where they are empty."""
    titles: Sequence[str] = ()
    """What the columns are called, for messages."""


class _Gathered(Struct, frozen=True):
    """A batch that is ready to be written: what was found, and what was rejected already."""

    found: list[Row | Malformed]
    prepared: PreparedRows
    bad: list[Rejected]


def _slice(
    rows: Iterator[Row | Malformed], most: int, room: int
) -> tuple[list[Row | Malformed], int]:
    """The next rows, up to `most`, or as many as fill `room` characters; and the room left."""
    some: list[Row | Malformed] = []
    for one in itertools.islice(rows, most):
        some.append(one)
        if isinstance(one, Row):
            room -= sum(map(len, one.cells))
            if room <= 0:
                break
    return some, room


class Run:
    """Imports the rows of one table. `tally` counts this run and those it continues.

    `rejects` None: rejected rows are told of and not written, as in a dry run.
    """

    def __init__(
        self,
        importer: Importer,
        actor: Actor,
        reader: RowReader,
        rejects: Rejects | None,
        options: Options,
        job: ImportJob | None,
    ) -> None:
        self._importer = importer
        self._actor = actor
        self._reader = reader
        self._rejects = rejects
        self._options = options
        self._job = job
        self._counted = Tally()
        self.told: list[Rejected] = []
        self.findings = Findings()
        self.position = job.position if job is not None else 0

    @property
    def rejects_file(self) -> str | None:
        """Where rejected rows are; None when there are none, or none are written."""
        return (
            str(self._rejects.path) if self._rejects is not None and self.tally.rejected else None
        )

    @property
    def tally(self) -> Tally:
        return self._job.tally if self._job is not None else self._counted

    async def run(self, rows: Iterator[Row | Malformed], advance: Callable[[], None]) -> None:
        """Import them all; `advance` is called after each batch. Raises what the store raises.

        While a batch is written the next one is read. Even when cancelled the write is waited for:
        it is committed or not, and the file of rejects is to say the same.
        """
        if self._job is not None and self._job.position:
            rows = self._skip(rows, self._job)
        under_way: asyncio.Future[None] | None = None
        try:
            while (batch := await self._gather(rows)) is not None:
                if under_way is not None:
                    await asyncio.shield(under_way)
                    advance()
                under_way = asyncio.ensure_future(self._write(batch))
                await asyncio.sleep(_HEAD_START_S)
            if under_way is not None:
                await asyncio.shield(under_way)
        finally:
            if under_way is not None and not under_way.done():
                await asyncio.wait((under_way,))
        advance()

    async def _gather(self, rows: Iterator[Row | Malformed]) -> _Gathered | None:
        """The next batch, up to its transaction; None at the end."""
        found: list[Row | Malformed] = []
        good: list[ImportRow] = []
        bad: list[Rejected] = []
        room = self._options.batch_characters
        while len(found) < self._options.batch and room > 0:
            some, room = _slice(rows, min(SLICE, self._options.batch - len(found)), room)
            if not some:
                break
            found += some
            for one in some:
                row = self._read(one)
                if isinstance(row, Rejected):
                    bad.append(row)
                else:
                    good.append(row)
            await asyncio.sleep(0)  # the batch before is to be written meanwhile
        if not found:
            return None
        self.findings.note_names(good)
        return _Gathered(found, await self._importer.prepare(good), bad)

    async def _write(self, batch: _Gathered) -> None:
        await self._importer.give_way()
        last, made = batch.found[-1].at, Made()
        outcomes = await self._importer.write(
            self._actor,
            batch.prepared,
            update=self._options.update,
            dry=self._options.dry,
            job=self._job,
            last=last,
            before=batch.bad,
            made=made,
        )
        self.position = last
        self.findings.note_made(made)
        if self._job is None:
            self._counted.add(outcomes)
            self._counted.rejected += len(batch.bad)
        refused = [*batch.bad, *(one for one in outcomes if isinstance(one, Rejected))]
        if refused:
            refused.sort(key=attrgetter("number"))
            cells = {one.at: one.cells for one in batch.found if isinstance(one, Row)}
            self._reject(refused, cells)

    def _skip(self, rows: Iterator[Row | Malformed], job: ImportJob) -> Iterator[Row | Malformed]:
        """Pass by what is done. Rejects that may not have reached the file are written now."""
        pending = {one.number for one in job.pending}
        cells: dict[int, Sequence[str]] = {}
        for one in rows:
            if one.at > job.position:
                rows = itertools.chain((one,), rows)
                break
            if isinstance(one, Malformed):
                self.findings.unread += one.unread
            elif one.at in pending:
                cells[one.at] = one.cells
        self._reject(job.pending, cells)
        return rows

    def _read(self, one: Row | Malformed) -> ImportRow | Rejected:
        if isinstance(one, Malformed):
            self.findings.unread += one.unread
            return Rejected(one.at, one.reason)
        if len(one.cells) > self._options.width and any(one.cells[self._options.width :]):
            more = f"it has {len(one.cells)} cells, and there are {self._options.width} columns"
            return Rejected(one.at, more)
        return self._reader.read(one.at, one.cells)

    def _reject(self, refused: Sequence[Rejected], cells: Mapping[int, Sequence[str]]) -> None:
        refused = [self._placed(one, cells) for one in refused]
        self.told += refused[: _MOST_TOLD - len(self.told)]
        if self._rejects is None:
            return
        length = self._rejects.write(refused, cells)
        if self._job is not None:
            self._job.rejects_bytes = length

    def _placed(self, one: Rejected, cells: Mapping[int, Sequence[str]]) -> Rejected:
        """With the column that is the trouble, where the store cannot know it."""
        if one.reason != TAKEN:
            return one
        titles = [
            shown(self._options.titles[at] if at < len(self._options.titles) else str(at + 1))
            for at in self._reader.found_by(cells.get(one.number, ()))
        ]
        where = "columns" if len(titles) > 1 else "column"
        return Rejected(one.number, f"{TAKEN} ({where} {', '.join(titles)})") if titles else one

    async def finish(self) -> None:
        """Nothing is left to be taken up again."""
        if self._job is not None:
            await self._importer.end(self._actor, self._job)

    def close(self) -> None:
        if self._rejects is not None:
            self._rejects.close()

    def tell_rejects(self) -> None:
        """Name the first of them on standard error, after names that are there twice."""
        for line in self.findings.warnings():
            click.echo(line, err=True)
        for one in self.told:
            click.echo(f"row {one.number}: {one.reason}", err=True)
        more = self.tally.rejected - len(self.told)
        if more > 0:
            all_in = f"; all are in {self._rejects.path}" if self._rejects is not None else ""
            click.echo(f"and {more} more{all_in}", err=True)
