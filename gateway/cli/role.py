"""`gatehouse role`: what users may do."""

from __future__ import annotations

from collections.abc import Iterable
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
from gateway.core.model import Permission, Role

PERMISSION = click.Choice([one.value for one in Permission], case_sensitive=False)
_org_option = click.option("--org", metavar="ORG", help="Whose role it is, where names are twice.")


@click.group()
def command() -> None:
    """Show and change roles: named sets of permissions.

    A role holds in its user's organisation and in all below it. TENANT_ADMIN (everything) and
    CUSTOMER_USER (see and use devices) are always there and cannot be changed. A change counts
    from a user's next request on.

    \b
    Examples:
      gatehouse role add installer --allow ORG_DEVICES_VIEW --allow PROVISION_DEVICES
      gatehouse role change installer --allow RPC_CALL --deny PROVISION_DEVICES
      gatehouse role show CUSTOMER_USER
    """


@command.command("list")
@config_option
@json_option
def list_roles(config_path: Path | None, as_json: bool) -> None:
    """List the roles there are, the built-in ones first."""
    found = run(_list(read_config(config_path)))
    if as_json:
        print_json([plain_role(role, whose) for role, whose in found])
        return
    from gateway.cli.tables import print_table

    print_table(
        ("role", "of", "permissions"),
        [(role.name, whose or "built in", str(len(role.permissions))) for role, whose in found],
    )


async def _list(config: Config) -> list[tuple[Role, str]]:
    async with open_people(config) as desk:
        found = []
        for role in await desk.people.roles(desk.actor):
            owner = await desk.people.organisation_numbered(role.organisation_id or 0)
            found.append((role, owner.name if owner is not None else ""))
        return found


def plain_role(role: Role, whose: str) -> dict[str, Any]:
    """For JSON."""
    return {
        "name": role.name,
        "uuid": role.uuid or None,
        "organisation": whose or None,
        "permissions": sorted(one.value for one in role.permissions),
        "version": role.version,
    }


@command.command()
@click.argument("name")
@_org_option
@config_option
@json_option
def show(name: str, org: str | None, config_path: Path | None, as_json: bool) -> None:
    """Show what a role allows."""
    role, whose = run(_show(read_config(config_path), name, org))
    if as_json:
        print_json(plain_role(role, whose))
        return
    click.echo(f"{role.name} ({f'of {whose}' if whose else 'built in'}) allows:")
    for one in sorted(role.permissions):
        click.echo(f"  {one.value}")


async def _show(config: Config, name: str, org: str | None) -> tuple[Role, str]:
    async with open_people(config) as desk:
        role = await desk.role(name, await desk.organisation(org) if org else None)
        owner = await desk.people.organisation_numbered(role.organisation_id or 0)
        return role, owner.name if owner is not None else ""


def _permissions(names: Iterable[str]) -> frozenset[Permission]:
    return frozenset(Permission(name.upper()) for name in names)


@command.command()
@click.argument("name")
@click.option("--allow", multiple=True, type=PERMISSION, help="May be given several times.")
@click.option("--org", default="root", show_default=True, metavar="ORG", help="Whose role it is.")
@config_option
@json_option
def add(
    name: str, allow: tuple[str, ...], org: str, config_path: Path | None, as_json: bool
) -> None:
    """Add a role for users of an organisation and of those below it."""
    role = run(_add(read_config(config_path), name, _permissions(allow), org))
    if as_json:
        print_json(plain_role(role, org))
        return
    click.echo(f"added role {shown(role.name)} with {len(role.permissions)} permissions")


async def _add(config: Config, name: str, allow: frozenset[Permission], org: str) -> Role:
    async with open_people(config, make=True) as desk:
        at = await desk.organisation(org)
        return await desk.people.save_role(
            desk.actor, name=name, permissions=allow, organisation=at
        )


@command.command()
@click.argument("name")
@click.option("--allow", multiple=True, type=PERMISSION, help="From now on.")
@click.option("--deny", multiple=True, type=PERMISSION, help="From now on no more.")
@_org_option
@config_option
@json_option
def change(
    name: str,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    org: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Change what a role allows, for all who have it, from their next request on."""
    if not allow and not deny:
        raise click.UsageError("say what changes: --allow or --deny.")
    if both := _permissions(allow) & _permissions(deny):
        raise click.UsageError(f"{min(both).value} is both allowed and denied.")
    role, whose = run(
        _change(read_config(config_path), name, org, _permissions(allow), _permissions(deny))
    )
    if as_json:
        print_json(plain_role(role, whose))
        return
    click.echo(f"role {shown(role.name)} has {len(role.permissions)} permissions now")


async def _change(
    config: Config,
    name: str,
    org: str | None,
    allow: frozenset[Permission],
    deny: frozenset[Permission],
) -> tuple[Role, str]:
    async with open_people(config) as desk:
        role = await desk.role(name, await desk.organisation(org) if org else None)
        saved = await desk.people.save_role(
            desk.actor,
            name=role.name,
            permissions=(role.permissions | allow) - deny,
            uuid=role.uuid,
            version=role.version,
        )
        owner = await desk.people.organisation_numbered(saved.organisation_id or 0)
        return saved, owner.name if owner is not None else ""


@command.command()
@click.argument("name")
@_org_option
@yes_option
@config_option
def remove(name: str, org: str | None, yes: bool, config_path: Path | None) -> None:
    """Remove a role that no user has."""
    confirm(f"Remove the role {shown(name)}?", yes=yes)
    run(_remove(read_config(config_path), name, org))
    click.echo(f"removed role {shown(name)}")


async def _remove(config: Config, name: str, org: str | None) -> None:
    async with open_people(config) as desk:
        role = await desk.role(name, await desk.organisation(org) if org else None)
        await desk.people.remove_role(desk.actor, role)
