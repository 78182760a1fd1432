"""Which filters are granted, and which messages they ask for."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.blynk.topics import (
    DownlinkFilters,
    GatewayFilters,
    Subscriptions,
    child_of,
    is_downlink_filter,
    names_in,
)
from gateway.transports.mqtt.filters import matches

LEVELS = st.text(alphabet="ab#+", max_size=2)
TOPICS = st.lists(st.sampled_from(("downlink", "ds", "meta", "a", "")), min_size=1, max_size=4)
GRANTABLE = TOPICS.map("/".join).flatmap(
    lambda text: st.sampled_from((f"downlink/{text}", f"downlink/{text}/#", "downlink/#"))
)


@pytest.mark.parametrize(
    "text",
    ["downlink/#", "downlink/ds/#", "downlink/ds/Switch", "downlink/meta/Device Name", "downlink/"],
)
def test_filters_under_downlink_are_granted(text: str) -> None:
    assert is_downlink_filter(text)


@pytest.mark.parametrize(
    "text",
    [
        "#",
        "downlink",
        "+/ds",
        "downlink/+",
        "downlink/+/Switch",
        "downlink/ds/+",
        "downlink/#/ds",
        "downlink/ds#",
        "ds/Switch",
        "$SYS/#",
        "$share/g/downlink/#",
        "v1/devices/me/attributes",
        "/downlink/#",
        "downlink/" + "x" * 250,
    ],
)
def test_other_filters_are_not(text: str) -> None:
    assert not is_downlink_filter(text)


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("dev/T/#", "T"),
        ("dev/T/downlink/#", "T"),
        ("dev/T/downlink/ds/Switch", "T"),
        ("dev/#", ""),
        ("dev/+/#", ""),
        ("dev/+/downlink/ds/Switch", ""),
        ("dev/T+/downlink/#", ""),
        ("dev/T", ""),
        ("dev/T/", ""),
        ("dev//#", ""),
        ("dev/T/ds/Switch", ""),
        (f"dev/{'T' * 256}/#", "T" * 256),
        (f"dev/{'T' * 257}/#", ""),
        ("dev/T/downlink/+", ""),
        ("downlink/#", ""),
        ("#", ""),
    ],
)
def test_the_token_of_a_gateways_filter(text: str, token: str) -> None:
    assert child_of(text) == token


@given(st.lists(GRANTABLE, max_size=5), TOPICS)
def test_covering_is_mqtts_own_matching(filters: list[str], levels: list[str]) -> None:
    """A topic is covered exactly when one of the filters matches it by the standard's rule."""
    topic = "downlink/" + "/".join(levels)
    granted = Subscriptions()
    for one in filters:
        granted.add(one)
    assert granted.cover(topic) == any(matches(one, topic) for one in filters)


@given(st.lists(LEVELS, min_size=1, max_size=5).map("/".join))
def test_what_is_granted_holds_no_wildcard_but_at_its_end(text: str) -> None:
    for granted in (f"downlink/{text}", f"dev/T/{text}", f"dev/{text}/downlink/#", text):
        own, others = DownlinkFilters(Subscriptions()), GatewayFilters(Subscriptions(), own=False)
        if granted in own or granted in others:
            assert "+" not in granted
            assert "#" not in granted.removesuffix("/#")
        if granted in others:
            assert granted.split("/")[1] not in ("", "#", "+")


def test_subscriptions_are_bounded() -> None:
    """Those a session has may be asked for again; further ones may not."""
    granted = Subscriptions(most=2)
    filters = DownlinkFilters(granted)
    for one in ("downlink/a", "downlink/b"):
        assert one in filters
        granted.add(one)
    assert "downlink/a" in filters
    assert "downlink/c" not in filters
    granted.discard("downlink/b")
    assert "downlink/c" in filters


@given(st.lists(st.tuples(st.booleans(), GRANTABLE), max_size=12))
def test_whether_datastreams_are_listened_to(steps: list[tuple[bool, str]]) -> None:
    """As long as a filter stands that a message of some datastream may be under."""
    granted, kept = Subscriptions(), set[str]()
    for wanted, one in steps:
        (granted.add if wanted else granted.discard)(one)
        (kept.add if wanted else kept.discard)(one)
        expected = any(one.startswith("downlink/ds/") or one == "downlink/#" for one in kept)
        assert granted.reach_datastreams is expected
        assert len(granted) == len(kept)


def test_thousands_of_filters_are_heard_in_no_time() -> None:
    """What a filter more costs does not grow with those there are."""
    granted, began = Subscriptions(most=100_000), time.process_time()
    for number in range(40_000):
        granted.add(f"downlink/x{number}")
        assert not granted.reach_datastreams
        assert not granted.cover("downlink/y")
    assert time.process_time() - began < 5


def test_names_are_told_once_each() -> None:
    assert names_in(" a,b ,,a, c d ") == ["a", "b", "c d"]
    assert names_in("") == []
