"""Calls from requests and responses from replies, whole or in blocks (RFC 7252, 7959).

`Resources.take` judges a request at once: it answers what needs no waiting (rejections, blocks,
discovery) and returns an `Ask` for the rest, which `Resources.ask` puts to the router. It knows no
socket and no message id, so any number of endpoints can share one.

Accept is taken and not obeyed: a reply has one form, and a device that asked for another is
better served with it than with 4.06.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from gateway.core.model import Peer, Wire
from gateway.transports.coap import message as coap
from gateway.transports.coap.blocks import (
    WHOLE,
    Assemblies,
    Block,
    Key,
    Recent,
    Stored,
    decode_block,
)
from gateway.transports.coap.message import (
    ACCEPT,
    URI_PATH,
    URI_QUERY,
    Answer,
    Message,
    Option,
    Settled,
    encode_options,
    encode_uint,
)
from gateway.wire.call import NOTHING, Format, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Router

_METHODS: Final = {coap.GET: "GET", coap.POST: "POST", coap.PUT: "PUT", coap.DELETE: "DELETE"}
_CODES: Final = {
    Status.OK: coap.CHANGED,
    Status.REFUSED: coap.BAD_REQUEST,
    Status.UNDECODABLE: coap.BAD_REQUEST,
    Status.BAD_REQUEST: coap.BAD_REQUEST,
    Status.UNAUTHENTICATED: coap.UNAUTHORIZED,
    Status.NOT_FOUND: coap.NOT_FOUND,
    Status.METHOD_NOT_ALLOWED: coap.METHOD_NOT_ALLOWED,
    Status.GONE: coap.UNAUTHORIZED,
    Status.OVERLOADED: coap.SERVICE_UNAVAILABLE,
    Status.INTERNAL: coap.INTERNAL_SERVER_ERROR,
}

_FORMATS: Final[Mapping[Format, tuple[Option, ...]]] = {
    Format.EMPTY: (),
    Format.JSON: ((coap.CONTENT_FORMAT, encode_uint(50)),),
    Format.PROTOBUF: (),  # ThingsBoard labels JSON alone (its contract, section 5)
    Format.TEXT: ((coap.CONTENT_FORMAT, encode_uint(0)),),
}
_ENCODED_FORMATS: Final = {format_: encode_options(_FORMATS[format_]) for format_ in Format}
_LINK_FORMAT: Final = ((coap.CONTENT_FORMAT, encode_uint(40)),)
_DISCOVERY: Final = frozenset(f"{method} /.well-known/core" for method in _METHODS.values())

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

BROKEN: Final = Answer(coap.INTERNAL_SERVER_ERROR)
BUSY: Final = Answer(coap.SERVICE_UNAVAILABLE, encode_options([(coap.MAX_AGE, encode_uint(1))]))
_NOT_FOUND: Final = Answer(coap.NOT_FOUND)
_WRONG_METHOD: Final = Answer(coap.METHOD_NOT_ALLOWED)
_NO_PROXY: Final = Answer(coap.PROXYING_NOT_SUPPORTED)
_INCOMPLETE: Final = Answer(coap.REQUEST_ENTITY_INCOMPLETE)


class Ask(Struct, gc=False):
    """One request, understood: `address` is `POST /api/v1/provision`."""

    method: int
    address: str
    peer: str
    body: bytes
    raw_query: tuple[bytes, ...] = ()
    query: Mapping[str, str] = NOTHING
    block1: Block | None = None
    block2: Block | None = None
    size1: int = 0
    request_tag: bytes = b""

    def __repr__(self) -> str:
        # The address may name a token, the body a secret.
        return f"Ask({_METHODS[self.method]}, {len(self.body)} bytes)"


def understand(message: Message, peer: str) -> Ask:
    """Read the options of a request. Raises `Settled` with the response for what is not served."""
    method = _METHODS.get(message.code)
    if method is None:
        raise Settled(_WRONG_METHOD)
    path: list[bytes] = []
    query: list[bytes] = []
    rare: list[Option] = []
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
        elif number > ACCEPT:
            rare.append((number, value))
        previous = number
    try:
        # One option holding "/api/v1/provision" is as good as three (contract, section 5).
        address = f"{method} /{b'/'.join(path).decode().lstrip('/')}"
        ask = Ask(message.code, address, peer, message.payload)
        if query:
            ask.raw_query = tuple(query)
            ask.query = dict(_parameter(part) for part in query)
    except UnicodeDecodeError:
        raise Settled(_bad_option(coap.URI_PATH)) from None
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
        if number == coap.BLOCK1:
            ask.block1 = decode_block(value)
        elif number == coap.BLOCK2:
            ask.block2 = decode_block(value)
        elif number == coap.SIZE1 and len(value) <= 4:
            ask.size1 = int.from_bytes(value, "big")
        elif number == coap.REQUEST_TAG:
            ask.request_tag = value
        elif number in (coap.PROXY_URI, coap.PROXY_SCHEME):
            raise Settled(_NO_PROXY)


class Resources:
    """Serves requests of every CoAP endpoint through one router.

    - `links`: the paths shown at `/.well-known/core` (`/api/v1/provision`).
    - `max_body`: bytes of one request body; a larger one is 4.13 with Size1.
    - `max_assemblies`: request bodies arriving in blocks at one time; memory is bounded by
      `max_assemblies * max_body`.
    - `max_stored`: responses kept for the blocks still to be fetched.
    - `block_age_s`: how long a body is kept: a request's after its last block, a response's after
      its first.
    """

    def __init__(
        self,
        router: Router,
        *,
        links: Iterable[str] = (),
        max_body: int = 65536,
        max_assemblies: int = 1024,
        max_stored: int = 1024,
        block_age_s: float = 60.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._router = router
        self._links = ",".join(f"<{link}>" for link in links).encode()
        self._assemblies = Assemblies(max_assemblies, max_body=max_body, age_s=block_age_s, now=now)
        self._stored: Recent[Stored] = Recent(max_stored, block_age_s, now)

    def take(self, message: Message, peer: str) -> Answer | Ask:
        """Judge a request from `peer` (`192.0.2.7:50123`); an `Ask` is for `ask` to be served."""
        try:
            ask = understand(message, peer)
            if ask.block2 is not None and ask.block2.number:
                return self._later_block(ask, ask.block2)
            if ask.block1 is not None:
                key = _key(ask, ask.request_tag)
                ask.body = self._assemblies.join(key, ask.block1, ask.body, ask.size1)
            else:
                self._assemblies.check(len(ask.body))
        except Settled as settled:
            return settled.answer
        if ask.address in _DISCOVERY:
            return self._discover(ask)
        return ask

    async def ask(self, ask: Ask) -> Answer:
        """Have the router serve `ask`, and make a response of its reply."""
        route, reply = await self._router.answer(
            ask.address, ask.body, Peer(Wire.COAP, ask.peer), query=ask.query
        )
        if route is None:
            return _unserved(ask)
        code = _code(route, reply, ask.method)
        body = reply.body
        if (
            ask.block1 is None
            and ask.block2 is None
            and len(body) <= WHOLE.size
            and reply.status is not Status.OVERLOADED
        ):
            return Answer(code, _ENCODED_FORMATS[reply.format] if body else b"", body)
        options = _FORMATS[reply.format] if body else ()
        if reply.status is Status.OVERLOADED:
            options = (*options, (coap.MAX_AGE, encode_uint(reply.retry_after_s)))
        return self._in_blocks(ask, code, options, body)

    def expire(self) -> None:
        """Drop what nobody came back for."""
        self._assemblies.expire()
        self._stored.expire()

    def _discover(self, ask: Ask) -> Answer:
        if ask.method != coap.GET:
            return _WRONG_METHOD
        return self._in_blocks(ask, coap.CONTENT, _LINK_FORMAT, self._links)

    def _later_block(self, ask: Ask, wanted: Block) -> Answer | Ask:
        """A further block of a response. Only a GET may run again when the response is gone."""
        stored = self._stored.get(_key(ask))
        if stored is not None:
            return stored.block(wanted, None)
        return ask if ask.method == coap.GET else _INCOMPLETE

    def _in_blocks(self, ask: Ask, code: int, options: tuple[Option, ...], body: bytes) -> Answer:
        """The response, cut where it is too long for one message or for what was asked."""
        wanted = ask.block2 or WHOLE
        if not body or (ask.block2 is None and len(body) <= wanted.size):
            if ask.block1 is not None:
                options = (*options, (coap.BLOCK1, ask.block1.encode()))
            return Answer(code, encode_options(options), body)
        # The ETag lets the device notice that two blocks belong to different responses.
        etag = blake2b(body, digest_size=8).digest()
        stored = Stored(code, ((coap.ETAG, etag), *options), body)
        if len(body) > wanted.size:
            self._stored.put(_key(ask), stored)
        return stored.block(wanted, ask.block1)


def _key(ask: Ask, *tag: bytes) -> Key:
    """What a body in blocks is known by. `tag` tells apart bodies sent at once (RFC 9175)."""
    return ask.peer, ask.address, ask.raw_query, tag


def _code(route: Route, reply: Reply, method: int) -> int:
    own = route.coap_codes.get(reply.status)
    if own is not None:
        return own // 100 << 5 | own % 100
    if method == coap.GET and reply.status is Status.OK:
        return coap.CONTENT
    return _CODES[reply.status]


def _unserved(ask: Ask) -> Answer:
    """Nothing lives at this address: GET and POST may be misspelt, the rest is not offered."""
    return _NOT_FOUND if ask.method in (coap.GET, coap.POST) else _WRONG_METHOD
