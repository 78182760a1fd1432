"""The device API over CoAP, from socket to store and back: section 10, row by row."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiocoap.numbers.types import Type
from inside import Gate
from operating import Operator
from wires import GET, POST, coap, dotted, observing

from gateway.core.model import AttributeScope, ClaimResult, Secret

# ── requests ──────────────────────────────────────────────────────────────────────────────────


async def test_telemetry_and_attributes(gate: Gate) -> None:
    """2.01 and empty, once it is on disk; the case of the feature does not matter."""
    token = await gate.add("d")
    async with coap(gate.ports.coap) as device:
        for feature, body in (("Telemetry", b'{"t":1}'), ("attributes", b'{"serial":"x"}')):
            answer = await device.ask(POST, f"/api/v1/{token}/{feature}", body)
            assert (dotted(answer), answer.payload) == ("2.01", b"")
    assert await gate.readings("d") == {"t": 1}
    assert await Operator(gate).attributes(AttributeScope.CLIENT) == {"serial": "x"}


async def test_attributes_are_asked_for(gate: Gate) -> None:
    """2.05 and JSON; 4.04 only when nothing at all was found."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/attributes"
    async with coap(gate.ports.coap) as device:
        assert dotted(await device.ask(GET, path)) == "4.04"
        await device.ask(POST, path, b'{"serial":"x"}')
        await Operator(gate).share(a=1)
        answer = await device.ask(GET, path)
        assert dotted(answer) == "2.05"
        assert json.loads(answer.payload) == {"client": {"serial": "x"}, "shared": {"a": 1}}
        assert answer.opt.content_format == 50
        answer = await device.ask(GET, path, query=["sharedKeys=a,b"])
        assert answer.payload == b'{"shared":{"a":1}}'
        assert dotted(await device.ask(GET, path, query=["sharedKeys=b"])) == "4.04"


async def test_a_device_calls(gate: Gate) -> None:
    """2.05 and the answer; a body that is no object is 5.00, one without a method 4.00."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/rpc"
    async with coap(gate.ports.coap) as device:
        answer = await device.ask(POST, path, b'{"method":"getCurrentTime","params":{}}')
        assert (dotted(answer), list(json.loads(answer.payload))) == ("2.05", ["currentTime"])
        for body, code in ((b"[]", "5.00"), (b"{", "5.00"), (b"{}", "4.00")):
            assert dotted(await device.ask(POST, path, body)) == code, body


async def test_a_device_offers_itself(gate: Gate) -> None:
    """2.01 with a body or without (section 18)."""
    token = await gate.add("d")
    async with coap(gate.ports.coap) as device:
        for body in (b'{"secretKey":"a"}', b'{"secretKey":"b"}', b""):
            answer = await device.ask(POST, f"/api/v1/{token}/claim", body)
            assert (dotted(answer), answer.payload) == ("2.01", b"")
    known = await gate.registry.device("d")
    assert known is not None
    assert await gate.registry.claim(known, "Acme", Secret("a")) is ClaimResult.SUCCESS


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        *((POST, "telemetry", "4.00"), (POST, "attributes", "4.00"), (POST, "claim", "4.00")),
        *((POST, "rpc/x", "4.00"), (POST, "rpc/1", "5.00"), (POST, "nothing", "4.00")),
        *((GET, "telemetry", "4.00"), (GET, "rpc", "4.00"), (GET, "nothing", "4.00")),
    ],
)
async def test_errors(gate: Gate, method: Any, path: str, code: str) -> None:
    """What makes no sense is 4.00 or 5.00, and 4.01 without a good token."""
    token = await gate.add("d")
    async with coap(gate.ports.coap) as device:
        answer = await device.ask(
            method, f"/api/v1/{token}/{path}", b"[]" if path == "claim" else b"1"
        )
        assert dotted(answer) == code
        if path != "rpc/x":
            answer = await device.ask(method, f"/api/v1/wrong/{path}", b"{}")
            assert dotted(answer) == "4.01"


# ── observations ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [Type.CON, Type.NON])
async def test_attributes_are_observed(gate: Gate, kind: Any) -> None:
    """First what is shared now, `{}` if nothing; then each change, numbered, deletions too."""
    token = await gate.add("d")
    operator = Operator(gate)
    async with observing(gate.ports.coap) as device:
        observation = device.observe(f"/api/v1/{token}/attributes", kind)
        first = await device.next(observation)
        assert (dotted(first), first.payload, first.opt.observe) == ("2.05", b"{}", 0)
        await operator.share(a=1)
        second = await device.next(observation)
        assert (dotted(second), second.payload) == ("2.05", b'{"a":1}')
        await operator.share("a", b=2)
        third = await device.next(observation)
        assert json.loads(third.payload) == {"b": 2, "deleted": ["a"]}
        assert [one.opt.observe for one in (second, third)] == [1, 2]
        assert {one.mtype for one in (second, third)} == {kind}


async def test_calls_are_observed(gate: Gate) -> None:
    """First 2.03 and empty; then each call, its id in the body; the answer reaches the caller."""
    token = await gate.add("d")
    async with observing(gate.ports.coap) as device:
        observation = device.observe(f"/api/v1/{token}/rpc")
        first = await device.next(observation)
        assert (dotted(first), first.payload, first.opt.observe) == ("2.03", b"", 0)
        calling = asyncio.create_task(Operator(gate).call("set", '{"pin":7}'))
        told = await device.next(observation)
        assert (dotted(told), told.opt.observe) == ("2.05", 1)
        asked = json.loads(told.payload)
        assert (asked["method"], asked["params"]) == ("set", {"pin": 7})
        answer = await device.ask(POST, f"/api/v1/{token}/rpc/{asked['id']}", b'{"ok":true}')
        assert (dotted(answer), answer.payload) == ("2.01", b"")
        assert await calling == ("SUCCESSFUL", '{"ok":true}')


async def test_a_call_that_waited_is_notified(gate: Gate) -> None:
    """A persistent one follows the registration, and is delivered when it is acknowledged."""
    token = await gate.add("d")
    operator = Operator(gate)
    stored = await operator.store_call("reboot")
    async with observing(gate.ports.coap) as device:
        observation = device.observe(f"/api/v1/{token}/rpc")
        assert dotted(await device.next(observation)) == "2.03"
        asked = json.loads((await device.next(observation)).payload)
        assert asked["method"] == "reboot"
        await device.ask(POST, f"/api/v1/{token}/rpc/{asked['id']}", b"{}")
    assert await operator.ended(stored) == ("SUCCESSFUL", "{}")


@pytest.mark.parametrize("feature", ["attributes", "rpc"])
async def test_the_newer_observation_stands(gate: Gate, feature: str) -> None:
    """One of each kind for a device: the older is ended with 2.02; so is it with its device."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/{feature}"
    async with observing(gate.ports.coap) as device:
        older = device.observe(path)
        await device.next(older)
        newer = device.observe(path)
        await device.next(newer)
        ended = await device.next(older)
        assert (dotted(ended), ended.opt.observe) == ("2.02", None)
        known = await gate.registry.device("d")
        assert known is not None
        await gate.registry.remove_device(known)
        assert dotted(await device.next(newer)) == "2.02"


async def test_a_cancelled_observation_is_over(gate: Gate) -> None:
    """With Observe 1 and its token: 2.02, and nothing more."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/attributes"
    async with observing(gate.ports.coap) as device:
        observation = device.observe(path)
        await device.next(observation)
        data, fresh = device.datagram(GET, path, observe=1)
        device.transport.sendto(data.replace(fresh, observation))
        assert dotted(await device.next(observation)) == "2.02"
        await Operator(gate).share(a=1)
        await asyncio.sleep(0.2)
        assert device.queues[observation].empty()
