"""What a newborn begins with, given in the transaction of its birth or claim."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.model import AttributeScope, Event, EventKind, Outcome, Peer, Value
from gateway.core.terms import Gifts
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.groups import ensure_groups, put_into_groups
from gateway.store.organisations import ensure_customer
from gateway.store.search import index_again
from gateway.store.values import to_columns


async def give(tx: Transaction, device_id: int, gifts: Gifts, at: int, peer: Peer) -> None:
    """Give a device that was born or claimed just now, by `peer`, what it begins with.

    What cannot be given is told in an event that warns; the device is born all the same.
    """
    organisation_id, name, customer_id = (await tx.fetch("device_place", device_id))[0]
    await _attributes(tx, device_id, gifts, at)
    if gifts.label and await tx.fetch("label_device", device_id, gifts.label):
        await index_again(tx, [device_id])
    if gifts.customer and customer_id is None:
        customer = await ensure_customer(tx, organisation_id, gifts.customer, at, peer)
        await tx.fetch("give_to_customer", device_id, customer, None)
    if gifts.groups:
        groups = await ensure_groups(tx, organisation_id, gifts.groups, at)
        await put_into_groups(tx, [(group_id, device_id) for group_id in groups.values()])
    left_out = [*gifts.left_out, *await _packages(tx, device_id, gifts, at)]
    if left_out:
        warning = Event(
            kind=EventKind.DEVICE_BIRTH_SETTINGS,
            at=at,
            peer=peer,
            subject=name,
            device_id=device_id,
            outcome=Outcome.WARNING,
            detail={"left_out": "; ".join(left_out)},
        )
        tell(tx, [warning])


async def _attributes(tx: Transaction, device_id: int, gifts: Gifts, at: int) -> None:
    """Whoever asks for them next sees them; nobody can listen to them yet."""
    for statement, given in (
        ("insert_default_attributes", gifts.attributes),
        ("insert_attributes", gifts.said),
    ):
        rows = [row for scope, one in given.items() for row in _rows(device_id, scope, one, at)]
        if rows:
            await tx.insert_rows(statement, rows)


def _rows(device_id: int, scope: AttributeScope, values: Mapping[str, Value], at: int) -> list[Row]:
    return [(device_id, scope.value, key, *to_columns(value), at) for key, value in values.items()]


async def _packages(tx: Transaction, device_id: int, gifts: Gifts, at: int) -> list[str]:
    """Let the device run its packages; those that are not there, as sentences' ends."""
    missing = []
    for kind, (title, version) in gifts.packages.items():
        found = await tx.fetch("package_titled", kind.value, title, version)
        if found:
            await tx.fetch("assign_first_package", device_id, kind.value, found[0][0], at)
        else:
            missing.append(f"{kind.value} {title} {version}: there is no such package")
    return missing
