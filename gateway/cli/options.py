"""Options and openings that the commands share."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from gateway.config import Config, load_config
from gateway.core.errors import Overloaded, StoreUnavailable
from gateway.core.model import Device, DeviceProfile, FleetTicket, Peer, Secret, Wire
from gateway.core.ports import KnownCredentials
from gateway.core.registry import Registry
from gateway.core.spelling import closest
from gateway.profiles import MAX_SECRET_CHARACTERS, MIN_SECRET_CHARACTERS
from gateway.toml_lines import plain

if TYPE_CHECKING:
    from gateway.core.custody import Custody
    from gateway.store.sql_store import SqlStore

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "-c",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="GATEHOUSE_CONFIG",
    help="Configuration file. Default: config.toml in this folder if there is one.",
)
reveal_option = click.option("--reveal", is_flag=True, help="Show secrets in clear.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def read_config(config_path: Path | None) -> Config:
    """The configuration of this call. Raises `ConfigError`."""
    return load_config(config_path, os.environ)


class Desk(NamedTuple):
    """What a command works with: the store, and who changes it as the user of this shell."""

    store: SqlStore
    registry: Registry
    custody: Custody


@asynccontextmanager
async def open_desk(config: Config, *, make: bool = False) -> AsyncIterator[Desk]:
    """The configured store with its profile files loaded.

    May be used while a server runs on the same store. `make`: a store that is not there yet is
    made; without it that is a `ClickException`, for nothing could be found in a new one.
    """
    from gateway.clock import now_ms
    from gateway.core.custody import Custody
    from gateway.opening import load_profiles, open_registry, open_store
    from gateway.store.sql_registrar import SqlRegistrar

    _look_for_store(config, make=make)
    peer = shell_peer()
    async with open_store(config, os.environ) as store:
        registry = open_registry(store, peer)
        for error in await load_profiles(config, registry):
            click.echo(f"warning: {error}", err=True)
        yield Desk(store, registry, Custody(store, SqlRegistrar(store), clock=now_ms, peer=peer))


@asynccontextmanager
async def open_for_people(config: Config, *, make: bool = False) -> AsyncIterator[Registry]:
    """As `open_desk`, for commands that want profiles and devices alone."""
    async with open_desk(config, make=make) as desk:
        yield desk.registry


def shell_peer() -> Peer:
    """The author of what is changed from here, as events name it."""
    name = getpass.getuser()
    return Peer(Wire.SHELL, name, actor=name)


def _look_for_store(config: Config, *, make: bool) -> None:
    path = config.store_path
    if path is None or path.exists():
        return
    if make:
        click.echo(f"note: {path} is not there yet; it is made now", err=True)
        return
    raise click.ClickException(
        f"there is no store at {path} yet, so there is nothing to find in it. `gatehouse serve` "
        "makes one; for a store elsewhere use --config, or set GATEHOUSE_STORE_URL."
    )


def has_profile_files(config: Config) -> bool:
    """Whether this is an installation, used or not: profiles in files may be asked for before
    anything was started, and their keys are made then."""
    return any(config.profiles_dir.glob("*.toml"))


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that hurts if it was not meant. Where nobody answers, --yes must do."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(
            "this wants a yes, and nobody is there to be asked: repeat with --yes."
        )
    with _interruptible():
        click.confirm(question, abort=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the question: asyncio would cancel the coroutine that waits for the answer."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; Ctrl-C cancels it and exits with 130.

    A store that did not take something becomes a sentence that says what to do.
    """
    from gateway import log

    log.configure("warning", "auto")
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        raise SystemExit(130) from None
    except (StoreUnavailable, Overloaded) as exc:
        raise click.ClickException(
            f"the store did not do it ({exc}). Look with `gatehouse doctor`, then try again."
        ) from exc


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


# ── what a command line names ─────────────────────────────────────────────────────────────────

_MOST_GUESSES = 2000
"""Device names that are read to find the one that was meant."""
_MOST_DIGITS = 18
"""Of a number that a store can look for."""


async def the_profile(registry: Registry, name: str) -> DeviceProfile:
    """The profile of that name; a `ClickException` with the nearest name when there is none."""
    profiles = await registry.profiles()
    for profile in profiles:
        if profile.name == name:
            return profile
    see = "`gatehouse profile list` shows what there is."
    raise click.ClickException(
        f"there is no profile {shown(name)}. {meant(name, [one.name for one in profiles]) or see}"
    )


async def the_ticket(registry: Registry, name: str) -> FleetTicket:
    """The profile of that name with its key and secret; a `ClickException` without them."""
    profile = await the_profile(registry, name)
    ticket = await registry.ticket(profile)
    if ticket is None:
        raise click.ClickException(
            f"profile {shown(name)} is of type {profile.provision_type} and has no key and "
            "secret. Choose a profile that has them; `gatehouse profile list` shows the types."
        )
    return ticket


async def the_device(registry: Registry, name: str) -> KnownCredentials:
    """The device of that name or UUID; a `ClickException` with the nearest name without one."""
    known = await registry.device(name)
    if known is not None:
        return known
    if numbered := await _device_numbered(registry, name):
        raise click.ClickException(
            f"there is no device {shown(name)}. The one with this number is {shown(numbered.name)}."
        )
    near = await registry.devices(limit=_MOST_GUESSES, text=name[:3])
    names = [one.device.name for one in near or await registry.devices(limit=_MOST_GUESSES)]
    see = "`gatehouse device list --search TEXT` finds devices by a part of their name."
    raise click.ClickException(f"there is no device {shown(name)}. {meant(name, names) or see}")


async def _device_numbered(registry: Registry, text: str) -> Device | None:
    """The device whose number, Blynk's `deviceId`, somebody may have meant."""
    if not (text.isdecimal() and text.isascii() and len(text) <= _MOST_DIGITS):
        return None
    return await registry.device_numbered(int(text))


def meant(word: str, names: Iterable[str]) -> str:
    """The question after a wrong name, or nothing when none is near."""
    close = closest(word, names)
    return f"Did you mean {shown(close)}?" if close else ""


def shown(name: str) -> str:
    """A name inside a sentence: on one line, without control characters."""
    return f"`{plain(name, 80)}`"


def secret_from(variable: str) -> Secret:
    """The secret in an environment variable; a usage error, which never shows it, without one."""
    text = os.environ.get(variable)
    if text is None:
        name = plain(variable)
        raise click.UsageError(
            f"the environment variable {name} is not set. "
            f"Set it without leaving a trace: `read -rs {name} && export {name}`."
        )
    return Secret(text)


def fleet_secret_from(variable: str) -> Secret:
    """As `secret_from`, within the limits of a profile's key and secret."""
    secret = secret_from(variable)
    text = secret.reveal()
    fits = MIN_SECRET_CHARACTERS <= len(text) <= MAX_SECRET_CHARACTERS
    if not (fits and text.isprintable() and text == text.strip()):
        raise click.UsageError(
            f"{plain(variable)} must hold {MIN_SECRET_CHARACTERS} to {MAX_SECRET_CHARACTERS} "
            "characters, without line breaks or outer spaces."
        )
    return secret
