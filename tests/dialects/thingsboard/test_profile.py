"""The `[thingsboard]` table of a profile: what it makes, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import ProfileTransport
from gateway.dialects.thingsboard.profile import (
    ATTRIBUTES_TOPIC,
    RESERVED,
    TELEMETRY_TOPIC,
    PayloadKind,
    ThingsBoardProfile,
    overlap,
    prove_section,
    read_section,
)

SCHEMA = 'syntax = "proto3"; message A { int32 a = 1; }'
PROTOBUF = {"payload": "PROTOBUF", "telemetry_schema": SCHEMA, "attributes_schema": SCHEMA}


def refusal(section: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as caught:
        read_section(section)
    return str(caught.value)


# ── what comes out ────────────────────────────────────────────────────────────────────────────


def test_an_empty_table() -> None:
    """Without settings everything is as ThingsBoard's default profile has it."""
    profile = read_section({})

    assert profile == ThingsBoardProfile()
    assert profile.telemetry_topic == TELEMETRY_TOPIC
    assert profile.attributes_topic == profile.attributes_subscribe_topic == ATTRIBUTES_TOPIC
    assert profile.payload is PayloadKind.JSON


def test_a_full_table() -> None:
    """Every setting arrives."""
    section = {
        "telemetry_topic": "air/+/t",
        "attributes_topic": "air/+/a/#",
        "attributes_subscribe_topic": "air/+/a/#",
        **PROTOBUF,
        "rpc_request_schema": "three",
        "rpc_response_schema": "four",
        "json_compatibility": True,
        "json_downlinks": True,
        "send_ack_on_validation_exception": True,
    }
    assert read_section(section) == ThingsBoardProfile(
        **section | {"payload": PayloadKind.PROTOBUF}
    )


def test_schemas_are_compiled() -> None:
    """A protobuf profile has four schemas, those for calls by default ThingsBoard's own."""
    schemas = read_section(PROTOBUF).schemas()

    assert schemas.telemetry.to_json(b"\x08\x05") == b'{"a":5}'
    assert schemas.attributes.name == "A"
    assert schemas.rpc_request.name == "RpcRequestMsg"
    assert schemas.rpc_response.to_json(b"\x0a\x01x") == b'{"payload":"x"}'


def test_a_profile_without_schemas_does_not_load_protobuf() -> None:
    """Reading a table loads no protobuf runtime."""
    code = (
        "import sys\n"
        "from gateway.core.model import ProfileTransport\n"
        "from gateway.dialects.thingsboard.profile import prove_section\n"
        "loaded = 'google.protobuf' in sys.modules\n"
        "prove_section({'telemetry_topic': 'a'}, ProfileTransport.MQTT)\n"
        "assert loaded or 'google.protobuf' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


# ── what is refused ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("section", "key", "part"),
    [
        ({"telemetri_topic": "a"}, "telemetri_topic", "Did you mean `telemetry_topic`?"),
        ({"zzz": 1}, "zzz", "Known here: telemetry_topic"),
        ({"telemetry_topic": 5}, "telemetry_topic", "a topic filter"),
        ({"telemetry_topic": ""}, "telemetry_topic", "a topic filter"),
        ({"telemetry_topic": "a\0b"}, "telemetry_topic", "control characters"),
        ({"telemetry_topic": "é" * 513}, "telemetry_topic", "1024 bytes"),
        ({"telemetry_topic": "a/#/b"}, "telemetry_topic", "`#` as its last level only"),
        ({"telemetry_topic": "a#"}, "telemetry_topic", "`#` as its last level only"),
        ({"telemetry_topic": "#/#"}, "telemetry_topic", "`#` as its last level only"),
        ({"telemetry_topic": "a/b+/c"}, "telemetry_topic", "`+` only as a whole level"),
        ({"telemetry_topic": "a/{b}/c"}, "telemetry_topic", "`{` or `}`"),
        ({"attributes_subscribe_topic": "a/b}"}, "attributes_subscribe_topic", "`{` or `}`"),
        ({"telemetry_topic": "$share/a/b"}, "telemetry_topic", "begin with `$`"),
        ({"telemetry_topic": "#"}, "telemetry_topic", "takes in `/provision/#`"),
        ({"attributes_topic": "v1/gateway/telemetry"}, "attributes_topic", "`v1/gateway/#`"),
        ({"attributes_subscribe_topic": "+/provision/x"}, "attributes_subscribe_topic", "/provis"),
        ({"attributes_topic": "v1/devices/me/+"}, "attributes_topic", "v1/devices/me/rpc/#"),
        ({"telemetry_topic": "v2/t"}, "telemetry_topic", "`v2/t`"),
        ({"telemetry_topic": "a/#", "attributes_topic": "a/b"}, "telemetry_topic", "makes telem"),
        ({"attributes_topic": TELEMETRY_TOPIC}, "attributes_topic", "makes telemetry and attrib"),
        ({"telemetry_topic": ATTRIBUTES_TOPIC}, "telemetry_topic", "makes telemetry and attrib"),
        ({"payload": "proto"}, "payload", '"JSON" or "PROTOBUF"'),
        ({"payload": ["JSON"]}, "payload", '"JSON" or "PROTOBUF"'),
        ({"payload": "PROTOBUF"}, "payload", "needs telemetry_schema"),
        ({"payload": "PROTOBUF", "telemetry_schema": "x"}, "payload", "needs attributes_schema"),
        ({"telemetry_schema": "x"}, "telemetry_schema", "of no use without"),
        ({"json_compatibility": True}, "json_compatibility", "of no use without"),
        (PROTOBUF | {"telemetry_schema": " "}, "telemetry_schema", "text of a .proto file"),
        (PROTOBUF | {"rpc_request_schema": {"file": 1}}, "rpc_request_schema", "{ file = "),
        (PROTOBUF | {"json_downlinks": 1}, "json_downlinks", "true or false"),
    ],
)
def test_errors_begin_with_the_key(section: dict[str, Any], key: str, part: str) -> None:
    """What is wrong is one sentence or two, beginning with the key."""
    message = refusal(section)

    assert message.startswith(f"{key} ")
    assert part in message


@pytest.mark.parametrize(
    ("section", "transport", "part"),
    [
        ({"telemetry_topic": "a"}, ProfileTransport.DEFAULT, "telemetry_topic belongs to"),
        ({"attributes_topic": "a"}, ProfileTransport.COAP, "this one's is COAP"),
        (PROTOBUF, ProfileTransport.DEFAULT, "payload PROTOBUF belongs to"),
        (
            PROTOBUF | {"attributes_schema": "x"},
            ProfileTransport.COAP,
            "attributes_schema: line 1, column 1: Expected top-level",
        ),
        (
            PROTOBUF | {"rpc_request_schema": SCHEMA},
            ProfileTransport.MQTT,
            "rpc_request_schema: message A must have exactly",
        ),
    ],
)
def test_what_a_transport_cannot_have(
    section: dict[str, Any], transport: ProfileTransport, part: str
) -> None:
    """Own topics take MQTT, protobuf takes MQTT or CoAP, and schemas must compile."""
    with pytest.raises(ValueError) as caught:
        prove_section(section, transport)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("section", "transport"),
    [
        ({}, ProfileTransport.DEFAULT),
        ({"send_ack_on_validation_exception": True}, ProfileTransport.DEFAULT),
        ({"telemetry_topic": "a", "attributes_topic": "b/#"}, ProfileTransport.MQTT),
        ({"telemetry_topic": TELEMETRY_TOPIC}, ProfileTransport.MQTT),
        (PROTOBUF, ProfileTransport.MQTT),
        (PROTOBUF, ProfileTransport.COAP),
    ],
)
def test_what_is_good(section: dict[str, Any], transport: ProfileTransport) -> None:
    """These tables are taken."""
    prove_section(section, transport)


# ── filters ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/b", "a", False),
        ("a/+", "+/b", True),
        ("a/+", "a", False),
        ("a/#", "a", True),
        ("a/#", "b", False),
        ("a/#", "a/b/c", True),
        ("a/b/#", "a", False),
        ("#", "/", True),
        ("+", "/", False),
        ("+/+", "/", True),
        ("a/+/#", "a/b", True),
        ("a/+/#", "a", False),
        ("a/#", "+/+/c", True),
    ],
)
def test_overlap(one: str, other: str, expected: bool) -> None:
    """Two filters overlap when one topic matches both (MQTT 4.7), whichever comes first."""
    assert overlap(one, other) is expected
    assert overlap(other, one) is expected


_LEVELS = st.lists(st.sampled_from(["", "a", "b", "+"]), min_size=1, max_size=3).map("/".join)
_FILTERS = st.one_of(_LEVELS, _LEVELS.map(lambda text: f"{text}/#"), st.just("#"))
_TOPICS = st.lists(st.sampled_from(["", "a", "b"]), min_size=1, max_size=4).map("/".join)


def matches(pattern: str, topic: str) -> bool:
    """MQTT 4.7.1, level by level."""
    levels, names = pattern.split("/"), topic.split("/")
    for place, level in enumerate(levels):
        if level == "#":
            return True
        if place >= len(names) or level not in ("+", names[place]):
            return False
    return len(levels) == len(names)


@given(_FILTERS, _FILTERS, _TOPICS)
@settings(deadline=None, max_examples=120)
def test_a_common_topic_is_an_overlap(one: str, other: str, topic: str) -> None:
    """Whenever a topic matches two filters, they overlap."""
    if matches(one, topic) and matches(other, topic):
        assert overlap(one, other)


@given(
    st.dictionaries(
        st.sampled_from(ThingsBoardProfile.__struct_fields__),
        st.one_of(
            st.booleans(),
            st.integers(),
            st.none(),
            _FILTERS,
            st.text(max_size=10),
            st.sampled_from([*RESERVED, "JSON", "PROTOBUF"]),
            st.just({"file": "x"}),
        ),
        max_size=5,
    )
)
@settings(deadline=None, max_examples=120)
def test_any_table(section: dict[str, Any]) -> None:
    """Whatever a table holds, it is a profile or a sentence that begins with a key."""
    message = message_of(section)
    assert message is None or message.split(" ")[0] in ThingsBoardProfile.__struct_fields__


def message_of(section: dict[str, Any]) -> str | None:
    try:
        read_section(section)
    except ValueError as exc:
        return str(exc)
    return None
