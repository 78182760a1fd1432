"""Bodies that are waited for, and bodies that end badly."""

from __future__ import annotations

import asyncio
import gzip
import json

import aiohttp
import pytest
from http_ground import CHUNKED, EXPECT, HEAD, ROUTES, first_of, make_listener, raw

from gateway.wire.call import Reply
from gateway.wire.route import Route


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


async def test_a_dawdling_body_is_408(listener):
    """A body that never arrives is answered 408, and the connection closed."""
    answer = await raw(
        listener, b"POST /echo/t HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"
    )
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_waits_for_leave_gets_it(listener):
    """`Expect: 100-continue` is answered before the body, and the request after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    for _ in range(2):
        writer.write(EXPECT)
        async with asyncio.timeout(5):
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


@pytest.mark.parametrize("pieces", [1, 2, 3])
async def test_a_bad_chunk_is_answered_at_once(listener, logged, pieces):
    """A chunk that is none is 400, at once, wherever it comes; the connection is closed."""
    parts = [CHUNKED, b"3\r\nabc\r\n", b"nonsense\r\n"]
    sent = [b"".join(parts[: 4 - pieces]), *parts[4 - pieces :]]
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    for part in sent:
        writer.write(part)
        await asyncio.sleep(0.02)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))  # 408 at the read time-out
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400
    assert b"tok-secret" not in answer
    assert b"nonsense" not in answer
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
    answers = await asyncio.wait_for(reader.read(), 5)
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
    async with asyncio.timeout(5):
        while listener._connections:
            await asyncio.sleep(0.01)
    assert len(logged()) <= 1
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


async def test_a_handler_sees_all_that_is_accepted():
    """A second line of Accept counts as the first does (RFC 9110, section 5.3); others are kept."""
    seen = []

    async def look(call):
        seen.append(dict(call.headers))
        return Reply()

    served = make_listener([Route(name="look", handler=look, http=("GET /look",))])
    await served.start()
    try:
        lines = b"Host: x\r\nAccept: text/html\r\naccept: a/b;q=0.5\r\nX-One: 1\r\n"
        assert b" 200 " in await first_of(served, b"GET /look HTTP/1.1\r\n" + lines + b"\r\n")
    finally:
        await served.stop(1.0)
    assert seen == [{"Host": "x", "Accept": "text/html, a/b;q=0.5", "X-One": "1"}]
