"""A gateway whose answers go astray: what becomes of them on each wire, and of the others."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from aiocoap import Message
from inside import Gate, NewGate
from wires import (
    CON,
    POST,
    PUBLISH,
    VERSIONS,
    WAIT_S,
    WIRES,
    coap,
    http,
    mqtt,
    provisioned,
)

from gateway.core.model import Wire
from gateway.listeners import Kinds
from gateway.transports.chaos import chaotic
from gateway.wire.chaos import UNHARMED, Chaos, Mischief

PATH = "/api/v1/provision"
QUIET_S = 0.2


async def chaos_gate(new_gate: NewGate, **mischief: Any) -> Gate:
    return await new_gate(kinds=Kinds(*chaotic(Chaos(Mischief(**mischief)))))


async def heard(gate: Gate, wire: str, request: dict[str, Any], least: int) -> list[bytes]:
    """What a device hears of its one request until nothing more comes: bodies, acknowledgements.

    Fewer than `least` are waited for.
    """
    body = json.dumps(request).encode()
    if wire == "http":
        async with http(gate.ports.http) as web:
            try:
                return [(await web.ask("POST", PATH, body)).body]
            except (ConnectionError, EOFError):
                return []
    if wire == "coap":
        async with coap(gate.ports.coap) as device:
            datagram, _ = device.datagram(POST, PATH, body, kind=CON)
            device.transport.sendto(datagram)
            async with asyncio.timeout(WAIT_S):
                while len(device.raw) < least:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(QUIET_S)
            return device.raw
    async with mqtt(gate.ports.mqtt, VERSIONS[wire]) as session:
        assert await session.connect(username="provision") == 0
        session.publish("/provision/request", body, 1)
        said: list[bytes] = []
        while True:
            try:
                packet = await session.next(QUIET_S if len(said) >= least else WAIT_S)
            except TimeoutError:
                assert len(said) >= least
                return said
            assert packet is not None, "hung up"
            answer = packet.kind == PUBLISH
            said.append(session.opened(packet).payload if answer else packet.body)


async def is_there(gate: Gate, name: str) -> bool:
    async with asyncio.timeout(WAIT_S):
        while await gate.registry.device(name) is None:
            await asyncio.sleep(0.02)
    return True


async def test_a_dropped_answer_is_silence_and_the_device_exists(new_gate: NewGate) -> None:
    """Nothing is heard on any wire, not even an acknowledgement; what was asked for is stored."""
    gate = await chaos_gate(new_gate, drop=100, only="provision")
    for wire in WIRES:
        assert await heard(gate, wire, gate.request(f"lost-{wire}"), 0) == [], wire
        assert await is_there(gate, f"lost-{wire}")

    async with http(gate.ports.http) as web:
        assert (await web.ask("GET", "/healthz")).status == 200
        assert (await web.ask("GET", "/api/v1/nobody/attributes")).status == 401


async def test_a_doubled_answer_comes_twice_where_the_wire_can(new_gate: NewGate) -> None:
    """MQTT publishes it again, CoAP sends the same datagram again, HTTP cannot."""
    gate = await chaos_gate(new_gate, duplicate=100)

    once = await heard(gate, "http", gate.request("twice-http"), 1)
    assert [json.loads(one)["status"] for one in once] == ["SUCCESS"]
    first, second = await heard(gate, "coap", gate.request("twice-coap"), 2)
    assert first == second
    for wire in VERSIONS:
        acknowledged, *answers = await heard(gate, wire, gate.request(f"twice-{wire}"), 3)
        assert len(acknowledged) == 2
        assert len(answers) == 2
        assert answers[0] == answers[1]
        assert json.loads(answers[0])["status"] == "SUCCESS"


async def test_late_answers_are_late_and_whole(new_gate: NewGate) -> None:
    """Every answer takes its delay at least, and then is what it would have been."""
    gate = await chaos_gate(new_gate, least_delay_s=0.15, most_delay_s=0.2)
    for wire in ("http", "mqtt311", "coap"):
        began = time.monotonic()
        answer = await provisioned(gate.ports, wire, gate.request(f"late-{wire}"))

        assert time.monotonic() - began >= 0.15
        assert answer["status"] == "SUCCESS"


async def test_a_device_that_repeats_its_datagram_gets_through(new_gate: NewGate) -> None:
    """A repeated CoAP request has a fate of its own: half of them lost, the answer comes in time,
    and it is the first one."""
    gate = await chaos_gate(new_gate, drop=50, seed=3)
    async with coap(gate.ports.coap) as device:
        datagram, _ = device.datagram(
            POST, PATH, json.dumps(gate.request("stubborn")).encode(), kind=CON
        )
        device.transport.sendto(datagram)
        assert await is_there(gate, "stubborn")  # while it is born its repetitions are not answered
        for _ in range(40):
            device.transport.sendto(datagram)
            await asyncio.sleep(0.01)
        await asyncio.sleep(QUIET_S)
        assert 5 < len(device.raw) < 38
        assert len(set(device.raw)) == 1


async def test_a_token_with_a_slash_is_harmed_too(new_gate: NewGate) -> None:
    """Over CoAP the pieces of a path come apart, so that a slash within one is none between two."""
    gate = await chaos_gate(new_gate, drop=100, only="telemetry")
    await gate.add("slashed", token="to/ken")
    async with coap(gate.ports.coap) as device:
        path = ("api", "v1", "to/ken", "telemetry")
        tell = Message(
            code=POST, payload=b'{"n":1}', uri_path=path, _mtype=CON, _mid=1, _token=b"t"
        )
        device.transport.sendto(tell.encode())
        async with asyncio.timeout(WAIT_S):
            while not await gate.readings("slashed"):
                await asyncio.sleep(0.02)
        await asyncio.sleep(QUIET_S)
        assert device.raw == []


@pytest.mark.parametrize(
    ("route", "word", "harmed"),
    [
        ("thingsboard.provision", "", True),
        ("blynk.device.update", "", True),
        ("thingsboard.admin.device.save", "", False),
        ("blynk.platform.reprovision", "", False),
        ("health.ready", "", False),
        ("thingsboard.telemetry", "provision", False),
        ("thingsboard.provision.json", "provision", True),
    ],
)
def test_answers_to_people_arrive(route: str, word: str, harmed: bool) -> None:
    """Without a word the answers to devices are harmed, and with it those of such routes."""
    fate = Chaos(Mischief(drop=100, only=word)).fate(route, Wire.HTTP, "192.0.2.1:5")

    assert fate.drop is harmed
    assert harmed or fate is UNHARMED


def test_a_seed_repeats_what_was_done() -> None:
    """The same answers go astray, and dropping none of them changes no delay."""

    def fates(drop: float) -> list[tuple[bool, bool, float]]:
        chaos = Chaos(Mischief(drop=drop, duplicate=10, most_delay_s=2, seed=11))
        drawn = (chaos.fate("thingsboard.claim", Wire.COAP, "p") for _ in range(2000))
        return [(one.drop, one.twice, one.delay_s) for one in drawn]

    first = fates(20)
    assert first == fates(20)
    assert 300 < sum(drop for drop, _, _ in first) < 500
    assert 120 < sum(twice for _, twice, _ in first) < 280
    assert [late for _, _, late in first] == [late for _, _, late in fates(0)]
