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
    RefusalReason,
    Refused,
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


def ours(number: int, content: bytes | int) -> bytes:
    """The same for a number of two bytes, and up to 16,383 bytes."""
    tag = number << 3 | (not isinstance(content, int)) * 2
    first = bytes([tag & 0x7F | 0x80, tag >> 7])
    if isinstance(content, int):
        return first + bytes([content])
    size = len(content)
    length = bytes([size] if size < 128 else [size & 0x7F | 0x80, size >> 7])
    return first + length + content


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


@pytest.mark.parametrize(
    "body", [b"", field(1, b""), field(15, b"unknown"), field(3, b""), ours(1006, b"unknown")]
)
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
    reasons = (RefusalReason.WRONG_SECRET, RefusalReason.NAME_TAKEN)
    refusals = [protobuf.encode_refused(Refused(reason)) for reason in reasons]
    assert refusals == [field(1, 2), field(1, 3)]


def test_a_refusal_tells_when_to_come_again_and_its_code_to_who_may_know() -> None:
    """In fields that ThingsBoard's devices skip: 1001 and 1002."""
    full = Refused(RefusalReason.PROFILE_FULL, detailed=True)
    assert protobuf.encode_refused(full) == field(1, 3) + ours(1002, b"profile_full")
    early = Refused(RefusalReason.TOO_MANY_REQUESTS, 90)
    assert protobuf.encode_refused(early) == field(1, 3) + ours(1001, 90)
    wrong = Refused(RefusalReason.WRONG_SECRET, detailed=True)
    assert protobuf.encode_refused(wrong) == field(1, 2)
    in_2300 = Refused(RefusalReason.OUTSIDE_HOURS, 2**33)
    most = b"\xff\xff\xff\xff\x0f"
    assert protobuf.encode_refused(in_2300) == field(1, 3) + ours(1001, 0)[:-1] + most


# ── what is ours ──────────────────────────────────────────────────────────────────────────────


def test_what_is_ours_is_read_by_its_field_numbers() -> None:
    """A nonce, what proves an older birth, a trial and the hardware: 1001 to 1005."""
    body = (
        PROOF
        + ours(1001, b"0123456789abcdef")
        + ours(1002, b"old")
        + ours(1003, b"code")
        + ours(1004, 1)
        + ours(1005, b' {"serial": "s-1"}')
    )
    sent = {
        "provisionDeviceKey": "key-1",
        "provisionDeviceSecret": "secret-1",
        "nonce": "0123456789abcdef",
        "oldCredential": "old",
        "claimCode": "code",
        "dryRun": True,
        "hardware": {"serial": "s-1"},
    }
    twin = payloads.decode_provision(json.dumps(sent).encode(), PEER)
    assert protobuf.decode_provision(body, PEER) == twin
    assert twin.hardware is not None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (ours(1001, b"too short"), "nonce must be 16 to 64"),
        (ours(1001, b"x" * 65), "nonce must be 16 to 64"),
        (ours(1001, "é".encode() * 16), "nonce must be 16 to 64"),
        (ours(1005, b"[]"), "hardware must be an object"),
        (ours(1005, b"{"), "hardware must be a JSON object"),
        (ours(1005, b'{"a":"%b"}' % (b"x" * 4096)), "at most 4096 bytes"),
        (ours(1005, b'{"a":' * 600 + b"1" + b"}" * 600), "levels deep"),
        (ours(1001, 1), "nonce is of another type"),
        (ours(1002, 1), "oldCredential is of another type"),
        (ours(1003, 1), "claimCode is of another type"),
        (ours(1004, b"true"), "dryRun is of another type"),
        (ours(1005, 1), "hardware is of another type"),
    ],
)
def test_what_is_ours_and_of_another_form_is_told(wrong: bytes, words: str) -> None:
    """Nobody else has these fields: a slip is not passed over, as it is in JSON."""
    with pytest.raises(BadPayload, match=words) as caught:
        protobuf.decode_provision(PROOF + wrong, PEER)
    assert not caught.value.undecodable


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=16, max_size=64),
    st.text(max_size=300),
    st.dictionaries(st.text(max_size=9), st.text(max_size=9) | st.integers(), max_size=9),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_ours_mean_the_same_in_both_formats(
    nonce: str, text: str, hardware: dict[str, str | int], trial: bool
) -> None:
    """Whatever is sent in protobuf is what the same request says in JSON."""
    own = {"nonce": nonce, "oldCredential": text, "claimCode": text, "dryRun": trial}
    written = json.dumps(hardware)
    message = wire.ProvisionDeviceRequestMsg(hardware=written, **own)
    message.provisionDeviceCredentialsMsg.provisionDeviceKey = "k"
    sent = {"provisionDeviceKey": "k", "provisionDeviceSecret": ""} | own
    body = json.dumps(sent)[:-1] + f', "hardware": {written}}}'
    twin = payloads.decode_provision(body.encode(), PEER)
    assert protobuf.decode_provision(message.SerializeToString(), PEER) == twin


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
