"""`gatehouse secret`: the pairs by which fleets are admitted; changing them lies beside."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import click

from gateway.cli.lazy import Lazy, LazyGroup
from gateway.cli.options import (
    config_option,
    json_option,
    print_json,
    read_config,
    reveal_option,
    run,
    shown,
    the_profile,
)
from gateway.cli.secret_desk import MOST_LISTED, open_secrets, profile_option, the_secret
from gateway.cli.times import MOMENT
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.fleet_secret_store import Borne
from gateway.core.model import FleetTicket

_CHANGES = "gateway.cli.secret_change"
_ELSEWHERE = {
    "add": Lazy(_CHANGES, "add", "Add one more pair to a profile."),
    "rotate": Lazy(_CHANGES, "rotate", "Make a new pair; the old one ends after an overlap."),
    "bound": Lazy(_CHANGES, "bound", "Say anew when, how often and from where one admits."),
    "revoke": Lazy(_CHANGES, "revoke", "End one for good; what it bore stays."),
    "quarantine": Lazy("gateway.cli.secret_quarantine", "quarantine", "Suspend what one bore."),
    "release": Lazy("gateway.cli.secret_quarantine", "release", "End a quarantine."),
    "derive": Lazy("gateway.cli.secret_derive", "derive", "Print devices' own keys."),
}


@click.group(cls=LazyGroup, lazy=_ELSEWHERE)
def command() -> None:
    """Show and change fleet secrets: pairs of key and secret that admit a whole fleet.

    A profile may have several, each with a label, bounds of its own, and a memory of the devices
    it bore. The one it was made with is called `default`. A change counts from the next request on,
    also in a gateway that runs.

    \b
    Examples:
      gatehouse secret add demo factory-b --expires 2027-01-31 --network 198.51.100.0/24
      gatehouse secret show factory-b --reveal
      gatehouse secret rotate factory-b --overlap 14d
      gatehouse secret blast-radius factory-b
      gatehouse secret quarantine factory-b --since 2026-11-20
      gatehouse secret release factory-b
    """


@command.command("list")
@click.argument("profile", required=False)
@config_option
@json_option
def list_secrets(profile: str | None, config_path: Path | None, as_json: bool) -> None:
    """List fleet secrets, without the pairs themselves.

    \b
    Examples:
      gatehouse secret list
      gatehouse secret list demo --json
    """
    found = run(_list(read_config(config_path), profile))
    now = now_ms()
    from gateway.cli import secret_views as views

    if as_json:
        print_json([views.plain_secret(one, now) for one in found])
        return
    if not found:
        click.echo("there is none; `gatehouse secret add PROFILE LABEL` makes one", err=True)
        return
    from gateway.cli.tables import print_table

    print_table(views.COLUMNS, [views.row(one, now) for one in found])


async def _list(config: Config, name: str | None) -> list[FleetTicket]:
    async with open_secrets(config) as bureau:
        profile = None if name is None else await the_profile(bureau.desk.registry, name)
        found = await bureau.secrets.listed(bureau.actor, profile=profile, limit=MOST_LISTED)
    return sorted(found, key=lambda one: (one.profile.name, one.id))


@command.command()
@click.argument("label")
@profile_option
@reveal_option
@config_option
@json_option
def show(
    label: str, profile: str | None, reveal: bool, config_path: Path | None, as_json: bool
) -> None:
    """Show one; the pair in clear with --reveal.

    \b
    Examples:
      gatehouse secret show factory-b
      gatehouse secret show default --profile demo --reveal --json | jq -r .secret
    """
    ticket = run(_show(read_config(config_path), label, profile))
    from gateway.cli import secret_views as views

    if as_json:
        print_json(views.plain_secret(ticket, now_ms(), reveal=reveal))
    else:
        views.print_secret(ticket, now_ms(), reveal=reveal)


async def _show(config: Config, label: str, profile: str | None) -> FleetTicket:
    async with open_secrets(config) as bureau:
        return await the_secret(bureau, label, profile)


class _Radius(NamedTuple):
    ticket: FleetTicket
    total: int
    devices: list[Borne]


@command.command("blast-radius")
@click.argument("label")
@profile_option
@click.option("--since", type=MOMENT, default=0, help="Only those it bore since then.")
@click.option("--limit", default=100, type=click.IntRange(1, 100_000), show_default=True)
@click.option("--after", default=0, type=click.IntRange(0), help="Go on after this device number.")
@config_option
@json_option
def blast_radius(
    label: str,
    profile: str | None,
    since: int,
    limit: int,
    after: int,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """List the devices that one bore.

    All that a thief of the secret could have let in is among them.

    \b
    Examples:
      gatehouse secret blast-radius factory-b
      gatehouse secret blast-radius factory-b --since 2026-11-20 --limit 100000 --json
    """
    place = (since, limit, after)
    radius = run(_blast_radius(read_config(config_path), label, profile, place))
    from gateway.cli import secret_views as views

    if as_json:
        told = {"label": radius.ticket.label, "profile": radius.ticket.profile.name}
        devices = [views.plain_borne(one) for one in radius.devices]
        print_json({**told, "count": radius.total, "devices": devices})
        return
    click.echo(f"{radius.total} devices were let in by {shown(radius.ticket.label)}")
    if radius.devices:
        from gateway.cli.tables import print_table

        print_table(views.BORNE_COLUMNS, [views.borne_row(one) for one in radius.devices])
        if len(radius.devices) == limit:
            last = radius.devices[-1].id
            click.echo(f"these are {limit}; --after {last} shows the next", err=True)


async def _blast_radius(
    config: Config, label: str, profile: str | None, place: tuple[int, int, int]
) -> _Radius:
    since, limit, after = place
    async with open_secrets(config) as bureau:
        ticket, actor = await the_secret(bureau, label, profile), bureau.actor
        count = await bureau.secrets.count_borne(actor, ticket, since=since)
        devices = await bureau.secrets.blast_radius(
            actor, ticket, since=since, after_id=after, limit=limit
        )
        return _Radius(ticket, count, devices)
