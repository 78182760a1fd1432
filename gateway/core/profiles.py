"""The profile of each device."""

from __future__ import annotations

from gateway.core.model import Device, DeviceProfile
from gateway.core.ports import Store


class Profiles:
    """Profiles as they are now; who asks often keeps what it makes of one, by its revision."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of(self, device: Device) -> DeviceProfile:
        """The device's profile. One that went with its last device a moment ago is empty."""
        profile = await self._store.profile(device.profile_id)
        return profile or DeviceProfile(id=device.profile_id, name=device.type)
