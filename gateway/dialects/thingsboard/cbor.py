"""The device API in CBOR (RFC 8949), on CoAP and HTTP: what JSON can say, in fewer bytes.

A message is well-formed, one item and nothing behind it, and holds nothing that JSON has no word
for: no byte strings, no tags (but the mark of CBOR itself, 55799, around it all), no `undefined`,
no infinite numbers, keys that are texts, and none twice. Lengths may be indefinite. It is looked
through before it is decoded, in bounded time. Unlike in JSON, a text that looks like a number stays
a text: CBOR has a type for each.
"""

from __future__ import annotations

from typing import Any, Final

import cbor2
import msgspec
from msgspec import Struct

from gateway.core.model import (
    Attributes,
    AttributesChange,
    AttributesSelection,
    Json,
    Reading,
    RpcCall,
    Secret,
    Value,
)
from gateway.dialects.thingsboard.codecs import JSON
from gateway.dialects.thingsboard.readings import MOST_KEY_CHARACTERS
from gateway.wire.call import BadPayload, Format

MOST_DEPTH: Final = 64
"""Maps and arrays that stand in each other."""
MOST_ITEMS: Final = 40_000
"""Keys and values, maps and arrays of one message, and the pieces of texts and fractions: what is
looked through in some ten milliseconds."""

_SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"
_DECIMAL: Final = 4
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_NO_FRACTION: Final = "a decimal fraction is an array of two whole numbers"
_ENDLESS: Final = -1
_BREAK: Final = 0xFF
_SHORT_TEXT, _LONG_TEXT = 0x60, 0x78
"""Most keys: texts of less than 24 bytes."""
_PLAIN: Final = frozenset({20, 21, 22})
"""false, true and null."""
_EXPONENTS: Final = {25: 0x7C00, 26: 0x7F80_0000, 27: 0x7FF0_0000_0000_0000}
"""All ones in a half, single or double: infinite, or no number."""
_LEAST_INT64, _PAST_INT64 = -(2**63), 2**63

_decode_json = msgspec.json.Decoder().decode
_encode_json = msgspec.json.Encoder().encode


# ── bytes ⇄ values ────────────────────────────────────────────────────────────────────────────


def loads(body: bytes, *, senml: bool = False) -> Any:
    """The value of a message. `senml`: RFC 8428 labels members with numbers, and takes byte strings
    and decimal fractions. Raises `BadPayload`, undecodable."""
    if body.startswith(_SELF_DESCRIBED):
        body = body[len(_SELF_DESCRIBED) :]
    _Scan(body, senml=senml).run()
    try:
        return cbor2.loads(body)
    except (cbor2.CBORDecodeError, ValueError, ArithmeticError):
        # No UTF-8, or a decimal fraction that is none, or beyond all measure.
        raise _malformed() from None


def dumps(value: Any) -> bytes:
    """A value that came out of JSON."""
    return cbor2.dumps(value)


def to_json(body: bytes) -> bytes:
    """The same message in JSON."""
    return _encode_json(loads(body))


def from_json(body: bytes) -> bytes:
    """The same message in CBOR. `body` is JSON of ours."""
    return dumps(_decode_json(body))


def _malformed(why: str = "the payload is not well-formed CBOR") -> BadPayload:
    return BadPayload(why, undecodable=True)


class _Open(Struct):
    """A map or array that is being read: how many items are left in it, or it is `_ENDLESS`.

    `keys` are those a map had so far; None in an array. `key`: the next item is one.
    """

    left: int
    keys: set[Any] | None = None
    key: bool = False


class _Scan:
    """Looks through a message, item by item, without recursion."""

    def __init__(self, body: bytes, *, senml: bool) -> None:
        self._body = body
        self._at = 0
        self._items = 0
        self._senml = senml
        self._open: list[_Open] = []
        self._inside = _Open(_ENDLESS)
        """The innermost; at first what the whole message stands in."""

    def run(self) -> None:
        """Raises `BadPayload` unless the message is one that may be decoded."""
        try:
            self._count()
            while not (self._item() and self._closed()):
                self._count()
        except IndexError:
            raise _malformed() from None  # it ends too early
        if self._at != len(self._body):
            raise _malformed("something stands behind the CBOR item")

    def _count(self) -> None:
        """One more: an item, or a piece of one."""
        self._items += 1
        if self._items > MOST_ITEMS:
            raise _malformed(f"the payload has more than {MOST_ITEMS} items")

    def _item(self) -> bool:
        """Read one. True when something is complete with it."""
        first = self._body[self._at]
        if first == _BREAK:
            self._at += 1
            return self._broken()
        if _SHORT_TEXT <= first < _LONG_TEXT:
            self._at += 1
            self._string(_TEXT, first - _SHORT_TEXT)
            return True
        major, info, value = self._head(first)
        if self._inside.key:
            self._expect_key(major)
        if major in (_UNSIGNED, _NEGATIVE):
            self._know((major, value))
        elif major == _SIMPLE:
            self._simple(info, value)
        elif major in (_TEXT, _BYTES):
            self._string(major, value)
        elif major in (_ARRAY, _MAP):
            return self._enter(major, value)
        elif self._senml and value == _DECIMAL:
            self._fraction()
        else:
            raise _malformed("tags are not taken: send plain values")
        return True

    def _head(self, first: int) -> tuple[int, int, int]:
        """Kind, the five bits beside it, and the number they stand for."""
        major, info = first >> 5, first & 31
        self._at += 1
        if info < 24:
            return major, info, info
        if info < 28:
            return major, info, int.from_bytes(self._take(1 << (info - 24)))
        if info == 31 and _BYTES <= major <= _MAP:
            return major, info, _ENDLESS
        raise _malformed()

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._body):
            raise _malformed()
        taken = self._body[self._at : end]
        self._at = end
        return taken

    def _expect_key(self, major: int) -> None:
        """A key is a text; one of SenML may be a number."""
        if major != _TEXT and not (self._senml and major in (_UNSIGNED, _NEGATIVE)):
            raise _malformed("a key must be a text")

    def _string(self, major: int, size: int) -> None:
        if major == _BYTES and not self._senml:
            raise _malformed("byte strings are not taken: send a text")
        if size != _ENDLESS:
            self._know(self._take(size))
            return
        pieces = []
        while (first := self._body[self._at]) != _BREAK:
            self._count()
            kind, _, length = self._head(first)
            if kind != major or length == _ENDLESS:
                raise _malformed()
            pieces.append(self._take(length))
        self._at += 1
        self._know(b"".join(pieces))

    def _fraction(self) -> None:
        """What tag 4 stands before: an array of two whole numbers (RFC 8949, section 3.4.4)."""
        if self._head(self._body[self._at])[::2] != (_ARRAY, 2):
            raise _malformed(_NO_FRACTION)
        for _ in range(2):
            self._count()
            if self._head(self._body[self._at])[0] not in (_UNSIGNED, _NEGATIVE):
                raise _malformed(_NO_FRACTION)

    def _simple(self, info: int, value: int) -> None:
        if info in _EXPONENTS:
            if value & _EXPONENTS[info] == _EXPONENTS[info]:
                raise _malformed("a number must be finite")
        elif info not in _PLAIN:
            raise _malformed("a simple value other than false, true and null is not taken")

    def _enter(self, major: int, size: int) -> bool:
        """A map or array begins; True when it ends at once."""
        if size > len(self._body) - self._at:
            raise _malformed()  # each item has a byte at least
        if len(self._open) == MOST_DEPTH:
            raise _malformed(f"values are nested deeper than {MOST_DEPTH} levels")
        if size == 0:
            return True
        self._open.append(self._inside)
        if major == _ARRAY:
            self._inside = _Open(size)
        else:
            self._inside = _Open(_ENDLESS if size == _ENDLESS else 2 * size, set(), key=True)
        return False

    def _broken(self) -> bool:
        """The end of a map or array of indefinite length."""
        ended = self._inside
        if not self._open or ended.left != _ENDLESS or (ended.keys is not None and not ended.key):
            raise _malformed()
        self._inside = self._open.pop()
        return True

    def _know(self, key: Any) -> None:
        """This may be a key, which must not be there yet."""
        inside = self._inside
        if not inside.key or inside.keys is None:
            return
        if key in inside.keys:
            raise _malformed("a key is there twice")
        inside.keys.add(key)

    def _closed(self) -> bool:
        """An item is complete, and perhaps what it is in. True when all is."""
        while self._open:
            inside = self._inside
            if inside.keys is not None:
                inside.key = not inside.key
            if inside.left == _ENDLESS:
                return False
            inside.left -= 1
            if inside.left:
                return False
            self._inside = self._open.pop()
        return True


# ── the messages ──────────────────────────────────────────────────────────────────────────────


class CborCodec:
    """The messages of the device API, of the same shape as in JSON (sections 8, 13 and 18)."""

    format = Format.CBOR

    def telemetry(self, body: bytes, now_ms: int, max_values: int) -> list[Reading]:
        """An object of values, `{"ts":ms,"values":{..}}`, or an array of either."""
        sent = loads(body)
        objects = sent if isinstance(sent, list) else [sent]
        if len(objects) > max_values:
            raise BadPayload(f"at most {max_values} objects in one message")
        readings: list[Reading] = []
        for found in objects:
            ts, values = _timed(found, now_ms)
            _read(values, ts, readings, max_values)
        return readings

    def attributes(self, body: bytes, max_values: int) -> dict[str, Value]:
        readings: list[Reading] = []
        _read(loads(body), 0, readings, max_values)
        return {one.key: one.value for one in readings}

    def attributes_request(self, body: bytes) -> AttributesSelection:
        return JSON.attributes_request(_json(body))

    def attributes_response(self, request_id: int, found: Attributes) -> bytes:
        return from_json(JSON.attributes_response(request_id, found))

    def attributes_update(self, change: AttributesChange) -> bytes:
        return from_json(JSON.attributes_update(change))

    def rpc_request(self, request_id: int, call: RpcCall, *, with_id: bool) -> bytes:
        return from_json(JSON.rpc_request(request_id, call, with_id=with_id))

    def rpc_answer(self, body: bytes) -> str:
        """Any value, as JSON text."""
        return to_json(body).decode()

    def client_rpc(self, body: bytes) -> tuple[str, str]:
        return JSON.client_rpc(to_json(body))

    def client_rpc_response(self, request_id: int, answer: bytes) -> bytes:
        return from_json(answer)

    def claim(self, body: bytes) -> tuple[Secret, int]:
        return JSON.claim(_json(body))


def _json(body: bytes) -> bytes:
    """A message that may be left out."""
    return to_json(body) if body else body


def _timed(found: Any, now_ms: int) -> tuple[int, Any]:
    """The time of one object of telemetry, and its values."""
    if not isinstance(found, dict):
        raise _malformed("telemetry must be an object or an array of objects")
    if not ("ts" in found and "values" in found):
        return now_ms, found
    ts = found["ts"]
    if isinstance(ts, float):
        ts = int(ts)
    if isinstance(ts, bool) or not isinstance(ts, int):
        raise BadPayload("ts must be a number of milliseconds")
    if not _LEAST_INT64 <= ts < _PAST_INT64:
        raise BadPayload("ts must fit 64 bits")
    return ts, found["values"]


def _read(found: Any, ts: int, readings: list[Reading], max_values: int) -> None:
    """Append a reading for each value that is not null."""
    if not isinstance(found, dict):
        raise _malformed("values must be an object")
    if len(readings) + len(found) > max_values:
        raise BadPayload(f"at most {max_values} values in one message")
    for key, value in found.items():
        if not 0 < len(key) <= MOST_KEY_CHARACTERS:
            raise BadPayload(f"a key must have 1 to {MOST_KEY_CHARACTERS} characters")
        if value is not None:
            readings.append(Reading(ts, key, value_of(value)))


def value_of(value: Any) -> Value:
    """A value as it is kept: a whole number beyond 64 bits becomes a text, as one of JSON does."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if _LEAST_INT64 <= value < _PAST_INT64 else str(value)
    if isinstance(value, float):
        return value + 0.0  # as in JSON, there is no negative zero
    return Json(_encode_json(value).decode())


CBOR: Final = CborCodec()
