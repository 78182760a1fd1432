"""What a newborn begins with."""

from __future__ import annotations

from gateway.core.model import Peer
from gateway.core.ports import Gifts
from gateway.store.driver import Transaction


async def give(tx: Transaction, device_id: int, gifts: Gifts, at: int, peer: Peer) -> None:
    """Give a device that was born or claimed just now, by `peer`, what it begins with."""
