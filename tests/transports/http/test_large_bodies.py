"""Bodies larger than anybody may send, for routes that take them from some."""

from __future__ import annotations

import asyncio

import pytest
from http_ground import make_listener, raw

from gateway.core.errors import StoreUnavailable
from gateway.wire.call import Reply
from gateway.wire.route import Route

LARGE = 5000
"""The listener of these tests takes 1000 bytes from anybody, the route so many."""


class Ground:
    """A listener with one route for large bodies, and who was asked whether they may be sent."""

    def __init__(self, admits=True):
        self.admits = admits
        self.asked = []
        self.sizes = []
        self.wait = asyncio.Event()
        self.wait.set()

    def listener(self, **options):
        large = Route(
            name="large",
            handler=self.handle,
            http=("POST /large/{name}",),
            max_body_bytes=LARGE,
            admits_large=self.may,
        )
        small = Route(name="small", handler=self.handle, http=("POST /small",))
        return make_listener([large, small], **options)

    async def handle(self, call):
        self.sizes.append(len(call.body))
        await self.wait.wait()
        return Reply(b"taken")

    async def may(self, headers):
        self.asked.append(headers.get("X-Who"))
        if isinstance(self.admits, Exception):
            raise self.admits
        return self.admits


def announced(size, path="/large/a", sent=None):
    body = b"x" * (size if sent is None else sent)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Who: me\r\nConnection: close\r\n"
    return f"{head}Content-Length: {size}\r\n\r\n".encode() + body


def chunked(size):
    head = b"POST /large/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    pieces = b"".join(b"%x\r\n%b\r\n" % (500, b"x" * 500) for _ in range(size // 500))
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"


@pytest.fixture
async def serving():
    """Starts the listener of a ground, and stops it in the end."""
    started = []

    async def start(ground, **options):
        listener = ground.listener(**options)
        await listener.start()
        started.append(listener)
        return listener

    yield start
    for listener in started:
        await listener.stop(0)


@pytest.mark.parametrize("request_of", [announced, chunked])
async def test_whoever_may_sends_more(serving, request_of):
    """A body up to the route's own bound is taken, whether its length is told or not."""
    ground = Ground()
    listener = await serving(ground)
    assert b"taken" in await raw(listener, request_of(4000))
    assert ground.sizes == [4000]


@pytest.mark.parametrize("request_of", [announced, chunked])
async def test_the_route_has_a_bound_too(serving, request_of):
    """Beyond it the answer is 413, with that bound."""
    ground = Ground()
    listener = await serving(ground)
    answer = await raw(listener, request_of(LARGE + 500))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"limit of 5000 bytes" in answer
    assert ground.sizes == []


async def test_others_may_not_and_are_told_before_they_send(serving):
    """Who asks is decided by the headers alone; 413 comes though no byte of the body did."""
    ground = Ground(admits=False)
    listener = await serving(ground)
    answer = await raw(listener, announced(4000, sent=0))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"limit of 1000 bytes" in answer
    assert ground.asked == ["me"]


async def test_nobody_is_asked_about_a_small_body(serving):
    """What anybody may send is taken without a question, on such a route too."""
    ground = Ground(admits=False)
    listener = await serving(ground)
    assert b"taken" in await raw(listener, announced(1000))
    assert ground.asked == []


async def test_other_routes_stay_as_they_are(serving):
    """The bound of one route is none of another's."""
    ground = Ground()
    listener = await serving(ground)
    assert (await raw(listener, announced(4000, "/small"))).startswith(b"HTTP/1.1 413")
    assert (await raw(listener, announced(4000, "/none"))).startswith(b"HTTP/1.1 413")


async def test_while_it_cannot_be_decided_it_is_later(serving):
    """When the store cannot say who asks, the answer is 503, and the server lives."""
    ground = Ground(admits=StoreUnavailable("disk"))
    listener = await serving(ground)
    assert (await raw(listener, announced(4000))).startswith(b"HTTP/1.1 503")
    assert b"taken" in await raw(listener, announced(100))


async def test_only_so_many_at_once(serving):
    """One large body more than the bound is answered 503; after one is done, it is taken."""
    ground = Ground()
    ground.wait.clear()
    listener = await serving(ground, max_large_bodies=1)
    first = asyncio.create_task(raw(listener, announced(4000)))
    while not ground.sizes:
        await asyncio.sleep(0.01)
    assert (await raw(listener, announced(4000))).startswith(b"HTTP/1.1 503")
    ground.wait.set()
    assert b"taken" in await first
    assert b"taken" in await raw(listener, announced(4000))
