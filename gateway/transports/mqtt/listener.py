"""MQTT over TCP, or over TLS: the listening socket and what its connections share.

One `asyncio.Protocol` for each connection, and one sweep for each listener, which looks after the
connections whose time has come. What becomes ready within one turn of the loop leaves in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from gateway.core.model import Wire
from gateway.transports.listening import listen_tcp, port_of
from gateway.transports.mqtt.connection import Connection
from gateway.transports.mqtt.outflow import Pace
from gateway.transports.mqtt.packets import MAX_PACKET
from gateway.transports.mqtt.sender import Sender
from gateway.transports.mqtt.session import SHUTTING_DOWN
from gateway.transports.mqtt.steps import Terms
from gateway.transports.wheel import Wheel
from gateway.wire.call import Admitted, Hello, Rejected

if TYPE_CHECKING:
    from gateway.transports.tls import TlsServer

Greet: TypeAlias = Callable[[Hello], Awaitable[Admitted | Rejected]]
"""Who is this, and what may it do? Decides every CONNECT."""


class MqttListener:
    """Accepts MQTT connections on one address and serves each by what `greet` says of it.

    - `max_connections`: beyond it a connection is closed as soon as it is accepted.
    - `max_packet`: bytes of one packet; `max_inflight`: publishes served at once for each
      connection, beyond which it is not read; `max_open`: QoS 2 exchanges of one session;
      `max_unacked`: publishes of ours a client may leave unacknowledged. Over it, those for an
      MQTT 5 client wait, up to `max_inflight` of them; then, and with an older client at once, the
      session ends.
    - `max_early`: packets that may arrive before their CONNACK is sent.
    - `max_write_buffer`: bytes a peer may leave unread before it is cut; the same again may wait
      for its acknowledgements, or behind a body that leaves in pieces of `piece` bytes.
    - `stall_s`: how long a peer may take nothing of such a body before it is cut.
    - `connect_timeout_s`: until CONNECT is complete; `greet_timeout_s`: for `greet`'s answer;
      `close_timeout_s`: for a closed connection's last bytes to leave.
    - `tick_s`: how exactly times are kept.
    - `tls`: serve MQTT over TLS alone; `greet` is told what certificates a client showed.
    """

    def __init__(
        self,
        greet: Greet,
        *,
        host: str = "0.0.0.0",  # noqa: S104 - devices come from outside; the configuration decides
        port: int = 1883,
        max_connections: int = 20_000,
        max_packet: int = MAX_PACKET,
        max_inflight: int = 100,
        max_open: int = 100,
        max_unacked: int = 1000,
        max_early: int = 100,
        max_write_buffer: int = 256 * 1024,
        piece: int = 32 * 1024,
        connect_timeout_s: float = 10.0,
        greet_timeout_s: float = 10.0,
        close_timeout_s: float = 5.0,
        stall_s: float = 30.0,
        tick_s: float = 1.0,
        backlog: int = 4096,
        tls: TlsServer | None = None,
    ) -> None:
        self.greet = greet
        self.wire = Wire.MQTT if tls is None else Wire.MQTTS
        self.max_early = max_early
        self.max_write_buffer = max_write_buffer
        self.connect_timeout_s = connect_timeout_s
        self.greet_timeout_s = greet_timeout_s
        self.close_timeout_s = close_timeout_s
        self.terms = Terms(
            max_packet=max_packet,
            max_inflight=max_inflight,
            max_open=max_open,
            max_unacked=max_unacked,
            max_held=max_write_buffer,
        )
        self.pace = Pace(piece=piece, stall_s=stall_s, max_waiting=max_write_buffer)
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = False
        self._address = (host, port)
        self._backlog = backlog
        self._tls = tls
        self._max_connections = max_connections
        self._tick_s = tick_s
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._unflushed: list[Sender] = []
        self._assigned = 0
        self._sweep: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[None] | None = None

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Listen. Raises `OSError` when the address cannot be had."""
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel(self._tick_s, self.loop.time())
        host, port = self._address
        protocol = self._protocol
        if self._tls is not None:
            protocol = self._tls.under(protocol, wire=self.wire)
        self._servers = await listen_tcp(protocol, host, port, self._backlog)
        self._sweep = self.loop.call_later(self._tick_s, self._look_around)

    def _protocol(self) -> asyncio.Protocol:
        return Connection(self)

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
            connection.close(SHUTTING_DOWN)
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

    def new_client_id(self) -> str:
        """For a client that has none. It names nothing here, so it need not be hard to guess."""
        self._assigned += 1
        return f"auto-{self._assigned}"

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
