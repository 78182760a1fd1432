"""Births and claims on terms: each is decided by itself, and undone when a term does not hold."""

from __future__ import annotations

from typing import Any

from gateway.core.errors import GatehouseError
from gateway.core.model import Event, RefusalReason
from gateway.core.pki.model import IssuedCertificate
from gateway.core.ports import KnownCredentials
from gateway.core.terms import Terms
from gateway.store.approvals import spend_approval
from gateway.store.caps import room_for_one
from gateway.store.certificates import drop_reservation
from gateway.store.decisions import Born, OpenKnown, refused
from gateway.store.driver import Transaction
from gateway.store.events import tell
from gateway.store.gifts import give
from gateway.store.placements import Placed
from gateway.store.retries import Bound, Repeated, repeated
from gateway.store.ticket_uses import use_ticket
from gateway.store.writer import Decision, SingleDecision


class Barred(GatehouseError):
    """A term does not hold: nothing was done."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Guarded(SingleDecision[Any]):
    """Decides `inner` if its terms hold, and leaves nothing of it but the event of a refusal else.

    `place` is organisation and profile, `told` the event of its success without a device, `issued`
    the certificate that goes with it, `bound` what the answer is bound to.
    """

    __slots__ = ("bound", "inner", "issued", "open_known", "place", "terms", "told")

    def __init__(
        self,
        inner: Decision[Any],
        terms: Terms,
        place: tuple[int, int],
        told: Event,
        issued: IssuedCertificate | None,
        *,
        bound: Bound | None,
        open_known: OpenKnown,
    ) -> None:
        self.inner = inner
        self.terms = terms
        self.place = place
        self.told = told
        self.issued = issued
        self.bound = bound
        self.open_known = open_known

    async def decide(self, tx: Transaction) -> Any:
        again = await repeated(tx, self.bound, self.told.at, self.open_known)
        if again is not None:
            await self._drop(tx)
            return again
        await tx.savepoint()
        try:
            result = await self._on_terms(tx)
        except Barred as barred:
            await tx.rollback_to_savepoint()
            await self._drop(tx)
            tell(tx, [await refused(tx, self.told, self.place[0], barred.reason)])
            return barred.reason
        except GatehouseError:
            await tx.rollback_to_savepoint()
            raise
        await tx.release()
        return result

    async def _on_terms(self, tx: Transaction) -> Any:
        """Raises `Barred`."""
        result = (await self.inner.decide_all(tx, [self.inner]))[0]
        if isinstance(result, GatehouseError):
            raise result
        if not self._counts(result):
            return result
        reason = (
            await use_ticket(tx, self.terms)
            or await self._no_room(tx, result)
            or await spend_approval(tx, self.terms)
        )
        if reason is not None:
            raise Barred(reason)
        if self.terms.gifts is not None:
            await give(tx, _number(result), self.terms.gifts, self.told.at, self.told.peer)
        return result

    def _counts(self, result: Any) -> bool:
        """Whether the terms are about a result like this."""
        return not isinstance(result, RefusalReason | Repeated)

    async def _no_room(self, tx: Transaction, result: Any) -> RefusalReason | None:
        """A device that was claimed was there before, and needs none."""
        if isinstance(result, KnownCredentials):
            return None
        return await room_for_one(tx, self.terms, self.place)

    async def _drop(self, tx: Transaction) -> None:
        if self.issued is not None:
            await drop_reservation(tx, self.issued.serial)


class GuardedEntry(Guarded):
    """The same for a device that a factory's certificate brings (`EnterByChain`). One that was
    there before comes in whatever the terms."""

    __slots__ = ()

    def _counts(self, result: Any) -> bool:
        return isinstance(result, Born)


def _number(result: Born | Placed | KnownCredentials) -> int:
    return result.device.id if isinstance(result, KnownCredentials) else result.device_id
