"""Provisioning as protobuf messages (`device_api.proto`, section 15).

Functions have the names of their JSON twins in `payloads`. Importing this module loads the
protobuf runtime, so it is imported when first needed.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from gateway.core.model import (
    AccessToken,
    Certificate,
    DeviceCredentials,
    DeviceCredentialsType,
    MqttBasic,
    Peer,
    PresharedKey,
    ProvisionKey,
    ProvisionRequest,
    Revoked,
    Secret,
)
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.dialects.thingsboard.payloads import (
    encode_mqtt_basic,
    requested_credentials,
)
from gateway.wire.call import BadPayload

NOT_FOUND_BODY = wire.ProvisionDeviceResponseMsg(status=wire.NOT_FOUND).SerializeToString()
FAILURE_BODY = wire.ProvisionDeviceResponseMsg(status=wire.FAILURE).SerializeToString()

_KINDS: dict[int, DeviceCredentialsType] = {
    wire.ACCESS_TOKEN: DeviceCredentialsType.ACCESS_TOKEN,
    wire.X509_CERTIFICATE: DeviceCredentialsType.X509_CERTIFICATE,
    wire.MQTT_BASIC: DeviceCredentialsType.MQTT_BASIC,
    wire.LWM2M_CREDENTIALS: DeviceCredentialsType.LWM2M_CREDENTIALS,
}
_UNKNOWN_KIND = "credentialsType must be one of " + ", ".join(_KINDS.values())


def decode_provision(body: bytes, peer: Peer) -> ProvisionRequest:
    """Read a `ProvisionDeviceRequestMsg`; fields that are not there are empty, never missing.

    Raises `BadPayload`: undecodable when this is no protobuf, decodable for a credentials type
    that does not exist. An empty body is a message with an empty key: the core refuses it.
    """
    sent = _parsed(body)
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
    )


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


def _parsed(body: bytes) -> wire.ProvisionDeviceRequestMsg:
    message = wire.ProvisionDeviceRequestMsg()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise BadPayload(
            f"the payload is neither JSON nor a {message.DESCRIPTOR.name}", undecodable=True
        ) from None
    return message
