"""The door: a key and a secret are shown, and either admit or do not."""

from __future__ import annotations

from gateway.core.fleet_secrets import proves, why_closed
from gateway.core.guesses import Guesses
from gateway.core.model import (
    FleetTicket,
    Peer,
    ProvisionKey,
    ProvisionRequest,
    RefusalReason,
    Refused,
)
from gateway.core.pacing import Pacer
from gateway.core.ports import Clock, Store


class Door:
    """Finds the fleet secret behind what is shown.

    Whoever shows a wrong one waits longer each time (`guesses`); whoever shows a right one may come
    as often as its rates say (`pacer`).
    """

    def __init__(self, store: Store, clock: Clock, *, guesses: Guesses, pacer: Pacer) -> None:
        self._store = store
        self._clock = clock
        self._guesses = guesses
        self._pacer = pacer

    async def admit(self, request: ProvisionRequest, proof: ProvisionKey) -> FleetTicket | Refused:
        """The fleet secret that was shown, if it admits now."""
        ticket = await self.prove(request, proof)
        if isinstance(ticket, Refused):
            return ticket
        name = (request.device_name or "").strip()
        wait_s = self._pacer.take(ticket, host_of(request.peer), name, self._clock())
        if wait_s:
            return self._refused(ticket, RefusalReason.TOO_MANY_REQUESTS, wait_s)
        return ticket

    async def prove(self, request: ProvisionRequest, proof: ProvisionKey) -> FleetTicket | Refused:
        """The same, whatever its rates say."""
        if not proof.key:
            return Refused(RefusalReason.UNKNOWN_KEY)
        now, address = self._clock(), host_of(request.peer)
        wait_ms = self._guesses.wait(address, proof.key, now)
        if wait_ms:
            wait_s = max(1, -(-wait_ms // 1000))
            return Refused(RefusalReason.TOO_MANY_WRONG_SECRETS, wait_s)
        ticket = await self._store.find_fleet_ticket(proof.key)
        if ticket is None:
            self._guesses.wrong(address, None, now)
            return Refused(RefusalReason.UNKNOWN_KEY)
        if not proves(ticket, proof.secret, request.device_name):
            self._guesses.wrong(address, proof.key, now)
            return Refused(RefusalReason.WRONG_SECRET)
        self._guesses.right(address)
        if not ticket.plain:
            closed = why_closed(ticket, address, now)
            if closed is not None:
                return self._refused(ticket, closed)
        return ticket

    def _refused(self, ticket: FleetTicket, reason: RefusalReason, wait_s: int = 0) -> Refused:
        detailed = ticket.profile.policy.detailed_refusals
        return Refused(reason, wait_s, detailed)


def host_of(peer: Peer) -> str:
    """The IP address of a peer, without its port."""
    host, colon, _ = peer.address.rpartition(":")
    return host.strip("[]") if colon else peer.address
