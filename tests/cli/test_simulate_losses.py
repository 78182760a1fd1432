"""Devices that persist over a bad network, and the command that runs a fleet of them."""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import cli as gatehouse
from gateway.cli.simulate import command
from gateway.cli.simulate_report import Stored
from gateway.core.model import Secret, Wire
from gateway.simulator import losses
from gateway.simulator.device import Credentials, SimulatorError, Unanswered
from gateway.simulator.fleet import Plan, Run
from gateway.simulator.losses import GaveUp, Losses, Ordeal, Patience, Persistent
from gateway.simulator.processes import FleetPair, gateway_process

BAD = Losses(loss=40, duplicate=40, reorder=True)
_REFUSED = b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'


def granted(token: str) -> bytes:
    return json.dumps(
        {"credentialsValue": token, "credentialsType": "ACCESS_TOKEN", "status": "SUCCESS"}
    ).encode()


class Toy:
    """A gateway in memory, with a device for each nonce.

    `forgetful`: it gives another token each time. `once`: it refuses whoever comes again.
    """

    def __init__(self, *, forgetful: bool = False, once: bool = False, fails: int = 0) -> None:
        self.forgetful = forgetful
        self.once = once
        self.fails = fails
        self.failure = SimulatorError("the wire failed")
        self.given: dict[str, str] = {}
        self.names: list[str] = []
        self.asked = self.logins = self.open = 0

    def device(self, wire: Wire) -> ToyDevice:
        self.open += 1
        return ToyDevice(self)


class ToyDevice:
    def __init__(self, toy: Toy) -> None:
        self.toy = toy
        self.closed = False

    async def provision(self, body: bytes) -> bytes:
        toy, request = self.toy, json.loads(body)
        await asyncio.sleep(0)
        toy.asked += 1
        if toy.fails:
            toy.fails -= 1
            raise toy.failure
        if request["nonce"] in toy.given and toy.once:
            return _REFUSED
        if request["nonce"] not in toy.given:
            toy.names.append(request["deviceName"])
        if toy.forgetful:
            toy.given[request["nonce"]] = f"token-{toy.asked}"
        toy.given.setdefault(request["nonce"], f"token-{len(toy.given)}")
        return granted(toy.given[request["nonce"]])[:-1] + b',"serverTime":%d}' % toy.asked

    async def connect(self, credentials: Credentials) -> None:
        if credentials.token.reveal() not in self.toy.given.values():
            raise SimulatorError("login refused")
        self.toy.logins += 1

    async def telemetry(self, body: bytes) -> None:
        json.loads(body)

    async def close(self) -> None:
        self.toy.open -= not self.closed
        self.closed = True


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(losses, "LONGEST_PAUSE_S", 0.004)
    monkeypatch.setattr(losses, "_HOLD_S", 0.01)


def plan(**more: Any) -> Plan:
    pair = {"key": Secret("k"), "secret": Secret("s"), "prefix": "p"}
    return Plan(**{"devices": 200, "wires": (Wire.HTTP,), "readings": 0, **pair, **more})


async def test_every_device_gets_through_and_is_one_device() -> None:
    """At 40 % of loss and of copies each device ends with one token, which logs it in, and each
    name was asked for with one nonce. That answers tell different times is no contradiction."""
    toy = Toy()
    run = Run(plan(losses=BAD), toy)
    await run.run(asyncio.Event())

    ordeal = run.summary[Wire.HTTP].ordeal
    assert run.complete
    assert len(toy.given) == len(set(toy.names)) == 200
    assert ordeal.logged_in == toy.logins == 200
    assert ordeal.contradictions == 0
    assert toy.open == 0
    told = ordeal.requests_lost, ordeal.answers_lost, ordeal.hung_up, ordeal.duplicated
    assert min(told) > 20
    assert min(ordeal.overtaken, ordeal.repeated) > 5
    assert ordeal.retried >= ordeal.requests_lost


async def test_a_second_answer_that_differs_is_found() -> None:
    """A gateway that gives something else each time is wrong, though each device has credentials
    and is logged in by some."""
    run = Run(plan(losses=Losses(duplicate=90)), Toy(forgetful=True))
    await run.run(asyncio.Event())

    assert run.provisioned == 200
    assert run.summary[Wire.HTTP].ordeal.contradictions > 100
    assert not run.complete


async def test_devices_that_lost_their_answer_for_good_are_found() -> None:
    """Where a repeated request is refused, some devices are left without; they say so."""
    run = Run(plan(losses=Losses(loss=40)), Toy(once=True))
    await run.run(asyncio.Event())

    summary = run.summary[Wire.HTTP]
    assert 0 < summary.provisioned < 200
    assert summary.refusals == {"FAILURE": 200 - summary.provisioned}
    assert not run.complete


async def test_credentials_that_log_nobody_in_are_found() -> None:
    """A device is not done before its credentials were taken."""

    class Deaf(ToyDevice):
        async def connect(self, credentials: Credentials) -> None:
            raise SimulatorError("login refused")

    toy = Toy()
    toy.device = lambda wire: Deaf(toy)  # type: ignore[method-assign]
    run = Run(plan(devices=5, losses=Losses(loss=1)), toy)
    await run.run(asyncio.Event())

    assert run.summary[Wire.HTTP].ordeal.logins_failed == {"login refused": 5}
    assert not run.complete


@pytest.mark.parametrize(("silences", "logged_in"), [(15, 3), (16, 0)])
async def test_a_login_that_nobody_answered_is_tried_again(silences: int, logged_in: int) -> None:
    """Answers to logins are lost as well: fifteen times in a row is bad luck, sixteen is the end,
    and what was refused is not tried again (above)."""

    class Unlucky(ToyDevice):
        lost = 0

        async def telemetry(self, body: bytes) -> None:
            if self.lost < silences:
                self.lost += 1
                raise Unanswered("no answer in time")

    toy = Toy()
    toy.device = lambda wire: Unlucky(toy)  # type: ignore[method-assign]
    run = Run(plan(devices=3, losses=Losses(loss=1)), toy)
    await run.run(asyncio.Event())

    ordeal = run.summary[Wire.HTTP].ordeal
    assert ordeal.logged_in == logged_in
    assert ordeal.logins_retried == 3 * 15
    assert ordeal.logins_failed.total() == 3 - logged_in
    assert run.complete is bool(logged_in)


async def test_patience_grows_with_each_answer_that_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gateway that is late by more than the first wait is heard in the end; a quick device does
    not wait for ever where an answer is lost."""
    monkeypatch.setattr(losses, "FIRST_PATIENCE_S", 0.05)
    clock, waited, patience = asyncio.get_running_loop().time, [], Patience()
    for _ in range(3):
        began = clock()
        with pytest.raises(Unanswered, match="no answer in time"):
            await patience.wait(asyncio.sleep(30))
        waited.append(clock() - began)
    assert await patience.wait(asyncio.sleep(0.06, "late")) == "late"
    for seconds, least in zip(waited, (0.05, 0.075, 0.1125), strict=True):
        assert least <= seconds < 5


@pytest.mark.parametrize(("failures", "gets_through"), [(7, True), (8, False)])
async def test_a_device_gives_a_broken_wire_up_in_the_end(
    failures: int, gets_through: bool
) -> None:
    """Eight real failures are too many; seven are not."""
    ordeal = Ordeal()
    device = Persistent(
        Toy(fails=failures),
        Wire.COAP,
        b'{"nonce":"n","deviceName":"d"}',
        Losses(),
        ordeal,
        asyncio.Semaphore(1),
        rng=random.Random(1),
    )
    if gets_through:
        assert (await device.provision()).token.reveal() == "token-0"
        assert ordeal.retried == 7
    else:
        with pytest.raises(GaveUp, match="the wire failed") as told:
            await device.provision()
        assert not told.value.refused


@pytest.mark.parametrize(("seconds", "gets_through"), [(0.01, True), (31, False)])
async def test_a_device_comes_when_it_is_told_to(seconds: float, gets_through: bool) -> None:
    """It obeys `retryAfter` for as often as it is said; a quarter of an hour is a refusal."""
    toy, ordeal = Toy(fails=12), Ordeal()
    toy.failure = SimulatorError("later", b'{"status":"FAILURE","retryAfter":%g}' % seconds)
    turns = asyncio.Semaphore(1)
    body = b'{"nonce":"n","deviceName":"d"}'
    device = Persistent(toy, Wire.HTTP, body, Losses(), ordeal, turns)
    if gets_through:
        began = asyncio.get_running_loop().time()
        assert (await device.provision()).token.reveal() == "token-0"
        assert asyncio.get_running_loop().time() - began > 0.12
        assert ordeal.told_to_wait == 12
    else:
        with pytest.raises(GaveUp, match="told to wait 31 s"):
            await device.provision()


async def test_a_stop_lets_go_of_copies_on_their_way() -> None:
    """A run that is stopped leaves no device open, and no task behind."""
    toy, stop = Toy(), asyncio.Event()
    run = Run(plan(losses=Losses(loss=90, reorder=True)), toy)
    asyncio.get_running_loop().call_later(0.02, stop.set)
    async with asyncio.timeout(10):
        await run.run(stop)

    assert toy.open == 0
    assert len(asyncio.all_tasks()) == 1


def test_the_store_is_asked_for_each_device() -> None:
    """Too many and too few are told apart from each of them once."""
    assert Stored(devices=5, missing=0, expected=5).complete
    for wrong in (
        Stored(devices=6, missing=0, expected=5),
        Stored(devices=5, missing=1, expected=5),
    ):
        assert not wrong.complete
        assert "instead of 5" in wrong.sentence


def test_a_fleet_over_a_bad_network_ends_whole(tmp_path: Any) -> None:
    """Over three wires, with 20 % of loss and copies, through a gateway that harms answers too:
    every device is provisioned, logged in and stored once, and the table says what happened."""
    pair = FleetPair.random()
    with gateway_process(tmp_path, pair) as server:
        words = [
            f"--{wire}-port={port}" for wire, port in server.ports.items() if wire != "blynk_tcp"
        ]
        environ = {
            "FLEET_KEY": pair.key.reveal(),
            "FLEET_SECRET": pair.secret.reveal(),
            "GATEHOUSE_STORE_URL": f"sqlite:{tmp_path / 'data' / 'gatehouse.db'}",
            "GATEHOUSE_PROFILES_DIR": str(tmp_path / "profiles"),
        }
        words += ["--key-env=FLEET_KEY", "--secret-env=FLEET_SECRET", "--prefix=lossy"]
        words += ["--loss=20", "--duplicate=20", "--reorder", "--verify", "--timeout=3"]
        result = CliRunner().invoke(command, [*words, "-n20", "--readings=0"], env=environ)
        again = CliRunner().invoke(command, [*words, "-n3", "--json"], env=environ)

    assert result.exit_code == 0, result.output
    assert "20 of 20 devices provisioned" in result.stdout
    assert "The store holds each of the 20 devices once." in result.stdout
    assert re.search(r"devices logged in +│ +7 │ +7 │ +6 │", result.stdout)
    assert re.search(r"answers that differed +│ +0 │ +0 │ +0 │", result.stdout)
    # Their names are taken, and another nonce is another device.
    told = json.loads(again.stdout)
    assert again.exit_code == 1
    assert not told["complete"]
    assert told["stored"] == {"complete": False, "devices": 20, "missing": 0}
    assert all(one["refusals"] == {"FAILURE": 1} for one in told["wires"].values())


def test_help_shows_the_bad_network() -> None:
    """The example of a bad network is one that can be copied."""
    said = CliRunner().invoke(gatehouse, ["simulate", "--help"]).output
    assert "gatehouse simulate -n 1000 --loss 5 --duplicate 5 --reorder --verify" in said
