"""One HTTP connection: aiohttp's, mended for bodies that end badly and errors that say too much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import structlog
from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from gateway.core.model import Peer, Wire
from gateway.transports.listening import peer_name

log = structlog.get_logger()

SERVER = "gatehouse"
"""aiohttp would name itself, Python and both versions to every stranger."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


class Connection(RequestHandler):
    """aiohttp's connection, and what it lacks: bodies that end badly, and errors kept secret.

    `forget` is told when it is closed; `unreadable` makes the answer to what is not HTTP.
    """

    __slots__ = ("_awaited", "_cut", "_forget", "_unreadable", "peer")

    def __init__(
        self,
        server: web.Server,
        *,
        forget: Callable[[Connection], object],
        unreadable: Callable[[], web.Response],
    ) -> None:
        options: dict[str, Any] = {"access_log": None}  # aiohttp's annotation forbids the None
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=75,
            lingering_time=1.0,
            auto_decompress=False,
            **options,
        )
        self._forget = forget
        self._unreadable = unreadable
        self._awaited: StreamReader | None = None
        self._cut = False
        self.peer = Peer(Wire.HTTP, "unknown")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer = Peer(Wire.HTTP, peer_name(transport.get_extra_info("peername")))
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._forget(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._awaited is not None:
            self._notice_broken_body()

    def encourage(self) -> None:
        """Tell a client that waits for it to send the body (RFC 9110, section 10.1.1)."""
        if self.transport is not None:
            self.transport.write(_CONTINUE)

    def await_body(self, content: StreamReader) -> None:
        """From now on until `body_is_whole`, `content` is being read."""
        self._awaited = content
        self._notice_broken_body()

    def body_is_whole(self) -> bool:
        """Whether the body that was awaited came to its proper end."""
        self._awaited = None
        return not self._cut

    def end_body(self) -> None:
        """End the body that is awaited, if there is one, before its time."""
        if self._awaited is not None and not self._awaited.is_eof():
            self._cut = True
            self._awaited.feed_eof()

    def _notice_broken_body(self) -> None:
        # aiohttp queues the error of a bad chunk as the next message and leaves the body waiting.
        # Nothing else can come behind a body that has not ended.
        if self._messages:
            self.end_body()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what went wrong. aiohttp's own answer and log line repeat the request's bytes."""
        if status == 400:
            log.debug("http.unreadable", peer=self.peer.address, reason=type(exc).__name__)
            return self._unreadable()
        log.error("http.failed", peer=self.peer.address, exc_info=exc)
        response = web.Response(status=500, headers={"Server": SERVER})
        response.force_close()
        return response


class Full(asyncio.Protocol):
    """Says that there is no room, and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's has the methods, but not the class.
        stream = cast(asyncio.Transport, transport)
        stream.write(_FULL)
        stream.close()
