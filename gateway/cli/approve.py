"""`gatehouse approve`: let devices in that wait for an operator's word."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.approval_run import Choice, choice_options, decide, plain_approval, told
from gateway.cli.options import (
    config_option,
    json_option,
    print_json,
    read_config,
    run,
    yes_option,
)
from gateway.core.approvals import Approvals


@click.command()
@choice_options
@yes_option
@config_option
@json_option
def command(
    choice: Choice,
    yes: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Say yes to devices that wait, by name or number (`gatehouse pending`).

    Each comes in when it asks the next time. If its request was bound to it (by a nonce, say), the
    yes is for that very device; else for the first that shows the fleet's secret and the name. A
    yes nobody uses ends after 30 days.

    \b
    Examples:
      gatehouse approve meter-1 meter-2
      gatehouse approve 17
      gatehouse approve --all --profile water-meter --match 'cellar-*'
    """
    config = read_config(config_path)
    changed = run(decide(config, choice, "approve", Approvals.approve, yes=yes, waiting=True))
    if as_json:
        print_json([plain_approval(one) for one in changed])
    elif not changed:
        click.echo("nothing to do: none of them waits without a yes", err=True)
    else:
        told(changed, "approved")
