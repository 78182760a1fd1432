"""HTTP, on aiohttp's low-level server: sockets ⇄ `Router`. No dialect, no decision.

`web.Server` rather than `web.Application`: the router is ours, and the application's resolver,
middlewares and signals cost a fifth of the requests per second. aiohttp's access log is off; the
router writes one structured line per call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.core.model import Peer, Wire
from gateway.wire.call import NOTHING, Format, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Router

log = structlog.get_logger()

ErrorBody = Callable[[int, str], bytes]
"""Makes the body of an answer that is an error: `(HTTP status, sentence for the peer)`."""

CODES: Mapping[Status, int] = {
    Status.OK: 200,
    Status.REFUSED: 403,
    Status.UNDECODABLE: 400,
    Status.BAD_REQUEST: 400,
    Status.UNAUTHENTICATED: 401,
    Status.NOT_FOUND: 404,
    Status.METHOD_NOT_ALLOWED: 405,
    Status.GONE: 401,
    Status.OVERLOADED: 503,
    Status.INTERNAL: 500,
}
_MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.TEXT: "text/plain; charset=utf-8",
    Format.PROTOBUF: "application/x-protobuf",
}
_EXPLAINED = frozenset({400, 404, 405, 503})
"""Statuses whose empty body becomes an error body. 401 and 500 stay empty (contract, 11)."""
_SERVER = "gatehouse"
"""aiohttp would name itself, Python and both versions to every stranger."""
_METHODS = ("GET", "POST", "PUT", "DELETE")
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


class HttpListener:
    """Serves a `Router` over HTTP/1.1 on one address.

    - `max_body_bytes`: larger bodies are answered 413 and not read on.
    - `max_connections`: one more is answered 503 and closed.
    - `read_timeout_s`: how long a client may take for its first request, and for any body.
    - `error_body`: makes the bodies of errors, in the shape the served dialects expect.
    """

    def __init__(
        self,
        router: Router,
        *,
        host: str,
        port: int,
        error_body: ErrorBody,
        max_body_bytes: int = 1_048_576,
        max_connections: int = 10_000,
        read_timeout_s: float = 30.0,
    ) -> None:
        self._router = router
        self._host = host
        self._want_port = port
        self._error_body = error_body
        self._max_body = max_body_bytes
        self._max_connections = max_connections
        self._read_timeout_s = read_timeout_s
        self._in_flight = 0
        self._stopping = False
        self._opened: dict[RequestHandler, float] = {}
        self._server: asyncio.Server | None = None
        self._web: web.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on (the one picked, when 0 was asked for)."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises `OSError` when the address cannot be had."""
        self._web = web.Server(
            self._handle,
            request_factory=self._request,
            access_log=None,
            keepalive_timeout=75,
            lingering_time=1.0,
        )
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._protocol, self._host, self._want_port, backlog=1024
        )
        self._sweeper = asyncio.create_task(self._sweep(), name="http.sweep")

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, answer what was taken, close the connections."""
        if self._server is None or self._web is None:
            return
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._stopping = True
        self._server.close()
        deadline = time.monotonic() + grace_s
        while self._in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._web.pre_shutdown()
        await self._web.shutdown(min(1.0, grace_s))

    def _request(
        self,
        message: Any,
        payload: Any,
        protocol: RequestHandler,
        writer: Any,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        """aiohttp's own request factory, with our bound on the body."""
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._max_body,
        )

    def _protocol(self) -> asyncio.Protocol:
        assert self._web is not None
        if len(self._web.connections) >= self._max_connections:
            return _Full()
        handler = self._web()
        self._opened[handler] = time.monotonic()
        return handler

    async def _sweep(self) -> None:
        """Close connections that never sent a whole request. aiohttp minds only kept-alive ones."""
        while True:
            await asyncio.sleep(max(0.05, self._read_timeout_s / 6))
            oldest = time.monotonic() - self._read_timeout_s
            for handler, opened in list(self._opened.items()):
                if handler.transport is None or opened < oldest:
                    del self._opened[handler]
                    handler.force_close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._opened.pop(request.protocol, None)
        self._in_flight += 1
        try:
            response = await self._answer(request)
        finally:
            self._in_flight -= 1
        if self._stopping:
            # Kept alive, a busy client would ask again and again until the grace is over.
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        raw = request.raw_path
        if not raw.startswith("/"):
            raw = request.path_qs  # the absolute form of RFC 9112, section 3.2.2
        path, _, query_text = raw.partition("?")
        if "%" in path:
            path = unquote(path)
        try:
            body = await self._read(request)
        except web.HTTPRequestEntityTooLarge:
            return self._too_large()
        except TimeoutError:
            return self._error(408, "the body did not arrive in time", close=True)
        query = dict(parse_qsl(query_text, keep_blank_values=True)) if query_text else NOTHING
        route, reply = await self._router.answer(
            f"{request.method} {path}", body, self._peer(request), query=query
        )
        if route is None:
            return self._unrouted(path)
        return self._response(route, reply)

    async def _read(self, request: web.BaseRequest) -> bytes:
        if not request.can_read_body:
            return b""
        length = request.content_length
        if length is not None and length > self._max_body:
            raise web.HTTPRequestEntityTooLarge(self._max_body, length)
        if request.content.is_eof():
            return await request.read()
        async with asyncio.timeout(self._read_timeout_s):
            return await request.read()

    def _peer(self, request: web.BaseRequest) -> Peer:
        transport = request.transport
        name = transport.get_extra_info("peername") if transport is not None else None
        return Peer(Wire.HTTP, f"{name[0]}:{name[1]}" if name else "unknown")

    def _response(self, route: Route, reply: Reply) -> web.Response:
        status = reply.status
        code = route.http_codes.get(status) or CODES[status]
        if not reply.body and code in _EXPLAINED:
            return self._error(code, reply.reason, retry_after_s=reply.retry_after_s)
        headers = {"Server": _SERVER}
        media_type = _MEDIA_TYPES.get(reply.format)
        if media_type is not None:
            headers["Content-Type"] = media_type
        return web.Response(body=reply.body, status=code, headers=headers)

    def _unrouted(self, path: str) -> web.Response:
        allowed = [method for method in _METHODS if self._router.match(f"{method} {path}")]
        if not allowed:
            return self._error(404, "nothing is served here")
        response = self._error(405, f"use {' or '.join(allowed)} here")
        response.headers["Allow"] = ", ".join(allowed)
        return response

    def _too_large(self) -> web.Response:
        """ThingsBoard's own text, a JSON string (contract, section 3)."""
        response = web.Response(
            body=f'"Payload size exceeds the limit of {self._max_body} bytes"'.encode(),
            status=413,
            content_type="application/json",
        )
        response.force_close()
        return response

    def _error(
        self, code: int, message: str, *, retry_after_s: int = 0, close: bool = False
    ) -> web.Response:
        response = web.Response(
            body=self._error_body(code, message),
            status=code,
            content_type="application/json",
            headers={"Server": _SERVER},
        )
        if retry_after_s:
            response.headers["Retry-After"] = str(retry_after_s)
        if close:
            response.force_close()
        return response


class _Full(asyncio.Protocol):
    """Says that there is no room, and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_FULL)
        transport.close()
