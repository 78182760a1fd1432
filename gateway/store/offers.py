"""Claims that people make for devices, to be printed on labels."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.core.model import AttributeScope, Event, Outcome, RefusalReason
from gateway.store.driver import Transaction
from gateway.store.events import event_on, tell
from gateway.store.records import profile_from_settings
from gateway.store.values import from_columns
from gateway.store.writer import SingleDecision

_ALLOWED = "claimingAllowed"
"""The server attribute that allows claiming where a profile does not (contract, section 18)."""


class OfferFor(SingleDecision[RefusalReason | None]):
    """Stores a claim for a device, unless one stands and is not to be replaced."""

    __slots__ = ("device_id", "digest", "event", "expires_at", "replace")

    def __init__(
        self, device_id: int, digest: bytes, event: Event, expires_at: int, *, replace: bool
    ) -> None:
        self.device_id = device_id
        self.digest = digest
        self.event = event
        self.expires_at = expires_at
        self.replace = replace

    async def decide(self, tx: Transaction) -> RefusalReason | None:
        reason = await self._obstacle(tx)
        if reason is None:
            # Whatever expires at or before this time gives way: with `replace`, any claim does.
            until = 2**62 if self.replace else self.event.at
            place = (self.device_id, self.digest, self.expires_at, until)
            if not await tx.fetch("offer_claim", *place):
                reason = RefusalReason.CLAIM_STANDS
        if reason is not RefusalReason.NO_SUCH_DEVICE:
            self._tell(tx, reason)
        return reason

    async def _obstacle(self, tx: Transaction) -> RefusalReason | None:
        found = await tx.fetch("claiming", self.device_id)
        if not found:
            return RefusalReason.NO_SUCH_DEVICE
        customer_id, settings = found[0]
        if customer_id is not None:
            return RefusalReason.CUSTOMER_HAS_IT
        if profile_from_settings(settings).claiming_allowed:
            return None
        scope = AttributeScope.SERVER.value
        allowed = await tx.fetch("attribute", self.device_id, scope, _ALLOWED)
        if allowed and from_columns(*allowed[0]) is True:
            return None
        return RefusalReason.CLAIMING_DISABLED

    def _tell(self, tx: Transaction, reason: RefusalReason | None) -> None:
        told = event_on(self.event, self.device_id)
        if reason is not None:
            told = replace(told, outcome=Outcome.REFUSED, reason=reason.value)
        tell(tx, [told])
