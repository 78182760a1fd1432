"""Why handshakes were refused: how the peer is told, and the operator; counted, once in a while.

A flood is one line, not many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.core.model import Peer, RefusalReason, Wire
from gateway.transports.coap import dtls_wire as wire
from gateway.transports.coap.exchanges import Address
from gateway.transports.listening import peer_name
from gateway.wire.call import Report

HALF_HANDSHAKE_FLOOD = "half_handshake_flood"
"""Handshakes not finished in time, or turned away since too many are under way."""
SPOOFED_CLIENT_HELLO = "spoofed_client_hello"
"""Hellos whose cookie is not ours, or that nobody came back from with one."""
OVERSIZED_CHAIN = "oversized_chain"
UNKNOWN_PSK_IDENTITY = "unknown_psk_identity"
WRONG_PSK = "wrong_psk"
UNDECIDED = "undecided"
"""The store could not tell who it is."""

_UNANSWERED_ALLOWED = 100
_ALERTS: Final = {
    RefusalReason.EXPIRED_LEAF: wire.CERTIFICATE_EXPIRED,
    RefusalReason.UNKNOWN_CA: wire.UNKNOWN_CA,
    RefusalReason.CREDENTIALS_REVOKED: wire.CERTIFICATE_REVOKED,
    RefusalReason.BAD_SIGNATURE: wire.BAD_CERTIFICATE,
    RefusalReason.BAD_CHAIN: wire.BAD_CERTIFICATE,
    RefusalReason.CHAIN_UNREADABLE: wire.BAD_CERTIFICATE,
    RefusalReason.OVERSIZED_CHAIN: wire.BAD_CERTIFICATE,
    RefusalReason.PATH_TOO_LONG: wire.BAD_CERTIFICATE,
    RefusalReason.WRONG_USAGE: wire.BAD_CERTIFICATE,
    # The certificate is good, and its device may not come, or not now.
    RefusalReason.NETWORK_NOT_ALLOWED: wire.ACCESS_DENIED,
    RefusalReason.OUTSIDE_HOURS: wire.ACCESS_DENIED,
    RefusalReason.NOT_ON_ALLOW_LIST: wire.ACCESS_DENIED,
    RefusalReason.ON_DENY_LIST: wire.ACCESS_DENIED,
    RefusalReason.PROFILE_FULL: wire.ACCESS_DENIED,
    RefusalReason.ORGANISATION_FULL: wire.ACCESS_DENIED,
    RefusalReason.APPROVAL_PENDING: wire.ACCESS_DENIED,
    RefusalReason.APPROVAL_DENIED: wire.ACCESS_DENIED,
    RefusalReason.TOO_MANY_REQUESTS: wire.ACCESS_DENIED,
    RefusalReason.DENIED_BY_HOOK: wire.ACCESS_DENIED,
    RefusalReason.HOOK_FAILED: wire.ACCESS_DENIED,
}


class Refusals:
    """Counts by reason; `tick` reports each at most every `every_s`.

    Hellos without a cookie are the way every handshake begins; they count as spoofed when over a
    hundred in that time, and more than half, never came back.
    """

    __slots__ = ("_asked", "_asked_of", "_came_back", "_counts", "_due", "_every_s", "_report")

    def __init__(self, report: Report, now: Callable[[], float], *, every_s: float = 10.0) -> None:
        self._report = report
        self._every_s = every_s
        self._counts: dict[str, tuple[int, Address]] = {}
        self._due = now() + every_s
        self._asked = self._came_back = 0
        self._asked_of: Address = ()

    def count(self, reason: str, addr: Address) -> None:
        self._counts[reason] = (self._counts.get(reason, (0, addr))[0] + 1, addr)

    def asked_back(self, addr: Address) -> None:
        """A hello without a cookie was answered with one."""
        self._asked += 1
        self._asked_of = addr

    def came_back(self) -> None:
        """A hello brought a cookie of ours."""
        self._came_back += 1

    def tick(self, now: float) -> None:
        if now >= self._due:
            self._due = now + self._every_s
            self.tell()

    def tell(self) -> None:
        """Report what was counted."""
        gone = self._asked - self._came_back
        if gone > _UNANSWERED_ALLOWED and gone > self._came_back:
            wrong = self._counts.get(SPOOFED_CLIENT_HELLO, (0, self._asked_of))[0]
            self._counts[SPOOFED_CLIENT_HELLO] = (wrong + gone, self._asked_of)
        self._asked = self._came_back = 0
        counts, self._counts = self._counts, {}
        for reason, (number, addr) in counts.items():
            self._report(reason, peer_of(addr), number)


def peer_of(addr: Address) -> Peer:
    """Who is at an address, before anything is known of him."""
    return Peer(Wire.COAPS, peer_name(addr))


def alert_of(reason: RefusalReason) -> int:
    """How a refusal is said in the handshake: the alert's description (RFC 5246, 7.2.2)."""
    return _ALERTS.get(reason, wire.CERTIFICATE_UNKNOWN)
