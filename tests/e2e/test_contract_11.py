"""Section 11 of the contract on sockets, where no other test has its row: the HTTP device API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from contract import PROTOBUF, save_profile
from inside import Gate, NewGate
from operating import Operator
from wires import Http, http

from gateway.core.feed import LOOK_EVERY_S
from gateway.core.model import ProfileTransport

BEGUN_S = 0.15
"""How long a poll takes to begin, generously."""


async def polling(web: Http, path: str) -> asyncio.Task[Any]:
    """A poll that has begun."""
    task = asyncio.create_task(web.ask("GET", path))
    await asyncio.sleep(BEGUN_S)
    assert not task.done()
    return task


async def test_answers_have_no_body_where_there_is_nothing_to_say(gate: Gate) -> None:
    """200 and empty, with a length and without a media type."""
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        for path, body in (
            ("telemetry", b'[{"ts":1,"values":{"a":1}},{"b":2}]'),
            ("attributes", b"{}"),
            ("rpc/0", b"1"),
            ("rpc/2147483647", b'{"a":1}'),
            ("claim", b'{"secretKey":null,"durationMs":0}'),
        ):
            reply = await web.ask("POST", f"/api/v1/{token}/{path}", body)
            assert (reply.status, reply.body) == (200, b""), path
            assert reply.headers["content-length"] == "0"
            assert "content-type" not in reply.headers
    assert await gate.readings("d") == {"a": 1, "b": 2}


async def test_attributes_in_every_shape(gate: Gate) -> None:
    """`{}` when nothing is found; keys may be percent-encoded, and are as written."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/attributes"
    async with http(gate.ports.http) as web:
        await web.ask("POST", path, '{"a b":1,"ü":2.0,"n":null}'.encode())
        await Operator(gate).share(s=42.0)
        client = {"a b": 1, "ü": 2.0}
        for query, expected in (
            ("clientKeys=a%20b", {"client": {"a b": 1}}),
            ("clientKeys=a+b,%C3%BC", {"client": client}),
            ("clientKeys=n", {}),
            ("sharedKeys=none", {}),
            ("clientKeys=none&sharedKeys=s", {"shared": {"s": 42.0}}),
            ("clientKeys=&sharedKeys=", {"client": client, "shared": {"s": 42.0}}),
            ("other=1", {"client": client, "shared": {"s": 42.0}}),
        ):
            reply = await web.ask("GET", f"{path}?{query}")
            assert (reply.status, json.loads(reply.body)) == (200, expected), query
        assert b'"s":42.0' in (await web.ask("GET", path)).body


async def test_a_poll_takes_one_change(gate: Gate) -> None:
    """Values and deletions in one flat object; the next poll takes the next."""
    token = await gate.add("d")
    operator = Operator(gate)
    await operator.share(before=1)
    await asyncio.sleep(3 * LOOK_EVERY_S)
    async with http(gate.ports.http) as web:
        path = f"/api/v1/{token}/attributes/updates"
        for query in ("", "?timeout=0", "?timeout=", "?timeout=999999999999"):
            task = await polling(web, path + query)
            await operator.share(n=query)
            reply = await task
            assert (reply.status, json.loads(reply.body)) == (200, {"n": query})
            assert reply.headers["content-type"] == "application/json"
        task = await polling(web, path)
        await operator.share("before", n=42.0)
        assert (await task).body == b'{"n":42.0,"deleted":["before"]}'


async def test_polls_of_one_device_stand_side_by_side(gate: Gate) -> None:
    """All hear of a change; a call goes to one of them alone."""
    token = await gate.add("d")
    operator = Operator(gate)
    async with http(gate.ports.http) as one, http(gate.ports.http) as other:
        changes = [
            await polling(web, f"/api/v1/{token}/attributes/updates") for web in (one, other)
        ]
        await operator.share(n=1)
        assert {(await task).body for task in changes} == {b'{"n":1}'}
        calls = [await polling(web, f"/api/v1/{token}/rpc?timeout=900") for web in (one, other)]
        calling = asyncio.create_task(operator.call("m"))
        replies = [await task for task in calls]
        assert sorted(reply.status for reply in replies) == [200, 408]
        asked = json.loads(next(reply.body for reply in replies if reply.status == 200))
        async with http(gate.ports.http) as web:
            await web.ask("POST", f"/api/v1/{token}/rpc/{asked['id']}", b'"x"')
        assert await calling == ("SUCCESSFUL", '"x"')


async def test_new_credentials_end_a_poll(gate: Gate) -> None:
    """With 401 and empty, and so is the next."""
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        for path in ("attributes/updates", "rpc"):
            task = await polling(web, f"/api/v1/{token}/{path}")
            changed = await gate.registry.replace_credentials(await Operator(gate).known())
            assert changed is not None
            reply = await task
            assert (reply.status, reply.body) == (401, b""), path
            reply = await web.ask("GET", f"/api/v1/{token}/{path}")
            assert (reply.status, reply.body) == (401, b"")
            token = (await Operator(gate).known()).credentials.id.reveal()


async def test_rpc_bodies(gate: Gate) -> None:
    """A call has a method and params, and params may be anything; an answer is any JSON."""
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        for params in (b"{}", b"null", b"1", b'"x"', b"[1.0]"):
            body = b'{"method":"nobody knows","params":%b}' % params
            reply = await web.ask("POST", f"/api/v1/{token}/rpc", body)
            assert (reply.status, json.loads(reply.body)) == (200, {"error": "no such method"})
        for body in (b"", b"\xff", b"{", b"words"):
            reply = await web.ask("POST", f"/api/v1/{token}/rpc/1", body)
            assert (reply.status, json.loads(reply.body)["errorCode"]) == (400, 31), body
        for number in ("-1", "2147483648", "1.0", "x"):
            assert (await web.ask("POST", f"/api/v1/{token}/rpc/{number}", b"1")).status == 400


async def test_errors_repeat_nothing(gate: Gate) -> None:
    """Bad requests have an error body of ThingsBoard's shape, without a word that was sent."""
    token = await gate.add("d")
    secret = b"hunter2hunter2"
    rows = [
        ("telemetry", b'"%b"' % secret),
        ("telemetry", b'{"ts":"%b","values":{}}' % secret),
        ("attributes", b'["%b"]' % secret),
        ("claim", b'{"secretKey":{"%b":1}}' % secret),
        ("claim", b'{"secretKey":"%b","durationMs":"x"}' % secret),
        ("rpc", b'{"%b":1}' % secret),
    ]
    async with http(gate.ports.http) as web:
        for path, body in rows:
            reply = await web.ask("POST", f"/api/v1/{token}/{path}", body)
            told = json.loads(reply.body)
            assert (reply.status, told["status"], told["errorCode"]) == (400, 400, 31), path
            assert secret not in reply.body
            assert token.encode() not in reply.body


async def test_profiles_of_schemas_are_json_over_http(gate: Gate) -> None:
    """HTTP is JSON whatever a profile says, both ways."""
    await save_profile(gate, "b", ProfileTransport.MQTT, thingsboard=PROTOBUF)
    token = await gate.add("d", "b")
    async with http(gate.ports.http) as web:
        reply = await web.ask("POST", f"/api/v1/{token}/telemetry", b'{"x":1}')
        assert reply.status == 200
        task = await polling(web, f"/api/v1/{token}/attributes/updates")
        await Operator(gate).share(n=1)
        assert (await task).body == b'{"n":1}'
        task = await polling(web, f"/api/v1/{token}/rpc")
        calling = asyncio.create_task(Operator(gate).call("m"))
        asked = json.loads((await task).body)
        assert asked == {"id": 1, "method": "m", "params": {}}
        await web.ask("POST", f"/api/v1/{token}/rpc/1", b'{"a":1}')
        assert await calling == ("SUCCESSFUL", '{"a":1}')
    assert await gate.readings("d") == {"x": 1}


async def test_a_limited_poll_and_a_limited_post(new_gate: NewGate) -> None:
    """A poll that is too much is 429 at once; a post 500 and empty, and nothing is kept."""
    gate = await new_gate(limits={"device_messages": "1:60", "device_telemetry_points": "1:60"})
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        assert (await web.ask("GET", f"/api/v1/{token}/rpc?timeout=50")).status == 408
        assert (await web.ask("GET", f"/api/v1/{token}/rpc?timeout=50")).status == 429
        reply = await web.ask("POST", f"/api/v1/{token}/attributes", b'{"a":1,"b":2}')
        assert (reply.status, reply.body) == (500, b"")
        assert (await web.ask("POST", f"/api/v1/{token}/attributes", b'{"a":1}')).status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "GET"])
async def test_other_methods(gate: Gate, method: str) -> None:
    """405 with the ones there are, and 404 where nothing is; never 401, the token is not read."""
    rows = {
        "telemetry": ("POST",),
        "attributes": ("GET", "HEAD", "POST"),
        "attributes/updates": ("GET",),
        "rpc": ("GET", "POST"),
        "rpc/1": ("POST",),
        "claim": ("POST",),
        "firmware": ("GET", "HEAD"),
        "software": ("GET", "HEAD"),
        "nothing": (),
        "telemetry/x": (),
    }
    async with http(gate.ports.http) as web:
        for path, allowed in rows.items():
            if method in allowed:
                continue
            reply = await web.ask(method, f"/api/v1/nobody/{path}")
            assert reply.status == (405 if allowed else 404), path
            if allowed:
                assert reply.headers["allow"] == ", ".join(allowed), path
