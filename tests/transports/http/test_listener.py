"""Connections: too many, too slow, of no sense, and their end."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest
import structlog
import uvloop
from http_ground import HEAD, ROUTES, make_listener, raw

from gateway.wire.call import Reply
from gateway.wire.route import Route


@pytest.mark.parametrize(
    "data",
    [b"", b"POST /echo/t HT", b"POST /echo/t HTTP/1.1\r\nHost: x\r\nX: "],
)
async def test_a_client_that_dawdles_is_closed(listener, data):
    """A connection without a whole request is closed after the read time-out."""
    assert await raw(listener, data) == b""


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
    assert time.monotonic() - began < 4
    answer = await asyncio.wait_for(reader.read(), 5)
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
