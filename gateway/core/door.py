"""The door: a key and a secret are shown, and either admit or do not."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from gateway.core.fleet_secrets import proves, why_closed
from gateway.core.guesses import FREE, Guesses, Shut, Toll, Whom, origin_of
from gateway.core.limits import Allowance
from gateway.core.model import (
    Event,
    EventKind,
    FleetTicket,
    Outcome,
    Peer,
    ProvisionKey,
    ProvisionRequest,
    RefusalReason,
    Refused,
)
from gateway.core.networks import host_of
from gateway.core.pacing import Pacer
from gateway.core.ports import Clock, Store

log = structlog.get_logger()

_EVENTS_AT_ONCE = 100
_EVENTS_PER_S = 1
"""How often it is written down that the door was shut: a botnet must not fill the disk."""
_MINUTE_MS = 60_000
_MOST_NOTED = 10_000


class Door:
    """Finds the fleet secret behind what is shown.

    Whoever shows wrong ones waits longer each time (`guesses`); whoever shows a right one may come
    as often as its rates say (`pacer`). A right one that is shown on trial is not noted anywhere.
    """

    def __init__(self, store: Store, clock: Clock, *, guesses: Guesses, pacer: Pacer) -> None:
        self._store = store
        self._clock = clock
        self._guesses = guesses
        self._pacer = pacer
        self._told = Allowance(_EVENTS_AT_ONCE, _EVENTS_PER_S)
        self._noted: dict[int, int] = {}
        """Of fleet secrets that were used: when that is to be written down again."""

    async def admit(self, request: ProvisionRequest, proof: ProvisionKey) -> FleetTicket | Refused:
        """The fleet secret that was shown, if it admits now."""
        now = self._clock()
        ticket = await self._proven(request, proof, now)
        if isinstance(ticket, Refused) or request.trial:
            return ticket
        if self._pacer.limits(ticket.profile):
            name = (request.device_name or "").strip()
            wait_s = self._pacer.take(ticket, host_of(request.peer), name, now)
            if wait_s:
                return self._refused(ticket, RefusalReason.TOO_MANY_REQUESTS, wait_s)
        if now >= self._noted.get(ticket.id, 0):
            await self._note(ticket.id, now)
        return ticket

    async def _note(self, ticket_id: int, now: int) -> None:
        """It is used in this minute: one write for all who come in it."""
        if len(self._noted) >= _MOST_NOTED:
            self._noted.clear()
        minute = now - now % _MINUTE_MS
        self._noted[ticket_id] = minute + _MINUTE_MS
        await self._store.note_use(ticket_id, minute)

    async def prove(self, request: ProvisionRequest, proof: ProvisionKey) -> FleetTicket | Refused:
        """The same, whatever its rates say."""
        return await self._proven(request, proof, self._clock())

    async def _proven(
        self, request: ProvisionRequest, proof: ProvisionKey, now: int
    ) -> FleetTicket | Refused:
        if not proof.key:
            return Refused(RefusalReason.UNKNOWN_KEY)
        origin = origin_of(request.peer)
        at_home = self._guesses.is_home(origin, proof, now)
        toll = FREE if at_home else self._guesses.toll(origin, proof, now)
        if toll.shut:
            return too_early(toll.wait_ms)
        ticket = await self._store.find_fleet_ticket(proof.key)
        if ticket is None or not proves(ticket, proof.secret, request.device_name):
            return await self._wrong(request.peer, proof, ticket, toll, now)
        if not (at_home or request.trial):
            self._guesses.right(origin, proof, now)
        if not ticket.plain:
            closed = why_closed(ticket, host_of(request.peer), now)
            if closed is not None:
                return self._refused(ticket, closed)
        return ticket

    async def _wrong(
        self, peer: Peer, proof: ProvisionKey, ticket: FleetTicket | None, toll: Toll, now: int
    ) -> Refused:
        """There is no such key, or `ticket` has it and another secret."""
        guessed = self._guesses.wrong(origin_of(peer), proof, now, known=ticket is not None)
        if guessed.shut:
            await self._tell(guessed.shut, peer, ticket, now)
        wait_ms = max(toll.wait_ms, guessed.wait_ms)
        if wait_ms:
            return too_early(wait_ms)
        wrong = RefusalReason.UNKNOWN_KEY if ticket is None else RefusalReason.WRONG_SECRET
        return Refused(wrong)

    async def _tell(
        self, shut: Sequence[Shut], peer: Peer, ticket: FleetTicket | None, now: int
    ) -> None:
        """Once, when the door is shut. The event and the line hold nothing that was shown."""
        profile = "" if ticket is None else ticket.profile.name
        blocked, count = ", ".join(one.whom for one in shut), max(one.count for one in shut)
        seconds = max(0 if one.whom is Whom.NOBODY else one.seconds for one in shut)
        log.warning(
            "provision.blocked",
            wire=peer.wire,
            peer=peer.address,
            blocked=blocked,
            wrong=count,
            seconds=seconds,
            profile=profile,
        )
        if not self._told.take(now):
            return
        detail = {"blocked": blocked, "count": str(count)}
        if seconds:
            detail["seconds"] = str(seconds)
        if profile:
            detail["profile"] = profile
        await self._store.record(
            Event(
                kind=EventKind.PROVISION_BLOCK,
                at=now,
                peer=peer,
                outcome=Outcome.REFUSED,
                reason=RefusalReason.TOO_MANY_WRONG_SECRETS.value,
                detail=detail,
            )
        )

    def _refused(self, ticket: FleetTicket, reason: RefusalReason, wait_s: int = 0) -> Refused:
        detailed = ticket.profile.policy.detailed_refusals
        return Refused(reason, wait_s, detailed)


def too_early(wait_ms: int) -> Refused:
    """Somebody has to wait, in whole seconds, since something wrong was shown."""
    return Refused(RefusalReason.TOO_MANY_WRONG_SECRETS, max(1, -(-wait_ms // 1000)))
