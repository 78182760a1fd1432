"""What a device says and is told, in one format or another: bytes ⇄ core values.

A device's profile, the topic it uses, or its wire says which codec speaks for it. Decoders raise
`BadPayload` and nothing else, and no message of theirs repeats what was sent; encoders raise it
when a value does not fit the format.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from gateway.core.model import (
    Attributes,
    AttributesChange,
    AttributesSelection,
    Reading,
    RpcCall,
    Secret,
    Value,
)
from gateway.dialects.thingsboard.payloads import OBJECT, parse_json, text_of
from gateway.dialects.thingsboard.readings import (
    decode_attributes,
    decode_attributes_request,
    decode_telemetry,
    encode_attributes,
    encode_values,
)
from gateway.wire.call import BadPayload, Format

MOST_DURATION_DIGITS = 18
"""Of a claim's `durationMs`: what fits 64 bits with room to spare."""

_NO_METHOD = "an RPC needs a JSON object with a method"
_WHOLE = re.compile(r"-?[0-9]+(?:\.0+)?").fullmatch
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)
_encode = msgspec.json.Encoder().encode


class Codec(Protocol):
    """The messages of the device API in one format."""

    @property
    def format(self) -> Format: ...

    def telemetry(self, body: bytes, now_ms: int, max_values: int) -> list[Reading]: ...

    def attributes(self, body: bytes, max_values: int) -> dict[str, Value]: ...

    def attributes_request(self, body: bytes) -> AttributesSelection: ...

    def attributes_response(self, request_id: int, found: Attributes) -> bytes: ...

    def attributes_update(self, change: AttributesChange) -> bytes:
        """Shared attributes that changed; without deletions also their state as a whole."""

    def rpc_request(self, request_id: int, call: RpcCall, *, with_id: bool) -> bytes:
        """A call of ours to the device. `with_id`: the id goes into the body (HTTP, CoAP)."""

    def rpc_answer(self, body: bytes) -> str:
        """The device's answer to a call of ours, as text."""

    def client_rpc(self, body: bytes) -> tuple[str, str]:
        """The method a device calls, and its params as JSON text; empty when it sent none."""

    def client_rpc_response(self, request_id: int, answer: bytes) -> bytes:
        """`answer` is JSON."""

    def claim(self, body: bytes) -> tuple[Secret, int]:
        """The key, perhaps empty, and for how long in ms, 0 for the default."""


class JsonCodec:
    """The device API in JSON (sections 8, 13 and 18)."""

    format = Format.JSON

    def telemetry(self, body: bytes, now_ms: int, max_values: int) -> list[Reading]:
        return decode_telemetry(body, now_ms, max_values=max_values)

    def attributes(self, body: bytes, max_values: int) -> dict[str, Value]:
        return decode_attributes(body, max_values=max_values)

    def attributes_request(self, body: bytes) -> AttributesSelection:
        return decode_attributes_request(body)

    def attributes_response(self, request_id: int, found: Attributes) -> bytes:
        return encode_attributes(found)

    def attributes_update(self, change: AttributesChange) -> bytes:
        """`{"key":value,..}`, with `"deleted":["key",..]` when there are any."""
        values = encode_values(change.values)
        if not change.deleted:
            return values
        deleted = b'"deleted":' + _encode(change.deleted)
        return b"{%b}" % deleted if values == b"{}" else b"%b,%b}" % (values[:-1], deleted)

    def rpc_request(self, request_id: int, call: RpcCall, *, with_id: bool) -> bytes:
        told: dict[str, Any] = {"id": request_id} if with_id else {}
        told["method"] = call.method
        told["params"] = msgspec.Raw(call.params.encode())
        return _encode(told)

    def rpc_answer(self, body: bytes) -> str:
        """Any text (section 8)."""
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise BadPayload("an answer must be UTF-8 text", undecodable=True) from None

    def client_rpc(self, body: bytes) -> tuple[str, str]:
        members = parse_json(OBJECT, body, _NO_METHOD)
        method = text_of("method", members.get("method"))
        if not method:
            raise BadPayload(_NO_METHOD)
        params = members.get("params")
        return method, "" if params is None else bytes(params).decode()

    def client_rpc_response(self, request_id: int, answer: bytes) -> bytes:
        return answer

    def claim(self, body: bytes) -> tuple[Secret, int]:
        """`{"secretKey":"..","durationMs":60000}`; both may be absent or null, and so the body."""
        if not body:
            return Secret(""), 0
        members = parse_json(OBJECT, body, "a claim must be an object")
        key = text_of("secretKey", members.get("secretKey")) or ""
        return Secret(key), _duration(text_of("durationMs", members.get("durationMs")))


JSON: Codec = JsonCodec()


class CodecOnDemand:
    """Stands for a codec that is made when it is first used: one whose libraries few need."""

    def __init__(self, format_: Format, make: Callable[[], Codec]) -> None:
        self.format = format_
        self._make = make

    def __getattr__(self, name: str) -> Any:
        """A method of the codec, looked up once and kept."""
        method = getattr(self._make(), name)
        setattr(self, name, method)
        return method


def check_json(body: bytes, *, an_object: bool) -> None:
    """Raises `BadPayload` unless `body` is JSON, or an object of it."""
    if an_object:
        parse_json(OBJECT, body, "the answer must be an object")
    else:
        parse_json(_ANYTHING, body, "the answer must be JSON")


def _duration(text: str | None) -> int:
    if text is None:
        return 0
    if len(text) > MOST_DURATION_DIGITS or not _WHOLE(text) or text.startswith("-"):
        raise BadPayload("durationMs must be a whole number of milliseconds, not below zero")
    return int(text.partition(".")[0])
