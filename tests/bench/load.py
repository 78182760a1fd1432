"""The table of the README's section "How fast", measured with load generators in C.

    python tests/bench/load.py [--only NAMES] [--runs N] [--seconds S]
    GATEHOUSE_LOAD_DIR=/path/to/generators python tests/bench/load.py

The generators of the device API and of the secure wires are here; the latter need the headers of
OpenSSL. Those that provision with a token are not: the folder holds `coapgen.c`, `mqttgen.c` and
`post.lua`, and without it their rows are left out. All are built into a temporary folder. Every run
starts a gateway with its default settings and a fresh store on one processor, and puts the load on
it from another one. After a run the store must hold what answers said it does.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path

import blynk
import device_api
import logins
import secure
from full_store import count
from generators import GeneratorError, Load
from lab import STORED_DEVICES, Figures, Lab

from gateway.simulator.processes import Server, raise_file_limit

IDLE_SESSIONS = 10_000
EXCHANGES = 90_000


def provisioning(title: str, load: Callable[[Lab, Server], Load]) -> Callable[[Lab], Figures]:
    """New devices at full speed: the rate, and how long one waits."""

    def run(lab: Lab) -> Figures:
        with lab.gateway() as (server, database):
            told = load(lab, server)
            stored = count(database)
        if stored < told.answered:
            raise GeneratorError(f"{told.answered} devices were answered, {stored} are stored")
        return {
            f"{title}, per second": told.rate,
            f"{title}, p50 ms": told.p50_ms,
            f"{title}, p99 ms": told.p99_ms,
        }

    return run


def over_http(at_once: int) -> Callable[[Lab, Server], Load]:
    return lambda lab, to: lab.generators.http(to.ports["http"], at_once, lab.seconds)


def over_mqtt(mode: str, at_once: int) -> Callable[[Lab, Server], Load]:
    return lambda lab, to: lab.generators.mqtt(mode, to.ports["mqtt"], at_once, lab.seconds)


def over_coap(at_once: int) -> Callable[[Lab, Server], Load]:
    return lambda lab, to: lab.generators.coap(to.ports["coap"], at_once, lab.seconds)


def idle_session(lab: Lab) -> Figures:
    """Memory of the process alone: what the kernel keeps for a socket is not in it."""
    with lab.gateway() as (server, _):
        port = server.ports["mqtt"]
        with lab.generators.idle_sessions(port, 200, 20):
            pass
        time.sleep(0.5)
        before = server.memory_kib("RssAnon")
        with lab.generators.idle_sessions(port, IDLE_SESSIONS, 40):
            grown = server.memory_kib("RssAnon") - before
    return {"memory of an idle MQTT session, KiB": grown / IDLE_SESSIONS}


def coap_exchange(lab: Lab) -> Figures:
    """What remembering costs: the same requests, all answers remembered, or hardly any."""
    grown = []
    for remembered in (EXCHANGES, 16):
        with lab.gateway(GATEHOUSE_COAP_MAX_EXCHANGES=str(remembered)) as (server, _):
            lab.generators.coap(server.ports["coap"], 256, 60, most=EXCHANGES)
            grown.append(server.memory_kib("RssAnon"))
    all_of_them, hardly_any = grown
    return {
        "memory of a remembered CoAP exchange, bytes": (all_of_them - hardly_any) * 1024 / EXCHANGES
    }


def start(lab: Lab) -> Figures:
    began = time.perf_counter()
    with lab.gateway() as (server, _):
        while not _is_ready(server):
            time.sleep(0.002)
        took = time.perf_counter() - began
        time.sleep(1)
        return {
            "process start to /readyz, s": took,
            "memory idle, MiB": server.memory_kib("VmRSS") / 1024,
        }


def _is_ready(server: Server) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def many_devices(lab: Lab) -> Figures:
    """CoAP, whose own cost is the smallest, so that the store's share shows most."""
    full = lab.full()
    with lab.gateway() as (server, _):
        empty = over_coap(256)(lab, server)
    with lab.gateway(full) as (server, _):
        filled = over_coap(256)(lab, server)
    return {f"rate at {STORED_DEVICES:,} devices, of an empty store's": filled.rate / empty.rate}


PROVISIONING: dict[str, list[Callable[[Lab], Figures]]] = {
    "http": [provisioning(f"HTTP, {n} at once", over_http(n)) for n in (256, 32, 1)],
    "mqtt-cycle": [
        provisioning(f"MQTT cycle, {n} at once", over_mqtt("cycle1", n)) for n in (256, 32, 1)
    ],
    "mqtt": [
        provisioning(f"MQTT open sessions, {n} at once", over_mqtt("persist1", n))
        for n in (256, 32, 1)
    ],
    "coap": [provisioning(f"CoAP, {n} at once", over_coap(n)) for n in (256, 32, 1)],
    "idle": [idle_session],
    "exchange": [coap_exchange],
    "full": [many_devices],
}
"""Rows that need the generators of GATEHOUSE_LOAD_DIR."""
EXPERIMENTS = (
    PROVISIONING
    | device_api.EXPERIMENTS
    | secure.EXPERIMENTS
    | logins.EXPERIMENTS
    | blynk.EXPERIMENTS
    | {"start": [start]}
)


def main() -> int:
    sources = os.environ.get("GATEHOUSE_LOAD_DIR")
    arguments = _arguments(able=EXPERIMENTS if sources else EXPERIMENTS.keys() - PROVISIONING)
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="gatehouse-load-", dir=arguments.folder) as place:
        try:
            lab = Lab(Path(sources) if sources else None, Path(place), arguments.seconds)
            _print_head()
            for name in arguments.only:
                if name in secure.EXPERIMENTS and not lab.generators.with_openssl:
                    print(f"| {name}: needs the headers of OpenSSL (libssl-dev) | | | |")
                    continue
                for experiment in EXPERIMENTS[name]:
                    _print_rows([experiment(lab) for _ in range(arguments.runs)])
        except GeneratorError as exc:
            print(f"error: {exc}", file=sys.stderr)
            return 1
    return 0


def _arguments(able: Collection[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a gateway with load generators in C.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one load")
    parser.add_argument("--folder", help="where the stores are made; its disk decides")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=[name for name in EXPERIMENTS if name in able],
        help=f"of {', '.join(EXPERIMENTS)}; with commas",
    )
    arguments = parser.parse_args()
    for name in arguments.only:
        if name not in EXPERIMENTS:
            parser.error(f"there is no experiment {name!r}; choose among {', '.join(EXPERIMENTS)}")
        if name not in able:
            parser.error(f"{name} needs GATEHOUSE_LOAD_DIR, the folder of its generators")
    return arguments


def _print_head() -> None:
    print("| what | min | median | max |\n|---|---:|---:|---:|", flush=True)


def _print_rows(runs: list[Figures]) -> None:
    for title in runs[0]:
        values = [run[title] for run in runs]
        cells = (min(values), statistics.median(values), max(values))
        print(f"| {title} | {' | '.join(map(_shown, cells))} |", flush=True)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
