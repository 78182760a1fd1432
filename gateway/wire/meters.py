"""How long calls took, by route and wire. What a call pays for it is one look-up and two sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TypeAlias

from gateway.core.histogram import Histogram
from gateway.wire.call import Status
from gateway.wire.route import Handler, Route

Trace: TypeAlias = Callable[[Route], Handler]
"""Makes a handler that does what the route's does, and is watched while it does."""


class Timing(Histogram):
    """The calls of one route on one wire, in seconds; `failures` are those that ended otherwise
    than OK, by how."""

    __slots__ = ("failures",)

    def __init__(self) -> None:
        super().__init__()
        self.failures: defaultdict[Status, int] = defaultdict(int)


class Meters:
    """One for all routers of a process. `trace` is None where nobody watches single calls."""

    def __init__(self, trace: Trace | None = None) -> None:
        self.trace = trace
        self._timings: defaultdict[str, defaultdict[str, Timing]] = defaultdict(
            lambda: defaultdict(Timing)
        )

    def of(self, route: Route) -> defaultdict[str, Timing]:
        """The timings of a route, by the wire's name; a wire it never had a call on is made."""
        return self._timings[route.name]

    def __iter__(self) -> Iterator[tuple[str, str, Timing]]:
        """Route, wire and timing of all that were called."""
        for route, by_wire in list(self._timings.items()):
            for wire, timing in list(by_wire.items()):
                yield route, wire, timing
