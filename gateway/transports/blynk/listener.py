"""Blynk's binary protocol over TCP: the listening socket and what its connections share."""

from __future__ import annotations

from gateway.core.model import Wire
from gateway.transports.blynk.connection import Connection
from gateway.transports.streams import Greet, StreamListener


class BlynkListener(StreamListener):
    """Accepts connections on one address and serves each by what `greet` says of it.

    - `greet`: whose token is this? The code of a `Rejected` for older clients is the status of the
      RESPONSE.
    - `max_connections`: beyond it a connection is closed as soon as it is accepted.
    - `max_body`: bytes of one frame's body; of what a device sends while its last frame is served,
      about as much is read.
    - `max_write_buffer`: bytes a peer may leave unread before it is cut.
    - `login_timeout_s`: until the login is complete; `greet_timeout_s`: for `greet`'s answer;
      `idle_s`: a session that says nothing else of it is closed when nothing arrives for so long;
      `close_timeout_s`: for a closed connection's last bytes to leave.
    - `tick_s`: how exactly times are kept.
    """

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
        super().__init__(
            greet,
            wire=Wire.BLYNK,
            host=host,
            port=port,
            max_connections=max_connections,
            max_write_buffer=max_write_buffer,
            opening_timeout_s=login_timeout_s,
            greet_timeout_s=greet_timeout_s,
            close_timeout_s=close_timeout_s,
            tick_s=tick_s,
            backlog=backlog,
        )
        self.max_body = max_body
        self.idle_s = idle_s

    def _protocol(self) -> Connection:
        return Connection(self)
