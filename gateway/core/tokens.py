"""Randomness for names, tokens, ids and nonces, from the system's source.

The source is read 4 KiB at a time: one system call per token, each of which lets go of the
interpreter's lock, showed up as 6 % of a provisioning. No byte is handed out twice.
"""

from __future__ import annotations

import os
import string
from base64 import urlsafe_b64encode

_ALPHABET = string.ascii_letters + string.digits
_USABLE = 256 - 256 % len(_ALPHABET)
"""Bytes from here on are thrown away: keeping them would make some letters likelier."""
_TABLE = bytes(ord(_ALPHABET[byte % len(_ALPHABET)]) for byte in range(256))
_UNUSABLE = bytes(range(_USABLE, 256))
_NOT_IN_KEYS = b"\0\n"
_READ = 4096


class _Source:
    """Random bytes, read ahead. For one thread: the event loop's."""

    __slots__ = ("_ahead", "_at")

    def __init__(self) -> None:
        self._ahead = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._ahead):
            self._ahead = os.urandom(max(_READ, count))
            self._at, end = 0, count
        taken = self._ahead[self._at : end]
        self._at = end
        return taken


_source = _Source()
os.register_at_fork(after_in_child=_source.__init__)  # type: ignore[misc]

random_bytes = _source.take
"""`random_bytes(count)`: that many bytes nobody else has."""


def new_token(length: int = 20) -> str:
    """`length` letters and digits, each of the 62 equally likely; 20 of them are 119 bits."""
    text = random_bytes(length + 12).translate(_TABLE, _UNUSABLE)
    while len(text) < length:
        text += random_bytes(length).translate(_TABLE, _UNUSABLE)
    return text[:length].decode()


def new_key(length: int = 32) -> bytes:
    """`length` random bytes, none of them zero or a line feed; 32 of them are 255.6 bits.

    libcoap's programs, and others in C, take a key for a string, which ends at a zero; a shell
    takes line feeds away from the end of what a command gave.
    """
    key = random_bytes(length + 4).translate(None, _NOT_IN_KEYS)
    while len(key) < length:
        key += random_bytes(length).translate(None, _NOT_IN_KEYS)
    return key[:length]


def new_url_token(size: int = 24) -> str:
    """`size` random bytes (a multiple of 3) in URL-safe base64: 24 of them are 32 characters of
    `[A-Za-z0-9_-]`, as Blynk's devices want their token (Blynk contract, section 3.2)."""
    return urlsafe_b64encode(random_bytes(size)).decode()
