"""`gatehouse role`: what users may do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

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

_METAVAR = "PERMISSION"
_TOLD: Final[Mapping[Permission, str]] = {
    Permission.PROVISION_DEVICES: "Blynk's; nothing here asks for it.",
    Permission.ORG_VIEW: "See organisations.",
    Permission.ORG_CREATE: "Make organisations.",
    Permission.ORG_EDIT: "Change organisations.",
    Permission.ORG_DELETE: "Remove organisations.",
    Permission.ORG_VIEW_USERS: "See users.",
    Permission.ORG_INVITE_USERS: "Add users.",
    Permission.ORG_EDIT_USERS: "Change users, and set their passwords.",
    Permission.ORG_DELETE_USERS: "Remove users.",
    Permission.ROLE_VIEW: "Nothing asks for it: whoever may log in sees roles.",
    Permission.ROLE_EDIT: "Make, change and remove roles.",
    Permission.PRODUCT_VIEW: "See device profiles, with their fleet secrets.",
    Permission.PRODUCT_EDIT: "Make, change and remove device profiles.",
    Permission.OWN_DEVICES_VIEW: "See the devices that are the user's own.",
    Permission.OWN_DEVICES_EDIT: "Change those.",
    Permission.OWN_DEVICES_DELETE: "Remove those.",
    Permission.ORG_DEVICES_CREATE: "Enter devices.",
    Permission.ORG_DEVICES_VIEW: "See all devices of the organisation and of those below it.",
    Permission.ORG_DEVICES_EDIT: "Change those.",
    Permission.ORG_DEVICES_DELETE: "Remove those.",
    Permission.ORG_DEVICES_SHARE: "Assign devices to customers, and take them back.",
    Permission.DEVICES_CLAIM: "Claim devices with their codes.",
    Permission.SET_AUTH_TOKEN: "See and change devices' credentials.",
    Permission.RPC_CALL: "Call methods of devices.",
    Permission.AUDIT_VIEW: "See what happened.",
    Permission.MANAGE_STATIC_TOKENS: "Make and revoke keys for scripts, and static tokens.",
}
"""What each allows. All of it in the user's organisation and in those below."""


class _RoleGroup(click.Group):
    """Its help ends with a table of the permissions."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Permissions"):
            formatter.write_dl([(one.value, told) for one, told in _TOLD.items()])


@click.group(cls=_RoleGroup)
def command() -> None:
    """Show and change roles: named sets of permissions.

    A role holds in its user's organisation and in all below it. TENANT_ADMIN (everything) and
    CUSTOMER_USER (see and use devices) are always there and cannot be changed. A change counts
    from a user's next request on.

    \b
    Examples:
      gatehouse role add installer --allow ORG_DEVICES_VIEW --allow ORG_DEVICES_CREATE
      gatehouse role change installer --allow RPC_CALL --deny ORG_DEVICES_CREATE
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
@click.option(
    "--allow", multiple=True, type=PERMISSION, metavar=_METAVAR, help="May be given several times."
)
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
@click.option("--allow", multiple=True, type=PERMISSION, metavar=_METAVAR, help="From now on.")
@click.option(
    "--deny", multiple=True, type=PERMISSION, metavar=_METAVAR, help="From now on no more."
)
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
