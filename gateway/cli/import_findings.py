"""What an import finds besides devices: what it made for them, names twice, rows it never read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from gateway.cli.options import shown
from gateway.core.import_rows import ImportRow
from gateway.core.importing import Made

MOST_NAMES: Final = 100_000
"""Names of devices that are remembered, the first of a file, to find one twice."""
_MOST_MADE: Final = 10_000
"""Profiles, customers and groups that are remembered, of each; a dry run makes them again."""
_MOST_SHOWN: Final = 10
_MOST_TOLD: Final = 20


class Findings:
    """Of one run, without those that it continues. Bounded."""

    def __init__(self) -> None:
        self.unread = 0
        self.repeated = 0
        self._pairs: list[tuple[int, int, str]] = []
        self._rows: dict[str, int] = {}
        self._made: dict[str, dict[str, None]] = {
            name: {} for name in ("profiles", "customers", "groups")
        }

    def note_names(self, rows: Iterable[ImportRow]) -> None:
        """Find those that had been in an earlier row."""
        seen = self._rows
        for row in rows:
            first = seen.get(row.name)
            if first is None:
                if len(seen) < MOST_NAMES:
                    seen[row.name] = row.number
                continue
            self.repeated += 1
            if len(self._pairs) < _MOST_TOLD:
                self._pairs.append((first, row.number, row.name))

    def note_made(self, made: Made) -> None:
        for kind, names in self._made.items():
            for name in getattr(made, kind):
                if len(names) < _MOST_MADE:
                    names[name] = None

    def warnings(self) -> Iterator[str]:
        """Lines on names that are there twice."""
        for first, second, name in self._pairs:
            yield f"warning: rows {first} and {second} have the same name {shown(name)}"
        more = self.repeated - len(self._pairs)
        if more:
            yield f"warning: {more:,} more rows have the name of an earlier row"

    def lines(self) -> Iterator[str]:
        """`new profiles: 2 (a, b)`, for each kind of which there are any."""
        for kind, names in self._made.items():
            if names:
                listed = ", ".join(shown(name) for name in list(names)[:_MOST_SHOWN])
                rest = ", …" if len(names) > _MOST_SHOWN else ""
                yield f"new {kind}: {_count(names)} ({listed}{rest})"

    def plain(self) -> dict[str, Any]:
        """For --json."""
        return {
            "made": {
                kind: {"count": len(names), "names": list(names)[:_MOST_TOLD]}
                for kind, names in self._made.items()
            },
            "rows_not_read": self.unread,
            "repeated_names": self.repeated,
            "first_repeated": [
                {"rows": [first, second], "name": name} for first, second, name in self._pairs
            ],
        }


def _count(names: dict[str, None]) -> str:
    return f"{len(names):,}" if len(names) < _MOST_MADE else f"{_MOST_MADE:,} or more"
