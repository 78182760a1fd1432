"""What operators send of a device profile: it is a profile, or they are told why it is none."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.core.model import DeviceProfile, Peer, Wire
from gateway.dialects.thingsboard.admin.desk import Trouble, body_of
from gateway.dialects.thingsboard.admin.profile_shapes import (
    ProfileBody,
    profile_answer,
    read_profile,
)
from gateway.dialects.thingsboard.admin.words import EntityId
from gateway.dialects.thingsboard.profile import prove_section
from gateway.wire.call import Call

PEER = Peer(Wire.HTTP, "192.0.2.7:1")
TENANT = EntityId("5d0c1a6e-0000-4000-8000-000000000001", "TENANT")
WORDS = st.sampled_from(
    [
        *("DEFAULT", "MQTT", "COAP", "JSON", "PROTOBUF", "DISABLED", "X509_CERTIFICATE_CHAIN"),
        *("ALLOW_CREATE_NEW_DEVICES", "a/+", "#", "", "(.*)", "\x00", "é"),
    ]
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False), WORDS)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2)
)
PAYLOAD = st.fixed_dictionaries(
    {},
    optional={
        "transportPayloadType": LEAVES,
        "deviceTelemetryProtoSchema": LEAVES,
        "deviceAttributesProtoSchema": LEAVES,
        "enableCompatibilityWithJsonPayloadFormat": LEAVES,
    },
)
TRANSPORT = st.fixed_dictionaries(
    {},
    optional={
        "type": WORDS,
        "deviceTelemetryTopic": LEAVES,
        "deviceAttributesTopic": LEAVES,
        "transportPayloadTypeConfiguration": PAYLOAD | ANYTHING,
        "coapDeviceTypeConfiguration": ANYTHING
        | st.fixed_dictionaries({"transportPayloadTypeConfiguration": PAYLOAD}),
        "sparkplug": LEAVES,
        "sendAckOnValidationException": LEAVES,
    },
)
PROVISION = st.fixed_dictionaries(
    {},
    optional={
        "type": LEAVES,
        "provisionDeviceSecret": LEAVES,
        "certificateRegExPattern": LEAVES,
        "allowCreateNewDevicesByX509Certificate": LEAVES,
    },
)
BODIES = st.fixed_dictionaries(
    {
        "name": st.just("a"),
        "type": st.just("DEFAULT"),
        "transportType": st.sampled_from(["DEFAULT", "MQTT", "COAP"]),
    },
    optional={
        "provisionType": st.none() | WORDS,
        "description": st.none() | WORDS,
        "provisionDeviceKey": st.none() | WORDS,
        "profileData": st.fixed_dictionaries(
            {},
            optional={
                "configuration": ANYTHING,
                "transportConfiguration": TRANSPORT | ANYTHING,
                "provisionConfiguration": PROVISION | ANYTHING,
                "alarms": ANYTHING,
            },
        ),
    },
)


def read(sent: Any, before: DeviceProfile | None) -> DeviceProfile:
    body = body_of(Call(json.dumps(sent).encode(), PEER), ProfileBody)
    return read_profile(body, before).profile


@settings(deadline=None, max_examples=60)
@given(BODIES)
def test_whatever_is_sent(sent: dict[str, Any]) -> None:
    """It is refused, or it is a profile that holds and that can be told again as JSON."""
    try:
        profile = read(sent, None)
    except Trouble:
        return
    prove_section(profile.sections.get("thingsboard", {}), profile.transport)
    told = json.loads(msgspec.json.encode(profile_answer(profile, None, TENANT)))
    assert told["profileData"]["transportConfiguration"]["type"] == sent["transportType"]
    assert told["profileData"]["provisionConfiguration"]["type"] == told["provisionType"]
    assert told["profileData"]["configuration"]["type"] == "DEFAULT"
    again = read(told, profile)
    assert structs.replace(again, info=profile.info) == profile
    assert json.loads(msgspec.json.encode(profile_answer(again, None, TENANT))) == told


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=80) | st.sampled_from([b"\xff", b'{"name":"\\ud800"}', b"[" * 5000]))
def test_whatever_bytes_are_sent(body: bytes) -> None:
    """Nothing but a refusal comes out of what is no profile."""
    with pytest.raises(Trouble):
        read_profile(body_of(Call(body, PEER), ProfileBody), None)


@pytest.mark.parametrize("info", ["{}", "[]", '"text"', '{"image":7}', "no JSON", '{"ours":1}'])
def test_what_others_keep_of_a_profile_does_no_harm(info: str) -> None:
    """`info` that is not in these words is as good as empty."""
    profile = DeviceProfile(id=1, name="a", info=info, sections={"thingsboard": {"odd": 1}})
    answer = profile_answer(profile, None, TENANT)
    assert answer.image is None
    assert answer.profile_data["configuration"] == {"type": "DEFAULT"}
