"""Births and claims on terms: undone when a term does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.core.errors import GatehouseError
from gateway.core.model import Event, RefusalReason
from gateway.core.pki.model import IssuedCertificate
from gateway.core.ports import KnownCredentials
from gateway.core.terms import Terms
from gateway.store.approvals import spend_approvals
from gateway.store.caps import Bounds, Place, no_room
from gateway.store.certificates import drop_reservation
from gateway.store.decisions import Born, OpenKnown, refused
from gateway.store.driver import Transaction
from gateway.store.events import tell
from gateway.store.gifts import give
from gateway.store.placements import Placed
from gateway.store.retries import Bound, Repeated, repeated
from gateway.store.ticket_uses import use_tickets
from gateway.store.writer import Decision, decide_by_kind


class Barred(GatehouseError):
    """A term does not hold: nothing was done."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Guarded(Decision[Any]):
    """Decides `inner` if its terms hold, and leaves nothing of it but the event of a refusal else.

    `place` is organisation and profile, `told` the event of its success without a device, `issued`
    the certificate that goes with it, `bound` what the answer is bound to.
    """

    __slots__ = ("bound", "inner", "issued", "open_known", "place", "terms", "told")

    weight = 8
    """One after the other they take a dozen round trips each: a thousand, on a server, six seconds,
    in which no other gateway has its turn. It is not known before whether they must."""

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

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[Guarded]) -> list[Any]:
        """At once, if the terms hold for all of them: a round trip to a server for each term of
        each would be a transaction of many seconds. Else one after the other."""
        if len(decisions) > 1:
            await tx.savepoint()
            try:
                results = await cls._on_terms(tx, decisions)
            except GatehouseError:
                await tx.rollback_to_savepoint()
            else:
                await tx.release()
                return results
        return [await one._alone(tx) for one in decisions]

    async def _alone(self, tx: Transaction) -> Any:
        try:
            again = await repeated(tx, self.bound, self.told.at, self.open_known)
        except GatehouseError as exc:
            return exc
        if again is not None:
            await self._drop(tx)
            return again
        await tx.savepoint()
        try:
            result = (await self._on_terms(tx, [self]))[0]
        except Barred as barred:
            await tx.rollback_to_savepoint()
            await self._drop(tx)
            tell(tx, [await refused(tx, self.told, self.place[0], barred.reason)])
            return barred.reason
        except GatehouseError as exc:
            await tx.rollback_to_savepoint()
            return exc
        await tx.release()
        return result

    @classmethod
    async def _on_terms(cls, tx: Transaction, decisions: Sequence[Guarded]) -> list[Any]:
        """Raises `Barred`, or what one of them ends with, when it is not so that all may come in.

        A device that was claimed was there before, and needs no room.
        """
        results = await decide_by_kind(tx, [one.inner for one in decisions])
        for result in results:
            if isinstance(result, GatehouseError):
                raise result
        coming = [
            (one, result)
            for one, result in zip(decisions, results, strict=True)
            if one._counts(result)
        ]
        held = [one.terms for one, _ in coming]
        born = {one._room for one, result in coming if not isinstance(result, KnownCredentials)}
        reason = (
            await use_tickets(tx, held)
            or await no_room(tx, born)
            or await spend_approvals(tx, held)
        )
        if reason is not None:
            raise Barred(reason)
        for one, result in coming:
            if one.terms.gifts is not None:
                await give(tx, _number(result), one.terms.gifts, one.told.at, one.told.peer)
        return results

    @property
    def _room(self) -> Place:
        bounds = Bounds(self.terms.max_devices, self.terms.max_devices_in_organisation)
        return (*self.place, bounds)

    def _counts(self, result: Any) -> bool:
        """Whether the terms are about a result like this."""
        return not isinstance(result, RefusalReason | Repeated)

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
