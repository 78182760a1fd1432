"""DTLS 1.2 as bytes: records, a ClientHello, its HelloVerifyRequest, alerts (RFC 6347, 5246).

What must be read or written without any state of a peer, and where one datagram ends. No I/O, no
secrets, no cryptography.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23
"""What a record holds (RFC 5246, section 6.2.1)."""

HEADER: Final = 13
"""Bytes before a record's body: type, version, epoch, sequence number, length."""
VERSION: Final = b"\xfe\xfd"
"""DTLS 1.2."""

CLOSE_NOTIFY: Final = 0
BAD_CERTIFICATE: Final = 42
CERTIFICATE_REVOKED: Final = 44
CERTIFICATE_EXPIRED: Final = 45
CERTIFICATE_UNKNOWN: Final = 46
UNKNOWN_CA: Final = 48
ACCESS_DENIED: Final = 49
DECRYPT_ERROR: Final = 51
INTERNAL_ERROR: Final = 80
NO_RENEGOTIATION: Final = 100
"""Descriptions of alerts (RFC 5246, section 7.2)."""

FINISHED: Final = 20
CLIENT_HELLO: Final = 1
_HELLO_VERIFY_REQUEST: Final = 3
_CLIENT_KEY_EXCHANGE: Final = 16
_MESSAGE_HEADER: Final = 12
_MAJOR: Final = 0xFE
_OLDEST_VERSION: Final = b"\xfe\xff"
# A HelloVerifyRequest says 1.0 whatever will be spoken (RFC 6347, section 4.2.1).
_WARNING: Final = 1
_FATAL: Final = 2


class Hello(Struct, frozen=True, gc=False):
    """A ClientHello, as far as its cookie goes.

    `parameters` is all that must be the same when it is sent again with the cookie: version,
    random, session id and cipher suites. `sequence` is its record's epoch and number.
    """

    random: bytes
    cookie: bytes
    parameters: bytes
    sequence: bytes


def read_hello(datagram: bytes) -> Hello | None:
    """The ClientHello that `datagram` begins with; None for anything else, whatever the bytes.

    One in fragments is None too: nothing can be put together before its sender is known.
    """
    if not _is_whole_hello(datagram):
        return None
    body = HEADER + _MESSAGE_HEADER
    end = body + int.from_bytes(datagram[14:17], "big")
    session = body + 34
    cookie = session + 1 + datagram[session] if session < end else end
    suites = cookie + 1 + datagram[cookie] if cookie < end else end
    if suites + 2 > end:
        return None
    after = suites + 2 + int.from_bytes(datagram[suites : suites + 2], "big")
    if after > end:
        return None
    return Hello(
        datagram[body + 2 : session],
        datagram[cookie + 1 : suites],
        datagram[body:cookie] + datagram[suites:after],
        datagram[3:11],
    )


def is_hello(datagram: bytes) -> bool:
    """Whether it begins like a ClientHello: costs nothing, proves little."""
    return (
        len(datagram) > HEADER
        and datagram[0] == HANDSHAKE
        and datagram[1] == _MAJOR
        and datagram[3:5] == b"\0\0"
        and datagram[HEADER] == CLIENT_HELLO
    )


def _is_whole_hello(datagram: bytes) -> bool:
    if not is_hello(datagram) or len(datagram) < HEADER + _MESSAGE_HEADER:
        return False
    length = datagram[14:17]
    size = int.from_bytes(length, "big")
    return (
        datagram[19:22] == b"\0\0\0"
        and datagram[22:25] == length
        and _MESSAGE_HEADER + size <= int.from_bytes(datagram[11:13], "big") <= len(datagram) - 13
    )


def verify_request(hello: Hello, cookie: bytes) -> bytes:
    """The HelloVerifyRequest that asks for `hello` again, with `cookie` (1 to 255 bytes)."""
    body = _OLDEST_VERSION + bytes((len(cookie),)) + cookie
    size = len(body).to_bytes(3, "big")
    message = bytes((_HELLO_VERIFY_REQUEST,)) + size + b"\0\0" + b"\0\0\0" + size + body
    head = bytes((HANDSHAKE,)) + _OLDEST_VERSION + hello.sequence
    return head + len(message).to_bytes(2, "big") + message


def alert(description: int, sequence: bytes) -> bytes:
    """A fatal alert in clear; `sequence` is the record's epoch and number, 8 bytes."""
    return bytes((ALERT,)) + VERSION + sequence + b"\x00\x02" + bytes((_FATAL, description))


NO_MORE_HANDSHAKES: Final = bytes((_WARNING, NO_RENEGOTIATION))
"""The body of the answer to a hello within an association (RFC 5246, section 7.2.2)."""


def farewell(description: int = CLOSE_NOTIFY) -> bytes:
    """The body of an alert that ends an association: a warning to close it, else fatal."""
    return bytes((_WARNING if description == CLOSE_NOTIFY else _FATAL, description))


def is_farewell(body: bytes) -> bool:
    """Whether an alert ends the association."""
    return len(body) == 2 and (body[0] == _FATAL or body[1] == CLOSE_NOTIFY)


def records(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each whole record in `data` begins and ends; what does not fit is left out."""
    start, size = 0, len(data)
    while start + HEADER <= size:
        end = start + HEADER + (data[start + 11] << 8 | data[start + 12])
        if end > size:
            return
        yield start, end
        start = end


def datagrams(flight: bytes, mtu: int) -> list[bytes]:
    """A flight cut between records into datagrams of at most `mtu` bytes.

    A record longer than that goes alone: OpenSSL makes none in a handshake once it knows `mtu`.
    """
    cut: list[bytes] = []
    begun = last = 0
    for start, end in records(flight):
        if end - begun > mtu and start > begun:
            cut.append(flight[begun:start])
            begun = start
        last = end
    if last > begun:
        cut.append(flight[begun:last])
    return cut


def chosen_suite(flight: bytes) -> int | None:
    """The number of the cipher suite in a ServerHello that `flight` begins with."""
    session = HEADER + _MESSAGE_HEADER + 34
    if flight[:1] != b"\x16" or flight[HEADER : HEADER + 1] != b"\x02" or len(flight) <= session:
        return None
    suite = session + 1 + flight[session]
    return int.from_bytes(flight[suite : suite + 2], "big")


def psk_identity(datagram: bytes) -> bytes | None:
    """The identity in a ClientKeyExchange of a PSK suite (RFC 4279, section 2; RFC 5489).

    None when there is none in clear in this datagram, or it came in fragments.
    """
    for start, end in _messages(datagram):
        if datagram[start] == _CLIENT_KEY_EXCHANGE:
            return _identity(datagram[start + _MESSAGE_HEADER : end])
    return None


def longest_message(datagram: bytes) -> int:
    """Bytes of the longest message of a handshake in clear of which a part is here; 0 for none."""
    lengths = (datagram[start + 1 : start + 4] for start, _ in _messages(datagram))
    return max((int.from_bytes(length, "big") for length in lengths), default=0)


def _messages(datagram: bytes) -> Iterator[tuple[int, int]]:
    """Where each message of a handshake in clear, or fragment of one, begins and ends."""
    for start, end in records(datagram):
        if datagram[start] != HANDSHAKE or datagram[start + 3 : start + 5] != b"\0\0":
            continue
        message = start + HEADER
        while (body := message + _MESSAGE_HEADER) <= end:
            after = body + int.from_bytes(datagram[message + 9 : message + 12], "big")
            yield message, min(after, end)
            message = after


def _identity(body: bytes) -> bytes | None:
    size = int.from_bytes(body[:2], "big")
    return body[2 : 2 + size] if len(body) >= 2 + size else None


def is_sealed(datagram: bytes) -> bool:
    """Whether it holds a handshake record under keys: a Finished."""
    return any(
        datagram[start] == HANDSHAKE and datagram[start + 3 : start + 5] != b"\0\0"
        for start, _ in records(datagram)
    )
