"""One run of `admission import`: a file is read once to be proven, and once to be kept."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import click
from msgspec import Struct

from gateway.cli.bar import advancing
from gateway.cli.bureau import Bureau, open_bureau
from gateway.cli.options import print_json, run, shown, the_profile
from gateway.config import Config
from gateway.core.admission_entries import Entry, EntryKind
from gateway.core.admission_rows import BadRow, read_rows
from gateway.core.csv_rows import CsvError
from gateway.core.model import DeviceProfile
from gateway.heap import settled_heap

_BATCH = 5_000
"""Entries in one transaction, which others wait for: some hundredths of a second."""
_MOST_TOLD = 20
_SPOOLED_BYTES = 16 << 20
_MANY_CELLS = re.compile(r"[,;|]").search


class Wish(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    profile: str
    file: str
    denied: bool
    kind: EntryKind
    skip_bad: bool
    quiet: bool


class Proof(Struct):
    """What a first reading found: how many entries, how many of them look like several cells, how
    many lines that cannot be read."""

    entries: int = 0
    uncut: int = 0
    bad: int = 0
    told: list[BadRow] = []


class Tally(Struct):
    """How far it came. `row` is the last line of which all is kept."""

    row: int = 0
    added: int = 0
    known: int = 0


def import_file(config: Config, wish: Wish) -> None:
    """Read, prove and write down a whole file, and tell how it went. Raises `ClickException`."""
    with _opened(wish.file) as source:
        try:
            proof = _proven(source, wish.kind)
            _tell_bad(proof, wish)
            _tell_uncut(proof, wish)
            tally = run(_import(config, wish, source, proof.entries))
        except CsvError as exc:
            raise click.ClickException(f"{wish.file}: {exc}.") from None
    if wish.quiet:
        bad = [{"row": one.at, "reason": one.reason} for one in proof.told]
        print_json(
            {"added": tally.added, "known": tally.known, "skipped": proof.bad, "first_bad": bad}
        )
        return
    which = "deny-list" if wish.denied else "allow-list"
    click.echo(f"{_counted(tally)} in the {which} of {shown(wish.profile)}")


def _counted(tally: Tally) -> str:
    known = f", {tally.known:,} had been there" if tally.known else ""
    return f"{tally.added:,} more{known}"


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """The file, to be read twice; a pipe is copied first."""
    if file == "-":
        with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            yield cast("BinaryIO", copy)
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as exc:
        raise click.ClickException(f"{file}: cannot be read ({exc.strerror}).") from None
    with source:
        if not source.seekable():
            raise click.ClickException(f"{file}: is no file; pipe it in, and name it `-`.")
        yield source


def _proven(source: BinaryIO, kind: EntryKind) -> Proof:
    proof = Proof(told=[])
    with settled_heap():
        for row in read_rows(source, kind):
            if not isinstance(row, BadRow):
                proof.entries += len(row.entries)
                proof.uncut += sum(_MANY_CELLS(one.value) is not None for one in row.entries)
                continue
            proof.bad += 1
            if len(proof.told) < _MOST_TOLD:
                proof.told.append(row)
    return proof


def _tell_bad(proof: Proof, wish: Wish) -> None:
    """Raises `ClickException` where they may not be skipped."""
    if not (wish.quiet and wish.skip_bad):
        for one in proof.told:
            click.echo(f"row {one.at}: {one.reason}", err=True)
    if proof.bad > len(proof.told):
        click.echo(f"and {proof.bad - len(proof.told):,} more", err=True)
    if proof.bad and not wish.skip_bad:
        rows = "1 row" if proof.bad == 1 else f"{proof.bad:,} rows"
        raise click.ClickException(
            f"{rows} of {wish.file} cannot be read, so nothing was imported. Mend the file, or "
            "pass over what is wrong with --skip-bad."
        )


def _tell_uncut(proof: Proof, wish: Wish) -> None:
    """A table without our header is a list of names that no device has: on a deny-list nobody would
    notice."""
    if proof.entries and proof.uncut == proof.entries:
        click.echo(
            f"{wish.file}: each line is taken whole, as one {wish.kind.value}. If it is a table, "
            "its first line must name its columns: name, serial or mac.",
            err=True,
        )


async def _import(config: Config, wish: Wish, source: BinaryIO, total: int) -> Tally:
    tally = Tally()
    async with open_bureau(config, make=True) as bureau:
        profile = await the_profile(bureau.desk.registry, wish.profile)
        await bureau.desk.store.driver.expect_many()
        try:
            with advancing("entries", total, wanted=not wish.quiet) as advance, settled_heap():
                await _keep_all(bureau, profile, wish, source, tally, advance)
        except BaseException as exc:
            click.echo(
                f"stopped after row {tally.row}: {_counted(tally)}, and they stay. The same "
                "command does the rest.",
                err=True,
            )
            if isinstance(exc, asyncio.CancelledError):
                raise KeyboardInterrupt from None
            raise
    return tally


async def _keep_all(
    bureau: Bureau,
    profile: DeviceProfile,
    wish: Wish,
    source: BinaryIO,
    tally: Tally,
    advance: Callable[[int], None],
) -> None:
    """Batch by batch, each on disk before the next."""
    for last, entries in _batches(source, wish.kind):
        added = await bureau.admission.add(bureau.actor, profile, entries, denied=wish.denied)
        tally.row = last
        tally.added += added
        tally.known += len(entries) - added
        advance(len(entries))


def _batches(source: BinaryIO, kind: EntryKind) -> Iterator[tuple[int, list[Entry]]]:
    """Entries, and the line they end with."""
    entries: list[Entry] = []
    at = 0
    for row in read_rows(source, kind):
        if isinstance(row, BadRow):
            continue
        entries += row.entries
        at = row.at
        if len(entries) >= _BATCH:
            yield at, entries
            entries = []
    if entries:
        yield at, entries
