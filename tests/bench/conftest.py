"""Measurements run only when asked for: `pytest -m bench`, or with GATEHOUSE_BENCH set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

Report = Callable[[str], None]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "bench" in str(config.option.markexpr) or os.environ.get("GATEHOUSE_BENCH"):
        return
    skip = pytest.mark.skip(reason="prints figures; run with `make bench` or `pytest -m bench`")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Print a line of figures, past pytest's capturing."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", end="", flush=True)

    return say
