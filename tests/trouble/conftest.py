"""The fixtures of trouble: gateway processes, and what rages against them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

from house import (  # noqa: E402 - found by the line above
    Gatehouse,
    NewGatehouse,
    NewStorm,
    Storm,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.trouble)


@pytest.fixture
def new_gatehouse(tmp_path: Path) -> Iterator[NewGatehouse]:
    """Makes gateways in a folder; kills what still runs at the end."""
    made: list[Gatehouse] = []

    def make(folder: Path = tmp_path, **environ: str) -> Gatehouse:
        made.append(Gatehouse(folder, **environ))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def house(new_gatehouse: NewGatehouse) -> Gatehouse:
    """A running gateway with default bounds."""
    made = new_gatehouse()
    made.start()
    return made


@pytest.fixture
def new_storm() -> NewStorm:
    return Storm
