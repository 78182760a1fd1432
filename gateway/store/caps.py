"""How many devices there may be."""

from __future__ import annotations

from gateway.core.model import RefusalReason
from gateway.core.ports import Terms
from gateway.store.driver import Transaction


async def room_for_one(
    tx: Transaction, terms: Terms, place: tuple[int, int]
) -> RefusalReason | None:
    """Why there is no room in `place` (organisation, profile) for one more; None: there is."""
    return None
