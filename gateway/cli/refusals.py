"""`gatehouse refusals`: why devices are refused, and what each wire is told."""

from __future__ import annotations

import click

from gateway.admin.refusals import dotted, plain_row
from gateway.cli.options import json_option, meant, print_json, shown
from gateway.cli.tables import print_fields, print_table
from gateway.core.model import RefusalReason
from gateway.core.refusals import REFUSALS, Refusal


@click.command()
@click.argument("code", required=False)
@json_option
def command(code: str | None, as_json: bool) -> None:
    """Print the table of refusals, or the row of one CODE.

    Each reason has a code that never changes, and numbers of its own on each wire. Devices get
    ThingsBoard's answers unless their profile says `detailed_refusals = true`, or they ask with
    `Accept: application/problem+json` (CoAP: Accept 257); and only after they showed a right
    secret. Whoever is told when to come again is told so by 429, 4.29 or 0x97 (`outside_hours`, for
    one). A running gateway shows the same table at /refusals.

    \b
    Examples:
      gatehouse refusals
      gatehouse refusals name_taken
      gatehouse refusals --json
    """
    if code is not None:
        _print_one(_found(code), as_json=as_json)
    elif as_json:
        print_json([plain_row(row) for row in REFUSALS.values()])
    else:
        print_table(
            ("Code", "HTTP", "CoAP", "MQTT 5", "What is wrong"),
            [(row.code, *_numbers(row), row.title) for row in REFUSALS.values()],
        )
        click.echo("What to do about one: `gatehouse refusals CODE`.")


def _found(code: str) -> Refusal:
    wanted = code.strip().lower().replace("-", "_")
    try:
        return REFUSALS[RefusalReason(wanted)]
    except (ValueError, KeyError):
        guess = meant(wanted, [row.code for row in REFUSALS.values()])
        raise click.ClickException(
            f"there is no refusal {shown(code)}. "
            f"{guess or 'Look through `gatehouse refusals` for it.'}"
        ) from None


def _print_one(row: Refusal, *, as_json: bool) -> None:
    if as_json:
        print_json(plain_row(row))
        return
    http, coap, mqtt = _numbers(row)
    print_fields(
        (
            ("code", row.code),
            ("what is wrong", row.title),
            ("what to do", row.detail),
            ("told to", "who has shown a right secret" if row.proven else "nobody, in these words"),
            ("HTTP", http),
            ("CoAP", coap),
            ("MQTT 5", mqtt),
        )
    )


def _numbers(row: Refusal) -> tuple[str, str, str]:
    return str(row.http), dotted(row.coap), f"0x{row.mqtt:02X}"
