"""Packages, who is to run them, and how far their downloads came. Contents are in `packages`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.core.errors import ConfigError
from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    Download,
    Event,
    NoticeKind,
    Package,
    PackageKind,
    Value,
)
from gateway.store.attributes import announced
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.notices import body_of, notify
from gateway.store.presence import living
from gateway.store.records import package_row
from gateway.store.values import from_columns
from gateway.store.writer import Decision, SingleDecision

_json = msgspec.json.Encoder()


class SavePackage(SingleDecision[Package | None]):
    """Stores a package. None when its kind, title and version exist."""

    __slots__ = ("event", "package")

    def __init__(self, package: Package, event: Event) -> None:
        self.package = package
        self.event = event

    async def decide(self, tx: Transaction) -> Package | None:
        number = (await tx.fetch("next_ids", "package", 1))[0][0]
        package = msgspec.structs.replace(self.package, id=number)
        if not await tx.insert_rows("insert_packages", [package_row(package)]):
            return None
        tell(tx, [self.event])
        return package


class RemovePackage(SingleDecision[bool]):
    """Removes a package that is assigned to nobody."""

    __slots__ = ("event", "package_id")

    def __init__(self, package_id: int, event: Event) -> None:
        self.package_id = package_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("remove_package", self.package_id):
            return False
        await tx.fetch("delete_downloads_of_package", self.package_id)
        tell(tx, [self.event])
        return True


class AssignPackage(SingleDecision[None]):
    """Lets a device run a package, or (None) what its profile says."""

    __slots__ = ("device_id", "event", "kind", "package_id")

    def __init__(
        self, kind: PackageKind, package_id: int | None, event: Event, device_id: int
    ) -> None:
        self.kind = kind
        self.package_id = package_id
        self.event = msgspec.structs.replace(event, device_id=device_id)
        self.device_id = device_id

    async def decide(self, tx: Transaction) -> None:
        number, at = self.device_id, self.event.at
        profile = await tx.fetch("profile_of_device", number)
        if not profile:
            raise ConfigError("there is no such device any more")
        place = (number, profile[0][0])
        before = await _announced(tx, self.kind, *place)
        if not await assign(tx, "device", number, self.kind, self.package_id, at):
            return
        change = _change(before, await _announced(tx, self.kind, *place))
        change = await self._uncovered(tx, change)
        tell(tx, [self.event])
        await notify(tx, NoticeKind.PACKAGE, at, device_id=number, change=change)

    async def _uncovered(self, tx: Transaction, change: AttributesChange) -> AttributesChange:
        """What a package hid under the names it leaves is seen again."""
        if not change.deleted:
            return change
        keys, scope = _json.encode(change.deleted).decode(), AttributeScope.SHARED.value
        rows = await tx.fetch("attributes_named", self.device_id, scope, keys)
        seen = {key: from_columns(*columns) for key, *columns in rows}
        gone = tuple(key for key in change.deleted if key not in seen)
        return AttributesChange({**change.values, **seen}, gone)


class AssignToProfile(SingleDecision[None]):
    """Lets the devices of a profile that have no package of their own run one, or (None) none."""

    __slots__ = ("event", "kind", "package_id", "profile_id")

    def __init__(
        self, kind: PackageKind, package_id: int | None, event: Event, profile_id: int
    ) -> None:
        self.kind = kind
        self.package_id = package_id
        self.event = event
        self.profile_id = profile_id

    async def decide(self, tx: Transaction) -> None:
        number, at = self.profile_id, self.event.at
        if not await tx.fetch("profile", number):
            raise ConfigError("there is no such profile any more")
        before = await _announced(tx, self.kind, 0, number)
        if not await assign(tx, "profile", number, self.kind, self.package_id, at):
            return
        change = _change(before, await _announced(tx, self.kind, 0, number))
        tell(tx, [self.event])
        others = (await tx.fetch("count_own_packages", number, self.kind.value))[0][0]
        if others:
            await self._tell_each(tx, change, others)
        else:
            await notify(tx, NoticeKind.PACKAGE, at, profile_id=number, change=change)

    async def _tell_each(self, tx: Transaction, change: AttributesChange, others: int) -> None:
        """A notice for each device it concerns: one with a package of its own must not hear it."""
        devices = (await tx.fetch("count_devices_of_profile", self.profile_id))[0][0] - others
        if not devices:
            return
        last = (await tx.fetch("next_ids", "notice", devices))[0][0]
        columns = (self.event.at, body_of(change), self.profile_id, self.kind.value)
        await tx.fetch("tell_of_package", last - devices, *columns)


async def assign(
    tx: Transaction, target: str, number: int, kind: PackageKind, package_id: int | None, at: int
) -> bool:
    """False when there was nothing to withdraw. Raises `ConfigError` without such a package."""
    if package_id is None:
        return bool(await tx.fetch("withdraw_package", target, number, kind.value))
    if not await tx.fetch("assign_package", target, number, kind.value, package_id, at):
        raise ConfigError(f"there is no such {kind.value} package any more")
    return True


async def _announced(
    tx: Transaction, kind: PackageKind, device_id: int, profile_id: int
) -> dict[str, Value]:
    """The attributes by which packages of this kind are announced."""
    told = announced(await tx.fetch("packages_for", device_id, profile_id))
    prefix = f"{kind.value}_"
    return {key: value for key, (value, _) in told.items() if key.startswith(prefix)}


def _change(before: dict[str, Value], after: dict[str, Value]) -> AttributesChange:
    return AttributesChange(after, tuple(key for key in before if key not in after))


class SaveDownloads(Decision[None]):
    """Writes how far devices came; of one device and kind the newest stands."""

    __slots__ = ("downloads",)

    def __init__(self, downloads: Mapping[int, Sequence[Download]]) -> None:
        self.downloads = downloads

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[SaveDownloads]) -> list[Any]:
        rows: dict[tuple[int, PackageKind], Row] = {}
        for one in decisions:
            for device_id, downloads in one.downloads.items():
                for done in downloads:
                    row = (device_id, done.kind.value, done.package_id, done.sent, done.at)
                    rows[device_id, done.kind] = row
        if rows:
            here = await living(tx, list({device_id for device_id, _ in rows}))
            await tx.insert_rows(
                "insert_downloads", [row for row in rows.values() if row[0] in here]
            )
        return [None] * len(decisions)
