"""`gatehouse group`: groups of devices, made on first mention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.bureau import Bureau, open_bureau
from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    meant,
    print_json,
    read_config,
    run,
    shown,
    the_device,
    yes_option,
)
from gateway.config import Config
from gateway.core.errors import Invalid
from gateway.core.model import DeviceGroup, DeviceOrder, DeviceQuery, DeviceRecord

_devices = click.argument("devices", nargs=-1, required=True, metavar="DEVICE…")


@click.group()
def command() -> None:
    """Show and change groups of devices.

    A group is a name for some devices, to find them by. A device may be in several. A group is made
    by putting the first device into it.

    \b
    Examples:
      gatehouse group add cellar meter-1 meter-2
      gatehouse group show cellar
      gatehouse group remove cellar meter-2
      gatehouse group remove cellar
    """


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@command.command("list")
@config_option
@json_option
def list_groups(config_path: Path | None, as_json: bool) -> None:
    """List all groups, by name."""
    groups = run(_list(read_config(config_path)))
    if as_json:
        print_json([_told(one) for one in groups])
        return
    if not groups:
        click.echo("there is none; `gatehouse group add NAME DEVICE…` makes one", err=True)
        return
    from gateway.cli.tables import print_table, when

    rows = [(one.name, str(one.devices), when(one.created_at)) for one in groups]
    print_table(("group", "devices", "made"), rows)


async def _list(config: Config) -> list[DeviceGroup]:
    async with open_bureau(config) as bureau:
        return await bureau.inventory.groups(bureau.actor)


def _told(group: DeviceGroup) -> dict[str, Any]:
    return {"name": group.name, "uuid": group.uuid, "devices": group.devices}


@command.command()
@click.argument("group")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@config_option
@json_option
def show(group: str, limit: int, config_path: Path | None, as_json: bool) -> None:
    """List the devices of a group, by name."""
    found, devices = run(_show(read_config(config_path), group, limit))
    if as_json:
        print_json(_told(found) | {"members": [one.device.name for one in devices]})
        return
    from gateway.cli.tables import print_table

    rows = [(one.device.name, one.profile_name, one.customer_name) for one in devices]
    print_table(("device", "profile", "customer"), rows)
    if found.devices > len(devices):
        click.echo(f"{found.devices - len(devices)} more; use --limit", err=True)


async def _show(config: Config, name: str, limit: int) -> tuple[DeviceGroup, list[DeviceRecord]]:
    async with open_bureau(config) as bureau:
        group = await _the_group(bureau, name)
        query = DeviceQuery(page_size=limit, order=DeviceOrder.NAME, group_id=group.id)
        return group, (await bureau.inventory.page(bureau.actor, query)).data


async def _the_group(bureau: Bureau, name: str) -> DeviceGroup:
    found = await bureau.inventory.group_named(bureau.actor, name)
    if found is not None:
        return found
    names = [one.name for one in await bureau.inventory.groups(bureau.actor)]
    see = "`gatehouse group list` shows what there is."
    raise click.ClickException(f"there is no group {shown(name)}. {meant(name, names) or see}")


# ── changing ──────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.argument("group")
@_devices
@config_option
def add(group: str, devices: tuple[str, ...], config_path: Path | None) -> None:
    """Put devices into a group, by name or UUID; the group is made if it is new."""
    names = run(_add(read_config(config_path), group, devices))
    click.echo(f"{len(names)} in {shown(group)}: {', '.join(shown(name) for name in names)}")


async def _add(config: Config, group: str, devices: tuple[str, ...]) -> list[str]:
    async with open_bureau(config) as bureau:
        # All are looked up first: a wrong name leaves everything as it is.
        records = await _the_records(bureau, devices)
        for record in records:
            try:
                await bureau.inventory.put_into(bureau.actor, record, [group])
            except Invalid as exc:
                raise click.UsageError(str(exc)) from exc
        return [one.device.name for one in records]


@command.command()
@click.argument("group")
@click.argument("devices", nargs=-1, metavar="[DEVICE…]")
@yes_option
@config_option
def remove(group: str, devices: tuple[str, ...], yes: bool, config_path: Path | None) -> None:
    """Take devices out of a group; without a device, remove the group itself.

    The devices stay what they are.
    """
    config = read_config(config_path)
    if not devices:
        run(_remove(config, group, yes=yes))
        click.echo(f"{shown(group)} is removed; its devices are not")
        return
    names = run(_take_out(config, group, devices))
    if not names:
        raise click.ClickException(f"none of them is in {shown(group)}.")
    click.echo(f"no longer in {shown(group)}: {', '.join(shown(name) for name in names)}")


async def _remove(config: Config, name: str, *, yes: bool) -> None:
    async with open_bureau(config) as bureau:
        group = await _the_group(bureau, name)
        if group.devices:
            confirm(f"Remove {shown(name)}, which has {group.devices} devices?", yes=yes)
        await bureau.inventory.remove_group(bureau.actor, name)


async def _take_out(config: Config, group: str, devices: tuple[str, ...]) -> list[str]:
    async with open_bureau(config) as bureau:
        await _the_group(bureau, group)
        records = await _the_records(bureau, devices)
        return [
            one.device.name
            for one in records
            if await bureau.inventory.take_out(bureau.actor, one, group)
        ]


async def _the_records(bureau: Bureau, names: tuple[str, ...]) -> list[DeviceRecord]:
    found: dict[int, DeviceRecord] = {}
    for name in names:
        known = await the_device(bureau.desk.registry, name)
        record = await bureau.inventory.find(bureau.actor, known.device.uuid)
        if record is not None:
            found[record.device.id] = record
    return list(found.values())
