"""Devices that exist, brought up to what a row says of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from gateway.core.import_rows import ImportRow
from gateway.core.importing import ImportBatch
from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    DeviceCredentialsType,
    Event,
    EventKind,
    Value,
)
from gateway.store.attributes import PROVISION_STATE, ChangeAttributes, state_text
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.import_places import Places
from gateway.store.logins import Login, change_login, end_sessions
from gateway.store.search import index_again
from gateway.store.values import from_columns, to_columns
from gateway.store.vault import Vault

_json = msgspec.json.Encoder()
_MOST_DETAIL_CHARACTERS = 200
_SCOPES = {scope: scope.value for scope in AttributeScope}
"""An enumeration's own way to its value is a slow one."""
_WHOLLY_DIGESTED = frozenset(
    {DeviceCredentialsType.ACCESS_TOKEN.value, DeviceCredentialsType.X509_CERTIFICATE.value}
)
"""Credentials that are nothing but what they are found by."""


class Standing(Struct):
    """A device as it is in this transaction; changed along with it."""

    id: int
    name: str
    profile_id: int
    type: str
    gateway: int
    customer_id: int | None
    label: str
    info: str
    state: str | None
    kind: str
    digest: bytes
    sealed: bytes
    attributes: dict[tuple[str, str], Value] = field(default_factory=dict)
    groups: set[int] = field(default_factory=set)

    def columns(self) -> Row:
        """What `import_update_device` writes."""
        return (
            self.profile_id,
            self.type,
            self.gateway,
            self.customer_id,
            self.label,
            self.info,
            self.state,
        )


class Updated(Struct):
    """What became of a device, and the rows that are still to be written for it."""

    changed: bool
    relabelled: bool
    members: list[Row]
    readings: dict[tuple[int, str], Row]


async def standing(
    tx: Transaction, batch: ImportBatch, names: Collection[str]
) -> dict[str, Standing]:
    """The devices of these names that exist, with as much of them as the rows speak of."""
    listed = _json.encode(list(names)).decode()
    rows = await tx.fetch("import_named", batch.actor.organisation.id, listed)
    found = {row[1]: Standing(*row) for row in rows}
    if not found:
        return found
    by_id = {one.id: one for one in found.values()}
    ids = _json.encode(list(by_id)).decode()
    keys = {key for row in batch.prepared.rows for _, key, _ in row.attributes}
    if keys and batch.update:
        wanted = _json.encode(list(keys)).decode()
        for device_id, scope, key, *columns in await tx.fetch("import_attributes", ids, wanted):
            by_id[device_id].attributes[scope, key] = from_columns(*columns)
    if any(row.groups for row in batch.prepared.rows):
        for device_id, group_id in await tx.fetch("import_memberships", ids):
            by_id[device_id].groups.add(group_id)
    return found


async def update(
    tx: Transaction,
    batch: ImportBatch,
    row: ImportRow,
    login: Login,
    device: Standing,
    places: Places,
    vault: Vault,
) -> Updated | None:
    """None, and nothing is changed, when the credentials are another's."""
    change = _Change(tx, batch, row, device, vault)
    if row.credentials is not None and not await change.credentials(login):
        return None
    await change.columns(places)
    members = change.groups(places)
    readings: dict[tuple[int, str], Row] = {}
    if batch.update:
        await change.attributes()
        readings = reading_rows(device.id, row, batch.at)
    change.told()
    changed = bool(change.names or readings or change.any)
    return Updated(changed, "label" in change.names, members, readings)


class _Change:
    """What a row changes of one device. `names` are the parts that one event tells of together."""

    def __init__(
        self,
        tx: Transaction,
        batch: ImportBatch,
        row: ImportRow,
        device: Standing,
        vault: Vault,
    ) -> None:
        self._tx = tx
        self._batch = batch
        self._row = row
        self._device = device
        self._vault = vault
        self.names: list[str] = []
        self.any = False

    def _event(self, kind: EventKind, detail: Mapping[str, str]) -> Event:
        return Event(
            kind=kind,
            at=self._batch.at,
            peer=self._batch.actor.peer,
            subject=self._device.name,
            device_id=self._device.id,
            detail=detail,
        )

    def told(self) -> None:
        if self.names:
            detail = {"changed": ", ".join(self.names)}
            tell(self._tx, [self._event(EventKind.DEVICE_UPDATE, detail)])

    async def credentials(self, login: Login) -> bool:
        device = self._device
        if self._are_its_own(login):
            return True
        superseded = await change_login(self._tx, device.id, login, self._batch.at)
        if superseded is None:
            return False
        device.kind, device.digest, device.sealed = login.kind, login.digest, login.sealed
        detail = {"superseded": superseded} if superseded else {}
        tell(self._tx, [self._event(EventKind.DEVICE_CREDENTIALS, detail)])
        self.any = True
        return True

    def _are_its_own(self, login: Login) -> bool:
        """Whether the device has these already. A password is not part of what it is found by."""
        device, digest = self._device, bytes(self._device.digest)
        if (device.kind, digest) != (login.kind, login.digest):
            return False
        if device.kind in _WHOLLY_DIGESTED:
            return True
        return self._vault.open(device.sealed, digest) == self._vault.open(login.sealed, digest)

    async def columns(self, places: Places) -> None:
        row, device = self._row, self._device
        before = device.columns()
        profile_id, gateway, label = device.profile_id, device.gateway, device.label
        if row.type:
            device.profile_id, device.type = places.profiles[row.type], row.type
        if row.gateway is not None:
            device.gateway = int(row.gateway)
        if row.customer:
            device.customer_id = places.customers[row.customer]
        if row.label is not None:
            device.label = row.label
        if row.description is not None:
            device.info = described(device.info, row.description)
        after = device.columns()
        if before == after:
            return
        await self._tx.fetch("import_update_device", device.id, *after)
        if label != device.label:
            await index_again(self._tx, [device.id])
        pairs = zip(_COLUMNS, before, after, strict=True)
        self.names += [name for name, was, now in pairs if name and was != now]
        if (profile_id, gateway) != (device.profile_id, device.gateway):
            await end_sessions(self._tx, device.id, self._batch.at)

    def groups(self, places: Places) -> list[Row]:
        wanted = {places.groups[name] for name in self._row.groups} - self._device.groups
        if wanted:
            self._device.groups |= wanted
            self.names.append("groups")
        return [(number, self._device.id) for number in wanted]

    async def attributes(self) -> None:
        device = self._device
        changed: dict[AttributeScope, dict[str, Value]] = {}
        for scope, key, value in self._row.attributes:
            if scope is AttributeScope.SERVER and key == PROVISION_STATE:
                text = state_text(value)
                same, device.state = device.state == text, text
            else:
                was = device.attributes.get((scope.value, key))
                same = type(was) is type(value) and was == value
                device.attributes[scope.value, key] = value
            if not same:
                changed.setdefault(scope, {})[key] = value
        for scope, values in changed.items():
            self.any = True
            detail = {"scope": scope.value, "set": ", ".join(values)[:_MOST_DETAIL_CHARACTERS]}
            event = self._event(EventKind.DEVICE_ATTRIBUTES, detail)
            await ChangeAttributes(device.id, scope, AttributesChange(values), event).decide(
                self._tx
            )


_COLUMNS = ("type", "", "gateway", "customer", "label", "description", "")
"""What the columns of `Standing.columns` are called; those without a name go with another."""


def described(info: str, description: str) -> str:
    """`info` with this description; as it is when it has it."""
    members = msgspec.json.decode(info, type=dict[str, Any])
    if members.get("description") == description:
        return info
    members["description"] = description
    return _json.encode(members).decode()


def attribute_rows(device_id: int, row: ImportRow, at: int) -> dict[tuple[int, str, str], Row]:
    """The attributes of a new device, one for each scope and key."""
    rows: dict[tuple[int, str, str], Row] = {}
    for scope, key, value in row.attributes:
        if key != PROVISION_STATE or scope is not AttributeScope.SERVER:
            place = (device_id, _SCOPES[scope], key)
            rows[place] = (*place, *to_columns(value), at)
    return rows


def reading_rows(device_id: int, row: ImportRow, at: int) -> dict[tuple[int, str], Row]:
    """The values of a row's time series, all of this moment."""
    return {
        (device_id, key): (device_id, key, at, *to_columns(value)) for key, value in row.readings
    }
