"""Routes that are made when somebody first asks for one of them.

The administration takes tenths of a second to load, and tens of MiB; most of a fleet's gateways are
asked for it rarely, and no device waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.wire.route import Route


class LateRoutes:
    """Implements `wire.router.Later`. `make` is called once, in a thread: the loop goes on."""

    def __init__(self, make: Callable[[], Sequence[Route]]) -> None:
        self._make = make
        self._task: asyncio.Task[Sequence[Route]] | None = None

    async def __call__(self) -> Sequence[Route]:
        """The routes. Raises what `make` raises; then the next one tries again."""
        if self._task is None or self._has_failed(self._task):
            self._task = asyncio.create_task(asyncio.to_thread(self._make), name="routes.late")
        # Who goes away meanwhile leaves it to the others.
        return await asyncio.shield(self._task)

    async def settle(self) -> bool:
        """Wait until they are made, if that is under way. Whether they ever were asked for."""
        if self._task is None:
            return False
        await asyncio.wait([self._task])
        return not self._has_failed(self._task)

    @staticmethod
    def _has_failed(task: asyncio.Task[Sequence[Route]]) -> bool:
        return task.done() and (task.cancelled() or task.exception() is not None)
