"""`gatehouse user`: who may log in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.lazy import Lazy, LazyGroup
from gateway.cli.new_password import asked_password, password_options
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
from gateway.cli.people_desk import PeopleDesk, open_people
from gateway.config import Config
from gateway.core.model import CUSTOMER_USER, Organisation, Secret, User

_ELSEWHERE = {"key": Lazy("gateway.cli.user_key", "key", "Keys for scripts that act as a user.")}


@click.group(cls=LazyGroup, lazy=_ELSEWHERE)
def command() -> None:
    """Show and change who may log in, and what with.

    A user is known by an e-mail address, belongs to one organisation and has one role; what the
    role allows holds there and in all organisations below. A user's number is the `ownerId` of
    Blynk's API.

    \b
    Examples:
      gatehouse user add ada@acme.example --org "Acme Ltd" --role TENANT_ADMIN
      gatehouse user password ada@acme.example
      gatehouse user key add ada@acme.example nightly-export --expires 90d
    """


@command.command("list")
@click.option("--org", metavar="ORG", help="Those of exactly this organisation.")
@click.option("--search", default="", metavar="TEXT", help="In the address or the names.")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@config_option
@json_option
def list_users(
    org: str | None, search: str, limit: int, config_path: Path | None, as_json: bool
) -> None:
    """List users by address."""
    found, total = run(_list(read_config(config_path), org, search, limit))
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("there is none; `gatehouse user add EMAIL` makes one", err=True)
        return
    from gateway.cli.tables import print_table, when

    print_table(
        ("number", "user", "organisation", "role", "state", "last login"),
        [
            (
                str(one["id"]),
                one["email"],
                one["organisation"],
                one["role"],
                "enabled" if one["enabled"] else "disabled",
                when(one["last_login_at"]) if one["last_login_at"] else "never",
            )
            for one in found
        ],
    )
    if total > len(found):
        click.echo(f"{total - len(found)} more; use --search or --limit", err=True)


async def _list(
    config: Config, org: str | None, search: str, limit: int
) -> tuple[list[dict[str, Any]], int]:
    async with open_people(config) as desk:
        at = await desk.organisation(org) if org else None
        page = await desk.people.users(desk.actor, organisation=at, page_size=limit, text=search)
        return [await _plain(desk, one) for one in page.data], page.total


async def _plain(desk: PeopleDesk, user: User) -> dict[str, Any]:
    """For JSON."""
    organisation = await desk.people.organisation_numbered(user.organisation_id)
    return {
        "email": user.email,
        "id": user.id,
        "uuid": user.uuid,
        "organisation": organisation.name if organisation is not None else "",
        "role": user.role,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "enabled": user.enabled,
        "password_until": user.password_until,
        "last_login_at": user.last_login_at,
        "created_at": user.created_at,
        "version": user.version,
    }


@command.command()
@click.argument("email")
@config_option
@json_option
def show(email: str, config_path: Path | None, as_json: bool) -> None:
    """Show one user."""
    told = run(_show(read_config(config_path), email))
    if as_json:
        print_json(told)
        return
    from gateway.cli.tables import print_fields, when

    moments = {name: when(told[name]) for name in _MOMENTS if told[name]}
    fields = told | moments | {"enabled": "yes" if told["enabled"] else "no"}
    print_fields([(name.replace("_", " "), str(text)) for name, text in fields.items() if text])


_MOMENTS = ("password_until", "last_login_at", "created_at")


async def _show(config: Config, email: str) -> dict[str, Any]:
    async with open_people(config) as desk:
        return await _plain(desk, await desk.user(email))


@command.command()
@click.argument("email")
@click.option("--org", default="root", show_default=True, metavar="ORG", help="Where it belongs.")
@click.option("--role", default=CUSTOMER_USER, show_default=True, help="What it may do.")
@click.option("--first-name", default="")
@click.option("--last-name", default="")
@password_options
@config_option
@json_option
def add(
    email: str,
    org: str,
    role: str,
    first_name: str,
    last_name: str,
    password_env: str | None,
    generate: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Add a user.

    The password is asked for without showing it, comes from the environment variable named by
    --password-env, or is made and printed once (with --generate, and where nobody can be asked).
    """
    password, made_here = asked_password(password_env, generate=generate)
    names = (first_name, last_name)
    told = run(_add(read_config(config_path), email, org, role, names, password))
    _tell("added", told, password if made_here else None, as_json=as_json)


async def _add(
    config: Config, email: str, org: str, role: str, names: tuple[str, str], password: Secret
) -> dict[str, Any]:
    async with open_people(config, make=True) as desk:
        at = await desk.organisation(org)
        known = await desk.role(role, at)
        user = await desk.people.save_user(
            desk.actor,
            email=email,
            organisation=at,
            role=known.name,
            first_name=names[0],
            last_name=names[1],
            password=password,
        )
        return await _plain(desk, user)


def _tell(done: str, told: dict[str, Any], password: Secret | None, *, as_json: bool) -> None:
    """What was done; and a password that was made here, this once."""
    if as_json:
        print_json(told | ({"password": password.reveal()} if password is not None else {}))
        return
    click.echo(f"{done} {shown(told['email'])}")
    if password is not None:
        click.echo(f"password {password.reveal()} (shown this once)")


@command.command()
@click.argument("email")
@password_options
@config_option
@json_option
def password(
    email: str,
    password_env: str | None,
    generate: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Set a user's password, and log the user out everywhere."""
    config = read_config(config_path)
    run(_show(config, email))
    secret, made_here = asked_password(password_env, generate=generate)
    told = run(_password(config, email, secret))
    _tell("set the password of", told, secret if made_here else None, as_json=as_json)


async def _password(config: Config, email: str, secret: Secret) -> dict[str, Any]:
    async with open_people(config) as desk:
        user = await desk.user(email)
        await desk.people.set_password(desk.actor, user, secret)
        return await _plain(desk, await desk.user(email))


@command.command()
@click.argument("email")
@config_option
def disable(email: str, config_path: Path | None) -> None:
    """Log a user out, and let nobody in as this user, until `enable`."""
    run(_enable(read_config(config_path), email, enabled=False))
    click.echo(f"disabled {shown(email)}")


@command.command()
@click.argument("email")
@config_option
def enable(email: str, config_path: Path | None) -> None:
    """Let a disabled user in again."""
    run(_enable(read_config(config_path), email, enabled=True))
    click.echo(f"enabled {shown(email)}")


async def _enable(config: Config, email: str, *, enabled: bool) -> None:
    async with open_people(config) as desk:
        user = await desk.user(email)
        at = await desk.people.organisation_numbered(user.organisation_id)
        await desk.people.save_user(
            desk.actor,
            email=user.email,
            organisation=_there(at, user),
            role=user.role,
            first_name=user.first_name,
            last_name=user.last_name,
            enabled=enabled,
            uuid=user.uuid,
            version=user.version,
        )


def _there(organisation: Organisation | None, user: User) -> Organisation:
    if organisation is None:
        raise click.ClickException(f"{shown(user.email)} was moved meanwhile. Try again.")
    return organisation


@command.command()
@click.argument("email")
@yes_option
@config_option
def remove(email: str, yes: bool, config_path: Path | None) -> None:
    """Remove a user with its sessions and keys. Devices it owned are nobody's."""
    confirm(f"Remove the user {shown(email)}?", yes=yes)
    run(_remove(read_config(config_path), email))
    click.echo(f"removed {shown(email)}")


async def _remove(config: Config, email: str) -> None:
    async with open_people(config) as desk:
        await desk.people.remove_user(desk.actor, await desk.user(email))
