"""Refusals, as they are written down."""

from __future__ import annotations

import msgspec

from gateway.core.limits import Allowance
from gateway.core.model import (
    Event,
    EventKind,
    Outcome,
    ProvisionRequest,
    RefusalReason,
    Refused,
)
from gateway.core.names import printable
from gateway.core.ports import Clock, Store

SAID = "said"
"""In the detail of a refusal: why, in the words of a hook."""
_EVENTS_AT_ONCE = 100
_EVENTS_PER_S = 10
"""How many refusals of strangers are written down; a flood of them must not fill the disk."""


class Refuser:
    """Says no, and writes it down, unless strangers have been written down often enough."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._strangers = Allowance(_EVENTS_AT_ONCE, _EVENTS_PER_S)

    async def refuse(
        self,
        request: ProvisionRequest,
        refused: Refused,
        *,
        device_id: int | None = None,
        subject: str = "",
    ) -> Refused:
        """`refused` once more, with an event of it. `subject`: the device's name, if not asked."""
        now = self._clock()
        if refused.reason is RefusalReason.TOO_MANY_WRONG_SECRETS:
            return refused  # written down once, when the door was shut
        if self._strangers.take(now):
            detail = self._strangers.untold()
            if refused.said:
                detail[SAID] = printable(refused.said)
            event = provision_event(request, now, subject or (request.device_name or "").strip())
            await self._store.record(
                msgspec.structs.replace(
                    event,
                    device_id=device_id,
                    outcome=Outcome.REFUSED,
                    reason=refused.reason.value,
                    detail=detail,
                )
            )
        return refused


def provision_event(request: ProvisionRequest, at: int, subject: str) -> Event:
    """The event of a provisioning, about a device of that name."""
    return Event(
        kind=EventKind.DEVICE_PROVISION, at=at, peer=request.peer, subject=printable(subject)
    )
