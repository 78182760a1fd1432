"""Telemetry and attributes on every wire: kept, asked for, polled and observed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.core.limits import Limits, RateLimiter, parse_rate
from gateway.core.model import AttributesChange, AttributeScope, ProfileTransport, Wire
from gateway.core.sessions import Slot
from gateway.dialects.thingsboard.device import DeviceLimits
from gateway.wire.call import Format, Reply, Status

if TYPE_CHECKING:
    from conftest import House

FAMILIES = ("v1/devices/me/telemetry", "v2/t", "v2/t/j")
ATTRIBUTES = ("v1/devices/me/attributes", "v2/a", "v2/a/j")


# ── what it says ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("topic", FAMILIES)
async def test_telemetry_over_mqtt(house: House, topic: str) -> None:
    """Every family's topic takes it, and it is kept when the answer comes."""
    client = await house.connect(await house.add())
    assert (await client.publish(topic, '{"t":21.5}')).status is Status.OK
    assert await house.readings() == {"t": 21.5}


@pytest.mark.parametrize("topic", ATTRIBUTES)
async def test_attributes_over_mqtt(house: House, topic: str) -> None:
    """They are client attributes, and do not come back as updates (section 8)."""
    client = await house.connect(await house.add())
    client.subscribe(topic)
    assert (await client.publish(topic, '{"serial":"x-1"}')).status is Status.OK
    assert await house.attributes(AttributeScope.CLIENT) == {"serial": "x-1"}
    await house.feed.look()
    assert client.link.sent == []


@pytest.mark.parametrize(("wire", "created"), [(Wire.HTTP, None), (Wire.COAP, 201)])
async def test_telemetry_and_attributes_in_single_requests(
    house: House, wire: Wire, created: int | None
) -> None:
    """Over HTTP 200 and over CoAP 2.01, both without a body (sections 10 and 11)."""
    token = await house.add()
    for feature in ("telemetry", "attributes"):
        code, reply = await house.ask(wire, f"POST /api/v1/{token}/{feature}", '{"a":1}')
        assert (code, reply.status, reply.body) == (created, Status.OK, b"")
        _, reply = await house.ask(wire, f"POST /api/v1/wrong/{feature}", '{"a":1}')
        assert reply.status is Status.UNAUTHENTICATED
    assert await house.readings() == {"a": 1}
    assert await house.attributes(AttributeScope.CLIENT) == {"a": 1}


async def test_the_limit_of_values_holds_for_telemetry_and_attributes(house: House) -> None:
    """What is within it is kept, and of a message beyond it nothing is."""
    house.begin(limits=DeviceLimits(max_values=2))
    client = await house.connect(await house.add())
    for topic in ("v1/devices/me/telemetry", "v1/devices/me/attributes"):
        assert (await client.publish(topic, b'{"a":1,"b":2}')).status is Status.OK
        reply = await client.publish(topic, b'{"c":1,"d":2,"e":3}')
        assert reply.status is Status.BAD_REQUEST
        assert reply.reason == "at most 2 values in one message"
    assert await house.readings() == {"a": 1, "b": 2}
    assert await house.attributes(AttributeScope.CLIENT) == {"a": 1, "b": 2}


async def test_what_is_too_much_is_not_kept(house: House) -> None:
    """Points are counted before anything is stored; the wires have their own words for it."""
    limits = Limits(telemetry_points=parse_rate("3:60"))
    house.begin(limiter=RateLimiter(device=limits))
    token = await house.add()
    client = await house.connect(token)
    assert (await client.publish("v2/t", b'{"a":1,"b":2}')).status is Status.OK
    assert (await client.publish("v2/t", b'{"c":1,"d":2}')).status is Status.LIMITED
    assert await house.readings() == {"a": 1, "b": 2}
    for wire in (Wire.HTTP, Wire.COAP):
        for feature in ("telemetry", "attributes"):
            address = f"POST /api/v1/{token}/{feature}"
            code, reply = await house.ask(wire, address, b'{"c":1,"d":2}')
            assert (code, reply.status) == (500, Status.LIMITED)
            assert reply.retry_after_s > 0


async def test_questions_that_are_too_many_are_told_when_to_come_again(house: House) -> None:
    """Where ThingsBoard answers nothing, the status is left to the wire: 429, 4.29."""
    house.begin(limiter=RateLimiter(device=Limits(messages=parse_rate("1:60"))))
    token = await house.add()
    await house.ask(Wire.HTTP, f"GET /api/v1/{token}/attributes")
    for wire, path in (
        (Wire.HTTP, "attributes"),
        (Wire.HTTP, "attributes/updates"),
        (Wire.HTTP, "rpc"),
        (Wire.COAP, "attributes"),
        (Wire.COAP, "rpc"),
    ):
        code, reply = await house.ask(wire, f"GET /api/v1/{token}/{path}")
        assert (code, reply.status) == (None, Status.LIMITED), path
        assert 1 <= reply.retry_after_s <= 60


# ── what it asks for ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("request_topic", "response_topic"),
    [
        ("v1/devices/me/attributes/request/7", "v1/devices/me/attributes/response/7"),
        ("v2/a/req/7", "v2/a/res/7"),
        ("v2/a/req/j/7", "v2/a/res/j/7"),
    ],
)
async def test_attributes_are_answered_on_the_family_of_the_request(
    house: House, request_topic: str, response_topic: str
) -> None:
    """With the id of the request, both scopes, and a scope without values left out (section 8)."""
    client = await house.connect(await house.add())
    await house.share(interval=5)
    await client.publish("v1/devices/me/attributes", b'{"serial":"x-1"}')
    reply = await client.publish(request_topic)
    assert reply.topic == response_topic
    assert json.loads(reply.body) == {"client": {"serial": "x-1"}, "shared": {"interval": 5}}
    reply = await client.publish(request_topic, b'{"sharedKeys":"interval,none"}')
    assert json.loads(reply.body) == {"shared": {"interval": 5}}
    assert (await client.publish(request_topic, b'{"clientKeys":"none"}')).body == b"{}"


async def test_attributes_by_get(house: House) -> None:
    """HTTP answers `{}` when there are none, CoAP 4.04 (sections 10 and 11)."""
    token = await house.add()
    address = f"GET /api/v1/{token}/attributes"
    _, reply = await house.ask(Wire.HTTP, address)
    assert (reply.status, reply.body) == (Status.OK, b"{}")
    _, reply = await house.ask(Wire.COAP, address)
    assert (reply.status, reply.body) == (Status.NOT_FOUND, b"")
    await house.share(a=1, b=2)
    for wire in (Wire.HTTP, Wire.COAP):
        _, reply = await house.ask(wire, address, query={"sharedKeys": "b,c"})
        assert (reply.body, reply.format) == (b'{"shared":{"b":2}}', Format.JSON)
        _, reply = await house.ask(wire, address)
        assert json.loads(reply.body) == {"shared": {"a": 1, "b": 2}}


async def test_coap_has_no_other_features(house: House) -> None:
    """What is not there, and GET telemetry, are 4.00 to whoever has a token (section 10)."""
    token = await house.add()
    for address in ("GET /api/v1/{}/telemetry", "POST /api/v1/{}/nothing"):
        _, reply = await house.ask(Wire.COAP, address.format(token))
        assert reply.status is Status.BAD_REQUEST
        _, reply = await house.ask(Wire.COAP, address.format("wrong"))
        assert reply.status is Status.UNAUTHENTICATED


# ── long polls ────────────────────────────────────────────────────────────────────────────────


async def polling(house: House, token: str, **query: str) -> asyncio.Task[tuple[int | None, Reply]]:
    """A poll for changes, begun and waiting."""
    address = f"GET /api/v1/{token}/attributes/updates"
    task = asyncio.create_task(house.ask(Wire.HTTP, address, query=query))
    await house.settle()
    return task


async def test_a_poll_takes_the_next_change(house: House) -> None:
    """A flat object, or `{"deleted":[..]}`; afterwards nobody listens there any more."""
    token = await house.add()
    device = await house.device()
    poll = await polling(house, token, timeout="5000")
    await house.share(a=1)
    _, reply = await poll
    assert (reply.status, reply.body, reply.format) == (Status.OK, b'{"a":1}', Format.JSON)
    assert house.sessions.of(device.id) == ()
    poll = await polling(house, token)
    await house.share("a")
    assert (await poll)[1].body == b'{"deleted":["a"]}'


async def test_polls_of_one_device_all_hear(house: House) -> None:
    """A device may have any number of them at once."""
    token = await house.add()
    polls = [await polling(house, token) for _ in range(3)]
    await house.share(a=1)
    assert [(await poll)[1].body for poll in polls] == [b'{"a":1}'] * 3


async def test_a_poll_ends_after_its_time(house: House) -> None:
    """With 408, which has no body (section 11)."""
    token = await house.add()
    poll = await polling(house, token, timeout="1")
    _, reply = await poll
    assert (reply.status, reply.body) == (Status.TIMEOUT, b"")


@pytest.mark.parametrize("timeout", ["x", "-1", "1.5", "9" * 19])
async def test_a_poll_waits_for_a_number_of_milliseconds(house: House, timeout: str) -> None:
    """Anything else is a bad request, on both polls."""
    token = await house.add()
    for path in ("attributes/updates", "rpc"):
        address = f"GET /api/v1/{token}/{path}"
        _, reply = await house.ask(Wire.HTTP, address, query={"timeout": timeout})
        assert reply.status is Status.BAD_REQUEST


async def test_a_poll_learns_that_its_device_is_no_more(house: House) -> None:
    """With the contract's own words; after a change of credentials its token is no good."""
    token = await house.add()
    poll = await polling(house, token)
    await house.registry.replace_credentials(await house.known())
    await house.feed.look()
    assert (await poll)[1].status is Status.GONE
    poll = await polling(house, (await house.known()).credentials.id.reveal())
    await house.registry.remove_device(await house.known())
    await house.feed.look()
    _, reply = await poll
    assert (reply.status, reply.body) == (Status.DELETED, b"Device was deleted!")


async def test_a_poll_that_went_away_leaves_nothing_behind(house: House) -> None:
    """When its client is gone, its task is cancelled, and its session closed."""
    token = await house.add()
    poll = await polling(house, token)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    assert len(house.sessions) == 0
    assert house.polls.now == 0


# ── observations ──────────────────────────────────────────────────────────────────────────────


async def test_an_observation_begins_with_what_is_shared_now(house: House, watcher: Any) -> None:
    """A flat object, `{}` at first; then each change, deletions too, until it is ended."""
    token = await house.add()
    address = f"GET /api/v1/{token}/attributes"
    observer = watcher()
    _, reply = await house.ask(Wire.COAP, address, observer=observer)
    assert (reply.body, reply.format) == (b"{}", Format.JSON)
    assert reply.on_end is not None
    await house.settle()
    await house.share(a=1)
    await house.share("a", b=2)
    assert [one.body for one in observer.notified] == [b'{"a":1}', b'{"b":2,"deleted":["a"]}']
    reply.on_end()
    await house.share(c=3)
    assert len(observer.notified) == 2
    _, reply = await house.ask(Wire.COAP, address, observer=watcher())
    assert reply.body == b'{"b":2,"c":3}'


async def test_no_change_is_lost_while_an_observation_begins(house: House, watcher: Any) -> None:
    """What comes between the reading of the state and its answer follows as one notification."""
    token = await house.add()
    observer = watcher()
    asking = asyncio.create_task(
        house.ask(Wire.COAP, f"GET /api/v1/{token}/attributes", observer=observer)
    )
    device = await house.device()
    while not house.sessions.of(device.id):
        await asyncio.sleep(0)
    (session,) = house.sessions.of(device.id)
    assert session.slot is Slot.OBSERVED_ATTRIBUTES
    session.outlet.attributes_changed(AttributesChange({"a": 1, "b": 1}))
    session.outlet.attributes_changed(AttributesChange({"c": 1}, ("b",)))
    assert observer.notified == []
    await asking
    await house.settle()
    assert [json.loads(one.body) for one in observer.notified] == [
        {"a": 1, "c": 1, "deleted": ["b"]}
    ]


async def test_a_device_has_one_observation_of_its_attributes(house: House, watcher: Any) -> None:
    """A second one replaces the first, whose client is told the end (section 10)."""
    token = await house.add()
    address = f"GET /api/v1/{token}/attributes"
    first, second = watcher("first"), watcher("second")
    await house.ask(Wire.COAP, address, observer=first)
    await house.ask(Wire.COAP, address, observer=second)
    assert (first.ended, second.ended) == (True, False)
    await house.settle()
    await house.share(a=1)
    assert (len(first.notified), len(second.notified)) == (0, 1)
    await house.registry.remove_device(await house.known())
    await house.feed.look()
    assert second.ended


async def test_mqtt_devices_have_nothing_to_observe(house: House, watcher: Any) -> None:
    """A profile for another transport is 5.00 over CoAP (section 7.3)."""
    await house.profile("wired", transport=ProfileTransport.MQTT)
    token = await house.add("w", "wired")
    address = f"GET /api/v1/{token}/attributes"
    _, reply = await house.ask(Wire.COAP, address, observer=watcher())
    assert reply.status is Status.INTERNAL
    assert len(house.sessions) == 0
