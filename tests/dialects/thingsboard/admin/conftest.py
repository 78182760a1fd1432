"""The administration, ready to be called."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gateway.store.sql_store import SqlStore


@pytest.fixture
async def case(store: SqlStore, clock: Any) -> AsyncIterator[Any]:
    """See `desk_case.DeskCase`."""
    from desk_case import DeskCase

    made = DeskCase(store, clock)
    await made.open()
    yield made
    await made.close()
