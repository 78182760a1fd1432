"""Bodies too large for memory, sent as fast as the client takes them: whole, or one range.

Ranges are those of RFC 9110, section 14: one of bytes, for GET alone. Several at once, or what
cannot be read, is answered with the whole body, as the section allows.
"""

from __future__ import annotations

import re

import structlog
from aiohttp import web

from gateway.core.errors import StoreUnavailable
from gateway.transports.http_connection import Connection
from gateway.wire.call import Source

log = structlog.get_logger()

PIECE = 65_536
"""Bytes read at once. One client has less than twice as many waiting for it in memory."""
_RANGE = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.ASCII | re.IGNORECASE)
_MOST_DIGITS = 18


def asked_range(text: str, size: int) -> range | None:
    """The bytes of a body of `size` that a `Range` header asks for.

    None: it asks for nothing we know, and the whole body is the answer. An empty range: there
    are no such bytes.
    """
    found = _RANGE.fullmatch(text)
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return range(max(0, size - _number(last)), size)
    if last and _number(last) < _number(first):
        return None
    end = min(size, _number(last) + 1) if last else size
    return range(_number(first), end)


def _number(digits: str) -> int:
    """A number too long to be a position stands for one beyond every end."""
    return int(digits.lstrip("0")[:_MOST_DIGITS] or "0")


async def send_pieces(
    request: web.BaseRequest,
    response: web.StreamResponse,
    connection: Connection,
    source: Source,
    span: range,
) -> None:
    """Send the head of `response` and the bytes `span` of `source`.

    When the source fails the connection is closed, so that the client sees that bytes are missing.
    The first piece is read before anything is sent: raises what that raises.
    """
    piece = await _read(source, span)
    connection.hold_back(PIECE)
    try:
        await response.prepare(request)
        while span:
            await response.write(piece)
            await connection.flushed()
            span = span[len(piece) :]
            piece = await _read(source, span)
    except ConnectionError:
        connection.force_close()  # the client is gone
    except Exception as exc:
        log.error("http.source_failed", peer=connection.peer.address, exc_info=exc)
        connection.force_close()


async def _read(source: Source, span: range) -> bytes:
    """The next piece of `span`, at least one byte; none at its end."""
    if not span:
        return b""
    piece = await source.read(span.start, min(PIECE, len(span)))
    if not piece:
        raise StoreUnavailable("the file is shorter than it was")
    return piece
