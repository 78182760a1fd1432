"""What came of a simulated fleet: as a table, or as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec import Struct, structs

from gateway.simulator.fleet import Run, WireSummary


class Stored(Struct, frozen=True, kw_only=True):
    """What the store knows of the fleet: how many devices, and how many that are not there."""

    devices: int
    missing: int
    expected: int

    @property
    def complete(self) -> bool:
        """Whether each device is there, and nothing besides."""
        return self.devices == self.expected and not self.missing

    @property
    def sentence(self) -> str:
        if self.complete:
            return f"The store holds each of the {self.expected} devices once."
        return (
            f"The store holds {self.devices} devices of this fleet instead of {self.expected}; "
            f"{self.missing} are not there."
        )


def as_json(run: Run, stored: Stored | None) -> dict[str, Any]:
    """All there is to say, for scripts."""
    told: dict[str, Any] = {
        "complete": run.complete,
        "devices": run.plan.devices,
        "prefix": run.plan.prefix,
        "wires": {
            wire.value: _wire_as_json(one, losses=run.plan.losses.any)
            for wire, one in run.summary.items()
        },
    }
    if stored is not None:
        told["stored"] = {
            "complete": stored.complete,
            "devices": stored.devices,
            "missing": stored.missing,
        }
    return told


def _wire_as_json(one: WireSummary, *, losses: bool) -> dict[str, Any]:
    p50, p95, p99 = one.provision_times.percentiles_ms(0.50, 0.95, 0.99)
    reading_p50, reading_p99 = one.reading_times.percentiles_ms(0.50, 0.99)
    told: dict[str, Any] = {
        "devices": one.devices,
        "provisioned": one.provisioned,
        "refusals": dict(one.refusals),
        "errors": dict(one.errors),
        "provision_ms": {"p50": p50, "p95": p95, "p99": p99},
        "readings": one.readings,
        "reading_errors": dict(one.reading_errors),
        "reading_ms": {"p50": reading_p50, "p99": reading_p99},
    }
    if losses:
        ordeal = structs.asdict(one.ordeal)
        told["network"] = {**ordeal, "logins_failed": dict(one.ordeal.logins_failed)}
    return told


_TITLES = (
    "devices",
    "provisioned",
    "refused",
    "errors",
    "provisioning p50 ms",
    "provisioning p95 ms",
    "provisioning p99 ms",
    "readings",
    "readings lost",
    "reading p50 ms",
    "reading p99 ms",
)


_ORDEALS = {
    "sent": "requests that arrived",
    "requests_lost": "requests lost",
    "answers_lost": "answers lost",
    "hung_up": "connections dropped",
    "duplicated": "requests sent twice",
    "overtaken": "requests overtaken",
    "retried": "tries after the first",
    "told_to_wait": "told to wait",
    "repeated": "answers repeated",
    "contradictions": "answers that differed",
    "logins_retried": "logins tried again",
    "logged_in": "devices logged in",
}
"""The members of an `Ordeal` that are a number, with their titles."""


def _column(one: WireSummary) -> tuple[str, ...]:
    """A wire's figures, in the order of `_TITLES`."""
    return (
        *map(str, (one.devices, one.provisioned, one.refusals.total(), one.errors.total())),
        *map(_ms, one.provision_times.percentiles_ms(0.50, 0.95, 0.99)),
        *map(str, (one.readings, one.reading_errors.total())),
        *map(_ms, one.reading_times.percentiles_ms(0.50, 0.99)),
    )


def print_report(run: Run, stored: Stored | None) -> None:
    """A table, and what went wrong in sentences."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{run.provisioned} of {run.plan.devices} devices provisioned")
    table.add_column("")
    for wire in run.summary:
        table.add_column(wire.value, justify="right")
    for title, *values in zip(_TITLES, *map(_column, run.summary.values()), strict=True):
        table.add_row(title, *values)
    if run.plan.losses.any:
        table.add_section()
        for name, title in _ORDEALS.items():
            table.add_row(title, *(str(getattr(one.ordeal, name)) for one in run.summary.values()))
    console = Console()
    console.print(table)
    for wire, one in run.summary.items():
        for what, kinds in _told(one):
            for said, times in kinds.most_common():
                console.print(f"{wire.value}: {times} × {what}: {said}", markup=False)
    if stored is not None:
        console.print(stored.sentence)


def _told(one: WireSummary) -> tuple[tuple[str, Counter[str]], ...]:
    return (
        ("refused", one.refusals),
        ("error", one.errors),
        ("login failed", one.ordeal.logins_failed),
        ("reading lost", one.reading_errors),
    )


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
