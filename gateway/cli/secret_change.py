"""`gatehouse secret add`, `rotate`, `bound` and `revoke`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from msgspec import Struct

from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    print_json,
    read_config,
    reveal_option,
    run,
    secret_from,
    shown,
    the_profile,
    yes_option,
)
from gateway.cli.secret_desk import (
    bounds_of,
    bounds_options,
    open_secrets,
    profile_option,
    the_secret,
)
from gateway.cli.secret_views import how_to_reveal, plain_secret, print_secret, state_of
from gateway.cli.tables import when
from gateway.cli.times import MOMENT, DurationType
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.errors import KeyTaken
from gateway.core.fleet_custody import OVERLAP_MS
from gateway.core.fleet_secret_store import Bounds
from gateway.core.model import FleetTicket, Secret


class _Overlap(DurationType):
    """A duration, or none at all."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        return 0 if value == "0" else super().convert(value, param, ctx)


class _Wish(Struct, frozen=True, kw_only=True):
    """What `add` is asked for."""

    profile: str
    label: str
    bounds: Bounds
    derived: bool
    key: Secret | None
    secret: Secret | None


@click.command()
@click.argument("profile")
@click.argument("label")
@bounds_options
@click.option("--derived", is_flag=True, help="A group secret: each device has a key of its own.")
@click.option("--key-env", metavar="VARIABLE", help="Environment variable with the key.")
@click.option("--secret-env", metavar="VARIABLE", help="Environment variable with the secret.")
@click.option("--ask", is_flag=True, help="Ask for the secret, unseen.")
@reveal_option
@config_option
@json_option
def add(
    profile: str,
    label: str,
    not_before: int | None,
    expires_at: int | None,
    max_uses: int | None,
    networks: tuple[str, ...],
    derived: bool,
    key_env: str | None,
    secret_env: str | None,
    ask: bool,
    reveal: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Add one more pair of key and secret to a profile; the others stay as they are.

    Key and secret are made at random unless environment variables hold them, or --ask asks for the
    secret: on a command line it would stay in the shell's history. With --derived no device holds
    the secret: its own key is base64 of HMAC-SHA-256(group secret, device name), and it shows that
    in the place of the secret; `gatehouse secret derive` makes them.

    \b
    Examples:
      gatehouse secret add demo factory-b
      gatehouse secret add demo trial --max-uses 50 --expires 2027-01-31
      gatehouse secret add demo line-3 --network 198.51.100.0/24 --network 2001:db8::/32
      gatehouse secret add demo devices-2027 --derived
    """
    wish = _Wish(
        profile=profile,
        label=label,
        bounds=bounds_of(not_before, expires_at, max_uses, networks),
        derived=derived,
        key=secret_from(key_env) if key_env else None,
        secret=_asked(secret_env, ask=ask),
    )
    ticket = run(_add(read_config(config_path), wish))
    if as_json:
        print_json(plain_secret(ticket, now_ms(), reveal=reveal))
        return
    click.echo(f"added secret {shown(ticket.label)} to profile {shown(ticket.profile.name)}")
    _show_pair(ticket, reveal=reveal)


def _asked(variable: str | None, *, ask: bool) -> Secret | None:
    if variable is not None and ask:
        raise click.UsageError("choose one of --secret-env and --ask.")
    if variable is not None:
        return secret_from(variable)
    if not ask:
        return None
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to ask; use --secret-env, or neither of them.")
    text: str = click.prompt("Secret", hide_input=True, confirmation_prompt="Once more", err=True)
    return Secret(text)


async def _add(config: Config, wish: _Wish) -> FleetTicket:
    async with open_secrets(config) as bureau:
        profile = await the_profile(bureau.desk.registry, wish.profile)
        try:
            return await bureau.secrets.add(
                bureau.actor,
                profile,
                wish.label,
                bounds=wish.bounds,
                derived=wish.derived,
                key=wish.key,
                secret=wish.secret,
            )
        except KeyTaken:
            raise click.ClickException(
                "the key is already another secret's. Give another one, or leave --key-env out to "
                "have one made."
            ) from None


def _show_pair(ticket: FleetTicket, *, reveal: bool) -> None:
    if reveal:
        print_secret(ticket, now_ms(), reveal=True)
    else:
        click.echo(f"show its key and secret with `{how_to_reveal(ticket)}`")


@click.command()
@click.argument("label")
@profile_option
@click.option("--label", "new_label", metavar="NEW", help="Of the new one. Default: LABEL-2.")
@click.option(
    "--overlap",
    type=_Overlap(),
    default=OVERLAP_MS,
    help="How long the old one is good. 0: not at all.  [default: 7d]",
)
@click.option("--expires", "expires_at", type=MOMENT, help="When the new one ends.")
@reveal_option
@config_option
@json_option
def rotate(
    label: str,
    profile: str | None,
    new_label: str | None,
    overlap: int,
    expires_at: int | None,
    reveal: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make a new pair beside an old one, which ends after the overlap.

    The new one is bound to the same networks and as many uses, and derived if the old one was. It
    does not end unless --expires says when.
    Devices that were let in keep working: they have credentials of their own.

    \b
    Examples:
      gatehouse secret rotate factory-b
      gatehouse secret rotate factory-b --overlap 0 --label factory-c
    """
    config = read_config(config_path)
    old, new, ended = run(_rotate(config, label, profile, (new_label or "", overlap, expires_at)))
    if ended is not None and new.expires_at is None:
        click.echo(
            f"{shown(old.label)} had an end ({when(ended)}), {shown(new.label)} has none: "
            "`gatehouse secret bound` gives it all its bounds anew.",
            err=True,
        )
    if as_json:
        now = now_ms()
        print_json({"new": plain_secret(new, now, reveal=reveal), "old": plain_secret(old, now)})
        return
    ends = "no more" if state_of(old, now_ms()) == "expired" else f"until {when(_end(old))}"
    click.echo(f"secret {shown(new.label)} admits from now on, {shown(old.label)} {ends}")
    _show_pair(new, reveal=reveal)


def _end(ticket: FleetTicket) -> int:
    assert ticket.expires_at is not None
    return ticket.expires_at


async def _rotate(
    config: Config, label: str, profile: str | None, wish: tuple[str, int, int | None]
) -> tuple[FleetTicket, FleetTicket, int | None]:
    """The old one as it is now, the new one, and when the old one was to end before."""
    new_label, overlap, expires_at = wish
    async with open_secrets(config) as bureau:
        ticket = await the_secret(bureau, label, profile)
        new = await bureau.secrets.rotate(
            bureau.actor, ticket, label=new_label, overlap_ms=overlap, expires_at=expires_at
        )
        old = await bureau.secrets.find(bureau.actor, ticket.id) or ticket
        return old, new, ticket.expires_at


@click.command()
@click.argument("label")
@profile_option
@bounds_options
@config_option
def bound(
    label: str,
    profile: str | None,
    not_before: int | None,
    expires_at: int | None,
    max_uses: int | None,
    networks: tuple[str, ...],
    config_path: Path | None,
) -> None:
    """Say anew when, how often and from where a secret admits; what is left out is unbounded.

    Uses are counted while there is a bound of them.

    \b
    Examples:
      gatehouse secret bound default --profile demo --network 10.0.0.0/8
      gatehouse secret bound trial --expires 2027-06-30 --max-uses 100
      gatehouse secret bound trial
    """
    bounds = bounds_of(not_before, expires_at, max_uses, networks)
    ticket = run(_bound(read_config(config_path), label, profile, bounds))
    print_secret(ticket, now_ms(), reveal=False)


async def _bound(config: Config, label: str, profile: str | None, bounds: Bounds) -> FleetTicket:
    async with open_secrets(config) as bureau:
        ticket = await the_secret(bureau, label, profile)
        await bureau.secrets.bound(bureau.actor, ticket, bounds)
        return await bureau.secrets.find(bureau.actor, ticket.id) or ticket


@click.command()
@click.argument("label")
@profile_option
@yes_option
@config_option
def revoke(label: str, profile: str | None, yes: bool, config_path: Path | None) -> None:
    """End a secret for good: it admits nobody from the next request on.

    Devices it let in keep working, and it stays in the list with them. To shut them out as well,
    use `gatehouse secret quarantine`.

    \b
    Examples:
      gatehouse secret revoke factory-b
    """
    ticket = run(_revoke(read_config(config_path), label, profile, yes=yes))
    click.echo(f"revoked secret {shown(ticket.label)} of profile {shown(ticket.profile.name)}")


async def _revoke(config: Config, label: str, profile: str | None, *, yes: bool) -> FleetTicket:
    async with open_secrets(config) as bureau:
        ticket = await the_secret(bureau, label, profile)
        whose = f"{shown(ticket.label)} of profile {shown(ticket.profile.name)}"
        confirm(f"Revoke secret {whose}? It cannot be taken back.", yes=yes)
        await bureau.secrets.revoke(bureau.actor, ticket)
        return ticket
