"""Devices added, changed and given to customers by people.

Whoever decides here has the turn to change devices until the commit: what it reads stays so.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, structs

from gateway.core.children import DEFAULT_TYPE
from gateway.core.errors import Cause, Conflict, Forbidden, Invalid
from gateway.core.inventory_store import NewRecord, RecordChange, Sight
from gateway.core.model import (
    ROOT_ORGANISATION,
    ClaimResult,
    DeviceRecord,
    Event,
    EventKind,
    Outcome,
    RefusalReason,
    Secret,
)
from gateway.core.ports import NewDevice
from gateway.store.births import Birth, bear
from gateway.store.claims import ClaimFor
from gateway.store.device_records import record_of, sighted
from gateway.store.driver import Transaction
from gateway.store.events import event_on, tell
from gateway.store.groups import ensure_groups, put_into_groups
from gateway.store.logins import Login, end_sessions, login_changed
from gateway.store.organisations import organisation_now
from gateway.store.profiles import ensure_default, ensure_profile
from gateway.store.search import index_again
from gateway.store.vault import Vault
from gateway.store.writer import SingleDecision

_MOST_COUNTED = 10_000
"""Names with a number at their end that are looked at for the lowest free one."""
_MOST_NAME_CHARACTERS = 255


class Place(Struct, frozen=True):
    """A profile, and the organisation it belongs to."""

    profile_id: int
    organisation_id: int
    name: str


async def _place(tx: Transaction, ask: NewRecord | RecordChange, kept: Place | None) -> Place:
    """The profile a draft names; where it names none, `kept`, or the organisation's default."""
    draft = ask.draft
    if draft.profile_id is not None:
        rows = await tx.fetch("visible_profile", draft.profile_id, ask.path)
        if not rows and kept is not None and kept.profile_id == draft.profile_id:
            return kept  # its own, which is its tenant's
        if not rows:
            raise Conflict(Cause.GONE, "there is no such device profile")
    elif draft.profile_name:
        if kept is not None and kept.name == draft.profile_name:
            return kept
        whose = kept.organisation_id if kept is not None else ask.organisation_id
        rows = await _named_profile(tx, ask, whose, draft.profile_name)
    elif kept is not None:
        return kept
    else:
        made = await ensure_default(tx, ask.organisation_id, DEFAULT_TYPE, ask.event.at)
        _tell_of_profile(tx, ask.event, DEFAULT_TYPE, made=made[1])
        rows = await tx.fetch("visible_profile", made[0], ask.path)
    number, organisation_id, name, provision_only = rows[0]
    if provision_only:
        raise Invalid("A provision profile has no devices of its own.")
    return Place(number, organisation_id, name)


async def _named_profile(
    tx: Transaction, ask: NewRecord | RecordChange, whose: int, name: str
) -> list[tuple[int, int, str, int]]:
    found = await tx.fetch("profile_with_name", whose, name)
    if not found:
        if not ask.may_make_profiles:
            raise Invalid("There is no device profile of that name, and you may not make one.")
        _, made = await ensure_profile(tx, whose, name, ask.event.at)
        _tell_of_profile(tx, ask.event, name, made=made)
        found = await tx.fetch("profile_with_name", whose, name)
    return found


async def _may_move(tx: Transaction, change: RecordChange, kept: Place) -> None:
    """Who got a device to use cannot make it theirs by its profile. Raises `Forbidden`."""
    draft = change.draft
    if draft.profile_id in (None, kept.profile_id) and draft.profile_name in ("", kept.name):
        return
    if not (await organisation_now(tx, kept.organisation_id)).path.startswith(change.path):
        raise Forbidden("the profile of this device is its owner's to change")


def _tell_of_profile(tx: Transaction, event: Event, name: str, *, made: bool) -> None:
    if made:
        kind = EventKind.PROFILE_CREATE
        tell(tx, [Event(kind=kind, at=event.at, peer=event.peer, subject=name)])


async def _check_customer(tx: Transaction, customer_id: int | None, path: str) -> None:
    if customer_id is not None and not await tx.fetch("visible_customer", customer_id, path):
        raise Conflict(Cause.GONE, "there is no such customer")


async def _join_groups(
    tx: Transaction, device_id: int, organisation_id: int, names: tuple[str, ...], at: int
) -> None:
    groups = await ensure_groups(tx, organisation_id, names, at)
    await put_into_groups(tx, [(group_id, device_id) for group_id in groups.values()])


# ── adding ────────────────────────────────────────────────────────────────────────────────────


class AddDevice(SingleDecision[DeviceRecord]):
    """A device of the first name that is free. The inserts decide which that is."""

    __slots__ = ("login", "new", "uuid")

    def __init__(self, new: NewRecord, uuid: bytes, login: Login) -> None:
        self.new = new
        self.uuid = uuid
        self.login = login

    async def decide(self, tx: Transaction) -> DeviceRecord:
        new, draft = self.new, self.new.draft
        customer_id = None if draft.customer_id is UNSET else draft.customer_id
        await _check_customer(tx, customer_id, new.path)
        place = await _place(tx, new, None)
        number, name = await self._born(tx, place, customer_id)
        label = "" if draft.label is UNSET else draft.label
        info = "{}" if draft.info is UNSET else draft.info
        if label or info != "{}":
            await tx.fetch("dress_device", number, label, info)
        await _join_groups(tx, number, new.organisation_id, draft.groups, new.event.at)
        tell(tx, [event_on(structs.replace(new.event, subject=name), number)])
        return await record_of(tx, number)

    async def _born(
        self, tx: Transaction, place: Place, customer_id: int | None
    ) -> tuple[int, str]:
        for name in self.new.names:
            number = await self._bear(tx, place, customer_id, name)
            if number is not None:
                return number, name
        if self.new.counted is not None:
            stem = self.new.names[0] + self.new.counted
            name = await _counted(tx, place.organisation_id, stem)
            number = await self._bear(tx, place, customer_id, name)
            if number is not None:
                return number, name
        raise Conflict(Cause.NAME_TAKEN)

    async def _bear(
        self, tx: Transaction, place: Place, customer_id: int | None, name: str
    ) -> int | None:
        """Its number; None when the name is taken. Raises `Conflict` (CREDENTIALS_TAKEN)."""
        new, login = self.new, self.login
        device = NewDevice(
            organisation_id=place.organisation_id,
            profile_id=place.profile_id,
            name=name,
            type=place.name,
            credentials=new.credentials,
            provision_state=None,
            peer=new.event.peer,
            at=new.event.at,
            gateway=new.draft.gateway is True,
        )
        birth = Birth(device, self.uuid, login.digest, login.sealed, customer_id=customer_id)
        outcome = (await bear(tx, [birth]))[0]
        if outcome is RefusalReason.CREDENTIALS_TAKEN:
            raise Conflict(Cause.CREDENTIALS_TAKEN)
        return outcome if isinstance(outcome, int) else None


async def _counted(tx: Transaction, organisation_id: int, stem: str) -> str:
    """The lowest free number after `stem`. Raises `Conflict` (NAME_TAKEN)."""
    rows = await tx.fetch("names_counted", organisation_id, stem, _MOST_COUNTED)
    taken = {row[0] for row in rows}
    number = next(number for number in range(1, len(taken) + 2) if f"{stem}{number}" not in taken)
    name = f"{stem}{number}"
    if len(name) > _MOST_NAME_CHARACTERS or len(rows) == _MOST_COUNTED:
        raise Conflict(Cause.NAME_TAKEN)
    return name


# ── changing ──────────────────────────────────────────────────────────────────────────────────


class ChangeDevice(SingleDecision[DeviceRecord]):
    """Makes a device what a draft says. One UPDATE decides, its version included."""

    __slots__ = ("change", "login", "vault")

    def __init__(self, change: RecordChange, login: Login | None, vault: Vault) -> None:
        self.change = change
        self.login = login
        self.vault = vault

    async def decide(self, tx: Transaction) -> DeviceRecord:
        change, draft = self.change, self.change.draft
        old = await sighted(tx, change.device_id, change.sight)
        device = old.device
        kept = Place(device.profile_id, device.organisation_id, old.profile_name)
        await _may_move(tx, change, kept)
        place = await _place(tx, change, kept)
        customer_id = device.customer_id
        if draft.customer_id is not UNSET and draft.customer_id != customer_id:
            customer_id = draft.customer_id
            await _check_customer(tx, customer_id, change.path)
        name = await self._written(tx, old, place, customer_id)
        await _join_groups(tx, device.id, change.organisation_id, draft.groups, change.event.at)
        await self._follow(tx, old, place, name)
        tell(tx, [change.event])
        return await record_of(tx, device.id)

    async def _written(
        self, tx: Transaction, old: DeviceRecord, place: Place, customer_id: int | None
    ) -> str:
        """The first of the names that is free; it is the device's now."""
        change = self.change
        for name in change.names:
            if await self._write(tx, old, place, customer_id, name):
                return name
        if change.counted is not None:
            name = await _counted(tx, place.organisation_id, change.names[0] + change.counted)
            if await self._write(tx, old, place, customer_id, name):
                return name
        raise Conflict(Cause.NAME_TAKEN)

    async def _write(
        self, tx: Transaction, old: DeviceRecord, place: Place, customer_id: int | None, name: str
    ) -> bool:
        """False when the name is taken. Raises `Conflict` (VERSION)."""
        draft, device = self.change.draft, old.device
        changed = await tx.fetch(
            "change_device",
            device.id,
            name,
            place.organisation_id,
            place.profile_id,
            place.name,
            old.label if draft.label is UNSET else draft.label,
            old.info if draft.info is UNSET else draft.info,
            int(device.gateway if draft.gateway is UNSET else draft.gateway),
            customer_id,
            draft.version,
        )
        if not changed and draft.version not in (None, old.version):
            raise Conflict(Cause.VERSION)
        return bool(changed)

    async def _follow(self, tx: Transaction, old: DeviceRecord, place: Place, name: str) -> None:
        """What hangs on the name, the profile and the credentials: sessions, and the index."""
        draft, device = self.change.draft, old.device
        login, at = self.login, self.change.event.at
        if login is not None and await _is_other(tx, self.vault, device.id, login):
            await replace_login(tx, device.id, login, None, at)
        elif (
            name != device.name
            or place.profile_id != device.profile_id
            or draft.gateway not in (UNSET, device.gateway)
            or (device.gateway and draft.customer_id not in (UNSET, device.customer_id))
        ):
            await end_sessions(tx, device.id, at)
        if (name, draft.label) != (device.name, old.label):
            await index_again(tx, [device.id])


# ── credentials ───────────────────────────────────────────────────────────────────────────────


async def _is_other(tx: Transaction, vault: Vault, device_id: int, login: Login) -> bool:
    """Whether these are not the credentials that the device has already."""
    kind, digest, sealed, *_ = (await tx.fetch("device_login", device_id))[0]
    if (kind, bytes(digest)) != (login.kind, login.digest):
        return True
    return vault.open(sealed, bytes(digest)) != vault.open(login.sealed, login.digest)


async def replace_login(
    tx: Transaction, device_id: int, login: Login, generation: int | None, at: int
) -> str:
    """Give a device these credentials. One UPDATE decides, their `generation` included.

    The certificates that ended with the older login, as text. Raises `Conflict`.
    """
    columns = (login.kind, login.digest, login.sealed, at)
    changed = await tx.fetch("replace_login", device_id, *columns, generation)
    if changed:
        return await login_changed(tx, device_id, changed[0][0], at)
    there = await tx.fetch("device_login", device_id)
    if not there:
        raise Conflict(Cause.GONE)
    stale = generation is not None and there[0][3] != generation
    raise Conflict(Cause.VERSION if stale else Cause.CREDENTIALS_TAKEN)


class ChangeLogin(SingleDecision[int]):
    """Other credentials; gives their generation."""

    __slots__ = ("device_id", "event", "login", "sight", "version")

    def __init__(
        self, device_id: int, login: Login, version: int | None, sight: Sight, event: Event
    ) -> None:
        self.device_id = device_id
        self.login = login
        self.version = version
        self.sight = sight
        self.event = event

    async def decide(self, tx: Transaction) -> int:
        await sighted(tx, self.device_id, self.sight)
        at = self.event.at
        superseded = await replace_login(tx, self.device_id, self.login, self.version, at)
        tell(tx, [event_on(self.event, self.device_id, superseded=superseded)])
        generation = (await tx.fetch("device_login", self.device_id))[0][3]
        assert isinstance(generation, int)
        return generation


# ── whose it is ───────────────────────────────────────────────────────────────────────────────


class AssignDevice(SingleDecision[DeviceRecord]):
    """Gives a device to a customer, or takes it back."""

    __slots__ = ("customer_id", "device_id", "event", "sight")

    def __init__(self, device_id: int, customer_id: int | None, sight: Sight, event: Event) -> None:
        self.device_id = device_id
        self.customer_id = customer_id
        self.sight = sight
        self.event = event

    async def decide(self, tx: Transaction) -> DeviceRecord:
        old = await sighted(tx, self.device_id, self.sight)
        # Who gives it away was looked at before; that the customer is still there, now.
        await _check_customer(tx, self.customer_id, "/")
        await tx.fetch("assign_device", self.device_id, self.customer_id)
        if old.device.gateway and old.device.customer_id != self.customer_id:
            # Its sessions bear children for the customer they know.
            await end_sessions(tx, self.device_id, self.event.at)
        tell(tx, [self.event])
        return await record_of(tx, self.device_id)


class ClaimForPerson(ClaimFor):
    """Gives the root's device of a name to somebody's organisation, and to that person."""

    __slots__ = ("customer_id", "name", "owner_id")

    def __init__(
        self, name: str, key: Secret, customer: tuple[int, int | None], event: Event, vault: Vault
    ) -> None:
        super().__init__(0, "", key, event, vault)
        self.name = name
        self.customer_id, self.owner_id = customer

    async def decide(self, tx: Transaction) -> ClaimResult:
        found = await tx.fetch("device_named", ROOT_ORGANISATION, self.name)
        if not found:
            refused, reason = Outcome.REFUSED, RefusalReason.NO_SUCH_DEVICE
            tell(tx, [structs.replace(self.event, outcome=refused, reason=reason.value)])
            return ClaimResult.FAILURE
        self.device_id = found[0][0]
        result = await super().decide(tx)
        if result is ClaimResult.SUCCESS and (await record_of(tx, self.device_id)).device.gateway:
            await end_sessions(tx, self.device_id, self.event.at)
        return result

    async def _customer(self, tx: Transaction) -> int:
        await _check_customer(tx, self.customer_id, "/")
        return self.customer_id

    def _person(self) -> int | None:
        return self.owner_id


class JoinGroups(SingleDecision[None]):
    """Puts a device into groups, made where they are not there."""

    __slots__ = ("device_id", "event", "names", "organisation_id")

    def __init__(
        self, device_id: int, organisation_id: int, names: tuple[str, ...], event: Event
    ) -> None:
        self.device_id = device_id
        self.organisation_id = organisation_id
        self.names = names
        self.event = event

    async def decide(self, tx: Transaction) -> None:
        if not await tx.fetch("device_record", self.device_id):
            raise Conflict(Cause.GONE)
        at = self.event.at
        await _join_groups(tx, self.device_id, self.organisation_id, self.names, at)
        tell(tx, [self.event])


class LeaveGroup(SingleDecision[bool]):
    """Takes a device out of a group. False when it is not in it."""

    __slots__ = ("device_id", "event", "group_id")

    def __init__(self, device_id: int, group_id: int, event: Event) -> None:
        self.device_id = device_id
        self.group_id = group_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("take_out_of_group", self.group_id, self.device_id):
            return False
        tell(tx, [self.event])
        return True


class DropGroup(SingleDecision[bool]):
    """Removes a group; its devices stay."""

    __slots__ = ("event", "group_id")

    def __init__(self, group_id: int, event: Event) -> None:
        self.group_id = group_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("delete_group", self.group_id):
            return False
        await tx.fetch("members_leave", self.group_id)
        tell(tx, [self.event])
        return True
