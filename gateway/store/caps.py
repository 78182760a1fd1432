"""How many devices there may be.

Exact, and without counting all of them for each: of a place whose number is bounded the store keeps
how many there are up to a number of a device, and triggers take those out that go. Writers take
turns on both databases, so that no two births see the same last place.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from gateway.core.model import PLAIN_POLICY, DeviceProfile, RefusalReason
from gateway.store.driver import Transaction
from gateway.store.queries import listed


class Bounds(Struct, frozen=True):
    """How many devices there may be in a profile, and in its organisation; None: any number."""

    devices: int | None = None
    in_organisation: int | None = None


UNBOUNDED: Final = Bounds()


Place: TypeAlias = tuple[int, int, Bounds]
"""An organisation, a profile, and how many there may be."""


class Room(Struct, frozen=True):
    """For how many more devices there is room, and why no more are born."""

    free: int
    reason: RefusalReason


def bounds_of(profile: DeviceProfile) -> Bounds:
    """What a profile says of devices that come by themselves."""
    if profile.policy is PLAIN_POLICY:
        return UNBOUNDED
    admission = profile.policy.admission
    return Bounds(admission.max_devices, admission.max_devices_in_organisation)


async def room_in(tx: Transaction, place: tuple[int, int], bounds: Bounds) -> Room:
    """The room in `place` (organisation, profile) before somebody is born, where it is bounded."""
    organisation_id, profile_id = place
    rooms = []
    if bounds.devices is not None:
        free = bounds.devices - await _devices(tx, "profile", profile_id)
        rooms.append(Room(max(0, free), RefusalReason.PROFILE_FULL))
    if bounds.in_organisation is not None:
        free = bounds.in_organisation - await _devices(tx, "organisation", organisation_id)
        rooms.append(Room(max(0, free), RefusalReason.ORGANISATION_FULL))
    return min(rooms, key=lambda room: room.free)


async def no_room(tx: Transaction, born: Collection[Place]) -> RefusalReason | None:
    """Why there is no room in these places for the devices that were born just now in this
    transaction; None: there is."""
    for organisation_id, profile_id, bounds in born:
        most = bounds.devices
        if most is not None and await _devices(tx, "profile", profile_id) > most:
            return RefusalReason.PROFILE_FULL
        most = bounds.in_organisation
        if most is not None and await _devices(tx, "organisation", organisation_id) > most:
            return RefusalReason.ORGANISATION_FULL
    return None


async def _devices(tx: Transaction, kind: str, place_id: int) -> int:
    found = await tx.fetch(f"devices_in_{kind}", place_id)
    if not found:  # its first bounded birth: all are counted, this once
        await tx.fetch("count_place", kind, place_id)
        found = await tx.fetch(f"devices_in_{kind}", place_id)
    devices: int = found[0][0]
    return devices


async def count_reserved(tx: Transaction, numbers: Sequence[int]) -> None:
    """Count devices that were born just now with `numbers` that had been reserved for them."""
    if numbers:
        await tx.fetch("count_reserved", listed(numbers))
