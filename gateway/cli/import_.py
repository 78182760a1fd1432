"""`gatehouse import`: devices out of a table, a million rows and more."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from msgspec import Struct

from gateway.cli.options import (
    config_option,
    json_option,
    print_json,
    read_config,
    run,
    shown,
)
from gateway.heap import settled_heap

if TYPE_CHECKING:
    from gateway.cli.bureau import Bureau
    from gateway.cli.import_run import Run
    from gateway.cli.rejects import Rejects
    from gateway.core.csv_rows import Malformed, Row, Table
    from gateway.core.import_rows import Column
    from gateway.core.importing import ImportJob

_BATCH = 1000
_HASH_BYTES = 1 << 20
_ENCODINGS = ("utf-8", "latin-1", "windows-1252", "utf-16", "utf-16-le", "utf-16-be")
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}


class _Wish(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    source: Path | None
    maps: tuple[str, ...]
    has_header: bool
    encoding: str | None
    delimiter: str | None
    verbatim: bool
    update: bool
    dry: bool
    anew: bool
    rejects: Path | None
    default_rejects: Path
    quiet: bool


@click.command("import")
@click.argument("file", metavar="FILE.csv")
@click.option("--map", "maps", multiple=True, metavar="HEADER=MEANING", help="What a column means.")
@click.option("--dry-run", "dry", is_flag=True, help="Check every row, keep nothing.")
@click.option("--no-header", is_flag=True, help="The first row is a device; map columns by number.")
@click.option("--encoding", type=click.Choice(_ENCODINGS), help="Default: UTF-8, or as marked.")
@click.option("--delimiter", type=click.Choice(tuple(_DELIMITERS)), help="Default: found out.")
@click.option(
    "--keep-data",
    is_flag=True,
    help="Leave attributes and time series of devices that exist as they are.",
)
@click.option("--verbatim", is_flag=True, help="Cells are as they are: '=1 keeps its apostrophe.")
@click.option("--restart", is_flag=True, help="Begin at the first row, also of a file left half.")
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where rejected rows go. Default: FILE.rejects.csv, or -2, -3… if that is there.",
)
@config_option
@json_option
def command(
    file: str,
    maps: tuple[str, ...],
    dry: bool,
    no_header: bool,
    encoding: str | None,
    delimiter: str | None,
    keep_data: bool,
    verbatim: bool,
    restart: bool,
    rejects: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Create devices from a table, and bring those that exist up to it.

    A device is found by its name. An empty cell says nothing: an existing device keeps what it
    has, a new one gets an access token. Profiles (type), customers and groups that are named and
    not there are made. Several groups are divided by semicolons.

    What the columns mean is guessed from their headers and shown. Meanings for --map: name, type,
    label, description, gateway, customer, groups, access_token, x509, mqtt_client_id,
    mqtt_user_name, mqtt_password, psk_identity, psk_key, server:KEY and shared:KEY (attributes),
    timeseries:KEY (a reading of now), ignore.

    Rows that cannot be imported are named with their numbers, the header being row 1, and written
    with their reasons to a file that only you can read; mend them there and import that file. The
    exit status is then 1. After Ctrl-C, or a crash, the same command goes on where it stopped.
    A dry run does not know of earlier rows whether they would have taken a name or a credential,
    and writes no rejects file. Two rows of one name are warned of, as far as the first 100,000
    names go; the later row is then an update.

    \b
    Examples:
      gatehouse import devices.csv --dry-run
      gatehouse import devices.csv
      gatehouse import sap.csv --map 'Serial No=name' --map 'Plant=customer' --encoding latin-1
      gatehouse import serials.txt --no-header --map 1=name
    """
    source = None if file == "-" else Path(file)
    stem = Path("stdin") if source is None else source.with_suffix("")
    wish = _Wish(
        source=source,
        maps=maps,
        has_header=not no_header,
        encoding=encoding,
        delimiter=_DELIMITERS[delimiter] if delimiter else None,
        verbatim=verbatim,
        update=not keep_data,
        dry=dry,
        anew=restart,
        rejects=rejects,
        default_rejects=stem.with_name(f"{stem.name}.rejects.csv"),
        quiet=as_json,
    )
    from gateway.core.csv_rows import CsvError

    began = time.monotonic()
    try:
        with _opened(source) as binary:
            done = run(_import(config_path, wish, binary))
    except CsvError as exc:
        raise click.ClickException(f"{file}: {exc}") from None
    _tell(done, wish, time.monotonic() - began)
    if done.tally.rejected:
        raise SystemExit(1)


@contextmanager
def _opened(source: Path | None) -> Iterator[BinaryIO]:
    if source is None:
        yield sys.stdin.buffer
        return
    try:
        file = source.open("rb")
    except OSError as exc:
        raise click.ClickException(f"{source}: cannot be read ({exc.strerror}).") from None
    with file:
        yield file


# ── reading ───────────────────────────────────────────────────────────────────────────────────


class _Sheet(Struct):
    """A table whose columns are known."""

    table: Table
    header: list[str]
    columns: list[Column]
    rows: Iterator[Row | Malformed]


def _sheet(binary: BinaryIO, wish: _Wish) -> _Sheet:
    """Read the header, and find out what the columns mean."""
    from gateway.cli.import_mapping import check, guessed, mapped
    from gateway.core.csv_rows import CsvError, Malformed, open_table

    table = open_table(binary, encoding=wish.encoding, delimiter=wish.delimiter)
    first = next(table.rows, None)
    if first is None:
        raise CsvError("it is empty")
    if isinstance(first, Malformed):
        raise CsvError(f"row {first.at} cannot be read: {first.reason}")
    rows: Iterator[Row | Malformed] = table.rows
    header = first.cells
    if not wish.has_header:
        rows = itertools.chain((first,), rows)
        header = [f"column {number}" for number in range(1, len(header) + 1)]
    columns = mapped(header, guessed(header), wish.maps)
    check(header, columns)
    return _Sheet(table, header, columns, rows)


def _show(sheet: _Sheet, maps: Sequence[str]) -> None:
    """The mapping, with the cells of the first row as examples, on standard error."""
    from gateway.cli.import_mapping import example, ignored_hint, meaning_of
    from gateway.core.csv_rows import DELIMITERS, Row
    from gateway.toml_lines import plain

    first = next(sheet.rows, None)
    cells: list[str] = []
    if first is not None:
        sheet.rows = itertools.chain((first,), sheet.rows)
        cells = first.cells if isinstance(first, Row) else []
    divided = DELIMITERS.get(sheet.table.delimiter, sheet.table.delimiter)
    click.echo(f"{len(sheet.columns)} columns, {sheet.table.encoding}, by {divided}:", err=True)
    width = min(30, max(map(len, sheet.header)))
    for title, column, cell in itertools.zip_longest(
        sheet.header, sheet.columns, cells[: len(sheet.columns)], fillvalue=""
    ):
        assert not isinstance(column, str), "a cell without a column"
        shown_cell = plain(example(column, str(cell)), 40)
        line = f"  {plain(str(title), 30):<{width}}  → {meaning_of(column):<16} {shown_cell}"
        click.echo(line.rstrip(), err=True)
    if hint := ignored_hint(sheet.header, sheet.columns, maps):
        click.echo(hint, err=True)


# ── importing ─────────────────────────────────────────────────────────────────────────────────


async def _import(config_path: Path | None, wish: _Wish, binary: BinaryIO) -> Run:
    from gateway.cli.bureau import open_bureau

    fingerprint = _fingerprint(wish, binary)
    sheet = _sheet(binary, wish)
    if not wish.quiet:
        _show(sheet, wish.maps)
    async with open_bureau(read_config(config_path), make=True) as bureau:
        one = await _begin(bureau, wish, sheet, fingerprint)
        await _all_rows(one, wish, sheet, binary)
    return one


def _fingerprint(wish: _Wish, binary: BinaryIO) -> bytes | None:
    """What tells this import from others: the content, and how it is read. None for a pipe, which
    cannot be read twice, and where nothing is kept."""
    if wish.source is None or wish.dry or not binary.seekable():
        return None
    digest = hashlib.blake2b(digest_size=32)
    while piece := binary.read(_HASH_BYTES):
        digest.update(piece)
    binary.seek(0)
    how = (wish.maps, wish.has_header, wish.encoding, wish.delimiter, wish.verbatim, wish.update)
    digest.update(repr(how).encode("utf-8", "surrogatepass"))
    return digest.digest()


async def _begin(bureau: Bureau, wish: _Wish, sheet: _Sheet, fingerprint: bytes | None) -> Run:
    from gateway.cli.import_run import Options, Run
    from gateway.clock import now_ms
    from gateway.core.import_rows import RowReader
    from gateway.core.importing import Importer
    from gateway.core.tokens import new_token
    from gateway.dialects.thingsboard.payloads import strip_pem
    from gateway.store.sql_imports import SqlImports

    actor, store = bureau.actor, bureau.desk.store
    importer = Importer(SqlImports(store), clock=now_ms, new_token=new_token)
    job = None
    if fingerprint is not None:
        name = wish.source.name if wish.source is not None else ""
        job = await importer.begin(actor, fingerprint, name, anew=wish.anew)
        if job.position and not wish.quiet:
            click.echo(f"going on after row {job.position} (--restart begins anew)", err=True)
    rejects = None if wish.dry else _rejects(wish, sheet, job)
    reader = RowReader(sheet.columns, certificate_text=strip_pem, spreadsheet=not wish.verbatim)
    width, titles = len(sheet.columns), sheet.header
    options = Options(update=wish.update, dry=wish.dry, batch=_BATCH, width=width, titles=titles)
    return Run(importer, actor, reader, rejects, options, job)


def _rejects(wish: _Wish, sheet: _Sheet, job: ImportJob | None) -> Rejects:
    from gateway.cli.rejects import Rejects, free_path

    # Before its first reject a job has written no file, whatever it had in mind.
    before = job.rejects_path if job is not None and job.tally.rejected else ""
    path, own = free_path(wish.rejects, wish.default_rejects, before)
    if job is not None:
        job.rejects_path = str(path.absolute())
    return Rejects(
        path,
        sheet.header if wish.has_header else [],
        sheet.table.delimiter,
        encoding=sheet.table.encoding,
        own=own,
        keep_bytes=job.rejects_bytes if job is not None else 0,
    )


async def _all_rows(one: Run, wish: _Wish, sheet: _Sheet, binary: BinaryIO) -> None:
    try:
        # The collector finds nothing in rows, and looking cost an eighth of the time.
        with _progress(binary, one) as advance, settled_heap():
            await one.run(sheet.rows, advance)
        await one.finish()
    except BaseException as exc:
        one.tell_rejects()
        again = "" if wish.dry or wish.source is None else "; the same command goes on from there"
        click.echo(f"stopped after row {one.position}: {_summary(one)}{again}", err=True)
        if isinstance(exc, asyncio.CancelledError):
            raise KeyboardInterrupt from None
        raise
    finally:
        one.close()


@contextmanager
def _progress(binary: BinaryIO, one: Run) -> Iterator[Callable[[], None]]:
    """A bar on a terminal: how much of the file is read, and how many rows that are."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    )
    seekable = binary.seekable()
    total = os.fstat(binary.fileno()).st_size if seekable else None
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, rows=0)

        def advance() -> None:
            at = binary.tell() if seekable else 0
            progress.update(task, completed=at, rows=one.position)

        yield advance


# ── telling ───────────────────────────────────────────────────────────────────────────────────


def _summary(one: Run) -> str:
    tally = one.tally
    parts = [f"{tally.created:,} created", f"{tally.updated:,} updated"]
    if tally.unchanged:
        parts.append(f"{tally.unchanged:,} as they were")
    if tally.rejected:
        parts.append(f"{tally.rejected:,} rejected")
    if one.findings.unread:
        parts.append(f"{one.findings.unread:,} not read")
    return ", ".join(parts)


def _tell(one: Run, wish: _Wish, took_s: float) -> None:
    tally = one.tally
    if wish.quiet:
        print_json(_plain(one, wish))
        return
    one.tell_rejects()
    text = _summary(one)
    if wish.dry:
        text = f"nothing was kept; it would be: {text}"
    rate = f" ({tally.rows / took_s:,.0f} rows/s)" if took_s > 1 else ""
    click.echo(f"{text}{rate}")
    for line in one.findings.lines():
        click.echo(f"would be made: {line}" if wish.dry else line)
    if one.rejects_file:
        # UTF-8 is read without being told; other files are read as the table was.
        told = ", in UTF-8" if (wish.encoding or "").startswith("utf-16") else ""
        click.echo(f"the rejected rows are in {shown(one.rejects_file)}{told}", err=True)


def _plain(one: Run, wish: _Wish) -> dict[str, Any]:
    tally = one.tally
    reasons: Sequence[Any] = [{"row": each.number, "reason": each.reason} for each in one.told]
    return {
        "dry_run": wish.dry,
        "created": tally.created,
        "updated": tally.updated,
        "unchanged": tally.unchanged,
        "rejected": tally.rejected,
        "first_rejected": reasons,
        "rejects_file": one.rejects_file,
        **one.findings.plain(),
    }
