"""MQTT over TCP, or over TLS: the listening socket and what its connections share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.model import Wire
from gateway.transports.mqtt.connection import Connection
from gateway.transports.mqtt.outflow import Pace
from gateway.transports.mqtt.packets import MAX_PACKET
from gateway.transports.mqtt.session import SHUTTING_DOWN
from gateway.transports.mqtt.steps import Terms
from gateway.transports.streams import Greet, StreamListener

if TYPE_CHECKING:
    from gateway.transports.tls import TlsServer


class MqttListener(StreamListener):
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

    farewell = SHUTTING_DOWN

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
        super().__init__(
            greet,
            wire=Wire.MQTT if tls is None else Wire.MQTTS,
            host=host,
            port=port,
            max_connections=max_connections,
            max_write_buffer=max_write_buffer,
            opening_timeout_s=connect_timeout_s,
            greet_timeout_s=greet_timeout_s,
            close_timeout_s=close_timeout_s,
            tick_s=tick_s,
            backlog=backlog,
            tls=tls,
        )
        self.max_early = max_early
        self.terms = Terms(
            max_packet=max_packet,
            max_inflight=max_inflight,
            max_open=max_open,
            max_unacked=max_unacked,
            max_held=max_write_buffer,
        )
        self.pace = Pace(piece=piece, stall_s=stall_s, max_waiting=max_write_buffer)
        self._assigned = 0

    def _protocol(self) -> Connection:
        return Connection(self)

    def new_client_id(self) -> str:
        """For a client that has none. It names nothing here, so it need not be hard to guess."""
        self._assigned += 1
        return f"auto-{self._assigned}"
