"""What a device shows, and what it asks to have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from gateway.core.model.secrets import Secret


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
        return self is not NOTHING_REQUESTED and bool(
            self.token
            or self.client_id
            or self.username
            or self.password
            or self.certificate
            or self.csr
        )

    def __repr__(self) -> str:
        return _members_set(self)


NOTHING_REQUESTED = RequestedCredentials()
"""Of a device that leaves all to us. Most; and it costs nothing to see."""


def _members_set(struct: MqttBasic | RequestedCredentials) -> str:
    """Which members are set, and nothing of what they are: `MqttBasic(username=***)`."""
    names = ("token", "client_id", "username", "password", "certificate", "csr")
    members = [name for name in names if getattr(struct, name, None)]
    return f"{type(struct).__name__}({', '.join(f'{name}=***' for name in members)})"
