"""One device of a source, copied: with its credentials, and its attributes of all scopes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, Struct, structs

from gateway.core.errors import Cause, Conflict
from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    DeviceCredentials,
    DeviceDraft,
    DeviceProfile,
    DeviceRecord,
    Json,
    Organisation,
    PackageKind,
    Value,
)
from gateway.dialects.thingsboard.admin.credentials import CredentialsBody, credentials_of
from gateway.dialects.thingsboard.admin.desk import Trouble
from gateway.dialects.thingsboard.admin.device_shapes import DeviceBody
from gateway.dialects.thingsboard.admin.words import NULL_UUID, EntityId
from gateway.migration_report import Fate, Left, Report
from gateway.migration_source import Missing, ThingsBoardSource

if TYPE_CHECKING:
    from gateway.migration import Services

_STATE: Final = frozenset(
    {
        "active",
        "lastConnectTime",
        "lastActivityTime",
        "lastDisconnectTime",
        "inactivityAlarmTime",
    }
)
"""Server attributes in which ThingsBoard keeps what it knows of a device's presence."""
_PACKAGE: Final = frozenset(
    f"{kind.value}_{word}"
    for kind in PackageKind
    for word in ("title", "version", "tag", "size", "checksum", "checksum_algorithm", "url")
)
"""Shared attributes that announce a package: packages are not copied."""
_LEAST, _PAST = -(2**63), 2**63


class Places(Struct, frozen=True):
    """What became of the source's customers and profiles, by their UUIDs there.

    None: a dry run would have made it.
    """

    customers: Mapping[str, Organisation | None]
    profiles: Mapping[str, DeviceProfile | None]


class _Found(Struct, frozen=True):
    """A device as the source has it. `credentials` None: they cannot be copied."""

    draft: DeviceDraft
    credentials: DeviceCredentials | None
    attributes: Mapping[AttributeScope, Mapping[str, Value]]


class DeviceCopy:
    """Copies devices, one after the other or at once."""

    def __init__(
        self,
        source: ThingsBoardSource,
        services: Services,
        places: Places,
        *,
        dry: bool,
        new_only: bool,
    ) -> None:
        self._source = source
        self._services = services
        self._places = places
        self._dry = dry
        self._new_only = new_only

    async def device(self, row: dict[str, Any], report: Report) -> Fate:
        """Raises `Left` and what the services raise, for this device alone."""
        # Packages are not copied, so what it is to run is not either.
        body = structs.replace(msgspec.convert(row, DeviceBody), firmware_id=None, software_id=None)
        inventory, actor = self._services.inventory, self._services.actor
        record = await inventory.find_named(actor, body.name or "")
        if record is not None and self._new_only:
            return Fate.UNCHANGED
        found = await self._found(body, report)
        if self._dry:
            return Fate.CREATED if record is None else await self._compared(record, found)
        fate = Fate.CREATED
        if record is None:
            record = await self._create(found)
        else:
            fate = await self._update(record, found)
        return await self._attributes(record, found, fate)

    # ── from the source ─────────────────────────────────────────────────────────────────────

    async def _found(self, body: DeviceBody, report: Report) -> _Found:
        if body.id is None:
            raise Left("the source gives it no id")
        draft = self._draft(body)
        identity, scopes = body.id.id, tuple(AttributeScope)
        told = await asyncio.gather(*(self._told(identity, scope) for scope in scopes))
        credentials = await self._credentials(identity, draft.name, report)
        return _Found(draft, credentials, dict(zip(scopes, told, strict=True)))

    def _draft(self, body: DeviceBody) -> DeviceDraft:
        profile = self._profile(body.device_profile_id)
        label = body.label or ""
        return DeviceDraft(
            name=body.prove(),
            profile_id=profile.id if profile is not None else None,
            profile_name=body.type or "",
            label=label if isinstance(label, str) else "",
            info=body.info(),
            gateway=body.is_gateway(),
            customer_id=self._customer(body),
        )

    def _profile(self, given: EntityId | None) -> DeviceProfile | None:
        if given is None:
            return None
        if given.id not in self._places.profiles:
            raise Left("its profile was not copied")
        return self._places.profiles[given.id]

    def _customer(self, body: DeviceBody) -> int | None:
        given = body.customer_id
        if given is UNSET or given is None or given.id == NULL_UUID:
            return None
        if given.id not in self._places.customers:
            raise Left("its customer was not copied")
        customer = self._places.customers[given.id]
        return customer.id if customer is not None else None

    async def _credentials(
        self, identity: str, name: str, report: Report
    ) -> DeviceCredentials | None:
        """None, and a line in the report, for those that do not exist here."""
        try:
            row = await self._source.get(f"/api/device/{identity}/credentials")
            return credentials_of(msgspec.convert(row, CredentialsBody))
        except Trouble as trouble:
            report.leave("credentials", name, trouble.message)
        except (Missing, msgspec.ValidationError):
            report.leave("credentials", name, "the source does not give them")
        return None

    async def _told(self, identity: str, scope: AttributeScope) -> dict[str, Value]:
        """Attributes of one scope, without what is ThingsBoard's own."""
        path = f"/api/plugins/telemetry/DEVICE/{identity}/values/attributes/{scope.value}"
        rows = await self._source.get(path)
        not_copied = {AttributeScope.SERVER: _STATE, AttributeScope.SHARED: _PACKAGE}.get(scope, ())
        found: dict[str, Value] = {}
        for row in rows if isinstance(rows, list) else ():
            key, value = row.get("key"), _value(row.get("value"))
            if isinstance(key, str) and value is not None and key not in not_copied:
                found[key] = value
        return found

    # ── to the store ────────────────────────────────────────────────────────────────────────

    async def _create(self, found: _Found) -> DeviceRecord:
        services = self._services
        draft = structs.replace(found.draft, credentials=found.credentials)
        return await services.inventory.create(services.actor, draft)

    async def _update(self, record: DeviceRecord, found: _Found) -> Fate:
        inventory, actor = self._services.inventory, self._services.actor
        fate = Fate.UNCHANGED
        if _differs(record, found.draft):
            record = await inventory.update(actor, record, found.draft)
            fate = Fate.UPDATED
        if found.credentials is not None and not await self._has(record, found.credentials):
            await inventory.change_credentials(actor, record, found.credentials)
            fate = Fate.UPDATED
        return fate

    async def _has(self, record: DeviceRecord, credentials: DeviceCredentials) -> bool:
        known = await self._services.inventory.credentials(self._services.actor, record)
        return known.credentials == credentials

    async def _compared(self, record: DeviceRecord, found: _Found) -> Fate:
        """What would become of a device that is there already."""
        try:
            same = found.credentials is None or await self._has(record, found.credentials)
        except Conflict as exc:
            if exc.cause is not Cause.GONE:
                raise
            return Fate.CREATED
        if same and not _differs(record, found.draft):
            return Fate.UPDATED if await self._changes(record, found) else Fate.UNCHANGED
        return Fate.UPDATED

    async def _changes(
        self, record: DeviceRecord, found: _Found
    ) -> dict[AttributeScope, dict[str, Value]]:
        """The attributes that the device does not have like this, by scope."""
        has = {
            (one.scope, one.key): one.value
            for one in await self._services.registry.attributes(record)
        }
        changes = {
            scope: {
                key: value
                for key, value in values.items()
                if not _same(has.get((scope, key)), value)
            }
            for scope, values in found.attributes.items()
        }
        return {scope: values for scope, values in changes.items() if values}

    async def _attributes(self, record: DeviceRecord, found: _Found, fate: Fate) -> Fate:
        registry = self._services.registry
        for scope, values in (await self._changes(record, found)).items():
            await registry.change_attributes(record, scope, AttributesChange(values))
            fate = Fate.UPDATED if fate is Fate.UNCHANGED else fate
        return fate


def _differs(record: DeviceRecord, draft: DeviceDraft) -> bool:
    device = record.device
    pairs: tuple[tuple[object, object], ...] = (
        (draft.label, record.label),
        (draft.gateway, device.gateway),
        (draft.customer_id, device.customer_id),
        (_decoded(draft.info), _decoded(record.info)),
    )
    if any(wanted is not UNSET and wanted != has for wanted, has in pairs):
        return True
    if draft.profile_id is not None:
        return draft.profile_id != device.profile_id
    return bool(draft.profile_name) and draft.profile_name != record.profile_name


def _decoded(info: object) -> Any:
    if not isinstance(info, str):
        return info
    try:
        return msgspec.json.decode(info)
    except msgspec.DecodeError:
        return info


def _value(found: Any) -> Value | None:
    """A value of JSON as one of ours."""
    match found:
        case dict() | list():
            return Json(msgspec.json.encode(found).decode())
        case bool() | str() | float():
            return found
        case int():
            return found if _LEAST <= found < _PAST else str(found)
        case _:
            return None


def _same(has: Value | None, wanted: Value) -> bool:
    """Equal, and of one kind: 1, 1.0 and true are three values."""
    if isinstance(has, Json) and isinstance(wanted, Json):
        return bool(_decoded(has.text) == _decoded(wanted.text))
    return type(has) is type(wanted) and has == wanted
