"""What went wrong in handshakes, counted over a while: a flood is one event, not thousands."""

from __future__ import annotations

import asyncio

from gateway.core.model import Peer
from gateway.wire.call import Report


class Tally:
    """Tells `report` of each reason at most once in `every_s` seconds, with how many it was."""

    def __init__(self, report: Report | None, every_s: float) -> None:
        self._report = report
        self._every_s = every_s
        self._counts: dict[str, tuple[Peer, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def count(self, reason: str, peer: Peer) -> None:
        """One more; `peer` is named when it is the first since the last report."""
        first, number = self._counts.get(reason, (peer, 0))
        self._counts[reason] = (first, number + 1)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self.flush)

    def flush(self) -> None:
        """Tell what was counted, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counts, self._counts = self._counts, {}
        if self._report is not None:
            for reason, (peer, number) in counts.items():
                self._report(reason, peer, number)
