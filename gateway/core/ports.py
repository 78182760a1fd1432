"""What the core asks of the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from msgspec import Struct

from gateway.core.model import (
    Attributes,
    AttributesChange,
    AttributeScope,
    AttributesSelection,
    Binding,
    BirthRule,
    Device,
    DeviceCredentials,
    DeviceProfile,
    Download,
    Event,
    FleetTicket,
    Json,
    Notice,
    Package,
    PackageKind,
    Peer,
    ProvisionResult,
    Reading,
    Refused,
    RpcCall,
    RpcState,
    Secret,
    Ticket,
    Value,
)
from gateway.core.pki.model import (
    Authority,
    AuthorityRole,
    CertificateRecord,
    IssuedCertificate,
    SerialReservation,
)
from gateway.core.terms import NO_TERMS, Terms

Clock: TypeAlias = Callable[[], int]
"""Milliseconds since the epoch, UTC."""

NewToken: TypeAlias = Callable[[], str]
"""A fresh random token: 20 alphanumerics, 119 bits."""


class NewDevice(Struct, frozen=True, kw_only=True):
    """A device about to be born, with its credentials.

    `claim_existing`: when the name is taken, claim that device instead, if it belongs to the
    same profile and waits (`DeviceProfile.pre_provision_allowed`).
    `warning`: written to the event's detail (an unreadable certificate that was stored anyway).
    `issued`: its credentials are this certificate of ours, whose serial number is reserved.
    `birth`: what becomes of it besides, also when it is claimed. With `profile_by_type` the profile
    is that of the organisation named by `type` ("": the default one), found or made; a device that
    is claimed may then be of any profile. A customer must be the one it has, if it has one.
    """

    organisation_id: int
    profile_id: int
    name: str
    type: str
    credentials: DeviceCredentials
    provision_state: str | None
    peer: Peer
    at: int
    gateway: bool = False
    claim_existing: bool = False
    warning: str = ""
    issued: IssuedCertificate | None = None
    birth: BirthRule | None = None
    terms: Terms = NO_TERMS


class NewProfile(Struct, frozen=True, kw_only=True):
    """A profile to be saved. `key` and `secret` None: keep what there is.

    `spare` is the key and secret it gets where there is nothing to keep; None: then it has none.
    """

    profile: DeviceProfile
    key: Secret | None
    secret: Secret | None
    spare: tuple[Secret, Secret] | None


class NewChild(Struct, frozen=True, kw_only=True):
    """A device a gateway mentions: found by its name in the gateway's organisation, or born.

    `type` names its profile when it is born: that of the organisation with this name, made when
    there is none. `token` becomes its access token then.
    """

    gateway: Device
    name: str
    type: str
    token: Secret
    peer: Peer
    at: int


class PresenceUpdate(Struct, kw_only=True):
    """What was learned of a device since the last write; None: nothing new of that."""

    active_at: int
    online: bool | None = None
    connected_at: int | None = None
    disconnected_at: int | None = None
    wire: str | None = None
    address: str | None = None
    gateway_id: int | None = None


class Template(Struct, frozen=True, kw_only=True):
    """What a device may name when it shows a token: a profile, and what its devices begin with.

    `device_name` has `{id}` where the number of the device belongs. `attributes` are shared ones.
    """

    profile: DeviceProfile
    device_name: str
    attributes: Mapping[str, Value]


class Templates(Protocol):
    """Finds profiles by the name that devices know them by, which the core cannot read."""

    async def named(self, name: str, path: str) -> Template | None:
        """The template of that name for devices of the organisation with that path."""

    async def everywhere(self, name: str) -> Template | None:
        """The template of that name if it is the same for devices of all organisations."""

    def names(self, profile: DeviceProfile) -> Sequence[str]:
        """What devices of this profile name; nothing for one that is no template."""

    def fits(self, profile: DeviceProfile, name: str) -> bool:
        """Whether a device of this profile may name that template."""


class TicketClaim(Struct, frozen=True, kw_only=True):
    """A device shows a token: that of `ticket`, or (None) one that may be of a new device of any
    organisation. The device's number takes the place of `{id}` in its name.

    `spare`: what is added to the name when it is taken. `hardware` is a JSON object.
    """

    ticket: Ticket | None
    token: Secret
    template: Template
    spare: str
    hardware: Json | None
    peer: Peer
    at: int


class KnownCredentials(Struct, frozen=True):
    """A device and what it must show.

    `repeatable`: its provisioning may still be repeated; `Store.used` ends that. `pending`: it was
    given these and has not used them yet; `Store.take_up_pending` makes them its own.
    """

    device: Device
    credentials: DeviceCredentials
    repeatable: bool = False
    pending: bool = False


class AboutDevice(Protocol):
    """What is about one device: `KnownCredentials`, a `DeviceListing`, a `DeviceRecord`."""

    @property
    def device(self) -> Device: ...


class DeviceListing(Struct, frozen=True):
    """One row of a device list: never a secret."""

    device: Device
    profile_name: str
    credentials_type: str


class Store(Protocol):
    """The one place where state lives.

    Each method is one transaction. Methods that change something return after it is on disk,
    together with its event. A method whose docstring says "decides" is decided by a single
    statement: of any number of simultaneous callers exactly one is told yes.

    Every method may raise `StoreUnavailable` (nothing was written) or `Overloaded`.
    """

    def on_trial(self) -> AbstractContextManager[None]:
        """Whatever the task decides within is decided as ever, answered, and taken back."""

    async def find_fleet_ticket(self, key: Secret) -> FleetTicket | None:
        """The ticket of a provision key, with its profile. None when nobody has that key."""

    async def note_use(self, ticket_id: int, at: int) -> None:
        """A fleet secret was shown at that time. Nobody waits; may be dropped under overload."""

    async def suspended(self, ticket_id: int, device_ids: Sequence[int]) -> list[int]:
        """Those of these devices that are suspended, as the fleet secret that bore them is in
        quarantine."""

    async def create_device(self, new: NewDevice) -> ProvisionResult:
        """Decides whether the name and the credentials are free; then the device exists.

        `Refused(NAME_TAKEN | CREDENTIALS_TAKEN)` otherwise, or with `claim_existing` the
        outcome of `claim_device`. With a binding that stands, `Provisioned.again` with what was
        given then. Terms that do not hold refuse with SECRET_USED_UP, PROFILE_FULL,
        ORGANISATION_FULL or APPROVAL_PENDING, and nothing was done.
        """

    async def claim_device(
        self,
        profile: DeviceProfile,
        name: str,
        event: Event,
        *,
        fresh: DeviceCredentials | None = None,
        issued: IssuedCertificate | None = None,
        terms: Terms = NO_TERMS,
    ) -> ProvisionResult:
        """Decides: mark a waiting device of this profile provisioned, once.

        `Refused(NO_SUCH_DEVICE | OTHER_PROFILE | ALREADY_PROVISIONED | BLOCKED)` otherwise, and
        CREDENTIALS_REVOKED for one that has none to be given. `fresh` become its credentials
        (CREDENTIALS_TAKEN when they are another's), `issued` tells that they were signed here.
        `terms` as of `create_device`.
        """

    async def find_repeat(self, binding: Binding, now: int) -> KnownCredentials | None:
        """What was given to who made the same request, if it may still be repeated at `now`."""

    async def used(self, device: Device) -> None:
        """Its credential was used for the first time: from here on nobody is given it again."""

    async def profiles_with(self, section: str) -> list[DeviceProfile]:
        """The profiles that have a table of this name for a dialect."""

    async def find_ticket(self, token: Secret) -> Ticket | None:
        """The ticket of one device with this token, expired or not. None once it was claimed."""

    async def find_token(self, token: Secret) -> Device | Ticket | None:
        """The device whose access token this is, or the ticket, expired or not, that waits with it:
        as of one moment, so that a token which is being claimed is never nobody's."""

    async def claim_ticket(self, claim: TicketClaim) -> ProvisionResult:
        """Decides: the ticket is used up, and its device is born with its token, or has it now.

        Whoever comes later with the same token gets the same device. Refused with UNKNOWN_TOKEN
        (revoked, swept or expired meanwhile), UNKNOWN_TEMPLATE (the profile went meanwhile) or
        OTHER_TEMPLATE, or where there is no room with PROFILE_FULL or ORGANISATION_FULL, and
        nothing is used up.
        """

    async def record(self, event: Event) -> None:
        """Write down what happened. May be dropped under overload: the caller does not wait."""

    async def find_credentials(self, lookup_id: Secret) -> KnownCredentials | None:
        """The device whose credentials have this id, over all kinds and organisations; None also
        for one that is suspended, since the fleet secret that bore it is in quarantine."""

    async def known_device(self, device_id: int) -> KnownCredentials | None:
        """The device of that number and the credentials it has."""

    async def profile(self, profile_id: int) -> DeviceProfile | None: ...

    async def save_readings(self, device: Device, readings: Sequence[Reading]) -> None:
        """Store readings and the latest value per key. Raises `CredentialsGone`."""

    async def save_many_readings(
        self, sent: Sequence[tuple[Device, Sequence[Reading]]]
    ) -> list[bool]:
        """Store readings of many devices in one decision; False where the login is gone."""

    async def save_attributes(
        self, device: Device, scope: AttributeScope, values: Mapping[str, Value], at: int
    ) -> None:
        """Store attributes; the last value of a key stands. Raises `CredentialsGone`."""

    async def attributes(self, device: Device, selection: AttributesSelection) -> Attributes:
        """Attributes as of everything saved before this call. Raises `CredentialsGone`.

        Shared ones include those that announce the packages the device is to run.
        """

    async def change_own_attributes(
        self, device: Device, scope: AttributeScope, change: AttributesChange, at: int
    ) -> None:
        """A device sets and deletes attributes of its own, without an event; whoever listens to
        shared ones is told. Raises `CredentialsGone`."""

    async def latest(self, device: Device, keys: Sequence[str] | None = None) -> list[Reading]:
        """The latest reading of each key, or of these; as of everything saved before this call."""

    async def forget_latest(self, device: Device, keys: Sequence[str]) -> None:
        """A device takes the latest readings of these keys back; they stay as history.

        Raises `CredentialsGone`.
        """

    async def device_path(self, device_id: int) -> str:
        """The path of the organisation the device is in; "" when there is no such device."""

    async def owner_email(self, device: Device) -> str:
        """The address of the user who owns it; "" when nobody does."""

    # ── certificates ──────────────────────────────────────────────────────────────────────────

    async def chain_profiles(self) -> list[DeviceProfile]:
        """The profiles of type X509_CERTIFICATE_CHAIN that have a `chain`."""

    async def enter_by_chain(self, new: NewDevice, *, create: bool) -> ProvisionResult:
        """Decides: the device of that name in that profile gets this certificate; or it is born.

        One that exists has its certificate replaced (its old login is gone, with a notice) if its
        credentials are a certificate, and keeps them if they are something else. Refused with
        OTHER_PROFILE, with NO_SUCH_DEVICE when it is not there and `create` is false, with
        CREDENTIALS_REVOKED when they were revoked, with CREDENTIALS_TAKEN.
        """

    async def find_pending(self, lookup_id: Secret) -> KnownCredentials | None:
        """The device that was given these credentials and has not used them yet.

        Its `credentials_row` is that of the credentials it still has.
        """

    async def take_up_pending(self, device_id: int, lookup_id: Secret, event: Event) -> bool:
        """Decides: pending credentials become the device's, and the older ones are gone.

        The older login ends with a notice; a certificate of ours it was is SUPERSEDED. False when
        they are pending no more.
        """

    async def renew(
        self,
        device: Device,
        credentials: DeviceCredentials,
        issued: IssuedCertificate | None,
        event: Event,
    ) -> bool:
        """Give a device other credentials, which count once they are used (`take_up_pending`).

        Those that were pending before are gone, a certificate of ours among them SUPERSEDED. False
        when they are another device's. Raises `CredentialsGone`.
        """

    async def authorities(self) -> list[Authority]:
        """All there ever were, the newest first, with the keys that are kept here."""

    async def add_authorities(
        self, new: Sequence[Authority], event: Event, *, replaces: Sequence[AuthorityRole] = ()
    ) -> list[Authority] | None:
        """Decides: each becomes the active one of its role, all or none; with their numbers.

        None when a role that is not in `replaces` has an active one: somebody else was first.
        """

    async def reserve_serial(self, reservation: SerialReservation) -> bool:
        """Decides: the key may be certified for this device. False: it is another device's.

        What is reserved and never issued is forgotten within the hour.
        """

    async def certificate(self, serial: int) -> CertificateRecord | None: ...

    async def certificates_since(self, device_id: int, since: int) -> int:
        """How many a device was given after that time, those that count no more too."""

    async def revoked(self, authority_id: int, now: int) -> list[CertificateRecord]:
        """Certificates of this authority that are revoked and did not end before `now`."""

    async def next_crl_number(self, authority_id: int) -> int:
        """Greater than any given before."""

    # ── gateways' devices ─────────────────────────────────────────────────────────────────────

    async def child(self, new: NewChild) -> Device | Refused:
        """Decides: the device of that name, or a new one with `creator_id` the gateway.

        `Refused(NOT_ITS_GATEWAY)` when another made it and its profile forbids adoption,
        `Refused(SECRET_QUARANTINED)` for one that is suspended, and PROFILE_FULL or
        ORGANISATION_FULL where there is no room for a new one.
        """

    # ── claiming ──────────────────────────────────────────────────────────────────────────────

    async def offer_claim(self, device: Device, key: Secret, event: Event, expires_at: int) -> bool:
        """Decides: store the claim unless one stands that has not expired (put if absent).

        The event tells which it was. Also refused, with False and an event, when the device has a
        customer, or its profile does not allow claiming and its server attribute `claimingAllowed`
        is not true. Raises `CredentialsGone`.
        """

    # ── calls ─────────────────────────────────────────────────────────────────────────────────

    async def waiting_calls(self, device_id: int, now: int) -> list[RpcCall]:
        """Persistent calls QUEUED or SENT for this device that have not expired, oldest first."""

    async def stored_call(self, call_id: int) -> RpcCall | None: ...

    async def mark_call(
        self, call_id: int, state: RpcState, *, response: str | None = None
    ) -> bool:
        """Decides: move a call on. False when it is already final (or further) or gone."""

    async def end_calls(self, now: int) -> int:
        """Calls past `expires_at` become EXPIRED (QUEUED, SENT) or TIMEOUT (DELIVERED)."""

    # ── packages ──────────────────────────────────────────────────────────────────────────────

    async def package_for(self, device: Device, kind: PackageKind) -> Package | None:
        """What the device is to run: its own assignment, else its profile's."""

    async def save_downloads(self, downloads: Mapping[int, Sequence[Download]]) -> None:
        """How far devices came, by device number. May be dropped under overload."""

    # ── presence and notices ──────────────────────────────────────────────────────────────────

    async def enter_node(self, now: int) -> int:
        """A gateway process begins: its number. What an older one left behind is swept."""

    async def save_presence(
        self, node: int, updates: Mapping[int, PresenceUpdate], now: int
    ) -> None:
        """Write what was learned, and that this process lives."""

    async def is_elsewhere(self, device_id: int, node: int, now: int) -> bool:
        """Whether the device is online at another process that lives."""

    async def last_notice(self) -> int: ...

    async def notices(self, after_seq: int, limit: int) -> list[Notice]:
        """Cheap when there are none: it is asked many times a second."""


class PackageFiles(Protocol):
    """Where the content of packages lies."""

    async def read(self, package: Package, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`; fewer at the end. Raises `StoreUnavailable`."""
