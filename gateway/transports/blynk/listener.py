"""Blynk's binary protocol over TCP: the listening socket and what its connections share.

One `asyncio.Protocol` for each connection, and one sweep for each listener, which looks after the
connections whose time has come. What becomes ready within one turn of the loop leaves in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from gateway.core.model import Wire
from gateway.transports.blynk.connection import Connection
from gateway.transports.blynk.sender import Sender
from gateway.transports.listening import listen_tcp, port_of
from gateway.transports.wheel import Wheel
from gateway.wire.call import Admitted, Hello, Rejected

Greet: TypeAlias = Callable[[Hello], Awaitable[Admitted | Rejected]]
"""Whose token is this, and what may it do? Decides every login. The code of a `Rejected` for older
clients is the status of the RESPONSE."""


class BlynkListener:
    """Accepts connections on one address and serves each by what `greet` says of it.

    - `max_connections`: beyond it a connection is closed as soon as it is accepted.
    - `max_body`: bytes of one frame's body; of what a device sends while its last frame is served,
      about as much is read.
    - `max_write_buffer`: bytes a peer may leave unread before it is cut.
    - `login_timeout_s`: until the login is complete; `greet_timeout_s`: for `greet`'s answer;
      `idle_s`: a session that says nothing else of it is closed when nothing arrives for so long;
      `close_timeout_s`: for a closed connection's last bytes to leave.
    - `tick_s`: how exactly times are kept.
    """

    wire = Wire.BLYNK

    def __init__(
        self,
        greet: Greet,
        *,
        host: str = "0.0.0.0",  # noqa: S104 - devices come from outside; the configuration decides
        port: int = 8442,
        max_connections: int = 20_000,
        max_body: int = 4096,
        max_write_buffer: int = 64 * 1024,
        login_timeout_s: float = 10.0,
        greet_timeout_s: float = 10.0,
        idle_s: float = 67.5,
        close_timeout_s: float = 5.0,
        tick_s: float = 1.0,
        backlog: int = 4096,
    ) -> None:
        self.greet = greet
        self.max_body = max_body
        self.max_write_buffer = max_write_buffer
        self.login_timeout_s = login_timeout_s
        self.greet_timeout_s = greet_timeout_s
        self.idle_s = idle_s
        self.close_timeout_s = close_timeout_s
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = False
        self._address = (host, port)
        self._backlog = backlog
        self._max_connections = max_connections
        self._tick_s = tick_s
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._unflushed: list[Sender] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[None] | None = None

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Listen. Raises `OSError` when the address cannot be had."""
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel(self._tick_s, self.loop.time())
        host, port = self._address
        self._servers = await listen_tcp(lambda: Connection(self), host, port, self._backlog)
        self._sweep = self.loop.call_later(self._tick_s, self._look_around)

    @property
    def port(self) -> int:
        """The port listened on, also when it was asked for as 0."""
        return port_of(self._servers)

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, let the calls under way answer, close.

        Takes at most `grace_s`, after which calls are cancelled and connections cut.
        """
        if not self._servers:
            return
        for server in self._servers:
            server.close()
        self.stopping = True
        until = self.loop.time() + grace_s
        if self.tasks:
            await asyncio.wait(set(self.tasks), timeout=grace_s)
        for connection in list(self._connections):
            connection.close(0)
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

    def enter(self, connection: Connection) -> bool:
        """Count a new connection in, or say that there is no room."""
        if self.stopping or len(self._connections) >= self._max_connections:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self.wheel.drop(connection)
        self._connections.discard(connection)
        if self._gone is not None and not self._connections and not self._gone.done():
            self._gone.set_result(None)

    def flush_soon(self, connection: Sender) -> None:
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
