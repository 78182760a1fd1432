"""`gatehouse pending`: devices that wait for an operator's word."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.approval_run import COLUMNS, open_queue, plain_approval, row
from gateway.cli.options import (
    config_option,
    json_option,
    print_json,
    read_config,
    run,
    the_profile,
)
from gateway.config import Config
from gateway.core.approvals import ApprovalQuery
from gateway.core.model import Approval, ApprovalState, Page

_EVERY = "all"
_STATES = click.Choice([*(one.value for one in ApprovalState), _EVERY])


@click.command()
@click.option("--profile", metavar="PROFILE", help="Devices of this profile alone.")
@click.option("--state", type=_STATES, default=ApprovalState.WAITING.value, show_default=True)
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@config_option
@json_option
def command(
    profile: str | None, state: str, limit: int, config_path: Path | None, as_json: bool
) -> None:
    """List devices that wait for an operator's word, in the order they first asked.

    A profile with `approval = true` in its [admission] table answers newcomers that they have to
    wait, until `gatehouse approve`; one with `reprovisioning = "approval"` does so with devices
    that were here before. With --state approved are those that were not here since, with --state
    denied those that are turned away.

    \b
    Examples:
      gatehouse pending
      gatehouse pending --profile water-meter --json
      gatehouse approve meter-1
      gatehouse deny meter-2
    """
    found = run(_list(read_config(config_path), profile, state, limit))
    if as_json:
        print_json([plain_approval(one) for one in found.data])
    elif not found.data:
        click.echo("none" if state == _EVERY else f"none is {state}", err=True)
    else:
        from gateway.cli.tables import print_table

        print_table(COLUMNS, [row(one) for one in found.data])
    if found.has_next:
        click.echo(f"these are {len(found.data)} of {found.total}; use --limit", err=True)


async def _list(config: Config, profile: str | None, state: str, limit: int) -> Page[Approval]:
    async with open_queue(config) as queue:
        number = None
        if profile is not None:
            number = (await the_profile(queue.bureau.desk.registry, profile)).id
        wanted = None if state == _EVERY else ApprovalState(state)
        query = ApprovalQuery(state=wanted, profile_id=number, page_size=limit)
        return await queue.approvals.page(queue.bureau.actor, query)
