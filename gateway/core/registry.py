"""Profiles and devices, for people: what the shell and later the admin API do.

Changes go to the store, in transactions of their own, with their events. A server on the same
store honours them from its next request on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from gateway.core.archive import Archive
from gateway.core.author import Author
from gateway.core.labelling import plain_code
from gateway.core.model import (
    ROOT_ORGANISATION,
    AccessToken,
    Attribute,
    AttributesChange,
    AttributeScope,
    ClaimResult,
    Device,
    DeviceCredentials,
    DeviceProfile,
    Event,
    EventKind,
    FleetTicket,
    Lineage,
    Peer,
    Presence,
    Provisioned,
    Reading,
    RefusalReason,
    Refused,
    Secret,
    SeriesQuery,
)
from gateway.core.names import is_device_name
from gateway.core.package_shelf import PackageShelf
from gateway.core.ports import (
    AboutDevice,
    Clock,
    DeviceListing,
    KnownCredentials,
    NewDevice,
    NewProfile,
    NewToken,
    Store,
)
from gateway.core.profile_pairs import certificate_pair, is_keyed
from gateway.core.registrar import Registrar
from gateway.core.stored_calls import StoredCalls
from gateway.core.terms import NO_TERMS, Gifts, Terms

MOST_DETAIL_CHARACTERS = 200
"""Of a list of names in an event."""


class ProfileDraft(Struct, frozen=True, kw_only=True):
    """A profile as a file or an operator describes it. `key`, `secret` None: keep, or make."""

    profile: DeviceProfile
    key: Secret | None = None
    secret: Secret | None = None


class Registry:
    """Creates, changes, lists and removes profiles and devices, as `peer` (the events' author)."""

    def __init__(
        self,
        store: Store,
        registrar: Registrar,
        *,
        clock: Clock,
        new_token: NewToken,
        peer: Peer,
    ) -> None:
        self._store = store
        self._registrar = registrar
        self._clock = clock
        self._new_token = new_token
        self._peer = peer
        self._author = Author(clock, peer)

    def acting_as(self, peer: Peer) -> Registry:
        """The same, with another author of its events."""
        return Registry(
            self._store,
            self._registrar,
            clock=self._clock,
            new_token=self._new_token,
            peer=peer,
        )

    @property
    def archive(self) -> Archive:
        """What is kept of devices' past, for the same author."""
        return Archive(self._store, self._registrar, clock=self._clock, peer=self._peer)

    @property
    def calls(self) -> StoredCalls:
        """Calls of devices' methods, for the same author."""
        return StoredCalls(self._store, self._registrar, clock=self._clock, peer=self._peer)

    @property
    def packages(self) -> PackageShelf:
        """Firmware and software, for the same author."""
        return PackageShelf(self._store, self._registrar, clock=self._clock, peer=self._peer)

    # ── profiles ────────────────────────────────────────────────────────────────────────────

    async def profiles(self) -> list[DeviceProfile]:
        return await self._registrar.profiles()

    async def profile(self, name: str) -> DeviceProfile | None:
        """The root organisation's of this name, else a customer's."""
        found = [one for one in await self.profiles() if one.name == name]
        return min(found, key=lambda one: one.organisation_id) if found else None

    async def ticket(self, profile: DeviceProfile) -> FleetTicket | None:
        return await self._registrar.profile_ticket(profile.id)

    async def save_profile(self, draft: ProfileDraft) -> bool:
        """Create the profile or bring the stored one up to the draft; False when it already is.

        A key or secret the draft leaves out is kept, or made: 20 random alphanumerics. A profile
        with a `chain` has its certificate for both. Raises `KeyTaken`.
        """
        stored = await self._stored(draft.profile)
        ticket = await self.ticket(stored) if stored else None
        if draft.profile.chain is not None:
            key, secret = certificate_pair(draft.profile.chain)
            draft = structs.replace(draft, key=key, secret=secret)
        elif stored is not None and stored.chain is not None:
            # Its pair was a certificate, which is no secret: it must not open anything from now on.
            key, secret = (
                given or Secret(self._new_token()) for given in (draft.key, draft.secret)
            )
            draft = structs.replace(draft, key=key, secret=secret)
        keyed = is_keyed(draft.profile, draft.key, draft.secret)
        if stored is not None and _same(stored, draft.profile):
            if ticket is None:
                unchanged = not keyed
            else:
                pair = (draft.key or ticket.key, draft.secret or ticket.secret)
                unchanged = pair == (ticket.key, ticket.secret)
            if unchanged:
                return False
        spare = None
        if keyed:
            spare = (Secret(self._new_token()), Secret(self._new_token()))
        kind = EventKind.PROFILE_UPDATE if stored else EventKind.PROFILE_CREATE
        await self._registrar.save_profile(
            NewProfile(profile=draft.profile, key=draft.key, secret=draft.secret, spare=spare),
            self._author.event(kind, draft.profile.name),
        )
        return True

    async def _stored(self, draft: DeviceProfile) -> DeviceProfile | None:
        place = (draft.organisation_id, draft.name)
        profiles = await self.profiles()
        return next((one for one in profiles if (one.organisation_id, one.name) == place), None)

    async def remove_profile(self, profile: DeviceProfile) -> bool:
        """False when devices still use it."""
        event = self._author.event(EventKind.PROFILE_REMOVE, profile.name)
        return await self._registrar.remove_profile(profile.id, event)

    async def rotate_secret(
        self, profile: DeviceProfile, *, key_too: bool = False, secret: Secret | None = None
    ) -> FleetTicket | None:
        """Give the profile a new fleet secret; the old one is refused from the next request on.

        None when the profile has no key and secret to rotate, or a certificate for both.
        """
        if profile.chain is not None:
            return None
        fresh_key = Secret(self._new_token()) if key_too else None
        rotated = await self._registrar.rotate_ticket(
            profile.id,
            fresh_key,
            secret or Secret(self._new_token()),
            self._author.event(EventKind.PROFILE_SECRET_ROTATE, profile.name),
        )
        return await self.ticket(profile) if rotated else None

    # ── devices ─────────────────────────────────────────────────────────────────────────────

    async def add_device(
        self, profile: DeviceProfile, name: str, *, token: Secret | None = None, label: str = ""
    ) -> Provisioned | Refused:
        """Add a device that waits for its one claim (pre-provisioned).

        A `label` is for people, and must be such as a name may be; "": none.
        """
        if not is_device_name(name) or (label and not is_device_name(label)):
            return Refused(RefusalReason.NAME_INVALID)
        return await self._store.create_device(
            NewDevice(
                organisation_id=profile.organisation_id,
                profile_id=profile.id,
                name=name,
                type=profile.name,
                credentials=AccessToken(token or Secret(self._new_token())),
                provision_state=None,
                peer=self._peer,
                at=self._clock(),
                terms=Terms(gifts=Gifts(label=label)) if label else NO_TERMS,
            )
        )

    async def devices(
        self,
        *,
        after_id: int = 0,
        limit: int = 100,
        profile: DeviceProfile | None = None,
        text: str = "",
        online: bool = False,
    ) -> list[DeviceListing]:
        """A page of devices in the order of their numbers; `online`: of those that are here."""
        return await self._registrar.devices(
            after_id=after_id,
            limit=limit,
            profile_id=profile.id if profile else None,
            text=text,
            online_at=self._clock() if online else None,
        )

    async def devices_per_profile(self) -> dict[int, int]:
        """How many devices there are, by profile number; none for an unused profile."""
        return await self._registrar.devices_per_profile()

    async def device(self, name_or_uuid: str) -> KnownCredentials | None:
        return await self._registrar.find_device(name_or_uuid)

    async def device_numbered(self, device_id: int) -> Device | None:
        """The device with this number, if it is still there."""
        page = await self._registrar.devices(
            after_id=device_id - 1, limit=1, profile_id=None, text=""
        )
        return next((one.device for one in page if one.device.id == device_id), None)

    async def presence(self, devices: Iterable[Device]) -> Mapping[int, Presence]:
        """When devices were last heard of, by their numbers; none for one that never came."""
        numbers = [device.id for device in devices]
        return await self._registrar.presence(numbers, self._clock()) if numbers else {}

    async def remove_device(self, known: KnownCredentials) -> bool:
        """Remove a device, its credentials and all it ever said. The events stay."""
        event = self._about(EventKind.DEVICE_REMOVE, known)
        return await self._registrar.remove_device(known.device.id, event)

    async def lineage(self, known: KnownCredentials) -> Lineage | None:
        """Which fleet secret bore a device; None: none did."""
        return await self._registrar.lineage(known.device.id)

    async def label(self, known: KnownCredentials) -> str:
        """What people call a device besides its name; "": nothing."""
        return await self._registrar.label(known.device.id)

    async def expires_at(self, known: KnownCredentials) -> int | None:
        """When a device goes by itself (ms); None: it stays."""
        return await self._registrar.expires_at(known.device.id)

    async def keep_device(self, known: KnownCredentials, until: int | None = None) -> bool:
        """Let a device that was to go by itself stay: until then (ms), or for good.

        False when it stays anyway.
        """
        detail = {"until": str(until)} if until is not None else {}
        event = self._about(EventKind.DEVICE_KEEP, known, detail)
        return await self._registrar.keep_device(known.device.id, until, event)

    async def rearm_device(self, known: KnownCredentials) -> bool:
        """Let the device be claimed once more, with the credentials it has."""
        event = self._about(EventKind.DEVICE_REARM, known)
        return await self._registrar.rearm_device(known.device.id, event)

    async def arm_device(
        self, known: KnownCredentials, lasts_ms: int, code: Secret | None = None
    ) -> bool:
        """Let a device that was provisioned ask for other credentials once, for so long: with this
        claim code, or (None) on its word. False when it waits for its claim, or is no more.
        """
        detail = {"proof": "none" if code is None else "claim code"}
        event = self._about(EventKind.DEVICE_REARM, known, detail)
        plain = None if code is None else plain_code(code)
        return await self._registrar.arm_device(
            known.device.id, plain, self._clock() + lasts_ms, event
        )

    async def replace_credentials(
        self, known: KnownCredentials, credentials: DeviceCredentials | None = None
    ) -> DeviceCredentials | None:
        """New credentials, by default a random token; the old login is gone, its sessions end.

        None when they are another device's, or the device is no more.
        """
        fresh = credentials or AccessToken(Secret(self._new_token()))
        event = self._about(EventKind.DEVICE_CREDENTIALS, known, {"type": fresh.type.value})
        replaced = await self._registrar.replace_credentials(known.device.id, fresh, event)
        return fresh if replaced else None

    async def claim(
        self, known: KnownCredentials, customer: str, key: Secret | None
    ) -> ClaimResult:
        """Take a device for a customer with the key it offered; `key` None: without one."""
        event = self._about(EventKind.DEVICE_CLAIM, known, {"customer": customer})
        return await self._registrar.claim_for(known.device.id, customer, key, event)

    async def unclaim(self, known: KnownCredentials) -> bool:
        """Take a device back from its customer. False when it has none."""
        event = self._about(EventKind.DEVICE_UNCLAIM, known)
        return await self._registrar.unclaim(known.device.id, event)

    async def customer_of(self, device: Device) -> str | None:
        number = device.customer_id
        return None if number is None else await self._registrar.customer_name(number)

    # ── readings and attributes ─────────────────────────────────────────────────────────────

    async def latest(self, known: AboutDevice) -> Sequence[Reading]:
        return await self._registrar.latest(known.device.id)

    async def series(self, known: AboutDevice, query: SeriesQuery) -> list[Reading]:
        return await self._registrar.series(known.device.id, query)

    async def keys(self, known: AboutDevice) -> list[str]:
        return await self._registrar.keys(known.device.id)

    async def attributes(self, known: AboutDevice) -> list[Attribute]:
        """All attributes of all scopes, those that announce packages among the shared ones."""
        return await self._registrar.device_attributes(known.device.id)

    async def change_attributes(
        self, known: AboutDevice, scope: AttributeScope, change: AttributesChange
    ) -> AttributesChange | None:
        """Set and delete attributes; what really changed. None: the device is no more."""
        event = self._about(EventKind.DEVICE_ATTRIBUTES, known, _told(scope, change))
        return await self._registrar.change_attributes(known.device.id, scope, change, event)

    async def change_profile_attributes(
        self, profile: DeviceProfile, scope: AttributeScope, change: AttributesChange
    ) -> int:
        """The same for all devices of a profile; how many devices."""
        event = self._author.event(EventKind.DEVICE_ATTRIBUTES, profile.name, _told(scope, change))
        return await self._registrar.change_profile_attributes(profile.id, scope, change, event)

    # ── events ──────────────────────────────────────────────────────────────────────────────

    async def events(
        self, known: KnownCredentials | None = None, *, after_seq: int = 0, limit: int = 100
    ) -> list[Event]:
        """Events after a sequence number, oldest first; of one device, or of all."""
        return await self._registrar.events(
            after_seq=after_seq, limit=limit, device_id=known.device.id if known else None
        )

    async def last_events(
        self, known: KnownCredentials | None = None, *, limit: int = 100
    ) -> list[Event]:
        """The newest events, oldest first; of one device, or of all."""
        return await self._registrar.last_events(
            limit=limit, device_id=known.device.id if known else None
        )

    def _about(
        self, kind: EventKind, known: AboutDevice, detail: Mapping[str, str] | None = None
    ) -> Event:
        return self._author.event(kind, known.device.name, detail, known.device.id)


def _told(scope: AttributeScope, change: AttributesChange) -> dict[str, str]:
    """A change as its event has it: the keys, never the values."""
    lists = {"set": ", ".join(change.values), "deleted": ", ".join(change.deleted)}
    cut = {name: text[:MOST_DETAIL_CHARACTERS] for name, text in lists.items() if text}
    return {"scope": scope.value, **cut}


_STORES = frozenset({"id", "revision", "uuid", "is_default", "info", "created_at"})
"""What no file says of a profile."""


def _same(stored: DeviceProfile, wanted: DeviceProfile) -> bool:
    return all(
        getattr(stored, name) == getattr(wanted, name)
        for name in DeviceProfile.__struct_fields__
        if name not in _STORES
    )


def root_profile(name: str, **settings: object) -> DeviceProfile:
    """A profile of the root organisation that is not in the store yet."""
    return DeviceProfile(id=0, name=name, organisation_id=ROOT_ORGANISATION, **settings)  # type: ignore[arg-type]
