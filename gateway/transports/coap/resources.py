"""Calls from requests and responses from replies, whole or in blocks (RFC 7252, 7959).

`Resources.take` judges a request at once: it answers what needs no waiting (rejections, blocks,
discovery) and returns an `Ask` for the rest, which `Resources.ask` puts to the router. It knows no
socket and no message id, so any number of endpoints can share one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Final

import structlog

from gateway.core.model import Peer, Wire
from gateway.transports.coap import message as coap
from gateway.transports.coap.blocks import WHOLE, Assemblies, Block, Recent, Stored
from gateway.transports.coap.message import (
    Answer,
    Message,
    Option,
    Settled,
    encode_options,
    encode_uint,
)
from gateway.transports.coap.observations import Notice
from gateway.transports.coap.request import METHODS, Ask, understand
from gateway.wire.call import Format, Reply, Source, Status
from gateway.wire.route import Route
from gateway.wire.router import Router

log = structlog.get_logger()

_CODES: Final = {
    Status.OK: coap.CHANGED,
    Status.REFUSED: coap.BAD_REQUEST,
    Status.UNDECODABLE: coap.BAD_REQUEST,
    Status.BAD_REQUEST: coap.BAD_REQUEST,
    Status.UNAUTHENTICATED: coap.UNAUTHORIZED,
    Status.FORBIDDEN: coap.FORBIDDEN,
    Status.CONFLICT: coap.CONFLICT,
    Status.UNACCEPTABLE: coap.NOT_ACCEPTABLE,
    Status.NOT_FOUND: coap.NOT_FOUND,
    Status.METHOD_NOT_ALLOWED: coap.METHOD_NOT_ALLOWED,
    Status.GONE: coap.UNAUTHORIZED,
    Status.DELETED: coap.NOT_FOUND,
    Status.TIMEOUT: coap.GATEWAY_TIMEOUT,
    Status.OVERLOADED: coap.SERVICE_UNAVAILABLE,
    Status.LIMITED: coap.TOO_MANY_REQUESTS,
    Status.PENDING: coap.SERVICE_UNAVAILABLE,
    Status.FULL: coap.INTERNAL_SERVER_ERROR,
    Status.FAILED: coap.INTERNAL_SERVER_ERROR,
    Status.INTERNAL: coap.INTERNAL_SERVER_ERROR,
}
_COME_AGAIN: Final = frozenset({Status.OVERLOADED, Status.LIMITED, Status.PENDING})
_SAY_WHEN: Final = frozenset({coap.SERVICE_UNAVAILABLE, coap.TOO_MANY_REQUESTS})
"""The codes whose Max-Age says when to come back (RFC 7252 section 5.9.3.4, RFC 8516)."""
_LONGEST_AGE: Final = 0xFFFFFFFF

# Contract, section 10.
_JSON: Final = encode_uint(50)
_OCTETS: Final = encode_uint(42)
_TEXT: Final = encode_uint(0)
_LABELS: Final[Mapping[Format, bytes | None]] = {
    Format.EMPTY: None,
    Format.JSON: _JSON,
    Format.PROTOBUF: _OCTETS,
    Format.CBOR: encode_uint(60),
    Format.TEXT: _TEXT,
    Format.BYTES: _OCTETS,
    Format.PROBLEM_CBOR: encode_uint(257),
}
_NO_JSON: Final = frozenset(map(encode_uint, (60, 110, 112)))
"""CBOR (RFC 8949) and SenML (RFC 8428): another form than an answer in JSON."""
_LINK_FORMAT: Final = ((coap.CONTENT_FORMAT, encode_uint(40)),)
_DISCOVERY: Final = frozenset(f"{method} /.well-known/core" for method in METHODS.values())

BROKEN: Final = Answer(coap.INTERNAL_SERVER_ERROR)
BUSY: Final = Answer(coap.SERVICE_UNAVAILABLE, encode_options([(coap.MAX_AGE, encode_uint(1))]))
_NOT_FOUND: Final = Answer(coap.NOT_FOUND)
_WRONG_METHOD: Final = Answer(coap.METHOD_NOT_ALLOWED)
_INCOMPLETE: Final = Answer(coap.REQUEST_ENTITY_INCOMPLETE)


class Resources:
    """Serves requests of every CoAP endpoint through one router.

    - `links`: the paths shown at `/.well-known/core` (`/api/v1/provision`), or whole links with
      their attributes (`</est/sen>;rt="ace.est.sen"`, RFC 6690).
    - `max_body`: bytes of one request body; a larger one is 4.13 with Size1.
    - `max_assemblies`: request bodies arriving in blocks at one time; memory is bounded by
      `max_assemblies * max_body`.
    - `max_stored`: responses kept for the blocks still to be fetched, notifications and sources
      among them. When one is gone, its GET is put to the router again.
    - `block_age_s`: how long a body is kept: a request's and a source after the last block, a
      whole response after its first.
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
        self._links = ",".join(map(_link, links)).encode()
        self._assemblies = Assemblies(max_assemblies, max_body=max_body, age_s=block_age_s, now=now)
        self._stored: Recent[Stored] = Recent(max_stored, block_age_s, now)

    def take(self, message: Message, peer: str) -> Answer | Ask:
        """Judge a request from `peer` (`192.0.2.7:50123`); an `Ask` is for `ask` to be served."""
        try:
            ask = understand(message, peer)
            if ask.segments and self._router.match(ask.segments) is not None:
                ask.address = ask.segments
            if ask.block2 is not None and ask.block2.number:
                return self._later_block(ask, ask.block2)
            if ask.block1 is not None:
                key = ask.key(ask.request_tag)
                ask.body = self._assemblies.join(key, ask.block1, ask.body, ask.size1)
            else:
                self._assemblies.check(len(ask.body))
        except Settled as settled:
            return settled.answer
        if ask.address in _DISCOVERY:
            return self._discover(ask)
        return ask

    async def ask(self, ask: Ask) -> Answer | None:
        """Have the router serve `ask`, and make a response of its reply; None for no response.

        Raises nothing but cancellation. `ask.observer` is accepted if the reply does so.
        """
        if ask.stored is not None:
            return await self._read(ask, ask.stored)
        caller, labelled = ask.caller, ask.content_format
        route, reply = await self._router.answer(
            ask.address,
            ask.body,
            Peer(Wire.COAP, ask.peer) if caller is None else caller.peer,
            query=ask.query,
            observer=ask.observer,
            identity=None if caller is None else caller.identity,
            accept=ask.accept,
            content_format=None if labelled is None else int.from_bytes(labelled, "big"),
        )
        if route is None:
            return self._unserved(ask)
        status = reply.status
        if status is Status.IGNORED:
            return None
        code = _code(route, reply, ask.method)
        body = reply.body
        later = status is not Status.OK and status in _COME_AGAIN
        kept = not reply.headers or reply.headers.get("Cache-Control") != "no-store"
        if ask.plain and not later and kept and len(body) <= WHOLE.size and reply.source is None:
            if not body:
                return Answer(code)
            return Answer(code, encode_options(_label(route, reply, ask)), body)
        options = _label(route, reply, ask) if body or reply.source else ()
        if later and code in _SAY_WHEN:
            age = min(max(reply.retry_after_s, 1), _LONGEST_AGE)
            options = (*options, (coap.MAX_AGE, encode_uint(age)))
        elif not kept:  # nor is it where nothing is said for 60 s (RFC 7252, section 5.10.5)
            options = (*options, (coap.MAX_AGE, encode_uint(0)))
        if reply.source is not None:
            options = ((coap.ETAG, _source_etag(ask, reply, reply.source)), *options)
            return await self._read(ask, Stored(code, options, source=reply.source))
        return self._in_blocks(ask, code, options, body, _accept(ask, reply))

    def notify(self, notice: Notice) -> Answer:
        """The response that is one notification: 2.05 with its number (RFC 7641, section 4.2).

        A long body is begun here; its other blocks are fetched like any response's (RFC 7959,
        section 2.6).
        """
        observed, reply = notice.observed, notice.reply
        first = ((coap.OBSERVE, encode_uint(notice.number)),)
        body = reply.body
        options: tuple[Option, ...] = ()
        if body and (value := _own_label(reply.format, observed.content_format)) is not None:
            options = ((coap.CONTENT_FORMAT, value),)
        exponent = observed.exponent
        wanted = WHOLE if exponent is None else Block(0, False, exponent)
        if len(body) <= wanted.size:
            return Answer(coap.CONTENT, encode_options((*first, *options)), body)
        stored = Stored(coap.CONTENT, ((coap.ETAG, _etag(body)), *options), body)
        self._stored.put(observed.key, stored)
        return stored.block(wanted, None, first)

    def _unserved(self, ask: Ask) -> Answer:
        """Nothing lives at this address, or not by this method."""
        _, _, path = str(ask.address).partition(" ")
        if any(self._router.match(f"{method} {path}") for method in METHODS.values()):
            return _WRONG_METHOD
        # GET and POST may be misspelt, the rest is not offered at all.
        return _NOT_FOUND if ask.method in (coap.GET, coap.POST) else _WRONG_METHOD

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
        ask.observe = None  # a notification's other blocks are no registration (RFC 7959, 2.6)
        stored = self._stored.get(ask.key())
        if stored is None:
            return ask if ask.method == coap.GET else _INCOMPLETE
        if stored.source is None:
            return stored.block(wanted, None)
        ask.stored = stored
        return ask

    async def _read(self, ask: Ask, stored: Stored) -> Answer:
        """A block of a response that is not in memory."""
        wanted = ask.block2 or WHOLE
        if wanted.size < stored.size:
            self._stored.put(ask.key(), stored)
        elif not stored.size:
            return Answer(stored.code, encode_options(stored.options))
        try:
            return await stored.read(wanted, ask.block1)
        except Exception:
            log.exception("source.failed", peer=ask.peer)
            return BROKEN

    def _in_blocks(
        self,
        ask: Ask,
        code: int,
        options: tuple[Option, ...],
        body: bytes,
        first: tuple[Option, ...] = (),
    ) -> Answer:
        """The response, cut where it is too long for one message or for what was asked."""
        wanted = ask.block2 or WHOLE
        if not body or (ask.block2 is None and len(body) <= wanted.size):
            options = (*first, *options)
            if ask.size2 and body:
                options = (*options, (coap.SIZE2, encode_uint(len(body))))
            if ask.block1 is not None:
                options = (*options, (coap.BLOCK1, ask.block1.encode()))
            return Answer(code, encode_options(options), body)
        stored = Stored(code, ((coap.ETAG, _etag(body)), *options), body)
        if len(body) > wanted.size:
            self._stored.put(ask.key(), stored)
        return stored.block(wanted, ask.block1, first)


def _link(link: str) -> str:
    return link if link.startswith("<") else f"<{link}>"


def _accept(ask: Ask, reply: Reply) -> tuple[Option, ...]:
    """Begin the observation if both sides want it: what the response says of it."""
    if ask.observer is None or reply.on_end is None or reply.status is not Status.OK:
        return ()
    return ((coap.OBSERVE, b""),) if ask.observer.accept(reply.on_end) else ()


def _etag(whole: bytes) -> bytes:
    """Lets the device notice that two blocks belong to different responses."""
    return blake2b(whole, digest_size=8).digest()


def _source_etag(ask: Ask, reply: Reply, source: Source) -> bytes:
    """The source's own `etag`, if it has one; else of all that tells this source from another."""
    own = getattr(source, "etag", None)
    if isinstance(own, bytes) and 1 <= len(own) <= 8:
        return own
    told = (ask.key(), source.size, sorted(reply.headers.items()))
    return _etag(own if isinstance(own, bytes) and own else repr(told).encode())


def _label(route: Route, reply: Reply, ask: Ask) -> tuple[Option, ...]:
    """The Content-Format of a reply with a body."""
    if reply.format in route.coap_formats:
        fixed = route.coap_formats[reply.format]
        value = None if fixed is None else encode_uint(fixed)
    else:
        value = _own_label(reply.format, ask.content_format)
    return () if value is None else ((coap.CONTENT_FORMAT, value),)


def _own_label(format_: Format, asked: bytes | None) -> bytes | None:
    """JSON goes by the name the request had for its own body, if it had one for JSON."""
    if format_ is Format.JSON and asked is not None and asked not in _NO_JSON:
        return asked
    return _LABELS[format_]


def _code(route: Route, reply: Reply, method: int) -> int:
    own = route.coap_codes.get(reply.status)
    if own is not None:
        return own // 100 << 5 | own % 100
    if method == coap.GET and reply.status is Status.OK:
        return coap.CONTENT
    return _CODES[reply.status]
