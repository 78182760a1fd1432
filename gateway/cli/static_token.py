"""`gatehouse static-token`: pairs of tokens that devices are made with, and claimed by."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    print_json,
    read_config,
    reveal_option,
    run,
    shown,
    the_profile,
    yes_option,
)
from gateway.cli.people_desk import PeopleDesk, open_people
from gateway.cli.static_token_run import MOST_IN_A_RUN, PairSheet, make_pairs
from gateway.config import Config
from gateway.core.errors import Invalid
from gateway.core.static_token_store import PairQuery, StaticState, StaticTokenRecord
from gateway.core.static_tokens import StaticTokens

_SHOWN_OF_A_CLAIM = 8
"""Characters: `sqr_` and four more."""


@click.group()
def command() -> None:
    """Make, show and revoke static tokens: for devices that are sold before anybody knows to whom.

    Each is a pair. The device token is flashed into the hardware, which may come online at once and
    then is in the organisation that made the pair. The claim token is printed as a QR code (see
    `gatehouse label --static-tokens`): whoever scans it with an app takes the device for their own
    organisation (POST /api/v1/organization/static-tokens/claim), before or after its first
    connection. Removing the device makes its pair free again; the hardware may come back.

    \b
    Examples:
      gatehouse static-token issue --profile "Water Meter" --count 500 --output lot-7.csv
      gatehouse label --static-tokens --profile "Water Meter" -o lot-7.pdf
      gatehouse static-token list --state CLAIMED
      gatehouse static-token revoke 17
    """


class StaticTokenDesk(NamedTuple):
    """What these commands work with."""

    people: PeopleDesk
    static_tokens: StaticTokens


@asynccontextmanager
async def open_static_token_desk(
    config: Config, *, make: bool = False
) -> AsyncIterator[StaticTokenDesk]:
    """As `open_people`, with the pairs of its store."""
    from gateway.clock import now_ms
    from gateway.dialects.blynk.profile import Templates
    from gateway.ticketing import open_static_tokens

    async with open_people(config, make=make) as people:
        store = people.desk.store
        yield StaticTokenDesk(people, open_static_tokens(store, Templates(store, now_ms)))


# ── making ────────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.option("--profile", required=True, help="What the devices are: a profile with [blynk].")
@click.option("--org", default="root", show_default=True, metavar="ORG", help="Who makes them.")
@click.option("--count", type=click.IntRange(1, MOST_IN_A_RUN), default=1, show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Into a new CSV file that only you can read.",
)
@config_option
@json_option
def issue(
    profile: str,
    org: str,
    count: int,
    output: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make pairs, and write them as CSV: number, device, claim token, device token.

    The device token is told this once; treat it as a password: --output keeps it off the screen.
    Claim tokens can be shown and printed again. Ctrl-C ends a long run after what was made is
    written.

    \b
    Examples:
      gatehouse static-token issue --profile "Water Meter"
      gatehouse static-token issue --profile "Water Meter" --count 10000 --output lot-8.csv
    """
    with PairSheet(output, as_json=as_json) as sheet:
        try:
            run(_issue(read_config(config_path), profile, org, count, sheet))
        except Invalid:
            raise click.ClickException(
                f"profile {shown(profile)} is no template for devices of {shown(org)}: give it a "
                "[blynk] table with a `template_id`, and look at its `organisations`."
            ) from None
        finally:
            where = f", written to {output}" if output is not None and sheet.written else ""
            stopped = "" if sheet.written == count else "stopped: "
            click.echo(f"{stopped}made {sheet.written} of {count}{where}", err=True)
    if not as_json:
        click.echo(
            "\nFlash each device_token into its device, with this gateway's address. Labels with "
            "the\nclaim tokens: `gatehouse label --static-tokens --profile "
            f"{shlex.quote(profile)} -o labels.pdf`.",
            err=True,
        )


async def _issue(config: Config, profile: str, org: str, count: int, sheet: PairSheet) -> None:
    async with open_static_token_desk(config, make=True) as desk:
        people = desk.people
        organisation = await people.organisation(org)
        found = await the_profile(people.desk.registry, profile)
        await make_pairs(desk.static_tokens, people.actor, found, organisation, count, sheet)


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@command.command("list")
@click.option(
    "--org", default="root", show_default=True, metavar="ORG", help="Made at or below it."
)
@click.option("--profile", help="For devices of this profile.")
@click.option(
    "--state", type=click.Choice([one.value for one in StaticState], case_sensitive=False)
)
@click.option(
    "--after", type=click.IntRange(0, 2**63 - 1), default=0, help="Those with a greater number."
)
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@reveal_option
@config_option
@json_option
def list_pairs(
    org: str,
    profile: str | None,
    state: str | None,
    after: int,
    limit: int,
    reveal: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """List pairs in the order they were made, and who claimed them; never a device's token.

    --reveal shows claim tokens.
    """
    wanted = StaticState(state.upper()) if state else None
    found = run(_list(read_config(config_path), org, profile, wanted, after, limit + 1))
    if as_json:
        print_json([plain_pair(one, reveal=reveal) for one in found[:limit]])
        return
    if not found:
        click.echo("there are none; `gatehouse static-token issue` makes some", err=True)
        return
    _print(found[:limit], reveal=reveal)
    if len(found) > limit:
        last = found[limit - 1].pair.id
        click.echo(f"there are more; go on with --after {last}, or use --limit", err=True)


def _print(found: Sequence[StaticTokenRecord], *, reveal: bool) -> None:
    from gateway.cli.tables import masked, print_table

    print_table(
        ("number", "claim token", "profile", "made by", "state", "device", "holder", "owner"),
        [
            (
                str(one.pair.id),
                masked(one.claim, reveal=reveal, head=_SHOWN_OF_A_CLAIM),
                one.profile_name,
                one.organisation_name,
                one.pair.state.value,
                one.device_name or f"{one.pair.device_id} (not here yet)",
                one.holder_name,
                one.owner_email,
            )
            for one in found
        ],
    )


def plain_pair(one: StaticTokenRecord, *, reveal: bool) -> dict[str, Any]:
    """For JSON."""
    from gateway.cli.tables import masked

    return {
        "number": one.pair.id,
        "claim_token": masked(one.claim, reveal=reveal, head=_SHOWN_OF_A_CLAIM),
        "profile": one.profile_name,
        "organisation": one.organisation_name,
        "state": one.pair.state.value,
        "device_id": one.pair.device_id,
        "device": one.device_name or None,
        "holder": one.holder_name or None,
        "owner": one.owner_email or None,
        "claimed_at": one.pair.claimed_at,
        "created_at": one.pair.created_at,
    }


async def _list(
    config: Config,
    org: str,
    profile: str | None,
    state: StaticState | None,
    after: int,
    limit: int,
) -> Sequence[StaticTokenRecord]:
    async with open_static_token_desk(config) as desk:
        at = await desk.people.organisation(org)
        found = None if profile is None else await the_profile(desk.people.desk.registry, profile)
        query = PairQuery(
            path=at.path,
            below=True,
            profile_id=None if found is None else found.id,
            state=state,
            after_id=after,
            limit=limit,
        )
        return await desk.static_tokens.pairs(desk.people.actor, query)


# ── revoking ──────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.argument("numbers", nargs=-1, required=True, type=click.IntRange(1, 2**63 - 1))
@yes_option
@config_option
def revoke(numbers: tuple[int, ...], yes: bool, config_path: Path | None) -> None:
    """End pairs: nobody claims by them any more, and no device comes with them.

    A device that came already stays what it is; `gatehouse credential revoke` shuts it out.
    """
    what = f"pair {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} pairs"
    confirm(f"Revoke {what}?", yes=yes)
    for line in run(_revoke(read_config(config_path), numbers)):
        click.echo(line)


async def _revoke(config: Config, numbers: Sequence[int]) -> list[str]:
    async with open_static_token_desk(config) as desk:
        actor, told = desk.people.actor, []
        for record in [await the_pair(desk, number) for number in dict.fromkeys(numbers)]:
            await desk.static_tokens.revoke(actor, record)
            stays = f"; {shown(record.device_name)} stays" if record.device_name else ""
            told.append(f"revoked pair {record.pair.id}{stays}")
        return told


async def the_pair(desk: StaticTokenDesk, number: int) -> StaticTokenRecord:
    """The pair of that number; a `ClickException` without one."""
    found = await desk.static_tokens.pair(desk.people.actor, number)
    if found is None:
        raise click.ClickException(
            f"there is no pair {number}. `gatehouse static-token list` shows what there is."
        )
    return found
