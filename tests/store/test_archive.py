"""What people make forgotten: readings."""

from __future__ import annotations

import pytest

from gateway.core.model import EventKind, Reading, SeriesQuery

pytestmark = pytest.mark.every_database

END = 2**62


@pytest.fixture
async def known(registry, new_fleet):
    fleet = await new_fleet()
    await fleet.waiting("meter-1")
    await fleet.waiting("meter-2")
    return await registry.device("meter-1")


async def send(store, known, *readings):
    await store.save_readings(known.device, [Reading(*one) for one in readings])


async def series(registry, known, key, **more):
    query = SeriesQuery(key=key, since=-END, until=END, limit=9999, **more)
    return [one.ts for one in await registry.series(known, query)]


async def test_a_span_of_readings_is_forgotten(store, registry, known):
    """Its begin counts and its end does not; other keys and devices keep theirs."""
    other = await registry.device("meter-2")
    for one in (known, other):
        await send(store, one, *[(ts, key, ts) for ts in range(6) for key in "ab"])
    assert await registry.archive.forget_readings(known, ["a", "none"], since=2, until=4)
    assert await series(registry, known, "a") == [0, 1, 4, 5]
    assert await series(registry, known, "b") == list(range(6))
    assert await series(registry, other, "a") == list(range(6))


async def test_the_latest_becomes_the_newest_that_is_left(store, registry, known):
    """Whether the latest itself went, or an older one; without any the key goes."""
    await send(store, known, *[(ts, "a", ts * 10) for ts in range(5)])
    await registry.archive.forget_readings(known, ["a"], since=3, until=END)
    assert await registry.latest(known) == [Reading(2, "a", 20)]
    await registry.archive.forget_readings(known, ["a"], since=0, until=1)
    assert await registry.latest(known) == [Reading(2, "a", 20)]
    await registry.archive.forget_readings(known, ["a"], since=-END, until=END)
    assert await registry.keys(known) == []


async def test_however_many_there_are_they_go(store, registry, known, monkeypatch):
    """In steps, so that others are served in between."""
    monkeypatch.setattr("gateway.store.archive._ROWS_PER_STEP", 7)
    await send(store, known, *[(ts, key, ts) for ts in range(30) for key in "ab"])
    await registry.archive.forget_readings(known, ["a", "b"], since=0, until=29)
    assert await series(registry, known, "a") == [29]
    assert await series(registry, known, "b") == [29]
    assert [one.ts for one in await registry.latest(known)] == [29, 29]


async def test_what_is_forgotten_is_told(store, registry, known):
    """One event with the keys; nothing for a device that is gone."""
    await send(store, known, (1, "a", 1))
    await registry.archive.forget_readings(known, ["a"], since=0, until=9)
    [event] = [e for e in await registry.events(known) if e.kind is EventKind.DEVICE_UPDATE]
    assert event.detail == {"readings forgotten": "a"}
    await registry.remove_device(known)
    assert not await registry.archive.forget_readings(known, ["a"], since=0, until=9)


@pytest.mark.parametrize(("oldest", "wanted"), [(False, [7, 8, 9]), (True, [0, 1, 2])])
async def test_the_oldest_or_the_newest_of_a_range(store, registry, known, oldest, wanted):
    """A limit keeps those at one end; their order is asked for apart."""
    await send(store, known, *[(ts, "a", ts) for ts in range(10)])
    for newest_first in (False, True):
        query = SeriesQuery(
            key="a", since=0, until=99, limit=3, oldest=oldest, newest_first=newest_first
        )
        found = [one.ts for one in await registry.series(known, query)]
        assert found == (wanted[::-1] if newest_first else wanted)
