"""How long a call may take, without a timer per call.

`asyncio.timeout` costs 4 µs a call, a twentieth of a provisioning. Calls under way are kept in the
order they began, and one coarse tick looks at the oldest: a late call is told at most a tick late.
"""

from __future__ import annotations

import asyncio
from typing import Any

TICK_S = 0.25


class Deadlines:
    """Cancels the tasks of calls that take longer than `timeout_s`.

    A task has at most one call under way. The tick runs only while there are calls.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._began: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, task: asyncio.Task[Any]) -> None:
        """The call of `task` begins now."""
        loop = task.get_loop()
        self._began[task] = loop.time()
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(TICK_S, self._tick, loop)

    def end(self, task: asyncio.Task[Any]) -> None:
        """The call of `task` is over, one way or another."""
        self._began.pop(task, None)

    def was_late(self, task: asyncio.Task[Any]) -> bool:
        """Whether the cancellation `task` just caught was ours; it is then taken back."""
        if task not in self._late:
            return False
        self._late.discard(task)
        return task.uncancel() == 0

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        oldest = loop.time() - self._timeout_s
        for task in self._begun_before(oldest):
            del self._began[task]
            if not task.done():
                self._late.add(task)
                task.cancel()
        if self._began:
            loop.call_later(TICK_S, self._tick, loop)
        else:
            self._loop = None

    def _begun_before(self, oldest: float) -> list[asyncio.Task[Any]]:
        """The late ones; they stand in front."""
        late = []
        for task, began in self._began.items():
            if began > oldest:
                break
            late.append(task)
        return late
