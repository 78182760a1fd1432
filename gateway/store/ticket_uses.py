"""How often a fleet secret may still be used, and when it was last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gateway.core.model import RefusalReason
from gateway.core.terms import Terms
from gateway.store.driver import Transaction
from gateway.store.writer import Decision


async def use_tickets(tx: Transaction, held: Sequence[Terms]) -> RefusalReason | None:
    """Take one of the uses of a bounded secret for each of those who come on these terms; why there
    are not so many left, or None."""
    uses = Counter(terms.ticket_id for terms in held if terms.counted)
    for ticket_id, count in uses.items():
        if not await tx.fetch("use_ticket", ticket_id, count):
            return RefusalReason.SECRET_USED_UP
    return None


class NoteUse(Decision[None]):
    """Writes down when a fleet secret was last shown, in whole minutes."""

    __slots__ = ("at", "ticket_id")

    def __init__(self, ticket_id: int, at: int) -> None:
        self.ticket_id = ticket_id
        self.at = at

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[Any]) -> list[Any]:
        latest = {one.ticket_id: one.at for one in decisions}
        for ticket_id, at in latest.items():
            await tx.fetch("note_use", ticket_id, at)
        return [None] * len(decisions)
