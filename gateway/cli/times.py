"""Durations and moments as people type them. All are milliseconds afterwards."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

if TYPE_CHECKING:
    _Type: TypeAlias = click.ParamType[int]
else:
    _Type = click.ParamType  # older releases of click cannot be subscripted

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PIECE: Final = re.compile(r"(\d{1,12})(ms|[smhd])")
_WHOLE: Final = re.compile(rf"(?:{_PIECE.pattern})+")
_MILLISECONDS: Final = re.compile(r"\d{11,14}")
"""Fewer digits are a date (`20261121`), or seconds taken for milliseconds."""
MOST_MS: Final = 3650 * _UNITS["d"]


class DurationType(_Type):
    """`10s`, `5m`, `1h30m`, `7d`: up to ten years, in milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not _WHOLE.fullmatch(value):
            self.fail(f"{value!r} is no duration; write 10s, 5m, 1h30m or 7d.", param, ctx)
        lasts = sum(int(number) * _UNITS[unit] for number, unit in _PIECE.findall(value))
        if not 0 < lasts <= MOST_MS:
            self.fail(f"{value!r} is out of bounds: more than 0, at most 3650d.", param, ctx)
        return lasts


class MomentType(_Type):
    """`2026-11-21T10:00:00Z`, without a zone UTC, or milliseconds since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if _MILLISECONDS.fullmatch(value):
            return int(value)
        try:
            moment = datetime.fromisoformat(value)
            return round(
                (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
            )
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no time; write 2026-11-21T10:00:00Z, 2026-11-21, or milliseconds "
                "since the epoch.",
                param,
                ctx,
            )


DURATION: Final = DurationType()
MOMENT: Final = MomentType()


def lasting(ms: int) -> str:
    """A duration as one types it, in the largest unit that leaves no rest: `90s`, `1h`."""
    unit = next((one for one in ("d", "h", "m", "s") if ms % _UNITS[one] == 0), "ms")
    return f"{ms // _UNITS[unit]}{unit}"
