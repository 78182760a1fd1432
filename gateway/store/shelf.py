"""Profiles, changed by people with authority over them."""

from __future__ import annotations

from msgspec import structs

from gateway.core.catalogue_store import ProfileChange
from gateway.core.errors import Cause, Conflict
from gateway.core.model import DeviceProfile, Event, NoticeKind
from gateway.store.driver import Transaction
from gateway.store.events import event_on, tell
from gateway.store.hook_deliveries import follow
from gateway.store.identity import uuid7, uuid_text
from gateway.store.notices import notify
from gateway.store.profiles import SealedPair, ensure_default, insert_profile, keep_ticket
from gateway.store.records import profile_from_row, settings_of
from gateway.store.static_tokens import pairs_of_profile
from gateway.store.writer import SingleDecision

_MOST_RETYPED = 5_000
"""Devices whose type follows their profile's name in one transaction."""


async def _stored(tx: Transaction, number: int) -> DeviceProfile:
    """The profile as it is in this transaction. Raises `Conflict` (GONE, READ_ONLY)."""
    found = await tx.fetch("profile", number)
    if not found:
        raise Conflict(Cause.GONE)
    profile = profile_from_row(found[0])
    if profile.source is not None:
        raise Conflict(Cause.READ_ONLY, f"it is defined by the file {profile.source}")
    return profile


class PutProfile(SingleDecision[DeviceProfile]):
    """Makes a profile, or changes the one of that number.

    `retyped_to`: the last device whose type was made its new name; 0 when none is left.
    """

    __slots__ = ("change", "event", "fresh", "given", "identity", "retyped_to")

    def __init__(
        self, change: ProfileChange, event: Event, given: SealedPair, fresh: SealedPair | None
    ) -> None:
        self.change = change
        self.event = event
        self.given = given
        self.fresh = fresh
        # Here, not in the writer's thread: randomness is the loop's.
        self.identity = uuid7(event.at)
        self.retyped_to = 0

    async def decide(self, tx: Transaction) -> DeviceProfile:
        profile, at = self.change.profile, self.event.at
        self.retyped_to = 0
        number = await (self._changed(tx) if profile.id else self._made(tx))
        place = (profile.organisation_id, number)
        await keep_ticket(tx, place, self.given, self.fresh, at)
        if profile.is_default:
            await self._be_default(tx, profile.organisation_id, number)
        await notify(tx, NoticeKind.PROFILE, at, profile_id=number)
        stored = profile_from_row((await tx.fetch("profile", number))[0])
        tell(tx, [structs.replace(self.event, subject=stored.name, object=stored.uuid)])
        return stored

    async def _be_default(self, tx: Transaction, organisation_id: int, number: int) -> None:
        """The place of another default is not taken by the way."""
        found = await tx.fetch("default_profile", organisation_id)
        if not found:
            await tx.fetch("set_default_profile", number)
        elif found[0][0] != number:
            raise Conflict(
                Cause.IN_USE,
                "Another default device profile is present in scope of current tenant!",
            )

    async def _made(self, tx: Transaction) -> int:
        profile = self.change.profile
        if profile.birth.profile_by_type:
            name = f"provision profile {uuid_text(self.identity)}"
            profile = structs.replace(profile, name=name)
        number = await insert_profile(tx, profile, self.event.at, self.identity)
        if number is None:
            raise Conflict(Cause.NAME_TAKEN)
        return number

    async def _changed(self, tx: Transaction) -> int:
        profile, version = self.change.profile, self.change.version or 0
        stored = await _stored(tx, profile.id)
        said = (settings_of(profile), profile.transport.value, profile.info)
        if not await tx.fetch("change_profile", profile.id, profile.name, *said, version):
            stale = version not in (0, stored.revision)
            raise Conflict(Cause.VERSION if stale else Cause.NAME_TAKEN)
        await follow(tx, profile.id, profile)
        if stored.name != profile.name:
            self.retyped_to = await retype(tx, profile.id, profile.name, 0)
        return profile.id


async def retype(tx: Transaction, profile_id: int, name: str, after_id: int) -> int:
    """Give some devices of a profile its name as their type; the last of them, 0 for the end."""
    some = await tx.fetch("retype_devices", profile_id, name, after_id, _MOST_RETYPED)
    return max(row[0] for row in some) if len(some) == _MOST_RETYPED else 0


class RetypeDevices(SingleDecision[int]):
    """The next devices of a profile that was renamed; see `retype`."""

    __slots__ = ("after_id", "name", "profile_id")

    def __init__(self, profile_id: int, name: str, after_id: int) -> None:
        self.profile_id = profile_id
        self.name = name
        self.after_id = after_id

    async def decide(self, tx: Transaction) -> int:
        return await retype(tx, self.profile_id, self.name, self.after_id)


class DropProfile(SingleDecision[None]):
    """Removes a profile that no device has and that is not the default, with its ticket and its
    pairs of static tokens."""

    __slots__ = ("event", "profile_id")

    def __init__(self, profile_id: int, event: Event) -> None:
        self.profile_id = profile_id
        self.event = event

    async def decide(self, tx: Transaction) -> None:
        stored = await _stored(tx, self.profile_id)
        pairs = await pairs_of_profile(tx, self.profile_id)
        if stored.is_default or not await tx.fetch("remove_profile", self.profile_id):
            raise Conflict(Cause.IN_USE)
        await tx.fetch("delete_assignments", "profile", self.profile_id)
        tell(tx, [event_on(self.event, None, static_tokens=pairs)])


class SetDefault(SingleDecision[DeviceProfile]):
    """Makes a profile the one default of its organisation."""

    __slots__ = ("event", "profile_id")

    def __init__(self, profile_id: int, event: Event) -> None:
        self.profile_id = profile_id
        self.event = event

    async def decide(self, tx: Transaction) -> DeviceProfile:
        await tx.fetch("unset_default_profile", self.profile_id)
        if not await tx.fetch("set_default_profile", self.profile_id):
            raise Conflict(Cause.GONE)
        tell(tx, [structs.replace(self.event, detail={"default": "true"})])
        return profile_from_row((await tx.fetch("profile", self.profile_id))[0])


class EnterDefault(SingleDecision[DeviceProfile]):
    """The default profile of an organisation; made, with its event, when there is none."""

    __slots__ = ("event", "organisation_id")

    def __init__(self, organisation_id: int, event: Event) -> None:
        self.organisation_id = organisation_id
        self.event = event

    async def decide(self, tx: Transaction) -> DeviceProfile:
        name, at = self.event.subject, self.event.at
        number, made = await ensure_default(tx, self.organisation_id, name, at)
        stored = profile_from_row((await tx.fetch("profile", number))[0])
        if made:
            tell(tx, [structs.replace(self.event, object=stored.uuid)])
        return stored
