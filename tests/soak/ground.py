"""What everybody in a soak shares: where the server is, what was said, and how a life goes on."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

# Here is `wires`, a device's side of each wire: who imports it imports this module before.
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from verdict import Ledger, Tally
from wires import Ports

KEY = "soak"
"""The key of the readings that are remembered."""
MOST_PATIENCE_S = 15.0
"""How long a good request may wait for its answer: the core's own limit is 10 s."""
_REST_S = 0.5
"""After a life that ended badly."""

__all__ = ["KEY", "MOST_PATIENCE_S", "Ports", "World"]


class World:
    """One soak. `token(name)` opens the device `name`."""

    def __init__(self, ports: Ports, database: Path, seed: int) -> None:
        self.ports = ports
        self.database = database
        self.tally = Tally()
        self.ledger = Ledger(int(time.time() * 1000) - 3_600_000)
        self.chance = random.Random(seed)

    @staticmethod
    def token(name: str) -> str:
        return f"soak-{name}"

    def reading(self, device: str) -> tuple[int, str]:
        """The next reading of a device: its number, and itself as JSON."""
        number = self.ledger.take(device)
        ts = self.ledger.base_ts + number
        return number, f'{{"ts":{ts},"values":{{"{KEY}":{number}}}}}'

    def took(self, wire: str, device: str, number: int) -> None:
        """The server acknowledged the reading."""
        self.ledger.acknowledge(device, number)
        self.tally.count(f"{wire} readings")

    async def pause(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self.chance.uniform(least_s, most_s))

    def lifetime(self, least_s: float, most_s: float) -> Iterator[None]:
        """Goes on for a while."""
        end = time.monotonic() + self.chance.uniform(least_s, most_s)
        while time.monotonic() < end:
            yield

    async def live(self, kind: str, life: Callable[[], Awaitable[None]]) -> None:
        """One life after the other, until cancelled. One that ends badly is told of."""
        while True:
            try:
                await life()
            except Exception as exc:  # whatever it was: it is told, and the soak has failed
                self.tally.unexpected(kind, repr(exc))
                await asyncio.sleep(_REST_S)
