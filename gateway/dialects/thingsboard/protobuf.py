"""The same requests and answers as protobuf messages (`device_api.proto`, section 15).

Functions have the names of their JSON twins in `payloads` and `readings`. Importing this module
loads the protobuf runtime, so it is imported when first needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from gateway.core.model import (
    AccessToken,
    Attributes,
    AttributesSelection,
    Certificate,
    DeviceCredentials,
    DeviceCredentialsType,
    Json,
    MqttBasic,
    Peer,
    ProvisionKey,
    ProvisionRequest,
    Secret,
    Value,
)
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.dialects.thingsboard.payloads import (
    UNKNOWN_CREDENTIALS_TYPE,
    encode_mqtt_basic,
    requested_credentials,
)
from gateway.dialects.thingsboard.readings import select
from gateway.wire.call import BadPayload

AnyMessage = TypeVar("AnyMessage", bound=Message)

NOT_FOUND_BODY = wire.ProvisionDeviceResponseMsg(status=wire.NOT_FOUND).SerializeToString()
FAILURE_BODY = wire.ProvisionDeviceResponseMsg(status=wire.FAILURE).SerializeToString()

_KINDS: dict[int, DeviceCredentialsType] = {
    wire.ACCESS_TOKEN: DeviceCredentialsType.ACCESS_TOKEN,
    wire.X509_CERTIFICATE: DeviceCredentialsType.X509_CERTIFICATE,
    wire.MQTT_BASIC: DeviceCredentialsType.MQTT_BASIC,
    wire.LWM2M_CREDENTIALS: DeviceCredentialsType.LWM2M_CREDENTIALS,
}


# ── provisioning ──────────────────────────────────────────────────────────────────────────────


def decode_provision(body: bytes, peer: Peer) -> ProvisionRequest:
    """Read a `ProvisionDeviceRequestMsg`; fields that are not there are empty, never missing.

    Raises `BadPayload`: undecodable when this is no protobuf, decodable for a credentials type
    that does not exist. An empty body is a message with an empty key: the core refuses it.
    """
    sent = _parsed(wire.ProvisionDeviceRequestMsg(), body)
    kind = _KINDS.get(sent.credentialsType)
    if kind is None:
        raise BadPayload(UNKNOWN_CREDENTIALS_TYPE)
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
    )


def encode_provisioned(credentials: DeviceCredentials) -> bytes:
    """A `ProvisionDeviceResponseMsg` of success; an MQTT triple is its JSON text (section 2.5)."""
    match credentials:
        case AccessToken(token):
            value, kind = token.reveal(), wire.ACCESS_TOKEN
        case MqttBasic():
            value, kind = encode_mqtt_basic(credentials).decode(), wire.MQTT_BASIC
        case Certificate(text):
            value, kind = text, wire.X509_CERTIFICATE
    return wire.ProvisionDeviceResponseMsg(
        status=wire.SUCCESS, credentialsType=kind, credentialsValue=value
    ).SerializeToString()


# ── attributes ────────────────────────────────────────────────────────────────────────────────


def decode_attributes_request(body: bytes) -> AttributesSelection:
    """Read an `AttributesRequest`; both lists empty ask for everything."""
    sent = _parsed(wire.AttributesRequest(), body)
    return select(sent.clientKeys, sent.sharedKeys)


def encode_attributes(request_id: int, found: Attributes) -> bytes:
    """A `GetAttributeResponseMsg`. The times of the values are not told (`ts` is 0).

    Raises `BadPayload` when `request_id` does not fit the message's 32 bits.
    """
    if not -(2**31) <= request_id < 2**31:
        raise BadPayload("the request id must fit 32 bits")
    return wire.GetAttributeResponseMsg(
        requestId=request_id,
        clientAttributeList=_listed(found.client),
        sharedAttributeList=_listed(found.shared),
    ).SerializeToString()


def _listed(values: Mapping[str, Value]) -> list[wire.TsKvProto]:
    return [wire.TsKvProto(kv=_key_value(key, value)) for key, value in values.items()]


def _key_value(key: str, value: Value) -> wire.KeyValueProto:
    match value:
        case bool():
            return wire.KeyValueProto(key=key, type=wire.BOOLEAN_V, bool_v=value)
        case int():
            return wire.KeyValueProto(key=key, type=wire.LONG_V, long_v=value)
        case float():
            return wire.KeyValueProto(key=key, type=wire.DOUBLE_V, double_v=value)
        case str():
            return wire.KeyValueProto(key=key, type=wire.STRING_V, string_v=value)
        case Json(text):
            return wire.KeyValueProto(key=key, type=wire.JSON_V, json_v=text)


def _parsed(message: AnyMessage, body: bytes) -> AnyMessage:
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise BadPayload(
            f"the payload is neither JSON nor a {message.DESCRIPTOR.name}", undecodable=True
        ) from None
    return message
