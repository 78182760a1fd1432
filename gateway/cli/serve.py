"""`gatehouse serve`: listen until told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import click

from gateway.app import Gateway
from gateway.cli.checks import SPARE_FILES, most_connections
from gateway.cli.options import config_option, read_config
from gateway.config import Config
from gateway.core.errors import ConfigError, Invalid, Overloaded, StoreUnavailable
from gateway.core.model import Secret, User
from gateway.first_start import first_administrator
from gateway.heap import settled_heap
from gateway.listeners import PLAIN, Kinds
from gateway.opening import open_store

_PASSWORD_VARIABLE = "GATEHOUSE_ADMIN_PASSWORD"  # noqa: S105 - the name of one


@click.command()
@config_option
@click.option("--quiet", is_flag=True, help="No start screen; only the ready line and the log.")
def command(config_path: Path | None, quiet: bool) -> None:
    """Serve devices over HTTP, MQTT and CoAP, plain and secure, until SIGTERM or Ctrl-C.

    Every setting of the configuration file can be overridden by an environment variable:

    \b
      GATEHOUSE_HTTP_PORT=18080 GATEHOUSE_STORE_URL=sqlite:/srv/gatehouse.db gatehouse serve

    Port 0 picks a free port; the ready line tells which. A stop lets what was taken be answered,
    and ends within 10 seconds with status 0.

    At the first start somebody is made who may log in to the REST API under `/api` and run the
    fleet: the password is printed once, after the ready line. GATEHOUSE_ADMIN_PASSWORD sets it
    instead. It counts at the first start alone: while there are users it changes nothing, and
    `gatehouse user password` sets another.

    HTTPS, MQTTS and CoAPS are served when there is a certificate at the start; `gatehouse cert
    init` makes one for a lab. A changed certificate is taken up by itself, or at once on SIGHUP,
    and nobody is disconnected for it.
    """
    serve(read_config(config_path), quiet=quiet)


def serve(config: Config, *, quiet: bool, kinds: Kinds = PLAIN) -> None:
    """Serve on the configured wires until told to stop. `kinds`: listeners of another kind."""
    from gateway import log

    log.configure(config.log.level, config.log.format)
    _raise_file_limit(most_connections(config) + SPARE_FILES)
    if sys.platform != "win32":
        import uvloop

        uvloop.run(_serve(config, kinds, quiet=quiet))
    else:
        asyncio.run(_serve(config, kinds, quiet=quiet))


def _raise_file_limit(wanted: int) -> None:
    """Allow as many open files as the configured connections need, as far as the system lets us."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _serve(config: Config, kinds: Kinds, *, quiet: bool) -> None:
    # On a disk that fills up Python keeps the half of a compiled module that fits, and never loads
    # that module again.
    sys.dont_write_bytecode = True
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with open_store(config, os.environ) as store:
        gateway = Gateway(config, store, kinds=kinds)
        if sys.platform != "win32":
            loop.add_signal_handler(signal.SIGHUP, gateway.reload_certificates)
        try:
            # A password that is given may be refused. One that is made is not waited for.
            given = os.environ.get(_PASSWORD_VARIABLE, "")
            if given:
                await _first_administrator(gateway, Secret(given))
            await gateway.start()
            with settled_heap():
                await _say_ready(gateway, quiet=quiet)
                if not given and (first := await _first_administrator(gateway, None)) is not None:
                    _tell_first(gateway, *first)
                await stopping.wait()
            with suppress(OSError):  # nobody may be reading any more
                click.echo("gatehouse: stopping, answering what was taken", err=True)
        finally:
            await gateway.stop()


async def _first_administrator(
    gateway: Gateway, given: Secret | None
) -> tuple[User, Secret] | None:
    """Somebody who may log in, at the first start."""
    if not gateway.config.admin.enabled:
        return None
    email = gateway.config.admin.first_administrator
    try:
        return await first_administrator(gateway.store, email, given)
    except (StoreUnavailable, Overloaded) as exc:
        # Devices are served all the same; the next start makes one.
        click.echo(f"gatehouse: no first administrator was made ({exc})", err=True)
        return None
    except Invalid as exc:
        raise ConfigError(
            f"{_PASSWORD_VARIABLE}: {exc} It is the first administrator's password; leave it out, "
            "and one is made and shown once."
        ) from None


def _tell_first(gateway: Gateway, user: User, password: Secret) -> None:
    """On standard output, where no log is; after the ready line, which scripts read first."""
    from gateway.cli.first_admin import first_admin_lines

    url = f"http://127.0.0.1:{gateway.http.port}" if gateway.http is not None else ""
    for line in first_admin_lines(user, password, url):
        click.echo(line)
    sys.stdout.flush()


async def _say_ready(gateway: Gateway, *, quiet: bool) -> None:
    """The start screen for a person, and one line for scripts: `gatehouse ready http=… …`."""
    if not quiet:
        from gateway.cli.start_screen import start_screen

        click.echo(start_screen(gateway, await gateway.registry.profiles()))
    ports = " ".join(f"{name}={one.port}" for name, one in gateway.listeners)
    click.echo(f"gatehouse ready {ports}")
    sys.stdout.flush()
