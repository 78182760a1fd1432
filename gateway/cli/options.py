"""Options and openings that the commands share."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.config import Config, load_config
from gateway.core.model import Peer, Wire
from gateway.core.registry import Registry

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
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def read_config(config_path: Path | None) -> Config:
    """The configuration of this call. Raises `ConfigError`."""
    return load_config(config_path, os.environ)


@asynccontextmanager
async def open_for_people(config: Config) -> AsyncIterator[Registry]:
    """The configured store with its profile files loaded, acting as the user of this shell.

    May be used while a server runs on the same store.
    """
    from gateway.app import load_profiles, open_registry, open_store

    async with open_store(config, os.environ) as store:
        registry = open_registry(store, Peer(Wire.SHELL, getpass.getuser()))
        for error in await load_profiles(config, registry):
            click.echo(f"warning: {error}", err=True)
        yield registry


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; Ctrl-C cancels it and exits with 130."""
    from gateway import log

    log.configure("warning", "auto")
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        raise SystemExit(130) from None


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
