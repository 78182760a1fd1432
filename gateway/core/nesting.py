"""How deep JSON goes. What is kept must be read and written again, from deeper in the program than
where it came in; readers and writers of JSON give up at some hundred levels."""

from __future__ import annotations

import re
from typing import Final

MOST_LEVELS: Final = 100
_PIECE: Final = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*"')


def is_shallow(text: str, most: int = MOST_LEVELS) -> bool:
    """Whether no more than `most` objects and arrays stand in each other. `text` is valid JSON."""
    if text.count("[") + text.count("{") <= most:
        return True
    depth = 0
    for piece in _PIECE.finditer(text):
        first = piece[0][0]
        if first in "[{":
            depth += 1
            if depth > most:
                return False
        elif first in "]}":
            depth -= 1
    return True
