"""The bodies of provisioning, in JSON: what a device is told, in ThingsBoard's order of keys."""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache

import msgspec

from gateway.core.model import (
    AccessToken,
    Certificate,
    Device,
    DeviceCredentials,
    MqttBasic,
    PresharedKey,
    Revoked,
)

NOT_FOUND_BODY = b'{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}'
FAILURE_BODY = b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'

_LINE = 64
"""Characters of a line of PEM (RFC 7468, section 2)."""
_MOST_ISSUERS = 64
"""Chains that are kept as they are written; an authority has one."""

_encode = msgspec.json.Encoder().encode


def encode_provisioned(credentials: DeviceCredentials) -> bytes:
    """The SUCCESS body of section 2.5, in its order of keys."""
    match credentials:
        case AccessToken(token):
            value, kind = _encode(token.reveal()), b"ACCESS_TOKEN"
        case MqttBasic():
            value, kind = encode_mqtt_basic(credentials), b"MQTT_BASIC"
        case Certificate(text):
            value, kind = _encode(text), b"X509_CERTIFICATE"
        case PresharedKey(identity, secret):
            value, kind = _encode({"identity": identity, "key": secret.reveal()}), b"DTLS_PSK"
        case Revoked():
            raise ValueError("revoked credentials are nobody's to be told")
    return b'{"credentialsValue":%b,"credentialsType":"%b","status":"SUCCESS"}' % (value, kind)


def encode_legacy(provisioned: bytes, device: Device, credentials: DeviceCredentials) -> bytes:
    """A SUCCESS body with what the answers of 2020 told besides (section 6)."""
    told = _encode({"deviceId": device.uuid, "credentialsId": credentials.id.reveal()})
    return b"%b,%b" % (provisioned[:-1], told[1:])


def encode_signed(credentials: Certificate, issuers: tuple[bytes, ...], csr: str) -> bytes:
    """The SUCCESS body for a certificate that was signed on `csr`, with its issuers (DER).

    It begins as ThingsBoard's does. What follows is in the form of the request: PEM, the leaf
    once more and its issuers; or base64 of DER, the issuers alone.
    """
    known = encode_provisioned(credentials)[:-1]
    if not _is_pem(csr):
        return b'%b,"certificateChain":%b}' % (known, _listed(issuers))
    leaf = _encode(_as_pem(credentials.text))
    return b'%b,"certificate":%b,"certificateChain":%b}' % (known, leaf, _concatenated(issuers))


def _is_pem(text: str) -> bool:
    """Whether a device speaks PEM; else base64 of DER, of which no character is a hyphen."""
    return "-----BEGIN" in text


@lru_cache(_MOST_ISSUERS)
def _listed(issuers: tuple[bytes, ...]) -> bytes:
    return _encode([b64encode(der).decode() for der in issuers])


@lru_cache(_MOST_ISSUERS)
def _concatenated(issuers: tuple[bytes, ...]) -> bytes:
    return _encode("".join(_as_pem(b64encode(der).decode()) for der in issuers))


def _as_pem(text: str) -> str:
    lines = "\n".join(text[at : at + _LINE] for at in range(0, len(text), _LINE))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def encode_mqtt_basic(credentials: MqttBasic) -> bytes:
    """The triple as a JSON object. A member that is not set is `""` (section 2.5 allows null)."""
    return _encode(
        {
            "clientId": credentials.client_id,
            "userName": credentials.username,
            "password": credentials.password.reveal(),
        }
    )


def error_body(status: int, message: str, now_ms: int) -> bytes:
    """The body of an HTTP error (sections 3 and 17). `status` is HTTP's; the time is in ms."""
    return _encode(
        {
            "status": status,
            "message": message,
            "errorCode": _error_code(status),
            "timestamp": now_ms,
        }
    )


_ERROR_CODES = {401: 10, 403: 20, 404: 32, 429: 33}
_BAD_REQUEST_CODE = 31
_GENERAL_CODE = 2


def _error_code(status: int) -> int:
    """ThingsBoard's number for an HTTP status; other 4xx count as a bad request."""
    if 400 <= status < 500:
        return _ERROR_CODES.get(status, _BAD_REQUEST_CODE)
    return _GENERAL_CODE
