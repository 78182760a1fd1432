"""Provisioning as protobuf messages (`device_api.proto`, section 15).

Functions have the names of their JSON twins in `payloads`. Importing this module loads the
protobuf runtime, so it is imported when first needed.
"""

from __future__ import annotations

import msgspec
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from gateway.core.model import (
    AccessToken,
    Certificate,
    DeviceCredentials,
    DeviceCredentialsType,
    Json,
    MqttBasic,
    Peer,
    PresharedKey,
    ProvisionKey,
    ProvisionRequest,
    Refused,
    Revoked,
    Secret,
)
from gateway.core.refusals import REFUSALS
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.dialects.thingsboard.answers import encode_mqtt_basic
from gateway.dialects.thingsboard.extensions import MOST_HARDWARE_BYTES, hardware_of, nonce_of
from gateway.dialects.thingsboard.payloads import parse_json, requested_credentials
from gateway.dialects.thingsboard.problems import is_not_found
from gateway.wire.call import BadPayload

_KINDS: dict[int, DeviceCredentialsType] = {
    wire.ACCESS_TOKEN: DeviceCredentialsType.ACCESS_TOKEN,
    wire.X509_CERTIFICATE: DeviceCredentialsType.X509_CERTIFICATE,
    wire.MQTT_BASIC: DeviceCredentialsType.MQTT_BASIC,
    wire.LWM2M_CREDENTIALS: DeviceCredentialsType.LWM2M_CREDENTIALS,
}
_UNKNOWN_KIND = "credentialsType must be one of " + ", ".join(_KINDS.values())
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)
_OURS = {
    field.number: field.name
    for field in wire.ProvisionDeviceRequestMsg.DESCRIPTOR.fields
    if field.number > 1000
}
_LONGEST_WAIT_S = 2**32 - 1
"""What `retryAfter` has room for. A profile may open in a hundred years and more."""


def decode_provision(body: bytes, peer: Peer) -> ProvisionRequest:
    """Read a `ProvisionDeviceRequestMsg`; fields that are not there are empty, never missing.

    Raises `BadPayload`: undecodable when this is no protobuf, decodable for a credentials type
    that does not exist, and for fields of ours of another form: unlike JSON's members nobody else
    has them. An empty body is a message with an empty key: the core refuses it.
    """
    sent = _parsed(body)
    _check_ours(sent)
    kind = _KINDS.get(sent.credentialsType)
    if kind is None:
        raise BadPayload(_UNKNOWN_KIND)
    proof, asked = sent.provisionDeviceCredentialsMsg, sent.credentialsDataProto
    basic = asked.validateBasicMqttCredRequestMsg
    return ProvisionRequest(
        proof=ProvisionKey(Secret(proof.provisionDeviceKey), Secret(proof.provisionDeviceSecret)),
        peer=peer,
        device_name=sent.deviceName or None,
        credentials=requested_credentials(
            kind,
            asked.validateDeviceTokenRequestMsg.token,
            basic.clientId,
            basic.userName,
            basic.password,
            asked.validateDeviceX509CertRequestMsg.hash,
        ),
        gateway=sent.gateway,
        nonce=nonce_of(sent.nonce, told=True),
        old_credential=Secret(sent.oldCredential),
        claim_code=Secret(sent.claimCode),
        trial=sent.dryRun,
        hardware=_hardware(sent.hardware),
    )


def _check_ours(sent: wire.ProvisionDeviceRequestMsg) -> None:
    """A field by one of our numbers that is of another type is, to the parser, one it does not
    know: who wrote `dryRun` as a text would be provisioned."""
    unknown = UnknownFieldSet(sent)
    for number in (unknown[at].field_number for at in range(len(unknown))):
        if number in _OURS:
            raise BadPayload(f"{_OURS[number]} is of another type")


def _hardware(text: str) -> Json | None:
    if not text:
        return None
    if len(text) > MOST_HARDWARE_BYTES:
        return hardware_of(text.encode(), told=True)  # which refuses it
    try:
        written = parse_json(_ANYTHING, text.encode(), "")
    except BadPayload:
        raise BadPayload("hardware must be a JSON object") from None
    return hardware_of(bytes(written), told=True)


def encode_provisioned(credentials: DeviceCredentials) -> bytes:
    """A `ProvisionDeviceResponseMsg` of success; an MQTT triple is its JSON text (section 2.5).

    Raises `ValueError` for credentials the message has no word for.
    """
    match credentials:
        case AccessToken(token):
            value, kind = token.reveal(), wire.ACCESS_TOKEN
        case MqttBasic():
            value, kind = encode_mqtt_basic(credentials).decode(), wire.MQTT_BASIC
        case Certificate(text):
            value, kind = text, wire.X509_CERTIFICATE
        case PresharedKey() | Revoked():
            raise ValueError(f"{credentials.type.value} cannot be told in protobuf")
    return wire.ProvisionDeviceResponseMsg(
        status=wire.SUCCESS, credentialsType=kind, credentialsValue=value
    ).SerializeToString()


def with_members(provisioned: bytes, members: bytes) -> bytes:
    """The message of a success, with a JSON object of what its profile tells besides."""
    return (
        provisioned + wire.ProvisionDeviceResponseMsg(members=members.decode()).SerializeToString()
    )


def encode_refused(refused: Refused) -> bytes:
    """A `ProvisionDeviceResponseMsg`: to the byte ThingsBoard's, but for a wait, and the reason's
    code where the caller may know it."""
    row = REFUSALS[refused.reason]
    return wire.ProvisionDeviceResponseMsg(
        status=wire.NOT_FOUND if is_not_found(refused.reason) else wire.FAILURE,
        retryAfter=min(refused.retry_after_s, _LONGEST_WAIT_S),
        code=row.code if refused.detailed and row.proven else "",
    ).SerializeToString()


def encode_rehearsal(refused: Refused | None, told: bytes) -> bytes:
    """The answer to a trial: the status of the request itself, and what JSON would tell."""
    message = wire.ProvisionDeviceResponseMsg(status=wire.SUCCESS)
    if refused is not None:
        message.ParseFromString(encode_refused(refused))
    message.rehearsal = told.decode()
    return message.SerializeToString()


def _parsed(body: bytes) -> wire.ProvisionDeviceRequestMsg:
    message = wire.ProvisionDeviceRequestMsg()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise BadPayload(
            f"the payload is neither JSON nor a {message.DESCRIPTOR.name}", undecodable=True
        ) from None
    return message
