"""As much of DER (X.690) as a certificate needs.

cryptography's builder is as right and takes 100 µs for what is 20 here; a fleet that wakes up asks
for thousands of certificates a second.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from cryptography.x509 import ExtensionType, ObjectIdentifier

_TRUE: Final = bytes.fromhex("0101ff")
SEQUENCE: Final = 0x30
_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_OBJECT_IDENTIFIER: Final = 0x06
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_FIRST_GENERALIZED_YEAR: Final = 2050
"""RFC 5280, section 4.1.2.5."""


def tagged(tag: int, *parts: bytes) -> bytes:
    """A tag, the length of all parts, and the parts."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content


def integer(value: int) -> bytes:
    """One that is not negative."""
    return tagged(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def bit_string(content: bytes) -> bytes:
    return tagged(_BIT_STRING, b"\x00", content)


def octet_string(content: bytes) -> bytes:
    return tagged(_OCTET_STRING, content)


def time(moment: datetime) -> bytes:
    """To the second, in UTC."""
    if moment.year < _FIRST_GENERALIZED_YEAR:
        return tagged(_UTC_TIME, f"{moment:%y%m%d%H%M%SZ}".encode())
    return tagged(_GENERALIZED_TIME, f"{moment:%Y%m%d%H%M%SZ}".encode())


def object_identifier(oid: ObjectIdentifier) -> bytes:
    first, second, *others = map(int, oid.dotted_string.split("."))
    return tagged(_OBJECT_IDENTIFIER, *map(_base128, [first * 40 + second, *others]))


def _base128(arc: int) -> bytes:
    """Seven bits in each byte; all but the last have their top bit set."""
    digits = [arc & 0x7F]
    while arc := arc >> 7:
        digits.append(arc & 0x7F | 0x80)
    return bytes(reversed(digits))


def extension(value: ExtensionType, *, critical: bool = False) -> bytes:
    """An entry of a certificate's extensions."""
    marks = (_TRUE,) if critical else ()
    content = octet_string(value.public_bytes())
    return tagged(SEQUENCE, object_identifier(value.oid), *marks, content)
