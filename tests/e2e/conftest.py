"""The fixtures of the whole product: a gateway in this process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from inside import Gate, NewGate, serving

from gateway.config import StoreSettings


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway over a database in memory."""
    async with serving(tmp_path, store=StoreSettings(url="sqlite::memory:")) as running:
        yield running


@pytest.fixture
async def gate_on_disk(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway over a database file, which other processes may open beside it."""
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def new_gate(tmp_path: Path) -> AsyncIterator[NewGate]:
    """Starts gateways with settings of their own."""
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Gate:
            memory = StoreSettings(url="sqlite::memory:")
            running = serving(tmp_path, **{"store": memory, **settings})
            return await stack.enter_async_context(running)

        yield make
