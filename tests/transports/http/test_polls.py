"""Requests that wait for something that may never come."""

from __future__ import annotations

import asyncio
import time

import pytest
from http_ground import HEAD, ROUTES, make_listener

from gateway.wire.call import Reply
from gateway.wire.route import Route

ASK = b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n"


class Desk:
    """A route to wait at; it remembers who waits and who was sent away."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.waiting = 0
        self.cancelled = 0
        self.changed = asyncio.Event()

    async def wait(self, call):
        self.waiting += 1
        self.changed.set()
        try:
            await self.news.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
            self.changed.set()
        return Reply(b"news")

    async def until(self, waiting):
        """Until so many wait, or the test fails."""
        async with asyncio.timeout(10):
            while self.waiting != waiting:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def desk():
    return Desk()


@pytest.fixture
async def listener(desk):
    poll = Route(name="poll", handler=desk.wait, http=("GET /poll", "POST /poll/{n}"), patient=True)
    slow = Route(name="slow", handler=desk.wait, http=("GET /slow",))
    served = make_listener([poll, slow, *ROUTES], max_connections=3000, read_timeout_s=30.0)
    await served.start()
    yield served
    await served.stop(0.5)


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize(
    "request_", [ASK, HEAD.replace(b"echo", b"poll") + b"Content-Length: 2\r\n\r\nhi"]
)
async def test_who_leaves_waits_no_longer(listener, desk, logged, how, request_, connect):
    """When the client is gone its handler is cancelled at once, and nothing is logged over it."""
    _, writer = await connect(listener, request_)
    await desk.until(waiting=1)
    writer.close() if how == "close" else writer.transport.abort()
    async with asyncio.timeout(3):
        await desk.until(waiting=0)
    assert desk.cancelled == 1
    await asyncio.sleep(0.01)
    assert not listener._connections
    assert listener._in_flight == 0
    assert not logged()


async def test_who_stays_gets_the_news(listener, desk, connect):
    """One poll's client leaves, the other is answered, and again on the same connection."""
    _, gone = await connect(listener, ASK)
    reader, writer = await connect(listener, ASK)
    await desk.until(waiting=2)
    gone.close()
    await desk.until(waiting=1)
    desk.news.set()
    for _ in range(2):
        assert (await reader.readuntil(b"news")).startswith(b"HTTP/1.1 200 ")
        writer.write(ASK)


async def test_what_is_done_for_nobody_is_done_all_the_same(listener, desk, connect):
    """A request that is no poll runs to its end although its client has gone."""
    _, writer = await connect(listener, ASK.replace(b"poll", b"slow"))
    await desk.until(waiting=1)
    writer.transport.abort()
    await asyncio.sleep(0.05)
    assert (desk.waiting, desk.cancelled) == (1, 0)
    desk.news.set()
    await desk.until(waiting=0)
    assert desk.cancelled == 0


async def test_a_head_takes_no_news(listener, desk, connect):
    """HEAD would lose what it waited for: 405, and the methods that are left."""
    reader, _ = await connect(listener, ASK.replace(b"GET", b"HEAD"))
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET\r\n" in answer
    assert desk.waiting == 0


async def test_a_stop_sends_polls_away_at_once(listener, desk, connect):
    """Polls are told 503 and when to come back; a slow request beside them gets its answer."""
    reader, _ = await connect(listener, ASK)
    slow_reader, _ = await connect(listener, ASK.replace(b"poll", b"slow"))
    await desk.until(waiting=2)
    began = time.monotonic()
    stopping = asyncio.create_task(listener.stop(5.0))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 4)
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 5\r\n" in head
    assert b"\r\nConnection: close\r\n" in head
    assert (desk.waiting, desk.cancelled) == (1, 1)
    desk.news.set()
    assert await slow_reader.readuntil(b"news")
    await stopping
    assert time.monotonic() - began < 4.5


async def test_polls_do_not_hold_up_a_stop(listener, desk, connect):
    """With nothing but polls under way a stop is over at once, whatever the grace."""
    await connect(listener, ASK)
    await desk.until(waiting=1)
    began = time.monotonic()
    await listener.stop(8.0)
    assert time.monotonic() - began < 5
    assert desk.cancelled == 1


async def test_a_poll_that_comes_with_the_stop_does_not_begin(listener, desk, connect):
    """A kept-alive client that asks again while others are answered is sent away."""
    reader, writer = await connect(listener, b"GET /status/ok HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await connect(listener, ASK.replace(b"poll", b"slow"))
    await desk.until(waiting=1)
    stopping = asyncio.create_task(listener.stop(5.0))
    await asyncio.sleep(0)
    writer.write(ASK)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
    assert desk.waiting == 1
    desk.news.set()
    await stopping


async def test_two_thousand_polls_cost_little(listener, desk, connect):
    """While 2,000 wait nothing of them runs; others are served, and all get the news."""
    tasks = len(asyncio.all_tasks())
    clients = [await connect(listener, ASK) for _ in range(2000)]
    await desk.until(waiting=2000)
    assert len(asyncio.all_tasks()) - tasks <= 2 * 2000
    used = time.process_time()
    await asyncio.sleep(0.3)
    assert time.process_time() - used < 0.2
    reader, _ = await connect(listener, b"GET /status/ok HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    for _, left in clients[:1000]:
        left.transport.abort()
    await desk.until(waiting=1000)
    assert desk.cancelled == 1000
    desk.news.set()
    for reader, _ in clients[1000:]:
        assert await reader.readuntil(b"news")
