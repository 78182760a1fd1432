"""Section 10 of the contract on sockets, where no other test has its row: the CoAP device API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiocoap.numbers.types import Type
from contract import PROTOBUF, save_profile
from inside import Gate
from operating import Operator
from wires import DELETE, GET, POST, PUT, coap, dotted, observing

from gateway.core.feed import LOOK_EVERY_S
from gateway.core.model import Json, ProfileTransport
from gateway.dialects.thingsboard import device_api_pb2 as wire


async def test_segments_in_any_case(gate: Gate) -> None:
    """But for the token, which is a secret as it is written."""
    token = await gate.add("d", token="Token-Of-D")
    async with coap(gate.ports.coap) as device:
        for path, body in (
            (f"API/V1/{token}/Telemetry", b'{"a":1}'),
            (f"api/V1/{token}/ATTRIBUTES", b'{"a":1}'),
            (f"api/v1/{token}/RPC/1", b"{}"),
            (f"api/v1/{token}/Claim", b""),
        ):
            assert dotted(await device.ask(POST, path, body)) == "2.01", path
        assert dotted(await device.ask(GET, f"api/v1/{token}/Attributes")) == "2.05"
        assert dotted(await device.ask(GET, f"FW/{token}")) == "4.04"
        assert dotted(await device.ask(GET, f"api/v1/{token.lower()}/attributes")) == "4.01"


@pytest.mark.parametrize(
    ("methods", "path", "code"),
    [
        ((PUT, DELETE), "api/v1/{}/telemetry", "4.05"),
        ((PUT, DELETE), "api/v1/{}/rpc/1", "4.05"),
        ((PUT, DELETE), "api/v1/nobody/attributes", "4.05"),
        ((PUT, DELETE, POST), "fw/{}", "4.05"),
        ((PUT, DELETE, POST), "sw/{}", "4.05"),
        ((GET, POST), "api/v1/{}", "4.00"),
        ((GET, POST), "api/v1/{}/telemetry/more", "4.00"),
        ((GET,), "api/v1/{}/rpc/1", "4.00"),
        ((GET,), "api/v1/{}/claim", "4.00"),
        ((GET, POST), "api/v1", "4.01"),
        ((POST,), "api/v1/rpc", "4.01"),
        ((POST,), "api/v1/rpc/1", "4.01"),
        ((POST,), "api/v1/claim", "4.01"),
        ((GET,), "api/v1/attributes", "4.01"),
        ((GET,), "fw/nobody", "4.01"),
        ((GET,), "fw", "4.01"),
    ],
)
async def test_what_is_not_served(gate: Gate, methods: Any, path: str, code: str) -> None:
    """4.00 for an unknown feature, 4.01 without a good token, 4.05 by other methods; all empty."""
    token = await gate.add("d")
    async with coap(gate.ports.coap) as device:
        for method in methods:
            answer = await device.ask(method, path.format(token), b"{}" if method != GET else b"")
            assert (dotted(answer), answer.payload) == (code, b""), method


async def test_attributes_by_key(gate: Gate) -> None:
    """4.04 and empty only when nothing at all is found; a scope that is empty is left out."""
    token = await gate.add("d")
    path = f"api/v1/{token}/attributes"
    async with coap(gate.ports.coap) as device:
        await Operator(gate).share(a=1, f=42.0)
        for query, expected in (
            ([], b'{"shared":{"a":1,"f":42.0}}'),
            (["clientKeys=a"], None),
            (["sharedKeys=f"], b'{"shared":{"f":42.0}}'),
            (["clientKeys=x", "sharedKeys=a,x"], b'{"shared":{"a":1}}'),
            (["clientKeys=", "sharedKeys="], b'{"shared":{"a":1,"f":42.0}}'),
        ):
            answer = await device.ask(GET, path, query=query)
            assert dotted(answer) == ("4.04" if expected is None else "2.05"), query
            assert answer.payload == (expected or b"")


@pytest.mark.parametrize("kind", [Type.CON, Type.NON])
async def test_labels(gate: Gate, kind: Any) -> None:
    """Of answers that carry data: the request's own format, else 50; of the others none. Whoever
    calls its JSON CBOR is answered in JSON that is called JSON."""
    token = await gate.add("d")
    call = b'{"method":"getCurrentTime"}'
    async with coap(gate.ports.coap) as device:
        for own, told in ((None, 50), (50, 50), (0, 0), (41, 41), (60, 50)):
            options = {} if own is None else {"content_format": own}
            path = f"api/v1/{token}/rpc"
            answer = await device.ask(POST, path, call, kind=kind, **options)
            assert (dotted(answer), answer.opt.content_format) == ("2.05", told)
            path = f"api/v1/{token}/telemetry"
            answer = await device.ask(POST, path, b"{}", kind=kind, **options)
            assert (dotted(answer), answer.opt.content_format) == ("2.01", None)


async def test_rpc_bodies(gate: Gate) -> None:
    """No JSON object is 5.00, both ways; an object that makes no sense 4.00."""
    token = await gate.add("d")
    async with coap(gate.ports.coap) as device:
        for body in (b"", b"1", b"[]", b'"x"', b"{", b"\xff"):
            for path in ("rpc", "rpc/1"):
                answer = await device.ask(POST, f"api/v1/{token}/{path}", body)
                assert dotted(answer) == "5.00", (path, body)
        assert dotted(await device.ask(POST, f"api/v1/{token}/rpc", b'{"params":{}}')) == "4.00"
        assert dotted(await device.ask(POST, f"api/v1/{token}/rpc", b'{"method":"x"}')) == "2.05"
        assert dotted(await device.ask(POST, f"api/v1/{token}/rpc/x", b"{}")) == "4.00"


# ── observations ──────────────────────────────────────────────────────────────────────────────


async def test_one_of_each_kind(gate: Gate) -> None:
    """An observation of attributes and one of calls stand side by side, and beside MQTT."""
    token = await gate.add("d")
    operator = Operator(gate)
    async with observing(gate.ports.coap) as device:
        calls = device.observe(f"api/v1/{token}/RPC")
        attributes = device.observe(f"api/v1/{token}/Attributes")
        assert dotted(await device.next(calls)) == "2.03"
        assert (await device.next(attributes)).payload == b"{}"
        await operator.share(n=1)
        assert (await device.next(attributes)).payload == b'{"n":1}'
        calling = asyncio.create_task(operator.call("m"))
        told = json.loads((await device.next(calls)).payload)
        assert told == {"id": 0, "method": "m", "params": {}}
        await device.ask(POST, f"api/v1/{token}/rpc/0", b"{}")
        assert (await calling)[0] == "SUCCESSFUL"


@pytest.mark.parametrize("kind", [Type.CON, Type.NON])
async def test_a_replaced_observer_hears_of_it(gate: Gate, kind: Any) -> None:
    """From another port too: the first gets a final 2.02, the second goes on."""
    token = await gate.add("d")
    path = f"api/v1/{token}/attributes"
    async with observing(gate.ports.coap) as first, observing(gate.ports.coap) as second:
        older = first.observe(path, kind=kind)
        await first.next(older)
        newer = second.observe(path, kind=kind)
        assert (await second.next(newer)).opt.observe == 0
        ended = await first.next(older)
        assert (dotted(ended), ended.mtype, ended.payload) == ("2.02", kind, b"")
        await Operator(gate).share(n=1)
        assert (await second.next(newer)).payload == b'{"n":1}'
        assert first.queues[older].empty()


async def test_the_same_registration_again(gate: Gate) -> None:
    """With the token of the one that stands: answered anew, numbers from 0, and one of them."""
    token = await gate.add("d")
    path = f"api/v1/{token}/attributes"
    async with observing(gate.ports.coap) as device:
        observation = device.observe(path)
        await device.next(observation)
        await Operator(gate).share(n=1)
        await device.next(observation)
        data, fresh = device.datagram(GET, path, observe=0)
        device.transport.sendto(data.replace(fresh, observation))
        again = await device.next(observation)
        assert (dotted(again), again.opt.observe, again.payload) == ("2.05", 0, b'{"n":1}')
        await Operator(gate).share(n=2)
        assert (await device.next(observation)).payload == b'{"n":2}'
        await asyncio.sleep(3 * LOOK_EVERY_S)
        assert device.queues[observation].empty()


@pytest.mark.parametrize("feature", ["attributes", "rpc"])
@pytest.mark.parametrize("kind", [Type.CON, Type.NON])
async def test_a_reset_ends_an_observation(gate: Gate, kind: Any, feature: str) -> None:
    """Without another word: who resets what it is sent would reset that too (RFC 7641, 3.6)."""
    token = await gate.add("d")
    operator = Operator(gate)
    async with observing(gate.ports.coap) as device:
        observation = device.observe(f"api/v1/{token}/{feature}", kind=kind)
        await device.next(observation)
        device.resets.add(observation)
        if feature == "attributes":
            await operator.share(n=1)
        else:
            await operator.store_call("m")
        await device.next(observation)
        await asyncio.sleep(3 * LOOK_EVERY_S)
        await operator.share(n=2)
        await asyncio.sleep(3 * LOOK_EVERY_S)
        assert device.queues[observation].empty()
        assert not gate.gateway.sessions.of((await operator.known()).device.id)


@pytest.mark.parametrize("cause", ["credentials", "removed"])
async def test_an_observation_ends_with_its_login(gate: Gate, cause: str) -> None:
    """With 2.02, and a new request is 4.01."""
    token = await gate.add("d")
    async with observing(gate.ports.coap) as device:
        observation = device.observe(f"api/v1/{token}/rpc")
        await device.next(observation)
        known = await Operator(gate).known()
        if cause == "credentials":
            await gate.registry.replace_credentials(known)
        else:
            await gate.registry.remove_device(known)
        assert dotted(await device.next(observation)) == "2.02"
        assert dotted(await device.ask(GET, f"api/v1/{token}/rpc", observe=0)) == "4.01"


async def test_a_change_with_values_of_every_kind(gate: Gate) -> None:
    """An observer is told as everybody is (13); a repetition changes nothing and is not told."""
    token = await gate.add("d")
    async with observing(gate.ports.coap) as device:
        observation = device.observe(f"api/v1/{token}/attributes")
        await device.next(observation)
        values = {"d": 42.0, "i": 2**63 - 1, "t": "123", "b": False, "j": Json("[1.0]")}
        await Operator(gate).share(**values)
        told = (await device.next(observation)).payload
        assert json.loads(told) == {"d": 42.0, "i": 2**63 - 1, "t": "123", "b": False, "j": [1.0]}
        assert b'"d":42.0' in told


# ── protobuf ──────────────────────────────────────────────────────────────────────────────────


async def test_a_profile_of_schemas(gate: Gate) -> None:
    """Observations, calls both ways and claims in protobuf, labelled 42 whatever was asked in."""
    await save_profile(gate, "b", ProfileTransport.COAP, thingsboard=PROTOBUF)
    token = await gate.add("d", "b")
    operator = Operator(gate)
    async with observing(gate.ports.coap) as device:
        attributes = device.observe(f"api/v1/{token}/attributes")
        first = await device.next(attributes)
        assert (dotted(first), first.payload, first.opt.observe) == ("2.05", b"", 0)
        await operator.share(n=7)
        told = await device.next(attributes)
        change = wire.AttributeUpdateNotificationMsg.FromString(told.payload)
        assert (change.sharedUpdated[0].kv.long_v, told.opt.content_format) == (7, 42)
        await operator.share("n")
        told = await device.next(attributes)
        change = wire.AttributeUpdateNotificationMsg.FromString(told.payload)
        assert list(change.sharedDeleted) == ["n"]
        calls = device.observe(f"api/v1/{token}/rpc")
        await device.next(calls)
        calling = asyncio.create_task(operator.call("m", '{"a":1}'))
        told = await device.next(calls)
        assert (dotted(told), told.opt.content_format) == ("2.05", 42)
        assert b"\x0a\x01m" in told.payload
        answer = await device.ask(POST, f"api/v1/{token}/rpc/0", b"\x0a\x02{}")
        assert dotted(answer) == "2.01"
        assert (await calling)[0] == "SUCCESSFUL"
        asked = wire.RpcRequest(method="getCurrentTime", params="{}").SerializeToString()
        answer = await device.ask(POST, f"api/v1/{token}/rpc", asked, content_format=50)
        assert (dotted(answer), answer.opt.content_format) == ("2.05", 42)
        found = wire.ToServerRpcResponseMsg.FromString(answer.payload)
        assert "currentTime" in found.payload
        claim = wire.ClaimDevice(secretKey="k").SerializeToString()
        assert dotted(await device.ask(POST, f"api/v1/{token}/claim", claim)) == "2.01"
        for path in ("telemetry", "attributes", "claim"):
            answer = await device.ask(POST, f"api/v1/{token}/{path}", b"\xff\xff")
            assert dotted(answer) == "4.00", path
        for path in ("rpc", "rpc/1"):
            answer = await device.ask(POST, f"api/v1/{token}/{path}", b"\xff\xff")
            assert dotted(answer) == "5.00", path
