"""HTTP, on aiohttp's low-level server: sockets ⇄ `Router`. No dialect, no decision.

`web.Server` rather than `web.Application`: the router is ours, and the application's resolver,
middlewares and signals cost a fifth of the requests per second. aiohttp's access log is off; the
router writes one structured line per call. Bodies are taken as they are: a compressed one is
refused, since a few kilobytes may unfold to gigabytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestHandler

from gateway.core.errors import GatehouseError
from gateway.core.model import Wire
from gateway.transports.http_answers import Answers, BadBody, ErrorShapes
from gateway.transports.http_connection import Connection, Full
from gateway.transports.http_pieces import asked_range, send_pieces
from gateway.transports.listening import listen_tcp, port_of
from gateway.wire.call import NOTHING, Query, Reply, Source, Status, Vouch
from gateway.wire.route import Address, Route
from gateway.wire.router import Router

if TYPE_CHECKING:
    from gateway.transports.tls import TlsServer

_METHODS = ("GET", "POST", "PUT", "DELETE")


def _address(method: str, path: str) -> Address:
    """A percent-encoded path is split before it is decoded: `%2F` is no separator."""
    address = f"{method} {path}"
    return tuple(map(unquote, address.split("/"))) if "%" in path else address


def query_of(text: str) -> Query:
    """The parameters, form-decoded. Without a percent sign there is little to decode, and
    `parse_qsl` takes three times as long."""
    if "%" in text:
        return Query(parse_qsl(text, keep_blank_values=True))
    parts = (part.partition("=") for part in text.replace("+", " ").split("&") if part)
    return Query([(name, value) for name, _, value in parts])


def _headers(request: web.BaseRequest) -> Mapping[str, str]:
    """Lines of Accept as one (RFC 9110, section 5.3): whoever reads a header sees the first."""
    lines = request.headers.getall("Accept", ())
    if len(lines) < 2:
        return request.headers
    headers = request.headers.copy()
    headers["Accept"] = ", ".join(lines)
    return headers


def _split(request: web.BaseRequest) -> tuple[str, str]:
    """The path as it was sent, and the query."""
    raw = request.raw_path
    if not raw.startswith("/"):
        raw = request.path_qs  # the absolute form of RFC 9112, section 3.2.2
    path, _, query_text = raw.partition("?")
    return path, query_text


class HttpListener:
    """Serves a `Router` over HTTP/1.1 on one address.

    - `max_body_bytes`: larger bodies are answered 413 and not read on, unless the route takes them
      (`Route.max_body_bytes`). Those have `read_timeout_s` for each `max_body_bytes` of theirs.
    - `max_large_bodies`: of them, how many may be on their way or in memory at once; one more is
      answered 503.
    - `max_connections`: one more is answered 503 and closed.
    - `read_timeout_s`: how long a client may take for its first request, and for any body.
    - `write_timeout_s`: how long a client may take nothing of an answer that waits for it.
    - `shapes`: how errors are told, as the dialect that is served at a path expects.
    - `tls`: serve HTTPS alone; `vouch` then says who shows a certificate. Whoever it refuses gets
      401 for each request.
    """

    def __init__(
        self,
        router: Router,
        *,
        host: str,
        port: int,
        shapes: ErrorShapes,
        max_body_bytes: int = 1_048_576,
        max_large_bodies: int = 4,
        max_connections: int = 10_000,
        read_timeout_s: float = 30.0,
        write_timeout_s: float = 60.0,
        tls: TlsServer | None = None,
        vouch: Vouch | None = None,
    ) -> None:
        self._router = router
        self._host = host
        self._want_port = port
        self._answers = Answers(shapes)
        self._max_body = max_body_bytes
        self._max_large = max_large_bodies
        self._large = 0
        self._max_connections = max_connections
        self._read_timeout_s = read_timeout_s
        self._write_timeout_s = write_timeout_s
        self._wire = Wire.HTTP if tls is None else Wire.HTTPS
        self._tls = tls
        self._vouch = vouch
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
        protocol = self._protocol
        if self._tls is not None:
            protocol = self._tls.under(protocol, wire=self._wire, vouch=self._vouch)
        self._servers = await listen_tcp(protocol, self._host, self._want_port, 1024)
        self._sweeper = asyncio.create_task(self._sweep(), name="http.sweep")

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, answer what was taken, close the connections.

        A request is taken once its body has arrived: half an upload is not waited for. Those that
        wait for something to happen are told to come back.
        """
        if self._web is None or self._sweeper is None:
            return
        self._sweeper.cancel()
        self._stopping = True
        for server in self._servers:
            server.close()
        if self._tls is not None:
            self._tls.stop()
        for connection in list(self._connections):
            if self._waits(connection):
                connection.dismiss()
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
            task.get_loop(),
            client_max_size=self._max_body,
        )

    def _protocol(self) -> asyncio.Protocol:
        assert self._web is not None
        if len(self._connections) >= self._max_connections:
            return Full()
        connection = Connection(
            self._web, forget=self._forget, unreadable=self._answers.unreadable, wire=self._wire
        )
        self._connections.add(connection)
        self._silent[connection] = time.monotonic()
        return connection

    def _forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        self._silent.pop(connection, None)
        if self._waits(connection):
            assert connection.task is not None
            connection.task.cancel()  # what it waits for must not be given to nobody

    def _waits(self, connection: Connection) -> bool:
        """Whether the request under way waits for something that may never come."""
        return connection.task is not None and self._is_patient(connection.address)

    def _is_patient(self, address: Address) -> bool:
        found = self._router.match(address)
        return found is not None and found[0].patient

    async def _sweep(self) -> None:
        """Close connections that never sent a whole request, or take no answer.

        aiohttp minds only kept-alive ones.
        """
        period_s = max(0.05, min(self._read_timeout_s, self._write_timeout_s) / 6)
        while True:
            await asyncio.sleep(period_s)
            now = time.monotonic()
            for connection in list(self._connections):
                connection.cut_if_stuck(now, self._write_timeout_s)
            oldest = now - self._read_timeout_s
            late = [connection for connection, opened in self._silent.items() if opened < oldest]
            for connection in late:
                self._forget(connection)
                connection.force_close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        self._silent.pop(connection, None)
        if connection.refusal is not None:
            return self._answers.refused(connection.refusal)
        if request.content.at_eof():
            return await self._handle_within(0, 0, request, connection)
        length = request.content_length
        if length is None or length > self._max_body:
            return await self._handle_large(length, request, connection)
        return await self._handle_within(self._max_body, length, request, connection)

    async def _handle_large(
        self, length: int | None, request: web.BaseRequest, connection: Connection
    ) -> web.StreamResponse:
        """A body that is larger than what anybody may send, or in chunks: then nobody knows."""
        try:
            most = await self._bound(request)
        except GatehouseError:
            return self._answers.bad_body(BadBody(503, "busy, try again later"), request.path)
        if most == self._max_body:
            return await self._handle_within(most, length, request, connection)
        if self._large >= self._max_large:
            late = BadBody(503, "too many large bodies, try again later")
            return self._answers.bad_body(late, request.path)
        self._large += 1
        try:
            return await self._handle_within(most, length, request, connection)
        finally:
            self._large -= 1

    async def _bound(self, request: web.BaseRequest) -> int:
        """How many bytes the body of this request may have."""
        path, _ = _split(request)
        found = await self._router.find(_address(request.method, path))
        if found is None or found[0].max_body_bytes <= self._max_body:
            return self._max_body
        route = found[0]
        if route.admits_large is not None and not await route.admits_large(request.headers):
            return self._max_body
        return route.max_body_bytes

    async def _handle_within(
        self, most: int, length: int | None, request: web.BaseRequest, connection: Connection
    ) -> web.StreamResponse:
        """The answer to a request whose body may have `most` bytes, and says it has `length`."""
        try:
            body = await self._read(request, connection, most, length) if most else b""
        except BadBody as exc:
            return self._answers.bad_body(exc, request.path)
        except web.HTTPRequestEntityTooLarge:
            return self._answers.too_large(most, request.path)
        except OSError:
            return self._answers.error(400, "the body did not arrive", close=True)  # to nobody
        self._in_flight += 1
        try:
            response = await self._answer(request, body, connection)
        finally:
            self._in_flight -= 1
        if self._stopping:
            # Kept alive, a busy client would ask again and again until the grace is over.
            response.force_close()
        return response

    async def _answer(
        self, request: web.BaseRequest, body: bytes, connection: Connection
    ) -> web.StreamResponse:
        path, query_text = _split(request)
        address = _address(request.method, path)
        if request.method == "HEAD":
            address = await self._headed(address, path)
        if (request.method == "HEAD" or self._stopping) and self._is_patient(address):
            # A HEAD would be given what it waited for, and nobody would see it.
            return self._answers.stopping() if self._stopping else self._unrouted(path)
        connection.begin(address, request.task)
        try:
            route, reply = await self._router.answer(
                address,
                body,
                connection.peer,
                query=query_of(query_text) if query_text else NOTHING,
                identity=connection.identity,
                headers=_headers(request),
            )
        except asyncio.CancelledError:
            if connection.was_dismissed():
                return self._answers.stopping()
            raise
        finally:
            connection.end()
        if route is None:
            return self._unrouted(path)
        if reply.source is not None:
            return await self._answer_in_pieces(request, connection, route, reply, reply.source)
        return self._answers.reply(route, reply, path)

    async def _headed(self, own: Address, path: str) -> Address:
        """Where a HEAD is asked: at its own address if something lives there, else at GET's, and
        aiohttp leaves the body out (RFC 9110, section 9.3.2). Routes that come later are waited
        for only where there is neither."""
        plain = _address("GET", path)
        if self._router.match(own) is None:
            await self._router.find(plain)
        return plain if self._router.match(own) is None else own

    async def _answer_in_pieces(
        self,
        request: web.BaseRequest,
        connection: Connection,
        route: Route,
        reply: Reply,
        source: Source,
    ) -> web.StreamResponse:
        size = source.size
        asked = request.headers.get("Range") if request.method == "GET" else None
        span = None
        if asked and reply.status is Status.OK and "If-Range" not in request.headers:
            # If-Range names a validator, and nothing we send is one: then all of it is sent.
            span = asked_range(asked, size)
        if span is not None and not span:
            return self._answers.no_such_bytes(size)
        if span is None:
            span = range(size)
        response = self._answers.pieces(route, reply, size, span)
        if self._stopping:
            response.force_close()
        if request.method != "HEAD":
            await send_pieces(request, response, connection, source, span)
        return response

    def _unrouted(self, path: str) -> web.Response:
        """Nothing is served at `path` by the method that was asked for."""
        allowed = []
        for method in _METHODS:
            found = self._router.match(_address(method, path))
            if found is not None:
                allowed.append(method)
                if method == "GET" and not found[0].patient:
                    allowed.append("HEAD")
        return self._answers.unrouted(allowed, path)

    async def _read(
        self, request: web.BaseRequest, connection: Connection, most: int, length: int | None
    ) -> bytes:
        """The whole body. Raises `BadBody`, or `OSError` when the client is gone."""
        if length is not None and length > most:
            raise web.HTTPRequestEntityTooLarge(most, length)
        encoding = request.headers.get("Content-Encoding")
        if encoding is not None and encoding.lower() != "identity":
            raise BadBody(415, "send the body without a Content-Encoding")
        content = request.content
        if not content.is_eof():
            return await self._receive(request, connection, most)
        body = content.read_nowait()
        if len(body) > most:
            raise web.HTTPRequestEntityTooLarge(most, len(body))
        return body

    async def _receive(self, request: web.BaseRequest, connection: Connection, most: int) -> bytes:
        """A body that is still on its way."""
        expected = request.headers.get("Expect", "")
        if expected.lower() == "100-continue" and request.version >= HttpVersion11:
            connection.encourage()
        connection.await_body(request.content)
        timeout_s = self._read_timeout_s * max(1.0, most / self._max_body)
        if most > self._max_body:
            request = request.clone(client_max_size=most)
        try:
            async with asyncio.timeout(timeout_s):
                body = await request.read()
        except TimeoutError:
            raise BadBody(408, "the body did not arrive in time") from None
        finally:
            whole = connection.body_is_whole()
        if whole:
            return body
        if self._stopping:
            raise BadBody(503, "shutting down, try again later")
        raise BadBody(400, "the body cannot be read")
