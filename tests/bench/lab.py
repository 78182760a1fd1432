"""One place to measure: folders, processors, generators, and fresh gateways."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from full_store import fill
from generators import Generators, Load

from gateway.simulator.processes import FleetPair, Server, gateway_process, two_cores

STORED_DEVICES = 1_000_000

Figures = Mapping[str, float]
"""What one run came to, by the title of its row."""


class Lab:
    """Where everything of one evening is measured; `seconds` is the length of one load."""

    def __init__(self, sources: Path | None, place: Path, seconds: float) -> None:
        cores = two_cores()
        if cores is None:
            print("warning: one processor for both sides; figures are too low", file=sys.stderr)
        self.server_core: int | None = cores[0] if cores else None
        self.load_core: int | None = cores[1] if cores else None
        self.place = place
        self.seconds = seconds
        self.pair = FleetPair.random()
        self.generators = Generators(sources, place, self.pair, self.load_core)
        self._full: Path | None = None

    @contextmanager
    def gateway(self, folder: Path | None = None, **settings: str) -> Iterator[tuple[Server, Path]]:
        """A gateway on the server's processor, and its database file. Without a folder: fresh.

        `settings` are environment variables.
        """
        with tempfile.TemporaryDirectory(dir=self.place) as fresh:
            home = folder or Path(fresh)
            with gateway_process(
                home, self.pair, core=self.server_core, settings=settings
            ) as server:
                yield server, home / "data" / "gatehouse.db"

    def full(self) -> Path:
        """The folder of a store with a million devices, filled at the first call."""
        if self._full is None:
            folder = Path(tempfile.mkdtemp(dir=self.place))
            with self.gateway(folder) as (_, database):
                pass
            fill(database, STORED_DEVICES)
            self._full = folder
        return self._full


def measured(title: str, server: Server, load: Callable[[], Load]) -> Figures:
    """The rate of a load, how long one waits, and what it costs the server."""
    before = _processor_s(server)
    told = load()
    spent = _processor_s(server) - before
    return {
        f"{title}, per second": told.rate,
        f"{title}, p99 ms": told.p99_ms,
        f"{title}, ms of the processor each": spent * 1000 / max(1, told.answered),
    }


def _processor_s(server: Server) -> float:
    """Seconds of the processor that the server took so far, all its threads."""
    after_name = Path(f"/proc/{server.pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
