"""A gateway whose answers go astray on secure wires: what becomes of them within TLS and DTLS."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import certs
import pytest
from lines import SECURE, Coaps, Https, Line, Lost, Mqtts, identity_in
from plant import Plant
from structlog.testing import capture_logs
from wires import CON, POST, PUBLISH, WAIT_S

from gateway.listeners import Kinds
from gateway.transports.chaos import chaotic
from gateway.wire.chaos import Chaos, Mischief

PATH = "/api/v1/provision"
NONCE = "0123456789abcdef"
QUIET_S = 0.2
PINGREQ = b"\xc0\x00"
TWICE = {"https": 1, "mqtts": 3, "coaps": 2}
"""How many messages are heard when the answer is doubled: over MQTT an acknowledgement too."""


@pytest.fixture(autouse=True)
async def _nothing_breaks() -> AsyncIterator[None]:
    """Whatever is sent late is sent by a timer, whose errors nobody else would see."""
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: broken.append(told))
    yield
    assert broken == []


@asynccontextmanager
async def chaos_plant(new_plant: Any, **mischief: Any) -> AsyncIterator[Plant]:
    """A gateway with such mischief; what goes wrong within it fails the test."""
    with capture_logs() as log:
        async with new_plant(kinds=Kinds(*chaotic(Chaos(Mischief(**mischief))))) as plant:
            yield plant
    assert [one for one in log if one["log_level"] in ("error", "critical")] == []
    wires = {one["wire"] for one in log if one["event"].startswith("chaos.")}
    assert wires == set(SECURE), "not each wire was harmed, or one under another's name"


async def heard(device: Line, request: dict[str, Any], least: int) -> list[bytes]:
    """What a device hears of its one request until nothing more comes: bodies, acknowledgements.

    Fewer than `least` are waited for.
    """
    body = json.dumps(request).encode()
    if isinstance(device, Https):
        try:
            return [(await device.web.ask("POST", PATH, body)).body]
        except (ConnectionError, EOFError):
            return []
    if isinstance(device, Coaps):
        datagram, _ = device.device.datagram(POST, PATH, body, kind=CON)
        device.device.transport.sendto(datagram)
        async with asyncio.timeout(WAIT_S):
            while len(device.device.raw) < least:
                await asyncio.sleep(0.01)
        await asyncio.sleep(QUIET_S)
        return device.device.raw
    assert await device.session.connect(username="provision") == 0
    device.session.publish("/provision/request", body, 1)
    return await _packets(device, least)


async def _packets(device: Mqtts, least: int) -> list[bytes]:
    said: list[bytes] = []
    while True:
        try:
            packet = await device.session.next(QUIET_S if len(said) >= least else WAIT_S)
        except TimeoutError:
            assert len(said) >= least
            return said
        assert packet is not None, "hung up"
        answer = packet.kind == PUBLISH
        said.append(device.session.opened(packet).payload if answer else packet.body)


async def is_there(plant: Plant, name: str) -> bool:
    async with asyncio.timeout(10):
        while await plant.gate.registry.device(name) is None:
            await asyncio.sleep(0.02)
    return True


async def test_a_dropped_answer_is_silence_and_the_device_exists(new_plant: Any) -> None:
    """HTTPS ends its connection, MQTTS and CoAPS theirs not; what was asked for is stored, and
    other routes are served over the very session that heard nothing."""
    async with chaos_plant(new_plant, drop=100, only="provision") as plant:
        await plant.believe()
        for wire in SECURE:
            identity = plant.factory.issue("born") if wire == "coaps" else None
            async with plant.line(wire, identity) as device:
                assert await heard(device, plant.gate.request(f"lost-{wire}"), 0) == []
                assert await is_there(plant, f"lost-{wire}")
                if isinstance(device, Https):
                    assert await device.web.reader.read() == b""
                elif isinstance(device, Mqtts):
                    device.session.send(PINGREQ)
                    assert await _packets(device, 1) == [b""]
                else:
                    assert await device.enter() == "2.01"


async def test_a_doubled_answer_comes_twice_where_the_wire_can(new_plant: Any) -> None:
    """MQTTS publishes it again; CoAPS sends the same datagram in a record of its own, so that DTLS
    does not take it for a replay; HTTPS cannot, and neither does it break."""
    async with chaos_plant(new_plant, duplicate=100, most_delay_s=0.001) as plant:
        said = {}
        for wire in SECURE:
            async with plant.line(wire) as device:
                said[wire] = await heard(device, plant.gate.request(f"twice-{wire}"), TWICE[wire])
        async with plant.line("mqtts", version=5) as device:
            fifth = await heard(device, plant.gate.request("twice-mqtts5"), 3)
    assert [json.loads(one)["status"] for one in said["https"]] == ["SUCCESS"]
    first, second = said["coaps"]
    assert first == second
    for acknowledged, *answers in (said["mqtts"], fifth):
        assert len(acknowledged) == 2
        assert len(answers) == 2
        assert answers[0] == answers[1]
        assert json.loads(answers[0])["status"] == "SUCCESS"


async def test_late_answers_are_late_and_whole(new_plant: Any) -> None:
    """Every answer takes its delay at least. Who hangs up before it comes harms nobody else."""
    async with chaos_plant(new_plant, least_delay_s=0.15, most_delay_s=0.2) as plant:
        for wire in SECURE:
            async with plant.line(wire) as device:
                asked = plant.gate.request(f"hurried-{wire}")
                begun = asyncio.create_task(device.provision(asked))
                assert await is_there(plant, f"hurried-{wire}")
                begun.cancel()
                await asyncio.gather(begun, return_exceptions=True)
            async with plant.line(wire) as device:
                began = time.monotonic()
                answer = await device.provision(plant.gate.request(f"late-{wire}"))
            assert time.monotonic() - began >= 0.15
            assert answer["status"] == "SUCCESS"
        await asyncio.sleep(0.2)  # until those of the hurried would have come


async def test_who_asks_again_gets_one_certificate_whatever_is_lost(new_plant: Any) -> None:
    """Half of all answers are lost, some late or double, over three wires by turns: a device that
    asks with the same key until it hears has one certificate, which lets it in on each of them."""
    mischief = {"drop": 50, "duplicate": 30, "most_delay_s": 0.02, "seed": 5, "only": "provision"}
    async with chaos_plant(new_plant, **mischief) as plant:
        key = certs.new_key()
        asked = plant.gate.request("stubborn", csr=certs.csr(key))
        told = [await _until_told(plant, wire, asked) for wire in SECURE[:2] * 2]
        identity = identity_in(told[0], key)
        assert [identity_in(one, key).der for one in told] == [identity.der] * len(told)
        token = await _until_told(plant, "coaps", plant.gate.request("small", nonce=NONCE))
        assert token == await _until_told(plant, "https", plant.gate.request("small", nonce=NONCE))
        for wire, granted in zip(SECURE, ("200", "CONNACK 0", "2.01"), strict=True):
            assert await plant.answer(wire, identity) == granted
        rows = await plant.gate.gateway.store.driver.read("SELECT count(*) FROM certificate")
        assert rows == [(1,)]
        assert await plant.devices() == {"stubborn", "small"}


async def _until_told(plant: Plant, wire: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The first answer that arrives; each time over a connection of its own, and more patiently."""
    for patience in range(1, 41):
        try:
            async with asyncio.timeout(0.2 * patience), plant.line(wire) as device:
                return await device.provision(asked)
        except (Lost, ConnectionError, EOFError, TimeoutError):
            continue
    raise AssertionError(f"nothing was heard over {wire}")
