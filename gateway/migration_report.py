"""What became of the things a migration came across."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct, field

MOST_LEFT: Final = 10_000
"""Things left that are named; of more it is known how many there are."""
NEVER_COPIED: Final = (
    "users (their passwords cannot be read)",
    "time series, alarms and audit logs",
    "rule chains, dashboards, assets, entity views and relations",
    "firmware and software packages, and what devices are to run",
    "groups, and provision profiles of the design of 2020",
)


class Fate(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    LEFT = "left"


class Left(Exception):
    """This thing is not copied; the message says why."""


class LeftOver(Struct, frozen=True):
    """One thing that was not copied."""

    kind: str
    name: str
    reason: str


class Report(Struct):
    """How many of each kind came to which fate, and what was left."""

    counts: dict[str, dict[Fate, int]] = field(default_factory=dict)
    left: list[LeftOver] = field(default_factory=list)

    def count(self, kind: str, fate: Fate) -> None:
        fates = self.counts.setdefault(kind, dict.fromkeys(Fate, 0))
        fates[fate] += 1

    def leave(self, kind: str, name: str, reason: str) -> None:
        self.count(kind, Fate.LEFT)
        if len(self.left) < MOST_LEFT:
            self.left.append(LeftOver(kind, name, reason))

    @property
    def left_in_all(self) -> int:
        return sum(fates[Fate.LEFT] for fates in self.counts.values())
