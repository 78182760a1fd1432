"""The device API in JSON: what is read from devices, and the bytes they are told."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import AttributesChange, Json, RpcCall
from gateway.dialects.thingsboard.codecs import JSON, check_json
from gateway.wire.call import BadPayload

bounded = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (AttributesChange(), b"{}"),
        (AttributesChange({"a": 1, "b": 42.0}), b'{"a":1,"b":42.0}'),
        (AttributesChange({"a": Json('{"x": [1]}')}), b'{"a":{"x": [1]}}'),
        (AttributesChange(deleted=("a", "b")), b'{"deleted":["a","b"]}'),
        (AttributesChange({"a": True}, ("b",)), b'{"a":true,"deleted":["b"]}'),
    ],
)
def test_a_change_of_attributes_is_one_flat_object(change: AttributesChange, told: bytes) -> None:
    """New values by key, and the keys that are no more under `deleted` (section 8)."""
    assert JSON.attributes_update(change) == told


def test_a_call_carries_its_id_where_the_address_cannot() -> None:
    """HTTP and CoAP are told the id in the body; MQTT has it in the topic."""
    call = RpcCall(device_id=1, method='set"it', params='{"pin": 7}')
    assert JSON.rpc_request(3, call, with_id=False) == b'{"method":"set\\"it","params":{"pin": 7}}'
    assert json.loads(JSON.rpc_request(3, call, with_id=True)) == {
        "id": 3,
        "method": 'set"it',
        "params": {"pin": 7},
    }


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"method":"getTime","params":{ "a": 1 }}', ("getTime", '{ "a": 1 }')),
        (b'{"params":[],"method":"m"}', ("m", "[]")),
        (b'{"method":"m","params":null}', ("m", "null")),
        (b'{"method":"m"}', ("m", "")),
        (b'{"method":7}', ("7", "")),
    ],
)
def test_a_client_rpc_is_a_method_and_its_params_as_written(
    body: bytes, told: tuple[str, str]
) -> None:
    """Absent params are told apart from null, since HTTP insists on them."""
    assert JSON.client_rpc(body) == told


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"method":""}', b'{"method":null}', b"{"])
def test_a_client_rpc_without_a_method_is_a_bad_payload(body: bytes) -> None:
    """Nothing can be called that has no name."""
    with pytest.raises(BadPayload, match=r"method|not valid JSON"):
        JSON.client_rpc(body)


@pytest.mark.parametrize(
    ("body", "key", "duration_ms"),
    [
        (b"", "", 0),
        (b"{}", "", 0),
        (b'{"secretKey":"k","durationMs":60000}', "k", 60000),
        (b'{"secretKey":null,"durationMs":null}', "", 0),
        (b'{"durationMs":"60000"}', "", 60000),
        (b'{"secretKey":123,"durationMs":5.0}', "123", 5),
    ],
)
def test_both_fields_of_a_claim_are_optional(body: bytes, key: str, duration_ms: int) -> None:
    """And so is the payload as a whole; null is absent (section 18)."""
    told, lasting = JSON.claim(body)
    assert (told.reveal(), lasting) == (key, duration_ms)


@pytest.mark.parametrize(
    "body",
    [
        *(b"[]", b"1", b"{", b"\xff", b'{"secretKey":{}}', b'{"durationMs":-1}'),
        *(b'{"durationMs":1.5}', b'{"durationMs":"soon"}', b'{"durationMs":1e3}'),
        b'{"durationMs":' + b"9" * 19 + b"}",
    ],
)
def test_a_claim_that_makes_no_sense_is_a_bad_payload(body: bytes) -> None:
    """A negative or endless duration too; and nothing that was sent is repeated."""
    with pytest.raises(BadPayload) as caught:
        JSON.claim(body)
    assert "soon" not in str(caught.value)


def test_an_answer_is_any_text_where_nothing_else_is_asked() -> None:
    """Over MQTT it need not be JSON, but text; CoAP asks for an object, HTTP for JSON."""
    assert JSON.rpc_answer(b"done") == "done"
    assert JSON.rpc_answer(b"") == ""
    with pytest.raises(BadPayload):
        JSON.rpc_answer(b"\xff")
    check_json(b"17", an_object=False)
    check_json(b'{"ok":true}', an_object=True)
    for body, an_object in ((b"done", False), (b"", False), (b"17", True), (b"[]", True)):
        with pytest.raises(BadPayload):
            check_json(body, an_object=an_object)


@bounded
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_bytes_are_read_or_a_bad_payload(body: bytes) -> None:
    """No decoder raises anything else, whatever it is given."""
    decoders: list[Any] = [JSON.claim, JSON.client_rpc, JSON.rpc_answer, JSON.attributes_request]
    for decode in decoders:
        with suppress(BadPayload):
            decode(body)


@bounded
@given(
    st.dictionaries(
        st.sampled_from(["secretKey", "durationMs", "method", "params"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_json_is_read_or_a_bad_payload(members: dict[str, Any]) -> None:
    """The fields may be of any type; what is read are texts and bounded numbers."""
    body = json.dumps(members, allow_nan=False).encode()
    try:
        key, lasting = JSON.claim(body)
        assert isinstance(key.reveal(), str)
        assert 0 <= lasting < 10**18
    except BadPayload:
        pass
    try:
        method, params = JSON.client_rpc(body)
        assert method
        assert params == "" or json.loads(params) == members["params"]
    except BadPayload:
        pass
