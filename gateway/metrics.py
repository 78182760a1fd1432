"""What the gateway counts and times, in Prometheus' terms.

Nothing here is on the path of a message. The rooms keep whole numbers of their own; those are
looked at when somebody asks. Whatever becomes a label is a word of ours, so that no device can make
new time series: routes, wires, strategies, outcomes, reasons.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from gateway.core.births import Births
from gateway.core.histogram import Histogram
from gateway.core.model import Wire
from gateway.wire.meters import Meters

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

LAG_EVERY_S: Final = 0.25
_WIRES: Final = tuple(wire.value for wire in Wire if wire is not Wire.SHELL)
"""Each has its number of sessions, 0 too: a series that comes and goes cannot be alarmed on."""


class Depths(Struct, frozen=True):
    """How much waits or is under way right now."""

    decisions: int
    """For the next commit of the store."""
    calls: int
    polls: int
    """Calls that may wait long."""


class Sources(Struct, frozen=True, kw_only=True):
    """Where the numbers come from. The functions are called in the loop; they do not wait.

    `wires` gives the wire of each open session, `logins` how many logins ended how,
    `hooks` how many calls of hooks (`before`, `after`) did.
    """

    meters: Meters
    births: Births
    commit_sizes: Histogram
    commit_times_s: Histogram
    depths: Callable[[], Depths]
    wires: Callable[[], Iterable[str]]
    logins: Callable[[], Mapping[str, int]] = dict
    hooks: Callable[[], Mapping[tuple[str, str], int]] = dict
    version: str = ""


class _Reading(Struct, frozen=True):
    """What only the loop may look at, as it was when somebody asked."""

    depths: Depths
    sessions: Mapping[str, int]
    logins: Mapping[str, int]
    hooks: Mapping[tuple[str, str], int]


class Metrics:
    """Collects from `sources` and writes Prometheus' text.

    `run` measures how late the loop is; without it that one stays empty.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._lag = Histogram()
        self._reading: _Reading | None = None
        self._registry: CollectorRegistry | None = None
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Measure the lag of the loop until cancelled."""
        while True:
            began = perf_counter()
            await asyncio.sleep(LAG_EVERY_S)
            self._lag.add(max(0.0, perf_counter() - began - LAG_EVERY_S))

    async def text(self) -> bytes:
        """All metrics in the text format, version 0.0.4. One at a time, and not in the loop."""
        async with self._turn:
            sources = self._sources
            self._reading = _Reading(
                sources.depths(),
                Counter(sources.wires()),
                dict(sources.logins()),
                dict(sources.hooks()),
            )
            return await asyncio.to_thread(self._write)

    def _write(self) -> bytes:
        # The library takes a tenth of a second to load, which a start need not wait.
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.gc_collector import GCCollector
        from prometheus_client.process_collector import ProcessCollector

        if self._registry is None:
            self._registry = CollectorRegistry()
            ProcessCollector(registry=self._registry)
            GCCollector(registry=self._registry)
            self._registry.register(self)
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would else collect everything to learn its names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        reading = self._reading
        if reading is None:
            return
        yield from self._calls()
        yield from self._store()
        yield from self._state(reading)

    def _calls(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        times = HistogramMetricFamily(
            "gatehouse_call_seconds",
            "Time from a request to its answer, in the gateway.",
            labels=("route", "wire"),
        )
        failed = CounterMetricFamily(
            "gatehouse_calls_failed",
            "Calls that ended otherwise than well, by status.",
            labels=("route", "wire", "status"),
        )
        for route, wire, timing in self._sources.meters:
            times.add_metric((route, wire), _buckets(timing), timing.total)
            for status, count in list(timing.failures.items()):
                failed.add_metric((route, wire, status.value), count)
        born = CounterMetricFamily(
            "gatehouse_provisions",
            "Provisioning requests that were decided.",
            labels=("wire", "strategy", "outcome", "reason"),
        )
        for labels, count in self._sources.births.items():
            born.add_metric(labels, count)
        yield from (times, failed, born)

    def _store(self) -> Iterator[Metric]:
        sources = self._sources
        yield _histogram(
            "gatehouse_commit_decisions",
            "Decisions that shared one transaction.",
            sources.commit_sizes,
        )
        yield _histogram(
            "gatehouse_commit_seconds", "Time of one transaction.", sources.commit_times_s
        )

    def _state(self, reading: _Reading) -> Iterator[Metric]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            InfoMetricFamily,
        )

        depths = reading.depths
        waiting = GaugeMetricFamily(
            "gatehouse_waiting", "What waits or is under way now.", labels=("what",)
        )
        waiting.add_metric(("decisions",), depths.decisions)
        waiting.add_metric(("calls",), depths.calls)
        waiting.add_metric(("polls",), depths.polls)
        sessions = GaugeMetricFamily(
            "gatehouse_sessions", "Sessions of devices that are open.", labels=("wire",)
        )
        for wire in _WIRES:
            sessions.add_metric((wire,), reading.sessions.get(wire, 0))
        logins = CounterMetricFamily(
            "gatehouse_logins", "Logins of people that ended.", labels=("outcome",)
        )
        for outcome, count in reading.logins.items():
            logins.add_metric((outcome,), count)
        hooks = CounterMetricFamily(
            "gatehouse_hook_calls",
            "Calls of profiles' hooks that ended.",
            labels=("hook", "outcome"),
        )
        for ended, count in reading.hooks.items():
            hooks.add_metric(ended, count)
        yield from (waiting, sessions, logins, hooks)
        yield _histogram("gatehouse_loop_lag_seconds", "How late the event loop is.", self._lag)
        yield InfoMetricFamily("gatehouse", "The program.", {"version": self._sources.version})


def _histogram(name: str, about: str, kept: Histogram) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, about, labels=())
    family.add_metric((), _buckets(kept), kept.total)
    return family


def _buckets(kept: Histogram) -> list[tuple[str, float]]:
    """Upper bounds as Prometheus writes them, and how many values were at most that."""
    bounds = [*(str(bound) for bound in kept.bounds), "+Inf"]
    return list(zip(bounds, map(float, kept.cumulative()), strict=True))
