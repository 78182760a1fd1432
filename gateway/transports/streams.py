"""Protocols of our own over TCP: what their listeners share, and what their connections share.

One `asyncio.Protocol` for each connection, and one sweep for each listener, which looks after the
connections whose time has come. What becomes ready within one turn of the loop leaves in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from gateway.core.model import Peer, Wire
from gateway.transports.listening import listen_tcp, peer_name, port_of
from gateway.transports.wheel import Wheel
from gateway.wire.call import Admitted, Guest, Hello, Rejected

if TYPE_CHECKING:
    from gateway.transports.tls import TlsServer

Greet: TypeAlias = Callable[[Hello], Awaitable[Admitted | Rejected]]
"""Who is this, and what may it do? Decides every session."""


class StreamListener:
    """Accepts connections on one address. `Stream` is what each of them is.

    - `max_connections`: beyond it a connection is closed as soon as it is accepted.
    - `max_write_buffer`: bytes a peer may leave unread.
    - `opening_timeout_s`: until a peer has said who it is; `greet_timeout_s`: for `greet`'s answer;
      `close_timeout_s`: for a closed connection's last bytes to leave.
    - `tick_s`: how exactly times are kept.
    - `tls`: serve over TLS alone.
    """

    farewell = 0
    """The code that connections are closed with when it stops."""

    def __init__(
        self,
        greet: Greet,
        *,
        wire: Wire,
        host: str,
        port: int,
        max_connections: int,
        max_write_buffer: int,
        opening_timeout_s: float,
        greet_timeout_s: float,
        close_timeout_s: float,
        tick_s: float,
        backlog: int,
        tls: TlsServer | None = None,
    ) -> None:
        self.greet = greet
        self.wire = wire
        self.max_write_buffer = max_write_buffer
        self.opening_timeout_s = opening_timeout_s
        self.greet_timeout_s = greet_timeout_s
        self.close_timeout_s = close_timeout_s
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = False
        self._address = (host, port)
        self._backlog = backlog
        self._tls = tls
        self._max_connections = max_connections
        self._tick_s = tick_s
        self._servers: list[asyncio.Server] = []
        self._connections: set[Stream] = set()
        self._unflushed: list[Stream] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[None] | None = None

    def _protocol(self) -> Stream:
        """A new connection of this listener."""
        raise NotImplementedError

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Listen. Raises `OSError` when the address cannot be had."""
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel(self._tick_s, self.loop.time())
        host, port = self._address
        protocol: Callable[[], asyncio.Protocol] = self._protocol
        if self._tls is not None:
            protocol = self._tls.under(protocol, wire=self.wire)
        self._servers = await listen_tcp(protocol, host, port, self._backlog)
        self._sweep = self.loop.call_later(self._tick_s, self._look_around)

    @property
    def port(self) -> int:
        """The port listened on, also when it was asked for as 0."""
        return port_of(self._servers)

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, let calls under way answer, say goodbye, close.

        Takes at most `grace_s`, after which calls are cancelled and connections cut.
        """
        if not self._servers:
            return
        for server in self._servers:
            server.close()
        if self._tls is not None:
            self._tls.stop()
        self.stopping = True
        until = self.loop.time() + grace_s
        if self.tasks:
            await asyncio.wait(set(self.tasks), timeout=grace_s)
        for connection in list(self._connections):
            connection.close(self.farewell)
        await self._all_gone(max(until - self.loop.time(), 0))
        await self._cut_all()
        if self._sweep is not None:
            self._sweep.cancel()

    async def _all_gone(self, timeout_s: float) -> None:
        if self._connections:
            self._gone = self.loop.create_future()
            await asyncio.wait([self._gone], timeout=timeout_s)

    async def _cut_all(self) -> None:
        late = set(self.tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
        for connection in list(self._connections):
            connection.cut()
        await self._all_gone(1.0)

    # ── what connections ask of it ────────────────────────────────────────────────────────────

    def enter(self, connection: Stream) -> bool:
        """Count a new connection in, or say that there is no room."""
        if self.stopping or len(self._connections) >= self._max_connections:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Stream) -> None:
        """A connection is closed."""
        self.wheel.drop(connection)
        self._connections.discard(connection)
        if self._gone is not None and not self._connections and not self._gone.done():
            self._gone.set_result(None)

    def flush_soon(self, connection: Stream) -> None:
        """Write what `connection` has gathered, together with the rest of this turn."""
        if not self._unflushed:
            self.loop.call_soon(self._flush)
        self._unflushed.append(connection)

    def _flush(self) -> None:
        ready, self._unflushed = self._unflushed, []
        for connection in ready:
            connection.flush()

    def _look_around(self) -> None:
        now = self.loop.time()
        self._sweep = self.loop.call_later(self._tick_s, self._look_around)
        for connection in self.wheel.due(now):
            connection.check(now)


class Stream(asyncio.Protocol):
    """One connection: room for it, bytes gathered, tasks, and the end.

    What it is to send it appends to `_out`, and has its listener flush it soon.
    """

    __slots__ = (
        "_closed",
        "_guest",
        "_listener",
        "_opened_at",
        "_out",
        "_paused",
        "_peer",
        "_transport",
        "slot",
    )

    _transport: asyncio.Transport
    _peer: Peer
    _opened_at: float

    def __init__(self, listener: StreamListener) -> None:
        self.slot = -1
        self._listener = listener
        self._out: list[bytes] | None = None
        self._guest: Guest | None = None
        self._paused = False
        self._closed = False

    # ── what each protocol does its own way ───────────────────────────────────────────────────

    def close(self, code: int, reason: str = "") -> None:
        """End the session. See `Link`."""
        raise NotImplementedError

    def check(self, now: float) -> None:
        """The wheel says that a time of this connection may have run out."""
        raise NotImplementedError

    # ── the beginning ─────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener = self._listener
        self._transport = cast(asyncio.Transport, transport)
        if not listener.enter(self):
            self._closed = True
            self._transport.abort()
            return
        self._peer = Peer(listener.wire, peer_name(transport.get_extra_info("peername")))
        self._transport.set_write_buffer_limits(high=listener.max_write_buffer)
        self._opened_at = listener.loop.time()
        listener.wheel.place(self, self._opened_at + listener.opening_timeout_s)

    # ── flow ──────────────────────────────────────────────────────────────────────────────────

    def _read_on(self, wanted: bool) -> None:
        """Read, or leave the peer's bytes in its own buffers."""
        if self._closed:
            return
        if wanted and self._paused:
            self._transport.resume_reading()
        elif not wanted and not self._paused:
            self._transport.pause_reading()
        self._paused = not wanted

    def flush(self) -> None:
        """Hand what was gathered to the transport, in one write."""
        out = self._out
        if out is not None:
            self._out = None
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    # ── the end ───────────────────────────────────────────────────────────────────────────────

    def _close(self) -> None:
        """Send what there is to send, then close. A peer that does not take it is cut in time."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        listener = self._listener
        listener.wheel.drop(self)
        listener.wheel.place(self, listener.loop.time() + listener.close_timeout_s)
        self._hang_up()
        self._over()

    def _hang_up(self) -> None:
        """Close the socket once all that was handed to it has left."""
        self._transport.close()

    def cut(self) -> None:
        """Close at once and drop what was not sent."""
        self._closed = True
        self._out = None
        self._transport.abort()
        self._over()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._closed = True
        self._out = None
        self._over()
        self._listener.forget(self)

    def _over(self) -> None:
        """Nothing is read any more, and nothing but what is already here is sent."""
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.closed()

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._listener.loop.create_task(work)
        self._listener.tasks.add(task)
        return task

    def _done(self) -> None:
        """The running task is at its end. Cheaper than a callback for each."""
        task = asyncio.current_task()
        assert task is not None
        self._listener.tasks.discard(task)

    def _abandon(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            # Cancelled before its first step, it never comes to take itself off the list.
            self._listener.tasks.discard(task)
            task.cancel()
