"""The bodies of provisioning, in JSON: what a device asks, and what it is told.

The contract is ThingsBoard's device API. Its JSON reader is lenient, ours is RFC 8259; `null`
means absent, because its own SDK sends it. No message of this module repeats what was sent.
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from typing import TypeVar

import msgspec
from msgspec import structs

from gateway.core.model import (
    NOTHING_REQUESTED,
    AccessToken,
    Certificate,
    Device,
    DeviceCredentials,
    DeviceCredentialsType,
    Json,
    MqttBasic,
    Peer,
    PresharedKey,
    ProvisionKey,
    ProvisionRequest,
    RequestedCredentials,
    Revoked,
    Secret,
)
from gateway.core.nesting import MOST_LEVELS, is_shallow
from gateway.wire.call import BadPayload

Decoded = TypeVar("Decoded")

NOT_FOUND_BODY = b'{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}'
FAILURE_BODY = b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'

CREDENTIALS_TYPES = {
    kind.value: kind for kind in DeviceCredentialsType if kind is not DeviceCredentialsType.REVOKED
}
UNKNOWN_CREDENTIALS_TYPE = "credentialsType must be one of " + ", ".join(CREDENTIALS_TYPES)

_NOT_AN_OBJECT = "the payload is not a JSON object"
LEAST_NONCE, MOST_NONCE = 16, 64
MOST_HARDWARE_BYTES = 4096
_LINE = 64
"""Characters of a line of PEM (RFC 7468, section 2)."""
_MOST_ISSUERS = 64
"""Chains that are kept as they are written; an authority has one."""
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII).fullmatch
_PEM_MARKS = re.compile(r"-----(?:BEGIN|END) [A-Z0-9 ]*CERTIFICATE-----|[\r\n]")

_encode = msgspec.json.Encoder().encode


class _Asked(msgspec.Struct, rename="camel", gc=False):
    """The request's fields by ThingsBoard's names, those of the legacy form (section 6), and ours:
    what binds the answer, what proves an older one, and whether it is a trial."""

    provision_device_key: str | None = None
    provision_device_secret: str | None = None
    device_name: str | None = None
    credentials_type: str | None = None
    token: str | None = None
    client_id: str | None = None
    username: str | None = None
    password: str | None = None
    hash: str | None = None
    csr: str | None = None
    gateway: bool | str | None = None
    provision_profile_key: str | None = None
    provision_profile_secret: str | None = None
    device_type: str | None = None
    x509_cert_pub_key: str | None = None
    nonce: str | None = None
    old_credential: str | None = None
    claim_code: str | None = None
    dry_run: bool | str | None = None
    hardware: msgspec.Raw | None = None

    def __repr__(self) -> str:
        return "_Asked(***)"


class _Renewal(msgspec.Struct, gc=False):
    """A request for another certificate; our extension."""

    csr: str | None = None

    def __repr__(self) -> str:
        return "_Renewal(***)"


_ASKED = msgspec.json.Decoder(_Asked)
_ASKED_FIELDS = [(field.name, field.encode_name) for field in msgspec.structs.fields(_Asked)]
_OUR_TEXTS = frozenset({"nonce", "old_credential", "claim_code"})
_RENEWAL = msgspec.json.Decoder(_Renewal)
_TEXT = msgspec.json.Decoder(str)

OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Decodes one JSON object and leaves its members as they were written."""


# ── reading JSON ──────────────────────────────────────────────────────────────────────────────


def parse_json(decoder: msgspec.json.Decoder[Decoded], body: bytes, wrong_shape: str) -> Decoded:
    """Decode `body`. Raises `BadPayload` with `wrong_shape` if it is not what `decoder` wants.

    `BadPayload` always says undecodable here: either this is no JSON, or not such JSON at all.
    """
    try:
        if not body.isascii():
            body.decode()  # msgspec checks the UTF-8 it decodes, but not what it skips
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise BadPayload(wrong_shape, undecodable=True) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_json() from None


def text_of(name: str, raw: msgspec.Raw | None) -> str | None:
    """The member `name` as text; None when it is absent or null.

    A number or a boolean is taken as it was written (`1.0` is `"1.0"`, section 2.1). Raises
    `BadPayload` for an object or an array. `raw` must come out of `parse_json`.
    """
    if raw is None:
        return None
    written = bytes(raw)
    if written.startswith(b'"'):
        return _TEXT.decode(written)
    if written.startswith((b"{", b"[")):
        raise BadPayload(f"{name} must be text")
    return None if written == b"null" else written.decode()


def _not_json() -> BadPayload:
    return BadPayload("the payload is not valid JSON", undecodable=True)


# ── what a device asks ────────────────────────────────────────────────────────────────────────


def decode_provision(body: bytes, peer: Peer) -> ProvisionRequest:
    """Read a provisioning request in JSON (sections 2.1 and 6).

    `device_name` is passed on untrimmed: the core tells a blank name from an absent one. Raises
    `BadPayload`: undecodable when this is no JSON object (a protobuf message may then be tried),
    decodable when the key or secret is missing or a field of ThingsBoard's cannot be understood.
    ThingsBoard takes no notice of members it does not know, and devices made for it may have those
    of our names for something else: one that is not of our form is not heeded, unless it is a
    trial, which is ours alone and told.
    """
    try:
        if not body.isascii():
            body.decode()
        asked = _ASKED.decode(body)
    except msgspec.ValidationError:
        asked = _asked_in_odd_types(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_json() from None
    request = ProvisionRequest(
        proof=_proof(asked),
        peer=peer,
        device_name=asked.device_name or None,
        device_type=asked.device_type or None,
        credentials=_credentials(asked),
        gateway=asked.gateway is not None and _is_true(asked.gateway),
        legacy=asked.provision_device_key is None,
    )
    if (
        asked.nonce is None
        and asked.hardware is None
        and asked.old_credential is None
        and asked.claim_code is None
        and asked.dry_run is None
    ):
        return request
    trial = _is_trial(asked.dry_run)
    return structs.replace(
        request,
        nonce=_nonce(asked.nonce, told=trial),
        old_credential=Secret(asked.old_credential or ""),
        claim_code=Secret(asked.claim_code or ""),
        trial=trial,
        hardware=_hardware(asked.hardware, told=trial),
    )


def decode_provision_either(body: bytes, peer: Peer) -> tuple[ProvisionRequest, bool]:
    """Read a request that is JSON or else protobuf (section 2.2); True means protobuf.

    Raises `BadPayload` as `decode_provision` does, undecodable when it is neither.
    """
    try:
        return decode_provision(body, peer), False
    except BadPayload as exc:
        if not exc.undecodable:
            raise
    # Few fleets speak protobuf; importing its runtime is left to the first that does.
    from gateway.dialects.thingsboard import protobuf

    return protobuf.decode_provision(body, peer), True


def decode_renewal(body: bytes) -> str:
    """The signing request of `{"csr":".."}`. Raises `BadPayload`."""
    csr = parse_json(_RENEWAL, body, "a renewal must be an object with a csr").csr
    if not csr:
        raise BadPayload("csr is missing")
    return csr


def strip_pem(text: str) -> str:
    """A certificate without its BEGIN and END lines and line breaks: what ids are made of."""
    return _PEM_MARKS.sub("", text)


def _asked_in_odd_types(body: bytes) -> _Asked:
    """Read what the typed decoder refused: numbers where text is wanted, or no object at all."""
    members = parse_json(OBJECT, body, _NOT_AN_OBJECT)
    asked = _Asked()
    for field, name in _ASKED_FIELDS:
        if field == "gateway":
            asked.gateway = _flag(members.get(name)) if name in members else None
        elif field == "hardware":
            asked.hardware = members.get(name)
        elif field in _OUR_TEXTS:
            setattr(asked, field, _text_or_none(name, members.get(name)))
        else:
            setattr(asked, field, text_of(name, members.get(name)))
    return asked


def _text_or_none(name: str, raw: msgspec.Raw | None) -> str | None:
    try:
        return text_of(name, raw)
    except BadPayload:
        return None


def _flag(raw: msgspec.Raw | None) -> bool:
    return raw is not None and bytes(raw).lower() in (b"true", b'"true"')


def _is_true(gateway: bool | str) -> bool:
    return gateway is True or (isinstance(gateway, str) and gateway.lower() == "true")


def _is_trial(asked: bool | str | None) -> bool:
    """Whoever wants a trial must not be provisioned by a slip. Raises `BadPayload`."""
    match asked:
        case bool():
            return asked
        case None | "":
            return False
        case _ if asked.lower() in ("true", "false"):
            return asked.lower() == "true"
        case _:
            raise BadPayload("dryRun must be true or false")


def _nonce(text: str | None, *, told: bool) -> Secret:
    """16 to 64 printable ASCII characters; another one binds nothing. `told`: raises `BadPayload`
    instead."""
    if not text:
        return Secret("")
    if LEAST_NONCE <= len(text) <= MOST_NONCE and text.isascii() and text.isprintable():
        return Secret(text)
    if told:
        raise BadPayload(f"nonce must be {LEAST_NONCE} to {MOST_NONCE} printable ASCII characters")
    return Secret("")


def _hardware(raw: msgspec.Raw | None, *, told: bool) -> Json | None:
    """What a device tells of itself: an object of at most 4,096 bytes; None for anything else.
    `told`: raises `BadPayload` instead."""
    written = b"null" if raw is None else bytes(raw)
    if written == b"null":
        return None
    if len(written) > MOST_HARDWARE_BYTES or not written.startswith(b"{"):
        wrong = f"hardware must be an object of at most {MOST_HARDWARE_BYTES} bytes"
    elif not is_shallow(text := written.decode()):
        wrong = f"hardware must go at most {MOST_LEVELS} levels deep"
    else:
        return Json(text)
    if told:
        raise BadPayload(wrong)
    return None


def _proof(asked: _Asked) -> ProvisionKey:
    """The key and secret, by their present or their legacy names; empty ones are the core's."""
    key, secret = asked.provision_device_key, asked.provision_device_secret
    if key is None:
        key = asked.provision_profile_key
    if secret is None:
        secret = asked.provision_profile_secret
    if key is None:
        raise BadPayload("provisionDeviceKey is missing")
    if secret is None:
        raise BadPayload("provisionDeviceSecret is missing")
    return ProvisionKey(Secret(key), Secret(secret))


def _credentials(asked: _Asked) -> RequestedCredentials:
    if asked.credentials_type is None and not (
        asked.token
        or asked.client_id
        or asked.username
        or asked.password
        or asked.hash
        or asked.csr
        or asked.x509_cert_pub_key
    ):
        return NOTHING_REQUESTED  # what nearly every device asks
    if asked.csr:
        return _to_be_signed(asked, asked.csr)
    kind, certificate = _kind(asked.credentials_type), asked.hash
    if not certificate and asked.x509_cert_pub_key:
        kind, certificate = DeviceCredentialsType.X509_CERTIFICATE, asked.x509_cert_pub_key
    return requested_credentials(
        kind, asked.token, asked.client_id, asked.username, asked.password, certificate
    )


def _to_be_signed(asked: _Asked, csr: str) -> RequestedCredentials:
    """A signing request says by itself what the device wants to have; our extension."""
    if asked.credentials_type not in (None, DeviceCredentialsType.X509_CERTIFICATE.value):
        raise BadPayload("csr goes with credentialsType X509_CERTIFICATE")
    if asked.hash or asked.x509_cert_pub_key:
        raise BadPayload("csr and a certificate exclude each other")
    return RequestedCredentials(type=DeviceCredentialsType.X509_CERTIFICATE, csr=csr)


def _kind(name: str | None) -> DeviceCredentialsType:
    if name is None:
        return DeviceCredentialsType.ACCESS_TOKEN
    try:
        return CREDENTIALS_TYPES[name]
    except KeyError:
        raise BadPayload(UNKNOWN_CREDENTIALS_TYPE) from None


def requested_credentials(
    kind: DeviceCredentialsType,
    token: str | None,
    client_id: str | None,
    username: str | None,
    password: str | None,
    certificate: str | None,
) -> RequestedCredentials:
    """What a device asks to have; None and empty members alike mean it did not say."""
    return RequestedCredentials(
        type=kind,
        token=Secret(token or ""),
        client_id=client_id or "",
        username=username or "",
        password=Secret(password or ""),
        certificate=strip_pem(certificate) if certificate else "",
    )


# ── what a device is told ─────────────────────────────────────────────────────────────────────


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


def decode_gateway_provision(body: bytes, peer: Peer) -> tuple[ProvisionRequest, int | None]:
    """A request a gateway makes for another device, and the number its answer is to repeat.

    Raises `BadPayload` as `decode_provision` does.
    """
    request = decode_provision(body, peer)
    text = text_of("id", parse_json(OBJECT, body, _NOT_AN_OBJECT).get("id"))
    if text is None:
        return request, None
    if not _WHOLE(text):
        raise BadPayload("id must be a whole number")
    return request, int(text)


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
