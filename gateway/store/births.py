"""How devices come into being: many at once, one statement per table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from gateway.core.model import RefusalReason
from gateway.core.ports import NewDevice
from gateway.store.driver import Row, Transaction
from gateway.store.retries import Bound


class Birth(Struct, frozen=True):
    """A device to be born, with its outside name and its credentials as they are kept.

    `bound`: what its answer is bound to.
    """

    new: NewDevice
    uuid: bytes
    digest: bytes
    sealed: bytes
    customer_id: int | None = None
    creator_id: int | None = None
    bound: Bound | None = None

    def device_row(self, number: int) -> Row:
        new = self.new
        return (
            number,
            self.uuid,
            new.organisation_id,
            new.profile_id,
            new.name,
            new.type,
            int(new.gateway),
            new.provision_state,
            new.at,
            self.customer_id,
            self.creator_id,
            new.terms.ticket_id,
            new.terms.expires_at,
        )

    def credentials_row(self, number: int) -> Row:
        return (number, 1, self.new.credentials.type._value_, self.digest, self.sealed, self.new.at)


Outcome: TypeAlias = int | RefusalReason
"""The number a device got, or why it is not born: `NAME_TAKEN` or `CREDENTIALS_TAKEN`."""


async def bear(tx: Transaction, births: Sequence[Birth]) -> list[Outcome]:
    """Are the names free, and the credentials? The inserts themselves are the question."""
    last = (await tx.fetch("next_ids", "device", len(births)))[0][0]
    first = last - len(births) + 1
    numbered = dict(enumerate(births, first))
    born: set[int] = set()
    unkeyed: set[int] = set()
    pending = numbered
    while pending:
        fresh = await _insert_devices(tx, pending, first)
        lost = await _insert_credentials(tx, fresh, first)
        born |= fresh.keys() - lost
        unkeyed |= lost
        # A name that was taken back is free again for those it was refused to.
        freed = {numbered[number].new.name for number in lost}
        pending = {
            number: one
            for number, one in pending.items()
            if number not in fresh and one.new.name in freed
        }
    if unused := last - max(born, default=first - 1):
        # Nobody has heard of them: who is refused again and again does not count to their end.
        await tx.fetch("next_ids", "device", -unused)
    return [
        number
        if number in born
        else RefusalReason.CREDENTIALS_TAKEN
        if number in unkeyed
        else RefusalReason.NAME_TAKEN
        for number in numbered
    ]


async def _insert_devices(
    tx: Transaction, pending: Mapping[int, Birth], first: int
) -> dict[int, Birth]:
    """Insert all whose name is free; of two with one name the first. Gives those inserted."""
    rows = [one.device_row(number) for number, one in pending.items()]
    if await tx.insert_rows("insert_devices", rows) == len(rows):
        return dict(pending)
    ids = {row[0] for row in await tx.fetch("devices_after", first - 1)}
    return {number: one for number, one in pending.items() if number in ids}


async def _insert_credentials(tx: Transaction, fresh: Mapping[int, Birth], first: int) -> set[int]:
    """Insert the credentials of new devices. Those whose are another's are taken back; which?"""
    rows = [one.credentials_row(number) for number, one in fresh.items()]
    lost: set[int] = set()
    if await tx.insert_rows("insert_credentials", rows) != len(rows):
        lost = fresh.keys() - {row[0] for row in await tx.fetch("credentials_after", first - 1)}
    # The index keeps credentials apart, and those pending, and the tokens of tickets; here the
    # three are kept apart.
    for row in await tx.fetch("credentials_pending_elsewhere", first - 1):
        await tx.fetch("delete_credentials", row[0])
        lost.add(row[0])
    for number in lost:
        await tx.fetch("delete_device", number)
    return lost


async def take_back(tx: Transaction, number: int) -> None:
    """A device that was born in this transaction never was."""
    await tx.fetch("delete_credentials", number)
    await tx.fetch("delete_device", number)
