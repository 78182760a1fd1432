"""`gatehouse bench`: this machine's figures, beside those of handlers that do nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from gateway import __version__
from gateway.cli.options import json_option, print_json
from gateway.simulator.load import put_load
from gateway.simulator.processes import (
    FleetPair,
    Server,
    gateway_process,
    on_core,
    raise_file_limit,
    server_process,
    two_cores,
)
from gateway.simulator.tally import Measured

SYNCS = 100
"""Small durable writes whose median is told: each commit costs one."""
BUSY = 0.9
"""From this share of a core on, the load was the limit and not the server."""


class Bare(Struct, frozen=True):
    """A handler of `gateway.simulator.bare`, and what it is."""

    name: str
    title: str
    what: str


class Row(Struct, frozen=True):
    """One measurement: a load, and the bare handlers it is put on as well."""

    name: str
    title: str
    port: str
    bare: tuple[Bare, ...]


_AIOHTTP = Bare("http", "bare aiohttp", "web.Server; reads the body, constant answer")
_STREAM = Bare("mqtt", "bare protocol", "asyncio.Protocol; finds packet types, constant packets")
_AMQTT = Bare("amqtt", "bare amqtt", "amqtt's packet classes over asyncio streams, constant answer")
_DATAGRAM = Bare("coap", "bare datagram", "asyncio.DatagramProtocol; echoes the token, constant")
_AIOCOAP = Bare("aiocoap", "bare aiocoap", "aiocoap's server; one resource, constant answer")
ROWS = (
    Row("http", "HTTP", "http", (_AIOHTTP,)),
    Row("mqtt", "MQTT, open", "mqtt", (_STREAM, _AMQTT)),
    Row("mqtt-cycle", "MQTT, cycle", "mqtt", (_STREAM, _AMQTT)),
    Row("coap", "CoAP", "coap", (_DATAGRAM, _AIOCOAP)),
)
"""Each row is named as its load in `gateway.simulator.load`: MQTT sessions that stay open, or a
whole cycle of connecting, subscribing, asking and leaving for each device."""


class Figures(Struct, frozen=True):
    """What one row came to. `bare` has one entry for each of the row's bare handlers."""

    row: Row
    gateway: Measured
    bare: tuple[Measured, ...]


def _only(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[Row, ...]:
    if value is None:
        return ROWS
    known = {row.name: row for row in ROWS}
    names = [name.strip() for name in value.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        wrong = f"there is no row {unknown[0]!r}; " if unknown else ""
        raise click.BadParameter(f"{wrong}choose among {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


@click.command()
@click.option(
    "--seconds",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0.2, 60),
    help="How long each load lasts.",
)
@click.option(
    "--only", "rows", callback=_only, help=f"Of {', '.join(row.name for row in ROWS)}; with commas."
)
@click.option(
    "--at-once",
    default=64,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="Requests under way at once.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True, writable=True),
    help="Where the throw-away store is made; its disk decides. Default: the temporary folder.",
)
@json_option
def command(
    seconds: float, rows: tuple[Row, ...], at_once: int, folder: Path | None, as_json: bool
) -> None:
    """Measure this machine and print ratios.

    A gateway with a throw-away store is started and asked for new devices, each durably stored
    before it is answered. Then, in the same run, the same load is put on bare handlers that decide
    nothing and store nothing: one on the wire's library (aiohttp, amqtt, aiocoap), and for MQTT and
    CoAP also the barest protocol on the same event loop. The ratio is the gateway's rate divided by
    the bare handler's, and holds where absolute figures of a machine do not.

    \b
      gatehouse bench                        all rows, some 40 seconds
      gatehouse bench --only coap --seconds 10
      gatehouse bench --folder /srv/data     on the disk that will hold the store
    """
    raise_file_limit()
    place = folder or Path(tempfile.gettempdir())
    machine = _machine(place)
    if not as_json:
        _print_machine(machine)
    done: list[Figures] = []
    interrupted = False
    try:
        for figures in _measure(rows, place, at_once, seconds):
            done.append(figures)
            if not as_json:
                click.echo(f"measured: {figures.row.title}", err=True)
    except KeyboardInterrupt:
        interrupted = True
    if as_json:
        print_json({"machine": machine, "rows": [_as_json(one) for one in done]})
    else:
        _print(done)
    sys.exit(130 if interrupted else 0)


def _measure(rows: tuple[Row, ...], place: Path, at_once: int, seconds: float) -> Iterator[Figures]:
    server_core, load_core = two_cores() or (None, None)
    pair = FleetPair.random()

    def load(server: Server, row: Row, port: str) -> Measured:
        with on_core(load_core):
            work = put_load(row.name, server.ports[port], pair, at_once=at_once, seconds=seconds)
            return _run(work)

    for row in rows:
        with (
            tempfile.TemporaryDirectory(prefix="gatehouse-bench-", dir=place) as store,
            gateway_process(Path(store), pair, core=server_core) as server,
        ):
            ours = load(server, row, row.port)
        others = []
        for bare in row.bare:
            arguments = ("-m", "gateway.simulator.bare", bare.name)
            with (
                tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch,
                server_process(arguments, Path(scratch), {}, core=server_core) as server,
            ):
                others.append(load(server, row, bare.name))
        yield Figures(row, ours, tuple(others))


def _run(work: Coroutine[Any, Any, Measured]) -> Measured:
    runner: Callable[[Coroutine[Any, Any, Measured]], Measured]
    if sys.platform != "win32":
        from uvloop import run as runner
    else:
        from asyncio import run as runner
    return runner(work)


# ── the machine ───────────────────────────────────────────────────────────────────────────────


def _machine(place: Path) -> dict[str, Any]:
    return {
        "gatehouse": __version__,
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "pinned": two_cores() is not None,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "store_file_system": _file_system(place),
        "sync_ms": round(_sync_ms(place), 3),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux; the library's guess below is all there is
    return platform.processor() or platform.machine()


def _file_system(place: Path) -> str:
    """The type of file system `place` is on, by the longest mount point; Linux only."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return "unknown"
    whole = place.resolve()
    holding = [words for words in mounts if whole.is_relative_to(words[1])]
    return max(holding, key=lambda words: len(words[1]))[2] if holding else "unknown"


def _sync_ms(place: Path) -> float:
    """Median milliseconds of a 4 KiB write that is on disk when it returns."""
    times = []
    with tempfile.TemporaryFile(dir=place) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


# ── telling ───────────────────────────────────────────────────────────────────────────────────


def _as_json(figures: Figures) -> dict[str, Any]:
    return {
        "name": figures.row.name,
        "gateway": _measured_as_json(figures.gateway),
        "bare": [
            {
                "handler": bare.title.removeprefix("bare "),
                "is": bare.what,
                **_measured_as_json(measured),
                "ratio": _ratio(figures.gateway, measured),
            }
            for bare, measured in zip(figures.row.bare, figures.bare, strict=True)
        ],
    }


def _measured_as_json(measured: Measured) -> dict[str, Any]:
    return {
        "rate": round(measured.rate, 1),
        "p50_ms": round(measured.p50_ms, 3),
        "p99_ms": round(measured.p99_ms, 3),
        "answered": measured.answered,
        "failed": measured.failed,
        "load_busy": round(measured.busy, 2),
    }


def _ratio(ours: Measured, bare: Measured) -> float | None:
    return round(ours.rate / bare.rate, 3) if bare.rate else None


def _print_machine(machine: dict[str, Any]) -> None:
    pinned = "server and load on a core each" if machine["pinned"] else "nothing pinned"
    click.echo(f"{machine['cpu']}, {machine['cores'] or '?'} cores ({pinned}), {machine['system']}")
    click.echo(
        f"{machine['python']}, SQLite {machine['sqlite']}, gatehouse {machine['gatehouse']}; store "
        f"on {machine['store_file_system']}, a durable 4 KiB write takes {machine['sync_ms']} ms"
    )
    if machine["store_file_system"] in ("tmpfs", "ramfs"):
        click.echo("warning: that folder is in memory, where durability is free; use --folder")


def _print(done: list[Figures]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="New devices, durably stored, against handlers that store nothing")
    table.add_column("load")
    table.add_column("server")
    for name in ("per second", "p50 ms", "p99 ms", "failed", "ratio"):
        table.add_column(name, justify="right")
    for figures in done:
        table.add_row(figures.row.title, "gatehouse", *_cells(figures.gateway), "")
        for bare, measured in zip(figures.row.bare, figures.bare, strict=True):
            ratio = _ratio(figures.gateway, measured)
            table.add_row(
                "", bare.title, *_cells(measured), "–" if ratio is None else f"{ratio:.2f}"
            )
        table.add_section()
    console = Console()
    console.print(table)
    for bare in dict.fromkeys(bare for figures in done for bare in figures.row.bare):
        console.print(f"{bare.title}: {bare.what}", markup=False)
    if any(one.busy > BUSY for figures in done for one in (figures.gateway, *figures.bare)):
        console.print("* the load, which is Python too, was the limit: the server can do more.")


def _cells(measured: Measured) -> tuple[str, str, str, str]:
    mark = "*" if measured.busy > BUSY else ""
    return (
        f"{measured.rate:,.0f}{mark}",
        f"{measured.p50_ms:.2f}",
        f"{measured.p99_ms:.2f}",
        str(measured.failed),
    )
