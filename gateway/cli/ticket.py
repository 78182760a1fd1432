"""`gatehouse ticket`: tokens that admit one device each, as Blynk's apps and devices use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import click
from msgspec import Struct, structs

from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    print_json,
    read_config,
    run,
    shown,
    the_device,
    yes_option,
)
from gateway.cli.people_desk import PeopleDesk, open_people
from gateway.cli.ticket_run import MOST_AT_ONCE, Issuing, Sheet, State
from gateway.cli.ticket_views import (
    COLUMNS,
    how_to_claim,
    issued_line,
    plain_issued,
    plain_ticket,
    row,
)
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.errors import Overloaded
from gateway.core.model import Organisation, TicketKind, TicketRecord, User
from gateway.core.tickets import MOST_DAYS, Tickets
from gateway.ticketing import open_tickets

DAYS = click.FloatRange(0, MOST_DAYS, min_open=True)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def command() -> None:
    """Issue, show and revoke tickets: tokens that admit one device each.

    A ticket keeps a device number and a token aside, for an organisation and perhaps an owner. The
    first device that shows the token and names a template (a profile with a [blynk] table) is that
    device from then on, and the token is what it logs in with. Blynk's apps get such tokens by
    `POST /api/v1/organization/device/provision/token`; this is the same from a shell. For a device
    that exists there is `gatehouse device reprovision`.

    \b
    Examples:
      gatehouse ticket issue --org "Acme Ltd" --owner ann@acme.example
      gatehouse ticket issue --count 500 --days 90 --output tokens.csv
      gatehouse ticket list
      gatehouse explain --ticket 17
    """


class _Desk(NamedTuple):
    people: PeopleDesk
    tickets: Tickets


@asynccontextmanager
async def _open(config: Config, *, make: bool = False) -> AsyncIterator[_Desk]:
    async with open_people(config, make=make) as people:
        yield _Desk(people, open_tickets(config, people.desk.store))


# ── issuing ───────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.option("--org", default="root", show_default=True, metavar="ORG", help="Whose device it is.")
@click.option("--owner", metavar="EMAIL", help="The user who owns it. Default: nobody.")
@click.option("--days", type=DAYS, help="How long it waits. Default: [blynk] ticket_days.")
@click.option("--count", type=click.IntRange(1, MOST_AT_ONCE), help="So many, printed as CSV.")
@click.option("--output", type=FILE, help="Into a new CSV file that only you can read.")
@config_option
@json_option
def issue(
    org: str,
    owner: str | None,
    days: float | None,
    count: int | None,
    output: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Reserve a device number, and print the token for it, this once.

    The token goes to standard output alone, what to do with it to standard error. Whoever has the
    token is the device, so treat it as a password: --output keeps many of them off the screen.
    Ctrl-C ends a long run after what was issued is printed or written. Nothing shows a token later;
    one that is lost is revoked, and another issued.

    \b
    Examples:
      gatehouse ticket issue
      gatehouse ticket issue --org "Acme Ltd" --owner ann@acme.example --days 1
      gatehouse ticket issue --count 500 --output tokens.csv
      gatehouse ticket issue --json | jq -r .token | qrencode -o token.png
    """
    config = read_config(config_path)
    wish = _Wish(org=org, owner=owner, days=days, count=count, output=output)
    if count is None and output is None:
        run(_issue_one(config, wish, as_json=as_json))
    else:
        run(_issue_many(config, wish, as_json=as_json))


class _Wish(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    org: str
    owner: str | None
    days: float | None
    count: int | None
    output: Path | None

    async def people(self, desk: _Desk) -> tuple[Organisation, User | None]:
        at = await desk.people.organisation(self.org)
        return at, await desk.people.user(self.owner) if self.owner else None


async def _issue_one(config: Config, wish: _Wish, *, as_json: bool) -> None:
    async with _open(config, make=True) as desk:
        organisation, owner = await wish.people(desk)
        try:
            made = await desk.tickets.issue(desk.people.actor, organisation, owner, days=wish.days)
        except Overloaded as exc:
            raise _full(exc) from exc
        profiles = await desk.people.desk.registry.profiles()
    if as_json:
        print_json(plain_issued(made, organisation, owner))
        return
    click.echo(issued_line(made, organisation, owner), err=True)
    click.echo(made.token.reveal())
    for line in how_to_claim(config, profiles, organisation.path):
        click.echo(line, err=True)
    click.echo(
        f"\n`gatehouse explain {made.ticket.device_id}` tells how it went; "
        f"`gatehouse ticket revoke {made.ticket.id}` takes it back.",
        err=True,
    )


async def _issue_many(config: Config, wish: _Wish, *, as_json: bool) -> None:
    async with _open(config, make=True) as desk:
        organisation, owner = await wish.people(desk)
        with Sheet(wish.output, organisation, owner, as_json=as_json) as sheet:
            work = Issuing(desk.tickets, desk.people.actor, organisation, owner, wish.days, sheet)
            try:
                await work.run(wish.count or 1)
            except Overloaded as exc:
                raise _full(exc) from exc
            finally:
                state = State(work.issued, wish.count or 1)
                click.echo(state.sentence(wish.output), err=True)
        profiles = await desk.people.desk.registry.profiles()
    if not as_json:
        for line in how_to_claim(config, profiles, organisation.path, file=wish.output):
            click.echo(line, err=True)


def _full(exc: Overloaded) -> click.ClickException:
    return click.ClickException(
        f"no more tickets were issued: {exc}. `gatehouse ticket list` shows what waits, and "
        "[blynk] max_tickets is how many may."
    )


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@command.command("list")
@click.option("--org", default="root", show_default=True, metavar="ORG", help="And those below it.")
@click.option("--device", metavar="DEVICE", help="Of this device: name, UUID or number.")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@config_option
@json_option
def list_tickets(
    org: str, device: str | None, limit: int, config_path: Path | None, as_json: bool
) -> None:
    """List tickets that wait for their device, oldest first; never their tokens.

    A ticket is gone once its device was here, and some time after it expired.
    """
    found = run(_list(read_config(config_path), org, device, limit + 1))
    if as_json:
        print_json([plain_ticket(one) for one in found[:limit]])
    elif not found:
        click.echo("none waits; `gatehouse ticket issue` makes one", err=True)
    else:
        from gateway.cli.tables import print_table

        print_table(COLUMNS, [row(one, now_ms()) for one in found[:limit]])
    if len(found) > limit:
        click.echo(f"these are the first {limit}; use --org, --device or --limit", err=True)


async def _list(config: Config, org: str, device: str | None, limit: int) -> list[TicketRecord]:
    async with _open(config) as desk:
        at = await desk.people.organisation(org)
        number = None if device is None else await _number(desk, device)
        actor = structs.replace(desk.people.actor, organisation=at)
        return await desk.tickets.waiting(actor, limit=limit, device_id=number)


async def _number(desk: _Desk, device: str) -> int:
    """That of a device, by its name or UUID, or as it stands there: it may not be born yet."""
    registry = desk.people.desk.registry
    if device.isdecimal() and len(device) < 11 and await registry.device(device) is None:
        return int(device)
    return (await the_device(registry, device)).device.id


# ── revoking ──────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@yes_option
@config_option
def revoke(number: int, yes: bool, config_path: Path | None) -> None:
    """End a ticket: its token admits nobody any more.

    A device that exists keeps the token it has. One that has used the ticket already is not
    touched; `gatehouse credential revoke` is for that.
    """
    record = run(_revoke(read_config(config_path), number, yes=yes))
    ticket = record.ticket
    click.echo(f"revoked ticket {ticket.id}: its token admits nobody any more")
    if ticket.kind is TicketKind.ROTATE:
        click.echo(f"{shown(record.device_name)} keeps the token it has", err=True)


async def _revoke(config: Config, number: int, *, yes: bool) -> TicketRecord:
    async with _open(config) as desk:
        record = await desk.tickets.find(desk.people.actor, number)
        if record is None:
            raise click.ClickException(
                f"no ticket {number} waits: it was used, revoked or expired, or never was. "
                f"`gatehouse explain --ticket {number}` tells which."
            )
        confirm(f"Revoke ticket {number}, for device {record.ticket.device_id}?", yes=yes)
        await desk.tickets.revoke(desk.people.actor, record)
        return record
