"""How often a fleet secret may still be used."""

from __future__ import annotations

from gateway.core.model import RefusalReason
from gateway.core.ports import Terms
from gateway.store.driver import Transaction


async def use_ticket(tx: Transaction, terms: Terms) -> RefusalReason | None:
    """Take one of the uses of a bounded secret; why there is none left, or None."""
    return None
