"""What the gates before a birth cost: rates and time of the processor, with them and without.

    python tests/bench/gates.py [--rounds N] [--births N] [--http SECONDS] [--against TREE]

Two gateways (with --against three, the last from an older tree), each in a process of its own over
a database file that is synchronised to the disk, take turns of `--births` each, 256 at once:

    plain   a profile that switches nothing on
    gated   each device with a nonce, its name in an allow-list of a million, under three secrets

The births go straight to the provisioner; with --http they come over the wire, from wrk.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LISTED = 1_000_000
AT_ONCE = 256
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
    """The child: `births N` and `sleep S` on standard input, JSON on standard output."""
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
                _tell({"port": side.gate.ports.http, "pairs": side.pairs})
                for line in sys.stdin:
                    word, _, number = line.strip().partition(" ")
                    if word == "births":
                        _tell(runner.run(side.births(int(number))))
                    else:
                        before, spent = count(database), time.process_time()
                        runner.run(asyncio.sleep(float(number)))
                        spent = time.process_time() - spent
                        _tell({"cpu_s": spent, "born": count(database) - before})
        finally:
            runner.run(running.__aexit__(None, None, None))


def _tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


# ── the parent ────────────────────────────────────────────────────────────────────────────────


class Child:
    """A gateway in a process of its own, on the first of our processors."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        told = self.answer()
        self.port: int = told["port"]
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

    def http(self, mode: str, seconds: float) -> dict[str, float]:
        """By wrk, on another processor."""
        self.tell(f"sleep {seconds + 1}")
        environ = {
            **os.environ,
            "FIRST": str(self.first),
            "PAIRS": ",".join(":".join(pair) for pair in self.pairs),
            "NONCE": "1" if mode == "gated" else "0",
        }
        command = ["wrk", "-t1", f"-c{AT_ONCE}", f"-d{seconds:g}s", "-s", str(HERE / "gated.lua")]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{self.port}"],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        told = self.answer()
        found = re.search(r"(\d+) requests in", done.stdout)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        assert found is not None, done.stdout
        assert rate is not None, done.stdout
        if told["born"] < int(found[1]):
            raise SystemExit(f"{found[1]} requests were answered, {told['born']} devices are there")
        self.first += int(found[1]) + AT_ONCE
        return {"rate": float(rate[1]), "cpu_us": told["cpu_s"] / int(found[1]) * 1e6}


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
    parser.add_argument("--http", type=float, default=0.0, metavar="SECONDS")
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
    if given.http:
        print(f"\nOver HTTP, {AT_ONCE} connections, {given.http:g} s a round:\n")
        compare(sides, given.rounds, lambda mode, one: one.http(mode, given.http))


if __name__ == "__main__":
    main()
