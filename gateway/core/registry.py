"""Profiles and devices, for people: what the shell and later the admin API do.

Changes go to the store, in transactions of their own, with their events. A server on the same
store honours them from its next request on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from gateway.core.archive import Archive
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
    Download,
    Event,
    EventKind,
    FleetTicket,
    Lineage,
    Package,
    PackageKind,
    Peer,
    Presence,
    Provisioned,
    ProvisionType,
    Reading,
    RefusalReason,
    Refused,
    RpcCall,
    Secret,
    SeriesQuery,
)
from gateway.core.names import is_device_name
from gateway.core.pki.model import ChainRule
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
from gateway.core.registrar import Registrar

MOST_DETAIL_CHARACTERS = 200
"""Of a list of names in an event."""
_POLL_S, _MOST_POLL_S = 0.02, 0.1
"""How often a stored call is looked at: quickly while its answer is likely, then less."""

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
            draft = _with_certificate_pair(draft, draft.profile.chain)
        elif stored is not None and stored.chain is not None:
            # Its pair was a certificate, which is no secret: it must not open anything from now on.
            key, secret = (
                given or Secret(self._new_token()) for given in (draft.key, draft.secret)
            )
            draft = structs.replace(draft, key=key, secret=secret)
        if stored is not None and _same(stored, draft.profile):
            if ticket is None:
                unchanged = not _keyed(draft)
            else:
                pair = (draft.key or ticket.key, draft.secret or ticket.secret)
                unchanged = pair == (ticket.key, ticket.secret)
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

    async def _stored(self, draft: DeviceProfile) -> DeviceProfile | None:
        place = (draft.organisation_id, draft.name)
        profiles = await self.profiles()
        return next((one for one in profiles if (one.organisation_id, one.name) == place), None)

    async def remove_profile(self, profile: DeviceProfile) -> bool:
        """False when devices still use it."""
        event = self._event(EventKind.PROFILE_REMOVE, profile.name)
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
        event = self._event(EventKind.DEVICE_REMOVE, known.device.name, known.device.id)
        return await self._registrar.remove_device(known.device.id, event)

    async def lineage(self, known: KnownCredentials) -> Lineage | None:
        """Which fleet secret bore a device; None: none did."""
        return await self._registrar.lineage(known.device.id)

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
        event = self._event(EventKind.DEVICE_REARM, known.device.name, known.device.id)
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
        event = self._event(EventKind.DEVICE_ATTRIBUTES, profile.name, detail=_told(scope, change))
        return await self._registrar.change_profile_attributes(profile.id, scope, change, event)

    # ── calls ───────────────────────────────────────────────────────────────────────────────

    async def call(
        self,
        known: AboutDevice,
        method: str,
        params: str = "{}",
        *,
        lasts_s: float,
        two_way: bool = True,
        persistent: bool = False,
        retries: int = 0,
    ) -> RpcCall | None:
        """Store a call for a running gateway to make; `params` is JSON. None: no such device.

        It is over after `lasts_s`: that long it waits for the answer, or for the device too.
        """
        now = self._clock()
        call = RpcCall(
            device_id=known.device.id,
            method=method,
            params=params,
            two_way=two_way,
            persistent=persistent,
            created_at=now,
            expires_at=now + round(lasts_s * 1000),
            retries=retries,
        )
        event = self._about(EventKind.DEVICE_RPC, known, {"method": method})
        return await self._registrar.save_call(call, event)

    async def await_call(self, call: RpcCall, timeout_s: float) -> RpcCall:
        """The call as it ended, or as far as it came in `timeout_s`: QUEUED when unseen."""
        seen, wait_s = call, _POLL_S
        try:
            async with asyncio.timeout(timeout_s):
                while not seen.state.final:
                    await asyncio.sleep(wait_s)
                    wait_s = min(wait_s * 1.05, _MOST_POLL_S)
                    seen = await self._store.stored_call(call.id) or seen
        except TimeoutError:
            pass
        return seen

    async def calls(self, known: AboutDevice, *, limit: int = 100) -> list[RpcCall]:
        """Newest first."""
        return await self._registrar.calls(known.device.id, limit=limit)

    # ── packages ────────────────────────────────────────────────────────────────────────────

    async def add_package(self, package: Package) -> Package | None:
        """Its content must be on disk already. None when its kind, title and version exist."""
        event = self._of(EventKind.PACKAGE_CREATE, package)
        stamped = structs.replace(package, created_at=self._clock())
        return await self._registrar.save_package(stamped, event)

    async def packages(self) -> list[Package]:
        return await self._registrar.packages()

    async def remove_package(self, package: Package) -> bool:
        """False while a device or a profile is to run it. Its content stays on disk."""
        event = self._of(EventKind.PACKAGE_REMOVE, package)
        return await self._registrar.remove_package(package.id, event)

    async def assign(
        self, kind: PackageKind, package: Package | None, to: Device | DeviceProfile
    ) -> None:
        """What a device, or all devices of a profile, are to run; None takes it back."""
        detail = {"kind": kind.value, "package": _title(package) if package else ""}
        target = _target(to)
        event = self._event(EventKind.PACKAGE_ASSIGN, to.name, target.get("device_id"), detail)
        await self._registrar.assign_package(kind, package.id if package else None, event, **target)

    async def assigned(self, kind: PackageKind, to: Device | DeviceProfile) -> Package | None:
        """What was assigned to the device itself, or to the profile itself."""
        return await self._registrar.assigned(kind, **_target(to))

    async def package_for(self, device: Device, kind: PackageKind) -> Package | None:
        """What a device is to run: its own assignment, else its profile's."""
        return await self._store.package_for(device, kind)

    async def downloads(self, known: KnownCredentials) -> list[Download]:
        return await self._registrar.downloads(known.device.id)

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

    def _event(
        self,
        kind: EventKind,
        subject: str,
        device_id: int | None = None,
        detail: Mapping[str, str] | None = None,
    ) -> Event:
        return Event(
            kind=kind,
            at=self._clock(),
            peer=self._peer,
            subject=subject,
            device_id=device_id,
            detail=detail or {},
        )

    def _about(
        self, kind: EventKind, known: AboutDevice, detail: Mapping[str, str] | None = None
    ) -> Event:
        return self._event(kind, known.device.name, known.device.id, detail)

    def _of(self, kind: EventKind, package: Package) -> Event:
        return self._event(kind, _title(package), detail={"kind": package.kind.value})


def _told(scope: AttributeScope, change: AttributesChange) -> dict[str, str]:
    """A change as its event has it: the keys, never the values."""
    lists = {"set": ", ".join(change.values), "deleted": ", ".join(change.deleted)}
    cut = {name: text[:MOST_DETAIL_CHARACTERS] for name, text in lists.items() if text}
    return {"scope": scope.value, **cut}


def _title(package: Package) -> str:
    return f"{package.title} {package.version}"


def _target(to: Device | DeviceProfile) -> dict[str, int]:
    return {"device_id" if isinstance(to, Device) else "profile_id": to.id}


def _keyed(draft: ProfileDraft) -> bool:
    """Whether the profile is to have a key and secret."""
    return bool(draft.profile.provision_type not in KEYLESS or draft.key or draft.secret)


def _with_certificate_pair(draft: ProfileDraft, chain: ChainRule) -> ProfileDraft:
    """As ThingsBoard does it (contract, section 2.8): no two profiles share a certificate."""
    # Loads RE2 and cryptography's X.509, which few profiles need.
    from gateway.core.pki.chain import anchor_key

    key = Secret(anchor_key(chain.certificate))
    return structs.replace(draft, key=key, secret=Secret(chain.certificate))


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
