"""Profiles and devices, for people: what the shell and later the admin API do.

Changes go to the store, in transactions of their own, with their events. A server on the same
store honours them from its next request on.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from gateway.core.errors import ConfigError, KeyTaken
from gateway.core.model import (
    ROOT_ORGANISATION,
    AccessToken,
    DeviceProfile,
    Event,
    EventKind,
    FleetTicket,
    Peer,
    Provisioned,
    ProvisionType,
    Reading,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.ports import (
    Clock,
    DeviceListing,
    KnownCredentials,
    NewDevice,
    NewProfile,
    NewToken,
    Registrar,
    Store,
)
from gateway.core.provisioning import is_device_name

KEYLESS = frozenset({ProvisionType.DISABLED, ProvisionType.X509_CERTIFICATE_CHAIN})
"""Provision types that work without a fleet key; one given is stored all the same."""


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

    # ── profiles ────────────────────────────────────────────────────────────────────────────

    async def profiles(self) -> list[DeviceProfile]:
        return await self._registrar.profiles()

    async def profile(self, name: str) -> DeviceProfile | None:
        return next((one for one in await self.profiles() if one.name == name), None)

    async def ticket(self, profile: DeviceProfile) -> FleetTicket | None:
        return await self._registrar.profile_ticket(profile.id)

    async def save_profile(self, draft: ProfileDraft) -> bool:
        """Create the profile or bring the stored one up to the draft; False when it already is.

        A key or secret the draft leaves out is kept, or made: 20 random alphanumerics.
        Raises `KeyTaken`.
        """
        stored = await self.profile(draft.profile.name)
        ticket = await self.ticket(stored) if stored else None
        if stored is not None and _same(stored, draft.profile):
            if ticket is None:
                unchanged = not _keyed(draft)
            else:
                unchanged = (draft.key or ticket.key, draft.secret or ticket.secret) == (
                    ticket.key,
                    ticket.secret,
                )
            if unchanged:
                return False
        spare = None
        if _keyed(draft):
            spare = (Secret(self._new_token()), Secret(self._new_token()))
        kind = EventKind.PROFILE_UPDATE if stored else EventKind.PROFILE_CREATE
        await self._registrar.save_profile(
            NewProfile(profile=draft.profile, key=draft.key, secret=draft.secret, spare=spare),
            self._event(kind, draft.profile.name),
        )
        return True

    async def remove_profile(self, profile: DeviceProfile) -> bool:
        """False when devices still use it."""
        event = self._event(EventKind.PROFILE_REMOVE, profile.name)
        return await self._registrar.remove_profile(profile.id, event)

    async def rotate_secret(
        self, profile: DeviceProfile, *, key_too: bool = False, secret: Secret | None = None
    ) -> FleetTicket | None:
        """Give the profile a new fleet secret; the old one is refused from the next request on.

        None when the profile has no key and secret to rotate.
        """
        fresh_key = Secret(self._new_token()) if key_too else None
        rotated = await self._registrar.rotate_ticket(
            profile.id,
            fresh_key,
            secret or Secret(self._new_token()),
            self._event(EventKind.PROFILE_SECRET_ROTATE, profile.name),
        )
        return await self.ticket(profile) if rotated else None

    # ── devices ─────────────────────────────────────────────────────────────────────────────

    async def add_device(
        self, profile: DeviceProfile, name: str, *, token: Secret | None = None
    ) -> Provisioned | Refused:
        """Add a device that waits for its one claim (pre-provisioned)."""
        if not is_device_name(name):
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
            )
        )

    async def devices(
        self,
        *,
        after_id: int = 0,
        limit: int = 100,
        profile: DeviceProfile | None = None,
        text: str = "",
    ) -> list[DeviceListing]:
        """A page of devices in the order of their numbers."""
        return await self._registrar.devices(
            after_id=after_id, limit=limit, profile_id=profile.id if profile else None, text=text
        )

    async def devices_per_profile(self) -> dict[int, int]:
        """How many devices there are, by profile number; none for an unused profile."""
        return await self._registrar.devices_per_profile()

    async def device(self, name_or_uuid: str) -> KnownCredentials | None:
        return await self._registrar.find_device(name_or_uuid)

    async def remove_device(self, known: KnownCredentials) -> bool:
        """Remove a device, its credentials and all it ever said. The events stay."""
        event = self._event(EventKind.DEVICE_REMOVE, known.device.name, known.device.id)
        return await self._registrar.remove_device(known.device.id, event)

    async def rearm_device(self, known: KnownCredentials) -> bool:
        """Let the device be claimed once more, with the credentials it has."""
        event = self._event(EventKind.DEVICE_REARM, known.device.name, known.device.id)
        return await self._registrar.rearm_device(known.device.id, event)

    async def latest(self, known: KnownCredentials) -> Sequence[Reading]:
        return await self._registrar.latest(known.device.id)

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

    def _event(self, kind: EventKind, subject: str, device_id: int | None = None) -> Event:
        return Event(
            kind=kind, at=self._clock(), peer=self._peer, subject=subject, device_id=device_id
        )


def _keyed(draft: ProfileDraft) -> bool:
    """Whether the profile is to have a key and secret."""
    return bool(draft.profile.provision_type not in KEYLESS or draft.key or draft.secret)


def _same(stored: DeviceProfile, wanted: DeviceProfile) -> bool:
    return all(
        getattr(stored, name) == getattr(wanted, name)
        for name in DeviceProfile.__struct_fields__
        if name != "id"
    )


async def sync_profile_files(
    registry: Registry, drafts: Sequence[ProfileDraft]
) -> tuple[list[str], list[ConfigError]]:
    """Bring the store up to the profile files. Gives the names that changed, and what failed.

    A file that went away leaves its profile in the store: devices depend on it.
    """
    changed: list[str] = []
    errors: list[ConfigError] = []
    for draft in drafts:
        try:
            if await registry.save_profile(draft):
                changed.append(draft.profile.name)
        except KeyTaken:
            errors.append(
                ConfigError(
                    f"{draft.profile.source}: provision_key is already the key of another "
                    "profile. Keys are unique: choose another, or leave it out to have one made."
                )
            )
    return changed, errors


def root_profile(name: str, **settings: object) -> DeviceProfile:
    """A profile of the root organisation that is not in the store yet."""
    return DeviceProfile(id=0, name=name, organisation_id=ROOT_ORGANISATION, **settings)  # type: ignore[arg-type]
