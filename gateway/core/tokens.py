"""Randomness for names and tokens: 20 alphanumerics, 119 bits, from the system's source."""

from __future__ import annotations

import os
import string

_ALPHABET = string.ascii_letters + string.digits
_USABLE = 256 - 256 % len(_ALPHABET)
"""Bytes from here on are thrown away: keeping them would make some letters likelier."""
_TABLE = bytes(ord(_ALPHABET[byte % len(_ALPHABET)]) for byte in range(256))
_UNUSABLE = bytes(range(_USABLE, 256))


def new_token(length: int = 20) -> str:
    """`length` letters and digits, each of the 62 equally likely."""
    text = os.urandom(length + 12).translate(_TABLE, _UNUSABLE)
    while len(text) < length:
        text += os.urandom(length).translate(_TABLE, _UNUSABLE)
    return text[:length].decode()
