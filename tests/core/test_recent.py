"""What was looked up a moment ago is not looked up again, and not for long."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core import recent
from gateway.core.recent import FRESH_MS, Recent


class Shelf:
    """Texts by number, and which were asked for."""

    def __init__(self) -> None:
        self.texts = {1: "one", 2: "two"}
        self.asked: list[int] = []

    async def find(self, number: int) -> str | None:
        self.asked.append(number)
        return self.texts.get(number)


async def test_it_is_known_for_a_moment(clock: Any) -> None:
    """For less than `FRESH_MS` after the look, and for no more when the clock is set back."""
    shelf = Shelf()
    known = Recent(shelf.find, clock)
    assert await known.find(1) == "one"
    shelf.texts[1] = "uno"
    clock.now += FRESH_MS - 1
    assert await known.find(1) == "one"
    clock.now += 1
    assert await known.find(1) == "uno"
    shelf.texts[1] = "eins"
    clock.now -= 3_600_000
    assert await known.find(1) == "eins"
    assert shelf.asked == [1, 1, 1]


async def test_what_is_not_there_is_looked_for_each_time(clock: Any) -> None:
    """So that what was just made is found; and what is gone is not."""
    shelf = Shelf()
    known = Recent(shelf.find, clock)
    assert await known.find(3) is None
    shelf.texts[3] = "three"
    assert await known.find(3) == "three"
    del shelf.texts[3]
    known.forget(3)
    known.forget(4)
    assert await known.find(3) is None


async def test_it_keeps_only_so_many(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MOST_KEPT", 2)
    shelf = Shelf()
    shelf.texts = {number: str(number) for number in range(10)}
    known = Recent(shelf.find, clock)
    for number in (*range(10), *range(10)):
        assert await known.find(number) == str(number)
        assert len(known) <= 2
