"""Labels of static tokens: the claim token of a pair, for people to scan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

import click

from gateway.cli.label_files import LabelFiles
from gateway.cli.label_sheets import draw, draw_codes
from gateway.cli.label_subjects import MOST_LABELS
from gateway.cli.options import shown, the_profile
from gateway.cli.static_token import StaticTokenDesk, open_static_token_desk, the_pair
from gateway.config import Config
from gateway.core.static_token_store import PairQuery, StaticState, StaticTokenRecord
from gateway.labels import Label, Sheet

_RANGE: Final = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", re.ASCII)
_AGAIN: Final = "Make room and repeat the command."


class PairLabels(NamedTuple):
    """Which pairs are printed, and on what: those with these numbers, or the unclaimed of a
    profile."""

    numbers: tuple[str, ...]
    profile: str | None
    with_org: bool
    sheet: Sheet
    font: Path | None


async def print_pairs(
    config: Config, wanted: PairLabels, output: Path
) -> tuple[list[Path], list[int]]:
    """The files, and the numbers of the pairs that are on them. Raises `LabelTrouble`."""
    async with open_static_token_desk(config) as desk:
        found = await _pairs(desk, wanted)
        labels = [_label(one, with_org=wanted.with_org) for one in found]
        draw_codes(labels)
        drawn = draw(labels, wanted.sheet, output.suffix.lower(), wanted.font)
        with LabelFiles(output, -(-len(labels) // wanted.sheet.per_page), again=_AGAIN) as files:
            files.write(drawn)
        return files.full, [one.pair.id for one in found]


async def _pairs(desk: StaticTokenDesk, wanted: PairLabels) -> list[StaticTokenRecord]:
    if bool(wanted.numbers) == (wanted.profile is not None):
        raise click.UsageError("name pairs by their numbers, or choose those of a --profile.")
    if wanted.profile is not None:
        found = await _unclaimed(desk, wanted.profile)
    else:
        ranges = [_range(text) for text in wanted.numbers]
        numbered = [one for first, last in ranges for one in await _numbered(desk, first, last)]
        found = list({one.pair.id: one for one in numbered}.values())
    if len(found) > MOST_LABELS:
        raise click.ClickException(
            f"these are more than {MOST_LABELS} pairs; name fewer at a time by their numbers, as "
            "in 1-5000."
        )
    return found


async def _unclaimed(desk: StaticTokenDesk, name: str) -> list[StaticTokenRecord]:
    profile = await the_profile(desk.people.desk.registry, name)
    query = PairQuery(
        path=desk.people.actor.organisation.path,
        below=True,
        profile_id=profile.id,
        state=StaticState.UNCLAIMED,
        limit=MOST_LABELS + 1,
    )
    found = list(await desk.static_tokens.pairs(desk.people.actor, query))
    if not found:
        raise click.ClickException(
            f"no pair for {shown(profile.name)} is unclaimed; `gatehouse static-token issue` makes "
            "some."
        )
    return found


async def _numbered(desk: StaticTokenDesk, first: int, last: int) -> list[StaticTokenRecord]:
    """The pairs from one number to another, as far as they are there."""
    if first == last:
        return [await the_pair(desk, first)]
    actor = desk.people.actor
    query = PairQuery(
        path=actor.organisation.path,
        below=True,
        after_id=first - 1,
        limit=min(last - first, MOST_LABELS) + 1,
    )
    found = [one for one in await desk.static_tokens.pairs(actor, query) if one.pair.id <= last]
    if not found:
        raise click.ClickException(f"there is no pair from {first} to {last}.")
    return found


def _range(text: str) -> tuple[int, int]:
    """`17`, or `1-500`."""
    found = _RANGE.fullmatch(text)
    first = int(found[1]) if found else 0
    last = int(found[2] or first) if found else 0
    if not 0 < first <= last:
        raise click.UsageError(f"{shown(text)} is no number of a pair, nor several, as in 1-500.")
    return first, last


def _label(record: StaticTokenRecord, *, with_org: bool) -> Label:
    pair, claim = record.pair, record.claim.reveal()
    return Label(
        name=record.profile_name,
        code=claim,
        content=f"{claim}+{pair.organisation_id}" if with_org else claim,
        note=f"No. {pair.id}",
    )
