"""Firmware and software, for people: which packages there are, and what is to run them."""

from __future__ import annotations

from msgspec import structs

from gateway.core.author import Author
from gateway.core.model import (
    Device,
    DeviceProfile,
    Download,
    EventKind,
    Package,
    PackageKind,
    Peer,
)
from gateway.core.ports import Clock, KnownCredentials, Store
from gateway.core.registrar import Registrar


class PackageShelf:
    """Keeps packages and assigns them, as `peer` (the events' author). Content is on disk."""

    def __init__(self, store: Store, registrar: Registrar, *, clock: Clock, peer: Peer) -> None:
        self._store = store
        self._registrar = registrar
        self._clock = clock
        self._author = Author(clock, peer)

    async def add(self, package: Package) -> Package | None:
        """Its content must be on disk already. None when its kind, title and version exist."""
        event = self._author.event(EventKind.PACKAGE_CREATE, _title(package), _kind(package))
        stamped = structs.replace(package, created_at=self._clock())
        return await self._registrar.save_package(stamped, event)

    async def all(self) -> list[Package]:
        return await self._registrar.packages()

    async def remove(self, package: Package) -> bool:
        """False while a device or a profile is to run it. Its content stays on disk."""
        event = self._author.event(EventKind.PACKAGE_REMOVE, _title(package), _kind(package))
        return await self._registrar.remove_package(package.id, event)

    async def assign(
        self, kind: PackageKind, package: Package | None, to: Device | DeviceProfile
    ) -> None:
        """What a device, or all devices of a profile, are to run; None takes it back."""
        detail = {"kind": kind.value, "package": _title(package) if package else ""}
        target = _target(to)
        event = self._author.event(
            EventKind.PACKAGE_ASSIGN, to.name, detail, target.get("device_id")
        )
        await self._registrar.assign_package(kind, package.id if package else None, event, **target)

    async def assigned(self, kind: PackageKind, to: Device | DeviceProfile) -> Package | None:
        """What was assigned to the device itself, or to the profile itself."""
        return await self._registrar.assigned(kind, **_target(to))

    async def for_device(self, device: Device, kind: PackageKind) -> Package | None:
        """What a device is to run: its own assignment, else its profile's."""
        return await self._store.package_for(device, kind)

    async def downloads(self, known: KnownCredentials) -> list[Download]:
        """How far a device came with each package."""
        return await self._registrar.downloads(known.device.id)


def _title(package: Package) -> str:
    return f"{package.title} {package.version}"


def _kind(package: Package) -> dict[str, str]:
    return {"kind": package.kind.value}


def _target(to: Device | DeviceProfile) -> dict[str, int]:
    return {"device_id" if isinstance(to, Device) else "profile_id": to.id}
