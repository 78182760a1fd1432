"""What a request asks for: its options read, before anything is decided (RFC 7252, section 5.10).

Accept is passed on and not enforced: most replies have one form, and a device that asked for
another is better served with it than with 4.06.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from gateway.core.model import Identity, Peer
from gateway.transports.coap import message as coap
from gateway.transports.coap.blocks import Block, Key, Stored, decode_block
from gateway.transports.coap.message import (
    ACCEPT,
    CONTENT_FORMAT,
    OBSERVE,
    URI_PATH,
    URI_QUERY,
    Answer,
    Message,
    Option,
    Settled,
)
from gateway.transports.coap.observations import Observation
from gateway.wire.call import NOTHING, Query
from gateway.wire.route import Address

METHODS: Final = {coap.GET: "GET", coap.POST: "POST", coap.PUT: "PUT", coap.DELETE: "DELETE"}
REGISTER: Final = 0
CANCEL: Final = 1
"""What a GET may want of an observation (RFC 7641, section 2)."""

# The critical options of a request that are understood, with the longest value each may have
# (RFC 7252 table 4, RFC 7959 table 1). Elective ones are even and may be ignored.
_CRITICAL: Final = {
    coap.URI_HOST: 255,
    coap.URI_PORT: 2,
    coap.URI_PATH: 255,
    coap.URI_QUERY: 255,
    coap.ACCEPT: 2,
    coap.BLOCK2: 3,
    coap.BLOCK1: 3,
    coap.PROXY_URI: 1034,
    coap.PROXY_SCHEME: 255,
}
_REPEATABLE: Final = frozenset({coap.URI_PATH, coap.URI_QUERY})
_LONGEST_FORMAT: Final = 2

_WRONG_METHOD: Final = Answer(coap.METHOD_NOT_ALLOWED)
_NO_PROXY: Final = Answer(coap.PROXYING_NOT_SUPPORTED)


class Caller(Struct, gc=False):
    """Who asks, on a wire where that is known before any request: an association of DTLS."""

    peer: Peer
    identity: Identity | None = None


class Ask(Struct, gc=False):
    """One request, understood: `address` is `POST /api/v1/provision`.

    `segments` is the same address in pieces, when one of several holds a `/` itself, else empty.
    `plain`: no option asks for anything but a response in one message. `observe` is `REGISTER`,
    `CANCEL` or None. `stored` is set when `stored.source` has the block that is wanted.
    `peer` is what bodies and observations are told apart by: an address, or an association's name;
    `caller` is set for the latter.
    """

    method: int
    address: Address
    peer: str
    body: bytes
    segments: tuple[str, ...] = ()
    raw_query: tuple[bytes, ...] = ()
    query: Mapping[str, str] = NOTHING
    plain: bool = True
    content_format: bytes | None = None
    accept: int | None = None
    observe: int | None = None
    block1: Block | None = None
    block2: Block | None = None
    size1: int = 0
    size2: bool = False
    request_tag: bytes = b""
    observer: Observation | None = None
    stored: Stored | None = None
    caller: Caller | None = None

    def __repr__(self) -> str:
        # The address may name a token, the body a secret.
        return f"Ask({METHODS[self.method]}, {len(self.body)} bytes)"

    def key(self, *tag: bytes) -> Key:
        """What a body in blocks is known by. `tag` tells apart bodies sent at once (RFC 9175)."""
        return self.peer, self.address, self.raw_query, tag


def understand(message: Message, peer: str) -> Ask:
    """Read the options of a request. Raises `Settled` with the response for what is not served."""
    method = METHODS.get(message.code)
    if method is None:
        raise Settled(_WRONG_METHOD)
    path: list[bytes] = []
    query: list[bytes] = []
    rare: list[Option] = []
    content_format: bytes | None = None
    previous = 0
    for number, value in message.options:
        if number & 1:
            longest = _CRITICAL.get(number)
            if (
                longest is None
                or len(value) > longest
                or (number == previous and number not in _REPEATABLE)
            ):
                raise Settled(_bad_option(number))
        if number == URI_PATH:
            path.append(value)
        elif number == URI_QUERY:
            query.append(value)
        elif number == CONTENT_FORMAT:
            if content_format is None and len(value) <= _LONGEST_FORMAT:
                content_format = value
        elif number >= ACCEPT or number == OBSERVE:
            rare.append((number, value))
        previous = number
    try:
        # One option holding "/api/v1/provision" is as good as three (contract, section 5).
        whole = b"/".join(path).decode()
        ask = Ask(message.code, f"{method} /{whole.lstrip('/')}", peer, message.payload)
        if whole.count("/") >= len(path) > 1:
            ask.segments = (f"{method} ", *(segment.decode() for segment in path))
        ask.content_format = content_format
        if query:
            ask.raw_query = tuple(query)
            ask.query = Query((_parameter(part) for part in query), joined=False)
    except UnicodeDecodeError:
        raise Settled(_bad_option(URI_PATH)) from None
    if rare:
        _add_rare(ask, rare)
    return ask


def _parameter(part: bytes) -> tuple[str, str]:
    name, _, value = part.decode().partition("=")
    return name, value


def _bad_option(number: int) -> Answer:
    return Answer(coap.BAD_OPTION, payload=b"option %d" % number)


def _add_rare(ask: Ask, options: list[Option]) -> None:
    for number, value in options:
        if number == OBSERVE:
            _add_observe(ask, value)
        elif number == coap.BLOCK1:
            ask.block1 = decode_block(value)
        elif number == coap.BLOCK2:
            ask.block2 = decode_block(value)
        elif number == coap.SIZE1 and len(value) <= 4:
            ask.size1 = int.from_bytes(value, "big")
            continue
        elif number == coap.SIZE2:
            ask.size2 = True
        elif number == coap.REQUEST_TAG:
            ask.request_tag = value
            continue
        elif number == ACCEPT:
            ask.accept = int.from_bytes(value, "big")
            continue
        elif number in (coap.PROXY_URI, coap.PROXY_SCHEME):
            raise Settled(_NO_PROXY)
        else:
            continue
        ask.plain = False


def _add_observe(ask: Ask, value: bytes) -> None:
    """Elective, so any other value, and any other method, is as if it were not there."""
    wanted = int.from_bytes(value, "big")
    if ask.method == coap.GET and ask.observe is None and wanted in (REGISTER, CANCEL):
        ask.observe = wanted
