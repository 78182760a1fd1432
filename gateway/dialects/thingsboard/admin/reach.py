"""The device a call is about, when it is within the caller's reach."""

from __future__ import annotations

from typing import Final

from gateway.core.errors import Forbidden
from gateway.core.inventory import Inventory
from gateway.core.model import Actor, DeviceRecord, Permission
from gateway.dialects.thingsboard.admin.desk import NO_PERMISSION, not_found
from gateway.dialects.thingsboard.admin.words import uuid_of

SEES: Final = (Permission.ORG_DEVICES_VIEW, Permission.OWN_DEVICES_VIEW)
CHANGES: Final = (Permission.ORG_DEVICES_EDIT, Permission.OWN_DEVICES_EDIT)
UNKNOWN: Final = "Device with id [{}] is not found"
"""ThingsBoard's text (contract, section 17.3)."""


async def device_in_reach(
    inventory: Inventory, actor: Actor, identity: str, *, change: bool = False
) -> DeviceRecord:
    """The device of that UUID. Raises `Trouble` (400, 404), and `Forbidden` with `change` for one
    that the caller may see and not change."""
    device_id = uuid_of(identity, "deviceId")
    record = await inventory.find(actor, device_id)
    if record is None:
        raise not_found(UNKNOWN.format(device_id))
    if change and not _may_change(actor, record):
        raise Forbidden(NO_PERMISSION)
    return record


def _may_change(actor: Actor, record: DeviceRecord) -> bool:
    if actor.may(Permission.ORG_DEVICES_EDIT):
        return True
    own = record.owner_id is not None and record.owner_id == actor.owner_id
    return own and actor.may(Permission.OWN_DEVICES_EDIT)
