"""Devices, for the people who run the fleet: each sees, adds and changes those it reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET, UnsetType

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid
from gateway.core.inventory_store import (
    DeviceCredentialsRecord,
    InventoryStore,
    NewRecord,
    RecordChange,
    Sight,
    sight_for_viewing,
    sight_of,
)
from gateway.core.model import (
    AccessToken,
    Actor,
    ClaimResult,
    DeviceCredentials,
    DeviceDraft,
    DeviceGroup,
    DeviceQuery,
    DeviceRecord,
    Event,
    EventKind,
    NameConflict,
    Organisation,
    Page,
    Permission,
    Secret,
    Suffix,
)
from gateway.core.names import MOST_NAME_CHARACTERS, is_device_name
from gateway.core.nesting import is_shallow
from gateway.core.ports import Clock, NewToken, Store

__all__ = ["DeviceCredentialsRecord", "Inventory"]

MOST_INFO_CHARACTERS = 100_000
"""Of what people keep with a device, as JSON."""
MOST_GROUPS = 100
"""Groups named at once."""
_RANDOM_NAMES = 3
_SUFFIX_CHARACTERS = 6
"""Of a random suffix: 36 bits at least, so that a second one is hardly ever needed."""


class Inventory:
    """Lists, adds, changes and removes devices, as an `Actor` and within its reach.

    What is out of its sight is not there: None, or `Conflict(GONE)` when it went there since it was
    read. What it sees but may not do raises `Forbidden`.
    """

    def __init__(
        self, store: Store, inventory_store: InventoryStore, *, clock: Clock, new_token: NewToken
    ) -> None:
        self._store = store
        self._inventory = inventory_store
        self._clock = clock
        self._new_token = new_token

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def page(self, actor: Actor, query: DeviceQuery) -> Page[DeviceRecord]:
        """`Page.total` is exact up to 10,000."""
        return await self._inventory.device_page(query, sight_for_viewing(actor))

    async def find(self, actor: Actor, uuid: str) -> DeviceRecord | None:
        return await self._inventory.device_at(uuid, sight_for_viewing(actor))

    async def find_numbered(self, actor: Actor, number: int) -> DeviceRecord | None:
        return await self._inventory.device_numbered(number, sight_for_viewing(actor))

    async def find_named(self, actor: Actor, name: str) -> DeviceRecord | None:
        """Of several organisations' devices of one name that which is nearest to the root."""
        return await self._inventory.device_called(name, sight_for_viewing(actor))

    # ── adding and changing ─────────────────────────────────────────────────────────────────

    async def create(
        self,
        actor: Actor,
        draft: DeviceDraft,
        *,
        conflict: NameConflict = NameConflict.FAIL,
        separator: str = "_",
        suffix: Suffix = Suffix.RANDOM,
    ) -> DeviceRecord:
        """Add a device, which waits for its one claim (pre-provisioned).

        Raises `Invalid` and `Conflict` (NAME_TAKEN, CREDENTIALS_TAKEN, GONE: profile or customer).
        """
        _need(actor, Permission.ORG_DEVICES_CREATE)
        _check(draft)
        names, counted = self._names(draft.name, conflict, separator, suffix)
        new = NewRecord(
            draft=draft,
            names=names,
            counted=counted,
            credentials=draft.credentials or AccessToken(Secret(self._new_token())),
            organisation_id=actor.organisation.id,
            path=actor.organisation.path,
            may_make_profiles=actor.may(Permission.PRODUCT_EDIT),
            event=self._event(actor, EventKind.DEVICE_CREATE, draft.name),
        )
        return await self._inventory.put_device(new)

    def _names(
        self, name: str, conflict: NameConflict, separator: str, suffix: Suffix
    ) -> tuple[tuple[str, ...], str | None]:
        """`names` and `counted` of a `NewRecord`. Raises `Invalid`."""
        names: tuple[str, ...] = (name,)
        counted: str | None = None
        if conflict is NameConflict.UNIQUIFY:
            if suffix is Suffix.INCREMENTAL:
                counted = separator
            else:
                names = (name, *self._suffixed(name, separator))
        for one in (*names, name + (counted or "")):
            _check_name(one)
        return names, counted

    def _suffixed(self, name: str, separator: str) -> list[str]:
        tokens = (self._new_token()[-_SUFFIX_CHARACTERS:] for _ in range(_RANDOM_NAMES))
        return [f"{name}{separator}{token}" for token in tokens]

    async def update(
        self,
        actor: Actor,
        record: DeviceRecord,
        draft: DeviceDraft,
        *,
        conflict: NameConflict = NameConflict.FAIL,
        separator: str = "_",
        suffix: Suffix = Suffix.RANDOM,
    ) -> DeviceRecord:
        """Make a device what the draft says. Another name, profile or kind ends its sessions.

        A draft without a profile leaves the one it has. Raises `Invalid`, `Forbidden` (another
        profile for a device that is its customer's only to use) and `Conflict` (VERSION,
        NAME_TAKEN, CREDENTIALS_TAKEN, GONE: device, profile or customer).
        """
        sight = _editing(actor, record)
        _check(draft)
        if draft.customer_id is not UNSET and draft.customer_id != record.device.customer_id:
            _need(actor, Permission.ORG_DEVICES_SHARE)
        if draft.credentials is not None:
            _need(actor, Permission.SET_AUTH_TOKEN)
        detail = {"changed": ", ".join(_changed(record, draft))}
        names, counted = self._names(draft.name, conflict, separator, suffix)
        change = RecordChange(
            device_id=record.device.id,
            draft=draft,
            names=names,
            counted=counted,
            organisation_id=actor.organisation.id,
            path=actor.organisation.path,
            may_make_profiles=actor.may(Permission.PRODUCT_EDIT),
            sight=sight,
            event=self._about(actor, EventKind.DEVICE_UPDATE, record, detail),
        )
        return await self._inventory.change_device(change)

    async def remove(self, actor: Actor, record: DeviceRecord) -> None:
        """Remove a device, its credentials and all it ever said. Raises `Conflict` (GONE)."""
        sight = sight_of(actor, Permission.ORG_DEVICES_DELETE, Permission.OWN_DEVICES_DELETE)
        if not _reaches(actor, sight, record):
            raise Forbidden(f"{Permission.ORG_DEVICES_DELETE} is needed")
        event = self._about(actor, EventKind.DEVICE_REMOVE, record)
        if not await self._inventory.drop_device(record.device.id, sight, event):
            raise Conflict(Cause.GONE)

    # ── credentials ─────────────────────────────────────────────────────────────────────────

    async def credentials(self, actor: Actor, record: DeviceRecord) -> DeviceCredentialsRecord:
        """Raises `Conflict` (GONE)."""
        _need(actor, Permission.SET_AUTH_TOKEN)
        found = await self._inventory.device_credentials(record.device.id)
        if found is None:
            raise Conflict(Cause.GONE)
        return found

    async def change_credentials(
        self,
        actor: Actor,
        record: DeviceRecord,
        credentials: DeviceCredentials,
        *,
        version: int | None = None,
    ) -> DeviceCredentialsRecord:
        """Other credentials; the older login is gone and its sessions end.

        Raises `Conflict` (CREDENTIALS_TAKEN, VERSION, GONE).
        """
        _need(actor, Permission.SET_AUTH_TOKEN)
        sight = sight_for_viewing(actor)
        detail = {"type": credentials.type.value}
        event = self._about(actor, EventKind.DEVICE_CREDENTIALS, record, detail)
        return await self._inventory.change_device_credentials(
            record.device.id, credentials, version, sight, event
        )

    # ── whose it is ─────────────────────────────────────────────────────────────────────────

    async def assign(
        self, actor: Actor, record: DeviceRecord, customer: Organisation | None
    ) -> DeviceRecord:
        """Give a device to a customer at or below the actor's organisation; None takes it back.

        Raises `Invalid` and `Conflict` (GONE).
        """
        _need(actor, Permission.ORG_DEVICES_SHARE)
        if customer is not None and customer.parent_id is None:
            raise Invalid("The root organisation is no customer.")
        if customer is not None and not actor.organisation.has_below(customer):
            raise Conflict(Cause.GONE, "there is no such customer")
        detail = {"customer": customer.name if customer is not None else ""}
        event = self._about(actor, EventKind.DEVICE_ASSIGN, record, detail)
        return await self._inventory.assign_device(
            record.device.id,
            customer.id if customer is not None else None,
            sight_for_viewing(actor),
            event,
        )

    async def claim(
        self, actor: Actor, name: str, key: Secret
    ) -> tuple[ClaimResult, DeviceRecord | None]:
        """Take the root's device of that name for the actor's organisation, with its claim key.

        With SUCCESS the device as it is now, else None: whether there is such a device is not
        told. Raises `Invalid` for somebody of the root, which is no customer.
        """
        _need(actor, Permission.DEVICES_CLAIM)
        if actor.is_root:
            raise Invalid("Only users of a customer can claim devices.")
        event = self._event(
            actor, EventKind.DEVICE_CLAIM, name, {"customer": actor.organisation.name}
        )
        return await self._inventory.claim_device_for(
            name, key, actor.organisation.id, actor.owner_id or None, event
        )

    async def reclaim(self, actor: Actor, name: str) -> bool:
        """Take a device back from its customer. False when none in sight has that name and one."""
        _need(actor, Permission.DEVICES_CLAIM)
        sight = sight_for_viewing(actor)
        record = await self._inventory.device_called(name, sight)
        if record is None or record.device.customer_id is None:
            return False
        event = self._about(actor, EventKind.DEVICE_UNCLAIM, record)
        await self._inventory.assign_device(record.device.id, None, sight, event)
        return True

    # ── groups ──────────────────────────────────────────────────────────────────────────────

    async def groups(self, actor: Actor) -> list[DeviceGroup]:
        """Those of the actor's organisation and of those below it, by name."""
        return await self._inventory.groups(actor.organisation.path)

    async def group_named(self, actor: Actor, name: str) -> DeviceGroup | None:
        """The actor's organisation's own, else one of below."""
        found = [one for one in await self.groups(actor) if one.name == name]
        own = actor.organisation.id
        return min(found, key=lambda one: (one.organisation_id != own, one.id), default=None)

    async def put_into(self, actor: Actor, record: DeviceRecord, names: Sequence[str]) -> None:
        """Put a device into groups of the actor's organisation, made where they are not there.

        Raises `Invalid` and `Conflict` (GONE).
        """
        _editing(actor, record)
        _check_groups(names)
        event = self._about(actor, EventKind.DEVICE_GROUP, record, {"into": _listed(names)})
        await self._inventory.put_into_groups(
            record.device.id, actor.organisation.id, tuple(names), event
        )

    async def take_out(self, actor: Actor, record: DeviceRecord, name: str) -> bool:
        """Take a device out of a group. False when it is not in it."""
        _editing(actor, record)
        group = await self.group_named(actor, name)
        if group is None:
            return False
        event = self._about(actor, EventKind.DEVICE_GROUP, record, {"out_of": name})
        return await self._inventory.take_out_of_group(record.device.id, group.id, event)

    async def remove_group(self, actor: Actor, name: str) -> bool:
        """Remove a group; its devices stay. False when there is none of that name."""
        _need(actor, Permission.ORG_DEVICES_EDIT)
        group = await self.group_named(actor, name)
        if group is None:
            return False
        event = self._event(actor, EventKind.DEVICE_GROUP, name, {"removed": str(group.devices)})
        return await self._inventory.drop_group(group.id, event)

    # ── events ──────────────────────────────────────────────────────────────────────────────

    def _event(
        self,
        actor: Actor,
        kind: EventKind,
        subject: str,
        detail: Mapping[str, str] | None = None,
        device_id: int | None = None,
    ) -> Event:
        return Event(
            kind=kind,
            at=self._clock(),
            peer=actor.peer,
            subject=subject,
            device_id=device_id,
            detail=detail or {},
        )

    def _about(
        self,
        actor: Actor,
        kind: EventKind,
        record: DeviceRecord,
        detail: Mapping[str, str] | None = None,
    ) -> Event:
        return self._event(actor, kind, record.device.name, detail, record.device.id)


# ── what is allowed, and what is possible ─────────────────────────────────────────────────────


def _need(actor: Actor, permission: Permission) -> None:
    if not actor.may(permission):
        raise Forbidden(f"{permission} is needed")


def _editing(actor: Actor, record: DeviceRecord) -> Sight:
    sight = sight_of(actor, Permission.ORG_DEVICES_EDIT, Permission.OWN_DEVICES_EDIT)
    if not _reaches(actor, sight, record):
        raise Forbidden(f"{Permission.ORG_DEVICES_EDIT} is needed")
    return sight


def _reaches(actor: Actor, sight: Sight, record: DeviceRecord) -> bool:
    """Whether a device that was seen is in this sight too; the store looks once more."""
    own = bool(sight.owner_id) and record.owner_id == sight.owner_id
    seen_as_own = not actor.may(Permission.ORG_DEVICES_VIEW)
    return own or (bool(sight.path) and not seen_as_own)


def _check(draft: DeviceDraft) -> None:
    _check_name(draft.name)
    _check_text("label", draft.label)
    if draft.profile_name and not is_device_name(draft.profile_name):
        raise Invalid("The type is empty, too long, or has characters that are not allowed.")
    if isinstance(draft.info, str) and len(draft.info) > MOST_INFO_CHARACTERS:
        raise Invalid(f"additionalInfo is longer than {MOST_INFO_CHARACTERS} characters.")
    if isinstance(draft.info, str) and not is_shallow(draft.info):
        raise Invalid("additionalInfo is nested too deep.")
    _check_groups(draft.groups)


def _check_name(name: str) -> None:
    if not name.strip():
        raise Invalid("Device name should be specified!")
    if len(name) > MOST_NAME_CHARACTERS:
        raise Invalid(f"The name is longer than {MOST_NAME_CHARACTERS} characters.")
    if not is_device_name(name):
        raise Invalid("The name has characters that are not allowed.")


def _check_text(field: str, text: str | UnsetType) -> None:
    if not isinstance(text, str) or not text:
        return
    if len(text) > MOST_NAME_CHARACTERS:
        raise Invalid(f"The {field} is longer than {MOST_NAME_CHARACTERS} characters.")
    if not is_device_name(text):
        raise Invalid(f"The {field} has characters that are not allowed.")


def _check_groups(names: Sequence[str]) -> None:
    if len(names) > MOST_GROUPS:
        raise Invalid(f"More than {MOST_GROUPS} groups are named.")
    for name in names:
        if not is_device_name(name):
            raise Invalid("The name of a group is empty, too long, or has other characters.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)[:200]


def _changed(record: DeviceRecord, draft: DeviceDraft) -> list[str]:
    """What the draft makes different, by name: never the values."""
    device = record.device
    pairs: list[tuple[str, object, object]] = [
        ("name", device.name, draft.name),
        ("label", record.label, draft.label),
        ("info", record.info, draft.info),
        ("gateway", device.gateway, draft.gateway),
        ("customer", device.customer_id, draft.customer_id),
        ("profile", device.profile_id, UNSET if draft.profile_id is None else draft.profile_id),
        ("profile", record.profile_name, draft.profile_name or UNSET),
    ]
    names = [name for name, old, new in pairs if new is not UNSET and new != old]
    return list(dict.fromkeys([*names, *(["credentials"] if draft.credentials else [])]))
