"""A device's MQTT session: what it is told, on which topics, and how it ends."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.core import renewals
from gateway.core.errors import StoreUnavailable
from gateway.core.model import AttributesChange, Device, DeviceProfile, RpcCall
from gateway.core.profiles import Profiles
from gateway.core.rpc import RpcOutcome
from gateway.wire.call import Status

if TYPE_CHECKING:
    from conftest import House

CALLS = ("v1/devices/me/rpc/request/+", "v2/r/req/+", "v2/r/req/j/+")
UPDATES = ("v1/devices/me/attributes", "v2/a", "v2/a/j")


async def called(house: House) -> RpcOutcome:
    """How a one-way call on the device ends."""
    device = await house.device()
    return (
        await house.rpc.call(RpcCall(device_id=device.id, method="m", two_way=False), 1.0)
    ).outcome


# ── what it is told ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("topic", UPDATES)
async def test_a_subscriber_is_told_of_shared_attributes(house: House, topic: str) -> None:
    """Of changes alone: there is no first message with the state as it is (section 8)."""
    token = await house.add()
    await house.share(before=1)
    client = await house.connect(token)
    await house.share(unheard=1)
    client.subscribe(topic)
    assert client.link.sent == []
    await house.share(a=1, b="x")
    await house.share("a")
    assert [(where, json.loads(body)) for where, body in client.link.sent] == [
        (topic, {"a": 1, "b": "x"}),
        (topic, {"deleted": ["a"]}),
    ]


async def test_the_family_subscribed_to_last_is_used(house: House) -> None:
    """Subscribing again counts; without it the one before is used, and without any none."""
    client = await house.connect(await house.add())
    client.subscribe(*UPDATES, UPDATES[0])
    client.subscribe(*CALLS)
    expected = [UPDATES[0], UPDATES[2], UPDATES[1]]
    for topic in expected:
        await house.share(n=1)
        assert client.link.sent.pop()[0] == topic
        client.guest.unsubscribed(topic)
    for number, topic in enumerate(reversed(CALLS)):
        assert await called(house) is RpcOutcome.SENT
        assert client.link.sent.pop()[0] == topic.replace("+", str(number))
        client.guest.unsubscribed(topic)
    await house.share(n=2)
    assert await called(house) is RpcOutcome.NOT_CONNECTED
    assert client.link.sent == []


async def test_who_did_not_subscribe_is_not_called(house: House) -> None:
    """Attributes and calls are asked for one by one (section 7.4)."""
    client = await house.connect(await house.add())
    client.subscribe(UPDATES[0], "v1/devices/me/rpc/response/+", "v2/fw/error")
    assert await called(house) is RpcOutcome.NOT_CONNECTED
    client.subscribe(CALLS[0])
    assert await called(house) is RpcOutcome.SENT


async def test_a_call_is_delivered_when_the_client_acknowledged_it(house: House) -> None:
    """What the transport says of a PUBACK reaches the store."""
    token = await house.add()
    stored = await house.registry.calls.save(
        await house.known(), "m", lasts_s=600, two_way=False, persistent=True
    )
    assert stored is not None
    client = await house.connect(token)
    client.subscribe(CALLS[0])
    await house.settle()
    (acknowledged,) = client.link.acknowledge
    (before,) = await house.registry.calls.of(await house.known())
    acknowledged()
    await house.settle()
    (after,) = await house.registry.calls.of(await house.known())
    assert (before.state.value, after.state.value) == ("SENT", "SUCCESSFUL")


async def test_a_session_that_hung_up_is_told_nothing(house: House) -> None:
    """It is gone from the list of sessions, and what still comes does no harm."""
    client = await house.connect(await house.add())
    client.subscribe(UPDATES[0], CALLS[0])
    client.guest.heard()
    client.hang_up()
    assert len(house.sessions) == 0
    assert await called(house) is RpcOutcome.NOT_CONNECTED
    client.guest.unsubscribed(UPDATES[0])
    guest: Any = client.guest
    guest.subscribed(UPDATES[0])
    guest.attributes_changed(AttributesChange({"a": 1}))
    assert client.link.sent == []


# ── how it ends ───────────────────────────────────────────────────────────────────────────────


async def test_the_newer_session_of_a_device_stands(house: House) -> None:
    """The older is told so, and its end does not touch the newer (section 7.4)."""
    token = await house.add()
    older = await house.connect(token)
    newer = await house.connect(token)
    assert (older.link.closed, newer.link.closed) == (0x8E, None)
    older.hang_up()
    newer.subscribe(UPDATES[0])
    await house.share(a=1)
    assert len(newer.link.sent) == 1


@pytest.mark.parametrize("change", ["credentials", "removed"])
async def test_a_device_without_its_login_has_no_session(house: House, change: str) -> None:
    """New credentials and removal are both administrative (section 7.4)."""
    client = await house.connect(await house.add())
    if change == "credentials":
        await house.registry.replace_credentials(await house.known())
    else:
        await house.registry.remove_device(await house.known())
    await house.feed.look()
    assert client.link.closed == 0x98
    assert len(house.sessions) == 0


# ── a changed profile ─────────────────────────────────────────────────────────────────────────


async def test_a_changed_profile_holds_for_open_sessions(house: House) -> None:
    """Topics, filters and conduct are those of its new revision, without a new connection."""
    await house.profile("wired")
    client = await house.connect(await house.add("d", "wired"))
    client.subscribe(UPDATES[0])
    strict = client.admitted.conduct[Status.UNDECODABLE]
    await house.profile(
        "wired",
        thingsboard={
            "telemetry_topic": "sensors/+/data",
            "attributes_subscribe_topic": "shared",
            "send_ack_on_validation_exception": True,
        },
    )
    await house.feed.look()
    await house.settle()
    assert (await client.publish("sensors/9/data", '{"a":1}')).status is Status.OK
    assert (await client.publish("v1/devices/me/telemetry", '{"a":2}')).status is Status.NOT_FOUND
    assert await house.readings() == {"a": 1}
    assert strict.close_v3
    assert not client.admitted.conduct[Status.UNDECODABLE].close_v3
    await house.share(n=1)
    assert client.link.sent == []  # what it subscribed to is no more
    client.subscribe("shared")
    await house.share(n=2)
    assert client.link.sent == [("shared", b'{"n":2}')]


async def test_a_changed_profile_is_read_once_for_all_sessions(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are; and again when the store could not be read."""
    clients = [await house.connect(await house.add(f"d{number}")) for number in range(5)]
    reads = 0
    fresh = Profiles.of

    async def counted(self: Profiles, device: Device) -> DeviceProfile:
        nonlocal reads
        reads += 1
        if reads == 1:
            raise StoreUnavailable("the disk is full")
        return await fresh(self, device)

    monkeypatch.setattr(Profiles, "of", counted)
    monkeypatch.setattr(renewals, "RETRY_S", 0.001)
    await house.profile(thingsboard={"telemetry_topic": "mine"})
    await house.feed.look()
    await house.settle()
    assert reads == 2
    for client in clients:
        assert (await client.publish("mine", "{}")).status is Status.OK


async def test_a_change_during_a_change_is_not_missed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks while settings are read gets those that are read next."""
    client = await house.connect(await house.add())
    fresh = Profiles.of
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(self: Profiles, device: Device) -> DeviceProfile:
        profile = await fresh(self, device)
        reading.set()
        await go_on.wait()
        return profile

    monkeypatch.setattr(Profiles, "of", slowly)
    for topic in ("first", "second"):
        await house.profile(thingsboard={"telemetry_topic": topic})
        await house.feed.look()
        await reading.wait()
    go_on.set()
    await house.settle()
    assert (await client.publish("second", "{}")).status is Status.OK
