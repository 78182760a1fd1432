"""HTTP on loopback with routes of the tests' own."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from gateway.core.model import Wire
from gateway.transports.http import HttpListener
from gateway.wire.call import BadPayload, Format, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router


async def echo(call):
    seen = {"token": call.params["token"], "query": dict(call.query), "size": len(call.body)}
    return Reply(json.dumps(seen).encode(), format=Format.JSON)


async def refuse(call):
    return Reply(b'{"status":"FAILURE"}', Status.REFUSED, Format.JSON, "taken")


async def spoil(call):
    raise BadPayload("the name is missing")


async def status(call):
    ended = Status(call.params["status"])
    return Reply(status=ended, retry_after_s=7 if ended is Status.OVERLOADED else 0)


ROUTES = [
    Route(name="echo", handler=echo, http=("POST /echo/{token}", "GET /echo/{token}")),
    Route(
        name="refuse",
        handler=refuse,
        http=("POST /refuse",),
        http_codes={Status.REFUSED: 200},
    ),
    Route(name="spoil", handler=spoil, http=("POST /spoil",)),
    Route(name="status", handler=status, http=("GET /status/{status}",)),
]


def error_body(code, message):
    return json.dumps({"status": code, "message": message}).encode()


@pytest.fixture
async def listener():
    served = HttpListener(
        Router(ROUTES, Wire.HTTP, Gauge(100)),
        host="127.0.0.1",
        port=0,
        error_body=error_body,
        max_body_bytes=1000,
        max_connections=5,
        read_timeout_s=0.3,
    )
    await served.start()
    yield served
    await served.stop(1.0)


@pytest.fixture
async def ask(listener):
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as session:

        async def request(method, path, body=None):
            async with session.request(method, path, data=body) as answer:
                return answer.status, await answer.read(), answer.headers

        yield request


async def test_body_path_and_query_reach_the_handler(ask):
    """Percent-encoded paths and form-encoded queries are decoded, the body is whole."""
    code, body, headers = await ask("POST", "/echo/a%20b?x=1+2&y=", b"z" * 1000)
    assert code == 200
    assert json.loads(body) == {"token": "a b", "query": {"x": "1 2", "y": ""}, "size": 1000}
    assert headers["Content-Type"] == "application/json"


async def test_a_route_has_its_own_numbers(ask):
    """A refusal is 200 where the route says so, with its body."""
    assert (await ask("POST", "/refuse"))[:2] == (200, b'{"status":"FAILURE"}')


async def test_a_bad_payload_is_explained(ask):
    """The answer to a bad payload is 400 and names the rule."""
    code, body, _ = await ask("POST", "/spoil", b"x")
    assert (code, json.loads(body)["message"]) == (400, "the name is missing")


@pytest.mark.parametrize(
    ("ended", "code", "empty"),
    [
        ("ok", 200, True),
        ("refused", 403, True),
        ("unauthenticated", 401, True),
        ("gone", 401, True),
        ("not_found", 404, False),
        ("overloaded", 503, False),
        ("internal", 500, True),
    ],
)
async def test_every_status_has_a_number(ask, ended, code, empty):
    """401 and 500 stay empty, the others are explained."""
    got, body, headers = await ask("GET", f"/status/{ended}")
    assert (got, body == b"") == (code, empty)
    assert headers.get("Retry-After") == ("7" if ended == "overloaded" else None)


async def test_unknown_paths_and_methods(ask):
    """Nothing there is 404; another method there is 405 and says which."""
    assert (await ask("GET", "/nowhere"))[0] == 404
    code, _, headers = await ask("PUT", "/echo/x")
    assert (code, headers["Allow"]) == (405, "GET, POST")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused(listener, chunked):
    """A body over the bound is 413 with ThingsBoard's text, announced or not."""

    async def pieces():
        for _ in range(3):
            yield b"x" * 500

    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{listener.port}/echo/t"
        async with session.post(url, data=pieces() if chunked else b"x" * 1001) as answer:
            assert answer.status == 413
            assert await answer.json() == "Payload size exceeds the limit of 1000 bytes"


async def raw(listener, data):
    """Send bytes and read until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "data",
    [b"", b"POST /echo/t HT", b"POST /echo/t HTTP/1.1\r\nHost: x\r\nX: "],
)
async def test_a_client_that_dawdles_is_closed(listener, data):
    """A connection without a whole request is closed after the read time-out."""
    assert await raw(listener, data) == b""


async def test_a_dawdling_body_is_408(listener):
    """A body that never arrives is answered 408, and the connection closed."""
    answer = await raw(
        listener, b"POST /echo/t HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"
    )
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"\x00" * 3000, b"A" * 20000 + b"\r\n"]
)
async def test_garbage_is_answered_or_closed(listener, data):
    """What is not HTTP gets a 400 or a closed connection, and the server lives on."""
    answer = await raw(listener, data)
    assert answer == b"" or answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert (await raw(listener, b"GET /status/ok HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200")


async def test_one_connection_too_many_is_told_later(listener):
    """Beyond the bound a client gets 503 and a Retry-After; when others leave, it is served."""
    held = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert b"503" in await raw(listener, b"GET /status/ok HTTP/1.0\r\n\r\n")
    for _, writer in held:
        writer.close()
    await asyncio.sleep(0.05)
    assert b"200" in await raw(listener, b"GET /status/ok HTTP/1.0\r\n\r\n")


async def test_a_stop_answers_what_was_taken():
    """A request under way when the stop begins gets its answer; new connections are refused."""
    gate = asyncio.Event()

    async def slow(call):
        await gate.wait()
        return Reply(b"late")

    route = Route(name="slow", handler=slow, http=("GET /slow",))
    served = HttpListener(
        Router([route], Wire.HTTP, Gauge(9)), host="127.0.0.1", port=0, error_body=error_body
    )
    await served.start()
    port = served.port
    async with aiohttp.ClientSession() as session:
        asking = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/slow"))
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(served.stop(5.0))
        await asyncio.sleep(0.05)
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        gate.set()
        answer = await asking
        assert await answer.read() == b"late"
        answer.release()
        await stopping
