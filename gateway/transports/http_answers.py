"""Replies and errors as HTTP answers: which number, which headers, which words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

from aiohttp import web

from gateway.core.model import RefusalReason
from gateway.transports.http_connection import SERVER
from gateway.wire.call import ErrorShape, Format, Reply, Status
from gateway.wire.route import Route

ErrorShapes: TypeAlias = Callable[[str], ErrorShape]
"""How errors are told at a path; "" where it is not known."""

CODES: Mapping[Status, int] = {
    Status.OK: 200,
    Status.REFUSED: 403,
    Status.UNDECODABLE: 400,
    Status.BAD_REQUEST: 400,
    Status.UNAUTHENTICATED: 401,
    Status.FORBIDDEN: 403,
    Status.CONFLICT: 409,
    Status.UNACCEPTABLE: 406,
    Status.NOT_FOUND: 404,
    Status.METHOD_NOT_ALLOWED: 405,
    Status.GONE: 401,
    Status.DELETED: 403,
    Status.TIMEOUT: 408,
    Status.OVERLOADED: 503,
    Status.LIMITED: 429,
    Status.PENDING: 202,
    Status.FULL: 500,
    Status.FAILED: 500,
    Status.IGNORED: 500,
    Status.INTERNAL: 500,
}
_OCTETS = "application/octet-stream"
_MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.TEXT: "text/plain; charset=utf-8",
    Format.PROTOBUF: "application/x-protobuf",
    Format.CBOR: "application/cbor",
    Format.BYTES: _OCTETS,
    Format.HTML: "text/html; charset=utf-8",
    Format.PROBLEM_JSON: "application/problem+json",
    Format.PROBLEM_CBOR: "application/concise-problem-details+cbor",
    Format.METRICS: "text/plain; version=0.0.4; charset=utf-8",
}
_DELETED = Reply(b"Device was deleted!", Status.DELETED, Format.TEXT)
"""ThingsBoard's own text (contract, section 11)."""
_REFUSALS: Mapping[RefusalReason, str] = {
    RefusalReason.EXPIRED_LEAF: "the client certificate has expired",
    RefusalReason.NOT_YET_VALID: "the client certificate is not valid yet",
    RefusalReason.CREDENTIALS_REVOKED: "the client certificate was revoked",
    RefusalReason.UNKNOWN_CA: "the client certificate is of an unknown authority",
    RefusalReason.UNKNOWN_CERTIFICATE: "the client certificate is of no device",
    RefusalReason.CHAIN_UNREADABLE: "the client certificate cannot be read",
    RefusalReason.OVERSIZED_CHAIN: "the chain of the client certificate is too large",
    RefusalReason.PATH_TOO_LONG: "the chain of the client certificate is too long",
    RefusalReason.BAD_SIGNATURE: "a signature in the chain of the client certificate is wrong",
    RefusalReason.BAD_CHAIN: "the chain of the client certificate is not valid",
    RefusalReason.WRONG_USAGE: "the client certificate, or an issuer's, is not for this use",
    RefusalReason.WEAK_KEY: "a key in the chain of the client certificate is too weak",
    RefusalReason.CN_MISSING: "the client certificate has no common name",
    RefusalReason.CN_MISMATCH: "the common name of the client certificate names no device",
}
_REFUSED = "the client certificate lets nobody in"
_STOPPING_RETRY_S = 5
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no value of a header may hold: line ends above all, and what UTF-8 has no bytes for."""


class BadBody(Exception):
    """The body of a request cannot be had; what the client is told."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Answers:
    """Makes the answers of one listener; for what its setting is see `HttpListener`."""

    def __init__(self, shapes: ErrorShapes) -> None:
        self._shapes = shapes

    def reply(self, route: Route, reply: Reply, path: str) -> web.Response:
        """The answer to a call. Raises `ValueError` for headers that cannot be sent."""
        status = reply.status
        if status is Status.DELETED and not reply.body:
            reply = _DELETED
        code = route.http_codes.get(status) or CODES[status]
        if not reply.body and code >= 400 and code in self._shapes(path).explained:
            response = self.error(code, reply.reason, path)
        else:
            response = web.Response(body=reply.body, status=code, headers=_labels(reply.format))
        if reply.headers:
            response.headers.update(_sendable(reply.headers))
        if status is Status.LIMITED:
            response.headers["Retry-After"] = str(max(1, reply.retry_after_s))
        elif reply.retry_after_s:
            response.headers["Retry-After"] = str(reply.retry_after_s)
        return response

    def pieces(self, route: Route, reply: Reply, size: int, span: range) -> web.StreamResponse:
        """The head of an answer whose body is the bytes `span` of `size`."""
        status = reply.status
        response = web.StreamResponse(
            status=route.http_codes.get(status) or CODES[status],
            headers=_labels(reply.format, _OCTETS),
        )
        response.headers.update(_sendable(reply.headers))
        response.headers["Accept-Ranges"] = "bytes"
        response.content_length = len(span)
        if len(span) < size:
            response.set_status(206)
            response.headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
        return response

    def no_such_bytes(self, size: int) -> web.Response:
        """A range is asked for that begins behind the end (RFC 9110, section 15.5.17)."""
        response = self.error(416, f"there are {size} bytes")
        response.headers["Accept-Ranges"] = "bytes"
        response.headers["Content-Range"] = f"bytes */{size}"
        return response

    def unrouted(self, allowed: list[str], path: str) -> web.Response:
        """Nothing is here, or nothing but by the methods `allowed`."""
        if not allowed:
            return self.error(404, "nothing is served here", path)
        response = self.error(405, f"use {' or '.join(allowed)} here", path)
        response.headers["Allow"] = ", ".join(allowed)
        return response

    def unreadable(self) -> web.Response:
        """The answer to what is not HTTP. It repeats nothing of it."""
        return self.error(400, "the request is not valid HTTP", close=True)

    def stopping(self) -> web.Response:
        """The answer to a request that would have waited."""
        return self.bad_body(BadBody(503, "shutting down, try again later"))

    def refused(self, reason: RefusalReason) -> web.Response:
        """The answer to every request of a client whose certificate was refused."""
        return self.error(401, _REFUSALS.get(reason, _REFUSED), close=True)

    def bad_body(self, why: BadBody, path: str = "") -> web.Response:
        response = self.error(why.code, why.message, path, close=True)
        if why.code == 415:
            response.headers["Accept-Encoding"] = "identity"  # RFC 9110, section 12.5.3
        elif why.code == 503:
            response.headers["Retry-After"] = str(_STOPPING_RETRY_S)
        return response

    def too_large(self, most: int, path: str) -> web.Response:
        response = web.Response(
            body=self._shapes(path).too_large(most),
            status=413,
            content_type="application/json",
        )
        response.force_close()
        return response

    def error(
        self, code: int, message: str, path: str = "", *, close: bool = False
    ) -> web.Response:
        """An error that is explained, in the shape the served dialects expect."""
        response = web.Response(
            body=self._shapes(path).body(code, message),
            status=code,
            content_type="application/json",
            headers={"Server": SERVER},
        )
        if close:
            response.force_close()
        return response


def _labels(kind: Format, otherwise: str | None = None) -> dict[str, str]:
    """The headers every answer has; without a media type when there is nothing to name."""
    media_type = _MEDIA_TYPES.get(kind, otherwise)
    if media_type is None:
        return {"Server": SERVER}
    return {"Server": SERVER, "Content-Type": media_type}


@lru_cache(maxsize=256)
def _is_token(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def _sendable(headers: Mapping[str, str]) -> Mapping[str, str]:
    """`headers`, when none can end its line. Raises `ValueError`, which repeats no value."""
    for name, value in headers.items():
        if not _is_token(name):
            raise ValueError("a header of a reply has a name that is no token")
        if not value.isprintable() and _CONTROL.search(value):
            raise ValueError(f"the header {name} of a reply holds a control character")
    return headers
