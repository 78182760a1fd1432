"""A device offers itself to whoever knows its key, on every wire, and is told nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.core.limits import Limits, RateLimiter, parse_rate
from gateway.core.model import ClaimResult, Secret, Wire
from gateway.wire.call import Status

if TYPE_CHECKING:
    from conftest import House

CLAIM = '{"secretKey":"sesame","durationMs":60000}'


@pytest.mark.parametrize("way", ["mqtt", "http", "coap"])
async def test_a_device_is_claimed_with_the_key_it_offered(house: House, way: str) -> None:
    """The answer is the same whether the claim stands or another one does (section 18)."""
    token = await house.add()
    for body in (CLAIM, '{"secretKey":"other"}', ""):
        if way == "mqtt":
            client = await house.connect(token)
            reply = await client.publish("v1/devices/me/claim", body)
            code = None
        else:
            wire = Wire(way)
            code, reply = await house.ask(wire, f"POST /api/v1/{token}/claim", body)
        assert (reply.status, reply.body) == (Status.OK, b"")
        assert code == (201 if way == "coap" else None)
    result = await house.registry.claim(await house.known(), "Acme", Secret("sesame"))
    assert result is ClaimResult.SUCCESS


async def test_a_claim_lasts_as_long_as_it_says(house: House) -> None:
    """Afterwards it is gone, and the device may offer another."""
    client = await house.connect(await house.add())
    await client.publish("v1/devices/me/claim", CLAIM)
    house.clock.now += 60_001
    known = await house.known()
    assert await house.registry.claim(known, "Acme", Secret("sesame")) is ClaimResult.FAILURE
    await client.publish("v1/devices/me/claim", "{}")
    house.clock.now += 60_001
    assert await house.registry.claim(known, "Acme", Secret("")) is ClaimResult.SUCCESS


async def test_a_bad_claim_and_too_many(house: House) -> None:
    """A payload that makes no sense is told; what is too much is 500 and 5.00."""
    house.begin(limiter=RateLimiter(device=Limits(messages=parse_rate("1:60"))))
    token = await house.add()
    for wire in (Wire.HTTP, Wire.COAP):
        _, reply = await house.ask(wire, f"POST /api/v1/{token}/claim", '{"durationMs":-1}')
        assert reply.status is Status.BAD_REQUEST
    await house.ask(Wire.HTTP, f"POST /api/v1/{token}/claim", CLAIM)
    for wire in (Wire.HTTP, Wire.COAP):
        code, reply = await house.ask(wire, f"POST /api/v1/{token}/claim", CLAIM)
        assert (code, reply.status) == (500, Status.LIMITED)
