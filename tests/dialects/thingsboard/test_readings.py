"""Telemetry and attributes: the shapes, the number rules row by row, and arbitrary bytes."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import Attributes, AttributesSelection, Json, Reading, Value
from gateway.dialects.thingsboard.readings import (
    MOST_EXPONENT,
    MOST_KEYS_ASKED,
    MOST_NUMBER_CHARACTERS,
    MOST_VALUES,
    decode_attributes,
    decode_attributes_request,
    decode_telemetry,
    encode_attributes,
    encode_values,
    selection_from_query,
)
from gateway.wire.call import BadPayload

NOW = 1_795_219_296_308


def value_of(written: str) -> Value | None:
    """What the value `written` becomes."""
    return decode_attributes(b'{"k":%b}' % written.encode()).get("k")


def same(left: object, right: object) -> bool:
    """Equal, of one type, and of one sign."""
    return type(left) is type(right) and repr(left) == repr(right)


# ── shapes ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "readings"),
    [
        ('{"temperature":23.5}', [(NOW, "temperature", 23.5)]),
        ('{"a":1,"b":"x","c":true}', [(NOW, "a", 1), (NOW, "b", "x"), (NOW, "c", True)]),
        ('{"ts":5,"values":{"a":1,"b":2}}', [(5, "a", 1), (5, "b", 2)]),
        ('[{"a":1},{"ts":5,"values":{"a":2}}]', [(NOW, "a", 1), (5, "a", 2)]),
        ('{"ts":5,"a":1}', [(NOW, "ts", 5), (NOW, "a", 1)]),
        ('{"values":{"a":1}}', [(NOW, "values", Json('{"a":1}'))]),
        ('{"ts":5,"values":{"a":1},"metadata":{"connector":"m"}}', [(5, "a", 1)]),
        ('{"ts":5,"values":{"ts":6,"values":7}}', [(5, "ts", 6), (5, "values", 7)]),
        ('{"a":null,"b":false}', [(NOW, "b", False)]),
        (' [ { "a" : 1 } ] \n', [(NOW, "a", 1)]),
        ("[]", []),
        ("{}", []),
        ("[{}]", []),
        ('{"ts":5,"values":{}}', []),
        ('{"é":"ü\\n"}', [(NOW, "é", "ü\n")]),
        ('{"a":[1.50],"b":2.5,"a":{ }}', [(NOW, "a", Json("{ }")), (NOW, "b", 2.5)]),
        (
            '[{"a":[1]},{"ts":5,"values":{"a":[2.0],"n":null,"b":{}}},{"a":[3]}]',
            [
                *((NOW, "a", Json("[1]")), (5, "a", Json("[2.0]"))),
                *((5, "b", Json("{}")), (NOW, "a", Json("[3]"))),
            ],
        ),
    ],
)
def test_telemetry_shapes(body: str, readings: list[tuple[int, str, Value]]) -> None:
    """An object, a timestamped object, or an array of either; both members make a timestamp."""
    assert decode_telemetry(body.encode(), NOW) == [Reading(*reading) for reading in readings]


@pytest.mark.parametrize(
    ("ts", "ms"),
    [
        ("0", 0),
        ("-1", -1),
        ("1795219296308", NOW),
        ("1795219296308.456", NOW),
        ("1795219296308.999", NOW),
        ("1795219296308.5", NOW),
        ("-0.5", 0),
        ("1.795219296308e12", NOW),
        ('"1795219296308"', NOW),
        ('"1795219296308.5"', NOW),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_time_is_a_number_of_milliseconds(ts: str, ms: int) -> None:
    """Fractions are cut off and numbers written as text are taken."""
    body = b'{"ts":%b,"values":{"a":1}}' % ts.encode()
    assert decode_telemetry(body, NOW) == [Reading(ms, "a", 1)]


@pytest.mark.parametrize("ts", ["null", "true", '"now"', '""', '"1e3"', "[1]", "{}", '" 1"'])
def test_any_other_time_is_refused(ts: str) -> None:
    """The message names the rule."""
    with pytest.raises(BadPayload, match="ts must be a number of milliseconds"):
        decode_telemetry(b'{"ts":%b,"values":{"a":1}}' % ts.encode(), NOW)


@pytest.mark.parametrize(
    "ts", ["9223372036854775808", "1e30", "-1e19", '"99999999999999999999"', "1e99999", "9" * 5000]
)
def test_a_time_beyond_64_bits_is_refused(ts: str) -> None:
    """A time that fits no column is a bad payload, not an overflow later."""
    with pytest.raises(BadPayload):
        decode_telemetry(b'{"ts":%b,"values":{"a":1}}' % ts.encode(), NOW)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "7",
        '"text"',
        "[1]",
        "[[]]",
        "[null]",
        '[{"a":1},2]',
        '{"ts":1,"values":[]}',
        '{"ts":1,"values":null}',
        '{"ts":1,"values":"x"}',
        '{"":1}',
        '{"%s":1}' % ("k" * 256),
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":01}',
        '{"a":1.}',
        '{"a":.5}',
        '{"a":+1}',
        '{"a":"\\ud800"}',
        '{"a":[1,]}',
        "{'a':1}",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a":' + "[" * 5000 + "]" * 5000 + "}",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_anything_else_is_a_bad_payload(body: str) -> None:
    """No other shape, and no JSON that is not JSON."""
    with pytest.raises(BadPayload):
        decode_telemetry(body.encode(), NOW)


@pytest.mark.parametrize(
    "body", [b'{"a":"\xff"}', b'{"\xff":1}', b'{"a":["\xff"]}', b'{"a":"\xed\xa0\x80"}']
)
def test_text_that_is_no_utf8_is_a_bad_payload(body: bytes) -> None:
    """Broken UTF-8 gets no further, however deep it lies."""
    for decode in (decode_attributes, lambda sent: decode_telemetry(sent, NOW)):
        with pytest.raises(BadPayload):
            decode(body)


def test_a_key_may_have_255_characters() -> None:
    """The longest key is taken; one more is refused by the rule, not by its name."""
    assert decode_attributes(b'{"%b":1}' % (b"k" * 255)) == {"k" * 255: 1}
    with pytest.raises(BadPayload, match="a key must have 1 to 255 characters"):
        decode_attributes(b'{"%b":1}' % (b"k" * 256))


def test_attributes_are_one_object() -> None:
    """Timestamps mean nothing here, arrays are refused, and the last of a repeated name counts."""
    body = b'{"ts":5,"values":{"a":1},"n":null,"b":1,"b":2}'
    assert decode_attributes(body) == {"ts": 5, "values": Json('{"a":1}'), "b": 2}
    with pytest.raises(BadPayload, match="attributes must be an object"):
        decode_attributes(b'[{"a":1}]')


# ── values ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ('"text"', "text"),
        ('""', ""),
        ('"true"', "true"),
        ("0", 0),
        ("-0", 0),
        ("10", 10),
        ("1E+1", 10),
        ("1e1", 10),
        ("1.5e1", 15),
        ("1.0e0", 1),
        ("0e0", 0),
        ("0.0e-20", 0),
        ("150e-1", 15),
        ("10.0", 10.0),
        ("42.0", 42.0),
        ("0.0", 0.0),
        ("-0.0", 0.0),
        ("23.5", 23.5),
        ("-1.25e-2", -0.0125),
        ("1e-16", 1e-16),
        ("1.5e-15", 1.5e-15),
        ("0.1234567890123456", 0.1234567890123456),
        ("0.12345678901234567", "0.12345678901234567"),
        ("1.00000000000000000", "1.00000000000000000"),
        ("1e-17", "0.00000000000000001"),
        ("1.5e-16", "0.00000000000000015"),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("18446744073709551616", "18446744073709551616"),
        ("9.223372036854775807e18", 2**63 - 1),
        ("1E19", "10000000000000000000"),
        ("1e308", "1" + "0" * 308),
        ("5e-324", "0." + "0" * 323 + "5"),
        ("0e-324", 0),
        ("9" * 400 + ".0", "9" * 400 + ".0"),
        ("9" * 400 + ".5e0", "9" * 400 + ".5"),
    ],
)
def test_a_number_becomes_what_it_was_written_as(written: str, value: Value | None) -> None:
    """Integral and without a lone point: integer; up to 16 decimals: double; else its text."""
    assert same(value_of(written), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("123", 123),
        ("-7", -7),
        ("007", 7),
        ("10.0", 10.0),
        ("-2.50", -2.5),
        (".5", 0.5),
        ("-.5", -0.5),
        ("9223372036854775808", "9223372036854775808"),
        ("0.12345678901234567", "0.12345678901234567"),
    ],
)
def test_a_text_that_is_a_plain_number_becomes_one(text: str, value: Value) -> None:
    """Type cast turns plain decimal text into a number by the rules of numbers."""
    assert same(value_of(f'"{text}"'), value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", ".", "-.", "1.", "1.2.3", "--1", "+5", "1,5", "1_0", "0x1", "1e5", "1E5"),
        *("1 ", " 1", "1\u0000", "NaN", "Infinity", "١٢", "²"),
        "9" * (MOST_NUMBER_CHARACTERS + 1),
    ],
)
def test_any_other_text_stays_text(text: str) -> None:
    """An exponent, a plus sign, a space or a foreign digit keeps text what it is."""
    assert same(value_of(json.dumps(text)), text)


@pytest.mark.parametrize(
    "written",
    [
        "1" + "0" * 5000,
        "0." + "1" * 1100,
        "1." + "1" * 1100 + "e5",
    ],
)
def test_a_number_with_too_many_digits_is_refused(written: str) -> None:
    """However it is written, a number has its bound."""
    with pytest.raises(BadPayload, match="digits"):
        value_of(written)


@pytest.mark.parametrize(
    "written",
    [
        *("1e309", "1e-325", "1e1000", "-1E+309", "0e309", "1.5e400"),
        *("1e999999999", "-1e-999999999", "1e99999999999999999999999"),
    ],
)
def test_an_exponent_beyond_a_doubles_is_refused(written: str) -> None:
    """A few bytes never become a gigabyte of digits, nor 70,000 numbers of 1,000 digits."""
    for body in (b'{"k":%b}', b'{"ts":%b,"values":{"k":1}}', b'[{"k":[1]},{"k":%b}]'):
        with pytest.raises(BadPayload, match="an exponent must be from -324 to 308"):
            decode_telemetry(body % written.encode(), NOW)


@given(st.from_regex(r"-?[1-9](\.[0-9]{1,20})?[eE][+-]?[0-9]{1,4}", fullmatch=True))
@settings(deadline=None, max_examples=120)
def test_a_number_is_written_out_for_a_bounded_length(written: str) -> None:
    """What a number grows to is its own length and a double's exponent, at most."""
    with suppress(BadPayload):
        assert len(str(value_of(written))) <= len(written) + 325


# ── how much one message may hold ─────────────────────────────────────────────────────────────


def numbered(count: int, value: str = "1") -> bytes:
    """An object with `count` members."""
    return b"{%b}" % ",".join(f'"{key}":{value}' for key in range(count)).encode()


@pytest.mark.parametrize("value", ["1", "2.5", "null", '"text"', "[1]", "1e300"])
def test_a_message_has_so_many_values(value: str) -> None:
    """The last value that fits is taken, and one more is refused by the rule."""
    for decode in (decode_attributes, telemetry_now):
        assert len(decode(numbered(3, value), max_values=3)) == (0 if value == "null" else 3)
        with pytest.raises(BadPayload, match="at most 3 values in one message"):
            decode(numbered(4, value), max_values=3)


def telemetry_now(body: bytes, **limits: Any) -> list[Reading]:
    return decode_telemetry(body, NOW, **limits)


@pytest.mark.parametrize("object_", [b"%b", b'{"ts":5,"values":%b}'])
def test_the_values_of_all_objects_count(object_: bytes) -> None:
    """An array is one message: its objects share what one may have."""
    one, two = object_ % numbered(1), object_ % numbered(2)
    assert len(decode_telemetry(b"[%b,%b]" % (one, two), NOW, max_values=3)) == 3
    for body in (b"[%b,%b]" % (two, two), b"[%b,%b,%b]" % (one, one, two)):
        with pytest.raises(BadPayload, match="at most 3 values in one message"):
            decode_telemetry(body, NOW, max_values=3)


def test_objects_without_values_are_bounded_too() -> None:
    """An array of nothing is still work."""
    assert decode_telemetry(b"[{},{},{}]", NOW, max_values=3) == []
    with pytest.raises(BadPayload, match="at most 3 objects in one message"):
        decode_telemetry(b"[{},{},{},{}]", NOW, max_values=3)


def test_a_message_has_10_000_values_unless_told_otherwise() -> None:
    """The default is what the documentation says."""
    assert MOST_VALUES == 10_000
    assert len(decode_attributes(numbered(10_000))) == 10_000
    for decode in (decode_attributes, telemetry_now):
        with pytest.raises(BadPayload, match="at most 10000 values in one message"):
            decode(numbered(10_001))


def test_the_largest_message_stays_small() -> None:
    """All the exponents 10,000 values can hold are some 3 MB of text, not hundreds."""
    values = decode_attributes(numbered(MOST_VALUES, f"1e{MOST_EXPONENT}"))
    assert sum(len(str(value)) for value in values.values()) == MOST_VALUES * 309


@pytest.mark.parametrize(
    "written",
    ['{"b" : [1.50, 1e5,\t"x"]}', "[]", "{}", "[1e999, 9e-999]", '[" ] "]', '["é"]', "[[1],[2.0]]"],
)
def test_an_object_or_array_keeps_its_own_text(written: str) -> None:
    """Structures are stored as the device wrote them, without the space around them."""
    body = b'{"k": %b , "z":1}' % written.encode()
    assert decode_attributes(body) == {"k": Json(written), "z": 1}


NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)


@given(NUMBERS)
@settings(deadline=None, max_examples=120)
def test_no_number_changes_its_amount(written: str) -> None:
    """Integers and texts are exact, doubles the nearest there is."""
    try:
        value = value_of(written)
    except BadPayload:
        exponent = int(written.lower().partition("e")[2])
        assert not -324 <= exponent <= 308
        return
    if isinstance(value, float):
        assert value == float(written)
        assert math.isfinite(value)
    else:
        assert isinstance(value, int | str)
        assert not isinstance(value, bool)
        assert Decimal(value) == Decimal(written)
        assert "e" not in str(value).lower()


# ── arbitrary bytes ───────────────────────────────────────────────────────────────────────────

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
JSON_BODIES = JSON_VALUES.map(lambda value: json.dumps(value).encode())


@given(
    st.binary() | JSON_BODIES | st.binary(max_size=20).map(lambda noise: b'{"a":' + noise + b"}")
)
@settings(deadline=None, max_examples=400)
def test_arbitrary_bytes_are_values_or_a_bad_payload(body: bytes) -> None:
    """Nothing but `BadPayload` comes out, and every value has a core type and its range."""
    with suppress(BadPayload):
        for reading in decode_telemetry(body, NOW):
            assert isinstance(reading.value, bool | int | float | str | Json)
            assert not isinstance(reading.value, int) or -(2**63) <= reading.value < 2**63


@given(st.binary() | JSON_BODIES)
@settings(deadline=None, max_examples=80)
def test_arbitrary_requests_are_a_selection_or_a_bad_payload(body: bytes) -> None:
    """Nothing but `BadPayload` comes out of an attributes request."""
    with suppress(BadPayload):
        assert isinstance(decode_attributes_request(body), AttributesSelection)


CORE_VALUES = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]))
)


@given(st.dictionaries(st.text("abcdé", min_size=1, max_size=5), CORE_VALUES))
@settings(deadline=None, max_examples=80)
def test_values_survive_the_way_out_and_in(values: dict[str, Value]) -> None:
    """What we write is JSON that means the same, with doubles still doubles."""
    again = json.loads(encode_values(values))
    assert {key: repr(value) for key, value in again.items()} == {
        key: repr(value) for key, value in values.items()
    }


# ── asking for attributes ─────────────────────────────────────────────────────────────────────

ALL = AttributesSelection(None, None)


@pytest.mark.parametrize(
    ("body", "selection"),
    [
        (b"", ALL),
        (b"{}", ALL),
        (b'{"other":1}', ALL),
        (b'{"clientKeys":null,"sharedKeys":""}', ALL),
        (b'{"clientKeys":",,"}', ALL),
        (b'{"clientKeys":"a,b","sharedKeys":"c"}', AttributesSelection(("a", "b"), ("c",))),
        (b'{"clientKeys":"a"}', AttributesSelection(("a",), ())),
        (b'{"sharedKeys":"a,,b,a, c"}', AttributesSelection((), ("a", "b", " c"))),
        (b'{"sharedKeys":7}', AttributesSelection((), ("7",))),
    ],
)
def test_an_attributes_request_selects_by_scope(
    body: bytes, selection: AttributesSelection
) -> None:
    """Neither list: all of both scopes. One list: that scope alone."""
    assert decode_attributes_request(body) == selection


@pytest.mark.parametrize("body", [b"[]", b"a,b", b'{"clientKeys":["a"]}', b'{"sharedKeys":{}}'])
def test_an_attributes_request_must_be_an_object_of_texts(body: bytes) -> None:
    """Lists of keys are comma-separated text."""
    with pytest.raises(BadPayload):
        decode_attributes_request(body)


def asked(count: int) -> str:
    """A list of `count` keys."""
    return ",".join(map(str, range(count)))


def test_a_request_asks_for_so_many_keys() -> None:
    """1,000 by name, both scopes together; one more is refused by the rule, not by its name."""
    some, rest = asked(600), asked(MOST_KEYS_ASKED - 600)
    query = {"clientKeys": some, "sharedKeys": rest}
    for selection in (
        selection_from_query(query),
        decode_attributes_request(json.dumps(query).encode()),
    ):
        assert selection == AttributesSelection(tuple(some.split(",")), tuple(rest.split(",")))
    for more in (
        {"clientKeys": asked(MOST_KEYS_ASKED + 1)},
        {"sharedKeys": asked(11_000)},
        {"clientKeys": some, "sharedKeys": rest + ",x"},
        {"clientKeys": "a," * MOST_KEYS_ASKED},
    ):
        with pytest.raises(BadPayload, match="at most 1000 keys in one request"):
            selection_from_query(more)
        with pytest.raises(BadPayload, match="at most 1000 keys in one request"):
            decode_attributes_request(json.dumps(more).encode())


def test_a_query_selects_like_a_request() -> None:
    """HTTP and CoAP say the same in the address."""
    assert selection_from_query({}) == ALL
    assert selection_from_query({"clientKeys": "a,b", "x": "y"}) == AttributesSelection(
        ("a", "b"), ()
    )
    assert selection_from_query({"sharedKeys": "a", "clientKeys": ""}) == AttributesSelection(
        (), ("a",)
    )


# ── telling attributes ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("found", "body"),
    [
        (Attributes({}, {}), b"{}"),
        (Attributes({"a": 1}, {}), b'{"client":{"a":1}}'),
        (Attributes({}, {"b": 42.0}), b'{"shared":{"b":42.0}}'),
        (
            Attributes({"a": True, "t": "x\n"}, {"j": Json('{"k" : [1.50]}'), "n": -7}),
            b'{"client":{"a":true,"t":"x\\n"},"shared":{"j":{"k" : [1.50]},"n":-7}}',
        ),
    ],
)
def test_attributes_have_these_very_bytes(found: Attributes, body: bytes) -> None:
    """A scope without values is left out; doubles and structures keep their looks."""
    assert encode_attributes(found) == body


@pytest.mark.parametrize("wrap", ["%s", '{"ts":1,"values":%s}', "[%s]"])
def test_no_depth_breaks_the_reader(wrap):
    """A value nested as deep as the reader can, or a level more, is kept whole or refused."""
    kept = 0
    for depth in range(880, 1010):
        body = (wrap % ('{"k":' + '{"a":' * depth + "1" + "}" * depth + "}")).encode()
        try:
            decode_telemetry(body, 1)
        except BadPayload:
            break
        kept += 1
    assert 0 < kept < 130
