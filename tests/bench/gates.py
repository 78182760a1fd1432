"""What the gates before a birth cost: rates and time of the processor, with them and without.

    python tests/bench/gates.py [--rounds N] [--births N] [--wires SECONDS] [--against TREE]

Two gateways (with --against three, the last from an older tree), each in a process of its own over
a database file that is synchronised to the disk, take turns of `--births` each, 256 at once:

    plain   a profile that switches nothing on
    gated   each device with a nonce, its name in an allow-list of a million, under three secrets

The births go straight to the provisioner; with --wires they come over HTTP (wrk), MQTT (open
sessions) and CoAP as well, from the generators in C, which need cc.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from generators import Generators, Load

from gateway.simulator.processes import FleetPair

HERE = Path(__file__).resolve().parent
LISTED = 1_000_000
AT_ONCE = 256
MOST_A_SECOND = 20_000
TITLES = {"plain": "plain", "gated": "nonce, list, 3 secrets", "older": "plain, the older tree"}


# ── a gateway, told what to do on standard input ──────────────────────────────────────────────


class Side:
    """One gateway. Its devices are `unit-0000001` and so on, each asked for once."""

    def __init__(self, gate: Any, *, gated: bool) -> None:
        self.gate = gate
        self.gated = gated
        self.pairs = [("create-key-0001", "create-secret-0001")]
        self.first = 0

    async def furnish(self, database: Path) -> None:
        """The profile's settings, its other secrets, and its list."""
        from msgspec import structs

        from gateway.core.fleet_custody import FleetSecrets
        from gateway.core.model import (
            Actor,
            Admission,
            Organisation,
            Peer,
            Permission,
            Policy,
            Wire,
        )
        from gateway.core.registry import ProfileDraft
        from gateway.core.tokens import new_token
        from gateway.store.sql_fleet_tickets import SqlFleetTickets

        registry, store = self.gate.registry, self.gate.gateway.store
        profile = structs.replace(
            await registry.profile("create"), policy=Policy(admission=Admission(allow_list=True))
        )
        await registry.save_profile(ProfileDraft(profile=profile))
        operator = Actor(
            peer=Peer(Wire.SHELL, "bench", actor="bench"),
            organisation=Organisation(id=1, uuid="root", name="root", path="/1/"),
            permissions=frozenset(Permission),
        )
        secrets = FleetSecrets(
            SqlFleetTickets(store), clock=lambda: int(time.time() * 1000), new_token=new_token
        )
        for label in ("second", "third"):
            added = await secrets.add(operator, profile, label)
            self.pairs.append((added.key.reveal(), added.secret.reveal()))
        with sqlite3.connect(database) as connection:
            connection.executemany(
                "INSERT INTO admission_entry (profile_id, denied, kind, value, added_at) "
                "VALUES (?, 0, 'name', ?, 0)",
                ((profile.id, f"unit-{number:07}") for number in range(1, LISTED + 1)),
            )
        connection.close()

    async def births(self, count: int) -> dict[str, Any]:
        from gateway.core.model import (
            Peer,
            Provisioned,
            ProvisionKey,
            ProvisionRequest,
            Secret,
            Wire,
        )

        proofs = itertools.cycle([ProvisionKey(Secret(k), Secret(s)) for k, s in self.pairs])
        numbers = iter(range(self.first + 1, self.first + count + 1))
        self.first += count
        provision, peer = self.gate.gateway._provisioner.provision, Peer(Wire.HTTP, "192.0.2.7:5")

        async def ask() -> None:
            for number in numbers:
                more: dict[str, Any] = {}
                if self.gated:
                    more["nonce"] = Secret(f"nonce-{number:026}")
                result = await provision(
                    ProvisionRequest(
                        proof=next(proofs), peer=peer, device_name=f"unit-{number:07}", **more
                    )
                )
                assert isinstance(result, Provisioned), result

        began, spent = time.perf_counter(), time.process_time()
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        seconds, processor = time.perf_counter() - began, time.process_time() - spent
        return {"rate": count / seconds, "cpu_us": processor / count * 1e6}


def serve(mode: str, tree: Path) -> None:
    """The child: `births N` and `serve` until a line on standard input, JSON on standard output."""
    sys.path[:0] = [str(tree), str(tree / "tests" / "e2e"), str(tree / "tests"), str(HERE)]
    import structlog
    import uvloop
    from full_store import count
    from inside import serving

    from gateway.heap import settled_heap

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with (
        tempfile.TemporaryDirectory(prefix="gatehouse-gates-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        running = serving(Path(folder))
        side = Side(runner.run(running.__aenter__()), gated=mode == "gated")
        try:
            database = Path(folder) / "gate.db"
            if side.gated:
                runner.run(side.furnish(database))
            with settled_heap():
                ports = side.gate.ports
                wires = {"http": ports.http, "mqtt": ports.mqtt, "coap": ports.coap}
                _tell({"ports": wires, "pairs": side.pairs})
                for line in sys.stdin:
                    word, _, number = line.strip().partition(" ")
                    if word == "births":
                        _tell(runner.run(side.births(int(number))))
                    else:
                        before, spent = count(database), time.process_time()
                        _tell({})
                        runner.run(_serve_until(sys.stdin))
                        spent = time.process_time() - spent
                        _tell({"cpu_s": spent, "born": count(database) - before})
        finally:
            runner.run(running.__aexit__(None, None, None))


async def _serve_until(lines: IO[str]) -> None:
    """Until a line comes."""
    await asyncio.to_thread(lines.readline)


def _tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


# ── the parent ────────────────────────────────────────────────────────────────────────────────


class Child:
    """A gateway in a process of its own, on the first of our processors."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        told = self.answer()
        self.ports: dict[str, int] = told["ports"]
        self.pairs: list[list[str]] = told["pairs"]
        self.first = 0

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a gateway ended before its time")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def births(self, count: int) -> dict[str, float]:
        self.tell(f"births {count}")
        self.first += count
        return self.answer()

    def over(self, wire: str, mode: str, load: Callable[[str, Child], Load]) -> dict[str, float]:
        """By a generator, on another processor."""
        self.tell("serve")
        self.answer()
        told = load(mode, self)
        time.sleep(0.3)  # wrk ends in the middle of requests
        self.tell("enough")
        seen = self.answer()
        if not told.answered <= seen["born"] <= told.answered + AT_ONCE:
            raise SystemExit(f"{wire}: {told.answered} were answered, {seen['born']} are there")
        self.first += int(seen["born"]) + AT_ONCE
        return {"rate": told.rate, "cpu_us": seen["cpu_s"] / told.answered * 1e6}


class Wires:
    """Loads on the wires of a `Child`, for so many seconds each."""

    def __init__(self, folder: Path, seconds: float, core: int) -> None:
        self._bodies = folder / "bodies"
        self._seconds = seconds
        self._generators = Generators(None, folder, FleetPair.random(), core)

    def http(self, mode: str, child: Child) -> Load:
        pairs = ",".join(":".join(pair) for pair in child.pairs)
        environ = {"FIRST": str(child.first), "PAIRS": pairs, "NONCE": str(int(mode == "gated"))}
        return self._generators.gated_http(child.ports["http"], AT_ONCE, self._seconds, environ)

    def mqtt(self, mode: str, child: Child) -> Load:
        bodies = self._written(mode, child)
        return self._generators.told_mqtt(child.ports["mqtt"], bodies, AT_ONCE, self._seconds)

    def coap(self, mode: str, child: Child) -> Load:
        bodies = self._written(mode, child)
        return self._generators.told_coap(child.ports["coap"], bodies, AT_ONCE, self._seconds)

    def _written(self, mode: str, child: Child) -> Path:
        """More requests than are answered in the time, as `gated.lua` makes them."""
        pairs = itertools.cycle(child.pairs)
        with self._bodies.open("w", encoding="ascii") as file:
            for number in range(child.first + 1, child.first + int(MOST_A_SECOND * self._seconds)):
                key, secret = next(pairs)
                body = {"deviceName": f"unit-{number:07}"}
                if mode == "gated":
                    body["nonce"] = f"nonce-{number:026}"
                body |= {"provisionDeviceKey": key, "provisionDeviceSecret": secret}
                print(json.dumps(body, separators=(",", ":")), file=file)
        return self._bodies


@contextmanager
def child(mode: str, tree: Path, core: int) -> Iterator[Child]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", mode, "--tree", str(tree)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        yield Child(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def compare(sides: dict[str, Child], rounds: int, load: Callable[[str, Child], Any]) -> None:
    """Interleaved, so that what the machine does besides is done to all of them."""
    for mode, one in sides.items():
        load(mode, one)  # the first is of cold caches
    told: dict[str, list[dict[str, float]]] = {mode: [] for mode in sides}
    for _ in range(rounds):
        for mode, one in sides.items():
            told[mode].append(load(mode, one))
    base = "older" if "older" in sides else "plain"
    print("| | births a second | processor, µs each | rate, of the first | processor |")
    print("|---|---|---|---|---|")
    for mode in sorted(sides, key=lambda name: name != base):
        rate, spent = (statistics.median(_of(told[mode], key)) for key in ("rate", "cpu_us"))
        ratios = (
            statistics.median(
                a / b for a, b in zip(_of(told[mode], key), _of(told[base], key), strict=True)
            )
            for key in ("rate", "cpu_us")
        )
        print(f"| {TITLES[mode]} | {rate:,.0f} | {spent:.0f} |", end="")
        print(" |".join(f" {ratio:.2f}" for ratio in ratios), "|")


def _of(told: list[dict[str, float]], key: str) -> list[float]:
    return [one[key] for one in told]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--births", type=int, default=10_000)
    parser.add_argument("--wires", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--against", type=Path, metavar="TREE", help="an older checkout")
    parser.add_argument("--serve", choices=("plain", "gated", "older"), help=argparse.SUPPRESS)
    parser.add_argument("--tree", type=Path, default=HERE.parents[1], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.tree)
        return
    ours = sorted(os.sched_getaffinity(0))
    with (
        child("plain", given.tree, ours[0]) as plain,
        child("gated", given.tree, ours[0]) as gated,
    ):
        sides = {"plain": plain, "gated": gated}
        os.sched_setaffinity(0, {ours[-1]})
        if given.against is None:
            run(given, sides)
            return
        with child("older", given.against.resolve(), ours[0]) as older:
            run(given, {"older": older, **sides})


def run(given: argparse.Namespace, sides: dict[str, Child]) -> None:
    print(f"Through the provisioner, {AT_ONCE} at once, {given.births} a round:\n")
    compare(sides, given.rounds, lambda _, one: one.births(given.births))
    if not given.wires:
        return
    with tempfile.TemporaryDirectory(prefix="gatehouse-gates-") as folder:
        wires = Wires(Path(folder), given.wires, max(os.sched_getaffinity(0)))
        for wire in ("http", "mqtt", "coap"):
            print(f"\nOver {wire.upper()}, {AT_ONCE} at once, {given.wires:g} s a round:\n")
            load = getattr(wires, wire)
            compare(
                sides,
                given.rounds,
                lambda mode, one, wire=wire, load=load: one.over(wire, mode, load),
            )


if __name__ == "__main__":
    main()
