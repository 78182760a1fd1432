"""Calls of methods: a device's on us, and ours on it, over every wire and family."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.core.limits import Limits, RateLimiter, parse_rate
from gateway.core.methods import Methods
from gateway.core.model import Device, RpcCall, RpcState, Wire
from gateway.core.rpc import FIRST_PERSISTENT, RpcOutcome, RpcResult
from gateway.dialects.thingsboard.device import DeviceLimits
from gateway.dialects.thingsboard.rpc import RpcApi
from gateway.wire.call import Format, Reply, Status

if TYPE_CHECKING:
    from conftest import House

GET_TIME = '{"method":"getCurrentTime","params":{}}'
CLIENT = [
    ("v1/devices/me/rpc/request/4", "v1/devices/me/rpc/response/4"),
    ("v2/r/req/4", "v2/r/res/4"),
    ("v2/r/req/j/4", "v2/r/res/j/4"),
]
SERVER = [
    ("v1/devices/me/rpc/request/+", "v1/devices/me/rpc/request/", "v1/devices/me/rpc/response/"),
    ("v2/r/req/+", "v2/r/req/", "v2/r/res/"),
    ("v2/r/req/j/+", "v2/r/req/j/", "v2/r/res/j/"),
]


async def call(house: House, method: str = "m", params: str = "{}") -> asyncio.Task[RpcResult]:
    """A call of ours on the device, begun and sent."""
    device = await house.device()
    rpc_call = RpcCall(device_id=device.id, method=method, params=params)
    task = asyncio.create_task(house.rpc.call(rpc_call, 5.0))
    await asyncio.sleep(0)
    return task


# ── a device calls us ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("asked", "answered"), CLIENT)
async def test_a_call_is_answered_on_the_family_it_came_by(
    house: House, asked: str, answered: str
) -> None:
    """With its id, whether or not the device subscribed to the answer (section 8)."""
    client = await house.connect(await house.add())
    reply = await client.publish(asked, GET_TIME)
    assert (reply.topic, reply.format) == (answered, Format.JSON)
    assert json.loads(reply.body) == {"currentTime": house.clock.now}
    reply = await client.publish(asked, '{"method":"nothing"}')
    assert json.loads(reply.body) == {"error": "no such method"}
    for body in ("", "{}", "[1]"):
        assert (await client.publish(asked, body)).status in (
            Status.BAD_REQUEST,
            Status.UNDECODABLE,
        )


async def test_a_call_over_http_and_coap(house: House) -> None:
    """The answer is the body. HTTP wants method and params both, CoAP the method alone."""
    token = await house.add()
    address = f"POST /api/v1/{token}/rpc"
    for wire, code in ((Wire.HTTP, None), (Wire.COAP, 205)):
        got, reply = await house.ask(wire, address, GET_TIME)
        assert (got, reply.format) == (code, Format.JSON)
        assert json.loads(reply.body) == {"currentTime": house.clock.now}
    without = '{"method":"getCurrentTime"}'
    _, reply = await house.ask(Wire.HTTP, address, without)
    assert (reply.status, reply.reason) == (Status.BAD_REQUEST, "params is missing")
    _, reply = await house.ask(Wire.COAP, address, without)
    assert reply.status is Status.OK
    got, reply = await house.ask(Wire.COAP, address, "[1]")
    assert got == 500  # no JSON object (section 10)
    got, reply = await house.ask(Wire.COAP, address, "{}")
    assert (got, reply.status) == (None, Status.BAD_REQUEST)


async def test_a_hook_is_given_what_the_device_asked(house: House) -> None:
    """Method and params as they were written; what it answers is the answer."""
    heard: list[tuple[str, str, str]] = []

    async def hook(device: Device, method: str, params: str) -> bytes:
        heard.append((device.name, method, params))
        return b'{"ok":true}'

    house.begin(methods=Methods(house.clock, hook=hook))
    client = await house.connect(await house.add())
    reply = await client.publish(CLIENT[0][0], '{"method":"m","params":{ "a": 1 }}')
    await client.publish(CLIENT[0][0], '{"method":"m"}')
    assert reply.body == b'{"ok":true}'
    assert heard == [("d", "m", '{ "a": 1 }'), ("d", "m", "null")]


async def test_a_call_that_takes_too_long_is_told_so(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MQTT is answered `{"error":"timeout"}`; HTTP is 408, CoAP 5.04: the transports' numbers."""

    async def hook(device: Device, method: str, params: str) -> bytes:
        await asyncio.sleep(60)
        return b"{}"

    init = RpcApi.__init__

    def impatient(self: RpcApi, *parts: Any) -> None:
        init(self, *parts, client_timeout_s=0.01, coap_timeout_s=0.01)

    monkeypatch.setattr(RpcApi, "__init__", impatient)
    house.begin(methods=Methods(house.clock, hook=hook))
    token = await house.add()
    client = await house.connect(token)
    body = '{"method":"slow","params":{}}'
    assert (await client.publish(CLIENT[0][0], body)).body == b'{"error":"timeout"}'
    for wire in (Wire.HTTP, Wire.COAP):
        _, reply = await house.ask(wire, f"POST /api/v1/{token}/rpc", body)
        assert reply.status is Status.TIMEOUT


async def test_session_limits_are_told_on_the_v1_topic(house: House) -> None:
    """As texts, null for unlimited; the profile's own stand above those of all (section 8)."""
    house.begin(
        limiter=RateLimiter(device=Limits(messages=parse_rate("10:1,60:60"))),
        limits=DeviceLimits(max_payload_bytes=1000, max_inflight=7),
    )
    asked = '{"method":"getSessionLimits","params":{"timeout":5000}}'
    client = await house.connect(await house.add())
    assert json.loads((await client.publish(CLIENT[0][0], asked)).body) == {
        "maxPayloadSize": 1000,
        "maxInflightMessages": 7,
        "rateLimits": {
            "messages": "10:1,60:60",
            "telemetryMessages": None,
            "telemetryDataPoints": None,
        },
    }
    assert b"no such method" in (await client.publish(CLIENT[1][0], asked)).body
    await house.profile("tame", limits={"telemetry_points": "5:1", "messages": ""})
    client = await house.connect(await house.add("t", "tame"))
    assert json.loads((await client.publish(CLIENT[0][0], asked)).body)["rateLimits"] == {
        "messages": None,
        "telemetryMessages": None,
        "telemetryDataPoints": "5:1",
    }


async def test_session_limits_cost_no_message(house: House) -> None:
    """The SDK asks for them before anything else; other calls are counted."""
    house.begin(limiter=RateLimiter(device=Limits(messages=parse_rate("2:60"))))
    client = await house.connect(await house.add())
    for _ in range(3):
        reply = await client.publish(CLIENT[0][0], '{"method":"getSessionLimits"}')
        assert reply.status is Status.OK
    assert (await client.publish(CLIENT[0][0], GET_TIME)).status is Status.OK
    assert (await client.publish(CLIENT[0][0], GET_TIME)).status is Status.LIMITED


# ── we call a device ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("subscribed", "asked", "answered"), SERVER)
async def test_a_device_is_called_on_the_family_it_subscribed_to(
    house: House, subscribed: str, asked: str, answered: str
) -> None:
    """Ids count from 0; the answer is any text (section 8)."""
    client = await house.connect(await house.add())
    client.subscribe(subscribed)
    for number, text in enumerate(('{"ok":true}', "plain words", "")):
        calling = await call(house, "set", '{"pin":7}')
        topic, body = client.link.sent[-1]
        assert topic == f"{asked}{number}"
        assert json.loads(body) == {"method": "set", "params": {"pin": 7}}
        assert (await client.publish(f"{answered}{number}", text)).status is Status.OK
        assert await calling == RpcResult(RpcOutcome.ANSWERED, text)


async def test_an_answer_nobody_waits_for_is_taken(house: House) -> None:
    """On every wire; one without a number is a bad payload."""
    token = await house.add()
    client = await house.connect(token)
    assert (await client.publish(SERVER[0][2] + "99")).status is Status.OK
    assert (await client.publish(SERVER[0][2] + "x")).status is Status.BAD_REQUEST
    for wire, code in ((Wire.HTTP, None), (Wire.COAP, 201)):
        got, reply = await house.ask(wire, f"POST /api/v1/{token}/rpc/99", "{}")
        assert (got, reply.status, reply.body) == (code, Status.OK, b"")
        _, reply = await house.ask(wire, f"POST /api/v1/{token}/rpc/x", "{}")
        assert reply.status is Status.BAD_REQUEST


async def test_answers_over_http_are_json_and_over_coap_objects(house: House) -> None:
    """Else 400, and 5.00 (section 10)."""
    token = await house.add()
    address = f"POST /api/v1/{token}/rpc/0"
    rows = ((b"17", None, 500), (b"[]", None, 500), (b"words", 400, 500), (b"", 400, 500))
    for body, http, coap in rows:
        _, reply = await house.ask(Wire.HTTP, address, body)
        assert reply.status is (Status.UNDECODABLE if http else Status.OK)
        code, reply = await house.ask(Wire.COAP, address, body)
        assert (code, reply.status) == (coap, Status.UNDECODABLE)


async def test_a_poll_takes_one_call(house: House) -> None:
    """With its id in the body, since the address has none; the next call finds nobody."""
    token = await house.add()
    poll = asyncio.create_task(house.ask(Wire.HTTP, f"GET /api/v1/{token}/rpc"))
    await house.settle()
    calling = await call(house, "set", '{"pin":7}')
    _, reply = await poll
    assert json.loads(reply.body) == {"id": 1, "method": "set", "params": {"pin": 7}}
    await house.ask(Wire.HTTP, f"POST /api/v1/{token}/rpc/1", '{"ok":true}')
    assert await calling == RpcResult(RpcOutcome.ANSWERED, '{"ok":true}')
    assert (await (await call(house))).outcome is RpcOutcome.NOT_CONNECTED


async def test_a_poll_for_calls_ends_after_its_time(house: House) -> None:
    """With 408, without a body; it hears of no attributes meanwhile."""
    token = await house.add()
    address = f"GET /api/v1/{token}/rpc"
    poll = asyncio.create_task(house.ask(Wire.HTTP, address, query={"timeout": "100"}))
    await house.settle()
    await house.share(a=1)
    _, reply = await poll
    assert (reply.status, reply.body) == (Status.TIMEOUT, b"")


async def test_calls_are_observed(house: House, watcher: Any) -> None:
    """The registration is 2.03 and empty; then each call, its id in the body (section 10)."""
    token = await house.add()
    address = f"GET /api/v1/{token}/rpc"
    _, reply = await house.ask(Wire.COAP, address)
    assert reply.status is Status.BAD_REQUEST
    observer = watcher()
    code, reply = await house.ask(Wire.COAP, address, observer=observer)
    assert (code, reply.status, reply.body) == (203, Status.OK, b"")
    await house.settle()
    calling = await call(house, "set")
    assert json.loads(observer.notified[0].body) == {"id": 0, "method": "set", "params": {}}
    await house.ask(Wire.COAP, f"POST /api/v1/{token}/rpc/0", '{"ok":true}')
    assert (await calling).response == '{"ok":true}'
    assert reply.on_end is not None
    reply.on_end()
    assert (await (await call(house))).outcome is RpcOutcome.NOT_CONNECTED


async def test_attributes_and_calls_are_observed_side_by_side(house: House, watcher: Any) -> None:
    """One observation of each for a device, and neither ends the other."""
    token = await house.add()
    seeing, hearing = watcher("a"), watcher("b")
    await house.ask(Wire.COAP, f"GET /api/v1/{token}/attributes", observer=seeing)
    await house.ask(Wire.COAP, f"GET /api/v1/{token}/rpc", observer=hearing)
    await house.connect(token)
    await house.settle()
    calling = await call(house)
    await house.share(a=1)
    assert not seeing.ended
    assert not hearing.ended
    assert (len(seeing.notified), len(hearing.notified)) == (1, 1)
    calling.cancel()


async def _stored(house: House) -> RpcCall:
    stored = await house.registry.calls.save(
        await house.known(), "reboot", lasts_s=600, two_way=True, persistent=True
    )
    assert stored is not None
    await house.feed.look()
    await house.settle()
    return stored


async def test_a_call_that_waited_goes_to_whoever_comes(house: House, watcher: Any) -> None:
    """By a subscription, a poll or an observation; its answer is kept (section 8)."""
    token = await house.add()
    first = await _stored(house)
    client = await house.connect(token)
    assert client.link.sent == []
    client.subscribe(SERVER[0][0])
    await house.settle()
    number = FIRST_PERSISTENT + first.id
    assert [topic for topic, _ in client.link.sent] == [f"{SERVER[0][1]}{number}"]
    assert (await client.publish(f"{SERVER[0][2]}{number}", "done")).status is Status.OK
    client.hang_up()

    second = await _stored(house)
    _, reply = await house.ask(Wire.HTTP, f"GET /api/v1/{token}/rpc", query={"timeout": "2000"})
    assert json.loads(reply.body)["id"] == FIRST_PERSISTENT + second.id
    await house.ask(Wire.HTTP, f"POST /api/v1/{token}/rpc/{FIRST_PERSISTENT + second.id}", "1")

    third = await _stored(house)
    observer = watcher()
    await house.ask(Wire.COAP, f"GET /api/v1/{token}/rpc", observer=observer)
    await house.settle()
    (notified,) = observer.notified
    assert isinstance(notified, Reply)
    assert json.loads(notified.body)["id"] == FIRST_PERSISTENT + third.id
    await house.settle()
    states = {one.id: one.state for one in await house.registry.calls.of(await house.known())}
    assert states == {
        first.id: RpcState.SUCCESSFUL,
        second.id: RpcState.SUCCESSFUL,
        third.id: RpcState.DELIVERED,
    }
