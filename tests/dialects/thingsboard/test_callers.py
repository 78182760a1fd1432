"""Who calls, in which format, and by which settings: those of the device's profile as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.core.limits import Limits, RateLimiter, parse_rate
from gateway.core.model import Peer, Wire
from gateway.dialects.thingsboard.callers import Callers
from gateway.dialects.thingsboard.codecs import JSON
from gateway.wire.call import Call, Format, Reply, Status

if TYPE_CHECKING:
    from conftest import House

BINARY = {
    "payload": "PROTOBUF",
    "telemetry_schema": 'syntax = "proto3"; message T { optional double t = 1; }',
    "attributes_schema": 'syntax = "proto3"; message A { optional string a = 1; }',
}


def callers(house: House, limiter: RateLimiter | None = None) -> Callers:
    parts = house.parts
    return Callers(
        parts["access"],
        parts["profiles"],
        limiter or RateLimiter(),
        house.attendance,
        house.clock,
    )


def by(wire: Wire, token: str | None = None) -> Call:
    return Call(b"", Peer(wire, "192.0.2.7:50123"), {"token": token} if token else {})


async def test_a_token_is_a_device(house: House) -> None:
    """And none, or a wrong one, is nobody."""
    token = await house.add()
    who = callers(house)
    assert await who.device(by(Wire.HTTP, token)) == await house.device()
    for call in (by(Wire.HTTP, "wrong"), by(Wire.COAP)):
        reply = await who.device(call)
        assert isinstance(reply, Reply)
        assert reply.status is Status.UNAUTHENTICATED


async def test_the_format_is_the_profiles_and_json_over_http(house: House) -> None:
    """HTTP knows nothing else (section 11)."""
    await house.profile("binary", thingsboard=BINARY)
    await house.add("b", "binary")
    await house.add("j")
    who = callers(house)
    binary, plain = await house.device("b"), await house.device("j")
    assert (await who.codec(by(Wire.COAP), binary)).format is Format.PROTOBUF
    assert await who.codec(by(Wire.HTTP), binary) is JSON
    assert await who.codec(by(Wire.COAP), plain) is JSON


async def test_settings_are_read_once_for_each_revision(house: House) -> None:
    """A device that was read after a change brings the change with it."""
    await house.add()
    who = callers(house)
    before = await who.settings(await house.device())
    assert await who.settings(await house.device()) is before
    await house.profile(thingsboard={"send_ack_on_validation_exception": True})
    after = await who.settings(await house.device())
    assert after.revision > before.revision
    assert after.dialect.send_ack_on_validation_exception


@pytest.mark.parametrize("gateway", [False, True])
async def test_a_profiles_limits_stand_above_those_of_all(house: House, gateway: bool) -> None:
    """What it leaves out is as configured for devices, or for gateways (section 12)."""
    await house.profile("tame", limits={"telemetry_messages": "1:60"})
    await (house.add_gateway("d", "tame") if gateway else house.add("d", "tame"))
    limiter = RateLimiter(
        device=Limits(messages=parse_rate("2:60")), gateway=Limits(messages=parse_rate("3:60"))
    )
    who = callers(house, limiter)
    device = await house.device()
    assert await who.limited(device, 5) is None
    limited = await who.limited(device, 5)
    assert limited is not None
    assert (limited.status, limited.retry_after_s) == (Status.LIMITED, 60)
    assert limited.reason.endswith("(telemetry_messages) is reached")
    told = [await who.limited(device) for _ in range(4)]
    assert told.index(next(one for one in told if one is not None)) == (3 if gateway else 2)
