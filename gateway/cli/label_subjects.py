"""Which devices a command is about: by their names, a profile, a group, or a CSV file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import click

from gateway.cli.bureau import Bureau
from gateway.cli.options import shown, the_device, the_profile
from gateway.core.csv_rows import CsvError, Malformed, open_table
from gateway.core.model import Device, DeviceQuery
from gateway.core.ports import KnownCredentials

MOST_LABELS: Final = 5_000
"""In one go: some hundred sheets."""
_PAGE = 1_000


class Subjects(NamedTuple):
    """One of these is given."""

    names: tuple[str, ...]
    profile: str | None
    group: str | None
    csv_file: Path | None


async def find_subjects(bureau: Bureau, subjects: Subjects) -> list[KnownCredentials]:
    """The devices, each once, in their order. A `ClickException` for one that is not there."""
    registry = bureau.desk.registry
    found: dict[int, KnownCredentials] = {}
    if subjects.profile is None and subjects.group is None:
        for name in subjects.names or _names_in(subjects.csv_file):
            known = await the_device(registry, name)
            found[known.device.id] = known
    else:
        async for device in _devices(bureau, subjects):
            known_now = await registry.device(device.uuid)
            if known_now is not None:
                found[device.id] = known_now
            _prove_count(len(found))
    if not found:
        raise click.ClickException("there are no such devices, so there is nothing to print.")
    _prove_count(len(found))
    return list(found.values())


def _prove_count(count: int) -> None:
    if count > MOST_LABELS:
        raise click.ClickException(
            f"these are more than {MOST_LABELS} devices; take fewer at a time, with --csv."
        )


async def _devices(bureau: Bureau, subjects: Subjects) -> AsyncIterator[Device]:
    if subjects.profile is not None:
        registry, after = bureau.desk.registry, 0
        profile = await the_profile(registry, subjects.profile)
        while page := await registry.devices(after_id=after, limit=_PAGE, profile=profile):
            for one in page:
                yield one.device
            after = page[-1].device.id
        return
    assert subjects.group is not None
    group = await bureau.inventory.group_named(bureau.actor, subjects.group)
    if group is None:
        raise click.ClickException(f"there is no group {shown(subjects.group)}.")
    nth, more = 0, True
    while more:
        query = DeviceQuery(page=nth, page_size=_PAGE, group_id=group.id)
        devices = await bureau.inventory.page(bureau.actor, query)
        for record in devices.data:
            yield record.device
        nth, more = nth + 1, devices.has_next


def _names_in(path: Path | None) -> list[str]:
    """The column `name` (in any case), or else the first, which then has no title."""
    assert path is not None
    names: list[str] = []
    column: int | None = None
    try:
        with path.open("rb") as source:
            for row in open_table(source).rows:
                if isinstance(row, Malformed):
                    raise click.ClickException(f"{path}: row {row.at}: {row.reason}.")
                if column is None:
                    titles = [cell.strip().lower() for cell in row.cells]
                    column = titles.index("name") if "name" in titles else 0
                    if "name" in titles:
                        continue
                cell = row.cells[column].strip() if column < len(row.cells) else ""
                if cell:
                    names.append(cell)
                _prove_count(len(names))
    except (OSError, CsvError) as exc:
        raise click.ClickException(f"{path}: cannot be read ({exc}).") from None
    return names
