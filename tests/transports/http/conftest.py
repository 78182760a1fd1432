"""A listener for each test, a client for it, and an eye on what is logged."""

from __future__ import annotations

import asyncio
import logging
import socket

import aiohttp
import pytest
import structlog
import uvloop
from http_ground import make_listener


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


@pytest.fixture
async def connect():
    """Opens connections to a listener and sends bytes; drops them all when the test is over.

    A narrow one reads only what it is asked for.
    """
    opened = []

    async def dial(listener, data=b"", *, narrow=False):
        plain = socket.socket()
        plain.setblocking(False)
        if narrow:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", listener.port))
        options = {"limit": 1024} if narrow else {}
        reader, writer = await asyncio.open_connection(sock=plain, **options)
        opened.append(writer)
        writer.write(data)
        return reader, writer

    yield dial
    for writer in opened:
        writer.transport.abort()
    await asyncio.sleep(0.01)


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


def pytest_asyncio_loop_factories(item):
    """What depends on how the loop writes and closes runs on both loops it may meet."""
    factories = {"asyncio": asyncio.new_event_loop}
    if item.path.stem in ("test_polls", "test_pieces"):
        factories["uvloop"] = uvloop.new_event_loop
    return factories
