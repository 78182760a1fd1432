"""Outside names: version 7 UUIDs, as bytes and as text."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from gateway.core.tokens import random_bytes


def uuid_text(identity: bytes) -> str:
    """The 36 characters of a UUID."""
    text = identity.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid7(at: int, take: Callable[[int], bytes] = random_bytes) -> bytes:
    """A version 7 UUID (RFC 9562, section 5.7) for the time `at` in milliseconds.

    `random_bytes` is the event loop's alone: in a transaction `take` is `os.urandom`.
    """
    tail = bytearray(take(10))
    tail[0] = 0x70 | (tail[0] & 0x0F)
    tail[2] = 0x80 | (tail[2] & 0x3F)
    return (at & 0xFFFF_FFFF_FFFF).to_bytes(6) + bytes(tail)


def uuid_bytes(text: str) -> bytes:
    """The inverse of `uuid_text`. Raises `ValueError`."""
    return uuid.UUID(text).bytes
