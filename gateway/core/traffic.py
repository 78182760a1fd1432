"""What devices send once they are in: readings and attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.core.model import (
    Attributes,
    AttributesChange,
    AttributeScope,
    AttributesSelection,
    Device,
    Reading,
    Value,
)
from gateway.core.ports import Clock, Store


class Traffic:
    """Readings in, attributes in and out. All of it is on disk before these return."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def save_readings(self, device: Device, readings: Sequence[Reading]) -> None:
        """Raises `CredentialsGone` when the device's login is no longer good."""
        if readings:
            await self._store.save_readings(device, readings)

    async def save_many_readings(
        self, sent: Sequence[tuple[Device, Sequence[Reading]]]
    ) -> list[bool]:
        """Readings of many devices, in one decision; False where the login is no longer good."""
        return await self._store.save_many_readings(sent) if sent else []

    async def save_client_attributes(self, device: Device, values: Mapping[str, Value]) -> None:
        """Raises `CredentialsGone` when the device's login is no longer good."""
        if values:
            await self._store.save_attributes(device, AttributeScope.CLIENT, values, self._clock())

    async def change_own_attributes(
        self, device: Device, scope: AttributeScope, change: AttributesChange
    ) -> None:
        """Set and delete attributes on the device's own word. Raises `CredentialsGone`."""
        await self._store.change_own_attributes(device, scope, change, self._clock())

    async def latest(self, device: Device, keys: Sequence[str] | None = None) -> list[Reading]:
        """The latest reading of each key, or of these."""
        return await self._store.latest(device, keys)

    async def forget_latest(self, device: Device, keys: Sequence[str]) -> None:
        """Take the latest readings of these keys back. Raises `CredentialsGone`."""
        await self._store.forget_latest(device, keys)

    async def owner_email(self, device: Device) -> str:
        """The address of the user who owns it; "" when nobody does."""
        return await self._store.owner_email(device)

    async def attributes(self, device: Device, selection: AttributesSelection) -> Attributes:
        return await self._store.attributes(device, selection)
