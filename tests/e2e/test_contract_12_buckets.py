"""Section 12 of the contract on sockets: how the counters fill, and what they have no hold of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from contract import CLOSED, add_gateway, add_package, assign, save_profile, session_of
from inside import NewGate
from wires import (
    DISCONNECT,
    GET,
    POST,
    WIRES,
    coap,
    connect_packet,
    dotted,
    http,
    mqtt,
    provisioned,
)

from gateway.settings import StoreSettings

SPENT = {f"{whose}_messages": "1:60" for whose in ("organisation", "device", "gateway")}


async def test_all_devices_of_an_organisation_together(new_gate: NewGate) -> None:
    """What one device took another lacks, over whatever wire."""
    gate = await new_gate(limits={"organisation_telemetry_points": "4:60"})
    tokens = [await gate.add(name) for name in ("a", "b", "c")]
    async with http(gate.ports.http) as web, coap(gate.ports.coap) as device:
        reply = await web.ask("POST", f"/api/v1/{tokens[0]}/telemetry", b'{"x":1,"y":2}')
        assert reply.status == 200
        posted = await device.ask(POST, f"api/v1/{tokens[1]}/attributes", b'{"x":1}')
        assert dotted(posted) == "2.01"
        posted = await device.ask(POST, f"api/v1/{tokens[1]}/telemetry", b'{"x":1,"y":2}')
        assert dotted(posted) == "5.00"  # two are too many, and nothing is taken
        async with session_of(gate, tokens[2]) as session:
            await session.deliver("v2/t", b'{"x":1}')
            session.publish("v2/t", b'{"x":1}', 1)
            assert await session.outcome() == [(DISCONNECT, 0x83), CLOSED]
        reply = await web.ask("POST", f"/api/v1/{tokens[0]}/attributes", b'{"x":1}')
        assert (reply.status, reply.body) == (500, b"")


async def test_more_values_than_ever_fit(new_gate: NewGate) -> None:
    """Are refused every time, and cost nothing."""
    gate = await new_gate(limits={"device_telemetry_points": "2:60"})
    token = await gate.add("d")
    path = f"/api/v1/{token}/telemetry"
    async with http(gate.ports.http) as web:
        for body, status in (
            (b'[{"a":1},{"a":2},{"a":3}]', 500),
            (b"[]", 200),
            (b'[{"a":1},{"ts":1,"values":{"a":2}}]', 200),
            (b'{"a":1}', 500),
        ):
            assert (await web.ask("POST", path, body)).status == status, body


async def test_buckets_fill_again(new_gate: NewGate) -> None:
    """Evenly; of two windows each holds, and an empty text of the profile lifts a limit."""
    gate = await new_gate(limits={"device_telemetry_points": "1:60"})
    limits = {"telemetry_points": "", "telemetry_messages": "2:2,3:60"}
    await save_profile(gate, "own", limits=limits)
    token = await gate.add("d", "own")
    path = f"/api/v1/{token}/telemetry"
    async with http(gate.ports.http) as web:

        async def send() -> int:
            return (await web.ask("POST", path, b'{"a":1,"b":2}')).status

        assert [await send() for _ in range(3)] == [200, 200, 500]
        await asyncio.sleep(1.05)  # one of two in two seconds
        assert [await send() for _ in range(2)] == [200, 500]
        await asyncio.sleep(1.05)
        assert await send() == 500  # the third of a minute was the last


@pytest.mark.parametrize("wire", WIRES)
async def test_provisioning_takes_nothing(new_gate: NewGate, wire: str) -> None:
    """A fleet is born though its organisation has nothing left."""
    gate = await new_gate(limits={**SPENT, "organisation_telemetry_messages": "1:60"})
    for number in range(3):
        answer = await provisioned(gate.ports, wire, gate.request(f"d{number}"))
        assert answer["status"] == "SUCCESS"


@pytest.mark.parametrize("whose", ["organisation", "device", "gateway"])
@pytest.mark.parametrize("version", [3, 4, 5])
async def test_connecting_takes_a_message(new_gate: NewGate, version: int, whose: str) -> None:
    """From who connects and its organisation; then it is 3, or 0x9F."""
    gate = await new_gate(limits={f"{whose}_messages": "1:60"})
    token = await (add_gateway(gate) if whose == "gateway" else gate.add("d"))
    for code in (0, 0x9F if version == 5 else 3):
        async with mqtt(gate.ports.mqtt, version) as session:
            session.send(connect_packet(version, "c", token))
            answered = await session.next()
            assert answered is not None
            assert answered.body[1] == code


async def test_downloads(new_gate: NewGate, tmp_path: Path) -> None:
    """A limit is 500, 5.00, and the end of an MQTT session (sections 10, 11, 14)."""
    on_disk = StoreSettings(url=f"sqlite:{tmp_path / 'gate.db'}")
    gate = await new_gate(limits={"device_messages": "3:60"}, store=on_disk)
    token = await gate.add("d")
    await assign(gate, await add_package(gate, tmp_path, b"content"))
    async with session_of(gate, token) as session:
        for number, chunk in enumerate((b"cont", b"ent")):
            session.publish(f"v2/fw/request/1/chunk/{number}", b"4")
            assert (await session.published()).payload == chunk
        session.publish("v2/fw/request/1/chunk/2", b"")
        assert await session.outcome() == [(DISCONNECT, 0x83), CLOSED]
    async with http(gate.ports.http) as web, coap(gate.ports.coap) as device:
        for feature in ("firmware", "software"):
            reply = await web.ask("GET", f"/api/v1/{token}/{feature}?title=app&version=1")
            assert (reply.status, reply.body) == (500, b"")
        for feature in ("fw", "sw"):
            assert dotted(await device.ask(GET, f"{feature}/{token}")) == "5.00"
