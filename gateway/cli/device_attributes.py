"""`gatehouse device attributes`: what is known of devices, and what they are told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TextIO

import click
from msgspec import Struct

from gateway.cli.options import (
    config_option,
    json_option,
    open_for_people,
    print_json,
    read_config,
    run,
    shown,
    the_device,
    the_profile,
)
from gateway.cli.values import checked_key, from_json, from_pairs
from gateway.config import Config
from gateway.core.model import Attribute, AttributesChange, AttributeScope
from gateway.core.registry import Registry

SCOPES = {
    "client": AttributeScope.CLIENT,
    "shared": AttributeScope.SHARED,
    "server": AttributeScope.SERVER,
}
_NAMES = {scope: name for name, scope in SCOPES.items()}
_MOST_BYTES = 4 * 2**20
_scope_option = click.option(
    "--scope",
    default="shared",
    show_default=True,
    type=click.Choice(["shared", "server"]),
    help="Shared ones are told to the device, server ones are not.",
)
_profile_option = click.option(
    "--profile", "profile_name", metavar="PROFILE", help="All devices of it, instead of NAME."
)
_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


class _ShowByDefault(click.Group):
    """`attributes NAME …` is `attributes show NAME …`, unless NAME is a command of the group."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ShowByDefault)
def attributes() -> None:
    """Show and change attributes of devices.

    Devices write client attributes and are told shared ones; server attributes are for people.
    A change of shared attributes reaches connected devices at once.

    \b
    Examples:
      gatehouse device attributes kitchen-1
      gatehouse device attributes set kitchen-1 interval=30 'place=Kitchen 1'
      gatehouse device attributes set --profile thermostat night=true
      gatehouse device attributes delete kitchen-1 interval

    `attributes NAME` is short for `attributes show NAME`; a device whose name is a command's
    needs the long form.
    """


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@attributes.command()
@click.argument("name_or_uuid")
@click.option("--scope", type=click.Choice(list(SCOPES)), help="Only these.")
@config_option
@json_option
def show(name_or_uuid: str, scope: str | None, config_path: Path | None, as_json: bool) -> None:
    """Show a device's attributes of all scopes.

    With --json values keep their types, so that `jq` sees numbers as numbers.
    """
    found = run(_show(read_config(config_path), name_or_uuid))
    wanted = [one for one in found if scope is None or one.scope is SCOPES[scope]]
    wanted.sort(key=lambda one: (list(_NAMES).index(one.scope), one.key))
    if as_json:
        print_json([_plain(one) for one in wanted])
        return
    if not wanted:
        click.echo(
            f"{shown(name_or_uuid)} has no {f'{scope} ' if scope else ''}attributes", err=True
        )
        return
    from gateway.cli.tables import print_table, value_text, when

    print_table(
        ("scope", "key", "value", "updated"),
        [
            (
                _NAMES[one.scope],
                one.key,
                value_text(one.value),
                when(one.updated_at) if one.updated_at else "",
            )
            for one in wanted
        ],
    )


async def _show(config: Config, name: str) -> list[Attribute]:
    async with open_for_people(config) as registry:
        return await registry.attributes(await the_device(registry, name))


def _plain(attribute: Attribute) -> dict[str, Any]:
    from gateway.cli.device_views import json_value

    return {
        "scope": _NAMES[attribute.scope],
        "key": attribute.key,
        "value": json_value(attribute.value),
        "updated_at": attribute.updated_at,
    }


# ── changing ──────────────────────────────────────────────────────────────────────────────────


class _Order(Struct, frozen=True):
    """One change: of the device `name`, or of all devices of the profile."""

    name: str | None
    profile: str | None
    scope: AttributeScope
    change: AttributesChange


@attributes.command("set")
@click.argument("words", nargs=-1, metavar="NAME KEY=VALUE...")
@_profile_option
@_scope_option
@click.option(
    "--json",
    "source",
    type=click.File("r", encoding="utf-8"),
    metavar="FILE",
    help="Take keys and values from a JSON object; - is standard input.",
)
@_yes_option
@config_option
def set_attributes(
    words: tuple[str, ...],
    profile_name: str | None,
    scope: str,
    source: TextIO | None,
    yes: bool,
    config_path: Path | None,
) -> None:
    """Set attributes of a device, or with --profile of all devices of a profile.

    A value that is JSON is stored as such (30, true, {"a":1}), any other as text. Text that
    looks like JSON wants its quotes: code='"007"'.

    \b
    Examples:
      gatehouse device attributes set kitchen-1 interval=30 'place=Kitchen 1'
      gatehouse device attributes set kitchen-1 --scope server owner=Ada
      gatehouse device attributes set kitchen-1 --json settings.json
      gatehouse device attributes set --profile thermostat night=true --yes
    """
    name, rest = _named(words, profile_name)
    values = from_pairs(rest)
    if source is not None:
        values = from_json(_content(source), getattr(source, "name", "the file")) | values
    if not values:
        raise click.UsageError("give at least one KEY=VALUE, or --json FILE.")
    order = _Order(name, profile_name, SCOPES[scope], AttributesChange(values))
    _print_done(run(_change(read_config(config_path), order, ask=not yes)), order)


@attributes.command()
@click.argument("words", nargs=-1, metavar="NAME KEY...")
@_profile_option
@_scope_option
@_yes_option
@config_option
def delete(
    words: tuple[str, ...],
    profile_name: str | None,
    scope: str,
    yes: bool,
    config_path: Path | None,
) -> None:
    """Delete attributes of a device, or with --profile of all devices of a profile.

    Exit status 1 when the device had none of them.
    """
    name, keys = _named(words, profile_name)
    if not keys:
        raise click.UsageError("give at least one KEY.")
    change = AttributesChange(deleted=tuple(dict.fromkeys(map(checked_key, keys))))
    order = _Order(name, profile_name, SCOPES[scope], change)
    _print_done(run(_change(read_config(config_path), order, ask=not yes)), order)


def _named(words: tuple[str, ...], profile: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The device's name, which comes first unless a profile is given, and the other words."""
    if profile is not None:
        return None, words
    if not words:
        raise click.UsageError("give the NAME of a device first, or --profile PROFILE.")
    return words[0], words[1:]


def _content(source: TextIO) -> str:
    try:
        text = source.read(_MOST_BYTES + 1)
    except UnicodeDecodeError:
        raise click.UsageError("the JSON is not UTF-8 text.") from None
    if len(text) > _MOST_BYTES:
        raise click.UsageError(f"the JSON is larger than {_MOST_BYTES} characters.")
    return text


async def _change(config: Config, order: _Order, *, ask: bool) -> AttributesChange | int:
    """Make the change: what really changed on the device, or on how many devices."""
    async with open_for_people(config) as registry:
        if order.profile is not None:
            return await _change_all(registry, order.profile, order, ask=ask)
        assert order.name is not None
        known = await the_device(registry, order.name)
        changed = await registry.change_attributes(known, order.scope, order.change)
        if changed is None:
            raise click.ClickException(f"device {shown(order.name)} was removed just now.")
        return changed


async def _change_all(registry: Registry, name: str, order: _Order, *, ask: bool) -> int:
    profile = await the_profile(registry, name)
    count = (await registry.devices_per_profile()).get(profile.id, 0)
    if ask and count > 1 and sys.stdin.isatty():
        click.confirm(f"Change {count} devices of profile {shown(name)}?", abort=True)
    return await registry.change_profile_attributes(profile, order.scope, order.change)


def _print_done(done: AttributesChange | int, order: _Order) -> None:
    what = "set" if order.change.values else "deleted"
    scope = _NAMES[order.scope]
    if isinstance(done, int):
        keys = len(order.change.values) or len(order.change.deleted)
        devices = "1 device" if done == 1 else f"{done} devices"
        click.echo(f"{what} {_count(keys, scope)} of {devices}")
        return
    keys = len(done.values) or len(done.deleted)
    missing = [key for key in order.change.deleted if key not in done.deleted]
    if missing:
        listed = ", ".join(shown(key) for key in missing[:5])
        click.echo(f"there is no {scope} attribute {listed}", err=True)
    if not keys and missing:
        raise SystemExit(1)
    click.echo(f"{what} {_count(keys, scope)}")


def _count(number: int, scope: str) -> str:
    return f"1 {scope} attribute" if number == 1 else f"{number} {scope} attributes"
