"""`gatehouse device keep`: a device that was to go by itself stays."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import (
    config_option,
    json_option,
    open_for_people,
    print_json,
    read_config,
    run,
    shown,
    the_device,
)
from gateway.cli.tables import when
from gateway.cli.times import DURATION
from gateway.clock import now_ms
from gateway.config import Config


@click.command()
@click.argument("name_or_uuid")
@click.option(
    "--for",
    "lasts_ms",
    type=DURATION,
    metavar="TIME",
    help="From now, as in 3d. Default: for good.",
)
@config_option
@json_option
def keep(name_or_uuid: str, lasts_ms: int | None, config_path: Path | None, as_json: bool) -> None:
    """Let a device stay that would be removed by itself, for good or for longer.

    A profile with `expires_after` in [birth] has such devices: made for a test, and gone with their
    credentials and readings when it is over. `gatehouse device show` tells when.

    \b
    Examples:
      gatehouse device keep burn-in-7
      gatehouse device keep burn-in-7 --for 3d
    """
    until = None if lasts_ms is None else now_ms() + lasts_ms
    name, kept = run(_keep(read_config(config_path), name_or_uuid, until))
    if as_json:
        print_json({"device": name, "kept": kept, "expires_at": until if kept else None})
    elif not kept:
        click.echo(f"{shown(name)} stays anyway: nothing to do")
    else:
        click.echo(f"{shown(name)} stays {'for good' if until is None else f'until {when(until)}'}")


async def _keep(config: Config, name: str, until: int | None) -> tuple[str, bool]:
    async with open_for_people(config) as registry:
        known = await the_device(registry, name)
        return known.device.name, await registry.keep_device(known, until)
