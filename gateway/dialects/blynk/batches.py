"""Values with times of their own, many at once: `[[ms, value], …]` (section 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.dialects.blynk.data import Write
from gateway.dialects.blynk.profile import Datastream
from gateway.dialects.blynk.values import Mistake, from_json

MOST_POINTS: Final = 10_000
MOST_BATCH_BYTES: Final = 2 * 1024 * 1024
"""Of one request (contract, section 10, limits)."""
LAST_MS: Final = 9_999_999_999_999
"""A time with more digits is no number of milliseconds."""

# Verbatim, as in `words`.
UNKNOWN_TYPE_TEXT: Final = "Unknown content type."
TOO_MUCH_TEXT: Final = f"Too much data in batch. Maximum batch size is {MOST_POINTS} points."
# Ours, where nothing is published.
NO_BATCH_TEXT: Final = "Wrong batch format."

_decoder = msgspec.json.Decoder(
    list[tuple[int | float, int | float | str | list[int | float]]], strict=True
)


def check_content_type(headers: Mapping[str, str]) -> None:
    """JSON, or not told. Raises `Mistake`."""
    told = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if told not in ("", "application/json"):
        raise Mistake(UNKNOWN_TYPE_TEXT)


def read_batch(stream: Datastream, body: bytes) -> list[Write]:
    """The values of one datastream. Raises `Mistake`: no such list, too long, or a wrong value."""
    try:
        points = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Mistake(NO_BATCH_TEXT) from None
    if len(points) > MOST_POINTS:
        raise Mistake(TOO_MUCH_TEXT)
    return [Write(stream, from_json(stream, value), _time(ts)) for ts, value in points]


def _time(ts: int | float) -> int:
    """Milliseconds; some clients send a fraction."""
    if not 0 <= ts <= LAST_MS:
        raise Mistake(NO_BATCH_TEXT)
    return int(ts)
