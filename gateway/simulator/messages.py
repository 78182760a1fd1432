"""Provisioning requests as devices write them, and answers as they read them.

The contract's sections 2.1, 2.5 and 15. JSON is written here by hand and not by the dialect, so
that the two can disagree; for protobuf the message definitions are the contract itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.core.model import Secret
from gateway.simulator.device import SUCCESS, SimulatorError


class Wish(Struct, frozen=True, kw_only=True):
    """What a device asks for beside its admission; empty members are left out of the request.

    `credentials_type` is the contract's name (`ACCESS_TOKEN`, `MQTT_BASIC`, `X509_CERTIFICATE`).
    `csr` is a signing request, PEM. What follows `gateway` is this gateway's own.
    """

    device_name: str = ""
    credentials_type: str = ""
    token: Secret = Secret("")
    client_id: str = ""
    username: str = ""
    password: Secret = Secret("")
    certificate: str = ""
    csr: str = ""
    gateway: bool = False
    nonce: Secret = Secret("")
    hardware: Mapping[str, Any] = {}
    old_credential: Secret = Secret("")
    claim_code: Secret = Secret("")
    dry_run: bool = False


def json_request(key: Secret, secret: Secret, wish: Wish) -> bytes:
    """The request as JSON."""
    body: dict[str, Any] = {
        "deviceName": wish.device_name,
        "provisionDeviceKey": key.reveal(),
        "provisionDeviceSecret": secret.reveal(),
        "credentialsType": wish.credentials_type,
        "token": wish.token.reveal(),
        "clientId": wish.client_id,
        "username": wish.username,
        "password": wish.password.reveal(),
        "hash": wish.certificate,
        "csr": wish.csr,
        "gateway": wish.gateway,
        "nonce": wish.nonce.reveal(),
        "hardware": wish.hardware,
        "oldCredential": wish.old_credential.reveal(),
        "claimCode": wish.claim_code.reveal(),
        "dryRun": wish.dry_run,
    }
    said = {name: value for name, value in body.items() if value}
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()


def protobuf_request(key: Secret, secret: Secret, wish: Wish) -> bytes:
    """The request as a `ProvisionDeviceRequestMsg`, which has no place for a signing request."""
    from gateway.dialects.thingsboard import device_api_pb2 as wire

    message = wire.ProvisionDeviceRequestMsg(
        deviceName=wish.device_name,
        credentialsType=wish.credentials_type or "ACCESS_TOKEN",
        gateway=wish.gateway,
    )
    proof = message.provisionDeviceCredentialsMsg
    proof.provisionDeviceKey, proof.provisionDeviceSecret = key.reveal(), secret.reveal()
    asked = message.credentialsDataProto
    if wish.token:
        asked.validateDeviceTokenRequestMsg.token = wish.token.reveal()
    if wish.certificate:
        asked.validateDeviceX509CertRequestMsg.hash = wish.certificate
    basic = asked.validateBasicMqttCredRequestMsg
    basic.clientId, basic.userName = wish.client_id, wish.username
    basic.password = wish.password.reveal()
    return bytes(message.SerializeToString())


def json_of_protobuf(answer: bytes) -> bytes:
    """A `ProvisionDeviceResponseMsg` as the JSON answer it stands for.

    Raises `SimulatorError` when it is none.
    """
    from google.protobuf.message import DecodeError

    from gateway.dialects.thingsboard import device_api_pb2 as wire

    message = wire.ProvisionDeviceResponseMsg()
    try:
        message.ParseFromString(answer)
        status = wire.ResponseStatus.Name(message.status)
        kind = wire.CredentialsType.Name(message.credentialsType)
        if status != SUCCESS:
            return json.dumps({"status": status}).encode()
        value = message.credentialsValue
        triple = json.loads(value) if kind == "MQTT_BASIC" else value
    except (DecodeError, ValueError):
        raise SimulatorError("the answer is not a provisioning answer") from None
    return json.dumps(
        {"credentialsValue": triple, "credentialsType": kind, "status": status}
    ).encode()
