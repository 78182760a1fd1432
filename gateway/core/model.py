"""The nouns. Everything the product talks about, in one place and in no wire's words.

All types are frozen values. Times are integers, milliseconds since the epoch, UTC. A secret is
never a `str`: it is a `Secret`, which shows itself only when asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from hmac import compare_digest
from typing import Any, TypeAlias

from msgspec import Struct, field

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
    SHELL = "shell"


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
    this profile and was never provisioned may then be claimed, once. `sections` holds the tables
    a dialect reads (`[blynk]`); the core carries them unread. `source` is the file that defines
    the profile, or None for one that lives in the store alone.
    """

    id: int
    name: str
    provision_type: ProvisionType = ProvisionType.DISABLED
    description: str = ""
    transport: ProfileTransport = ProfileTransport.DEFAULT
    pre_provision_allowed: bool = False
    require_readable_certificate: bool = False
    organisation_id: int = ROOT_ORGANISATION
    sections: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None

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


DeviceCredentials: TypeAlias = AccessToken | MqttBasic | Certificate


class RequestedCredentials(Struct, frozen=True, kw_only=True):
    """The credentials a device asks to have, as far as it said anything. All may be absent."""

    type: DeviceCredentialsType = DeviceCredentialsType.ACCESS_TOKEN
    token: Secret = Secret("")
    client_id: str = ""
    username: str = ""
    password: Secret = Secret("")
    certificate: str = ""

    @property
    def any_given(self) -> bool:
        return bool(
            self.token or self.client_id or self.username or self.password or self.certificate
        )

    def __repr__(self) -> str:
        return _members_set(self)


def _members_set(struct: MqttBasic | RequestedCredentials) -> str:
    """Which members are set, and nothing of what they are: `MqttBasic(username=***)`."""
    names = ("token", "client_id", "username", "password", "certificate")
    members = [name for name in names if getattr(struct, name, None)]
    return f"{type(struct).__name__}({', '.join(f'{name}=***' for name in members)})"


# ── devices ───────────────────────────────────────────────────────────────────────────────────


class Device(Struct, frozen=True, kw_only=True):
    """One device. `id` is its number (small integer, never reused), `uuid` its outside name.

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


class Provisioned(Struct, frozen=True):
    """The device exists, is on disk, and these are its credentials."""

    device: Device
    credentials: DeviceCredentials


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


# ── what happened ─────────────────────────────────────────────────────────────────────────────


class EventKind(StrEnum):
    DEVICE_PROVISION = "device:provision"
    DEVICE_CREATE = "device:create"
    DEVICE_REMOVE = "device:remove"
    DEVICE_REARM = "device:rearm"
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
