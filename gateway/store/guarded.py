"""Births and claims on terms: each is decided by itself, and undone when a term does not hold."""

from __future__ import annotations

from typing import Any

from gateway.core.errors import GatehouseError
from gateway.core.model import Peer, RefusalReason
from gateway.core.ports import KnownCredentials, Terms
from gateway.store.approvals import spend_approval
from gateway.store.caps import room_for_one
from gateway.store.decisions import Born, OpenKnown
from gateway.store.driver import Transaction
from gateway.store.gifts import give
from gateway.store.placements import Placed
from gateway.store.retries import Repeated, repeated
from gateway.store.ticket_uses import use_ticket
from gateway.store.writer import Decision, SingleDecision


class Barred(GatehouseError):
    """A term does not hold: nothing was done."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Guarded(SingleDecision[Any]):
    """Decides `inner` if its terms hold. Raises `Barred`, and leaves no trace then.

    `place` is organisation and profile, `bound` what the answer is bound to.
    """

    __slots__ = ("at", "bound", "inner", "open_known", "peer", "place", "terms")

    def __init__(
        self,
        inner: Decision[Any],
        terms: Terms,
        place: tuple[int, int],
        at: int,
        peer: Peer,
        *,
        bound: bytes | None,
        open_known: OpenKnown,
    ) -> None:
        self.peer = peer
        self.inner = inner
        self.terms = terms
        self.place = place
        self.at = at
        self.bound = bound
        self.open_known = open_known

    async def decide(self, tx: Transaction) -> Any:
        again = await repeated(tx, self.bound, self.at, self.open_known)
        if again is not None:
            return again
        result = (await self.inner.decide_all(tx, [self.inner]))[0]
        if isinstance(result, GatehouseError):
            raise result
        if isinstance(result, RefusalReason | Repeated):
            return result
        reason = (
            await use_ticket(tx, self.terms)
            or await room_for_one(tx, self.terms, self.place)
            or await spend_approval(tx, self.terms)
        )
        if reason is not None:
            raise Barred(reason)
        if self.terms.gifts is not None:
            await give(tx, _number(result), self.terms.gifts, self.at, self.peer)
        return result


def _number(result: Born | Placed | KnownCredentials) -> int:
    return result.device.id if isinstance(result, KnownCredentials) else result.device_id
