"""Schemas of a profile: what their messages are in JSON, the way back, and how faults read."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.thingsboard import schema as under_test
from gateway.dialects.thingsboard.profile import RPC_REQUEST_SCHEMA, RPC_RESPONSE_SCHEMA
from gateway.dialects.thingsboard.schema import (
    MAX_FIELDS,
    MAX_SCHEMA_CHARACTERS,
    Schema,
    SchemaError,
    SchemaUse,
)
from gateway.wire.call import BadPayload

EVERYTHING = Schema.compile("""
syntax = "proto3";
package everything;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum State { OFF = 0; ON = 1; }
message Part { optional int64 a = 1; Part part = 2; }
message Reading {
  optional int64 ts = 1;
  int64 whole = 2;
  float single = 3;
  double real = 4;
  bytes raw = 5;
  State state = 6;
  repeated State states = 7;
  map<int32, Part> parts = 8;
  oneof choice { string word = 9; Part other = 10; }
  google.protobuf.Timestamp at = 11;
  google.protobuf.Struct struct = 12;
  google.protobuf.Int64Value wrapped = 13;
  string snake_case = 14 [json_name = "snake_case"];
  uint64 large = 15;
  repeated int32 numbers = 16;
  map<bool, string> words = 17;
  google.protobuf.Any any = 18;
  string other_name = 19;
  bool flag = 20;
  repeated float singles = 21;
  google.protobuf.Duration lasted = 22;
}
""")

PLAIN = {
    "whole": 0,
    "single": 0.0,
    "real": 0.0,
    "raw": "",
    "state": "OFF",
    "states": [],
    "parts": {},
    "snake_case": "",
    "large": 0,
    "numbers": [],
    "words": {},
    "otherName": "",
    "flag": False,
    "singles": [],
}
"""What an empty message shows: all that is not `optional`, no message and no member of a oneof."""


def shown(body: bytes, schema: Schema = EVERYTHING) -> Any:
    return json.loads(schema.to_json(body))


def proto3(body: str) -> str:
    return f'syntax = "proto3";\n{body}\n'


# ── to JSON ───────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_sent() -> None:
    """Plain fields appear with their default, `optional` ones and messages not at all."""
    assert shown(b"") == PLAIN


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"\x08\x00", {"ts": 0}),
        (b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", {"ts": -(2**63)}),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\x7f", {"whole": 2**63 - 1}),
        (b"\x1d\xcd\xcc\xcc\x3d", {"single": 0.1}),
        (b"\x1d\xff\xff\x7f\x7f", {"single": 3.4028235e38}),
        (b"\x1d\x00\x00\xc0\x7f", {"single": "NaN"}),
        (b"\x21\x9a\x99\x99\x99\x99\x99\xb9\x3f", {"real": 0.1}),
        (b"\x21\x00\x00\x00\x00\x00\x00\xf0\x7f", {"real": "Infinity"}),
        (b"\x21\x00\x00\x00\x00\x00\x00\xf0\xff", {"real": "-Infinity"}),
        (b"\x2a\x02\xff\xfe", {"raw": "//4="}),
        (b"\x30\x01", {"state": "ON"}),
        (b"\x30\x09", {"state": 9}),
        (b"\x3a\x03\x00\x01\x09", {"states": ["OFF", "ON", 9]}),
        (b"\x42\x06\x08\x03\x12\x02\x08\x05", {"parts": {"3": {"a": 5}}}),
        (b"\x4a\x00", {"word": ""}),
        (b"\x52\x04\x12\x02\x08\x01", {"other": {"part": {"a": 1}}}),
        (b"\x4a\x01x\x52\x00", {"other": {}}),
        (b"\x5a\x02\x08\x05", {"at": "1970-01-01T00:00:05Z"}),
        (b"\x62\x0b\x0a\x09\x0a\x01a\x12\x04\x1a\x02hi", {"struct": {"a": "hi"}}),
        (b"\x6a\x02\x08\x09", {"wrapped": 9}),
        (b"\x72\x01s", {"snake_case": "s"}),
        (b"\x78\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", {"large": 2**64 - 1}),
        (b"\x82\x01\x03\x01\x02\x03", {"numbers": [1, 2, 3]}),
        (b"\x8a\x01\x05\x08\x01\x12\x01x", {"words": {"true": "x"}}),
        (b"\x9a\x01\x01n", {"otherName": "n"}),
        (b"\xaa\x01\x04\xcd\xcc\xcc\x3d", {"singles": [0.1]}),
        (b"\xb2\x01\x02\x08\x01", {"lasted": "1s"}),
        (b"\xf8\x01\x05", {}),
    ],
)
def test_a_field(body: bytes, expected: dict[str, Any]) -> None:
    """Each kind of field is JSON as protobuf maps it, 64-bit integers being numbers; a field that
    the schema does not know is passed over."""
    assert shown(body) == PLAIN | expected


def test_a_double_stays_one() -> None:
    """A whole double keeps its point, so that it is stored as a double (section 13)."""
    schema = Schema.compile(proto3("message A { double d = 1; int32 i = 2; }"))

    assert schema.to_json(b"\x09\x00\x00\x00\x00\x00\x00\x45\x40\x10\x2a") == b'{"d":42.0,"i":42}'


@pytest.mark.parametrize(
    "body",
    [
        b"\x08",
        b"\x0b",
        b"\xff",
        b"\x4a\x05ab",
        b"\x4a\x01\xff",
        b'{"whole": 1}',
        b"[1]",
        b"\x5a\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x92\x01\x04\x0a\x02a/",
        b"\x52" + b"\x7f" * 200,
    ],
)
def test_what_is_no_message(body: bytes) -> None:
    """Garbage, broken text, JSON, and times no calendar has are a payload in no known format."""
    with pytest.raises(BadPayload) as caught:
        EVERYTHING.to_json(body)
    assert caught.value.undecodable
    assert str(caught.value) == "the payload is not a message Reading"


def test_a_small_body_cannot_become_endless_json() -> None:
    """Defaults are shown for what two bytes say; of those there are at most so many."""
    fields = "".join(f"int32 f{number} = {number};" for number in range(1, 101))
    schema = Schema.compile(proto3(f"message M {{ {fields} }} message Ms {{ repeated M m = 1; }}"))
    most = MAX_FIELDS // 100 - 1
    assert len(shown(b"\x0a\x00" * most, schema)["m"]) == most

    with pytest.raises(BadPayload) as caught:
        schema.to_json(b"\x0a\x00" * (most + 1))
    assert not caught.value.undecodable


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=500)
def test_any_bytes(body: bytes) -> None:
    """Whatever arrives is a JSON object with every plain field, or a BadPayload."""
    with suppress(BadPayload):
        assert shown(body).keys() >= PLAIN.keys()


# ── from JSON ─────────────────────────────────────────────────────────────────────────────────

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from([*PLAIN, "ts", "at", "struct", "wrapped", "any", "word", "other", "zz"])


@given(st.dictionaries(_NAMES, _JSON, max_size=4))
@settings(deadline=None, max_examples=500)
def test_any_json(value: dict[str, Any]) -> None:
    """Whatever is to be sent becomes a message that can be read again, or a BadPayload."""
    with suppress(BadPayload):
        assert shown(EVERYTHING.from_json(value)).keys() >= PLAIN.keys()


@pytest.mark.parametrize(
    ("params", "text"),
    [("on", "on"), (5, "5"), ({"pin": 1, "on": True}, '{"pin":1,"on":true}'), (None, None)],
)
def test_a_call_of_a_method(params: Any, text: str | None) -> None:
    """Parameters of any kind fit a schema that declares them a string; null is nothing."""
    schema = Schema.compile(RPC_REQUEST_SCHEMA, SchemaUse.RPC_REQUEST)
    body = schema.from_json({"method": "set", "requestId": 7, "params": params, "more": 1})

    given = {} if text is None else {"params": text}
    assert shown(body, schema) == {"method": "set", "requestId": 7} | given
    assert body.startswith(b"\x0a\x03set\x10\x07")


def test_parameters_that_are_a_message() -> None:
    """Parameters declared as a message take the members of an object."""
    schema = Schema.compile(
        proto3(
            "message R { optional string method = 1; optional int32 requestId = 2;"
            " message P { bool on = 1; } optional P params = 3; }"
        ),
        SchemaUse.RPC_REQUEST,
    )
    assert schema.from_json({"requestId": 1, "params": {"on": True}}) == b"\x10\x01\x1a\x02\x08\x01"


@pytest.mark.parametrize("value", [{"whole": "hunter2"}, {"parts": 5}, {"word": "\ud800"}])
def test_what_does_not_fit(value: dict[str, Any]) -> None:
    """A value of the wrong kind is a BadPayload that does not repeat it."""
    with pytest.raises(BadPayload) as caught:
        EVERYTHING.from_json(value)
    assert str(caught.value) == "the value does not fit the message Reading"


# ── which message ─────────────────────────────────────────────────────────────────────────────


def test_the_last_message_is_the_one() -> None:
    """Of several messages the last at the top is what is sent; with or without a package."""
    text = (
        "message A { int32 a = 1; } enum E { X = 0; } "
        "message B { message C { int32 c = 1; } int32 b = 2; } enum F { Y = 0; }"
    )
    assert shown(b"\x10\x05", Schema.compile(proto3(text))) == {"b": 5}
    assert shown(b"\x10\x05", Schema.compile(proto3(f"package p.q; {text}"))) == {"b": 5}


def test_schemas_are_strangers() -> None:
    """The same names in two schemas are two messages."""
    one = Schema.compile(proto3("package p; message A { int32 a = 1; }"))
    other = Schema.compile(proto3("package p; message A { string b = 1; }"))

    assert (shown(b"\x08\x05", one), shown(b"\x0a\x01x", other)) == ({"a": 5}, {"b": "x"})


def test_a_schema_is_compiled_once() -> None:
    """The same text for the same use is the same schema."""
    assert Schema.compile(RPC_RESPONSE_SCHEMA) is Schema.compile(RPC_RESPONSE_SCHEMA)


# ── faults ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (proto3("message A {\n  foo b = 1;\n}"), 'line 3, column 3: "foo" is not defined.'),
        (proto3("message A { int32 a = 0; }"), "line 2, column 23: "),
        (proto3("message A { int32 a = 1; int32 b = 1; }"), "line 2, "),
        (proto3("mesage A {}"), "line 2, column 1: Expected top-level statement"),
        (proto3('import "schema.proto"; message A {}'), "line 2, column 1: File recursively"),
        (proto3('import "/etc/hostname"; message A {}'), "line 2, column 1: Import"),
        (proto3('import "../x.proto"; message A {}'), ""),
        (proto3("message A {" * 2000), "line 2, column"),
        ('syntax = "proto2"; message A { required int32 a = 1; }', "line 1: is not proto3."),
        ("message A {}", "line 1: is not proto3."),
        (proto3("enum E { X = 0; }"), "declares no message."),
        ("", "line 1: is not proto3."),
        ("\ud800", "is not text that can be written as UTF-8."),
        ("x" * (MAX_SCHEMA_CHARACTERS + 1), "is longer than 65536 characters."),
    ],
)
def test_a_schema_that_cannot_be_used(text: str, message: str) -> None:
    """What is wrong with a text is said in one line, with the place when there is one."""
    with pytest.raises(SchemaError) as caught:
        Schema.compile(text)
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert "/tmp" not in str(caught.value)


VALUES = "message V { int32 a = 1; }"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "message R has no fields."),
        ("int64 ts = 1; V values = 2;", "field ts of message R must be `optional int64 ts`."),
        ("optional int32 ts = 1; V values = 2;", "field ts of message R must be"),
        ("repeated int64 ts = 1; V values = 2;", "field ts of message R must be"),
        ("optional int64 ts = 1; int32 values = 2;", "field values of message R must be a message"),
        ("optional int64 ts = 1; repeated V values = 2;", "field values of message R"),
        ("optional int64 ts = 1; V values = 2;", None),
        ("optional int64 ts = 1; map<string, double> values = 2;", None),
        ("string ts = 1;", None),
        ("int32 values = 1;", None),
    ],
)
def test_the_rules_of_telemetry(fields: str, message: str | None) -> None:
    """A time of the device's own is `optional int64 ts` beside a message `values`."""
    check(proto3(f"{VALUES} message R {{ {fields} }}"), SchemaUse.TELEMETRY, message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("string method = 1; int32 requestId = 2;", "message R must have exactly the fields"),
        (
            "string method = 1; int32 requestId = 2; string params = 3; int32 x = 4;",
            "message R must have exactly the fields method, requestId and params.",
        ),
        ("string method = 1; int32 request_id = 2; string params = 3;", "message R must have"),
        ("bytes method = 1; int32 requestId = 2; string params = 3;", "field method of message R"),
        ("string method = 1; int64 requestId = 2; string params = 3;", "field requestId of"),
        ("string method = 1; int32 requestId = 2; repeated string params = 3;", "field params of"),
        ("repeated string method = 1; int32 requestId = 2; V params = 3;", "field method of"),
        ("string method = 1; int32 requestId = 2; V params = 3;", None),
    ],
)
def test_the_rules_of_rpc_requests(fields: str, message: str | None) -> None:
    """A request has the three fields method, requestId and params, of their kinds."""
    check(proto3(f"{VALUES} message R {{ {fields} }}"), SchemaUse.RPC_REQUEST, message)


def check(text: str, use: SchemaUse, message: str | None) -> None:
    if message is None:
        Schema.compile(text, use)
        return
    with pytest.raises(SchemaError) as caught:
        Schema.compile(text, use)
    assert str(caught.value).startswith(message)


def test_without_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the compiler is not installed, the message says how to get it."""
    monkeypatch.setattr(under_test, "find_spec", lambda name: None)
    with pytest.raises(SchemaError) as caught:
        Schema.compile(proto3("message NotYetCompiled { int32 a = 1; }"))
    assert "pip install 'gatehouse-iot[protobuf-profiles]'" in str(caught.value)


def test_a_compiler_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler is given up after its time."""

    def hang(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(SchemaError) as caught:
        Schema.compile(proto3("message NeverCompiled { int32 a = 1; }"))
    assert str(caught.value) == "takes longer than 20 s to compile. Simplify it."
