"""What a session is offered, and what it says: plain values between protocol state and socket."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from gateway.transports.mqtt.packets import MAX_PACKET
from gateway.wire.call import Source


class Terms(Struct, frozen=True, kw_only=True):
    """What a server offers every session. `max_packet` in bytes, of what a client may send.

    `max_inflight` publishes are under way at once (announced as Receive Maximum), and as many of
    ours, of at most `max_held` bytes together, wait for an MQTT 5 client that takes few at a time.
    `max_open` QoS 2 exchanges of an older client may await their PUBREL. `max_unacked` publishes
    of ours may await their PUBACK: of an MQTT 5 client all of them, of an older one those whose
    acknowledgement somebody waits for.
    """

    max_packet: int = MAX_PACKET
    max_inflight: int = 100
    max_open: int = 100
    max_unacked: int = 1000
    max_held: int = 256 * 1024


class Body(Struct, frozen=True):
    """A PUBLISH whose payload leaves in pieces: `head` is all that comes before the payload."""

    head: bytes
    source: Source


class Step(Struct, frozen=True, gc=False):
    """What to send, in this order: `data`, `body`, `tail`. Then whether to close.

    `delivered` is to be called once it is sent.
    """

    data: bytes = b""
    close: bool = False
    body: Body | None = None
    tail: bytes = b""
    delivered: Callable[[], None] | None = None


NOTHING = Step()
CLOSE = Step(close=True)
