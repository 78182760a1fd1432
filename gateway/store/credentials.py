"""Credentials as the bytes that are sealed, and back."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from gateway.core.model import (
    AccessToken,
    Certificate,
    DeviceCredentials,
    DeviceCredentialsType,
    MqttBasic,
    PresharedKey,
    Revoked,
    Secret,
)
from gateway.store.vault import Vault


class _MqttBasicRecord(Struct, array_like=True):
    client_id: str
    username: str
    password: str


class _PresharedKeyRecord(Struct, array_like=True):
    identity: str
    key: str


def credentials_to_bytes(credentials: DeviceCredentials) -> bytes:
    """What is sealed. Its kind is known from the row."""
    match credentials:
        case AccessToken(token):
            return token.reveal().encode()
        case MqttBasic(client_id, username, password):
            record = _MqttBasicRecord(client_id, username, password.reveal())
            return msgspec.json.encode(record)
        case Certificate(text):
            return text.encode()
        case PresharedKey(identity, key):
            return msgspec.json.encode(_PresharedKeyRecord(identity, key.reveal()))
        case Revoked(mark):
            return mark.encode()


def credentials_from_bytes(kind: str, clear: bytes) -> DeviceCredentials:
    """The inverse of `credentials_to_bytes`."""
    match DeviceCredentialsType(kind):
        case DeviceCredentialsType.MQTT_BASIC:
            record = msgspec.json.decode(clear, type=_MqttBasicRecord)
            return MqttBasic(record.client_id, record.username, Secret(record.password))
        case DeviceCredentialsType.X509_CERTIFICATE:
            return Certificate(clear.decode())
        case DeviceCredentialsType.DTLS_PSK:
            pair = msgspec.json.decode(clear, type=_PresharedKeyRecord)
            return PresharedKey(pair.identity, Secret(pair.key))
        case DeviceCredentialsType.REVOKED:
            return Revoked(clear.decode())
        case _:
            return AccessToken(Secret(clear.decode()))


def sealed_credentials(vault: Vault, credentials: DeviceCredentials) -> tuple[bytes, bytes]:
    """The digest they are found by, and their sealed bytes."""
    digest = vault.digest(credentials.id.reveal())
    return digest, vault.seal(credentials_to_bytes(credentials), digest)
