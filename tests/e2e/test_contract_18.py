"""Section 18 of the contract on sockets, where no other test has its row: claiming."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from contract import PROTOBUF, save_profile, session_of
from inside import Gate
from operating import Operator
from wires import DISCONNECT, POST, PUBACK, coap, dotted, http

from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    ClaimResult,
    ProfileTransport,
    Secret,
    Value,
)
from gateway.dialects.thingsboard import device_api_pb2 as wire

SUCCESS, FAILURE, CLAIMED = ClaimResult.SUCCESS, ClaimResult.FAILURE, ClaimResult.CLAIMED


async def claimed(gate: Gate, key: str, customer: str = "Acme") -> ClaimResult:
    return await gate.registry.claim(await Operator(gate).known(), customer, Secret(key))


async def offered(gate: Gate, token: str, key: str, **more: int) -> None:
    """Over HTTP, which is always 200."""
    async with http(gate.ports.http) as web:
        body = json.dumps({"secretKey": key, **more}).encode()
        reply = await web.ask("POST", f"/api/v1/{token}/claim", body)
        assert (reply.status, reply.body) == (200, b"")


async def set_on_server(gate: Gate, **values: Value) -> None:
    known, change = await Operator(gate).known(), AttributesChange(values)
    await gate.registry.change_attributes(known, AttributeScope.SERVER, change)


async def test_a_claim_expires(gate: Gate) -> None:
    """After the time the device said it is worth nothing, and the next one stands."""
    token = await gate.add("d")
    await offered(gate, token, "short", durationMs=1)
    await asyncio.sleep(0.01)
    assert await claimed(gate, "short") is FAILURE
    await offered(gate, token, "short", durationMs=1)
    await asyncio.sleep(0.01)
    await offered(gate, token, "next")  # in the place of one that nobody asked for
    assert await claimed(gate, "next") is SUCCESS


async def test_one_customer_has_a_device(gate: Gate) -> None:
    """Of many that know the key one gets it; taken back, it may be claimed anew."""
    token = await gate.add("d")
    await offered(gate, token, "k")
    results = await asyncio.gather(*(claimed(gate, "k", f"c{number}") for number in range(8)))
    assert sorted(results) == sorted([SUCCESS, *[CLAIMED] * 7])
    await offered(gate, token, "k")
    assert await gate.registry.unclaim(await Operator(gate).known())
    assert await claimed(gate, "k") is FAILURE  # what it offered meanwhile was refused
    await offered(gate, token, "k")
    assert await claimed(gate, "k") is SUCCESS


async def test_claims_that_people_set(gate: Gate) -> None:
    """In the server attribute `claimingData`, until their time; the device's own come first."""
    token = await gate.add("d")
    now = int(time.time() * 1000)
    for lasts, key, result in ((-1, "p", FAILURE), (60_000, "x", FAILURE), (60_000, "p", SUCCESS)):
        data = json.dumps({"secretKey": "p", "expirationTime": now + lasts})
        await set_on_server(gate, claimingData=data)
        if key == "x":
            await offered(gate, token, "own")
            assert await claimed(gate, "p") is FAILURE  # and the device's own is dropped
        assert await claimed(gate, key) is result
    assert "claimingData" not in await Operator(gate).attributes(AttributeScope.SERVER)


@pytest.mark.parametrize("allowed", [False, "true", 1])
async def test_only_true_allows(gate: Gate, allowed: Value) -> None:
    """`claimingAllowed` is a boolean; the device is never told."""
    await save_profile(gate, "off", claiming_allowed=False)
    token = await gate.add("d", "off")
    await set_on_server(gate, claimingAllowed=allowed)
    await offered(gate, token, "k")
    assert await claimed(gate, "k") is FAILURE


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'"k"', b'{"durationMs":-1}', b'{"durationMs":"x"}', b'{"secretKey":[]}']
)
async def test_offers_that_make_no_sense(gate: Gate, body: bytes) -> None:
    """Are bad payloads on every wire, and nothing is stored."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/claim"
    async with http(gate.ports.http) as web, coap(gate.ports.coap) as device:
        assert (await web.ask("POST", path, body)).status == 400
        assert dotted(await device.ask(POST, path, body)) == "4.00"
    async with session_of(gate, token) as session:
        session.publish("v1/devices/me/claim", body, 1)
        reason = 0x99
        assert await session.outcome() in ([(PUBACK, reason)], [(DISCONNECT, 0x83), (0, 0)])
    assert await claimed(gate, "") is FAILURE


async def test_offers_in_protobuf(gate: Gate) -> None:
    """A profile of schemas offers with the fixed message, whose fields may be left out too."""
    await save_profile(gate, "binary", ProfileTransport.MQTT, thingsboard=PROTOBUF)
    async with session_of(gate, await gate.add("d", "binary")) as session:
        offer = wire.ClaimDevice(secretKey="k", durationMs=60_000).SerializeToString()
        await session.deliver("v1/devices/me/claim", offer)
        assert await claimed(gate, "wrong") is FAILURE
        await session.deliver("v1/devices/me/claim", b"")
        assert await claimed(gate, "") is SUCCESS
