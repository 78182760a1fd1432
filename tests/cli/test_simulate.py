"""The simulated fleet, and the command that runs it against a gateway of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import Struct

import gateway
from gateway.cli.simulate import command
from gateway.core.model import Secret, Wire
from gateway.simulator import fleet
from gateway.simulator.device import Credentials, SimulatorError
from gateway.simulator.fleet import Plan, Run, Samples
from gateway.simulator.processes import PROFILE, FleetPair, Server, gateway_process
from gateway.simulator.tally import count

_ANSWER = b'{"credentialsValue":"t","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}'


class Stage(Struct, frozen=True):
    server: Server
    pair: FleetPair
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        return {
            "FLEET_KEY": self.pair.key.reveal(),
            "FLEET_SECRET": self.pair.secret.reveal(),
            "WRONG": "x" * 20,
            "GATEHOUSE_STORE_URL": f"sqlite:{self.folder / 'data' / 'gatehouse.db'}",
            "GATEHOUSE_PROFILES_DIR": str(self.folder / "profiles"),
        }

    def words(self, *more: str) -> list[str]:
        return [*(f"--{wire}-port={port}" for wire, port in self.server.ports.items()), *more]

    def run(self, *more: str) -> Result:
        return CliRunner().invoke(command, self.words(*more), env=self.environ)

    def stored(self, statement: str) -> Any:
        path = self.folder / "data" / "gatehouse.db"
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return connection.execute(statement).fetchone()[0]
        finally:
            connection.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder, pair = tmp_path_factory.mktemp("simulate"), FleetPair.random()
    with gateway_process(folder, pair) as server:
        yield Stage(server, pair, folder)


PAIR = ("--key-env", "FLEET_KEY", "--secret-env", "FLEET_SECRET")


# ── the command ───────────────────────────────────────────────────────────────────────────────


def test_a_fleet_over_all_wires_is_provisioned_and_read(stage: Stage) -> None:
    """Every device is stored, every reading too, and the summary says so, wire by wire."""
    result = stage.run(*PAIR, "--devices=7", "--readings=3", "--rate=100", "--prefix=all", "--json")

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["complete"]
    assert [one["provisioned"] for one in said["wires"].values()] == [3, 2, 2]
    assert [one["readings"] for one in said["wires"].values()] == [9, 6, 6]
    assert all(one["provision_ms"]["p99"] > 0 for one in said["wires"].values())
    assert stage.stored("SELECT count(*) FROM device WHERE name LIKE 'all-%'") == 7
    readings = (
        "SELECT count(*) FROM reading WHERE key = 'temperature' AND device_id IN "
        "(SELECT id FROM device WHERE name LIKE 'all-%')"
    )
    assert stage.stored(readings) == 21


def test_taken_names_are_refusals_and_the_status_is_1(stage: Stage) -> None:
    """A second fleet of the same names is refused device by device, and the command fails."""
    words = ("--profile", PROFILE, "--devices=3", "--readings=0", "--prefix=twice")
    assert stage.run(*words).exit_code == 0

    result = stage.run(*words, "--json")

    assert result.exit_code == 1
    wires = json.loads(result.stdout)["wires"]
    assert all(one["refusals"] == {"FAILURE": 1} for one in wires.values())
    assert not any(one["provisioned"] or one["errors"] for one in wires.values())


def test_the_table_names_refusals_and_never_a_secret(stage: Stage) -> None:
    """A wrong secret is told as NOT_FOUND for each wire; no key or secret is printed."""
    result = stage.run("--key-env=FLEET_KEY", "--secret-env=WRONG", "--devices=3")

    assert result.exit_code == 1
    assert "0 of 3 devices provisioned" in result.stdout
    for wire in ("http", "mqtt", "coap"):
        assert f"{wire}: 1 × refused: NOT_FOUND" in result.stdout
    for secret in (stage.pair.key, stage.pair.secret):
        assert secret.reveal() not in result.output
    assert "x" * 20 not in result.output


def test_a_gateway_that_is_not_there_is_an_error_for_each_device(stage: Stage) -> None:
    """With nobody listening the command ends, counts errors and fails."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        result = stage.run(*PAIR, f"--http-port={port}", "--wires=http", "--devices=2", "--json")

    assert result.exit_code == 1
    errors = json.loads(result.stdout)["wires"]["http"]["errors"]
    assert sum(errors.values()) == 2


def test_an_unknown_profile_brings_the_nearest_one_to_mind(stage: Stage) -> None:
    """A mistyped profile is told with the one that was probably meant."""
    result = stage.run("--profile", PROFILE + "h")

    assert result.exit_code == 1
    assert f"Did you mean '{PROFILE}'?" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--wires=http,carrier-pigeon",), "carrier-pigeon"),
        (("--wires=,",), "choose among"),
        (("--profile=p", *PAIR), "not both"),
        (("--key-env=FLEET_KEY",), "belong together"),
        (("--key-env=FLEET_KEY", "--secret-env=NOT_THERE"), "NOT_THERE"),
        (("--devices=0",), "0"),
    ],
)
def test_a_wrong_command_line_is_status_2(stage: Stage, words: tuple[str, ...], said: str) -> None:
    """What cannot be meant is refused before anything is sent, in a sentence."""
    result = stage.run(*words)

    assert result.exit_code == 2
    assert said in result.stderr


def test_ctrl_c_stops_the_fleet_and_prints_the_summary(stage: Stage) -> None:
    """SIGINT ends a long run at once; the summary still comes, and the status is that of it."""
    words = stage.words(
        *PAIR, "--devices=6", "--seconds=600", "--rate=20", "--prefix=cut", "--json"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "simulate", *words],
        env={**os.environ, **stage.environ, "PYTHONPATH": str(Path(gateway.__file__).parents[1])},
        stdout=subprocess.PIPE,
        cwd=stage.folder,
    )
    deadline = time.monotonic() + 30
    first = (
        "SELECT count(*) FROM latest_reading WHERE key = 'humidity' AND device_id IN "
        "(SELECT id FROM device WHERE name LIKE 'cut-%')"
    )
    while stage.stored(first) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 0
    said = json.loads(output)
    assert said["complete"]
    assert all(one["readings"] > 0 for one in said["wires"].values())


# ── the fleet ─────────────────────────────────────────────────────────────────────────────────


class _Toy:
    """Devices in memory. `lose` readings fail first; `most` is how many asked at one time."""

    def __init__(self, *, lose: int = 0, answer: bytes = _ANSWER) -> None:
        self.lose = lose
        self.reply = answer
        self.asking = self.most = self.made = self.closed = 0
        self.logins = 0

    def device(self, wire: Wire) -> _ToyDevice:
        self.made += 1
        return _ToyDevice(self)


class _ToyDevice:
    def __init__(self, toy: _Toy) -> None:
        self.toy = toy

    async def provision(self, body: bytes) -> bytes:
        self.toy.asking += 1
        self.toy.most = max(self.toy.most, self.toy.asking)
        await asyncio.sleep(0)
        self.toy.asking -= 1
        return self.toy.reply

    async def connect(self, credentials: Credentials) -> None:
        self.toy.logins += 1

    async def telemetry(self, body: bytes) -> None:
        json.loads(body)
        if self.toy.lose:
            self.toy.lose -= 1
            raise SimulatorError("lost")

    async def close(self) -> None:
        self.toy.closed += 1


def _plan(**more: Any) -> Plan:
    settings: dict[str, Any] = {
        "devices": 1,
        "wires": (Wire.HTTP,),
        "key": Secret("k"),
        "secret": Secret("s"),
        "prefix": "p",
        "rate": 1000.0,
        "readings": 0,
    }
    return Plan(**{**settings, **more})


async def test_no_more_than_concurrency_are_provisioned_at_once() -> None:
    """Of fifty devices never more than seven ask at one time, and all of them do."""
    toy = _Toy()
    run = Run(_plan(devices=50, concurrency=7), toy)
    await run.run(asyncio.Event())

    assert toy.most == 7
    assert run.complete
    assert run.finished == toy.closed == 50


async def test_a_device_that_lost_its_connection_logs_in_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lost reading is counted, and the next one goes through a new connection."""
    monkeypatch.setattr(fleet, "_COME_BACK_S", 0.001)
    toy = _Toy(lose=1)
    run = Run(_plan(readings=3), toy)
    await run.run(asyncio.Event())

    summary = run.summary[Wire.HTTP]
    assert (summary.readings, dict(summary.reading_errors)) == (2, {"lost": 1})
    assert toy.logins == 2
    assert toy.closed == toy.made == 2


async def test_an_answer_that_is_none_is_an_error_not_a_crash() -> None:
    """Nonsense from a gateway is counted as an error of that device."""
    run = Run(_plan(devices=2), _Toy(answer=b"<html>"))
    await run.run(asyncio.Event())

    assert run.summary[Wire.HTTP].errors.total() == 2
    assert not run.complete


async def test_a_stop_closes_every_device() -> None:
    """A stopped run leaves no device open, whatever it was about to do."""
    toy, stop = _Toy(), asyncio.Event()
    run = Run(_plan(devices=20, readings=None, seconds=600.0, rate=50.0), toy)
    asyncio.get_running_loop().call_later(0.05, stop.set)
    async with asyncio.timeout(2):
        await run.run(stop)

    assert run.readings > 0
    assert toy.closed == toy.made == 20


async def test_readings_last_as_long_as_planned() -> None:
    """With `seconds`, a device reads at its rate for that time and then is done."""
    run = Run(_plan(readings=None, seconds=0.2, rate=50.0), _Toy())
    began = time.perf_counter()
    await run.run(asyncio.Event())

    assert 0.15 < time.perf_counter() - began < 10
    assert 1 <= run.readings <= 11


def test_samples_are_bounded_and_fair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more times than are kept still give about the right median."""
    monkeypatch.setattr(fleet, "MOST_SAMPLES", 500)
    samples = Samples()
    for number in range(20_000):
        samples.add(number / 20_000)

    median, none = samples.percentiles_ms(0.5)[0], Samples().percentiles_ms(0.5, 0.9)
    assert median is not None
    assert 350 < median < 650
    assert none == [None, None]


def test_kinds_of_errors_are_bounded() -> None:
    """A gateway that says something new each time does not fill the memory."""
    kinds = fleet.WireSummary().errors
    for number in range(1000):
        count(kinds, f"error {number}")

    assert kinds.total() == 1000
    assert len(kinds) <= 17
