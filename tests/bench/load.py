"""The table of the README's section "How fast", measured with load generators in C.

    GATEHOUSE_LOAD_DIR=/path/to/generators python tests/bench/load.py [--only NAMES] [--runs N]

The folder holds `coapgen.c`, `mqttgen.c` and `post.lua`; they are built into a temporary folder,
with `telemetry.c` from here. Every run starts a gateway with its default settings and a fresh
store on one processor, and puts the load on it from another one. After a run the store must hold
at least as many devices as answers said so.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from full_store import count, fill
from generators import GeneratorError, Generators, Load

from gateway.simulator.processes import (
    FleetPair,
    Server,
    gateway_process,
    raise_file_limit,
    two_cores,
)

IDLE_SESSIONS = 10_000
STORED_DEVICES = 1_000_000
EXCHANGES = 90_000
TELEMETRY = (16, 20)
"""Sessions, and unacknowledged readings of each."""

Figures = Mapping[str, float]
"""What one run came to, by the title of its row."""


class Lab:
    """One place to measure: folders, processors, generators, and how long a load lasts."""

    def __init__(self, sources: Path, place: Path, seconds: float) -> None:
        cores = two_cores()
        if cores is None:
            print("warning: one processor for both sides; figures are too low", file=sys.stderr)
        self.server_core, load_core = cores or (None, None)
        self.place = place
        self.seconds = seconds
        self.pair = FleetPair.random()
        self.generators = Generators(sources, place, self.pair, load_core)
        self._full: Path | None = None

    @contextmanager
    def gateway(self, folder: Path | None = None, **settings: str) -> Iterator[tuple[Server, Path]]:
        """A gateway on the server's processor, and its database file. Without a folder: fresh.

        `settings` are environment variables.
        """
        with tempfile.TemporaryDirectory(dir=self.place) as fresh:
            home = folder or Path(fresh)
            with gateway_process(
                home, self.pair, core=self.server_core, settings=settings
            ) as server:
                yield server, home / "data" / "gatehouse.db"

    def full(self) -> Path:
        """The folder of a store with a million devices, filled at the first call."""
        if self._full is None:
            folder = Path(tempfile.mkdtemp(dir=self.place))
            with self.gateway(folder) as (_, database):
                pass
            fill(database, STORED_DEVICES)
            self._full = folder
        return self._full


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


def telemetry(lab: Lab) -> Figures:
    sessions, window = TELEMETRY
    with lab.gateway() as (server, _):
        tokens = [_token(lab, server, f"meter-{number}") for number in range(sessions)]
        told = lab.generators.telemetry(server.ports["mqtt"], tokens, window, lab.seconds)
    title = f"telemetry QoS 1, {sessions} sessions of {window} in flight"
    return {f"{title}, per second": told.rate, f"{title}, p99 ms": told.p99_ms}


def _token(lab: Lab, server: Server, name: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=10)
    body = {
        "deviceName": name,
        "provisionDeviceKey": lab.pair.key.reveal(),
        "provisionDeviceSecret": lab.pair.secret.reveal(),
    }
    connection.request("POST", "/api/v1/provision", json.dumps(body))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return str(answer["credentialsValue"])


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


EXPERIMENTS: dict[str, list[Callable[[Lab], Figures]]] = {
    "http": [provisioning(f"HTTP, {n} at once", over_http(n)) for n in (256, 32, 1)],
    "mqtt-cycle": [
        provisioning(f"MQTT cycle, {n} at once", over_mqtt("cycle1", n)) for n in (256, 32, 1)
    ],
    "mqtt": [
        provisioning(f"MQTT open sessions, {n} at once", over_mqtt("persist1", n))
        for n in (256, 32, 1)
    ],
    "coap": [provisioning(f"CoAP, {n} at once", over_coap(n)) for n in (256, 32, 1)],
    "telemetry": [telemetry],
    "idle": [idle_session],
    "exchange": [coap_exchange],
    "start": [start],
    "full": [many_devices],
}


def main() -> int:
    arguments = _arguments()
    sources = os.environ.get("GATEHOUSE_LOAD_DIR")
    if not sources:
        print("GATEHOUSE_LOAD_DIR must name the folder of the generators", file=sys.stderr)
        return 2
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="gatehouse-load-", dir=arguments.folder) as place:
        try:
            lab = Lab(Path(sources), Path(place), arguments.seconds)
            _print_head()
            for name in arguments.only:
                for experiment in EXPERIMENTS[name]:
                    _print_rows([experiment(lab) for _ in range(arguments.runs)])
        except GeneratorError as exc:
            print(f"error: {exc}", file=sys.stderr)
            return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a gateway with load generators in C.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one load")
    parser.add_argument("--folder", help="where the stores are made; its disk decides")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(EXPERIMENTS),
        help=f"of {', '.join(EXPERIMENTS)}; with commas",
    )
    arguments = parser.parse_args()
    for name in arguments.only:
        if name not in EXPERIMENTS:
            parser.error(f"there is no experiment {name!r}; choose among {', '.join(EXPERIMENTS)}")
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
