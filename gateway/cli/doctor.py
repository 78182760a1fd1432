"""`gatehouse doctor`: is this installation sound, and if not, what is to be done?"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli.checks import Finding, Level, wrong
from gateway.cli.options import config_option, json_option, print_json, read_config
from gateway.config import Config
from gateway.core.errors import ConfigError

_MARKS = {
    Level.OK: ("✓", "green"),
    Level.WARNING: ("!", "yellow"),
    Level.WRONG: ("✗", "red"),
}


@click.command()
@config_option
@json_option
def command(config_path: Path | None, as_json: bool) -> None:
    """Check this installation and say what to do.

    Looks at versions, the data folder, the master key, the database, the profiles and templates,
    the clock, the server's certificate and the authority that signs devices', the packages, the
    hook, the ports and the limit of open files. It makes nothing that is not there, and may run
    beside a server. Exit status 1 when something is wrong (✗); a warning (!) alone is none.

    \b
    Examples:
      gatehouse doctor
      gatehouse doctor --json | jq '.checks[] | select(.level != "ok")'
    """
    findings = list(examine(config_path))
    healthy = all(one.level is not Level.WRONG for one in findings)
    if as_json:
        checks = [
            {"check": one.check, "level": one.level.value, "found": one.found, "todo": one.todo}
            for one in findings
        ]
        print_json({"ok": healthy, "checks": checks})
    else:
        for one in findings:
            _print(one)
    if not healthy:
        raise SystemExit(1)


def examine(config_path: Path | None) -> Iterator[Finding]:
    """All checks, in the order in which a start would meet what they look at."""
    from gateway.cli import checks, device_checks, tls_checks
    from gateway.cli.store_checks import store_findings

    yield from checks.versions()
    try:
        config = read_config(config_path)
    except ConfigError as exc:
        yield wrong("configuration", str(exc), "Repair it; the other checks depend on it.")
        return
    yield _configuration(config)
    yield from checks.folder(config)
    yield from checks.master_key(config, os.environ)
    yield from asyncio.run(store_findings(config, os.environ))
    yield from checks.profiles(config)
    yield from device_checks.templates(config)
    yield from tls_checks.server_certificate(config)
    yield from tls_checks.file_authority(config, os.environ)
    yield from device_checks.packages(config)
    yield from device_checks.hook(config)
    yield from checks.ports(config)
    yield from checks.open_files(config)


def _configuration(config: Config) -> Finding:
    source = config.source or "none; the defaults and the environment are used"
    return Finding("configuration", Level.OK, f"file: {source}")


def _print(one: Finding) -> None:
    mark, colour = _MARKS[one.level]
    click.echo(f"{click.style(mark, fg=colour)} {one.check:<14} {one.found}")
    if one.todo:
        click.echo(f"  {'':<14} → {one.todo}")
