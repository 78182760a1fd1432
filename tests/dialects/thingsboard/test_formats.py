"""In what format a call is, and what its answer is to be."""

from __future__ import annotations

import pytest

from gateway.core.model import Peer, Wire
from gateway.dialects.thingsboard.codecs import JSON
from gateway.dialects.thingsboard.formats import (
    CBOR,
    SENML_CBOR,
    SENML_JSON,
    codec_for_answer,
    is_cbor,
    senml_format,
    wants_cbor,
)
from gateway.wire.call import Call

PEER = Peer(Wire.HTTP, "192.0.2.7:1")


def http(body: bytes = b"\xa0", **headers: str) -> Call:
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Call(body, PEER, headers=named)


@pytest.mark.parametrize(
    ("call", "cbor", "senml"),
    [
        (http(), False, None),
        (http(content_type="application/json"), False, None),
        (http(content_type="application/cbor"), True, None),
        (http(content_type="Application/CBOR ; charset=x"), True, None),
        (http(b'{"a":1}', content_type="application/cbor"), False, None),
        (http(b' \r\n\t{"a":1}', content_type="application/cbor"), False, None),
        (http(content_type="application/senml+json"), False, SENML_JSON),
        (http(content_type="application/senml+cbor"), False, SENML_CBOR),
        (Call(b"\xa0", PEER, content_format=60), True, None),
        (Call(b"{}", PEER, content_format=60), False, None),
        (Call(b"[]", PEER, content_format=110), False, SENML_JSON),
        (Call(b"\x80", PEER, content_format=112), False, SENML_CBOR),
        (Call(b"\xa0", PEER, content_format=50), False, None),
        (Call(b"\xa0", PEER), False, None),
    ],
)
def test_a_body_is_what_its_label_says(call: Call, cbor: bool, senml: int | None) -> None:
    """What begins as JSON does is JSON under the name of CBOR: no message in CBOR begins so."""
    assert (is_cbor(call), senml_format(call)) == (cbor, senml)


@pytest.mark.parametrize(
    ("accept", "to_cbor", "to_json"),
    [
        (None, True, False),
        ("*/*", True, False),
        ("application/*, */*;q=0.1", True, False),
        ("application/cbor", True, True),
        ("application/cbor, */*", True, True),
        ("application/json", False, False),
        ("application/json, application/cbor;q=0.5", False, False),
        ("application/json;q=0.5, application/cbor;q=0.9", True, True),
        ("application/cbor;q=0", False, False),
        ("application/cbor;q=none, application/json", False, False),
        ("text/html", True, False),
        ("application/json;q=0", True, False),
        ("application/json;q=0.5, */*", True, False),
        ("application/json;q=0.5, application/*", True, False),
    ],
)
def test_an_answer_is_what_is_accepted(accept: str | None, to_cbor: bool, to_json: bool) -> None:
    """Else what the call was in. `to_cbor`: the answer to a call in CBOR is in CBOR. One in JSON
    is answered in CBOR only to who names it."""
    call = http() if accept is None else http(accept=accept)
    assert wants_cbor(call, said=True) is to_cbor
    assert wants_cbor(call, said=False) is to_json


@pytest.mark.parametrize(
    ("accept", "to_cbor", "to_json"),
    [(None, True, False), (60, True, True), (50, False, False), (0, True, False)],
)
def test_accept_over_coap(accept: int | None, to_cbor: bool, to_json: bool) -> None:
    """60 asks for CBOR, 50 for JSON; another is not heeded."""
    call = Call(b"", PEER, accept=accept)
    assert codec_for_answer(call, CBOR) is (CBOR if to_cbor else JSON)
    assert codec_for_answer(call, JSON) is (CBOR if to_json else JSON)
