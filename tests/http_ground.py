"""An HTTP listener on loopback with routes of the tests' own, and clients that write bytes."""

from __future__ import annotations

import asyncio
import json

from gateway.core.model import Wire
from gateway.transports.http import HttpListener
from gateway.wire.call import BadPayload, ErrorShape, Format, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

HEAD = b"POST /echo/tok-secret HTTP/1.1\r\nHost: x\r\n"
EXPECT = HEAD + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


async def echo(call):
    seen = {"token": call.params["token"], "query": dict(call.query), "size": len(call.body)}
    return Reply(json.dumps(seen).encode(), format=Format.JSON)


async def refuse(call):
    return Reply(b'{"status":"FAILURE"}', Status.REFUSED, Format.JSON, "taken")


async def spoil(call):
    raise BadPayload("the name is missing")


async def status(call):
    ended = Status(call.params["status"])
    later = int(call.query.get("later", "0"))
    return Reply(status=ended, retry_after_s=later, reason="as it is")


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


def shapes(body):
    """Errors told in one way at every path."""
    shape = ErrorShape(
        body=body,
        explained=frozenset({400, 404, 405, 429, 503}),
        too_large=lambda most: f'"Payload size exceeds the limit of {most} bytes"'.encode(),
    )
    return lambda path: shape


def make_listener(routes=ROUTES, **options):
    options = {"max_body_bytes": 1000, "max_connections": 5, "read_timeout_s": 0.3, **options}
    router = Router(routes, Wire.HTTP, Gauge(100), polls=Gauge(5000))
    return HttpListener(router, host="127.0.0.1", port=0, shapes=shapes(error_body), **options)


async def raw(listener, data):
    """Send bytes and read until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def first_of(listener, data):
    """The first that comes back for `data`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(20000), 5)
    finally:
        writer.close()
