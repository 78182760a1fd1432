"""One peer's DTLS association: what is known of it, from its first good cookie to its end."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.core.model import Peer, Presented, Vouched
from gateway.transports.coap.dtls_handshake import Handshake, Outcome
from gateway.transports.coap.dtls_seal import Seal
from gateway.transports.coap.exchanges import Address
from gateway.transports.coap.request import Caller

SHAKING: Final = 0
"""The handshake goes on."""
ASKING: Final = 1
"""Somebody is asked for a key, or who this is; the peer waits."""
OPEN: Final = 2
OVER: Final = 3

_MOST_WAITING: Final = 256


class Association:
    """`where` is the peer's address; `addr` is what the message layer knows it by.

    That one equals no other's, not even that of an association of the same peer later, so neither
    an answer of old nor half a body passes from one to the next.
    """

    __slots__ = (
        "addr",
        "asking",
        "began",
        "caller",
        "flight",
        "handshake",
        "heard_at",
        "inbox",
        "inbox_bytes",
        "key",
        "name",
        "outcome",
        "presented",
        "random",
        "repeat_at",
        "seal",
        "sent",
        "state",
        "unread",
        "vouched",
        "where",
    )

    def __init__(self, where: Address, peer: Peer, number: int, random: bytes, now: float) -> None:
        self.where = where
        self.addr: Address = (self,)
        self.caller = Caller(peer)
        self.name = f"{peer.address}#{number}"
        self.random = random
        """The client's, by which a hello that is only repeated is known."""
        self.began = self.heard_at = now
        self.state = SHAKING
        self.repeat_at: float | None = None
        self.handshake: Handshake | None = None
        self.outcome: Outcome | None = None
        self.presented: Presented | None = None
        self.key = b""
        """The pre-shared one, or a random one for an identity that is not known."""
        self.unread = 0
        """Datagrams with a Finished that could not be read: a key that is not ours."""
        self.inbox: list[bytes] = []
        """Datagrams of the handshake that were not looked at yet."""
        self.inbox_bytes = 0
        self.asking: asyncio.Task[None] | None = None
        self.sent = -1
        """The number of the last record sent in clear."""
        self.flight = b""
        """Our last one, held back or to be sent again, until the peer shows that it has it."""
        self.seal: Seal | None = None
        self.vouched: Vouched | None = None

    def keep(self, datagram: bytes, most_bytes: int) -> None:
        """Put a datagram into the inbox; what is too much the peer sends again."""
        if self.inbox_bytes + len(datagram) <= most_bytes and len(self.inbox) < _MOST_WAITING:
            self.inbox.append(datagram)
            self.inbox_bytes += len(datagram)

    def take(self) -> bytes:
        """The first of the inbox. Raises `IndexError` when it is empty."""
        datagram = self.inbox.pop(0)
        self.inbox_bytes -= len(datagram)
        return datagram

    def put_back(self, datagram: bytes) -> None:
        """To be taken again, before all others."""
        self.inbox.insert(0, datagram)
        self.inbox_bytes += len(datagram)

    def over(self) -> None:
        """Let go of all it holds. It equals nobody's address any more."""
        self.state = OVER
        self.handshake = self.outcome = self.seal = self.presented = None
        self.inbox.clear()
        self.flight = self.key = b""
        self.addr = ()  # else it would hold on to itself
        asking, self.asking = self.asking, None
        if asking is not None and asking is not _current_task():
            asking.cancel()
        vouched, self.vouched = self.vouched, None
        if vouched is not None:
            vouched.release()


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None  # called by the loop itself


def name_of(addr: Address) -> str:
    """What tells an association from all others, as text: `192.0.2.7:50123#17`."""
    name: str = addr[0].name
    return name


def caller_of(addr: Address) -> Caller:
    """Who speaks in an association."""
    caller: Caller = addr[0].caller
    return caller
