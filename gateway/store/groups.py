"""Groups of devices: made on first mention, and devices put into them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from gateway.store.driver import Transaction
from gateway.store.identity import uuid7


async def ensure_groups(
    tx: Transaction, organisation_id: int, names: Iterable[str], at: int
) -> dict[str, int]:
    """The numbers of the organisation's groups of these names, in this transaction's view."""
    return {name: await _ensure_group(tx, organisation_id, name, at) for name in names}


async def _ensure_group(tx: Transaction, organisation_id: int, name: str, at: int) -> int:
    found = await tx.fetch("device_group_named", organisation_id, name)
    if not found:
        number = (await tx.fetch("next_ids", "group", 1))[0][0]
        identity = uuid7(at, os.urandom)
        found = await tx.fetch("insert_device_group", number, identity, organisation_id, name, at)
    if not found:
        found = await tx.fetch("device_group_named", organisation_id, name)
    number = found[0][0]
    assert isinstance(number, int)
    return number


async def put_into_groups(tx: Transaction, members: Sequence[tuple[int, int]]) -> None:
    """Pairs of a group's number and a device's; one that is there already stays."""
    await tx.insert_rows("insert_group_members", members)
