"""The device API in CBOR: the same messages as in JSON, and what is no message of ours."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.model import (
    Attributes,
    AttributesChange,
    AttributesSelection,
    Json,
    RpcCall,
    RpcState,
)
from gateway.dialects.thingsboard import cbor
from gateway.dialects.thingsboard.cbor import CBOR, from_json, loads, to_json
from gateway.wire.call import BadPayload, Format

NOW = 1_795_219_296_308
WHOLE = st.integers(-(2**64), 2**64 - 1)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | WHOLE
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


def readings(value: Any, most: int = 100) -> list[tuple[int, str, Any]]:
    found = CBOR.telemetry(cbor2.dumps(value), NOW, most)
    return [(one.ts, one.key, one.value) for one in found]


# ── what is said ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"t": 23.5}, [(NOW, "t", 23.5)]),
        ({"a": 1, "b": "x", "c": True, "d": None}, [(NOW, "a", 1), (NOW, "b", "x"), (NOW, "c", 1)]),
        ({"ts": 5, "values": {"a": 1}}, [(5, "a", 1)]),
        ({"ts": 5.9, "values": {"a": 1}}, [(5, "a", 1)]),
        ([{"a": 1}, {"ts": 5, "values": {"a": 2}}], [(NOW, "a", 1), (5, "a", 2)]),
        ({"values": {"a": 1}}, [(NOW, "values", Json('{"a":1}'))]),
        ({"a": [1, 2.5, "x"]}, [(NOW, "a", Json('[1,2.5,"x"]'))]),
        ({"a": 2**63}, [(NOW, "a", "9223372036854775808")]),
        ({"a": -(2**63)}, [(NOW, "a", -(2**63))]),
        ({"a": 0.1 + 0.2}, [(NOW, "a", 0.30000000000000004)]),
        ({"a": 10.0}, [(NOW, "a", 10.0)]),
        ({"a": "21.5"}, [(NOW, "a", "21.5")]),
        ([], []),
        ({}, []),
    ],
)
def test_telemetry_has_the_shapes_of_json(sent: Any, expected: Any) -> None:
    """Numbers are what they are: a double stays one to the last bit, a text stays a text."""
    found = readings(sent)
    assert found == expected
    assert [type(one[2]) for one in found] == [
        type(value) if key != "c" else bool for _, key, value in expected
    ]


def test_short_floats_and_endless_lengths_are_read() -> None:
    """As small encoders write them: halves, singles, maps and texts without a length; and the mark
    of CBOR in front (RFC 8949, sections 3.4.6 and 4.1)."""
    single = bytes.fromhex("bf6174fa3dccccceff")
    assert CBOR.telemetry(single, NOW, 9)[0].value == pytest.approx(0.1, abs=1e-7)
    half = bytes.fromhex("d9d9f7 a1 7f 61 61 61 62 ff f9 3e00")
    assert [(one.key, one.value) for one in CBOR.telemetry(half, NOW, 9)] == [("ab", 1.5)]


def test_the_other_messages_are_those_of_json() -> None:
    """Attributes, calls both ways, answers and claims, there and back."""
    assert CBOR.format is Format.CBOR
    assert CBOR.attributes(cbor2.dumps({"fw": "1.4", "n": 2}), 9) == {"fw": "1.4", "n": 2}
    assert CBOR.attributes_request(b"") == AttributesSelection()
    asked = cbor2.dumps({"clientKeys": "a,b", "sharedKeys": "c"})
    assert CBOR.attributes_request(asked) == AttributesSelection(("a", "b"), ("c",))
    found = Attributes({"a": 42.0, "j": Json('{"x":[1]}')}, {"c": "t"})
    told = cbor2.loads(CBOR.attributes_response(1, found))
    assert told == {"client": {"a": 42.0, "j": {"x": [1]}}, "shared": {"c": "t"}}
    assert isinstance(told["client"]["a"], float)
    change = AttributesChange({"a": 1}, ("b",))
    assert cbor2.loads(CBOR.attributes_update(change)) == {"a": 1, "deleted": ["b"]}
    call = RpcCall(
        id=1, device_id=1, method="m", params='{"p":1}', expires_at=1, state=RpcState.QUEUED
    )
    assert cbor2.loads(CBOR.rpc_request(7, call, with_id=True)) == {
        "id": 7,
        "method": "m",
        "params": {"p": 1},
    }
    assert json.loads(CBOR.rpc_answer(cbor2.dumps({"on": True}))) == {"on": True}
    assert CBOR.rpc_answer(cbor2.dumps("done")) == '"done"'
    assert CBOR.client_rpc(cbor2.dumps({"method": "m", "params": [1]})) == ("m", "[1]")
    assert cbor2.loads(CBOR.client_rpc_response(1, b'{"t":1.5}')) == {"t": 1.5}
    key, lasts_ms = CBOR.claim(cbor2.dumps({"secretKey": "k", "durationMs": 60_000}))
    assert (key.reveal(), lasts_ms) == ("k", 60_000)
    assert CBOR.claim(b"")[1] == 0


# ── what is no message ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "well-formed"),
        (b"\xa1", "well-formed"),
        (b"\xa1\x61t", "well-formed"),
        (b"\xff", "well-formed"),
        (b"\xbf\x61a\xff", "well-formed"),  # a key without its value
        (b"\x1c", "well-formed"),
        (b"\x7f\x01\xff", "well-formed"),  # a text made of numbers
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "well-formed"),
        (b"\x61\xff", "well-formed"),  # no UTF-8
        (b"\xa0\xa0", "behind"),
        (cbor2.dumps({"a": b"x"}), "byte strings"),
        (cbor2.dumps({1: "a"}), "key must be a text"),
        (b"\xa1\xa0\x01", "key must be a text"),
        (b"\xa2\x61a\x01\x61a\x02", "twice"),
        (b"\xa2\x61a\x01\x78\x01a\x02", "twice"),
        (b"\xa2\x61a\x01\x7f\x61a\xff\x02", "twice"),
        (cbor2.dumps({"a": datetime(2026, 1, 1, tzinfo=UTC)}), "tags"),
        (cbor2.dumps({"a": 2**64}), "tags"),
        (cbor2.dumps({"a": float("nan")}), "finite"),
        (b"\xa1\x61a\xf9\x7c\x00", "finite"),
        (b"\xa1\x61a\xfa\xff\x80\x00\x00", "finite"),
        (b"\xa1\x61a\xf7", "simple"),
        (b"\xa1\x61a\xf8\x20", "simple"),
        (b"\x81" * 65 + b"\x01", "nested"),
        (b"\x98\xfe" + b"\x01" * 253, "well-formed"),
    ],
)
def test_what_is_no_message_is_refused_with_a_sentence(body: bytes, why: str) -> None:
    """Nothing else comes out, and nothing of it is repeated."""
    with pytest.raises(BadPayload, match=why) as caught:
        loads(body)
    assert caught.value.undecodable


APPENDIX_F = """
18 19 1a 1b 1901 1a0102 1b01020304050607 38 58 78 98 9a01ff00 b8 d8 f8 f900 fa0000 fb000000
41 61 5affffffff00 5bffffffffffffffff010203 7affffffff00 7b7fffffffffffffff010203
81 818181818181818181 8200 a1 a20102 a100 a2000000 c0 5f4100 7f6100 9f 9f0102 bf bf01020102 819f
9f8000 9f9f9f9f9fffffffff 9f819f819f9fffffff
1c 1d 1e 3c 3d 3e 5c 5d 5e 7c 7d 7e 9c 9d 9e bc bd be dc dd de fc fd fe
f800 f801 f818 f81f 5f00ff 5f21ff 5f6100ff 5f80ff 5fa0ff 5fc000ff 5fe0ff 7f4100ff
5f5f4100ffff 7f7f6100ffff ff 81ff 8200ff a1ff a1ff00 a100ff a20000ff 9f81ff 9f829f819f9fffffffff
bf00ff bf000000ff 1f 3f df
"""
"""RFC 8949's own examples of what is not well-formed."""


@pytest.mark.parametrize("senml", [False, True])
def test_what_is_not_well_formed_is_no_message(senml: bool) -> None:
    """Also inside a map, where more of it is taken."""
    for body in map(bytes.fromhex, APPENDIX_F.split()):
        for message in (body, b"\xa1\x61a" + body, b"\x81\xa1\x61a" + body):
            with pytest.raises(BadPayload):
                loads(message, senml=senml)


def test_bounds() -> None:
    """Depth, items, values, objects and keys."""
    assert loads(b"\x81" * 64 + b"\x01")
    most = cbor.MOST_ITEMS
    with pytest.raises(BadPayload, match="items"):
        loads(cbor2.dumps([0] * most))
    assert len(loads(cbor2.dumps([0] * (most - 1)))) == most - 1
    for kind, piece in ((0x7F, b"\x60"), (0x5F, b"\x40")):
        with pytest.raises(BadPayload, match="items"):  # a text in pieces, and bytes in pieces
            loads(bytes([kind]) + piece * most + b"\xff", senml=True)
    with pytest.raises(BadPayload, match="items"):
        loads(b"\x9f" + b"\xc4\x82\x00\x00" * (most // 3) + b"\xff", senml=True)
    for sent in ({str(n): n for n in range(101)}, [{}] * 101, [{"a": 1, "b": 2}] * 51):
        with pytest.raises(BadPayload, match="at most 100"):
            readings(sent)
    for key in ("", "k" * 256):
        with pytest.raises(BadPayload, match="255"):
            readings({key: 1})
    for sent in (5, "text", [5], {"ts": 1, "values": 5}):
        with pytest.raises(BadPayload) as caught:
            readings(sent)
        assert caught.value.undecodable
    for ts in (True, "5", 2**63):
        with pytest.raises(BadPayload, match="ts"):
            readings({"ts": ts, "values": {}})


@given(PLAIN)
@settings(max_examples=60)
def test_json_and_cbor_say_the_same(value: Any) -> None:
    """Whatever JSON can say comes back from CBOR as it was, and from CBOR through JSON."""
    assert loads(cbor2.dumps(value)) == value
    assert json.loads(to_json(cbor2.dumps(value))) == value
    assert cbor2.loads(from_json(json.dumps(value).encode())) == value


@given(st.binary(max_size=60) | PLAIN.map(cbor2.dumps).map(lambda body: body[:-1] + b"\xff"))
@example(b"\x9f\xc4\xff")
@example(b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01")
@settings(max_examples=60)
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    """Every decoder gives a message or `BadPayload`; what is given back is well-formed CBOR."""
    for read in (
        lambda: CBOR.telemetry(body, NOW, 50),
        lambda: CBOR.attributes(body, 50),
        lambda: CBOR.attributes_request(body),
        lambda: CBOR.client_rpc(body),
        lambda: CBOR.rpc_answer(body),
        lambda: CBOR.claim(body),
        lambda: loads(body, senml=True),
    ):
        with suppress(BadPayload):
            read()
