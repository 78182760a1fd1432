"""Which devices are there, as the gateway processes (nodes) last wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.core.model import Presence, Wire
from gateway.core.ports import PresenceUpdate
from gateway.store.driver import Row, Transaction
from gateway.store.writer import Decision, SingleDecision

NODE_LIVES_MS: Final = 15_000
"""A node whose last word is older is taken for dead, and its devices for offline. A gateway writes
every second; 15 of those may be late, or lost on a busy disk, before devices seem to leave."""
_NODE_FORGOTTEN_MS = 86_400_000

_json = msgspec.json.Encoder()


async def living(tx: Transaction, device_ids: Sequence[int]) -> set[int]:
    """Those of the devices that exist, held until the commit: none is removed in between."""
    listed = _json.encode(sorted(device_ids)).decode()
    return {row[0] for row in await tx.fetch("living", listed)}


class EnterNode(SingleDecision[int]):
    """Gives a process its number, and forgets the processes that are long gone."""

    __slots__ = ("now",)

    def __init__(self, now: int) -> None:
        self.now = now

    async def decide(self, tx: Transaction) -> int:
        number = int((await tx.fetch("next_ids", "node", 1))[0][0])
        await tx.fetch("node_lives", number, self.now)
        await tx.fetch("forget_nodes", self.now - _NODE_FORGOTTEN_MS)
        await tx.fetch("leave_nodes")
        return number


class SavePresence(Decision[None]):
    """Writes what was learned of any number of devices, and that the process lives."""

    __slots__ = ("node", "now", "updates")

    def __init__(self, node: int, updates: Mapping[int, PresenceUpdate], now: int) -> None:
        self.node = node
        self.updates = updates
        self.now = now

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[SavePresence]) -> list[Any]:
        for one in decisions:
            await tx.fetch("node_lives", one.node, one.now)
            if one.updates:
                here = await living(tx, list(one.updates))
                rows = [
                    presence_row(one.node, device_id, update)
                    for device_id, update in one.updates.items()
                    if device_id in here
                ]
                await tx.insert_rows("insert_presence", rows)
        return [None] * len(decisions)


def presence_row(node: int, device_id: int, update: PresenceUpdate) -> Row:
    """A row of `insert_presence`."""
    return (
        device_id,
        node,
        None if update.online is None else int(update.online),
        update.connected_at,
        update.disconnected_at,
        update.active_at,
        update.wire,
        update.address,
        update.gateway_id,
    )


def presence_from_row(row: Row, now: int) -> Presence:
    """A row of `presence`, less its device, as of `now`."""
    online, seen_at, connected_at, disconnected_at, active_at, wire, address, gateway_id = row
    return Presence(
        online=bool(online) and seen_at is not None and seen_at >= now - NODE_LIVES_MS,
        connected_at=connected_at or 0,
        disconnected_at=disconnected_at or 0,
        active_at=active_at,
        wire=Wire(wire) if wire else None,
        address=address or "",
        gateway_id=gateway_id,
    )
