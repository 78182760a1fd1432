"""`gatehouse secret quarantine` and `release`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    print_json,
    read_config,
    run,
    shown,
    yes_option,
)
from gateway.cli.secret_desk import open_secrets, profile_option, the_secret
from gateway.cli.tables import when
from gateway.cli.times import MOMENT
from gateway.config import Config
from gateway.core.model import FleetTicket


@click.command()
@click.argument("label")
@profile_option
@click.option("--since", type=MOMENT, default=0, help="Only what it bore since. Default: all.")
@yes_option
@config_option
@json_option
def quarantine(
    label: str,
    profile: str | None,
    since: int,
    yes: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Suspend the devices that a secret bore, and let nobody in by it.

    Their credentials are refused on every wire and their connections end within a second, at every
    gateway on this store. Nothing of theirs is lost: `gatehouse secret release` undoes it.

    \b
    Examples:
      gatehouse secret quarantine factory-b --since 2026-11-20
      gatehouse secret quarantine factory-b --yes --json
    """
    ticket, count = run(_quarantine(read_config(config_path), label, profile, since, yes=yes))
    if as_json:
        told = {"label": ticket.label, "profile": ticket.profile.name, "since": since}
        print_json({**told, "suspended": count})
        return
    name = shlex.quote(ticket.profile.name)
    click.echo(f"secret {shown(ticket.label)} is in quarantine; {count} devices are suspended")
    click.echo(f"undo it with `gatehouse secret release {ticket.label} --profile {name}`")


async def _quarantine(
    config: Config, label: str, profile: str | None, since: int, *, yes: bool
) -> tuple[FleetTicket, int]:
    async with open_secrets(config) as bureau:
        ticket, actor = await the_secret(bureau, label, profile), bureau.actor
        if not yes:
            count = await bureau.secrets.count_borne(actor, ticket, since=since)
            began = f" since {when(since)}" if since else ""
            whose = f"{shown(ticket.label)} of profile {shown(ticket.profile.name)}"
            confirm(f"Suspend {count} devices that secret {whose} bore{began}?", yes=yes)
        return ticket, await bureau.secrets.quarantine(actor, ticket, since=since)


@click.command()
@click.argument("label")
@profile_option
@config_option
def release(label: str, profile: str | None, config_path: Path | None) -> None:
    """End a quarantine: its devices are let in again with the credentials they have.

    \b
    Examples:
      gatehouse secret release factory-b
    """
    ticket, count = run(_release(read_config(config_path), label, profile))
    click.echo(f"secret {shown(ticket.label)} is released; {count} devices are let in again")


async def _release(config: Config, label: str, profile: str | None) -> tuple[FleetTicket, int]:
    async with open_secrets(config) as bureau:
        ticket, actor = await the_secret(bureau, label, profile), bureau.actor
        await bureau.secrets.release(actor, ticket)
        since = ticket.quarantined_since or 0
        return ticket, await bureau.secrets.count_borne(actor, ticket, since=since)
