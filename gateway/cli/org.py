"""`gatehouse org`: the tree of organisations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.options import (
    config_option,
    confirm,
    json_option,
    print_json,
    read_config,
    run,
    shown,
    yes_option,
)
from gateway.cli.people_desk import open_people
from gateway.config import Config
from gateway.core.errors import Cause, Conflict
from gateway.core.model import Organisation


@click.group()
def command() -> None:
    """Show and change organisations: whose devices, users and profiles are.

    They form a tree. The root is yours, who runs this gateway; those below it are customers, and
    may have customers of their own. Nobody sees across the tree, only downwards. An organisation
    is named by its name, or by its UUID where several have that name; its number is the `orgId` of
    Blynk's API.

    \b
    Examples:
      gatehouse org add "Acme Ltd"
      gatehouse org add "Acme North" --below "Acme Ltd"
      gatehouse org list
    """


@command.command("list")
@click.option("--below", default="root", show_default=True, metavar="ORG", help="Those below it.")
@click.option("--search", default="", metavar="TEXT", help="Those with this in their name.")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@config_option
@json_option
def list_organisations(
    below: str, search: str, limit: int, config_path: Path | None, as_json: bool
) -> None:
    """List the organisations below one, by name; all of them with the root, which comes first."""
    found, total = run(_list(read_config(config_path), below, search, limit))
    if as_json:
        print_json([one for one, _ in found])
        return
    from gateway.cli.tables import print_table

    if found:
        rows = [(str(o["id"]), o["name"], o["uuid"], at) for o, at in found]
        print_table(("number", "organisation", "uuid", "place"), rows)
    below_it = sum(o["parent_id"] is not None for o, _ in found)
    if total == 0:
        click.echo("there is none below it; `gatehouse org add NAME` makes one", err=True)
    elif total > below_it:
        click.echo(f"{total - below_it} more; use --search or --limit", err=True)


async def _list(
    config: Config, below: str, search: str, limit: int
) -> tuple[list[tuple[dict[str, Any], str]], int]:
    async with open_people(config) as desk:
        parent = await desk.organisation(below)
        page = await desk.people.organisations(
            _at(desk.actor, parent), page_size=limit, text=search
        )
        found = page.data
        if parent.parent_id is None and search.casefold() in parent.name.casefold():
            found = [parent, *found]
        return [(plain_organisation(one), await desk.place(one)) for one in found], page.total


def _at(actor: Any, organisation: Organisation) -> Any:
    """The actor, standing further down the tree."""
    from msgspec import structs

    return structs.replace(actor, organisation=organisation)


def plain_organisation(one: Organisation) -> dict[str, Any]:
    """For JSON."""
    return {
        "name": one.name,
        "uuid": one.uuid,
        "id": one.id,
        "parent_id": one.parent_id,
        "path": one.path,
        "created_at": one.created_at,
        "version": one.version,
    }


@command.command()
@click.argument("name")
@config_option
@json_option
def show(name: str, config_path: Path | None, as_json: bool) -> None:
    """Show one organisation, and how much there is in it."""
    told, place = run(_show(read_config(config_path), name))
    if as_json:
        print_json(told)
        return
    from gateway.cli.tables import print_fields, when

    print_fields(
        [
            ("name", told["name"]),
            ("number", str(told["id"])),
            ("uuid", told["uuid"]),
            ("place", place),
            ("organisations below", str(told["organisations"])),
            ("users", str(told["users"])),
            ("devices, with those below", _many(told["devices"])),
            ("profiles, with those below", str(told["profiles"])),
            ("created", when(told["created_at"]) if told["created_at"] else "-"),
        ]
    )


async def _show(config: Config, name: str) -> tuple[dict[str, Any], str]:
    async with open_people(config) as desk:
        found = await desk.organisation(name)
        below = await desk.people.organisations(_at(desk.actor, found), page_size=1)
        users = await desk.people.users(desk.actor, organisation=found, page_size=1)
        counted = {"organisations": below.total, "users": users.total}
        place = await desk.place(found)
    return plain_organisation(found) | counted | await _things(config, found), place


def _many(devices: int) -> str:
    """A store counts so far, and no further."""
    from gateway.store.sql_inventory import MOST_COUNTED

    return f"{MOST_COUNTED:,} or more" if devices >= MOST_COUNTED else str(devices)


async def _things(config: Config, organisation: Organisation) -> dict[str, int]:
    """How many devices and profiles are in it and below it."""
    from gateway.cli.bureau import open_bureau
    from gateway.core.model import DeviceQuery

    async with open_bureau(config) as bureau:
        at = _at(bureau.actor, organisation)
        devices = await bureau.inventory.page(at, DeviceQuery(page_size=1))
        profiles = await bureau.catalogue.page(at, page_size=1)
        return {"devices": devices.total, "profiles": profiles.total}


@command.command()
@click.argument("name")
@click.option("--below", default="root", show_default=True, metavar="ORG", help="Its parent.")
@config_option
@json_option
def add(name: str, below: str, config_path: Path | None, as_json: bool) -> None:
    """Add an organisation below another."""
    made = run(_add(read_config(config_path), name, below))
    if as_json:
        print_json(plain_organisation(made))
        return
    click.echo(f"added {shown(made.name)} {made.uuid}")


async def _add(config: Config, name: str, below: str) -> Organisation:
    async with open_people(config, make=True) as desk:
        parent = await desk.organisation(below)
        return await desk.people.save_organisation(desk.actor, name=name, parent=parent)


@command.command()
@click.argument("name")
@click.argument("new_name")
@config_option
def rename(name: str, new_name: str, config_path: Path | None) -> None:
    """Give an organisation another name. What it has stays its own."""
    saved = run(_rename(read_config(config_path), name, new_name))
    click.echo(f"{shown(name)} is {shown(saved.name)} from now on")


async def _rename(config: Config, name: str, new_name: str) -> Organisation:
    async with open_people(config) as desk:
        found = await desk.organisation(name)
        return await desk.people.save_organisation(
            desk.actor, name=new_name, uuid=found.uuid, version=found.version
        )


@command.command()
@click.argument("name")
@click.option("--unassign", is_flag=True, help="Take its devices back from it first.")
@yes_option
@config_option
def remove(name: str, unassign: bool, yes: bool, config_path: Path | None) -> None:
    """Remove an organisation that has nothing any more, with its roles and groups.

    While it has organisations below it, users, profiles or devices it stays.
    """
    confirm(f"Remove the organisation {shown(name)}?", yes=yes)
    run(_remove(read_config(config_path), name, unassign))
    click.echo(f"removed {shown(name)}")


async def _remove(config: Config, name: str, unassign: bool) -> None:
    async with open_people(config) as desk:
        found = await desk.organisation(name)
        try:
            await desk.people.remove_organisation(desk.actor, found, unassign=unassign)
        except Conflict as exc:
            if exc.cause is not Cause.IN_USE:
                raise
            hint = "" if unassign else " Devices of a customer are taken back with --unassign."
            raise click.ClickException(f"{shown(name)} stays: {exc}.{hint}") from None
