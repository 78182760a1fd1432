"""`gatehouse deny`: turn devices away that wait for an operator's word."""

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
@click.option("--forget", is_flag=True, help="Clear their places instead, whatever was decided.")
@yes_option
@config_option
@json_option
def command(
    choice: Choice,
    forget: bool,
    yes: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Say no to devices that wait, by name or number (`gatehouse pending`).

    They are refused for as long as they ask; `gatehouse approve` takes the no back. With --forget
    the place in the queue is free again, and whoever asks for the name next is new: for a device
    that lost what its request was bound to, or a name that a stranger came with first.

    \b
    Examples:
      gatehouse deny meter-2
      gatehouse deny --all --profile water-meter --match 'test-*'
      gatehouse deny meter-3 --forget
    """
    config = read_config(config_path)
    verb, by = ("forget", Approvals.forget) if forget else ("deny", Approvals.deny)
    changed = run(decide(config, choice, verb, by, yes=yes, waiting=not forget))
    if as_json:
        print_json([plain_approval(one) for one in changed])
    elif not changed:
        click.echo("nothing to do: all of them are denied already, or were never here", err=True)
    else:
        told(changed, "forgot" if forget else "denied")
