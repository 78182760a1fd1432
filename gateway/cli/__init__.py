"""The command `gatehouse`. Each command lives in its own file and is imported when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from gateway import __version__

_COMMANDS = {
    "serve": "Serve devices over HTTP, MQTT and CoAP.",
    "provision": "Provision one device from this shell, over any wire.",
    "profile": "Show and change device profiles.",
    "device": "Show, add, remove and re-arm devices.",
    "simulate": "Run a fleet of simulated devices against a gateway.",
    "doctor": "Check this installation and say what to do.",
    "bench": "Measure this machine and print ratios.",
    "version": "Print the version.",
}


class _LazyGroup(click.Group):
    """Knows all commands by name and one line; imports a command's file only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"gateway.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `gatehouse serve`; every command explains itself with --help.",
)
@click.version_option(__version__, prog_name="gatehouse")
def cli() -> None:
    """Gatehouse, the front gate of a device fleet.

    Devices arrive over CoAP, MQTT or HTTP with a fleet key and secret, and leave, exactly once,
    with credentials of their own.
    """


def main() -> None:
    """Run the command line. Expected errors end with one sentence and status 1, no traceback."""
    from gateway.core.errors import GatehouseError

    try:
        cli(prog_name="gatehouse")
    except GatehouseError as exc:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {exc}", err=True)
        sys.exit(1)
