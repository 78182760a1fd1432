"""Provisioning bodies: golden requests, the reading rules, and arbitrary bytes."""

from __future__ import annotations

import json
import traceback
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import (
    DeviceCredentialsType,
    Json,
    Peer,
    ProvisionKey,
    ProvisionRequest,
    RequestedCredentials,
    Secret,
    Wire,
    sha3_id,
)
from gateway.dialects.thingsboard import device_api_pb2 as wire
from gateway.dialects.thingsboard.payloads import (
    decode_provision,
    decode_provision_either,
    strip_pem,
)
from gateway.wire.call import BadPayload

PEER = Peer(Wire.COAP, "192.0.2.7:50123")
PROVEN = {"provisionDeviceKey": "key-1", "provisionDeviceSecret": "secret-1"}
PROOF = ProvisionKey(Secret("key-1"), Secret("secret-1"))
MARK = "zq7Marker"
"""Stands where a secret could stand; must not be found in any message."""


def asked(**fields: Any) -> ProvisionRequest:
    return decode_provision(json.dumps(PROVEN | fields).encode(), PEER)


def refusal(body: bytes) -> BadPayload:
    with pytest.raises(BadPayload) as caught:
        decode_provision(body, PEER)
    return caught.value


def refusal_of(**fields: Any) -> BadPayload:
    return refusal(json.dumps(PROVEN | fields).encode())


# ── requests as they should be ────────────────────────────────────────────────────────────────


def test_the_least_request_leaves_everything_else_to_the_server() -> None:
    """A key and a secret alone are a whole request."""
    assert asked() == ProvisionRequest(proof=PROOF, peer=PEER)


def test_every_field_reaches_the_core() -> None:
    """Nothing a device says about itself is lost."""
    request = asked(
        deviceName="dev-1",
        credentialsType="MQTT_BASIC",
        token="t",
        clientId="c",
        username="u",
        password="p",
        hash="h",
        gateway=True,
        deviceType="meter",
    )
    assert request == ProvisionRequest(
        proof=PROOF,
        peer=PEER,
        device_name="dev-1",
        device_type="meter",
        gateway=True,
        credentials=RequestedCredentials(
            type=DeviceCredentialsType.MQTT_BASIC,
            token=Secret("t"),
            client_id="c",
            username="u",
            password=Secret("p"),
            certificate="h",
        ),
    )


def test_the_sdk_request_with_nulls_is_read() -> None:
    """Null means absent, in every field, as ThingsBoard's own SDK sends it."""
    names = ("deviceName", "credentialsType", "token", "clientId", "password", "hash", "gateway")
    request = asked(**dict.fromkeys(names), username="u", deviceType=None)
    assert request == ProvisionRequest(
        proof=PROOF, peer=PEER, credentials=RequestedCredentials(username="u")
    )


@pytest.mark.parametrize(
    ("sent", "name"), [("", None), ("  ", "  "), (" a ", " a "), (7, "7"), ("dév", "dév")]
)
def test_a_device_name_is_passed_on_as_sent(sent: object, name: str | None) -> None:
    """The core trims and judges names; only an empty one counts as absent."""
    assert asked(deviceName=sent).device_name == name


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("123", "123"),
        ("1.0", "1.0"),
        ("-1.50E+3", "-1.50E+3"),
        ("true", "true"),
        ("false", "false"),
        ("12345678901234567890123", "12345678901234567890123"),
        ('"a\\u00e9\\"b"', 'aé"b'),
    ],
)
def test_a_number_or_boolean_is_taken_as_its_text(written: str, text: str) -> None:
    """Where text is wanted, numbers and booleans count as what was written."""
    body = '{"provisionDeviceKey":%s,"provisionDeviceSecret":%s,"token":%s,"hash":null,"x":[1]}'
    request = decode_provision((body % (written, written, written)).encode(), PEER)
    assert request.proof == ProvisionKey(Secret(text), Secret(text))
    assert request.credentials.token == Secret(text)


@pytest.mark.parametrize("gateway", [True, "true", "TRUE", "True"])
@pytest.mark.parametrize("token", ["t", 5])
def test_true_in_any_case_makes_a_gateway(gateway: object, token: object) -> None:
    """`true` and `"true"` mean a gateway, whichever way the rest is written."""
    assert asked(gateway=gateway, token=token).gateway is True


@pytest.mark.parametrize("gateway", [False, "false", "yes", "", 1, 0, None, [True], {"a": True}])
def test_anything_else_makes_no_gateway(gateway: object) -> None:
    """Whatever is not true is false, and no error."""
    assert asked(gateway=gateway).gateway is False


@pytest.mark.parametrize(
    ("sent", "trial"),
    [(True, True), ("TRUE", True), (False, False), ("false", False), ("", False), (None, False)],
)
def test_a_trial_is_one_only_when_it_says_so(sent: object, trial: bool) -> None:
    """However the rest of the request is written."""
    assert asked(dryRun=sent).trial is trial
    assert asked(dryRun=sent, token=5).trial is trial


@pytest.mark.parametrize("sent", ["yes", "1", 1, 0, "True ", MARK, [True], {"a": True}])
@pytest.mark.parametrize("token", ["t", 5])
def test_a_trial_that_is_misspelt_is_no_birth(sent: object, token: object) -> None:
    """Whoever wants a rehearsal must not be provisioned for a slip."""
    told = refusal_of(dryRun=sent, token=token)
    assert MARK not in str(told)


def test_what_hardware_tells_is_kept_as_written_and_bounded() -> None:
    """An object; neither too long nor too deep to be read again from elsewhere in the program."""
    assert asked(hardware={"mac": "aa"}).hardware == Json('{"mac": "aa"}')
    deep: object = 1
    for _ in range(99):
        deep = [deep]
    assert asked(hardware={"a": deep}).hardware is not None
    for sent in ({"a": [deep]}, {"a": "x" * 4096}, [1], "text", 5):
        assert asked(hardware=sent).hardware is None
        assert "hardware" in str(refusal_of(hardware=sent, dryRun=True))


@pytest.mark.parametrize(
    "kind", [kind for kind in DeviceCredentialsType if kind is not DeviceCredentialsType.REVOKED]
)
def test_every_credentials_type_is_known(kind: DeviceCredentialsType) -> None:
    """All that a device can have are understood; the core decides which it serves."""
    assert asked(credentialsType=kind.value).credentials.type is kind


@pytest.mark.parametrize("field", ["provisionDeviceKey", "provisionDeviceSecret"])
def test_an_empty_key_or_secret_is_for_the_core_to_refuse(field: str) -> None:
    """Present but empty is an ordinary NOT_FOUND, not a bad payload."""
    proof = asked(**{field: ""}).proof
    assert not (proof.key and proof.secret)


def test_unknown_fields_are_ignored() -> None:
    """What we do not know does not disturb."""
    assert asked(colour={"r": [1, None, 2.5]}) == asked()


@pytest.mark.parametrize(
    "member",
    [
        {"nonce": "a" * 15},
        {"nonce": "a" * 65},
        {"nonce": "\u00fc" * 20},
        {"nonce": "a\n" * 10},
        {"nonce": 5},
        {"nonce": {"a": 1}},
        {"nonce": []},
        {"oldCredential": {"a": 1}},
        {"claimCode": [1]},
        {"hardware": "esp32"},
        {"hardware": 5},
        {"hardware": [1]},
        {"hardware": {"a": "x" * 5000}},
        {"hardware": json.loads('{"a":' * 200 + "1" + "}" * 200)},
        {"gateway": 1, "nonce": 5, "hardware": "x"},
    ],
)
def test_members_by_our_names_of_another_form_are_ignored(member: dict[str, Any]) -> None:
    """ThingsBoard's devices may have them for something else, and it ignores them."""
    assert asked(deviceName="x", **member) == asked(deviceName="x")


@pytest.mark.parametrize(
    "member", [{"nonce": "short"}, {"hardware": "x"}, {"hardware": {"a": [0] * 9999}}]
)
def test_a_trial_is_told_what_is_wrong_with_them(member: dict[str, Any]) -> None:
    assert next(iter(member)) in str(refusal_of(dryRun=True, **member))


def test_of_a_repeated_name_the_last_counts() -> None:
    """Repeated names are no error."""
    body = b'{"provisionDeviceKey":"a","provisionDeviceKey":"key-1","provisionDeviceSecret":"b"}'
    assert decode_provision(body, PEER).proof.key == Secret("key-1")


# ── certificates and the legacy form ──────────────────────────────────────────────────────────

PEM = "-----BEGIN CERTIFICATE-----\r\nMIIB+a/=\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("text", [PEM, "MIIB+a/=AAAA", "\nMIIB+a/=\r\nAAAA"])
def test_a_certificate_is_kept_as_one_line(text: str) -> None:
    """Marker lines and line breaks go; what remains is what its id is made of."""
    request = asked(credentialsType="X509_CERTIFICATE", hash=text)
    assert request.credentials.certificate == strip_pem(text) == "MIIB+a/=AAAA"
    assert request.credentials.type is DeviceCredentialsType.X509_CERTIFICATE


def test_text_that_is_no_certificate_is_left_alone() -> None:
    """ThingsBoard does not parse certificates, and neither does the codec."""
    assert strip_pem("testHash") == "testHash"
    vector = "281c7ba06d0ac2ff651fa968572f26a38c96225ea54644522837b54b9c6144f7"
    assert sha3_id(strip_pem("ThingsBoard\r\n")) == vector


def test_the_legacy_form_is_read() -> None:
    """The names of the 2020 draft lead to the same request."""
    body = json.dumps(
        {
            "deviceName": "d",
            "deviceType": "thermostat",
            "provisionProfileKey": "key-1",
            "provisionProfileSecret": "secret-1",
            "x509CertPubKey": PEM,
        }
    ).encode()
    assert decode_provision(body, PEER) == ProvisionRequest(
        proof=PROOF,
        peer=PEER,
        device_name="d",
        device_type="thermostat",
        credentials=RequestedCredentials(
            type=DeviceCredentialsType.X509_CERTIFICATE, certificate="MIIB+a/=AAAA"
        ),
        legacy=True,
    )


def test_present_names_win_over_legacy_names() -> None:
    """The legacy names count only where the present ones are absent."""
    request = asked(provisionProfileKey="old", provisionProfileSecret="old", x509CertPubKey="")
    assert request == asked()
    assert asked(hash="new", x509CertPubKey="old").credentials.certificate == "new"


# ── requests that cannot be served ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"text"',
        b"17",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"{'provisionDeviceKey':'a','provisionDeviceSecret':'b'}",
        b'{provisionDeviceKey:"a",provisionDeviceSecret:"b"}',
        b'{"provisionDeviceKey":"a","provisionDeviceSecret":"b"} // x',
        b'{"provisionDeviceKey":"a","provisionDeviceSecret":"b",}',
        b'{"provisionDeviceKey":"a","provisionDeviceSecret":"b","x":NaN}',
        b'{"provisionDeviceKey":"a","provisionDeviceSecret":"b","x":"\xff"}',
        b'{"provisionDeviceKey":"a\xc3","provisionDeviceSecret":"b"}',
        b'{"provisionDeviceKey":"\\ud800","provisionDeviceSecret":"b"}',
        b'{"provisionDeviceKey":7,"provisionDeviceSecret":"\\udc00"}',
        b'\xef\xbb\xbf{"provisionDeviceKey":"a","provisionDeviceSecret":"b"}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_json_object_is_undecodable(body: bytes) -> None:
    """Only strict JSON objects are JSON requests; anything else may be tried as protobuf."""
    assert refusal(body).undecodable


@pytest.mark.parametrize("field", ["provisionDeviceKey", "provisionDeviceSecret"])
@pytest.mark.parametrize("absence", ["missing", "null"])
def test_a_missing_key_or_secret_is_named(field: str, absence: str) -> None:
    """The message says which field is missing, and that JSON was understood."""
    fields: dict[str, str | None] = dict(PROVEN)
    if absence == "null":
        fields[field] = None
    else:
        del fields[field]
    problem = refusal(json.dumps(fields).encode())
    assert str(problem) == f"{field} is missing"
    assert not problem.undecodable


@pytest.mark.parametrize("kind", ["access_token", "", "X509", MARK, 3, True])
def test_an_unknown_credentials_type_is_refused(kind: object) -> None:
    """The message lists what there is, not what was sent."""
    problem = refusal_of(credentialsType=kind)
    assert str(problem) == (
        "credentialsType must be one of "
        "ACCESS_TOKEN, X509_CERTIFICATE, MQTT_BASIC, LWM2M_CREDENTIALS, DTLS_PSK"
    )
    assert not problem.undecodable


TEXT_FIELDS = (
    "provisionDeviceKey",
    "provisionDeviceSecret",
    "deviceName",
    "credentialsType",
    "token",
    "clientId",
    "username",
    "password",
    "hash",
    "csr",
    "deviceType",
    "x509CertPubKey",
)


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize("value", [[MARK], {MARK: MARK}, []])
def test_an_object_or_array_is_no_text(field: str, value: object) -> None:
    """A structure where text is wanted is refused by the field's name."""
    problem = refusal_of(**{field: value})
    assert str(problem) == f"{field} must be text"
    assert not problem.undecodable


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=4), st.data())
@settings(deadline=None, max_examples=50)
def test_no_message_repeats_the_payload(noise: str, data: st.DataObject) -> None:
    """Whatever is wrong, neither the message nor its traceback shows what was sent."""
    marked = MARK + noise
    value = data.draw(st.sampled_from([marked, [marked], {marked: 1}, 1, None]))
    fields = data.draw(st.dictionaries(st.sampled_from([*TEXT_FIELDS, marked]), st.just(value)))
    body = json.dumps(fields, ensure_ascii=False).encode()
    body = body[: data.draw(st.integers(0, len(body)))]
    try:
        decode_provision(body, PEER)
    except BadPayload:
        assert MARK not in traceback.format_exc()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@settings(deadline=None, max_examples=120)
def test_arbitrary_bytes_are_a_request_or_a_bad_payload(body: bytes) -> None:
    """Nothing but `BadPayload` comes out of the decoder, with protobuf or without."""
    for decode in (decode_provision, decode_provision_either):
        with suppress(BadPayload):
            decode(body, PEER)


@given(st.dictionaries(st.sampled_from([*TEXT_FIELDS, "gateway"]), JSON_VALUES, max_size=6))
@settings(deadline=None, max_examples=120)
def test_arbitrary_fields_are_a_request_or_a_bad_payload(fields: dict[str, object]) -> None:
    """Any JSON in any known field is understood or refused; lone surrogates are no JSON text."""
    try:
        request = asked(**fields)
    except BadPayload:
        return
    assert isinstance(request.gateway, bool)
    for text in (request.device_name, request.credentials.token.reveal()):
        assert text is None or isinstance(text, str)


# ── JSON or protobuf ──────────────────────────────────────────────────────────────────────────


def test_json_is_tried_first() -> None:
    """What is JSON is answered as JSON."""
    request, protobuf = decode_provision_either(json.dumps(PROVEN).encode(), PEER)
    assert (request.proof, protobuf) == (PROOF, False)


def test_protobuf_is_tried_when_it_is_no_json() -> None:
    """What is no JSON and parses as the protobuf message is that."""
    body = wire.ProvisionDeviceRequestMsg(
        provisionDeviceCredentialsMsg=wire.ProvisionDeviceCredentialsMsg(
            provisionDeviceKey="key-1", provisionDeviceSecret="secret-1"
        )
    ).SerializeToString()
    request, protobuf = decode_provision_either(body, PEER)
    assert (request.proof, protobuf) == (PROOF, True)


def test_an_empty_payload_is_an_empty_protobuf_message() -> None:
    """An empty payload asks with an empty key, which the core answers NOT_FOUND."""
    request, protobuf = decode_provision_either(b"", PEER)
    assert (request.proof, protobuf) == (ProvisionKey(Secret(""), Secret("")), True)


def test_a_json_request_with_faults_is_not_tried_as_protobuf() -> None:
    """A missing key in JSON stays what it is."""
    with pytest.raises(BadPayload, match="provisionDeviceSecret is missing") as caught:
        decode_provision_either(b'{"provisionDeviceKey":"a"}', PEER)
    assert not caught.value.undecodable


@pytest.mark.parametrize("body", [b"hello", b"[1]", b"{", b"\xff\xff"])
def test_neither_is_undecodable(body: bytes) -> None:
    """What is neither JSON nor protobuf is in no format we know."""
    with pytest.raises(BadPayload) as caught:
        decode_provision_either(body, PEER)
    assert caught.value.undecodable
