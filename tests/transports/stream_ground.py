"""What the tests of protocols over TCP share: gates for their houses, and listeners that run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop

from gateway.transports.streams import Greet, StreamListener

L = TypeVar("L", bound=StreamListener)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Gates:
    """Calls wait at `gate`, greetings at `greeting`; both are open at first.

    `now` calls are at the gate, and at `most` so many were at once.
    """

    def __init__(self) -> None:
        self.now = self.most = 0
        self.gate, self.greeting = asyncio.Event(), asyncio.Event()
        self.open_gates()

    def open_gates(self) -> None:
        self.gate.set()
        self.greeting.set()

    async def pass_gate(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
        finally:
            self.now -= 1


@asynccontextmanager
async def started(
    kind: Callable[..., L], greet: Greet
) -> AsyncIterator[Callable[..., Awaitable[L]]]:
    """Starts listeners on loopback. They are stopped in the end, and must leave nothing behind."""
    running: list[L] = []

    async def start(**options: Any) -> L:
        listener = kind(greet, host="127.0.0.1", port=0, **{"tick_s": 0.05, **options})
        await listener.start()
        running.append(listener)
        return listener

    yield start
    for listener in running:
        await listener.stop(0.2)
        assert not listener._connections
        assert not listener.tasks


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)
