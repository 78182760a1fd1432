"""Topic families, and a profile's own filters as routes and as topics to publish to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import Peer, Wire
from gateway.dialects.thingsboard.topics import (
    V1,
    V2,
    V2_JSON,
    V2_PROTOBUF,
    request_id,
    template_of,
    topic_under,
)
from gateway.wire.call import BadPayload, Call, Reply
from gateway.wire.route import PathTable, Route


async def _handler(_call: Call) -> Reply:
    return Reply()


def matched(topic_filter: str, topic: str) -> bool:
    template = template_of(topic_filter)
    route = Route(name="one", handler=_handler, mqtt=(template,))
    return PathTable([(template, route)]).find(topic) is not None


def matches(topic_filter: str, topic: str) -> bool:
    """MQTT 5, section 4.7, in its own words."""
    wanted, given_levels = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(given_levels) or (level not in ("+", given_levels[index])):
            return False
    return len(wanted) == len(given_levels)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "is_under"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("a/+/c", "a//c", True),
        ("a/+/c", "a/b/d", False),
        ("+/t", "x/t", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "b", False),
        ("a/+/#", "a/b", True),
        ("a/+/#", "a", False),
    ],
)
def test_a_filter_takes_the_topics_mqtt_says(topic_filter: str, topic: str, is_under: bool) -> None:
    """`+` takes one level, an empty one too; `#` takes all below, and the level above it."""
    assert matched(topic_filter, topic) is is_under is matches(topic_filter, topic)


levels = st.lists(st.sampled_from(["a", "b", "", "+"]), min_size=1, max_size=4)


@settings(deadline=None, max_examples=120)
@given(levels, st.booleans(), st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=5))
def test_any_filter_takes_what_mqtt_says(
    wanted: list[str], below: bool, given_levels: list[str]
) -> None:
    """The route of a filter and MQTT's own rule agree on every topic."""
    topic_filter = "/".join([*wanted, "#"] if below else wanted)
    topic = "/".join(given_levels)
    assert matched(topic_filter, topic) is matches(topic_filter, topic)


@settings(deadline=None, max_examples=80)
@given(levels, st.booleans())
def test_what_is_published_under_a_filter_matches_it(wanted: list[str], below: bool) -> None:
    """Updates reach whoever subscribed to the profile's filter, whatever wildcards it has."""
    topic_filter = "/".join([*wanted, "#"] if below else wanted)
    topic = topic_under(topic_filter)
    assert "+" not in topic
    assert "#" not in topic
    if topic_filter:
        assert matches(topic_filter, topic)


def test_a_filter_without_wildcards_is_the_topic() -> None:
    """Nothing is made up where the profile says it all."""
    assert topic_under("devices/shared") == "devices/shared"
    assert topic_under("devices/+/shared/#") == "devices/me/shared/me"


def test_the_families_are_those_of_the_contract() -> None:
    """The topics of section 8, spelled out."""
    assert V1.attributes_response == "v1/devices/me/attributes/response/"
    assert (V2.telemetry, V2.attributes) == ("v2/t", "v2/a")
    assert (V2_JSON.telemetry, V2_PROTOBUF.attributes) == ("v2/t/j", "v2/a/p")
    assert V2.attributes_request == "v2/a/req/"
    assert V2_JSON.attributes_response == "v2/a/res/j/"
    assert V2_PROTOBUF.rpc_request == "v2/r/req/p/"
    assert V2.rpc_response == "v2/r/res/"


@pytest.mark.parametrize("number", ["", "x", "-1", "1.5", "²", "2147483648", "12345678901"])
def test_a_request_is_numbered(number: str) -> None:
    """An id that is no whole number of 31 bits is a bad payload: no answer could go out."""
    call = Call(b"{}", Peer(Wire.MQTT, "192.0.2.7:50123"), {"id": number})
    with pytest.raises(BadPayload, match="the request id"):
        request_id(call)


def test_a_request_may_have_any_number_of_31_bits() -> None:
    """From 0 to the largest int32."""
    for number in ("0", "007", "2147483647"):
        call = Call(b"{}", Peer(Wire.MQTT, "192.0.2.7:50123"), {"id": number})
        assert request_id(call) == int(number)
