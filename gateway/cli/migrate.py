"""`gatehouse migrate`: a fleet that lives somewhere else comes here."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from gateway.cli.migrate_journal import FileJournal
from gateway.cli.options import (
    config_option,
    json_option,
    print_json,
    read_config,
    run,
    secret_from,
    shown,
)
from gateway.config import Config
from gateway.core.model import Secret
from gateway.migration_report import NEVER_COPIED, Fate, Report
from gateway.migration_source import Progress, SourceTrouble, is_exposed, proven_url

PASSWORD: Final = "THINGSBOARD_PASSWORD"  # noqa: S105 - the name of a variable
_SHOWN = 20
_JOURNAL = "migration.json"


class _Wanted(NamedTuple):
    """What is copied from where, and how."""

    url: str
    user: str
    password: Secret
    ca: ssl.SSLContext | None
    dry: bool
    new_only: bool
    concurrency: int
    restart: bool


@click.group()
def command() -> None:
    """Copy a fleet from somewhere else."""


@command.command()
@click.option("--url", required=True, help="Where it is: https://thingsboard.example.com")
@click.option("--user", required=True, help="A tenant administrator of it.")
@click.option(
    "--password-env",
    metavar="NAME",
    help=f"The variable that holds the password. Default: {PASSWORD} if set, else it is asked for.",
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Certificates to believe it by, PEM. Default: this system's.",
)
@click.option("--dry-run", "dry", is_flag=True, help="Read and compare everything; write nothing.")
@click.option("--new-only", is_flag=True, help="Leave what is here already as it is.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Devices read at a time.",
)
@click.option("--restart", is_flag=True, help="From the start, not where the last run ended.")
@config_option
@json_option
def thingsboard(
    url: str,
    user: str,
    password_env: str | None,
    ca_file: Path | None,
    dry: bool,
    new_only: bool,
    concurrency: int,
    restart: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Copy customers, device profiles, devices, credentials and attributes from a ThingsBoard.

    Keys, secrets and credentials come along, so firmware in the field needs no change: it finds
    here what it found there. Read through its REST; nothing is changed there. What is here already
    is brought up to the source, so the command may be repeated, and goes on where it was
    interrupted. What cannot be copied is left and listed. Ids are new.

    The password is never given on the command line, where others could read it.

    \b
    Examples:
      gatehouse migrate thingsboard --url https://tb.example.com --user tenant@example.com --dry-run
      gatehouse migrate thingsboard --url https://tb.example.com --user tenant@example.com
      TB=… gatehouse migrate thingsboard --url http://localhost:8080 --user a@b.c --password-env TB
    """
    try:
        proven = proven_url(url)
    except SourceTrouble as exc:
        raise click.UsageError(f"--url: {exc}") from None
    if is_exposed(proven):
        click.echo("warning: the password goes over the network in clear; use https.", err=True)
    config = read_config(config_path)
    wanted = _Wanted(
        url=proven,
        user=user,
        password=_password(password_env),
        ca=_context(ca_file),
        dry=dry,
        new_only=new_only,
        concurrency=concurrency,
        restart=restart,
    )
    try:
        with _progress(quiet=as_json) as progress:
            report = run(_migrate(config, wanted, progress))
    except SourceTrouble as exc:
        raise click.ClickException(
            f"{exc} What was copied so far stays; repeat the command to go on."
        ) from None
    _tell(report, dry=dry, as_json=as_json)


def _password(variable: str | None) -> Secret:
    if variable is not None:
        return secret_from(variable)
    if os.environ.get(PASSWORD):
        return secret_from(PASSWORD)
    if not sys.stdin.isatty():
        raise click.UsageError(
            "nobody is there to ask for the password: name a variable with --password-env."
        )
    return Secret(click.prompt("Password", hide_input=True, err=True))


def _context(ca_file: Path | None) -> ssl.SSLContext | None:
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise click.UsageError(f"{ca_file}: holds no certificates in PEM.") from None


async def _migrate(config: Config, wanted: _Wanted, progress: Progress) -> Report:
    from gateway.cli.bureau import open_bureau
    from gateway.migration import Migration, Services
    from gateway.migration_source import ThingsBoardSource

    journal = FileJournal((config.data_dir or Path()) / _JOURNAL)
    if wanted.restart:
        journal.finish()
    async with open_bureau(config, make=not wanted.dry) as bureau:
        source = ThingsBoardSource(
            wanted.url,
            wanted.user,
            wanted.password,
            ca=wanted.ca,
            connections=wanted.concurrency,
        )
        async with source:
            migration = Migration(
                source,
                Services(
                    actor=bureau.actor,
                    people=bureau.people,
                    catalogue=bureau.catalogue,
                    inventory=bureau.inventory,
                    registry=bureau.desk.registry,
                ),
                dry=wanted.dry,
                new_only=wanted.new_only,
                concurrency=wanted.concurrency,
                progress=progress,
            )
            return await migration.run(journal)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress]:
    """Bars on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(kind: str, done: int, total: int) -> None:
            if kind not in tasks:
                tasks[kind] = bars.add_task(kind, total=total)
            bars.update(tasks[kind], completed=done, total=total)

        yield show


def _tell(report: Report, *, dry: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "dryRun": dry,
                "counts": {
                    kind: {fate.value: count for fate, count in fates.items()}
                    for kind, fates in report.counts.items()
                },
                "left": [
                    {"kind": one.kind, "name": one.name, "reason": one.reason}
                    for one in report.left
                ],
                "neverCopied": list(NEVER_COPIED),
            }
        )
        return
    from gateway.cli.tables import print_table

    titles = ("", *(fate.value for fate in Fate))
    rows = [(kind, *(str(fates[fate]) for fate in Fate)) for kind, fates in report.counts.items()]
    print_table(titles, rows)
    for one in report.left[:_SHOWN]:
        click.echo(f"left: {one.kind[:-1]} {shown(one.name)}: {one.reason}", err=True)
    if report.left_in_all > _SHOWN:
        click.echo(f"… and {report.left_in_all - _SHOWN} more; --json lists them", err=True)
    if dry:
        click.echo("nothing was written: this was a dry run", err=True)
    click.echo(f"never copied: {'; '.join(NEVER_COPIED)}", err=True)
