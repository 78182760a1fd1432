"""The profile of each device, read once for each of its revisions."""

from __future__ import annotations

from gateway.core.model import Device, DeviceProfile
from gateway.core.ports import Store

_MOST_KEPT = 4096


class Profiles:
    """Profiles by number, as fresh as the device that was read last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[int, DeviceProfile] = {}

    async def of(self, device: Device) -> DeviceProfile:
        """The device's profile, at least as new as when `device` was read."""
        kept = self._kept.get(device.profile_id)
        if kept is not None and kept.revision >= device.profile_revision:
            return kept
        return await self.fresh(device)

    async def fresh(self, device: Device) -> DeviceProfile:
        """The device's profile as it is now."""
        profile = await self._store.profile(device.profile_id)
        if profile is None:
            # The profile went with its last device a moment ago.
            return DeviceProfile(id=device.profile_id, name=device.type)
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[profile.id] = profile
        return profile
