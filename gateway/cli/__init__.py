"""The command `gatehouse`. Each command lives in its own file and is imported when it is called."""

from __future__ import annotations

import sys
from keyword import iskeyword

import click

from gateway import __version__
from gateway.cli.guessing import GuessingGroup
from gateway.cli.lazy import Lazy

_COMMANDS = {
    "serve": "Serve devices over HTTP, MQTT and CoAP, plain and secure.",
    "provision": "Provision one device from this shell, over any wire.",
    "profile": "Show and change device profiles.",
    "device": "Show, change and call devices.",
    "group": "Show and change groups of devices.",
    "org": "Show and change organisations.",
    "user": "Show and change who may log in.",
    "role": "Show and change what users may do.",
    "oauth-client": "Show and change programs that work for organisations.",
    "secret": "Show and change the pairs of key and secret that admit fleets.",
    "ticket": "Issue, show and revoke tokens that admit one device each.",
    "static-token": "Make, show and revoke tokens that devices are made with and claimed by.",
    "admission": "Show and change which devices may come, by name, serial or MAC.",
    "pending": "Show devices that wait for an operator's word.",
    "approve": "Let devices in that wait for an operator's word.",
    "deny": "Turn devices away that wait for an operator's word.",
    "credential": "Show, revoke and rotate what devices log in with.",
    "cert": "Make and show the certificate this server shows to its clients.",
    "ca": "Show, export and rotate the authority that signs devices' certificates.",
    "hook": "Show what profiles' hooks were not told, and tell it again.",
    "label": "Print labels with claim codes.",
    "migrate": "Copy a fleet from a running ThingsBoard.",
    "firmware": "Keep firmware and software, and say which devices are to run it.",
    "import": "Create and update devices from a table (CSV).",
    "export": "Write devices to a table that import reads.",
    "audit": "Show what happened here, and prove that the record is whole.",
    "explain": "Tell in plain words what happened to a device.",
    "refusals": "Print why devices are refused, and what each wire is told.",
    "simulate": "Run a fleet of simulated devices against a gateway.",
    "chaos": "Serve as `serve` does, but lose, delay and double answers: for development.",
    "doctor": "Check this installation and say what to do.",
    "bench": "Measure this machine and print ratios.",
    "version": "Print the version.",
}


def _module(name: str) -> str:
    """Where a command is; a word of Python's own has an underscore behind it."""
    return f"gateway.cli.{name.replace('-', '_')}{'_' if iskeyword(name) else ''}"


@click.group(
    cls=GuessingGroup,
    lazy={name: Lazy(_module(name), "command", line) for name, line in _COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `gatehouse serve`; `gatehouse cert init` switches TLS and DTLS on; every "
    "command explains itself with --help.",
)
@click.version_option(__version__, prog_name="gatehouse")
def cli() -> None:
    """Gatehouse, the front gate of a device fleet.

    Devices arrive over CoAP, MQTT or HTTP with a fleet key and secret or a factory certificate,
    and leave, exactly once, with credentials of their own.
    """


def main() -> None:
    """Run the command line. Expected errors end with one sentence and status 1, no traceback."""
    from gateway.core.errors import GatehouseError

    try:
        cli(prog_name="gatehouse")
    except (GatehouseError, PermissionError) as exc:
        told = _not_ours(exc) if isinstance(exc, PermissionError) else str(exc)
        click.echo(f"{click.style('error:', fg='red', bold=True)} {told}", err=True)
        sys.exit(1)


def _not_ours(exc: PermissionError) -> str:
    """A file that was not even to be looked at: the data folder is its owner's alone."""
    return (
        f"{exc.filename or 'a file'}: permission denied. Run this as the user the gateway runs as, "
        "for example with `sudo -u USER`."
    )
