"""HTTP on loopback with routes of the tests' own."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time

import aiohttp
import pytest
import structlog
import uvloop

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


def make_listener(routes=ROUTES, **options):
    options = {"max_body_bytes": 1000, "max_connections": 5, "read_timeout_s": 0.3, **options}
    router = Router(routes, Wire.HTTP, Gauge(100))
    return HttpListener(router, host="127.0.0.1", port=0, error_body=error_body, **options)


@pytest.fixture
async def listener():
    served = make_listener()
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
    assert (code, headers["Allow"]) == (405, "GET, HEAD, POST")


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


def test_one_connection_too_many_on_uvloop():
    """uvloop's connections are told the same, and no callback fails over it."""
    failures = []

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _, what: failures.append(what))
        served = make_listener(max_connections=0)
        await served.start()
        try:
            assert b"503" in await raw(served, b"")
        finally:
            await served.stop(1.0)

    uvloop.run(run())
    assert failures == []


# ── bodies that are waited for, and bodies that end badly ─────────────────────────────────────


@pytest.fixture
def logged(caplog):
    """What was logged, by us or by aiohttp, as text; at its end there is no traceback in it."""
    caplog.set_level(logging.DEBUG, "aiohttp")
    with structlog.testing.capture_logs() as ours:
        yield lambda: [*map(str, ours), *caplog.messages]
    told = [*map(str, ours), *(record.message for record in caplog.records)]
    assert not any(record.exc_info for record in caplog.records), told
    assert not any("exc_info" in event for event in ours), told
    assert not any("tok-secret" in line for line in told), told


HEAD = b"POST /echo/tok-secret HTTP/1.1\r\nHost: x\r\n"
EXPECT = HEAD + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n"


async def test_a_client_that_waits_for_leave_gets_it(listener):
    """`Expect: 100-continue` is answered before the body, and the request after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    for _ in range(2):
        writer.write(EXPECT)
        async with asyncio.timeout(0.2):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"12345")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert await reader.readuntil(b'"size": 5}')
    writer.close()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (EXPECT.replace(b"5", b"1001"), b"HTTP/1.1 413 "),
        (EXPECT + b"12345", b"HTTP/1.1 200 "),
        (EXPECT.replace(b"HTTP/1.1", b"HTTP/1.0"), b"HTTP/1.0 408 "),
        (EXPECT.replace(b"100-Continue", b"x"), b"HTTP/1.1 408 "),
    ],
)
async def test_leave_is_given_only_where_it_is_wanted(listener, request_, answer):
    """Not for a body too large, one that is there, HTTP/1.0, or another expectation."""
    assert (await first_of(listener, request_)).startswith(answer)


async def first_of(listener, data):
    """The first that comes back for `data`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(20000), 5)
    finally:
        writer.close()


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("pieces", [1, 2, 3])
async def test_a_bad_chunk_is_answered_at_once(listener, logged, pieces):
    """A chunk that is none is 400, at once, wherever it comes; the connection is closed."""
    parts = [CHUNKED, b"3\r\nabc\r\n", b"nonsense\r\n"]
    sent = [b"".join(parts[: 4 - pieces]), *parts[4 - pieces :]]
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    for part in sent:
        writer.write(part)
        await asyncio.sleep(0.02)
    answer = await asyncio.wait_for(reader.read(), 1)
    writer.close()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400
    assert b"tok-secret" not in answer
    assert b"nonsense" not in answer
    assert time.monotonic() - began < 0.25  # before the read time-out
    assert len(logged()) <= 1


async def test_a_bad_chunk_behind_a_slow_request_is_answered_at_once(logged):
    """A body spoiled while the request before it was served is 400 when its turn comes."""
    gate = asyncio.Event()

    async def slow(call):
        await gate.wait()
        return Reply(b"late")

    served = make_listener([Route(name="s", handler=slow, http=("GET /s",)), *ROUTES])
    await served.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    for part in (b"GET /s HTTP/1.1\r\nHost: x\r\n\r\n" + CHUNKED, b"nonsense\r\n"):
        writer.write(part)
        await asyncio.sleep(0.02)
    gate.set()
    answers = await asyncio.wait_for(reader.read(), 0.25)
    assert [b" 200 " in answers, b" 400 " in answers] == [True, True]
    writer.close()
    await served.stop(1.0)


@pytest.mark.parametrize("announced", [b"Content-Length: 10\r\n\r\nhalf", CHUNKED[len(HEAD) :]])
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_dropped_upload_is_no_event(listener, logged, announced, how):
    """A client that leaves within its body leaves no traceback, and no request under way."""
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(HEAD + announced)
    await asyncio.sleep(0.02)
    writer.close() if how == "close" else writer.transport.abort()
    await asyncio.sleep(0.05)
    assert len(logged()) <= 1
    assert not listener._connections
    assert (await raw(listener, b"GET /status/ok HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "x-mine"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_compressed_body_is_refused(listener, logged, encoding, chunked):
    """No body is unfolded, good or bad, small or a bomb: 415, and what would be taken instead."""
    bomb = gzip.compress(bytes(200_000))[:900]
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(bomb)
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(bomb), bomb) if chunked else bomb
    answer = await first_of(
        listener,
        HEAD + b"Content-Encoding: %b\r\n%b\r\n\r\n%b" % (encoding.encode(), length, framed),
    )
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"Accept-Encoding: identity\r\n" in answer
    assert len(logged()) <= 1


async def test_a_large_body_in_one_piece_is_refused(listener):
    """Chunks that came together with their request are counted too."""
    framed = b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n"
    assert (await first_of(listener, CHUNKED + framed)).startswith(b"HTTP/1.1 413 ")


async def test_an_identical_encoding_is_none(listener):
    """`Content-Encoding: identity` names what is taken anyway."""
    head = HEAD + b"Content-Encoding: identity\r\nContent-Length: 2\r\nConnection: close\r\n"
    assert b'"size": 2' in await raw(listener, head + b"\r\nhi")


@pytest.mark.parametrize(
    "data",
    [
        b"POST /api/v1/tok-secret/telemetry HTTP/9.9\r\n\r\n",
        b"POST /echo/tok-secret HTTP/1.1\r\n\r\n",  # no Host
        HEAD + b"Content-Length: tok-secret\r\n\r\n",
        HEAD + b"tok-secret\r\n\r\n",
        b"POST tok-secret HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"tok-secret" * 1000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"tok-secret\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_told_so_and_not_repeated(listener, logged, data):
    """A malformed request gets our error body; neither it nor the log holds the request's bytes."""
    answer = await raw(listener, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert json.loads(body)["status"] == 400
    assert b"Server: gatehouse" in head
    assert b"tok-secret" not in answer
    assert len(logged()) <= 1


async def test_a_fault_of_ours_is_an_empty_500_and_is_logged(monkeypatch, caplog, listener):
    """What breaks outside the router is 500 without a word to the client, and logged with why."""

    async def broken(*_, **__):
        raise ValueError("tok-secret")

    monkeypatch.setattr(listener._router, "answer", broken)
    with structlog.testing.capture_logs() as events:
        answer = await raw(listener, b"GET /status/ok HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (head[:13], body) == (b"HTTP/1.1 500 ", b"")
    assert [event["event"] for event in events] == ["http.failed"]
    assert isinstance(events[0]["exc_info"], ValueError)
    assert caplog.records == []


# ── methods, paths and queries ────────────────────────────────────────────────────────────────


async def test_head_is_get_without_the_body(listener, ask):
    """HEAD has the head of GET's answer, its length too, and no body; the connection lives on."""
    code, body, headers = await ask("HEAD", "/echo/t?x=1")
    assert (code, body, headers["Content-Length"]) == (200, b"", "46")
    assert (await ask("HEAD", "/nowhere"))[:2] == (404, b"")
    code, _, headers = await ask("HEAD", "/refuse")
    assert (code, headers["Allow"]) == (405, "POST")
    twice = b"HEAD /echo/t HTTP/1.1\r\nHost: x\r\n\r\n" + (
        b"HEAD /echo/t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    answers = await raw(listener, twice)
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert b"{" not in answers


@pytest.mark.parametrize("start", ["", "http://h:1"])
async def test_an_encoded_slash_is_part_of_its_segment(listener, start):
    """A token with a `%2F` reaches the handler whole, and makes no longer path."""

    async def get(path):
        line = f"GET {start}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await raw(listener, line.encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head[9:12]), json.loads(body or b"{}")

    for escaped in ("a%2Fb", "a%2fb", "%61%2F%62"):
        code, seen = await get(f"/echo/{escaped}")
        assert (code, seen["token"]) == (200, "a/b")
    assert (await get("/echo%2Fx"))[0] == 404
    assert (await get("/st%61tus/ok"))[0] == 200
    assert (await get("/status%2Fok"))[0] == 404


async def test_names_given_twice_are_joined(ask):
    """Values of one query name are joined with commas, encoded or not, empty ones too."""
    _, body, _ = await ask("GET", "/echo/t?k=a&k=b%2Cc&x=&k=d")
    assert json.loads(body)["query"] == {"k": "a,b,c,d", "x": ""}


async def test_an_ipv6_peer_is_in_brackets():
    """The handler sees the client's address as it is written."""
    seen = []

    async def see(call):
        seen.append(call.peer.address)
        return Reply()

    route = Route(name="see", handler=see, http=("GET /",))
    for host, target, shown in (("::", "127.0.0.1", "127.0.0.1:"), ("::1", "::1", "[::1]:")):
        served = HttpListener(
            Router([route], Wire.HTTP, Gauge(9)), host=host, port=0, error_body=error_body
        )
        await served.start()
        _, writer = await asyncio.open_connection(target, served.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        assert seen.pop().startswith(shown)
        writer.close()
        await served.stop(1.0)


# ── the end ───────────────────────────────────────────────────────────────────────────────────


async def test_a_stop_answers_what_was_taken():
    """A request under way when the stop begins gets its answer; new connections are refused."""
    gate = asyncio.Event()

    async def slow(call):
        await gate.wait()
        return Reply(b"late")

    route = Route(name="slow", handler=slow, http=("GET /slow",))
    served = make_listener([route])
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
        assert answer.headers["Connection"] == "close"


async def test_a_kept_alive_client_is_told_of_the_stop():
    """While one slow request holds up the stop, another client's answer says the end is near."""
    gate = asyncio.Event()

    async def slow(call):
        await gate.wait()
        return Reply(b"late")

    served = make_listener([Route(name="slow", handler=slow, http=("GET /slow",)), *ROUTES])
    await served.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{served.port}") as session:
        async with session.get("/status/ok") as before:
            assert "Connection" not in before.headers
        _, slow_one = await asyncio.open_connection("127.0.0.1", served.port)
        slow_one.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(served.stop(5.0))
        await asyncio.sleep(0.05)
        async with session.get("/status/ok") as during:
            assert (during.status, during.headers["Connection"]) == (200, "close")
        gate.set()
        await stopping
        slow_one.close()


@pytest.mark.parametrize("grace_s", [0.0, 5.0])
async def test_half_an_upload_does_not_hold_up_a_stop(grace_s, logged):
    """A body that does not come is told 503 and closed at once, whatever the grace."""
    served = make_listener(read_timeout_s=30.0)
    await served.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(HEAD + b"Content-Length: 10\r\n\r\nhalf")
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await served.stop(grace_s)
    assert time.monotonic() - began < 0.5
    answer = await asyncio.wait_for(reader.read(), 1)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 503 ")
    assert grace_s == 0 or b"Connection: close" in answer
    writer.close()


async def test_a_stop_leaves_no_task():
    """When the stop is over, nothing of the listener runs any more."""
    before = asyncio.all_tasks()
    served = make_listener()
    await served.start()
    assert asyncio.all_tasks() > before
    await served.stop(1.0)
    assert asyncio.all_tasks() == before
