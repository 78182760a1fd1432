"""Who gets an MQTT session, and what may be published and subscribed to in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.core.limits import Limits, RateLimiter, parse_rate
from gateway.core.model import Peer, Wire
from gateway.dialects.thingsboard.gateway_guest import GATEWAY_TOPICS, GatewayGuest
from gateway.wire.call import Admitted, Hello, Rejected, Status

if TYPE_CHECKING:
    from conftest import House

PEER = Peer(Wire.MQTT, "192.0.2.7:50123")
FILTERS = {
    *("v1/devices/me/attributes", "v1/devices/me/attributes/response/+"),
    *("v1/devices/me/rpc/request/+", "v1/devices/me/rpc/response/+"),
    *("v2/a", "v2/a/res/+", "v2/r/req/+", "v2/r/res/+"),
    *("v2/a/j", "v2/a/res/j/+", "v2/r/req/j/+", "v2/r/res/j/+"),
    "v1/devices/me/certificate/response",
    "v1/devices/me/certificate/response/+",
    "v1/devices/me/provision/response",
    *("v2/fw/response/+/chunk/+", "v2/fw/error", "v2/sw/response/+/chunk/+", "v2/sw/error"),
}


async def test_the_filters_of_a_device_are_those_of_the_contract(house: House) -> None:
    """Exactly those and our own, and no wildcard that takes in more (sections 7.4 and 8)."""
    client = await house.connect(await house.add())
    assert client.admitted.filters >= FILTERS
    protobuf = client.admitted.filters - FILTERS
    assert protobuf <= {"v2/a/p", "v2/a/res/p/+", "v2/r/req/p/+", "v2/r/res/p/+"}


async def test_sessions_of_one_profile_share_their_plan(house: House) -> None:
    """Routers are made for profiles, not for sessions, of which there are many thousands."""
    first = await house.connect(await house.add("a"))
    second = await house.connect(await house.add("b"))
    other = await house.connect(await house.add("c", "others"))
    assert first.admitted.router is second.admitted.router
    assert first.admitted.router is not other.admitted.router


async def test_a_silent_session_is_closed_after_its_time(house: House) -> None:
    """600 s unless configured; provisioning sessions have their own (section 7.4)."""
    token = await house.add()
    assert (await house.connect(token)).admitted.idle_s == 600.0
    house.begin(session_idle_s=5.0, provision_idle_s=7.0)
    assert (await house.connect(token)).admitted.idle_s == 5.0
    admitted = await house.dialect.connect(Hello("provision", None, None, PEER, 4))
    assert isinstance(admitted, Admitted)
    assert (admitted.name, admitted.idle_s, admitted.guest) == ("provision", 7.0, None)


async def test_connecting_counts_as_a_message(house: House) -> None:
    """One too many is refused: 3, or 0x9F (section 7.3)."""
    house.begin(limiter=RateLimiter(device=Limits(messages=parse_rate("2:60"))))
    token = await house.add()
    for _ in range(2):
        await house.connect(token)
    rejected = await house.dialect.connect(Hello("c", token, None, PEER, 5))
    assert isinstance(rejected, Rejected)
    assert (rejected.code_v3, rejected.code_v5) == (3, 0x9F)


async def test_a_profile_that_cannot_be_used_refuses_its_devices(house: House) -> None:
    """With "server unavailable", as one for another transport does."""
    await house.profile("odd", thingsboard={"telemetry_topic": "a/#/b"})
    token = await house.add("d", "odd")
    rejected = await house.dialect.connect(Hello("c", token, None, PEER, 5))
    assert isinstance(rejected, Rejected)
    assert (rejected.code_v3, rejected.code_v5) == (3, 0x88)


async def test_topics_of_a_profile_replace_those_of_v1(house: House) -> None:
    """Of their kind alone; the short topics and the requests stay (section 8)."""
    section = {
        "telemetry_topic": "plant/+/data/#",
        "attributes_topic": "plant/state",
        "attributes_subscribe_topic": "plant/+/shared/#",
    }
    await house.profile("plant", thingsboard=section)
    client = await house.connect(await house.add("d", "plant"))
    for topic in ("plant/1/data", "plant//data/a/b", "v2/t", "v2/t/j"):
        assert (await client.publish(topic, '{"a":1}')).status is Status.OK, topic
    for topic in ("v1/devices/me/telemetry", "v1/devices/me/attributes", "plant/1/2/data"):
        assert (await client.publish(topic, '{"a":1}')).status is Status.NOT_FOUND, topic
    assert (await client.publish("plant/state", '{"b":1}')).status is Status.OK
    reply = await client.publish("v1/devices/me/attributes/request/1")
    assert (reply.topic, reply.body) == (
        "v1/devices/me/attributes/response/1",
        b'{"client":{"b":1}}',
    )
    assert "v1/devices/me/attributes" not in client.admitted.filters
    client.subscribe("plant/+/shared/#")
    await house.share(n=1)
    assert client.link.sent == [("plant/me/shared/me", b'{"n":1}')]


@pytest.mark.parametrize("lenient", [False, True])
async def test_a_bad_payload_may_be_acknowledged(house: House, lenient: bool) -> None:
    """`send_ack_on_validation_exception`: an older client keeps its connection (section 7.4)."""
    await house.profile("p", thingsboard={"send_ack_on_validation_exception": lenient})
    client = await house.connect(await house.add("d", "p"))
    reply = await client.publish("v1/devices/me/telemetry", "{")
    assert reply.status is Status.UNDECODABLE
    for status in (Status.UNDECODABLE, Status.BAD_REQUEST):
        conduct = client.admitted.conduct[status]
        assert (conduct.ack, conduct.close, conduct.close_qos0) == (0x99, None, 0x99)
        assert (conduct.ack_v3, conduct.close_v3) == (lenient, not lenient)


async def test_what_is_too_much_ends_the_session(house: House) -> None:
    """Without an acknowledgement, 0x83 (section 7.4)."""
    client = await house.connect(await house.add())
    for status in (Status.LIMITED, Status.INTERNAL):
        conduct = client.admitted.conduct[status]
        assert (conduct.ack, conduct.close, conduct.ack_v3, conduct.close_v3) == (
            *(None, 0x83),
            *(False, True),
        )


async def test_a_device_that_is_no_gateway_is_ignored_there(house: House) -> None:
    """No acknowledgement, and no end either; its filters are refused (section 9)."""
    client = await house.connect(await house.add())
    assert client.admitted.name == "device"
    for topic in ("telemetry", "connect", "attributes/request", "nothing", ""):
        reply = await client.publish(f"v1/gateway/{topic}", '{"A":[{"a":1}]}')
        assert reply.status is Status.IGNORED, topic
    assert not client.admitted.filters & GATEWAY_TOPICS
    assert await house.registry.device("A") is None


async def test_a_gateway_speaks_for_itself_and_for_others(house: House) -> None:
    """Its own topics are those of any device, with those of gateways beside them."""
    await house.profile("gates")
    token = await house.add_gateway("gate", "gates")
    client = await house.connect(token)
    assert client.admitted.name == "gateway"
    assert isinstance(client.guest, GatewayGuest)
    assert client.admitted.filters >= FILTERS | GATEWAY_TOPICS
    assert (await client.publish("v1/devices/me/telemetry", '{"own":1}')).status is Status.OK
    assert (await client.publish("v1/gateway/telemetry", '{"A":[{"a":1}]}')).status is Status.OK
    assert await house.readings("gate") == {"own": 1}
    assert await house.readings("A") == {"a": 1}
    client.subscribe("v1/devices/me/attributes")
    await house.share(to="gate", n=1)
    assert client.link.sent == [("v1/devices/me/attributes", b'{"n":1}')]
    device = await house.connect(await house.add("plain", "gates"))
    assert device.admitted.name == "device"
