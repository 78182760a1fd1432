"""CoAP messages: bytes in, bytes out, nothing else (RFC 7252, section 3).

The numbers are aiocoap's registry, bound here as plain integers: comparing its enumerations costs
more than decoding a whole option.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import Type
from msgspec import Struct

CON = int(Type.CON)
NON = int(Type.NON)
ACK = int(Type.ACK)
RST = int(Type.RST)

EMPTY = int(Code.EMPTY)
GET = int(Code.GET)
POST = int(Code.POST)
PUT = int(Code.PUT)
DELETE = int(Code.DELETE)
FIRST_RESPONSE_CODE = 32
"""Codes 1 to 31 are requests; responses begin at 2.00, and 1.xx is reserved (section 12.1)."""

CREATED = int(Code.CREATED)
DELETED = int(Code.DELETED)
CHANGED = int(Code.CHANGED)
CONTENT = int(Code.CONTENT)
CONTINUE = int(Code.CONTINUE)
BAD_REQUEST = int(Code.BAD_REQUEST)
UNAUTHORIZED = int(Code.UNAUTHORIZED)
FORBIDDEN = int(Code.FORBIDDEN)
BAD_OPTION = int(Code.BAD_OPTION)
NOT_FOUND = int(Code.NOT_FOUND)
METHOD_NOT_ALLOWED = int(Code.METHOD_NOT_ALLOWED)
NOT_ACCEPTABLE = int(Code.NOT_ACCEPTABLE)
CONFLICT = int(Code.CONFLICT)
REQUEST_ENTITY_INCOMPLETE = int(Code.REQUEST_ENTITY_INCOMPLETE)
REQUEST_ENTITY_TOO_LARGE = int(Code.REQUEST_ENTITY_TOO_LARGE)
TOO_MANY_REQUESTS = int(Code.TOO_MANY_REQUESTS)
INTERNAL_SERVER_ERROR = int(Code.INTERNAL_SERVER_ERROR)
SERVICE_UNAVAILABLE = int(Code.SERVICE_UNAVAILABLE)
GATEWAY_TIMEOUT = int(Code.GATEWAY_TIMEOUT)
PROXYING_NOT_SUPPORTED = int(Code.PROXYING_NOT_SUPPORTED)

URI_HOST = int(OptionNumber.URI_HOST)
ETAG = int(OptionNumber.ETAG)
OBSERVE = int(OptionNumber.OBSERVE)
URI_PORT = int(OptionNumber.URI_PORT)
URI_PATH = int(OptionNumber.URI_PATH)
CONTENT_FORMAT = int(OptionNumber.CONTENT_FORMAT)
MAX_AGE = int(OptionNumber.MAX_AGE)
URI_QUERY = int(OptionNumber.URI_QUERY)
ACCEPT = int(OptionNumber.ACCEPT)
BLOCK2 = int(OptionNumber.BLOCK2)
BLOCK1 = int(OptionNumber.BLOCK1)
SIZE2 = int(OptionNumber.SIZE2)
PROXY_URI = int(OptionNumber.PROXY_URI)
PROXY_SCHEME = int(OptionNumber.PROXY_SCHEME)
SIZE1 = int(OptionNumber.SIZE1)
REQUEST_TAG = int(OptionNumber.REQUEST_TAG)

LONGEST_TOKEN = 8
_HEADER = 4
_MARKER = 0xFF

Option: TypeAlias = tuple[int, bytes]
"""An option's number and its value as sent."""


class MalformedMessage(Exception):
    """The datagram is no CoAP message.

    `type` and `message_id` are what its header says, both None where that cannot be read or must
    not be answered (too short, another version). RFC 7252 section 4.2: a malformed CON is
    rejected with a RST carrying `message_id`, everything else is ignored.
    """

    def __init__(
        self, reason: str, type_: int | None = None, message_id: int | None = None
    ) -> None:
        super().__init__(reason)
        self.type = type_
        self.message_id = message_id


class Message(Struct, gc=False):
    """One message. `options` are in order of their numbers; `code` is class * 32 + detail."""

    type: int
    code: int
    message_id: int
    token: bytes = b""
    options: Sequence[Option] = ()
    payload: bytes = b""

    def __repr__(self) -> str:
        # Path, query and payload may hold credentials.
        return (
            f"Message(type={self.type}, code={self.code}, message_id={self.message_id}, "
            f"{len(self.options)} options, {len(self.payload)} bytes)"
        )


def decode(datagram: bytes) -> Message:
    """Read one datagram. Raises `MalformedMessage`, and nothing else, whatever the bytes."""
    size = len(datagram)
    if size < _HEADER:
        raise MalformedMessage("shorter than a header")
    first = datagram[0]
    if first >> 6 != 1:
        raise MalformedMessage("another version")
    type_ = first >> 4 & 3
    message_id = datagram[2] << 8 | datagram[3]
    position = _HEADER + (first & 15)
    if position > _HEADER + LONGEST_TOKEN or position > size:
        raise MalformedMessage("token length", type_, message_id)
    code = datagram[1]
    if code == EMPTY and size > _HEADER:
        raise MalformedMessage("an empty message with content", type_, message_id)
    token = datagram[_HEADER:position]
    options: list[Option] = []
    payload = b""
    number = 0
    try:
        while position < size:
            head = datagram[position]
            position += 1
            if head == _MARKER:
                if position == size:
                    raise MalformedMessage("a payload marker and no payload", type_, message_id)
                payload = datagram[position:]
                break
            delta = head >> 4
            length = head & 15
            if delta > 12:
                delta, position = _extended(datagram, delta, position)
            if length > 12:
                length, position = _extended(datagram, length, position)
            number += delta
            end = position + length
            if end > size:
                raise MalformedMessage("an option cut short", type_, message_id)
            options.append((number, datagram[position:end]))
            position = end
    except (IndexError, ValueError):
        raise MalformedMessage("an option header", type_, message_id) from None
    return Message(type_, code, message_id, token, options, payload)


def _extended(datagram: bytes, nibble: int, position: int) -> tuple[int, int]:
    """The value of an extended delta or length, and where the next field begins (section 3.1)."""
    if nibble == 13:
        return datagram[position] + 13, position + 1
    if nibble == 14:
        return (datagram[position] << 8 | datagram[position + 1]) + 269, position + 2
    raise ValueError("reserved")


def encode(message: Message) -> bytes:
    """Write one datagram. Options may come in any order. Raises ValueError for what cannot be."""
    if len(message.token) > LONGEST_TOKEN:
        raise ValueError("token longer than eight bytes")
    head = bytes((0x40 | message.type << 4 | len(message.token), message.code))
    tail = message.message_id.to_bytes(2, "big") + message.token
    return assemble(head + tail, encode_options(message.options), message.payload)


def assemble(start: bytes, options: bytes, payload: bytes) -> bytes:
    """A datagram from its header with token, its encoded options and its payload."""
    if payload:
        return b"%b%b\xff%b" % (start, options, payload)
    return start + options


def encode_options(options: Iterable[Option]) -> bytes:
    """The option block of a message. Raises ValueError for a value of 65,804 bytes or more."""
    encoded = bytearray()
    previous = 0
    for number, value in sorted(options, key=_number):
        delta, delta_extension = _nibble(number - previous)
        length, length_extension = _nibble(len(value))
        encoded.append(delta << 4 | length)
        encoded += delta_extension
        encoded += length_extension
        encoded += value
        previous = number
    return bytes(encoded)


def _number(option: Option) -> int:
    return option[0]


def _nibble(value: int) -> tuple[int, bytes]:
    """A delta or length as its half byte and the bytes that extend it."""
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes((value - 13,))
    if value < 65536 + 269:
        return 14, (value - 269).to_bytes(2, "big")
    raise ValueError("an option's delta or length beyond the format")


def encode_uint(value: int) -> bytes:
    """An unsigned integer as an option value: no leading zeros, nothing for zero (section 3.2)."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


class Answer(Struct, frozen=True, gc=False):
    """A response without its message layer. `options` are encoded."""

    code: int
    options: bytes = b""
    payload: bytes = b""

    def __repr__(self) -> str:
        return f"Answer({self.code >> 5}.{self.code & 31:02d}, {len(self.payload)} bytes)"


class Settled(Exception):
    """The request is answered already: rejected, or one block of more to come."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer
