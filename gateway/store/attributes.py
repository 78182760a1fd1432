"""Attributes: what devices say of themselves, and what people set for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    Attribute,
    AttributesChange,
    AttributeScope,
    Device,
    Event,
    Json,
    NoticeKind,
    PackageKind,
    Value,
)
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.notices import notify
from gateway.store.readings import good_logins
from gateway.store.records import package_from_row
from gateway.store.values import from_columns, to_columns
from gateway.store.writer import Decision, SingleDecision

PROVISION_STATE = "provisionState"
"""The server attribute that is really the column `provision_state` of `device`."""
_PREFIXES = tuple(f"{kind.value}_" for kind in PackageKind)

_json = msgspec.json.Encoder()


class SaveAttributes(Decision[None]):
    """Stores attributes of one scope; the last value of a key stands."""

    __slots__ = ("at", "device_id", "generation", "scope", "values")

    def __init__(
        self,
        device_id: int,
        generation: int,
        scope: AttributeScope,
        values: Mapping[str, Value],
        at: int,
    ) -> None:
        self.device_id = device_id
        self.generation = generation
        self.scope = scope
        self.values = values
        self.at = at

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[SaveAttributes]) -> list[Any]:
        good = await good_logins(tx, {one.device_id for one in decisions})
        results: list[Any] = []
        rows: dict[tuple[int, str, str], Row] = {}
        for one in decisions:
            if (one.device_id, one.generation) not in good:
                results.append(CredentialsGone())
                continue
            scope = one.scope.value
            for key, value in one.values.items():
                row = (one.device_id, scope, key, *to_columns(value), one.at)
                rows[one.device_id, scope, key] = row
            results.append(None)
        await tx.insert_rows("insert_attributes", list(rows.values()))
        return results


class ChangeOwnAttributes(SingleDecision[None]):
    """A device sets and deletes attributes of its own; no event tells of it."""

    __slots__ = ("at", "change", "device", "scope")

    def __init__(
        self, device: Device, scope: AttributeScope, change: AttributesChange, at: int
    ) -> None:
        self.device = device
        self.scope = scope
        self.change = change
        self.at = at

    async def decide(self, tx: Transaction) -> None:
        device, scope = self.device, self.scope.value
        if (device.id, device.credentials_row) not in await good_logins(tx, (device.id,)):
            raise CredentialsGone
        rows = [
            (device.id, scope, key, *to_columns(value), self.at)
            for key, value in self.change.values.items()
        ]
        if rows:
            await tx.insert_rows("insert_attributes", rows)
        if self.change.deleted:
            listed = _json.encode(self.change.deleted).decode()
            await tx.fetch("delete_attributes_named", device.id, scope, listed)
        if self.scope is AttributeScope.SHARED:
            seen = await _seen(tx, self.change, device.id, device.profile_id)
            await _tell_shared(tx, seen, self.at, device_id=device.id)


# ── what packages announce ────────────────────────────────────────────────────────────────────


def may_announce(keys: Iterable[str]) -> bool:
    """Whether a package could have something to say about one of these shared attributes."""
    return any(key.startswith(_PREFIXES) for key in keys)


def announced(rows: Sequence[Row]) -> dict[str, tuple[Value, int]]:
    """The attributes, and since when, from rows of `packages_for`."""
    told: dict[str, tuple[Value, int]] = {}
    # The profile's come first: a device's own package of a kind stands above them, as a whole.
    chosen = {row[3]: row for row in rows}
    for row in chosen.values():
        for key, value in package_from_row(row[2:]).attributes().items():
            told[key] = (value, row[1])
    return told


def listed_attributes(
    rows: Sequence[Row], packages: Sequence[Row], state: str | None, since: int
) -> list[Attribute]:
    """All attributes of a device as people see them, from rows of `device_attributes`."""
    found = {
        (scope, key): Attribute(AttributeScope(scope), key, from_columns(*columns), updated_at)
        for scope, key, updated_at, *columns in rows
    }
    for key, (value, at) in announced(packages).items():
        scope = AttributeScope.SHARED
        found[scope.value, key] = Attribute(scope, key, value, at)
    if state is not None:
        scope = AttributeScope.SERVER
        found[scope.value, PROVISION_STATE] = Attribute(scope, PROVISION_STATE, state, since)
    return [found[place] for place in sorted(found)]


# ── changes by people ─────────────────────────────────────────────────────────────────────────


def split_state(
    scope: AttributeScope, change: AttributesChange
) -> tuple[dict[str, Value], list[str], Value | None, bool]:
    """The values and deletions of real attributes, the new provision state, and if it goes.

    What is both set and deleted is set.
    """
    values = dict(change.values)
    deleted = {key: None for key in change.deleted if key not in values}
    if scope is not AttributeScope.SERVER:
        return values, list(deleted), None, False
    state = values.pop(PROVISION_STATE, None)
    goes = PROVISION_STATE in deleted
    deleted.pop(PROVISION_STATE, None)
    return values, list(deleted), state, goes


def state_text(value: Value) -> str | None:
    """The column for a value of `provisionState`; an empty text means: waiting for its claim."""
    if isinstance(value, Json):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) or None


class ChangeAttributes(SingleDecision[AttributesChange | None]):
    """Sets and deletes attributes of one device; tells it when they are shared."""

    __slots__ = ("change", "device_id", "event", "scope")

    def __init__(
        self, device_id: int, scope: AttributeScope, change: AttributesChange, event: Event
    ) -> None:
        self.device_id = device_id
        self.scope = scope
        self.change = change
        self.event = event

    async def decide(self, tx: Transaction) -> AttributesChange | None:
        if not await tx.fetch("living", f"[{self.device_id}]"):
            return None
        values, keys, state, goes = split_state(self.scope, self.change)
        deleted = await self._delete(tx, keys)
        await self._set(tx, values)
        if goes and await tx.fetch("clear_provision_state", self.device_id):
            deleted.append(PROVISION_STATE)
        if state is not None:
            await tx.fetch("set_provision_state", self.device_id, state_text(state))
        changed = AttributesChange(dict(self.change.values), tuple(deleted))
        if changed.values or changed.deleted:
            await self._tell(tx, changed)
        return changed

    async def _delete(self, tx: Transaction, keys: list[str]) -> list[str]:
        if not keys:
            return []
        listed = _json.encode(keys).decode()
        gone = await tx.fetch("delete_attributes_named", self.device_id, self.scope.value, listed)
        return sorted(row[0] for row in gone)

    async def _set(self, tx: Transaction, values: Mapping[str, Value]) -> None:
        scope, at = self.scope.value, self.event.at
        rows = [
            (self.device_id, scope, key, *to_columns(value), at) for key, value in values.items()
        ]
        await tx.insert_rows("insert_attributes", rows)

    async def _tell(self, tx: Transaction, changed: AttributesChange) -> None:
        event = msgspec.structs.replace(self.event, device_id=self.device_id)
        tell(tx, [event])
        if self.scope is AttributeScope.SHARED:
            profile = await tx.fetch("profile_of_device", self.device_id)
            seen = await _seen(tx, changed, self.device_id, profile[0][0])
            await _tell_shared(tx, seen, event.at, device_id=self.device_id)


async def forget_attributes(tx: Transaction, device: Device, at: int) -> None:
    """All of a device, of all scopes; it is told of its shared ones."""
    gone = await tx.fetch("delete_attributes_of", device.id)
    shared = sorted(key for scope, key in gone if scope == AttributeScope.SHARED)
    change = AttributesChange({}, tuple(shared))
    seen = await _seen(tx, change, device.id, device.profile_id)
    await _tell_shared(tx, seen, at, device_id=device.id)


class ChangeProfileAttributes(SingleDecision[int]):
    """Sets and deletes attributes of all devices of a profile, with one notice for them all."""

    __slots__ = ("change", "event", "profile_id", "scope")

    def __init__(
        self, profile_id: int, scope: AttributeScope, change: AttributesChange, event: Event
    ) -> None:
        self.profile_id = profile_id
        self.scope = scope
        self.change = change
        self.event = event

    async def decide(self, tx: Transaction) -> int:
        # The turn is ours from the first statement on: no device comes or goes in between.
        devices = int((await tx.fetch("count_devices_of_profile", self.profile_id))[0][0])
        if not devices:
            return 0
        number, scope = self.profile_id, self.scope.value
        values, keys, state, goes = split_state(self.scope, self.change)
        for key in keys:
            await tx.fetch("delete_attribute_of_profile", number, scope, key)
        for key, value in values.items():
            columns = (*to_columns(value), self.event.at)
            await tx.fetch("set_attribute_of_profile", number, scope, key, *columns)
        if goes or state is not None:
            text = None if state is None else state_text(state)
            await tx.fetch("set_provision_state_of_profile", number, text)
        tell(tx, [self.event])
        if self.scope is AttributeScope.SHARED:
            seen = await _seen(tx, AttributesChange(values, tuple(keys)), 0, number)
            await _tell_shared(tx, seen, self.event.at, profile_id=number)
        return devices


async def _seen(
    tx: Transaction, change: AttributesChange, device_id: int, profile_id: int
) -> AttributesChange:
    """What devices see of a change: an attribute that a package announces stays as it is."""
    if not may_announce((*change.values, *change.deleted)):
        return change
    hidden = announced(await tx.fetch("packages_for", device_id, profile_id))
    return AttributesChange(
        {key: value for key, value in change.values.items() if key not in hidden},
        tuple(key for key in change.deleted if key not in hidden),
    )


async def _tell_shared(
    tx: Transaction,
    change: AttributesChange,
    at: int,
    *,
    device_id: int | None = None,
    profile_id: int | None = None,
) -> None:
    if change.values or change.deleted:
        await notify(
            tx,
            NoticeKind.ATTRIBUTES,
            at,
            device_id=device_id,
            profile_id=profile_id,
            change=change,
        )
