"""A long, mixed load on a real server: nothing acknowledged may be lost, and memory must not grow.

    python tests/soak/soak.py [--minutes M] [--seed N] [--folder FOLDER]

Devices on every wire come and go, with and without a goodbye; gateways with children; long polls
and observers; calls and shared attributes from a second process on the store; wrong tokens,
garbage, half requests and slow readers. Every acknowledged reading is remembered and looked for in
the store at the end. The server's resident memory is taken every two seconds: the first third of
the samples is warm-up, and the last third's median may be above the middle third's by a tenth or
10 MiB, whichever is more. Ctrl-C ends it early, with the verdict so far. Exit status 1: it failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop
from crowd import CoapDevice, GatewayDevice, HttpDevice, MqttDevice
from ground import KEY, Ports, World
from nuisance import SLOW, Nuisance
from people import People, office
from progress import Progress
from verdict import Memory, Verdict, judge_memory

from gateway import log
from gateway.simulator.processes import (
    FleetPair,
    Server,
    ServerFailed,
    gateway_process,
    on_core,
    raise_file_limit,
    two_cores,
)

MQTT_DEVICES, HTTP_DEVICES, COAP_DEVICES, GATEWAYS = 30, 10, 10, 2
SAMPLE_EVERY_S = 2.0
MUST_HAPPEN = (
    "mqtt readings",
    "http readings",
    "coap readings",
    "gateway readings",
    "mqtt calls answered",
    "http calls answered",
    "coap calls answered",
    "mqtt shared attributes heard",
    "http shared attributes heard",
    "coap shared attributes heard",
    "calls successful",
    "mqtt wrong tokens",
    "garbage",
    "slow readers",
)
"""A soak in which one of these never came about has not tried what it should."""
_SETTINGS = {
    "GATEHOUSE_STORE_READINGS_KEEP_DAYS": "36500",  # what is looked for must not be swept
    "GATEHOUSE_LOG_LEVEL": "warning",
    "GATEHOUSE_LOG_FORMAT": "json",
}

Life = tuple[str, Callable[[], Awaitable[None]]]


# ── the run ───────────────────────────────────────────────────────────────────────────────────


class Soak:
    """One run against one server."""

    def __init__(self, world: World, server: Server, seconds: float) -> None:
        self.world = world
        self.server = server
        self.seconds = seconds
        self.samples: list[int] = []
        self.died = False
        self._stopped = asyncio.Event()

    async def run(self, gateways: list[str]) -> None:
        """Until the time is over, somebody presses Ctrl-C, or the server dies."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._stopped.set)
        async with office(self.world.database) as (registry, profile):
            names = [*self._names("mqtt", MQTT_DEVICES), *self._names("http", HTTP_DEVICES)]
            names += self._names("coap", COAP_DEVICES)
            people = People(self.world, registry, profile, names)
            for name in (*names, SLOW):
                await people.add(name)
            async with self._crowd(self._lives(people, gateways)):
                await self._watch()

    @staticmethod
    def _names(wire: str, count: int) -> list[str]:
        return [f"{wire}-{number}" for number in range(count)]

    def _lives(self, people: People, gateways: list[str]) -> list[Life]:
        world, bad = self.world, Nuisance(self.world)
        devices: list[tuple[str, Any]] = [
            *self._each("mqtt", MQTT_DEVICES, lambda n, name: MqttDevice(world, name, 4 + n % 2)),
            *self._each("http", HTTP_DEVICES, lambda _, name: HttpDevice(world, name)),
            *self._each("coap", COAP_DEVICES, lambda _, name: CoapDevice(world, name)),
            *(("gateway", GatewayDevice(world, one, 4 + n % 2)) for n, one in enumerate(gateways)),
        ]
        return [
            *((f"{kind} device", device.life) for kind, device in devices),
            ("calls", people.call),
            ("kept calls", people.call_and_leave),
            ("attributes", people.share),
            ("wrong tokens", bad.wrong_tokens),
            ("bad payloads", bad.bad_payloads),
            ("garbage", bad.garbage),
            ("half requests", bad.half_a_word),
            ("slow reader", bad.slow_reader),
        ]

    def _each(
        self, wire: str, count: int, device: Callable[[int, str], Any]
    ) -> Iterator[tuple[str, Any]]:
        for number, name in enumerate(self._names(wire, count)):
            yield wire, device(number, name)

    @contextlib.asynccontextmanager
    async def _crowd(self, lives: list[Life]) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.world.live(kind, life)) for kind, life in lives]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        """Sample the server's memory, and tell how it goes."""
        began = time.monotonic()
        with Progress(self.seconds) as progress:
            while not self._stopped.is_set() and time.monotonic() < began + self.seconds:
                try:
                    self.samples.append(self.server.memory_kib())
                except (OSError, ServerFailed):
                    self.died = True
                    return
                progress.tell(self._line(), time.monotonic() - began)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SAMPLE_EVERY_S):
                        await self._stopped.wait()

    def _line(self) -> str:
        tally = self.world.tally
        readings = sum(count for kind, count in tally.did.items() if kind.endswith(" readings"))
        calls = tally.did["calls successful"]
        return (
            f"{readings:,} readings, {calls:,} calls, {self.samples[-1] / 1024:.0f} MiB, "
            f"{tally.wrong.total()} unexpected"
        )


def soak(folder: Path, seconds: float, seed: int) -> tuple[Verdict, Counter[str]]:
    """Run it, and look afterwards: the verdict, and how often what happened."""
    pair = FleetPair.random()
    server_core, load_core = two_cores() or (None, None)
    database = folder / "data" / "gatehouse.db"
    with gateway_process(folder, pair, core=server_core, settings=_SETTINGS) as server:
        ports = Ports(*(server.ports[wire] for wire in ("http", "mqtt", "coap")))
        world = World(ports, database, seed)
        run = Soak(world, server, seconds)
        gateways = [f"gateway-{number}" for number in range(GATEWAYS)]
        for name in gateways:
            provision_gateway(ports.http, pair, name, world.token(name))
        with on_core(load_core):
            uvloop.run(run.run(gateways))
    return judged(run, folder / "server.log"), world.tally.did


def provision_gateway(port: int, pair: FleetPair, name: str, token: str) -> None:
    """A device becomes a gateway by saying so when it is provisioned."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = {
        "deviceName": name,
        "gateway": True,
        "token": token,
        "provisionDeviceKey": pair.key.reveal(),
        "provisionDeviceSecret": pair.secret.reveal(),
    }
    connection.request("POST", "/api/v1/provision", json.dumps(body))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    if answer.get("status") != "SUCCESS":
        raise ServerFailed(f"the gateway could not be provisioned: {answer.get('status')}")


# ── afterwards ────────────────────────────────────────────────────────────────────────────────


def judged(run: Soak, server_log: Path) -> Verdict:
    world = run.world
    return Verdict(
        acknowledged=world.ledger.acknowledged,
        lost=lost_readings(world),
        memory=judge_memory(run.samples),
        wrong=world.tally.wrong,
        complaints=complaints(server_log),
        died=run.died,
        untried=[kind for kind in MUST_HAPPEN if not world.tally.did[kind]],
    )


def lost_readings(world: World) -> list[str]:
    """Each as `device number`."""
    connection = sqlite3.connect(f"file:{world.database}?mode=ro", uri=True)
    statement = (
        "SELECT r.ts, r.whole FROM reading r JOIN device d ON d.id = r.device_id"
        " WHERE d.name = ? AND r.key = ?"
    )
    try:
        return [
            f"{device} {number}"
            for device in world.ledger.devices
            for number in world.ledger.lost(device, connection.execute(statement, (device, KEY)))
        ]
    finally:
        connection.close()


def complaints(server_log: Path) -> list[str]:
    """The events of the server's log that are errors, and lines that are no events at all."""
    found = []
    for line in server_log.read_text("utf-8", "replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            if not line.startswith("gatehouse:"):
                found.append(line[:200])
            continue
        if event.get("level") in ("error", "critical"):
            found.append(str(event.get("event")))
    return found


def told(memory: Memory) -> str:
    if not memory.judged:
        return "too few samples of memory to judge"
    return f"memory {memory.middle / 1024:.1f} MiB, then {memory.last / 1024:.1f} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(description="Soak a gateway in mixed traffic.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance")
    parser.add_argument("--folder", help="where the store is made")
    arguments = parser.parse_args()
    raise_file_limit()
    log.configure("error", "auto")
    with tempfile.TemporaryDirectory(prefix="gatehouse-soak-", dir=arguments.folder) as folder:
        verdict, did = soak(Path(folder), arguments.minutes * 60, arguments.seed)
    for kind, count in sorted(did.items()):
        print(f"{count:>10,}  {kind}")
    print(f"{verdict.acknowledged:,} readings acknowledged, {told(verdict.memory)}")
    for fault in verdict.faults:
        print(f"FAULT: {fault}")
    print("failed" if verdict.faults else "passed")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
