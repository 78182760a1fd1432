"""One HTTP connection: aiohttp's, mended where a client may dawdle, leave, or be told too much."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any, cast

import structlog
from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from gateway.core.model import Identity, Peer, RefusalReason, Refused, Vouched, Wire
from gateway.transports.listening import peer_name
from gateway.wire.route import Address

log = structlog.get_logger()

SERVER = "gatehouse"
"""aiohttp would name itself, Python and both versions to every stranger."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


class Connection(RequestHandler):
    """aiohttp's connection, and what it lacks: bodies that end badly, requests nobody waits for
    any more, answers nobody takes, and errors kept secret.

    `forget` is told when it is closed; `unreadable` makes the answer to what is not HTTP. Over TLS
    `identity` is whom the client's certificate proved it to be, or `refusal` says why it did not.
    """

    __slots__ = (
        "_awaited",
        "_cut",
        "_dismissed",
        "_forget",
        "_stream",
        "_stuck_since",
        "_unreadable",
        "_untaken",
        "_wire",
        "address",
        "identity",
        "peer",
        "refusal",
        "task",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        forget: Callable[[Connection], object],
        unreadable: Callable[[], web.Response],
        wire: Wire = Wire.HTTP,
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
        self._wire = wire
        self._forget = forget
        self._unreadable = unreadable
        self._awaited: StreamReader | None = None
        self._cut = False
        self._dismissed = False
        self._untaken = 0
        self._stream: asyncio.Transport | None = None
        """The transport until it is closed; aiohttp forgets its own as soon as it is to close."""
        self.peer = Peer(wire, "unknown")
        self.identity: Identity | None = None
        self.refusal: RefusalReason | None = None
        self.address: Address = ""
        self.task: asyncio.Task[Any] | None = None
        """Where the request under way is asked for, and the task that waits for its answer."""
        self._stuck_since: float | None = None
        """Since when the client has taken nothing of what waits for it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = cast(asyncio.Transport, transport)
        self.peer = Peer(self._wire, peer_name(transport.get_extra_info("peername")))
        match transport.get_extra_info("verdict"):
            case Vouched(identity=identity):
                self.identity = identity
            case Refused(reason=reason):
                self.refusal = reason
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._stream = None
        self._stuck_since = None
        self._forget(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._awaited is not None:
            self._notice_broken_body()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._untaken = self._left()
        self._stuck_since = time.monotonic()

    def resume_writing(self) -> None:
        self._stuck_since = None
        super().resume_writing()

    def cut_if_stuck(self, now: float, patience_s: float) -> None:
        """Hang up when the client took nothing for `patience_s`; a little is enough to stay."""
        since = self._stuck_since
        if since is None or self._stream is None:
            return
        left = self._left()
        if left < self._untaken:
            self._untaken = left
            self._stuck_since = now
        elif now - since > patience_s:
            self._stream.abort()

    def _left(self) -> int:
        """Bytes that wait for the client."""
        return 0 if self._stream is None else self._stream.get_write_buffer_size()

    def hold_back(self, most: int) -> None:
        """From now on keep about `most` bytes for the client here, and as many in the system.

        The system would by itself hold megabytes for each, and say nothing of what the client
        takes before a third of it is gone: a slow one would look stuck.
        """
        if self._stream is None:
            return
        self._stream.set_write_buffer_limits(most // 2)
        with contextlib.suppress(OSError):  # already closed by the other side
            self._stream.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, most
            )

    async def flushed(self) -> None:
        """Until the client took nearly all of what was written, or the connection is lost."""
        if self._paused:
            await self._drain_helper()

    def begin(self, address: Address, task: asyncio.Task[None]) -> None:
        """`task` waits for the answer of what is at `address`."""
        self.address = address
        self.task = task

    def end(self) -> None:
        """The answer is there, or nobody wants it any more."""
        self.task = None

    def dismiss(self) -> None:
        """Cancel the request under way; its client is to be told to come back."""
        if self.task is not None:
            self._dismissed = True
            self.task.cancel()

    def was_dismissed(self) -> bool:
        """Whether the cancellation just caught was that of `dismiss`; it is then taken back."""
        task = asyncio.current_task()
        return self._dismissed and task is not None and task.uncancel() == 0

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
