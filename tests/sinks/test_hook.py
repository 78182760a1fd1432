"""The hook against a real web service on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gateway.core.model import Device
from gateway.sinks.hook import Hook

DEVICE = Device(id=1, uuid="u-1", name="meter", type="water", profile_id=1, credentials_row=1)


@asynccontextmanager
async def service(handle: Any) -> AsyncIterator[str]:
    """A web service of the operator's; its address."""
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/rpc"
    await runner.cleanup()


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[Hook]:
    hook = Hook(url, **{"timeout_s": 5.0, **settings})
    await hook.open()
    yield hook
    await hook.close()


async def asked(handle: Any, **settings: Any) -> bytes | None:
    async with service(handle) as url, opened(url, **settings) as hook:
        return await hook(DEVICE, "getTerm", '{"n":1}')


async def test_the_answer_of_the_service_goes_to_the_device_as_it_is() -> None:
    """The service is told who calls what, and its JSON comes back byte for byte."""
    seen: list[Any] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        seen.append((request.method, request.path, await request.json()))
        return web.Response(body=b'{ "term": 7 }', content_type="application/json")

    assert await asked(handle) == b'{ "term": 7 }'
    told = {
        "device": {"id": "u-1", "name": "meter", "type": "water"},
        "method": "getTerm",
        "params": {"n": 1},
    }
    assert seen == [("POST", "/rpc", told)]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b"", None),
        (500, b'{"a":1}', b'{"error":"the hook failed"}'),
        (302, b'{"a":1}', b'{"error":"the hook failed"}'),
        (200, b"not json", b'{"error":"the hook failed"}'),
        (200, b"", b'{"error":"the hook failed"}'),
        (200, b'"' + b"x" * 100 + b'"', b'{"error":"the hook failed"}'),
        (200, b"7", b"7"),
    ],
)
async def test_what_is_no_answer_is_an_error(
    status: int, body: bytes, expected: bytes | None
) -> None:
    """Only JSON of a bounded length with a status of success reaches the device."""

    async def handle(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, body=body, headers={"Location": "/elsewhere"})

    assert await asked(handle, max_answer=100) == expected


async def test_a_service_that_is_not_there_is_an_error_at_once() -> None:
    """A refused connection does not keep the device waiting."""
    async with opened("http://127.0.0.1:9/") as hook:
        assert await hook(DEVICE, "m", "{}") == b'{"error":"the hook failed"}'


async def test_a_slow_service_times_out_and_too_many_calls_are_told_so() -> None:
    """One call may be under way: the second is told to come later, the first times out."""

    async def handle(_request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async with service(handle) as url, opened(url, timeout_s=0.3, max_calls=1) as hook:
        first = asyncio.create_task(hook(DEVICE, "m", "{}"))
        await asyncio.sleep(0.05)
        assert await hook(DEVICE, "m", "{}") == b'{"error":"busy, try again later"}'
        with pytest.raises(TimeoutError):
            await first
