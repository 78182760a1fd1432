"""`gatehouse user key`: keys for scripts that act as a user."""

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
from gateway.cli.people_desk import PeopleDesk, open_people
from gateway.cli.role import PERMISSION
from gateway.cli.times import DurationType
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.model import ApiKey, Permission, Secret, User

_ALLOW = "This alone; may be repeated (see `gatehouse role --help`). Default: as the user."


@click.group()
def key() -> None:
    """Keys for scripts that act as a user, without its password.

    A script shows one in the header `X-Authorization: ApiKey KEY`. It is shown once, when it is
    made; the store keeps a digest alone.
    """


@key.command()
@click.argument("email")
@click.argument("label")
@click.option("--allow", multiple=True, type=PERMISSION, metavar="PERMISSION", help=_ALLOW)
@click.option("--expires", type=DurationType(), metavar="DURATION", help="For example 90d.")
@config_option
@json_option
def add(
    email: str,
    label: str,
    allow: tuple[str, ...],
    expires: int | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make a key and print it, this once. LABEL says what it is for."""
    some = frozenset(Permission(name.upper()) for name in allow) or None
    made, secret = run(_add(read_config(config_path), email, label, some, expires))
    if as_json:
        print_json(plain_key(made) | {"key": secret.reveal()})
        return
    click.echo(f"added key {shown(made.label)} {made.uuid}; it is shown this once:", err=True)
    click.echo(secret.reveal())


async def _add(
    config: Config,
    email: str,
    label: str,
    allow: frozenset[Permission] | None,
    expires: int | None,
) -> tuple[ApiKey, Secret]:
    async with open_people(config) as desk:
        ends = None if expires is None else now_ms() + expires
        return await desk.logins.add_key(desk.actor, await desk.user(email), label, allow, ends)


def plain_key(one: ApiKey) -> dict[str, Any]:
    """For JSON. The key itself is not known any more."""
    allowed = None if one.permissions is None else sorted(p.value for p in one.permissions)
    return {
        "label": one.label,
        "uuid": one.uuid,
        "permissions": allowed,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
        "last_used_at": one.last_used_at,
    }


@key.command("list")
@click.argument("email")
@config_option
@json_option
def list_keys(email: str, config_path: Path | None, as_json: bool) -> None:
    """List a user's keys, without the keys themselves."""
    found = run(_list(read_config(config_path), email))
    if as_json:
        print_json([plain_key(one) for one in found])
        return
    if not found:
        click.echo(f"{shown(email)} has no keys", err=True)
        return
    from gateway.cli.tables import print_table, when

    print_table(
        ("key", "uuid", "allows", "ends", "last used"),
        [
            (
                one.label,
                one.uuid,
                "as its user" if one.permissions is None else f"{len(one.permissions)} things",
                when(one.expires_at) if one.expires_at is not None else "never",
                when(one.last_used_at) if one.last_used_at is not None else "never",
            )
            for one in found
        ],
    )


async def _list(config: Config, email: str) -> list[ApiKey]:
    async with open_people(config) as desk:
        return await desk.logins.keys(desk.actor, await desk.user(email))


@key.command()
@click.argument("email")
@click.argument("label_or_uuid")
@yes_option
@config_option
def revoke(email: str, label_or_uuid: str, yes: bool, config_path: Path | None) -> None:
    """End a key: from its next request on it opens nothing."""
    confirm(f"Revoke the key {shown(label_or_uuid)} of {shown(email)}?", yes=yes)
    run(_revoke(read_config(config_path), email, label_or_uuid))
    click.echo(f"revoked {shown(label_or_uuid)}")


async def _revoke(config: Config, email: str, label_or_uuid: str) -> None:
    async with open_people(config) as desk:
        user = await desk.user(email)
        found = await _the_key(desk, user, label_or_uuid)
        await desk.logins.revoke_key(desk.actor, user, found.uuid)


async def _the_key(desk: PeopleDesk, user: User, label_or_uuid: str) -> ApiKey:
    named = [
        one
        for one in await desk.logins.keys(desk.actor, user)
        if label_or_uuid in (one.label, one.uuid)
    ]
    if len(named) == 1:
        return named[0]
    trouble = "several keys are labelled" if named else "there is no key"
    raise click.ClickException(
        f"{trouble} {shown(label_or_uuid)}. `gatehouse user key list {user.email}` shows their "
        "UUIDs."
    )
