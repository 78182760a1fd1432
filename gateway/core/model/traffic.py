"""Readings and attributes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct, field


class Json(Struct, frozen=True):
    """A JSON object or array a device sent as a value, kept as its own text."""

    text: str


Value: TypeAlias = bool | int | float | str | Json
"""A value of a reading or an attribute. Integers fit 64 bits; larger numbers came as `str`."""


class Reading(Struct, frozen=True):
    """One value of one key at one time (ms)."""

    ts: int
    key: str
    value: Value


class AttributeScope(StrEnum):
    CLIENT = "CLIENT_SCOPE"
    SHARED = "SHARED_SCOPE"
    SERVER = "SERVER_SCOPE"


class AttributesSelection(Struct, frozen=True):
    """Which attributes are asked for, by scope. An empty tuple: none of it; None: all of it."""

    client: tuple[str, ...] | None = None
    shared: tuple[str, ...] | None = None


class Attributes(Struct, frozen=True):
    """What was found, by scope."""

    client: Mapping[str, Value]
    shared: Mapping[str, Value]


class Attribute(Struct, frozen=True):
    """One attribute as people see it; `updated_at` in ms."""

    scope: AttributeScope
    key: str
    value: Value
    updated_at: int


class AttributesChange(Struct, frozen=True):
    """Shared attributes that changed: new values by key, and the keys that are no more."""

    values: Mapping[str, Value] = field(default_factory=dict)
    deleted: tuple[str, ...] = ()


class Aggregation(StrEnum):
    """What becomes of the readings within one interval. `NONE`: each stands for itself."""

    NONE = "none"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"


class SeriesQuery(Struct, frozen=True, kw_only=True):
    """Which readings of one key: `since <= ts < until` (ms), at most `limit` of them.

    Without an aggregation the newest `limit` (with `oldest`: the oldest), in the order of time;
    with one, a value for each `interval_ms` that has readings, counted from `since`.
    """

    key: str
    since: int
    until: int
    limit: int = 100
    aggregation: Aggregation = Aggregation.NONE
    interval_ms: int = 0
    newest_first: bool = False
    oldest: bool = False
