"""`gatehouse admission`: which devices may come, by name, serial number or MAC."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import click

from gateway.cli.bureau import Bureau, open_bureau
from gateway.cli.options import (
    config_option,
    confirm,
    has_profile_files,
    json_option,
    print_json,
    read_config,
    run,
    shown,
    the_profile,
    yes_option,
)
from gateway.cli.times import MOMENT
from gateway.config import Config
from gateway.core.admission_entries import Entry, EntryKind, entry_of
from gateway.core.errors import GatehouseError
from gateway.core.model import DeviceProfile

_KINDS = tuple(kind.value for kind in EntryKind)
_FILE = click.Path(path_type=Path, dir_okay=False)

_profile = click.argument("profile")
_values = click.argument("values", nargs=-1, required=True, metavar="VALUE…")
_kind = click.option(
    "--kind", type=click.Choice(_KINDS), default="name", show_default=True, help="What they are."
)
_deny = click.option("--deny", is_flag=True, help="The deny-list. Default: the allow-list.")


@click.group()
def command() -> None:
    """Show and change the allow-lists and deny-lists of profiles.

    A device is listed by its name, its serial number or its MAC (it tells the latter two in
    `hardware` of its request). The allow-list counts where the profile has `allow_list = true` in
    its [admission] table, the deny-list always. Further rules of that table are patterns of names,
    networks, hours and bounds. A running server follows changes at once, and the first entry of a
    deny-list within a second. Devices that came in stay in.

    \b
    Examples:
      gatehouse admission allow water-meter WM-00017 WM-00018
      gatehouse admission import water-meter serials.csv
      gatehouse admission deny water-meter --kind mac aa:bb:cc:00:11:22
      gatehouse admission test water-meter --name WM-00017 --address 10.1.2.3
    """


async def _open(bureau: Bureau, name: str) -> DeviceProfile:
    return await the_profile(bureau.desk.registry, name)


def _entries(kind: str, values: Iterable[str]) -> list[Entry]:
    try:
        return list(dict.fromkeys(entry_of(EntryKind(kind), value) for value in values))
    except ValueError as exc:
        raise click.UsageError(f"{exc}.") from None


# ── changing ──────────────────────────────────────────────────────────────────────────────────


@command.command()
@_profile
@_values
@_kind
@config_option
def allow(profile: str, values: tuple[str, ...], kind: str, config_path: Path | None) -> None:
    """Put devices into a profile's allow-list.

    \b
    Examples:
      gatehouse admission allow water-meter WM-00017 WM-00018
      gatehouse admission allow water-meter --kind mac AA-BB-CC-00-11-22
    """
    _put(profile, _entries(kind, values), config_path, denied=False)


@command.command()
@_profile
@_values
@_kind
@config_option
def deny(profile: str, values: tuple[str, ...], kind: str, config_path: Path | None) -> None:
    """Put devices into a profile's deny-list: they are refused whatever else says.

    \b
    Examples:
      gatehouse admission deny water-meter WM-00013
      gatehouse admission deny water-meter --kind serial SN-4711
    """
    _put(profile, _entries(kind, values), config_path, denied=True)


def _put(profile: str, entries: list[Entry], config_path: Path | None, *, denied: bool) -> None:
    added, used = run(_add(read_config(config_path), profile, entries, denied=denied))
    which = "denied" if denied else "allowed"
    there = len(entries) - added
    known = f", {there} had been there" if there else ""
    click.echo(f"{added} more {which} in {shown(profile)}{known}")
    if not (denied or used):
        click.echo(_UNUSED, err=True)


_UNUSED = (
    "note: the profile does not ask for its allow-list yet. Write `allow_list = true` into its "
    "[admission] table."
)


async def _add(
    config: Config, name: str, entries: list[Entry], *, denied: bool
) -> tuple[int, bool]:
    """How many were new, and whether the allow-list counts."""
    async with open_bureau(config, make=has_profile_files(config)) as bureau:
        profile = await _open(bureau, name)
        try:
            added = await bureau.admission.add(bureau.actor, profile, entries, denied=denied)
        except GatehouseError as exc:
            raise click.ClickException(str(exc)) from exc
        return added, profile.policy.admission.allow_list


@command.command()
@_profile
@click.argument("values", nargs=-1, metavar="[VALUE…]")
@_kind
@click.option("--deny", is_flag=True, help="From the deny-list alone.")
@click.option("--allow", is_flag=True, help="From the allow-list alone.")
@click.option("--all", "everything", is_flag=True, help="Every entry.")
@yes_option
@config_option
def remove(
    profile: str,
    values: tuple[str, ...],
    kind: str,
    deny: bool,
    allow: bool,
    everything: bool,
    yes: bool,
    config_path: Path | None,
) -> None:
    """Take devices out of a profile's lists, of both unless one is named.

    \b
    Examples:
      gatehouse admission remove water-meter WM-00017
      gatehouse admission remove water-meter --deny --all
    """
    if everything == bool(values):
        raise click.UsageError("name the devices, or say --all.")
    lists = [denied for denied, chosen in ((False, allow), (True, deny)) if chosen] or [False, True]
    if everything:
        confirm(f"Empty {_named(lists)} of {shown(profile)}?", yes=yes)
    entries = _entries(kind, values)
    removed = run(_remove(read_config(config_path), profile, entries, lists))
    click.echo(f"{removed:,} removed from {_named(lists)} of {shown(profile)}")
    if not removed and not everything:
        raise SystemExit(1)


def _named(lists: list[bool]) -> str:
    return " and ".join("the deny-list" if denied else "the allow-list" for denied in lists)


async def _remove(config: Config, name: str, entries: list[Entry], lists: list[bool]) -> int:
    """Without entries: all of them."""
    from gateway.cli.bar import advancing

    removed = 0
    async with open_bureau(config) as bureau:
        profile = await _open(bureau, name)
        admission, actor = bureau.admission, bureau.actor
        counts = await admission.count(profile)
        total = sum(count for (denied, _), count in counts.items() if denied in lists)
        for denied in lists:
            if entries:
                removed += await admission.remove(actor, profile, entries, denied=denied)
                continue
            with advancing("entries", total) as advance:
                async for gone in admission.clear(actor, profile, denied=denied):
                    removed += gone
                    advance(gone)
    return removed


@command.command("import")
@_profile
@click.argument("file", metavar="FILE")
@_deny
@click.option(
    "--kind",
    type=click.Choice(_KINDS),
    default="name",
    show_default=True,
    help="What the lines of a file without a header are.",
)
@click.option("--skip-bad", is_flag=True, help="Pass over lines that cannot be read.")
@config_option
@json_option
def import_(
    profile: str,
    file: str,
    deny: bool,
    kind: str,
    skip_bad: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Put all devices of a file into a list: one a line, or a table (CSV); `-` is standard input.

    A table has a header with one or more of name, serial and mac; other columns are passed over.
    Lines that cannot be read are named with their numbers, and then nothing is imported, unless
    they may be skipped. What is in the list already is passed over, so that the same command may be
    given again, also after Ctrl-C: what was imported by then stays.

    \b
    Examples:
      gatehouse admission import water-meter serials.csv
      gatehouse admission import water-meter macs.txt --kind mac
      gatehouse admission import water-meter stolen.txt --deny --kind serial
    """
    from gateway.cli.admission_import import Wish, import_file

    wish = Wish(
        profile=profile,
        file=file,
        denied=deny,
        kind=EntryKind(kind),
        skip_bad=skip_bad,
        quiet=as_json,
    )
    import_file(read_config(config_path), wish)


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@command.command("list")
@_profile
@_deny
@click.option("--search", default="", metavar="TEXT", help="Only values that contain it.")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@config_option
@json_option
def list_entries(
    profile: str, deny: bool, search: str, limit: int, config_path: Path | None, as_json: bool
) -> None:
    """List a profile's allow-list, or its deny-list, by kind and value."""
    found, total = run(_list(read_config(config_path), profile, search, limit, denied=deny))
    if as_json:
        print_json({"total": total, "entries": found})
        return
    if not found:
        click.echo("there is none; `gatehouse admission --help` shows how to add some", err=True)
        return
    from gateway.cli.tables import print_table, when

    rows = [(one["kind"], one["value"], when(one["added_at"])) for one in found]
    print_table(("kind", "value", "added"), rows)
    if total > len(found):
        click.echo(f"{total - len(found):,} more; use --search or --limit", err=True)


async def _list(
    config: Config, name: str, text: str, limit: int, *, denied: bool
) -> tuple[list[dict[str, Any]], int]:
    async with open_bureau(config, make=has_profile_files(config)) as bureau:
        profile = await _open(bureau, name)
        page = await bureau.admission.page(profile, denied=denied, text=text, page_size=limit)
        found = [
            {"kind": one.entry.kind.value, "value": one.entry.value, "added_at": one.added_at}
            for one in page.data
        ]
        return found, page.total


@command.command()
@_profile
@click.argument("file", required=False, type=_FILE)
@_deny
@config_option
def export(profile: str, file: Path | None, deny: bool, config_path: Path | None) -> None:
    """Write a list to a new file (CSV), or to standard output, as import reads it."""
    config = read_config(config_path)
    if file is None:
        count = run(_export(config, profile, sys.stdout, denied=deny))
    else:
        try:
            with file.open("x", encoding="utf-8", newline="") as target:
                count = run(_export(config, profile, target, denied=deny))
        except OSError as exc:
            raise click.ClickException(
                f"{file}: cannot be written ({exc.strerror}). Name a new file where you may write."
            ) from None
    entries = "entry" if count == 1 else "entries"
    click.echo(f"exported {count:,} {entries}", err=True)


async def _export(config: Config, name: str, target: TextIO, *, denied: bool) -> int:
    count = 0
    async with open_bureau(config) as bureau:
        profile = await _open(bureau, name)
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(_KINDS)
        async for one in bureau.admission.every(profile, denied=denied):
            writer.writerow(one.entry.value if kind == one.entry.kind else "" for kind in _KINDS)
            count += 1
    return count


@command.command()
@_profile
@click.option("--name", help="The name the device would ask for.")
@click.option("--serial", help="Its serial number.")
@click.option("--mac", help="Its MAC.")
@click.option("--address", metavar="IP", help="Where it comes from. Default: nowhere is asked.")
@click.option("--at", type=MOMENT, help="When it comes. Default: now.")
@config_option
@json_option
def test(
    profile: str,
    name: str | None,
    serial: str | None,
    mac: str | None,
    address: str | None,
    at: int | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Tell whether a device might come, and by which rule not. Changes nothing.

    The exit status is 1 when it would be refused.

    \b
    Examples:
      gatehouse admission test water-meter --name WM-00017 --serial SN-4711 --address 10.1.2.3
      gatehouse admission test water-meter --name WM-00017 --at 2026-12-24T23:00:00+01:00
    """
    from gateway.cli.admission_trial import Newcomer, judged, print_findings

    newcomer = Newcomer(name=name, serial=serial, mac=mac, address=address, at=at)
    findings = run(judged(read_config(config_path), profile, newcomer))
    print_findings(findings, as_json=as_json)
    if any(one.refused for one in findings):
        raise SystemExit(1)
