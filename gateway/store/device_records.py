"""Devices with what people keep of them: rows as records."""

from __future__ import annotations

from gateway.core.errors import Cause, Conflict
from gateway.core.inventory_store import Sight
from gateway.core.model import DeviceRecord, ProfileTransport
from gateway.store.driver import Row, Transaction
from gateway.store.identity import uuid_text
from gateway.store.records import device_from_row


def record_from_row(row: Row) -> DeviceRecord:
    """A row of `device_record` as a record."""
    profile_name, profile_uuid, kind, label, info, version, owner_id, owner, owner_name, _ = row[
        14:
    ]
    device = device_from_row(row[:13], ProfileTransport(row[13]))
    held = device.customer_id is not None
    return DeviceRecord(
        device=device,
        profile_name=profile_name,
        profile_uuid=uuid_text(bytes(profile_uuid)) if profile_uuid else "",
        credentials_type=kind,
        label=label,
        info=info,
        version=version,
        owner_id=owner_id,
        customer_uuid=uuid_text(bytes(owner)) if held and owner else "",
        customer_name=owner_name if held else "",
    )


def is_in_sight(row: Row, sight: Sight) -> bool:
    """Whether a row of `device_record` is of a device that `sight` takes in."""
    return sight.shows(row[-1], row[20])


async def sighted(tx: Transaction, device_id: int, sight: Sight) -> DeviceRecord:
    """The device as it is in this transaction. Raises `Conflict` (GONE)."""
    rows = await tx.fetch("device_record", device_id)
    if not rows or not is_in_sight(rows[0], sight):
        raise Conflict(Cause.GONE)
    return record_from_row(rows[0])


async def record_of(tx: Transaction, device_id: int) -> DeviceRecord:
    """A device that is known to be there."""
    return record_from_row((await tx.fetch("device_record", device_id))[0])
