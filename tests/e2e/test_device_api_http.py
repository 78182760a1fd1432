"""The device API over HTTP, from socket to store and back: section 11, row by row."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from inside import Gate
from operating import Operator
from wires import Http, http

from gateway.core.model import AttributeScope, ClaimResult, Secret


async def test_telemetry_and_attributes(gate: Gate) -> None:
    """200 and empty, once it is on disk."""
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        for feature, body in (("telemetry", b'{"t":1}'), ("attributes", b'{"serial":"x"}')):
            reply = await web.ask("POST", f"/api/v1/{token}/{feature}", body)
            assert (reply.status, reply.body) == (200, b"")
        assert await gate.readings("d") == {"t": 1}
        assert await Operator(gate).attributes(AttributeScope.CLIENT) == {"serial": "x"}


async def test_attributes_are_asked_for(gate: Gate) -> None:
    """By keys of one scope or both, or all; `{}` if there are none."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/attributes"
    async with http(gate.ports.http) as web:
        reply = await web.ask("GET", path)
        assert (reply.status, reply.body) == (200, b"{}")
        await web.ask("POST", path, b'{"serial":"x"}')
        await Operator(gate).share(a=1, b=2)
        for query, expected in (
            ("", {"client": {"serial": "x"}, "shared": {"a": 1, "b": 2}}),
            ("?sharedKeys=a,none", {"shared": {"a": 1}}),
            ("?clientKeys=serial&sharedKeys=b", {"client": {"serial": "x"}, "shared": {"b": 2}}),
        ):
            reply = await web.ask("GET", path + query)
            assert (reply.status, json.loads(reply.body)) == (200, expected)
            assert reply.headers["content-type"] == "application/json"


async def polled(web: Http, path: str) -> tuple[int, Any]:
    reply = await web.ask("GET", path)
    return reply.status, json.loads(reply.body) if reply.body else None


async def test_changes_are_polled_for(gate: Gate) -> None:
    """The next one, deletions too; 408 without a body when there is none in time."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/attributes/updates"
    operator = Operator(gate)
    async with http(gate.ports.http) as web:
        assert await polled(web, f"{path}?timeout=50") == (408, None)
        poll = asyncio.create_task(polled(web, f"{path}?timeout=5000"))
        await asyncio.sleep(0.1)
        await operator.share(a=1)
        assert await poll == (200, {"a": 1})
        poll = asyncio.create_task(polled(web, path))
        await asyncio.sleep(0.1)
        await operator.share("a")
        assert await poll == (200, {"deleted": ["a"]})


async def test_calls_are_polled_for(gate: Gate) -> None:
    """With their id in the body; the answer goes to that id and reaches the caller."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/rpc"
    async with http(gate.ports.http) as web:
        assert await polled(web, f"{path}?timeout=50") == (408, None)
        poll = asyncio.create_task(polled(web, f"{path}?timeout=5000"))
        await asyncio.sleep(0.1)
        calling = asyncio.create_task(Operator(gate).call("set", '{"pin":7}'))
        status, asked = await poll
        assert (status, asked["method"], asked["params"]) == (200, "set", {"pin": 7})
        reply = await web.ask("POST", f"{path}/{asked['id']}", b'{"ok":true}')
        assert (reply.status, reply.body) == (200, b"")
        assert await calling == ("SUCCESSFUL", '{"ok":true}')
        reply = await web.ask("POST", f"{path}/{asked['id']}", b'{"ok":true}')
        assert reply.status == 200  # nobody waits for it


async def test_a_call_that_waited_is_polled(gate: Gate) -> None:
    """A persistent one comes at once, and its answer is kept."""
    token = await gate.add("d")
    operator = Operator(gate)
    stored = await operator.store_call("reboot")
    async with http(gate.ports.http) as web:
        status, asked = await polled(web, f"/api/v1/{token}/rpc")
        assert (status, asked["method"]) == (200, "reboot")
        await web.ask("POST", f"/api/v1/{token}/rpc/{asked['id']}", b'"done"')
    assert await operator.ended(stored) == ("SUCCESSFUL", '"done"')


async def test_a_device_calls(gate: Gate) -> None:
    """Method and params are both needed."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/rpc"
    async with http(gate.ports.http) as web:
        reply = await web.ask("POST", path, b'{"method":"getCurrentTime","params":{}}')
        assert (reply.status, list(json.loads(reply.body))) == (200, ["currentTime"])
        for body in (b"", b"{", b"[]", b"{}", b'{"method":"m"}', b'{"params":{}}'):
            assert (await web.ask("POST", path, body)).status == 400, body


async def test_a_device_offers_itself(gate: Gate) -> None:
    """With a body or without, it is 200 (section 18)."""
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        for body in (b'{"secretKey":"a","durationMs":60000}', b'{"secretKey":"b"}', b""):
            reply = await web.ask("POST", f"/api/v1/{token}/claim", body)
            assert (reply.status, reply.body) == (200, b"")
    known = await gate.registry.device("d")
    assert known is not None
    assert await gate.registry.claim(known, "Acme", Secret("a")) is ClaimResult.SUCCESS


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", "telemetry"), ("POST", "attributes"), ("GET", "attributes")),
        *(("GET", "attributes/updates"), ("GET", "rpc"), ("POST", "rpc"), ("POST", "rpc/1")),
        ("POST", "claim"),
    ],
)
async def test_a_wrong_token_opens_nothing(gate: Gate, method: str, path: str) -> None:
    """401 and empty, whatever is asked."""
    body = b'{"method":"m","params":{}}'
    async with http(gate.ports.http) as web:
        reply = await web.ask(method, f"/api/v1/wrong/{path}", body if method == "POST" else b"")
        assert (reply.status, reply.body) == (401, b"")


async def test_bad_requests(gate: Gate) -> None:
    """Payloads, ids and time-outs that make no sense are 400."""
    token = await gate.add("d")
    rows = [
        *(("POST", "telemetry", b""), ("POST", "attributes", b"[]"), ("POST", "claim", b"[]")),
        *(("POST", "rpc/x", b"{}"), ("POST", "rpc/1", b""), ("POST", "rpc/1", b"words")),
        *(("GET", "rpc?timeout=x", b""), ("GET", "attributes/updates?timeout=-1", b"")),
    ]
    async with http(gate.ports.http) as web:
        for method, path, body in rows:
            reply = await web.ask(method, f"/api/v1/{token}/{path}", body)
            assert reply.status == 400, (method, path)


async def test_a_poll_learns_that_its_device_is_no_more(gate: Gate) -> None:
    """403 with the contract's own words."""
    for path in ("attributes/updates", "rpc"):
        token = await gate.add("d")
        async with http(gate.ports.http) as web:
            poll = asyncio.create_task(web.ask("GET", f"/api/v1/{token}/{path}"))
            await asyncio.sleep(0.1)
            known = await gate.registry.device("d")
            assert known is not None
            await gate.registry.remove_device(known)
            reply = await poll
            assert (reply.status, reply.body) == (403, b"Device was deleted!")
