"""The protobuf twins: the same core types, the field numbers of the contract, arbitrary bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    RequestedCredentials,
    Revoked,
    Secret,
    Wire,
)
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.dialects.thingsboard import payloads, protobuf
from gateway.wire.call import BadPayload

PEER = Peer(Wire.MQTT, "192.0.2.7:50123")


def field(number: int, content: bytes | int) -> bytes:
    """One field as the wire has it: a varint below 128, or up to 127 bytes."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


PROOF = field(3, field(1, b"key-1") + field(2, b"secret-1"))


# ── provisioning ──────────────────────────────────────────────────────────────────────────────


def test_a_request_is_read_by_its_field_numbers() -> None:
    """Bytes put together by hand from the contract's numbers give the whole request."""
    body = (
        field(1, b" dev-1 ")
        + field(2, 2)
        + PROOF
        + field(
            4,
            field(1, field(1, b"t"))
            + field(2, field(1, b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"))
            + field(3, field(1, b"c") + field(2, b"u") + field(3, b"p")),
        )
        + field(5, 1)
    )
    assert protobuf.decode_provision(body, PEER) == ProvisionRequest(
        proof=ProvisionKey(Secret("key-1"), Secret("secret-1")),
        peer=PEER,
        device_name=" dev-1 ",
        gateway=True,
        credentials=RequestedCredentials(
            type=DeviceCredentialsType.MQTT_BASIC,
            token=Secret("t"),
            client_id="c",
            username="u",
            password=Secret("p"),
            certificate="MIIB",
        ),
    )


def test_both_formats_mean_the_same_request() -> None:
    """A request in protobuf equals the same request in JSON."""
    sent = {
        "provisionDeviceKey": "key-1",
        "provisionDeviceSecret": "secret-1",
        "credentialsType": "X509_CERTIFICATE",
        "hash": "testHash",
    }
    body = field(2, 1) + PROOF + field(4, field(2, field(1, b"testHash")))
    twin = payloads.decode_provision(json.dumps(sent).encode(), PEER)
    assert protobuf.decode_provision(body, PEER) == twin


@pytest.mark.parametrize("body", [b"", field(1, b""), field(15, b"unknown"), field(3, b"")])
def test_what_is_not_there_is_empty(body: bytes) -> None:
    """proto3 has no missing fields: the core gets an empty key and secret to refuse."""
    assert protobuf.decode_provision(body, PEER) == ProvisionRequest(
        proof=ProvisionKey(Secret(""), Secret("")), peer=PEER
    )


def test_the_numbers_of_credentials_types_are_the_contracts() -> None:
    """0 to 3 are the four types; another number is refused as an unknown type."""
    kinds = [
        protobuf.decode_provision(PROOF + field(2, number), PEER).credentials.type
        for number in range(4)
    ]
    assert [kind.value for kind in kinds] == [
        "ACCESS_TOKEN",
        "X509_CERTIFICATE",
        "MQTT_BASIC",
        "LWM2M_CREDENTIALS",
    ]
    with pytest.raises(BadPayload, match="credentialsType must be one of") as caught:
        protobuf.decode_provision(PROOF + field(2, 9), PEER)
    assert not caught.value.undecodable


@pytest.mark.parametrize("body", [b"hello", PROOF[:-1], field(1, b"\xff"), b"\x0b" * 10_000])
def test_what_is_no_message_is_undecodable(body: bytes) -> None:
    """Cut, broken or endlessly nested messages are in no format we know."""
    with pytest.raises(BadPayload) as caught:
        protobuf.decode_provision(body, PEER)
    assert caught.value.undecodable


@pytest.mark.parametrize(
    ("credentials", "body"),
    [
        (AccessToken(Secret("A1b2")), field(1, 1) + field(3, b"A1b2")),
        (Certificate("MIIB"), field(1, 1) + field(2, 1) + field(3, b"MIIB")),
        (
            MqttBasic("c", "u", Secret("p")),
            field(1, 1) + field(2, 2) + field(3, b'{"clientId":"c","userName":"u","password":"p"}'),
        ),
    ],
)
def test_success_has_these_very_bytes(credentials: DeviceCredentials, body: bytes) -> None:
    """Status 1, the type's number, and the value; an MQTT triple as its JSON text."""
    assert protobuf.encode_provisioned(credentials) == body


@pytest.mark.parametrize("credentials", [PresharedKey("i", Secret("0" * 64)), Revoked("m")])
def test_what_the_message_has_no_word_for_is_not_told(credentials: DeviceCredentials) -> None:
    """Its types are ThingsBoard's four: a key is told in JSON, and revoked credentials never."""
    with pytest.raises(ValueError, match="cannot be told in protobuf"):
        protobuf.encode_provisioned(credentials)


def test_refusals_carry_the_status_alone() -> None:
    """NOT_FOUND is 2 and FAILURE is 3, with nothing else set."""
    refusals = [protobuf.NOT_FOUND_BODY, protobuf.FAILURE_BODY]
    assert refusals == [field(1, 2), field(1, 3)]


# ── the whole of it ───────────────────────────────────────────────────────────────────────────


@given(st.binary() | st.binary().map(lambda noise: PROOF + noise))
@settings(deadline=None, max_examples=120)
def test_arbitrary_bytes_are_a_message_or_a_bad_payload(body: bytes) -> None:
    """Nothing but `BadPayload` comes out of the decoder."""
    with suppress(BadPayload):
        protobuf.decode_provision(body, PEER)


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@given(TEXT, TEXT, TEXT, TEXT)
@settings(deadline=None, max_examples=50)
def test_texts_arrive_as_they_were_sent(name: str, key: str, secret: str, token: str) -> None:
    """Any text a client library can send is what the core gets."""
    body = wire.ProvisionDeviceRequestMsg(
        deviceName=name,
        provisionDeviceCredentialsMsg=wire.ProvisionDeviceCredentialsMsg(
            provisionDeviceKey=key, provisionDeviceSecret=secret
        ),
        credentialsDataProto=wire.CredentialsDataProto(
            validateDeviceTokenRequestMsg=wire.ValidateDeviceTokenRequestMsg(token=token)
        ),
    ).SerializeToString()
    request = protobuf.decode_provision(body, PEER)
    assert request.device_name == (name or None)
    assert request.proof == ProvisionKey(Secret(key), Secret(secret))
    assert request.credentials.token == Secret(token)


def test_json_alone_does_not_load_the_protobuf_runtime() -> None:
    """Reading JSON must not cost the start-up time of a runtime few fleets use."""
    script = (
        "import sys; from gateway.dialects.thingsboard import payloads, readings;"
        "sys.exit(any(name.startswith('google.protobuf') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
