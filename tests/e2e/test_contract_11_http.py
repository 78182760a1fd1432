"""Section 11 of the contract on sockets: what is refused, what waits, and how many may."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from contract import PROTOBUF, save_profile
from inside import Gate, NewGate
from operating import Operator
from wires import Http, http, http_request

from gateway.core.model import ProfileTransport


async def polled(web: Http, path: str) -> tuple[int, Any]:
    reply = await web.ask("GET", path)
    return reply.status, json.loads(reply.body) if reply.body else None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "firmware?title=a&version=1"),
        ("GET", "software?title=a&version=1"),
        ("POST", "telemetry"),
        ("POST", "rpc"),
        ("GET", "attributes/updates?timeout=1"),
    ],
)
async def test_a_wrong_token_is_seen_first(gate: Gate, method: str, path: str) -> None:
    """401 and empty, though the body is no JSON either; the token counts as it is written."""
    token = await gate.add("d", token="Token-Of-D")
    async with http(gate.ports.http) as web:
        for shown in ("nobody", token.lower(), token + "x"):
            reply = await web.ask(method, f"/api/v1/{shown}/{path}", b"{" * (method == "POST"))
            assert (reply.status, reply.body) == (401, b""), shown


@pytest.mark.parametrize("body", [b"", b"{", b"words", b"[1]", b'"words"', b"\xff"])
@pytest.mark.parametrize("feature", ["telemetry", "attributes", "rpc"])
async def test_a_body_that_makes_no_sense(gate: Gate, feature: str, body: bytes) -> None:
    """400 in the shape of section 3, nothing is stored, and the connection stands."""
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        for _ in range(2):
            reply = await web.ask("POST", f"/api/v1/{token}/{feature}", body)
            assert reply.status == 400
            assert set(json.loads(reply.body)) == {"status", "message", "errorCode", "timestamp"}
    assert await gate.readings("d") == {}


async def test_labels_do_not_matter(gate: Gate) -> None:
    """Some devices send no Content-Type, others a wrong one: the body decides."""
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        request = http_request("POST", f"/api/v1/{token}/telemetry", b'{"t":1}')
        for label in (b"text/plain", b"application/json; charset=UTF-8", b"x"):
            labelled = request.replace(b"\r\n", b"\r\nContent-Type: %b\r\n" % label, 1)
            assert (await web.raw(labelled)).status == 200, label


@pytest.mark.parametrize("timeout", ["", "?timeout=", "?timeout=0", "?timeout=999999999"])
async def test_a_poll_for_calls_that_says_nothing_waits_long(gate: Gate, timeout: str) -> None:
    """Without a time-out, with 0 or with a huge one it waits, and takes what comes."""
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        poll = asyncio.create_task(polled(web, f"/api/v1/{token}/rpc{timeout}"))
        await asyncio.sleep(0.2)
        assert not poll.done()
        await Operator(gate).store_call("reboot")
        status, told = await poll
        assert (status, told["method"]) == (200, "reboot")


async def test_the_cap_of_polls(new_gate: NewGate) -> None:
    """Beyond it 503 and when to come again; it is about those that wait, and they alone."""
    gate = await new_gate(http={"max_polls": 2})
    token = await gate.add("d")
    paths = [f"/api/v1/{token}/{one}" for one in ("attributes/updates", "rpc?timeout=1000")]
    async with http(gate.ports.http) as web, http(gate.ports.http) as a, http(gate.ports.http) as b:
        pairs = zip((a, b), paths, strict=True)
        polls = [asyncio.create_task(one.ask("GET", path)) for one, path in pairs]
        await asyncio.sleep(0.1)
        for path in paths:
            reply = await web.ask("GET", path)
            assert reply.status == 503
            assert int(reply.headers["retry-after"]) >= 1
        assert (await web.ask("POST", f"/api/v1/{token}/telemetry", b'{"t":1}')).status == 200
        await Operator(gate).share(a=1)
        assert [(await poll).status for poll in polls] == [200, 408]
        assert await polled(web, f"{paths[0]}?timeout=1") == (408, None)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"method":"getCurrentTime","params":null}', 200),
        (b'{"method":"getCurrentTime","params":"","more":1}', 200),
        (b'{"method":"getCurrentTime"}', 400),
        (b'{"method":null,"params":{}}', 400),
        (b'{"method":"","params":{}}', 400),
        (b'{"method":{},"params":{}}', 400),
    ],
)
async def test_method_and_params_must_be_there(gate: Gate, body: bytes, status: int) -> None:
    """Params of any kind, null too; a method that is a text."""
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        assert (await web.ask("POST", f"/api/v1/{token}/rpc", body)).status == status


@pytest.mark.parametrize("transport", [ProfileTransport.MQTT, ProfileTransport.COAP])
async def test_any_profile_may_use_http(gate: Gate, transport: ProfileTransport) -> None:
    """In JSON, whatever its profile says of transports and formats."""
    await save_profile(gate, "other", transport, thingsboard=PROTOBUF)
    token = await gate.add("d", "other")
    path = f"/api/v1/{token}"
    async with http(gate.ports.http) as web:
        for feature in ("telemetry", "attributes"):
            assert (await web.ask("POST", f"{path}/{feature}", b'{"k":1}')).status == 200
        reply = await web.ask("GET", f"{path}/attributes")
        assert reply.body == b'{"client":{"k":1}}'
    assert await gate.readings("d") == {"k": 1}
