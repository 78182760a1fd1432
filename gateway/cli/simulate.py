"""`gatehouse simulate`: a fleet of devices against a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli import simulate_report as report
from gateway.cli.bar import advancing
from gateway.cli.options import config_option, json_option, open_for_people, print_json, read_config
from gateway.cli.options import run as run_command
from gateway.config import Config
from gateway.core.errors import ConfigError
from gateway.core.model import FleetTicket, Secret, Wire
from gateway.core.spelling import closest
from gateway.core.tokens import new_token
from gateway.simulator.fleet import Plan, Run
from gateway.simulator.losses import Losses

MOST_DEVICES = 100_000
_READINGS = 5
"""Readings of each device when neither `--readings` nor `--seconds` is given."""
_DRAW_S = 0.1
_PAGE = 1000


def _wires(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[Wire, ...]:
    known = {wire.value: wire for wire in (Wire.HTTP, Wire.MQTT, Wire.COAP)}
    names = [name.strip().lower() for name in value.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        wrong = f"there is no wire {unknown[0]!r}; " if unknown else ""
        raise click.BadParameter(f"{wrong}choose among {', '.join(known)}")
    return tuple(dict.fromkeys(known[name] for name in names))


_PORT = click.IntRange(1, 65_535)
_PERCENT = click.FloatRange(0, 90)


@click.command()
@config_option
@click.option(
    "--devices", "-n", default=100, show_default=True, type=click.IntRange(1, MOST_DEVICES)
)
@click.option(
    "--wires",
    callback=_wires,
    default="http,mqtt,coap",
    show_default=True,
    help="Wires the devices speak, taken in turn.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the gateway is.")
@click.option("--http-port", type=_PORT, help="Default: [http] port of the configuration.")
@click.option("--mqtt-port", type=_PORT, help="Default: [mqtt] port of the configuration.")
@click.option("--coap-port", type=_PORT, help="Default: [coap] port of the configuration.")
@click.option(
    "--profile", help="Profile whose key and secret are in the store here. Default: demo."
)
@click.option("--key-env", metavar="NAME", help="Environment variable that holds the key.")
@click.option("--secret-env", metavar="NAME", help="Environment variable that holds the secret.")
@click.option(
    "--rate",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.001, 1000),
    help="Readings per second of each device.",
)
@click.option("--readings", type=click.IntRange(0, 1_000_000), help="Readings of each device. [5]")
@click.option(
    "--seconds", type=click.FloatRange(0, 86_400), help="Or: how long each device sends readings."
)
@click.option(
    "--concurrency",
    default=64,
    show_default=True,
    type=click.IntRange(1, 4096),
    help="Provisionings under way at once, and readings as well.",
)
@click.option("--prefix", help="Devices are named PREFIX-1, PREFIX-2 … Default: sim- and a token.")
@click.option(
    "--timeout",
    "timeout_s",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.1, 300),
    help="Seconds a device waits for one answer; on a bad network 2 at first, then longer.",
)
@click.option("--loss", default=0.0, type=_PERCENT, help="Percent of requests, and answers, lost.")
@click.option("--duplicate", default=0.0, type=_PERCENT, help="Percent of requests sent twice.")
@click.option("--reorder", is_flag=True, help="Every tenth request is overtaken by the next try.")
@click.option("--verify", is_flag=True, help="Count the devices in the store of this computer.")
@json_option
def command(
    config_path: Path | None,
    host: str,
    http_port: int | None,
    mqtt_port: int | None,
    coap_port: int | None,
    profile: str | None,
    key_env: str | None,
    secret_env: str | None,
    prefix: str | None,
    timeout_s: float,
    loss: float,
    duplicate: float,
    reorder: bool,
    verify: bool,
    as_json: bool,
    **numbers: Any,
) -> None:
    """Run a fleet of simulated devices against a gateway.

    Each device is provisioned, logs in with the credentials it was given, and sends readings.
    Ctrl-C stops the fleet and prints what came of it. The exit status is 0 only if every device
    was provisioned.

    With --loss, --duplicate or --reorder the network is a bad one. Each device makes a nonce, and
    asks with it again and again, after a pause that grows, until it has credentials; a login that
    nobody answered is tried again, too. In the end each must have been given the same all the time,
    and be logged in by it; with --verify the store must hold each of them once. Profiles without a
    `retry_window` refuse the second request.

    \b
      gatehouse simulate                                  100 devices, all wires, profile demo
      gatehouse simulate -n 1000 --readings 0             provisioning alone
      gatehouse simulate --wires coap --rate 10 --seconds 60
      gatehouse simulate -n 1000 --loss 5 --duplicate 5 --reorder --verify
      gatehouse simulate --host gw.example --key-env FLEET_KEY --secret-env FLEET_SECRET
    """
    config = read_config(config_path)
    if profile and (key_env or secret_env):
        raise click.UsageError("Give --profile, or --key-env and --secret-env, but not both.")
    if numbers["readings"] is None and numbers["seconds"] is None:
        numbers["readings"] = _READINGS
    ports = _ports(config, {"http": http_port, "mqtt": mqtt_port, "coap": coap_port}, numbers)
    key, secret = _pair(config, profile, key_env, secret_env)
    plan = Plan(
        key=key,
        secret=secret,
        prefix=prefix or f"sim-{new_token(6)}",
        losses=Losses(loss=loss, duplicate=duplicate, reorder=reorder),
        **numbers,
    )
    done = run_command(_simulate(plan, host, ports, timeout_s, draw=not as_json))
    stored = run_command(_stored(config, plan, draw=not as_json)) if verify else None
    if as_json:
        print_json(report.as_json(done, stored))
    else:
        report.print_report(done, stored)
    sys.exit(0 if done.complete and (stored is None or stored.complete) else 1)


def _ports(
    config: Config, given: Mapping[str, int | None], numbers: Mapping[str, Any]
) -> dict[Wire, int]:
    configured = {
        "http": config.http.port,
        "mqtt": config.mqtt.port,
        "coap": config.coap.port,
    }
    ports = {wire: given[wire.value] or configured[wire.value] for wire in numbers["wires"]}
    for wire, port in ports.items():
        if not port:
            raise ConfigError(
                f"the configuration leaves the {wire.value} port to the system; say which one the "
                f"gateway's ready line showed with --{wire.value}-port."
            )
    return ports


def _pair(
    config: Config, profile: str | None, key_env: str | None, secret_env: str | None
) -> tuple[Secret, Secret]:
    if key_env or secret_env:
        if not (key_env and secret_env):
            raise click.UsageError("--key-env and --secret-env belong together.")
        return _from_environ(key_env), _from_environ(secret_env)
    ticket = run_command(_ticket(config, profile or "demo"))
    return ticket.key, ticket.secret


def _from_environ(name: str) -> Secret:
    value = os.environ.get(name)
    if not value:
        raise click.UsageError(f"The environment variable {name} is not set, or empty.")
    return Secret(value)


async def _ticket(config: Config, name: str) -> FleetTicket:
    async with open_for_people(config) as registry:
        profile = await registry.profile(name)
        if profile is None:
            known = [one.name for one in await registry.profiles()]
            raise ConfigError(
                f"there is no profile {name!r} in this store. {_nearest(name, known)}"
            )
        ticket = await registry.ticket(profile)
        if ticket is None:
            raise ConfigError(
                f"the profile {name!r} has no provisioning key, so no device can show one. "
                "Choose another profile with --profile."
            )
        return ticket


def _nearest(name: str, known: list[str]) -> str:
    close = closest(name, known)
    if close:
        return f"Did you mean {close!r}?"
    if known:
        return f"There are: {', '.join(known[:10])}. Choose one with --profile."
    return (
        "There are no profiles yet: write one to the profile folder, or give the pair of another "
        "gateway with --key-env and --secret-env."
    )


async def _simulate(
    plan: Plan, host: str, ports: Mapping[Wire, int], timeout_s: float, *, draw: bool
) -> Run:
    from gateway.simulator import Fleet
    from gateway.simulator.processes import raise_file_limit

    raise_file_limit()
    stop = asyncio.Event()
    async with Fleet(host, ports, timeout_s) as fleet:
        run = Run(plan, fleet)
        with _stopped_by_interrupt(stop):
            if not draw:
                await run.run(stop)
                return run
            drawing = asyncio.create_task(_draw(run))
            try:
                await run.run(stop)
            finally:
                drawing.cancel()
                await asyncio.wait((drawing,))
    return run


@contextlib.contextmanager
def _stopped_by_interrupt(stop: asyncio.Event) -> Iterator[None]:
    """The first Ctrl-C asks the fleet to stop; a second one interrupts as usual."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
    except NotImplementedError:  # Windows: Ctrl-C then ends the run without a summary
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _draw(run: Run) -> None:
    """A progress bar on standard error, for as long as it is not cancelled."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("devices", total=run.plan.devices)
        try:
            while True:
                text = f"{run.provisioned} provisioned, {run.readings} readings"
                progress.update(bar, completed=run.finished, description=text)
                await asyncio.sleep(_DRAW_S)
        finally:
            progress.update(bar, completed=run.finished)


async def _stored(config: Config, plan: Plan, *, draw: bool) -> report.Stored:
    """The devices of the fleet that the store here knows, each found by its prefix."""
    missing = {f"{plan.prefix}-{number}" for number in range(1, plan.devices + 1)}
    found = last = 0
    async with open_for_people(config) as registry:
        with advancing("looking into the store", plan.devices, wanted=draw) as advance:
            while page := await registry.devices(
                after_id=last, limit=_PAGE, text=f"{plan.prefix}-"
            ):
                names = {one.device.name for one in page} & missing
                found += sum(one.device.name.startswith(f"{plan.prefix}-") for one in page)
                missing -= names
                last = page[-1].device.id
                advance(len(names))
    return report.Stored(devices=found, missing=len(missing), expected=plan.devices)
