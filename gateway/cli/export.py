"""`gatehouse export`: devices as a table that `import` reads, of any number."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from gateway.cli.options import config_option, read_config, run
from gateway.core.exporting import Exporter, ExportQuery, TooManyColumns


@click.command("export")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--profile", metavar="NAME", help="Only devices of this profile.")
@click.option("--customer", metavar="NAME", help="Only devices of this customer.")
@click.option("--group", metavar="NAME", help="Only devices in this group.")
@click.option("--no-attributes", is_flag=True, help="Leave server and shared attributes out.")
@click.option(
    "--with-credentials",
    "credentials",
    is_flag=True,
    help="Write tokens, passwords, keys and certificates in clear; wants a FILE.",
)
@config_option
def command(
    file: Path | None,
    profile: str | None,
    customer: str | None,
    group: str | None,
    no_attributes: bool,
    credentials: bool,
    config_path: Path | None,
) -> None:
    """Write devices to a table (CSV, UTF-8) that `gatehouse import` reads.

    To standard output, or to a new FILE that only you can read. Without --with-credentials there
    are none in it: imported elsewhere, the devices get fresh tokens. That credentials were taken
    is written to the events. Revoked credentials, client attributes and readings are left out.

    A cell that a spreadsheet would take for a formula has an apostrophe before it, which the
    import takes away.

    \b
    Examples:
      gatehouse export > devices.csv
      gatehouse export --profile valve --no-attributes valves.csv
      gatehouse export --with-credentials backup.csv
    """
    if credentials and file is None:
        raise click.UsageError("--with-credentials wants a FILE, which only you can read then.")
    query = ExportQuery(
        profile=profile,
        customer=customer,
        group=group,
        credentials=credentials,
        attributes=not no_attributes,
    )
    try:
        with _target(file) as target:
            count = run(_export(config_path, query, target))
    except TooManyColumns as exc:
        raise click.ClickException(f"{exc}; use --no-attributes, or narrow the export.") from None
    click.echo(f"exported {count:,} device{'' if count == 1 else 's'}", err=True)


@contextmanager
def _target(file: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that is gone again when it did not become whole."""
    if file is None:
        yield sys.stdout.buffer
        return
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise click.ClickException(
            f"{file}: cannot be made ({exc.strerror}). Name a new file where you may write."
        ) from None
    try:
        with open(handle, "wb") as target:
            yield target
            target.flush()
            os.fsync(handle)
    except BaseException as exc:
        file.unlink()
        if isinstance(exc, OSError):
            raise click.ClickException(f"{file}: cannot be written ({exc.strerror}).") from None
        raise


async def _export(config_path: Path | None, query: ExportQuery, target: BinaryIO) -> int:
    from gateway.cli.bureau import open_bureau
    from gateway.clock import now_ms
    from gateway.store.sql_imports import SqlImports

    async with open_bureau(read_config(config_path)) as bureau:
        exporter = Exporter(SqlImports(bureau.desk.store), clock=now_ms)
        count = -1  # the header is no device
        async for rows in exporter.rows(bureau.actor, query):
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\r\n").writerows(rows)
            target.write(text.getvalue().encode("utf-8", "surrogateescape"))
            count += len(rows)
        target.flush()
    return count
