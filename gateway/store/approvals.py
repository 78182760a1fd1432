"""Devices that wait for an operator."""

from __future__ import annotations

from gateway.core.model import RefusalReason
from gateway.core.ports import Terms
from gateway.store.driver import Transaction


async def spend_approval(tx: Transaction, terms: Terms) -> RefusalReason | None:
    """Use an operator's yes up; why it does not stand, or None."""
    return None
