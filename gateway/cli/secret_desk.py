"""Which fleet secret a command line names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import click

from gateway.cli.bureau import Bureau, open_bureau
from gateway.cli.options import has_profile_files, meant, shown, the_profile
from gateway.config import Config
from gateway.core.fleet_secret_store import Bounds
from gateway.core.model import FleetTicket

Command = TypeVar("Command", bound=Callable[..., Any])

profile_option = click.option(
    "--profile", metavar="PROFILE", help="Whose secret, where several profiles have that label."
)
MOST_LISTED = 10_000


def open_secrets(config: Config) -> AbstractAsyncContextManager[Bureau]:
    """As `open_bureau`; where profiles are in files, a store that is not there yet is made."""
    return open_bureau(config, make=has_profile_files(config))


async def the_secret(bureau: Bureau, label: str, profile_name: str | None) -> FleetTicket:
    """The secret with that label; a `ClickException` that says how to name one without it."""
    profile = None
    if profile_name is not None:
        profile = await the_profile(bureau.desk.registry, profile_name)
    found = await bureau.secrets.listed(bureau.actor, profile=profile, label=label, limit=100)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(shown(one.profile.name) for one in found)
        raise click.ClickException(
            f"several profiles have a secret {shown(label)}: {names}. Say which with --profile."
        )
    all_there = await bureau.secrets.listed(bureau.actor, profile=profile, limit=MOST_LISTED)
    see = "`gatehouse secret list` shows what there is."
    near = meant(label, {one.label for one in all_there})
    raise click.ClickException(f"there is no secret {shown(label)}. {near or see}")


def bounds_options(command: Command) -> Command:
    """`--not-before`, `--expires`, `--max-uses` and `--network`."""
    from gateway.cli.times import MOMENT

    for option in (
        click.option(
            "--network",
            "networks",
            multiple=True,
            metavar="NETWORK",
            help="Only from there (10.0.0.0/8, 2001:db8::/32). May be repeated.",
        ),
        click.option(
            "--max-uses", type=click.IntRange(1), metavar="N", help="For so many devices."
        ),
        click.option("--expires", "expires_at", type=MOMENT, help="Until then (2027-01-31)."),
        click.option("--not-before", type=MOMENT, help="From then on."),
    ):
        command = option(command)
    return command


def bounds_of(
    not_before: int | None, expires_at: int | None, max_uses: int | None, networks: tuple[str, ...]
) -> Bounds:
    """What those options say."""
    return Bounds(
        not_before=not_before, expires_at=expires_at, max_uses=max_uses, networks=networks
    )
