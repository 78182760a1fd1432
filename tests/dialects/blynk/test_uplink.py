"""What devices publish, as it is decoded."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Secret
from gateway.dialects.blynk.guests import ota_of
from gateway.dialects.blynk.uplink import read_info, time_of
from gateway.dialects.blynk.values import Mistake

TOKEN = Secret("T" * 32)


@given(st.binary(max_size=200) | st.recursive(st.none(), st.lists).map(json.dumps).map(str.encode))
def test_info_is_an_object_or_a_mistake(body: bytes) -> None:
    with suppress(Mistake):
        assert isinstance(read_info(body), dict)


def test_info_that_is_nested_deep_is_a_mistake() -> None:
    for body in (b"[" * 100_000, b'{"a":' * 50_000):
        with pytest.raises(Mistake, match="info/mcu must be a JSON object"):
            read_info(body)


@given(st.integers(min_value=0, max_value=4_000_000_000_000))
def test_time_is_told_twice(now_ms: int) -> None:
    """In milliseconds, and in words that mean the same second."""
    told = json.loads(time_of(now_ms))
    assert told["time"] == now_ms
    assert int(datetime.fromisoformat(told["iso8601"]).timestamp()) == now_ms // 1000


def test_firmware_is_told_with_an_address() -> None:
    """Its own, or a path here; what announces none is not told."""
    here = {"fw_title": "a b", "fw_version": "1&2", "fw_size": 5}
    assert json.loads(ota_of(here, TOKEN)) == {
        "url": f"/api/v1/{'T' * 32}/firmware?title=a+b&version=1%262",
        "size": 5,
        "type": "a b",
        "ver": "1&2",
    }
    elsewhere = {"fw_title": "a", "fw_version": "1", "fw_url": "https://other.example/a"}
    assert json.loads(ota_of(elsewhere, TOKEN))["url"] == "https://other.example/a"
    for nothing in ({}, {"fw_title": "a"}, {"sw_title": "a", "sw_version": "1"}, {"fw_size": 1}):
        assert ota_of(nothing, TOKEN) == b""
