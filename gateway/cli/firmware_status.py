"""`gatehouse firmware status`: how far a fleet came with what it is to run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from gateway.cli.options import (
    config_option,
    json_option,
    open_for_people,
    print_json,
    read_config,
    run,
    the_profile,
)
from gateway.cli.package_views import Progress, software_option, title_of, told
from gateway.config import Config
from gateway.core.model import PackageKind
from gateway.core.ports import DeviceListing
from gateway.core.registry import Registry

_PAGE = 200
_MOST_ROWS = 100
"""What devices say of themselves has no bound."""


@click.command()
@click.option("--profile", metavar="NAME", help="Only devices of this profile.")
@software_option
@config_option
@json_option
def status(profile: str | None, kind: PackageKind, config_path: Path | None, as_json: bool) -> None:
    """Count devices by what they are to run, what they run, and how far they came.

    It is what devices last reported: current_fw_title, current_fw_version and fw_state.
    """
    counts = run(_status(read_config(config_path), profile, kind))
    rows = sorted(counts.items(), key=lambda one: -one[1])
    if as_json:
        print_json(
            [
                {"assigned": wanted, "current": current, "state": state, "devices": count}
                for (wanted, current, state), count in rows
            ]
        )
        return
    from gateway.cli.tables import print_table

    shortened = [(*key, str(count)) for key, count in rows[:_MOST_ROWS]]
    print_table(("assigned", "current", "state", "devices"), shortened)
    if len(rows) > _MOST_ROWS:
        click.echo(f"the {_MOST_ROWS} most frequent of {len(rows)}; --json has all", err=True)


async def _status(
    config: Config, name: str | None, kind: PackageKind
) -> Counter[tuple[str, str, str]]:
    counts: Counter[tuple[str, str, str]] = Counter()
    async with open_for_people(config) as registry:
        profile = await the_profile(registry, name) if name else None
        last = 0
        while page := await registry.devices(after_id=last, limit=_PAGE, profile=profile):
            for one in await _progress_of(registry, kind, page):
                counts[(title_of(one.assigned), one.current or "-", one.state or "-")] += 1
            last = page[-1].device.id
    return counts


async def _progress_of(
    registry: Registry, kind: PackageKind, page: Sequence[DeviceListing]
) -> list[Progress]:
    """One page, asked for together."""
    latest = await asyncio.gather(*map(registry.latest, page))
    wanted = await asyncio.gather(*(registry.packages.for_device(one.device, kind) for one in page))
    return [
        told(kind, assigned, readings) for assigned, readings in zip(wanted, latest, strict=True)
    ]
