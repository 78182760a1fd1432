"""How far a device came with the firmware or software it is to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from msgspec import Struct

from gateway.cli.tables import value_text
from gateway.core.model import Device, Download, Package, PackageKind, Reading
from gateway.core.ports import KnownCredentials
from gateway.core.registry import Registry

NAMES = {PackageKind.FIRMWARE: "firmware", PackageKind.SOFTWARE: "software"}

software_option = click.option(
    "--software",
    "kind",
    flag_value=PackageKind.SOFTWARE,
    default=PackageKind.FIRMWARE,
    type=PackageKind,
    help="Software (sw_…) instead of firmware (fw_…).",
)


class Progress(Struct, frozen=True, kw_only=True):
    """What a device is to run, and what it says of itself (ThingsBoard contract, section 14).

    `sent` is bytes of the assigned package that were given to it.
    """

    assigned: Package | None
    title: str
    version: str
    state: str
    error: str
    sent: int

    @property
    def percent(self) -> int | None:
        """How much of the assigned package was given to the device; None when it has no size."""
        if self.assigned is None or not self.assigned.size:
            return None
        return min(100, self.sent * 100 // self.assigned.size)

    def __bool__(self) -> bool:
        return self.assigned is not None or bool(self.title or self.version or self.state)

    def sentence(self) -> str:
        """For a person, in one line."""
        wanted = f"{title_of(self.assigned)} assigned" if self.assigned else "none assigned"
        parts = [wanted, f"runs {self.current}" if self.current else "tells no version"]
        if self.state:
            parts.append(self.state)
        if self.sent and self.percent is not None:
            parts.append(f"{self.percent} % downloaded")
        if self.error:
            parts.append(f"error: {self.error}")
        return ", ".join(parts)

    @property
    def current(self) -> str:
        return f"{self.title} {self.version}".strip()

    def plain(self) -> dict[str, Any]:
        assigned = self.assigned
        return {
            "assigned": assigned and {"title": assigned.title, "version": assigned.version},
            "title": self.title or None,
            "version": self.version or None,
            "state": self.state or None,
            "error": self.error or None,
            "downloaded_percent": self.percent if self.sent else None,
        }


def title_of(package: Package | None) -> str:
    return f"{package.title} {package.version}" if package else "-"


async def progress(
    registry: Registry, known: KnownCredentials, latest: Sequence[Reading]
) -> dict[PackageKind, Progress]:
    """Both kinds, with the device's downloads. `latest` are its latest readings."""
    downloads = await registry.packages.downloads(known)
    return {
        kind: await _progress(registry, known.device, kind, latest, downloads)
        for kind in PackageKind
    }


async def _progress(
    registry: Registry,
    device: Device,
    kind: PackageKind,
    latest: Sequence[Reading],
    downloads: Sequence[Download],
) -> Progress:
    return told(kind, await registry.packages.for_device(device, kind), latest, downloads)


def told(
    kind: PackageKind,
    assigned: Package | None,
    latest: Sequence[Reading],
    downloads: Sequence[Download] = (),
) -> Progress:
    """What a device's latest readings say of its firmware or software."""
    said: Mapping[str, str] = {one.key: value_text(one.value) for one in latest}
    sent = [one.sent for one in downloads if assigned and one.package_id == assigned.id]
    prefix = kind.value
    return Progress(
        assigned=assigned,
        title=said.get(f"current_{prefix}_title", ""),
        version=said.get(f"current_{prefix}_version", ""),
        state=said.get(f"{prefix}_state", ""),
        error=said.get(f"{prefix}_error", ""),
        sent=max(sent, default=0),
    )
