"""`gatehouse version`."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import version

import click

from gateway import __version__
from gateway.cli.options import json_option, print_json

_SHOWN = ("aiocoap", "aiohttp", "aiosqlite", "amqtt", "msgspec", "structlog", "uvloop")


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Print the version of Gatehouse and of what it runs on."""
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    versions |= {name: version(name) for name in _SHOWN}
    if as_json:
        print_json({"gatehouse": __version__, **versions})
        return
    click.echo(f"gatehouse {__version__}")
    click.echo("on " + ", ".join(f"{name} {number}" for name, number in versions.items()))
