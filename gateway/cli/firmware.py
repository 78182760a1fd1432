"""`gatehouse firmware`: packages that are delivered over the air, and who is to run them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from gateway.cli.lazy import Lazy, LazyGroup
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
from gateway.cli.package_views import NAMES, software_option, title_of
from gateway.config import Config
from gateway.core.model import (
    ChecksumAlgorithm,
    Device,
    DeviceProfile,
    Package,
    PackageKind,
)
from gateway.core.names import is_plain
from gateway.core.registry import Registry
from gateway.core.spelling import closest

_MOST_CHARACTERS = 255
_HEAD = 12
"""Characters of a checksum that a table has room for."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S{1,2000}", re.IGNORECASE)

_device_option = click.option("--device", metavar="NAME", help="This device alone.")
_profile_option = click.option(
    "--profile", metavar="NAME", help="All devices of it that have nothing of their own."
)


_ELSEWHERE = {"status": Lazy("gateway.cli.firmware_status", "status", "Count how far devices are.")}


@click.group(cls=LazyGroup, lazy=_ELSEWHERE)
def command() -> None:
    """Keep firmware and software, and say which devices are to run it.

    A device is told by shared attributes (fw_title, fw_version, …) what it is to run, downloads
    it from this gateway, and reports how far it came.

    \b
    Examples:
      gatehouse firmware add build/valve.bin --title valve --version 1.4.0
      gatehouse firmware assign valve 1.4.0 --profile valve
      gatehouse firmware status --profile valve
    """


# ── looking ───────────────────────────────────────────────────────────────────────────────────


@command.command("list")
@config_option
@json_option
def list_packages(config_path: Path | None, as_json: bool) -> None:
    """List all packages, firmware and software."""
    packages = run(_list(read_config(config_path)))
    if as_json:
        print_json([_plain(one) for one in packages])
        return
    if not packages:
        click.echo(
            "no packages yet; add one with `gatehouse firmware add FILE --title T --version V`"
        )
        return
    from gateway.cli.tables import print_table, when

    print_table(
        ("kind", "title", "version", "tag", "bytes", "checksum", "content", "added"),
        [
            (
                NAMES[one.kind],
                one.title,
                one.version,
                one.tag,
                "" if one.url else str(one.size),
                "" if one.url else f"{one.algorithm.value} {_head(one.checksum)}",
                one.url or one.file_name,
                when(one.created_at),
            )
            for one in packages
        ],
    )


def _head(checksum: str) -> str:
    return checksum if len(checksum) <= _HEAD else f"{checksum[:_HEAD]}…"


async def _list(config: Config) -> list[Package]:
    async with open_for_people(config) as registry:
        return await registry.packages.all()


@command.command()
@click.argument("title")
@click.argument("version")
@software_option
@config_option
@json_option
def show(
    title: str, version: str, kind: PackageKind, config_path: Path | None, as_json: bool
) -> None:
    """Show one package, and the profiles whose devices are to run it."""
    package, profiles = run(_show(read_config(config_path), kind, title, version))
    if as_json:
        print_json(_plain(package) | {"profiles": profiles})
        return
    from gateway.cli.tables import print_fields, when

    fields = _plain(package) | {
        "created_at": when(package.created_at),
        "profiles": ", ".join(profiles),
    }
    print_fields(
        [(name.replace("_", " "), str(text)) for name, text in fields.items() if text != ""]
    )


async def _show(
    config: Config, kind: PackageKind, title: str, version: str
) -> tuple[Package, list[str]]:
    async with open_for_people(config) as registry:
        package = await _the_package(registry, kind, title, version)
        found = [
            (one, await registry.packages.assigned(kind, one)) for one in await registry.profiles()
        ]
        return package, [one.name for one, given in found if given and given.id == package.id]


def _plain(package: Package) -> dict[str, Any]:
    plain = {
        "kind": NAMES[package.kind],
        "title": package.title,
        "version": package.version,
        "tag": package.tag,
        "created_at": package.created_at,
    }
    if package.url:
        return plain | {"url": package.url}
    return plain | {
        "size": package.size,
        "checksum_algorithm": package.algorithm.value,
        "checksum": package.checksum,
        "file_name": package.file_name,
    }


async def _the_package(registry: Registry, kind: PackageKind, title: str, version: str) -> Package:
    """The package of that title and version; a `ClickException` with the nearest otherwise."""
    packages = [one for one in await registry.packages.all() if one.kind is kind]
    for one in packages:
        if (one.title, one.version) == (title, version):
            return one
    close = closest(title, {one.title for one in packages})
    near = [one for one in packages if one.title == close]
    # Of the title that was meant, that version, else the newest.
    found = next((one for one in near if one.version == version), near[-1] if near else None)
    hint = "`gatehouse firmware list` shows all."
    if found is not None:
        hint = f"Did you mean {shown(title_of(found))}?"
    raise click.ClickException(f"there is no {NAMES[kind]} {shown(f'{title} {version}')}. {hint}")


# ── adding and removing ───────────────────────────────────────────────────────────────────────


@command.command()
@click.argument(
    "source", required=False, metavar="[FILE]", type=click.Path(path_type=Path, dir_okay=False)
)
@click.option("--title", required=True, help="What it is; devices compare it.")
@click.option("--version", required=True, help="Which one; devices compare it.")
@click.option("--tag", default="", help="For people. Default: title and version.")
@click.option("--url", default="", help="Where devices find it, instead of FILE.")
@click.option(
    "--checksum-algorithm",
    "algorithm",
    default=ChecksumAlgorithm.SHA256.value,
    show_default=True,
    type=click.Choice([one.value for one in ChecksumAlgorithm], case_sensitive=False),
    help="How devices check it.",
)
@software_option
@config_option
@json_option
def add(
    source: Path | None,
    title: str,
    version: str,
    tag: str,
    url: str,
    algorithm: str,
    kind: PackageKind,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Add a package: copy FILE beside the store, or note the URL where devices find it.

    \b
    Examples:
      gatehouse firmware add build/valve.bin --title valve --version 1.4.0
      gatehouse firmware add app.tar --software --title app --version 7 --checksum-algorithm MD5
      gatehouse firmware add --title valve --version 1.5.0 --url https://cdn.example.com/v.bin
    """
    if (source is None) == (not url):
        raise click.UsageError("give a FILE, or --url: exactly one of them.")
    if url and not _URL.fullmatch(url):
        raise click.UsageError("--url must be a whole address, like https://example.com/v.bin.")
    for option, text in (("--title", title), ("--version", version), ("--tag", tag)):
        if (not text.strip() and option != "--tag") or not _fits(text):
            raise click.UsageError(
                f"{option} must have 1 to {_MOST_CHARACTERS} characters, none a control character."
            )
    package = Package(
        kind=kind,
        title=title,
        version=version,
        tag=tag,
        url=url,
        algorithm=ChecksumAlgorithm(algorithm),
    )
    added = run(_add(read_config(config_path), package, source))
    if as_json:
        print_json(_plain(added))
        return
    click.echo(f"added {NAMES[kind]} {shown(title_of(added))}")
    click.echo("`gatehouse firmware assign` says which devices are to run it.", err=True)


def _fits(text: str) -> bool:
    return len(text) <= _MOST_CHARACTERS and is_plain(text)


async def _add(config: Config, package: Package, source: Path | None) -> Package:
    from gateway.cli.package_files import discard, take_in

    async with open_for_people(config, make=True) as registry:
        there = {(one.kind, one.title, one.version) for one in await registry.packages.all()}
        if (package.kind, package.title, package.version) in there:
            raise _exists(package)  # told before a large file is copied
        if source is not None:
            package = await take_in(config, package, source)
        added = await registry.packages.add(package)
        if added is None:
            await discard(config, registry, package)
            raise _exists(package)
        return added


def _exists(package: Package) -> click.ClickException:
    return click.ClickException(
        f"{NAMES[package.kind]} {shown(title_of(package))} exists already. Devices tell packages "
        "by title and version: give it another version."
    )


@command.command()
@click.argument("title")
@click.argument("version")
@software_option
@config_option
def remove(title: str, version: str, kind: PackageKind, config_path: Path | None) -> None:
    """Remove a package that no device and no profile is to run."""
    run(_remove(read_config(config_path), kind, title, version))
    click.echo(f"removed {NAMES[kind]} {shown(f'{title} {version}')}")


async def _remove(config: Config, kind: PackageKind, title: str, version: str) -> None:
    from gateway.cli.package_files import discard

    async with open_for_people(config) as registry:
        package = await _the_package(registry, kind, title, version)
        if not await registry.packages.remove(package):
            raise click.ClickException(
                f"{shown(title_of(package))} is assigned. Take it back with `gatehouse firmware "
                "unassign`, or assign another; `gatehouse firmware show` tells the profiles."
            )
        await discard(config, registry, package)


# ── assigning ─────────────────────────────────────────────────────────────────────────────────


@command.command()
@click.argument("title")
@click.argument("version")
@_device_option
@_profile_option
@software_option
@config_option
def assign(
    title: str,
    version: str,
    device: str | None,
    profile: str | None,
    kind: PackageKind,
    config_path: Path | None,
) -> None:
    """Say that a device, or all devices of a profile, are to run a package.

    Connected devices are told at once, others when they ask. What a device has of its own goes
    before what its profile has.

    \b
    Examples:
      gatehouse firmware assign valve 1.4.0 --device valve-1
      gatehouse firmware assign valve 1.4.0 --profile valve
    """
    target = _target(device, profile)
    run(_assign(read_config(config_path), kind, (title, version), target))
    click.echo(f"{target.words()} to run {NAMES[kind]} {shown(f'{title} {version}')}")


@command.command()
@_device_option
@_profile_option
@software_option
@config_option
def unassign(
    device: str | None, profile: str | None, kind: PackageKind, config_path: Path | None
) -> None:
    """Take back what was assigned to a device or to a profile.

    A device then is to run what its profile has, if anything; one that runs something keeps it.
    """
    target = _target(device, profile)
    package = run(_assign(read_config(config_path), kind, None, target))
    if package is None:
        raise click.ClickException(f"no {NAMES[kind]} is assigned to {target.name()}.")
    click.echo(f"took {shown(title_of(package))} back from {target.name()}")


class _Target(Struct, frozen=True):
    """A device, or else a profile, as the command line names it."""

    device: str | None
    profile: str | None

    def name(self) -> str:
        return f"profile {shown(self.profile)}" if self.profile else shown(self.device or "")

    def words(self) -> str:
        return f"devices of {self.name()} are" if self.profile else f"{self.name()} is"

    async def find(self, registry: Registry) -> Device | DeviceProfile:
        if self.profile is not None:
            return await the_profile(registry, self.profile)
        return (await the_device(registry, self.device or "")).device


def _target(device: str | None, profile: str | None) -> _Target:
    if (device is None) == (profile is None):
        raise click.UsageError("give --device or --profile: exactly one of them.")
    return _Target(device, profile)


async def _assign(
    config: Config, kind: PackageKind, named: tuple[str, str] | None, target: _Target
) -> Package | None:
    """Assign the named package, or with None what there is back; which package it was."""
    async with open_for_people(config) as registry:
        to = await target.find(registry)
        if named is not None:
            package: Package | None = await _the_package(registry, kind, *named)
            await registry.packages.assign(kind, package, to)
            return package
        package = await registry.packages.assigned(kind, to)
        if package is not None:
            await registry.packages.assign(kind, None, to)
        return package
