"""Firmware and software for devices: which one, its bytes, and how far each device came."""

from __future__ import annotations

import asyncio

import structlog

from gateway.core.errors import GatehouseError
from gateway.core.model import Device, Download, Package, PackageKind
from gateway.core.ports import Clock, PackageFiles, Store

log = structlog.get_logger()

WRITE_EVERY_S = 2.0
MOST_NOTED = 50_000
"""Downloads noted and not yet written; beyond it the oldest notes are forgotten."""
_MOST_PER_WRITE = 2_000


class PackageSource:
    """The content of a package, read as it is taken. `etag` tells two packages apart."""

    __slots__ = ("_files", "_package", "etag")

    def __init__(self, files: PackageFiles, package: Package) -> None:
        self._files = files
        self._package = package
        # RFC 7252, section 5.10.6.1: 1 to 8 bytes. Files are named by their digest.
        self.etag = bytes.fromhex(package.file[:16])

    @property
    def size(self) -> int:
        return self._package.size

    async def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`; fewer at the end. Raises `StoreUnavailable`."""
        return await self._files.read(self._package, offset, size)


class Packages:
    """Finds what a device is to run and opens it. `files` None: nothing is kept on this machine."""

    def __init__(self, store: Store, files: PackageFiles | None, clock: Clock) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._noted: dict[tuple[int, int], Download] = {}

    async def for_device(self, device: Device, kind: PackageKind) -> Package | None:
        """What the device is to run: its own assignment, else its profile's."""
        return await self._store.package_for(device, kind)

    def open(self, package: Package) -> PackageSource | None:
        """The content; None when devices find it elsewhere (`url`), or nothing is kept here."""
        if package.url or not package.file or self._files is None:
            return None
        return PackageSource(self._files, package)

    def note(self, device: Device, package: Package, sent: int) -> None:
        """So many bytes from the beginning were given to the device. Written a little later."""
        key = (device.id, package.id)
        before = self._noted.pop(key, None)
        if before is not None and before.sent > sent:
            sent = before.sent
        elif len(self._noted) >= MOST_NOTED:
            del self._noted[next(iter(self._noted))]
        self._noted[key] = Download(
            kind=package.kind, package_id=package.id, sent=sent, at=self._clock()
        )

    async def run(self) -> None:
        """Write what was noted, again and again, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            try:
                await self.write()
            except GatehouseError as exc:
                log.debug("downloads.not_written", reason=str(exc))
            except Exception:
                log.exception("downloads.failed")

    async def write(self) -> None:
        """Write what was noted. Raises what the store raises, and keeps the notes then."""
        noted = list(self._noted.items())
        for start in range(0, len(noted), _MOST_PER_WRITE):
            part = noted[start : start + _MOST_PER_WRITE]
            by_device: dict[int, list[Download]] = {}
            for (device_id, _), download in part:
                by_device.setdefault(device_id, []).append(download)
            await self._store.save_downloads(by_device)
            for key, download in part:
                if self._noted.get(key) is download:
                    del self._noted[key]
