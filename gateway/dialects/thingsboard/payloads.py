"""The bodies of provisioning, in JSON: what a device asks. (`answers` has what it is told.)

The contract is ThingsBoard's device API. Its JSON reader is lenient, ours is RFC 8259; `null`
means absent, because its own SDK sends it. No message of this module repeats what was sent.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from msgspec import structs

from gateway.core.model import (
    NOTHING_REQUESTED,
    DeviceCredentialsType,
    Peer,
    ProvisionKey,
    ProvisionRequest,
    RequestedCredentials,
    Secret,
)
from gateway.dialects.thingsboard.extensions import hardware_of, is_trial, nonce_of
from gateway.wire.call import BadPayload

Decoded = TypeVar("Decoded")

CREDENTIALS_TYPES = {
    kind.value: kind for kind in DeviceCredentialsType if kind is not DeviceCredentialsType.REVOKED
}
UNKNOWN_CREDENTIALS_TYPE = "credentialsType must be one of " + ", ".join(CREDENTIALS_TYPES)

_NOT_AN_OBJECT = "the payload is not a JSON object"
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII).fullmatch
_PEM_MARKS = re.compile(r"-----(?:BEGIN|END) [A-Z0-9 ]*CERTIFICATE-----|[\r\n]")


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
    trial = is_trial(asked.dry_run)
    return structs.replace(
        request,
        nonce=nonce_of(asked.nonce, told=trial),
        old_credential=Secret(asked.old_credential or ""),
        claim_code=Secret(asked.claim_code or ""),
        trial=trial,
        hardware=None if asked.hardware is None else hardware_of(bytes(asked.hardware), told=trial),
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
    if kind is DeviceCredentialsType.ACCESS_TOKEN and not (
        token or client_id or username or password or certificate
    ):
        return NOTHING_REQUESTED  # one request, whether it names the type or not
    return RequestedCredentials(
        type=kind,
        token=Secret(token or ""),
        client_id=client_id or "",
        username=username or "",
        password=Secret(password or ""),
        certificate=strip_pem(certificate) if certificate else "",
    )
