"""Telemetry in SenML: the examples of RFC 8428, its rules one by one, and arbitrary packs."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from decimal import Decimal
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import Reading
from gateway.dialects.thingsboard.senml import decode_senml
from gateway.wire.call import BadPayload

NOW = 1_795_219_296_308
OW = "urn:dev:ow:10e2073a01080063"
LABELS = {
    "bver": -1,
    "bn": -2,
    "bt": -3,
    "bu": -4,
    "bv": -5,
    "bs": -6,
    "n": 0,
    "u": 1,
    "v": 2,
    "vs": 3,
    "vb": 4,
    "s": 5,
    "t": 6,
    "ut": 7,
    "vd": 8,
}
"""RFC 8428, table 4."""


def read(pack: Any, most: int = 100) -> list[tuple[int, str, Any]]:
    """A pack in JSON, and in CBOR with numbers for labels, which must give the same."""
    found = decode_senml(json.dumps(pack).encode(), NOW, max_values=most, cbor=False)
    if isinstance(pack, list) and all(isinstance(one, dict) for one in pack):
        labelled = [{LABELS.get(key, key): one[key] for key in one} for one in pack]
        again = decode_senml(cbor2.dumps(labelled), NOW, max_values=most, cbor=True)
        assert again == found
        assert [type(one.value) for one in again] == [type(one.value) for one in found]
    return [(one.ts, one.key, one.value) for one in found]


# ── the RFC's examples (section 5) ────────────────────────────────────────────────────────────


def test_a_single_datapoint() -> None:
    """5.1.1"""
    assert read([{"n": OW, "u": "Cel", "v": 23.1}]) == [(NOW, OW, 23.1)]


def test_multiple_datapoints() -> None:
    """5.1.2: names are put together; times are relative to the base time."""
    pack = [
        {"bn": f"{OW}:", "n": "voltage", "u": "V", "v": 120.1},
        {"n": "current", "u": "A", "v": 1.2},
    ]
    assert read(pack) == [(NOW, f"{OW}:voltage", 120.1), (NOW, f"{OW}:current", 1.2)]
    base = "urn:dev:ow:10e2073a0108006:"
    head = {"bn": base, "bt": 1.276020076001e09, "bu": "A", "bver": 5, "n": "voltage", "u": "V"}
    currents = [
        {"n": "current", "t": t, "v": v}
        for t, v in zip(range(-5, 0), (1.2, 1.3, 1.4, 1.5, 1.6), strict=True)
    ]
    found = read([{**head, "v": 120.1}, *currents, {"n": "current", "v": 1.7}])
    assert found[0] == (1_276_020_076_001, f"{base}voltage", 120.1)
    assert found[1:] == [
        (1_276_020_071_001 + 1000 * n, f"{base}current", v)
        for n, v in enumerate((1.2, 1.3, 1.4, 1.5, 1.6, 1.7))
    ]


def test_multiple_measurements_of_one_name() -> None:
    """5.1.3: what the unit alone tells apart has it in its key."""
    pack = [
        {"bn": OW, "bt": 1.320067464e09, "bu": "%RH", "v": 20},
        {"u": "lon", "v": 24.30621},
        {"u": "lat", "v": 60.07965},
        {"t": 60, "v": 20.3},
    ]
    at = 1_320_067_464_000
    assert read(pack) == [
        (at, f"{OW}:%RH", 20),
        (at, f"{OW}:lon", 24.30621),
        (at, f"{OW}:lat", 60.07965),
        (at + 60_000, f"{OW}:%RH", 20.3),
    ]


def test_multiple_data_types() -> None:
    """5.1.5: numbers, texts, flags and data."""
    pack = [
        {"bn": f"{OW}:", "n": "temp", "u": "Cel", "v": 23.1},
        {"n": "label", "vs": "Machine Room"},
        {"n": "open", "vb": False},
        {"n": "nfc-reader", "vd": "aGkgCg"},
    ]
    assert [(key[len(OW) + 1 :], value) for _, key, value in read(pack)] == [
        ("temp", 23.1),
        ("label", "Machine Room"),
        ("open", False),
        ("nfc-reader", "aGkgCg"),
    ]


def test_a_collection_of_resources() -> None:
    """5.1.6: another base name holds from its record on; names may begin with a digit."""
    pack = [
        {"bn": "2001:db8::2/", "bt": 1.320078429e09, "n": "temperature", "u": "Cel", "v": 25.2},
        {"n": "humidity", "u": "%RH", "v": 30},
        {"bn": "2001:db8::1/", "n": "temperature", "u": "Cel", "v": 12.3},
        {"n": "humidity", "u": "%RH", "v": 67},
    ]
    found = read(pack)
    assert {ts for ts, _, _ in found} == {1_320_078_429_000}
    assert [(key, value) for _, key, value in found] == [
        ("2001:db8::2/temperature", 25.2),
        ("2001:db8::2/humidity", 30),
        ("2001:db8::1/temperature", 12.3),
        ("2001:db8::1/humidity", 67),
    ]


def test_a_record_of_bases_alone_gives_nothing() -> None:
    """5.1.7"""
    pack = [{"bn": f"{OW}:"}, {"n": "temp", "u": "Cel", "v": 23.1}, {"n": "heat", "u": "/", "v": 1}]
    assert [key for _, key, _ in read(pack)] == [f"{OW}:temp", f"{OW}:heat"]


def test_members_nobody_knows_are_passed_over() -> None:
    """4.4: in a record of bases alone, too, by name as by number."""
    pack = [{"bn": "a:", "made-by": "x"}, {"n": "b", "v": 1, "made-by": 5}, {"made-by": 6}]
    assert [key for _, key, _ in read(pack)] == ["a:b"]
    body = cbor2.dumps([{-2: "a:", 99: 1, "made-by": "x"}, {0: "b", 2: 1, 99: 5}])
    found = decode_senml(body, NOW, max_values=10, cbor=True)
    assert [one.key for one in found] == ["a:b"]


def test_the_example_in_cbor() -> None:
    """Section 6, byte for byte."""
    current = "006763757272656e74"
    body = bytes.fromhex(
        "87a721781b75726e3a6465763a6f773a31306532303733613031303830303"
        "63a22fb41d303a15b00106223614120050067766f6c7461676501615602fb405e066666666666"
        f"a3{current}062402fb3ff3333333333333"
        f"a3{current}062302fb3ff4cccccccccccd"
        f"a3{current}062202fb3ff6666666666666"
        f"a3{current}062102f93e00"
        f"a3{current}062002fb3ff999999999999a"
        f"a3{current}060002fb3ffb333333333333"
    )
    found = decode_senml(body, NOW, max_values=9, cbor=True)
    assert [(one.ts - 1_276_020_076_001, one.value) for one in found] == [
        (0, 120.1),
        (-5000, 1.2),
        (-4000, 1.3),
        (-3000, 1.4),
        (-2000, 1.5),
        (-1000, 1.6),
        (0, 1.7),
    ]
    assert found[1].key == "urn:dev:ow:10e2073a0108006:current"


# ── rules ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"t": -10, "v": 1}, (NOW - 10_000, 1)),
        ({"t": 2**28 - 1, "v": 1}, (NOW + (2**28 - 1) * 1000, 1)),
        ({"t": 2**28, "v": 1}, (2**28 * 1000, 1)),
        ({"bt": 2**28, "t": -1.5, "v": 1}, (NOW + (2**28 * 1000 - 1500), 1)),
        ({"bt": 1_320_067_464, "t": 0.25, "v": 1}, (1_320_067_464_250, 1)),
        ({"bv": 20, "v": 3}, (NOW, 23)),
        ({"bv": 20.5, "v": 3}, (NOW, 23.5)),
        ({"v": 2**63 - 1, "bv": 1}, (NOW, "9223372036854775808")),
        ({"v": 2**64 - 1}, (NOW, "18446744073709551615")),
        ({"v": 1.5e308}, (NOW, 1.5e308)),
        ({"bv": 20}, (NOW, 20)),  # a value that is not there is zero
        ({"bv": 20, "vb": True}, (NOW, True)),
        ({"v": 1, "ut": 600}, (NOW, 1)),
        ({"v": 1, "unknown": {"x": [1]}}, (NOW, 1)),
        ({"vd": "aGkgCg=="}, (NOW, "aGkgCg")),
        ({"vs": ""}, (NOW, "")),
    ],
)
def test_bases_are_added_and_times_counted(record: Any, found: Any) -> None:
    """A time below 2**28 after all was added is relative to now; later ones are since 1970."""
    assert read([{"n": "x", **record}]) == [(found[0], "x", found[1])]


def test_sums_are_readings_of_their_own() -> None:
    """With the base sum; a record with a sum needs no value."""
    pack = [{"n": "energy", "v": 5, "s": 100.5}, {"n": "water", "s": 7}]
    assert [one[1:] for one in read(pack)] == [
        ("energy", 5),
        ("energy.sum", 100.5),
        ("water.sum", 7),
    ]
    pack = [{"bs": 1000, "n": "energy", "s": 1}, {"n": "energy", "t": 1}]
    assert [one[1:] for one in read(pack)] == [("energy.sum", 1001), ("energy.sum", 1000)]


@pytest.mark.parametrize(
    ("pack", "why"),
    [
        ({}, "array"),
        ([], "array"),
        ([5], "array"),
        ([{"n": "x"}], "neither a value nor a sum"),
        ([{"v": 1}], "a name"),
        ([{"n": "-x", "v": 1}], "a name"),
        ([{"n": "a b", "v": 1}], "a name"),
        ([{"n": "x" * 256, "v": 1}], "255"),
        ([{"bn": "x" * 256}], "255"),
        ([{"bn": "x" * 200, "n": "x" * 56, "v": 1}], "255"),
        ([{"bn": 5, "v": 1}], "bn must be a text"),
        ([{"n": "x", "v": 1, "vs": "y"}], "more than one value"),
        ([{"n": "x", "v": "1"}], "v must be a number"),
        ([{"n": "x", "v": True}], "v must be a number"),
        ([{"n": "x", "v": None}], "v must be a number"),
        ([{"n": "x", "vb": 1}], "vb"),
        ([{"n": "x", "vs": 1}], "vs must be a text"),
        ([{"n": "x", "vd": "?"}], "base64url"),
        ([{"n": "x", "vd": "aGkgC"}], "base64url"),
        ([{"n": "x", "v": 1, "t": "now"}], "t must be a number"),
        ([{"n": "x", "v": 1, "t": 1e12}], "out of bounds"),
        ([{"n": "x", "v": 1e308, "bv": 1e308}], "too large"),
        ([{"n": "x", "v": 1, "bver": 11}], "version 10"),
        ([{"n": "x", "v": 1, "bver": 0}], "bver"),
        ([{"n": "x", "v": 1, "bver": 5}, {"bver": 6, "n": "x", "v": 1}], "one version"),
        ([{"n": "x", "v": 1}, {"bver": 5, "n": "x", "v": 1}], "one version"),
        ([{"n": "x", "v": 1, "must_": 1}], "must be understood"),
        ([{"n": "x", "v": 1}] * 101, "at most 100 records"),
        ([{"n": "x", "v": 1, "s": 1}] * 51, "at most 100 values"),
    ],
)
def test_what_is_no_pack_is_refused_with_a_sentence(pack: Any, why: str) -> None:
    """In both forms; nothing of the pack is repeated."""
    with pytest.raises(BadPayload, match=why):
        decode_senml(json.dumps(pack).encode(), NOW, max_values=100, cbor=False)
    if isinstance(pack, list) and all(isinstance(one, dict) for one in pack):
        pack = [{LABELS.get(key, key): one[key] for key in one} for one in pack]
    labelled = cbor2.dumps(pack)
    with pytest.raises(BadPayload, match=why):
        decode_senml(labelled, NOW, max_values=100, cbor=True)


def test_cbor_has_bytes_and_decimal_fractions() -> None:
    """Data are bytes there, numbers may be fractions (section 6); one label is given once."""
    pack = [{0: "x", 2: Decimal("27.315")}, {0: "y", 8: b"hi \n"}, {0: "z", 2: 1, -99: 5}]
    found = decode_senml(cbor2.dumps(pack), NOW, max_values=9, cbor=True)
    assert [(one.key, one.value) for one in found] == [("x", 27.315), ("y", "aGkgCg"), ("z", 1)]
    for wrong in ([{0: "x", "n": "y", 2: 1}], [{0: "x", 2: Decimal("1e400")}]):
        with pytest.raises(BadPayload):
            decode_senml(cbor2.dumps(wrong), NOW, max_values=9, cbor=True)


def test_numbers_of_json_may_be_long() -> None:
    """As long as a double's; whole ones beyond 64 bits become text, as in ThingsBoard's JSON."""
    body = b'[{"n":"x","v":%d},{"n":"y","bv":0.5,"v":%d}]' % (10**100, 10**300)
    found = decode_senml(body, NOW, max_values=9, cbor=False)
    assert [one.value for one in found] == [str(10**100), 1e300]
    for wrong in (b'"v":%d' % 10**309, b'"v":1,"t":%d' % 10**300, b'"v":1,"bt":1e308,"t":1e308'):
        with pytest.raises(BadPayload):
            decode_senml(b'[{"n":"x",%b}]' % wrong, NOW, max_values=9, cbor=False)


def test_a_long_base_name_is_not_copied_before_each_record() -> None:
    """A message of a mebibyte must not keep others waiting for seconds."""
    pack = json.dumps([{"bn": "a" * 500_000, "n": "b", "v": 1}] + [{"v": 1}] * 9_000).encode()
    begun = time.process_time()
    with pytest.raises(BadPayload, match="255"):
        decode_senml(pack, NOW, max_values=10_000, cbor=False)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "content", [None, 1, [], [1], [1, 2, 3], [None, None], [0, []], [1.0, 1], ["a", 1], {}]
)
def test_a_decimal_fraction_is_an_array_of_two_whole_numbers(content: Any) -> None:
    """RFC 8949, section 3.4.4; whatever else the tag stands before is refused, and nothing else."""
    pack = cbor2.dumps([{0: "x", 2: cbor2.CBORTag(4, content)}])
    with pytest.raises(BadPayload):
        decode_senml(pack, NOW, max_values=9, cbor=True)


MEMBERS = st.dictionaries(
    st.sampled_from(sorted(LABELS)) | st.text(max_size=4),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    max_size=5,
)


@given(st.lists(MEMBERS, max_size=5), st.binary(max_size=40))
@settings(max_examples=60)
def test_arbitrary_packs_raise_nothing_else(pack: Any, noise: bytes) -> None:
    """Readings come out whose keys and values fit, or `BadPayload`."""
    bodies = [(json.dumps(pack).encode(), False), (cbor2.dumps(pack), True)]
    for body, cbor in (*bodies, (noise, True), (noise, False)):
        found: list[Reading] = []
        with suppress(BadPayload):
            found = decode_senml(body, NOW, max_values=50, cbor=cbor)
        for one in found:
            assert 0 < len(one.key) <= 255
            assert isinstance(one.value, bool | int | float | str)
            assert isinstance(one.ts, int)
