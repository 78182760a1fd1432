"""`gatehouse secret derive`: the keys that devices have of their own, out of a group secret."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Final

import click

from gateway.cli.bar import advancing
from gateway.cli.new_file import NewFile
from gateway.cli.options import config_option, json_option, print_json, read_config, run, shown
from gateway.cli.secret_desk import open_secrets, profile_option, the_secret
from gateway.config import Config
from gateway.core.csv_rows import CsvError, Malformed, Row, open_table
from gateway.core.fleet_secrets import derived_key
from gateway.core.model import FleetTicket
from gateway.core.names import is_device_name

HEADER: Final = ("name", "key")
_AT_ONCE: Final = 5_000
"""Lines that are written together."""


@click.command()
@click.argument("label")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--from", "source", type=click.File("rb"), help="Names from a table (CSV), or `-`.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Into a new file, yours alone."
)
@profile_option
@config_option
@json_option
def derive(
    label: str,
    names: tuple[str, ...],
    source: BinaryIO | None,
    out: Path | None,
    profile: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Print the keys of devices that a derived secret admits, as CSV: name and key.

    A device's key is base64 of HMAC-SHA-256(group secret, device name). It is good for that name
    alone, and shown in the place of the secret. A table has a column `name`, or names alone.

    \b
    Examples:
      gatehouse secret derive devices-2027 meter-1 meter-2
      gatehouse secret derive devices-2027 --from names.csv --out keys.csv
    """
    if bool(names) == (source is not None):
        raise click.UsageError("name devices, or a table with --from.")
    if as_json and out is not None:
        raise click.UsageError("--out writes CSV; leave --json out.")
    ticket = run(_ticket(read_config(config_path), label, profile))
    wanted = _checked(names) if source is None else _names_in(source)
    if as_json:
        print_json([{"name": name, "key": key} for name, key in _keys(ticket, wanted)])
        return
    with NewFile(out, "--out") as file:
        try:
            count = _write(ticket, wanted, file if out is not None else None)
        except BaseException:
            file.forget()  # a part of the keys is of no use
            raise
    if out is not None:
        click.echo(f"{count} keys are in {out}, which only you can read", err=True)


async def _ticket(config: Config, label: str, profile: str | None) -> FleetTicket:
    async with open_secrets(config) as bureau:
        ticket = await the_secret(bureau, label, profile)
    if not ticket.derived:
        raise click.ClickException(
            f"secret {shown(label)} is shared by all its devices; only one that was added with "
            "--derived has keys for each."
        )
    return ticket


def _keys(ticket: FleetTicket, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    return ((name, derived_key(ticket.secret, name).reveal()) for name in names)


def _write(ticket: FleetTicket, names: Iterable[str], file: NewFile | None) -> int:
    """How many were written; into the file, or to standard output."""
    count = 0
    rows = _keys(ticket, names)
    with advancing("deriving", None, wanted=file is not None) as advance:
        while some := list(islice(rows, _AT_ONCE)):
            text = _lines(some if count else [HEADER, *some])
            if file is None:
                click.echo(text)
            elif not file.write(text):
                raise click.ClickException("the file took no more: it is not complete.")
            count += len(some)
            advance(len(some))
    return count


def _lines(rows: Sequence[tuple[str, ...]]) -> str:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    return table.getvalue().rstrip("\n")


# ── names ─────────────────────────────────────────────────────────────────────────────────────


def _checked(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if not is_device_name(name):
            raise click.UsageError(f"{shown(name)} is no device name.")
        yield name.strip()


def _names_in(source: BinaryIO) -> Iterator[str]:
    """Those of the column `name`; without such a header, of the first column."""
    try:
        rows = open_table(source).rows
        first = next(rows, None)
        column = 0
        if isinstance(first, Row):
            titles = [cell.strip().lower() for cell in first.cells]
            if HEADER[0] in titles:
                column = titles.index(HEADER[0])
            else:
                rows = chain([first], rows)
        elif first is not None:
            rows = chain([first], rows)
        for row in rows:
            name = _cell(row, column)
            if name:
                yield name
    except CsvError as exc:
        raise click.ClickException(f"the table cannot be read: {exc}.") from None


def _cell(row: Row | Malformed, column: int) -> str:
    if isinstance(row, Malformed):
        raise click.ClickException(f"row {row.at} cannot be read: {row.reason}.")
    name = row.cells[column].strip() if column < len(row.cells) else ""
    if name and not is_device_name(name):
        raise click.ClickException(f"row {row.at}: {shown(name)} is no device name.")
    return name
