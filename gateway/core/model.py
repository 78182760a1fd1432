"""The nouns. Everything the product talks about, in one place and in no wire's words.

All types are frozen values. Times are integers, milliseconds since the epoch, UTC. A secret is
never a `str`: it is a `Secret`, which shows itself only when asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from hmac import compare_digest
from typing import Any, TypeAlias

from msgspec import Struct, field

from gateway.core.pki.model import CertificateProfile, ChainRule

PROVISIONED = "provisioned"
"""The one value of `Device.provision_state` that this product writes itself."""

ROOT_ORGANISATION = 1
"""The organisation every store is born with; ThingsBoard's tenant."""


class Secret:
    """Text that shows itself only when asked, and compares in constant time."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text. Every call of this is a place to look at in a review."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(
            self._text.encode("utf-8", "surrogatepass"),
            other._text.encode("utf-8", "surrogatepass"),
        )

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"


# ── where a request comes from ────────────────────────────────────────────────────────────────


class Wire(StrEnum):
    """How a request reached us. `SHELL` is an operator's command acting on the store."""

    HTTP = "http"
    MQTT = "mqtt"
    COAP = "coap"
    HTTPS = "https"
    MQTTS = "mqtts"
    COAPS = "coaps"
    SHELL = "shell"

    @property
    def plain(self) -> Wire:
        """The wire without its security: whose words and numbers are spoken."""
        return _PLAIN.get(self, self)


_PLAIN = {Wire.HTTPS: Wire.HTTP, Wire.MQTTS: Wire.MQTT, Wire.COAPS: Wire.COAP}


class Peer(Struct, frozen=True):
    """Who is at the other end: the wire, and its address as text (`192.0.2.7:50123`)."""

    wire: Wire
    address: str


# ── profiles and the tickets that admit to them ───────────────────────────────────────────────


class ProvisionType(StrEnum):
    """What a profile lets an unknown device do (ThingsBoard's provision strategies)."""

    DISABLED = "DISABLED"
    ALLOW_CREATE_NEW_DEVICES = "ALLOW_CREATE_NEW_DEVICES"
    CHECK_PRE_PROVISIONED_DEVICES = "CHECK_PRE_PROVISIONED_DEVICES"
    X509_CERTIFICATE_CHAIN = "X509_CERTIFICATE_CHAIN"


class ProfileTransport(StrEnum):
    """Which wire devices of a profile use after provisioning. `DEFAULT` is any of them."""

    DEFAULT = "DEFAULT"
    MQTT = "MQTT"
    COAP = "COAP"


class DeviceProfile(Struct, frozen=True, kw_only=True):
    """What devices of one kind may do.

    `pre_provision_allowed` belongs to `ALLOW_CREATE_NEW_DEVICES`: a device that already exists in
    this profile and was never provisioned may then be claimed, once. `claiming_allowed`: a device
    may be claimed by a customer; else only one whose server attribute `claimingAllowed` is true.
    `gateway_may_adopt`: a gateway may speak for a device of this profile that it did not create.
    `readings_keep_days` None: as the whole store. `limits` names rates (`messages`) and gives each
    as text (`10:1,300:60`); what it leaves out is as configured for all. `certificate` is what our
    authority writes into certificates of these devices; `chain` says which factory certificates
    admit to an `X509_CERTIFICATE_CHAIN` profile (None: none do).

    `sections` holds the tables a dialect reads (`[thingsboard]`, `[blynk]`); the core carries them
    unread. `source` is the file that defines the profile, or None for one that lives in the store
    alone. `revision` grows with every change.
    """

    id: int
    name: str
    provision_type: ProvisionType = ProvisionType.DISABLED
    description: str = ""
    transport: ProfileTransport = ProfileTransport.DEFAULT
    pre_provision_allowed: bool = False
    require_readable_certificate: bool = False
    claiming_allowed: bool = True
    gateway_may_adopt: bool = True
    readings_keep_days: int | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    certificate: CertificateProfile = CertificateProfile()
    chain: ChainRule | None = None
    organisation_id: int = ROOT_ORGANISATION
    sections: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    revision: int = 1

    @property
    def claims_existing(self) -> bool:
        """Whether a device that waits in this profile can be claimed."""
        match self.provision_type:
            case ProvisionType.CHECK_PRE_PROVISIONED_DEVICES:
                return True
            case ProvisionType.ALLOW_CREATE_NEW_DEVICES:
                return self.pre_provision_allowed
            case _:
                return False


class FleetTicket(Struct, frozen=True, kw_only=True):
    """The pair a whole fleet shares: `key` finds the profile, `secret` proves the right to it."""

    id: int
    profile: DeviceProfile
    key: Secret
    secret: Secret


# ── credentials ───────────────────────────────────────────────────────────────────────────────


class DeviceCredentialsType(StrEnum):
    ACCESS_TOKEN = "ACCESS_TOKEN"  # noqa: S105 - the name of a kind, not a secret
    X509_CERTIFICATE = "X509_CERTIFICATE"
    MQTT_BASIC = "MQTT_BASIC"
    LWM2M_CREDENTIALS = "LWM2M_CREDENTIALS"
    DTLS_PSK = "DTLS_PSK"
    REVOKED = "REVOKED"
    """None any more: an operator took them back."""


def sha3_id(text: str) -> str:
    """SHA3-256 of `text`, lower-case hex: how ids of non-token credentials are made."""
    return hashlib.sha3_256(text.encode("utf-8", "surrogatepass")).hexdigest()


class AccessToken(Struct, frozen=True, tag="ACCESS_TOKEN"):
    """A token is the whole credential: who shows it is the device."""

    token: Secret

    @property
    def type(self) -> DeviceCredentialsType:
        return DeviceCredentialsType.ACCESS_TOKEN

    @property
    def id(self) -> Secret:
        """What is looked up. Ids live in one namespace over all devices and kinds."""
        return self.token


class MqttBasic(Struct, frozen=True, tag="MQTT_BASIC"):
    """Client id, user name and password; an empty member is not checked.

    Valid ones have a client id or a user name, and no password with a client id alone.
    """

    client_id: str = ""
    username: str = ""
    password: Secret = Secret("")

    @property
    def type(self) -> DeviceCredentialsType:
        return DeviceCredentialsType.MQTT_BASIC

    @property
    def id(self) -> Secret:
        if not self.client_id:
            return Secret(self.username)
        return Secret(mqtt_basic_id(self.client_id, self.username))

    def __repr__(self) -> str:
        return _members_set(self)  # a user name alone is the whole credential


def mqtt_basic_id(client_id: str, username: str) -> str:
    """The id of a client id and user name shown together; an empty part is left out."""
    return sha3_id("|".join(part for part in (client_id, username) if part))


class Certificate(Struct, frozen=True, tag="X509_CERTIFICATE"):
    """A certificate as base64 text without PEM markers or line breaks; not necessarily readable."""

    text: str

    @property
    def type(self) -> DeviceCredentialsType:
        return DeviceCredentialsType.X509_CERTIFICATE

    @property
    def id(self) -> Secret:
        return Secret(sha3_id(self.text))


class PresharedKey(Struct, frozen=True, tag="DTLS_PSK"):
    """A key for DTLS alone (RFC 4279): `identity` is shown in clear, `key` is 64 hex digits."""

    identity: str
    key: Secret

    @property
    def type(self) -> DeviceCredentialsType:
        return DeviceCredentialsType.DTLS_PSK

    @property
    def id(self) -> Secret:
        return Secret(psk_id(self.identity))


def psk_id(identity: str) -> str:
    """The id of a pre-shared key by its identity; no token or client id makes the same."""
    return sha3_id(f"psk|{identity}|")


class Revoked(Struct, frozen=True, tag="REVOKED"):
    """A device whose credentials were revoked: nothing it shows lets it in. `mark` is random."""

    mark: str

    @property
    def type(self) -> DeviceCredentialsType:
        return DeviceCredentialsType.REVOKED

    @property
    def id(self) -> Secret:
        return Secret(sha3_id(f"revoked|{self.mark}|"))


DeviceCredentials: TypeAlias = AccessToken | MqttBasic | Certificate | PresharedKey | Revoked


class Identity(Struct, frozen=True):
    """Whom the handshake of a secure wire proved its peer to be.

    `id` is the id of the credentials that were proven; they are looked up again for each call, so
    that a revocation counts at once. `expires_at` (ms; 0: never) is the certificate's.
    """

    id: Secret
    device_id: int
    expires_at: int = 0


class Vouched(Struct):
    """Somebody known, for as long as a connection lasts. Its transport calls `release` at its end,
    once; until then it may be cut."""

    identity: Identity
    release: Callable[[], None]


class Presented(Struct, frozen=True):
    """A pre-shared key, in bytes, and whose it is."""

    key: bytes
    identity: Identity

    def __repr__(self) -> str:
        return "Presented(***)"


class RequestedCredentials(Struct, frozen=True, kw_only=True):
    """The credentials a device asks to have, as far as it said anything. All may be absent."""

    type: DeviceCredentialsType = DeviceCredentialsType.ACCESS_TOKEN
    token: Secret = Secret("")
    client_id: str = ""
    username: str = ""
    password: Secret = Secret("")
    certificate: str = ""
    csr: str = ""
    """A PKCS #10 request (RFC 2986) as PEM, or as base64 of its DER: sign this key for me."""

    @property
    def any_given(self) -> bool:
        return bool(
            self.token
            or self.client_id
            or self.username
            or self.password
            or self.certificate
            or self.csr
        )

    def __repr__(self) -> str:
        return _members_set(self)


def _members_set(struct: MqttBasic | RequestedCredentials) -> str:
    """Which members are set, and nothing of what they are: `MqttBasic(username=***)`."""
    names = ("token", "client_id", "username", "password", "certificate", "csr")
    members = [name for name in names if getattr(struct, name, None)]
    return f"{type(struct).__name__}({', '.join(f'{name}=***' for name in members)})"


# ── devices ───────────────────────────────────────────────────────────────────────────────────


class Device(Struct, frozen=True, kw_only=True):
    """One device. `id` is its number (small integer, never reused), `uuid` its outside name.

    `customer_id` is the organisation it was claimed for, `creator_id` the gateway that first
    mentioned it. `profile_revision` is that of its profile when this was read.

    `provision_state` None means: still waiting for its one claim. `credentials_row` changes
    whenever the credentials do, so that a session can tell that its login is no longer good.
    """

    id: int
    uuid: str
    name: str
    type: str
    profile_id: int
    organisation_id: int = ROOT_ORGANISATION
    gateway: bool = False
    provision_state: str | None = None
    credentials_row: int
    transport: ProfileTransport = ProfileTransport.DEFAULT
    created_at: int = 0
    customer_id: int | None = None
    creator_id: int | None = None
    profile_revision: int = 1


# ── provisioning ──────────────────────────────────────────────────────────────────────────────


class ProvisionKey(Struct, frozen=True):
    """Proof by a fleet's key and secret."""

    key: Secret
    secret: Secret


Proof: TypeAlias = ProvisionKey


class ProvisionRequest(Struct, frozen=True, kw_only=True):
    """What a device asks the first time it speaks.

    `device_name` None means the device leaves the name to us. `device_type` is the legacy
    request's; None means the profile's name.
    """

    proof: Proof
    peer: Peer
    device_name: str | None = None
    device_type: str | None = None
    credentials: RequestedCredentials = RequestedCredentials()
    gateway: bool = False


class RefusalReason(StrEnum):
    """Why a request got nothing. The operator sees this; the device sees what its dialect says."""

    UNKNOWN_KEY = "unknown_key"
    WRONG_SECRET = "wrong_secret"  # noqa: S105
    PROVISIONING_DISABLED = "provisioning_disabled"
    CERTIFICATE_CHAIN_ONLY = "certificate_chain_only"
    NAME_BLANK = "name_blank"
    NAME_INVALID = "name_invalid"
    TYPE_INVALID = "type_invalid"
    NAME_MISSING = "name_missing"
    NAME_TAKEN = "name_taken"
    NO_SUCH_DEVICE = "no_such_device"
    OTHER_PROFILE = "other_profile"
    ALREADY_PROVISIONED = "already_provisioned"
    BLOCKED = "blocked"
    CREDENTIALS_INVALID = "credentials_invalid"
    CREDENTIALS_TAKEN = "credentials_taken"
    CERTIFICATE_UNREADABLE = "certificate_unreadable"
    NOT_ITS_GATEWAY = "not_its_gateway"
    CUSTOMER_HAS_IT = "customer_has_it"
    CLAIMING_DISABLED = "claiming_disabled"
    CLAIM_STANDS = "claim_stands"
    NO_CLAIM = "no_claim"
    CLAIM_EXPIRED = "claim_expired"
    WRONG_CLAIM_KEY = "wrong_claim_key"
    CREDENTIALS_REVOKED = "credentials_revoked"
    # Of a signing request.
    CSR_UNREADABLE = "csr_unreadable"
    BAD_SIGNATURE = "bad_signature"
    """Of a signing request (no proof of possession), or of a certificate in a chain."""
    WEAK_KEY = "weak_key"
    REUSED_KEY = "reused_key"
    TOO_MANY_CERTIFICATES = "too_many_certificates"
    """For one device within an hour."""
    CSR_EXTRA_EXTENSIONS = "csr_extra_extensions"
    NO_AUTHORITY = "no_authority"
    """Nobody here can sign: the authority's key cannot be had."""
    # Of a certificate chain (RFC 5280, section 6).
    CHAIN_UNREADABLE = "chain_unreadable"
    OVERSIZED_CHAIN = "oversized_chain"
    EXPIRED_LEAF = "expired_leaf"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_USAGE = "wrong_usage"
    PATH_TOO_LONG = "path_too_long"
    UNKNOWN_CA = "unknown_ca"
    """No anchor is known for this chain."""
    BAD_CHAIN = "bad_chain"
    """An issuer that is none, a name outside of its constraints, and whatever else forbids it."""
    UNKNOWN_CERTIFICATE = "unknown_certificate"
    """Signed here, and not (or no longer) the certificate of a device."""
    CN_MISMATCH = "cn_mismatch"
    CN_MISSING = "cn_missing"


class Provisioned(Struct, frozen=True):
    """The device exists, is on disk, and these are its credentials.

    `issuers` goes with a certificate that was signed here: its issuer's, and so on up to but
    without the root, in DER.
    """

    device: Device
    credentials: DeviceCredentials
    issuers: tuple[bytes, ...] = ()


class Refused(Struct, frozen=True):
    """Nothing was given. A refusal is a value, not an exception."""

    reason: RefusalReason


ProvisionResult: TypeAlias = Provisioned | Refused


# ── device traffic ────────────────────────────────────────────────────────────────────────────


class Json(Struct, frozen=True):
    """A JSON object or array a device sent as a value, kept as its own text."""

    text: str


Value: TypeAlias = bool | int | float | str | Json
"""A value of a reading or an attribute. Integers fit 64 bits; larger numbers came as `str`."""


class Reading(Struct, frozen=True):
    """One value of one key at one time (ms)."""

    ts: int
    key: str
    value: Value


class AttributeScope(StrEnum):
    CLIENT = "CLIENT_SCOPE"
    SHARED = "SHARED_SCOPE"
    SERVER = "SERVER_SCOPE"


class AttributesSelection(Struct, frozen=True):
    """Which attributes are asked for, by scope. An empty tuple: none of it; None: all of it."""

    client: tuple[str, ...] | None = None
    shared: tuple[str, ...] | None = None


class Attributes(Struct, frozen=True):
    """What was found, by scope."""

    client: Mapping[str, Value]
    shared: Mapping[str, Value]


class Attribute(Struct, frozen=True):
    """One attribute as people see it; `updated_at` in ms."""

    scope: AttributeScope
    key: str
    value: Value
    updated_at: int


class AttributesChange(Struct, frozen=True):
    """Shared attributes that changed: new values by key, and the keys that are no more."""

    values: Mapping[str, Value] = field(default_factory=dict)
    deleted: tuple[str, ...] = ()


class Aggregation(StrEnum):
    """What becomes of the readings within one interval. `NONE`: each stands for itself."""

    NONE = "none"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"


class SeriesQuery(Struct, frozen=True, kw_only=True):
    """Which readings of one key: `since <= ts < until` (ms), at most `limit` of them.

    Without an aggregation the newest `limit`, in the order of time; with one, a value for each
    `interval_ms` that has readings, counted from `since`.
    """

    key: str
    since: int
    until: int
    limit: int = 100
    aggregation: Aggregation = Aggregation.NONE
    interval_ms: int = 0
    newest_first: bool = False


# ── calls to devices ──────────────────────────────────────────────────────────────────────────


class RpcState(StrEnum):
    """How far a call to a device came (ThingsBoard's `RpcStatus`)."""

    QUEUED = "QUEUED"
    """It waits for the device to be there."""
    SENT = "SENT"
    DELIVERED = "DELIVERED"
    """The device's side acknowledged it; a two-way call waits for its answer."""
    SUCCESSFUL = "SUCCESSFUL"
    TIMEOUT = "TIMEOUT"
    """Delivered, and never answered."""
    EXPIRED = "EXPIRED"
    """Never delivered."""
    FAILED = "FAILED"
    DELETED = "DELETED"

    @property
    def final(self) -> bool:
        return self not in (RpcState.QUEUED, RpcState.SENT, RpcState.DELIVERED)


class RpcCall(Struct, frozen=True, kw_only=True):
    """A call of a method of a device. `params` and `response` are JSON texts.

    `persistent`: it waits for a device that is away until `expires_at`, and is sent again when its
    delivery was not acknowledged, `retries` times (0: as often as it takes); else it fails at once
    when the device is not there. `uuid` is its outside name; `id` its number, 0 for one that is
    not stored.
    """

    device_id: int
    method: str
    params: str = "{}"
    two_way: bool = True
    persistent: bool = False
    created_at: int = 0
    expires_at: int = 0
    retries: int = 0
    state: RpcState = RpcState.QUEUED
    response: str | None = None
    uuid: str = ""
    id: int = 0


# ── presence ──────────────────────────────────────────────────────────────────────────────────


class Presence(Struct, frozen=True, kw_only=True):
    """When a device was last heard of, in ms; 0 for never. `gateway_id`: the last it came through.

    `online` is as of the last write of the process that holds the session, and false when that
    process is no more.
    """

    online: bool = False
    connected_at: int = 0
    disconnected_at: int = 0
    active_at: int = 0
    wire: Wire | None = None
    address: str = ""
    gateway_id: int | None = None


# ── packages ──────────────────────────────────────────────────────────────────────────────────


class PackageKind(StrEnum):
    """What is delivered over the air; the value is the prefix of its attributes."""

    FIRMWARE = "fw"
    SOFTWARE = "sw"


class ChecksumAlgorithm(StrEnum):
    """How a device checks what it downloaded (ThingsBoard's names)."""

    MD5 = "MD5"
    SHA256 = "SHA256"
    SHA384 = "SHA384"
    SHA512 = "SHA512"
    CRC32 = "CRC32"
    MURMUR3_32 = "MURMUR3_32"
    MURMUR3_128 = "MURMUR3_128"


class Package(Struct, frozen=True, kw_only=True):
    """Firmware or software: a file kept beside the store, or a `url` where devices find it.

    `checksum` is lower-case hex. `file` is the name of the content on disk, empty with a `url`.
    """

    id: int = 0
    kind: PackageKind
    title: str
    version: str
    tag: str = ""
    size: int = 0
    checksum: str = ""
    algorithm: ChecksumAlgorithm = ChecksumAlgorithm.SHA256
    file_name: str = ""
    file: str = ""
    url: str = ""
    created_at: int = 0

    def attributes(self) -> dict[str, Value]:
        """The shared attributes that announce it to a device (ThingsBoard contract, section 14)."""
        prefix = self.kind.value
        told: dict[str, Value] = {
            f"{prefix}_title": self.title,
            f"{prefix}_version": self.version,
            f"{prefix}_tag": self.tag or f"{self.title} {self.version}",
        }
        if self.url:
            told[f"{prefix}_url"] = self.url
            return told
        told[f"{prefix}_size"] = self.size
        told[f"{prefix}_checksum_algorithm"] = self.algorithm.value
        told[f"{prefix}_checksum"] = self.checksum
        return told


class Download(Struct, frozen=True, kw_only=True):
    """How far one device came with one package: bytes given to it, and when last (ms)."""

    kind: PackageKind
    package_id: int
    sent: int
    at: int


# ── claims ────────────────────────────────────────────────────────────────────────────────────


class ClaimResult(StrEnum):
    """How an attempt to take a device for a customer ended (ThingsBoard's `ClaimResponse`)."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CLAIMED = "CLAIMED"


# ── notices: what a running gateway must hear of at once ──────────────────────────────────────


class NoticeKind(StrEnum):
    ATTRIBUTES = "attributes"
    """Shared attributes of a device, or of all devices of a profile, changed."""
    RPC = "rpc"
    """A call was stored for a device."""
    LOGIN = "login"
    """The credentials of a device changed."""
    REMOVED = "removed"
    PROFILE = "profile"
    """A profile changed: its devices are to be treated by its new settings."""
    PACKAGE = "package"
    """A device, or a profile, is to run another package: the attributes that announce it."""


class Notice(Struct, frozen=True, kw_only=True):
    """Something was changed, perhaps by another process on the same store.

    Written in the transaction of the change, in the order of their numbers. One of a device has
    `device_id`, one of a whole profile `profile_id`. `change` goes with ATTRIBUTES and PACKAGE,
    `call_id` with RPC, `generation` (of the credentials that are good now) with LOGIN.
    """

    seq: int
    kind: NoticeKind
    at: int
    device_id: int | None = None
    profile_id: int | None = None
    change: AttributesChange | None = None
    call_id: int = 0
    generation: int = 0


# ── what happened ─────────────────────────────────────────────────────────────────────────────


class EventKind(StrEnum):
    DEVICE_PROVISION = "device:provision"
    DEVICE_CREATE = "device:create"
    DEVICE_REMOVE = "device:remove"
    DEVICE_REARM = "device:rearm"
    DEVICE_CREDENTIALS = "device:credentials"
    DEVICE_CREDENTIALS_REVOKE = "device:credentials:revoke"
    DEVICE_LOGIN = "device:login"
    """Refused, since each that succeeds would be an event of its own."""
    CERTIFICATE_ISSUE = "certificate:issue"
    CERTIFICATE_REVOKE = "certificate:revoke"
    AUTHORITY_CREATE = "authority:create"
    AUTHORITY_ROTATE = "authority:rotate"
    HANDSHAKE = "wire:handshake"
    """Handshakes that were refused or not finished, counted over a while."""
    DEVICE_ATTRIBUTES = "device:attributes"
    DEVICE_CLAIM_OFFER = "device:claim:offer"
    DEVICE_CLAIM = "device:claim"
    DEVICE_UNCLAIM = "device:unclaim"
    DEVICE_RPC = "device:rpc"
    PACKAGE_CREATE = "package:create"
    PACKAGE_REMOVE = "package:remove"
    PACKAGE_ASSIGN = "package:assign"
    PROFILE_CREATE = "profile:create"
    PROFILE_UPDATE = "profile:update"
    PROFILE_REMOVE = "profile:remove"
    PROFILE_SECRET_ROTATE = "profile:secret:rotate"  # noqa: S105


class Outcome(StrEnum):
    SUCCESS = "success"
    REFUSED = "refused"
    WARNING = "warning"


class Event(Struct, frozen=True, kw_only=True):
    """It happened, and was written down in the transaction that made it happen.

    `seq` is given by the store (0 before). `device_id` is None for what concerns no device, or a
    device that never came into being. `detail` never holds a secret.
    """

    kind: EventKind
    at: int
    peer: Peer
    outcome: Outcome = Outcome.SUCCESS
    reason: str = ""
    device_id: int | None = None
    subject: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)
    seq: int = 0
