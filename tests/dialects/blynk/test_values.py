"""Values of datastreams: what a device writes becomes what is kept, and comes back."""

from __future__ import annotations

import json
from math import inf, isfinite
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Json, Value
from gateway.dialects.blynk.batches import read_batch
from gateway.dialects.blynk.section import Datastream, StreamType
from gateway.dialects.blynk.values import (
    Mistake,
    bare,
    default_of,
    from_json,
    from_texts,
    json_of,
    texts_of,
)

INTEGER = Datastream(name="i", type=StreamType.INTEGER)
DOUBLE = Datastream(name="d")
STRING = Datastream(name="s", type=StreamType.STRING)
ENUM = Datastream(name="e", type=StreamType.ENUM, values=["off", "eco", "full"])
LOCATION = Datastream(name="l", type=StreamType.LOCATION)
PERCENT = Datastream(name="p", min=0, max=100)
STREAMS = st.sampled_from([INTEGER, DOUBLE, STRING, ENUM, LOCATION, PERCENT])
VALUES: st.SearchStrategy[Value] = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from([Json("[1.5,2]"), Json("{}"), Json('["a",null]'), Json("[[1],{}]")])
)


@pytest.mark.parametrize(
    ("stream", "texts", "value"),
    [
        *((INTEGER, ["7"], 7), (INTEGER, ["-7"], -7), (INTEGER, ["7.000"], 7)),
        (INTEGER, [str(2**63 - 1)], 2**63 - 1),
        *((DOUBLE, ["7"], 7.0), (DOUBLE, ["-.5"], -0.5), (DOUBLE, ["1e3"], 1000.0)),
        *((DOUBLE, ["-0"], 0.0), (PERCENT, ["100"], 100.0), (PERCENT, ["0"], 0.0)),
        *((STRING, [""], ""), (STRING, ["a b"], "a b"), (STRING, ["ä" * 512], "ä" * 512)),
        *((ENUM, ["2"], 2), (ENUM, ["eco"], 1)),
        *(
            (LOCATION, ["12", "11"], Json("[12.0,11.0]")),
            (LOCATION, ["12,11"], Json("[12.0,11.0]")),
        ),
        (LOCATION, ["[-180, 90]"], Json("[-180.0,90.0]")),
    ],
)
def test_what_is_written_as_text(stream: Datastream, texts: list[str], value: Value) -> None:
    found = from_texts(stream, texts)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("stream", "texts"),
    [
        *((INTEGER, [text]) for text in ("", "x", "7.5", "1e3", " 7", "1_0", "٣", "0x1", "7,1")),
        *((INTEGER, texts) for texts in ([str(2**63)], ["9" * 30], [], ["1", "2"])),
        *((DOUBLE, [text]) for text in ("", ".", "nan", "inf", "1e999", "1_0", "٣", "1 ", "--1")),
        *((DOUBLE, ["1" * 65]), (PERCENT, ["100.1"]), (PERCENT, ["-1"])),
        *((STRING, ["a", "b"]), (STRING, ["x" * 1025]), (STRING, ["a\0b"]), (STRING, ["\ud800"])),
        *((ENUM, ["3"]), (ENUM, ["-1"]), (ENUM, ["Eco"]), (ENUM, [""])),
        *((LOCATION, texts) for texts in (["12"], ["1", "2", "3"], ["181", "0"], ["0", "91"])),
        *((LOCATION, texts) for texts in (["a", "b"], ["nan", "0"], [""], [])),
    ],
)
def test_what_cannot_be_written(stream: Datastream, texts: list[str]) -> None:
    with pytest.raises(Mistake, match=r"^Value doesn't match the Datastream data type\.$"):
        from_texts(stream, texts)


@pytest.mark.parametrize(
    ("stream", "found", "value"),
    [
        *((INTEGER, 7, 7), (DOUBLE, 7, 7.0), (DOUBLE, 7.5, 7.5), (STRING, "7", "7")),
        *((ENUM, 2, 2), (ENUM, "off", 0), (LOCATION, [12, 11.5], Json("[12.0,11.5]"))),
    ],
)
def test_what_is_written_as_json(stream: Datastream, found: object, value: Value) -> None:
    kept = from_json(stream, found)
    assert kept == value
    assert type(kept) is type(value)


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        *((stream, found) for stream in (INTEGER, DOUBLE, ENUM) for found in (True, None, {}, [])),
        *((INTEGER, 7.0), (INTEGER, "7"), (INTEGER, 2**63), (DOUBLE, "7"), (DOUBLE, inf)),
        *((DOUBLE, 10**400), (STRING, 7), (STRING, None), (ENUM, 3), (ENUM, "1"), (ENUM, 1.0)),
        *((LOCATION, "1,2"), (LOCATION, [1]), (LOCATION, [1, "2"]), (LOCATION, [True, 1])),
        *((PERCENT, 101), (LOCATION, [[1], 2])),
    ],
)
def test_what_is_no_such_json(stream: Datastream, found: object) -> None:
    """Types must match: nothing is turned into another."""
    with pytest.raises(Mistake):
        from_json(stream, found)


@pytest.mark.parametrize(
    ("stream", "value", "shown"),
    [
        *((DOUBLE, 100.0, "100.00000"), (DOUBLE, 0.1, "0.10000"), (DOUBLE, 21, "21.00000")),
        *((DOUBLE, 0.1234567, "0.1234567"), (DOUBLE, 1e300, "1e+300"), (DOUBLE, -2.5, "-2.50000")),
        *((INTEGER, 7, "7"), (INTEGER, 7.5, "7.5"), (INTEGER, True, "1"), (STRING, "x", "x")),
        *((DOUBLE, "odd", "odd"), (LOCATION, Json("[1.0,2.0]"), "[1.0,2.0]"), (ENUM, 1, "1")),
    ],
)
def test_a_value_alone(stream: Datastream, value: Value, shown: str) -> None:
    """A double has five decimals at least, and none is lost; others are as they are."""
    assert bare(stream, value) == shown


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        *((7, ("7",)), (7.5, ("7.5",)), (True, ("1",)), ("a", ("a",))),
        *((Json("[1.5,2]"), ("1.5", "2")), (Json('["a",null,false]'), ("a", "", "0"))),
        *((Json("{}"), ("{}",)), (Json("[[1],{}]"), ("[[1],{}]",))),
    ],
)
def test_a_value_as_texts(value: Value, texts: tuple[str, ...]) -> None:
    assert texts_of(value) == texts


def test_defaults() -> None:
    """As if it had been written: a location of doubles, an enum's number."""
    assert default_of(msgspec.structs.replace(LOCATION, default=[1, 2])) == Json("[1.0,2.0]")
    assert default_of(msgspec.structs.replace(ENUM, default=ENUM.values[1])) == 1
    assert default_of(msgspec.structs.replace(DOUBLE, default=3)) == 3.0
    assert default_of(msgspec.structs.replace(STRING, default="x")) == "x"
    assert default_of(DOUBLE) is None


# ── whatever comes ────────────────────────────────────────────────────────────────────────────

TEXTS = st.lists(
    st.text()
    | st.from_regex(r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?", fullmatch=True)
    | st.from_regex(r"\[?-?[0-9]{1,3}, ?-?[0-9]{1,3}\]?", fullmatch=True),
    max_size=3,
)


def check_kept(stream: Datastream, value: Value) -> None:
    """A value that was taken is of the datastream's type, within its range, and can be read."""
    assert stream.type is not StreamType.DOUBLE or isinstance(value, float)
    if isinstance(value, float):
        assert isfinite(value)
    if isinstance(value, int):
        assert -(2**63) <= value < 2**63
    if isinstance(value, int | float):
        assert stream.min is None or value >= stream.min
        assert stream.max is None or value <= stream.max
    assert from_texts(stream, texts_of(value)) == value
    assert (
        from_json(stream, msgspec.json.decode(msgspec.json.encode(json_of(stream, value)))) == value
    )


@given(STREAMS, TEXTS)
def test_any_texts(stream: Datastream, texts: list[str]) -> None:
    """They become a value that comes back the same, or a mistake."""
    try:
        value = from_texts(stream, texts)
    except Mistake:
        return
    check_kept(stream, value)


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=6,
)


@given(STREAMS, ANYTHING)
def test_any_json(stream: Datastream, found: object) -> None:
    try:
        value = from_json(stream, found)
    except Mistake:
        return
    check_kept(stream, value)


def check_batch(stream: Datastream, body: bytes) -> None:
    try:
        writes = read_batch(stream, body)
    except Mistake:
        return
    for one in writes:
        assert one.ts is not None
        assert one.ts >= 0
        check_kept(stream, one.value)


@given(STREAMS, st.binary() | ANYTHING.map(lambda one: json.dumps(one).encode()))
def test_any_batch(stream: Datastream, body: bytes) -> None:
    """A body becomes values with times, or a mistake."""
    check_batch(stream, body)


POINTS = st.lists(st.tuples(st.integers() | st.floats(), ANYTHING), max_size=4)


@given(STREAMS, POINTS)
def test_any_points(stream: Datastream, points: list[Any]) -> None:
    """The same of what is nearly a batch."""
    check_batch(stream, json.dumps(points).encode())


@given(STREAMS, VALUES)
def test_whatever_another_dialect_kept_can_be_shown(stream: Datastream, value: Value) -> None:
    """Bare, as texts, and in JSON that is valid."""
    assert isinstance(bare(stream, value), str)
    assert all(isinstance(one, str) for one in texts_of(value))
    msgspec.json.decode(msgspec.json.encode({"v": json_of(stream, value)}))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_decimal_is_lost(number: float) -> None:
    assert float(bare(DOUBLE, number)) == number
