"""HTTP, on aiohttp's low-level server: sockets ⇄ `Router`. No dialect, no decision.

`web.Server` rather than `web.Application`: the router is ours, and the application's resolver,
middlewares and signals cost a fifth of the requests per second. aiohttp's access log is off; the
router writes one structured line per call. Bodies are taken as they are: a compressed one is
refused, since a few kilobytes may unfold to gigabytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestHandler

from gateway.core.model import Peer
from gateway.transports.http_connection import SERVER, Connection, Full
from gateway.transports.listening import listen_tcp, port_of
from gateway.wire.call import NOTHING, Format, Reply, Status
from gateway.wire.route import Address, Route
from gateway.wire.router import Router

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
_METHODS = ("GET", "POST", "PUT", "DELETE")


def _address(method: str, path: str) -> Address:
    """A percent-encoded path is split before it is decoded: `%2F` is no separator."""
    address = f"{method} {path}"
    return tuple(map(unquote, address.split("/"))) if "%" in path else address


def _query(text: str) -> dict[str, str]:
    """A name given more than once has its values joined with commas, as Spring does it."""
    query: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    return query


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
        self._connections: set[Connection] = set()
        self._silent: dict[Connection, float] = {}
        """When each connection that never sent a whole request was opened."""
        self._servers: list[asyncio.Server] = []
        self._web: web.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on (the one picked, when 0 was asked for)."""
        return port_of(self._servers)

    async def start(self) -> None:
        """Listen. Raises `OSError` when the address cannot be had."""
        self._web = web.Server(self._handle, request_factory=self._request)
        self._servers = await listen_tcp(self._protocol, self._host, self._want_port, 1024)
        self._sweeper = asyncio.create_task(self._sweep(), name="http.sweep")

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, answer what was taken, close the connections.

        A request is taken once its body has arrived: half an upload is not waited for.
        """
        if self._web is None or self._sweeper is None:
            return
        self._sweeper.cancel()
        self._stopping = True
        for server in self._servers:
            server.close()
        deadline = time.monotonic() + grace_s
        while self._in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in self._connections:
            connection.end_body()
        self._web.pre_shutdown()
        await self._web.shutdown(min(1.0, grace_s))
        await asyncio.gather(self._sweeper, return_exceptions=True)

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
        if len(self._connections) >= self._max_connections:
            return Full()
        connection = Connection(self._web, forget=self._forget, unreadable=self._unreadable)
        self._connections.add(connection)
        self._silent[connection] = time.monotonic()
        return connection

    def _forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        self._silent.pop(connection, None)

    async def _sweep(self) -> None:
        """Close connections that never sent a whole request. aiohttp minds only kept-alive ones."""
        while True:
            await asyncio.sleep(max(0.05, self._read_timeout_s / 6))
            oldest = time.monotonic() - self._read_timeout_s
            late = [connection for connection, opened in self._silent.items() if opened < oldest]
            for connection in late:
                self._forget(connection)
                connection.force_close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        self._silent.pop(connection, None)
        try:
            body = await self._read(request, connection)
        except _BadBody as exc:
            return self._bad_body(exc)
        except web.HTTPRequestEntityTooLarge:
            return self._too_large()
        except OSError:
            return self._error(400, "the body did not arrive", close=True)  # nobody is there
        self._in_flight += 1
        try:
            response = await self._answer(request, body, connection.peer)
        finally:
            self._in_flight -= 1
        if self._stopping:
            # Kept alive, a busy client would ask again and again until the grace is over.
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest, body: bytes, peer: Peer) -> web.Response:
        raw = request.raw_path
        if not raw.startswith("/"):
            raw = request.path_qs  # the absolute form of RFC 9112, section 3.2.2
        path, _, query_text = raw.partition("?")
        method = request.method
        if method == "HEAD":
            method = "GET"  # aiohttp leaves the body out (RFC 9110, section 9.3.2)
        route, reply = await self._router.answer(
            _address(method, path), body, peer, query=_query(query_text) if query_text else NOTHING
        )
        if route is None:
            return self._unrouted(path)
        return self._response(route, reply)

    async def _read(self, request: web.BaseRequest, connection: Connection) -> bytes:
        """The whole body. Raises `_BadBody`, or `OSError` when the client is gone."""
        content = request.content
        if content.at_eof():
            return b""
        length = request.content_length
        if length is not None and length > self._max_body:
            raise web.HTTPRequestEntityTooLarge(self._max_body, length)
        encoding = request.headers.get("Content-Encoding")
        if encoding is not None and encoding.lower() != "identity":
            raise _BadBody(415, "send the body without a Content-Encoding")
        if not content.is_eof():
            return await self._receive(request, connection)
        body = content.read_nowait()
        if len(body) > self._max_body:
            raise web.HTTPRequestEntityTooLarge(self._max_body, len(body))
        return body

    async def _receive(self, request: web.BaseRequest, connection: Connection) -> bytes:
        """A body that is still on its way."""
        expected = request.headers.get("Expect", "")
        if expected.lower() == "100-continue" and request.version >= HttpVersion11:
            connection.encourage()
        connection.await_body(request.content)
        try:
            async with asyncio.timeout(self._read_timeout_s):
                body = await request.read()
        except TimeoutError:
            raise _BadBody(408, "the body did not arrive in time") from None
        finally:
            whole = connection.body_is_whole()
        if whole:
            return body
        if self._stopping:
            raise _BadBody(503, "shutting down, try again later")
        raise _BadBody(400, "the body cannot be read")

    def _response(self, route: Route, reply: Reply) -> web.Response:
        status = reply.status
        code = route.http_codes.get(status) or CODES[status]
        if not reply.body and code in _EXPLAINED:
            return self._error(code, reply.reason, retry_after_s=reply.retry_after_s)
        headers = {"Server": SERVER}
        media_type = _MEDIA_TYPES.get(reply.format)
        if media_type is not None:
            headers["Content-Type"] = media_type
        return web.Response(body=reply.body, status=code, headers=headers)

    def _unrouted(self, path: str) -> web.Response:
        allowed = [
            method for method in _METHODS if self._router.match(_address(method, path)) is not None
        ]
        if not allowed:
            return self._error(404, "nothing is served here")
        response = self._error(405, f"use {' or '.join(allowed)} here")
        if "GET" in allowed:
            allowed.insert(1, "HEAD")
        response.headers["Allow"] = ", ".join(allowed)
        return response

    def _unreadable(self) -> web.Response:
        """The answer to what is not HTTP. It repeats nothing of it."""
        return self._error(400, "the request is not valid HTTP", close=True)

    def _bad_body(self, why: _BadBody) -> web.Response:
        response = self._error(why.code, why.message, close=True)
        if why.code == 415:
            response.headers["Accept-Encoding"] = "identity"  # RFC 9110, section 12.5.3
        elif why.code == 503:
            response.headers["Retry-After"] = "5"
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
            headers={"Server": SERVER},
        )
        if retry_after_s:
            response.headers["Retry-After"] = str(retry_after_s)
        if close:
            response.force_close()
        return response


class _BadBody(Exception):
    """The body of a request cannot be had; what the client is told."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
