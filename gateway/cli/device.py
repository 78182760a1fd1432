"""`gatehouse device`: list, add, remove and re-arm devices; the rest of it lies beside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TextIO, TypeAlias

import click
from msgspec import Struct

from gateway.cli.device_views import (
    COLUMNS,
    plain_event,
    plain_listing,
    print_events,
    row,
)
from gateway.cli.lazy import Lazy, LazyGroup
from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    open_for_people,
    print_json,
    read_config,
    run,
    shown,
    the_device,
    the_profile,
    yes_option,
)
from gateway.config import Config
from gateway.core.model import DeviceProfile, Event, Presence
from gateway.core.names import is_device_name
from gateway.core.ports import DeviceListing
from gateway.core.registry import Registry

_PAGE = 500

_Row: TypeAlias = tuple[DeviceListing, Presence]

_ELSEWHERE = {
    "show": Lazy("gateway.cli.device_show", "show", "Show one device."),
    "data": Lazy("gateway.cli.device_data", "data", "Show readings: table, chart, JSON, CSV."),
    "attributes": Lazy(
        "gateway.cli.device_attributes", "attributes", "Show and change attributes."
    ),
    "rpc": Lazy("gateway.cli.device_rpc", "rpc", "Call a method of a device."),
    "calls": Lazy("gateway.cli.device_rpc", "calls", "List a device's stored calls."),
    "keep": Lazy("gateway.cli.device_keep", "keep", "Let a device stay that would expire."),
    "rotate": Lazy("gateway.cli.rotate", "rotate", "Give a device new credentials."),
    "claim": Lazy("gateway.cli.device_owner", "claim", "Take a device for a customer."),
    "unclaim": Lazy("gateway.cli.device_owner", "unclaim", "Take it back from the customer."),
    "reprovision": Lazy("gateway.cli.device_provisioning", "reprovision", "Issue a new token."),
    "rearm": Lazy("gateway.cli.device_rearm", "rearm", "Let a device be provisioned once more."),
    "reconfigure": Lazy("gateway.cli.device_provisioning", "reconfigure", "Go to set-up mode."),
    "reboot": Lazy("gateway.cli.device_provisioning", "reboot", "Let a device start anew."),
    "redirect": Lazy("gateway.cli.device_provisioning", "redirect", "Let it connect elsewhere."),
}
"""The commands of this group that have files of their own."""


@click.group(cls=LazyGroup, lazy=_ELSEWHERE)
def command() -> None:
    """Show, change and call devices.

    The commands act on the store itself; a running gateway follows within a moment: what it is
    connected to is told, closed or called.

    \b
    Examples:
      gatehouse device list --search meter
      gatehouse device add --profile valve valve-1 valve-2
      gatehouse device show valve-1
      gatehouse device data valve-1 pressure --last 1h
      gatehouse device rpc valve-1 open '{"percent": 50}'
      gatehouse device attributes set valve-1 interval=30
    """


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@command.command("list")
@click.option("--profile", "profile_name", metavar="NAME", help="Only devices of this profile.")
@click.option("--search", default="", metavar="TEXT", help="Only names with this text in them.")
@click.option("--online", is_flag=True, help="Only devices that are connected.")
@click.option("--limit", default=50, type=click.IntRange(1, 1000), show_default=True)
@click.option("--all", "everything", is_flag=True, help="All, one tab-separated line each.")
@config_option
@json_option
def list_devices(
    profile_name: str | None,
    search: str,
    online: bool,
    limit: int,
    everything: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """List devices in the order in which they came into being.

    \b
    Examples:
      gatehouse device list --profile demo --search kitchen
      gatehouse device list --online
      gatehouse device list --all | cut -f2
    """
    config = read_config(config_path)
    which = _Which(profile_name, search, online)
    if everything:
        run(_list_all(config, which, as_json=as_json))
        return
    # One more than shown tells whether there are more.
    found = run(_list(config, which, limit + 1))
    if as_json:
        print_json([plain_listing(*one) for one in found[:limit]])
    else:
        from gateway.cli.tables import print_table

        print_table(COLUMNS, [row(*one) for one in found[:limit]])
    if len(found) > limit:
        click.echo(f"these are the first {limit}; narrow with --search, or use --all", err=True)


class _Which(Struct, frozen=True):
    """Which devices are listed."""

    profile: str | None
    search: str
    online: bool

    async def pages(self, registry: Registry, size: int) -> AsyncIterator[list[_Row]]:
        """All of them with their presence, `size` at a time."""
        profile = await the_profile(registry, self.profile) if self.profile else None
        last = 0
        while page := await registry.devices(
            after_id=last, limit=size, profile=profile, text=self.search, online=self.online
        ):
            presence = await registry.presence(one.device for one in page)
            yield [(one, presence.get(one.device.id, Presence())) for one in page]
            last = page[-1].device.id


async def _list(config: Config, which: _Which, limit: int) -> list[_Row]:
    async with open_for_people(config) as registry:
        async for page in which.pages(registry, limit):
            return page
        return []


async def _list_all(config: Config, which: _Which, *, as_json: bool) -> None:
    """Print page by page: the fleet may be larger than the memory of this machine."""
    import json

    async with open_for_people(config) as registry:
        click.echo("[" if as_json else "\t".join(COLUMNS))
        separator = "  "
        async for page in which.pages(registry, _PAGE):
            for one in page:
                if as_json:
                    click.echo(separator + json.dumps(plain_listing(*one)), nl=False)
                    separator = ",\n  "
                else:
                    click.echo("\t".join(row(*one)))
        if as_json:
            click.echo("\n]")


@command.command()
@click.argument("name_or_uuid", required=False)
@click.option("--after", type=click.IntRange(0, 2**63 - 1), metavar="SEQ", help="Only later ones.")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@config_option
@json_option
def events(
    name_or_uuid: str | None,
    after: int | None,
    limit: int,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Show what happened, of one device or of all: the newest, or those after a number.

    A refusal's true reason stands here; the device is not told it.

    \b
    Examples:
      gatehouse device events kitchen-1
      gatehouse device events --after 1200 --limit 1000 --json
    """
    found = run(_events(read_config(config_path), name_or_uuid, after, limit))
    if as_json:
        print_json([plain_event(one) for one in found])
    else:
        print_events(found)


async def _events(config: Config, name: str | None, after: int | None, limit: int) -> list[Event]:
    async with open_for_people(config) as registry:
        known = await the_device(registry, name) if name else None
        if after is None:
            return await registry.last_events(known, limit=limit)
        return await registry.events(known, after_seq=after, limit=limit)


# ── changing ──────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.argument("names", nargs=-1)
@click.option("--profile", "profile_name", metavar="NAME", help="Default: the only one there is.")
@click.option("--count", type=click.IntRange(1, 10_000_000), help="Add so many, numbered.")
@click.option("--prefix", metavar="TEXT", help="With --count. Default: the profile's name and -.")
@click.option(
    "--first",
    default=1,
    show_default=True,
    type=click.IntRange(0, 10**12),
    help="With --count: the first number.",
)
@click.option(
    "--from-file",
    "source",
    # Bytes that are no UTF-8 become a name that is refused with its line, not a traceback.
    type=click.File("r", encoding="utf-8-sig", errors="surrogateescape"),
    help="A name per line; # starts a comment; - is standard input.",
)
@click.option("--label", default="", metavar="TEXT", help="What people call them besides.")
@config_option
@json_option
def add(
    names: tuple[str, ...],
    profile_name: str | None,
    count: int | None,
    prefix: str | None,
    first: int,
    source: TextIO | None,
    label: str,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Add devices that wait for their one claim (pre-provisioned).

    What can be added is added; every name that cannot is told with its line and reason, and the
    exit status is then 1. Ctrl-C keeps what was added and says how many that are.

    \b
    Examples:
      gatehouse device add --profile valve valve-1 valve-2
      gatehouse device add --profile valve --label "Boiler room" valve-3
      gatehouse device add --profile valve --count 1000 --prefix batch7-
      gatehouse device add --profile valve --from-file serials.txt
      cut -d, -f1 factory.csv | gatehouse device add --profile valve --from-file -
    """
    if sum((bool(names), count is not None, source is not None)) != 1:
        raise click.UsageError("give names, or --count, or --from-file: exactly one of them.")
    if prefix is not None and count is None:
        raise click.UsageError("--prefix goes with --count.")
    if label and not is_device_name(label):
        raise click.UsageError(
            "--label takes 1 to 255 characters, without control characters, <markup>, {{ or ${."
        )
    from gateway.cli.adding import Adding, from_arguments, from_file, numbered

    async def work() -> Adding:
        async with open_for_people(read_config(config_path), make=True) as registry:
            profile = await _profile_to_fill(registry, profile_name)
            if source is not None:
                lines = from_file(source)
            elif count is not None:
                stem = f"{profile.name}-" if prefix is None else prefix
                lines = numbered(stem, first, count)
            else:
                lines = from_arguments(names)
            adding = Adding(registry, profile, label=label, keep_refusals=as_json)
            await adding.run(lines, total=count or len(names) or None)
            return adding

    adding = run(work())
    if as_json:
        print_json({"added": adding.added, "refused": adding.refusals})
    else:
        click.echo(adding.summary())
    if adding.refused:
        raise SystemExit(1)


async def _profile_to_fill(registry: Registry, name: str | None) -> DeviceProfile:
    if name is not None:
        return await the_profile(registry, name)
    profiles = await registry.profiles()
    if len(profiles) == 1:
        return profiles[0]
    listed = ", ".join(shown(one.name) for one in profiles[:10])
    raise click.UsageError(
        f"say which profile with --profile: {listed}."
        if profiles
        else "there is no profile yet; make one with `gatehouse profile add`."
    )


@command.command()
@click.argument("names", nargs=-1, required=True)
@yes_option
@config_option
def remove(names: tuple[str, ...], yes: bool, config_path: Path | None) -> None:
    """Remove devices with their credentials, attributes and readings. Their events stay.

    Nothing is removed when one of the names is wrong. It asks first; a script says --yes.
    """
    removed = run(_remove(read_config(config_path), names, yes=yes))
    click.echo(f"removed {_count(removed)}; a running gateway closes their sessions at once")


async def _remove(config: Config, names: Sequence[str], *, yes: bool) -> int:
    async with open_for_people(config) as registry:
        found = {one.device.id: one for one in [await the_device(registry, n) for n in names]}
        listed = ", ".join(shown(one.device.name) for one in list(found.values())[:5])
        confirm(f"Remove {_count(len(found))} ({listed}) for good?", yes=yes)
        # Together, so that they share a commit.
        return sum(await asyncio.gather(*map(registry.remove_device, found.values())))


def _count(number: int) -> str:
    return "1 device" if number == 1 else f"{number} devices"
