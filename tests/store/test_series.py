"""Readings over time, and put together."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import CredentialsGone
from gateway.core.model import Aggregation, Json, Reading, SeriesQuery
from gateway.store.retention import Retention
from gateway.store.series import reading_from_interval
from gateway.store.sql_registrar import SqlRegistrar

pytestmark = pytest.mark.every_database

READINGS = [
    Reading(100, "t", 1),
    Reading(105, "t", 4),
    Reading(110, "t", 2),
    Reading(115, "t", 0.5),
    Reading(120, "t", True),
    Reading(121, "t", "text"),
    Reading(122, "t", Json("[1]")),
    Reading(140, "t", -7),
]


@pytest.fixture
def ask(registrar, device):
    async def make(aggregation=Aggregation.NONE, interval=10, **fields):
        given = {"key": "t", "since": 100, "until": 1000, "interval_ms": interval} | fields
        found = await registrar.series(device.id, SeriesQuery(aggregation=aggregation, **given))
        return [(one.ts, one.value) for one in found]

    return make


async def test_the_newest_readings_in_the_order_of_time(store, device, ask):
    """From `since` on, before `until`, and backwards where that is wanted."""
    await store.save_readings(device, READINGS)
    assert await ask(limit=2) == [(122, Json("[1]")), (140, -7)]
    assert await ask(limit=2, newest_first=True) == [(140, -7), (122, Json("[1]"))]
    assert await ask(since=105, until=115) == [(105, 4), (110, 2)]
    assert await ask(key="u") == []
    assert len(await ask(since=-(2**63), until=2**63 - 1)) == 8


async def test_a_device_takes_its_latest_readings_back(store, device, ask):
    """Those of the keys it names; as history they stay, and what is written next is the latest."""
    await store.save_readings(device, [Reading(100, "t", 1), Reading(100, "u", 2)])
    await store.forget_latest(device, ["t", "nothing"])
    assert await store.latest(device) == [Reading(100, "u", 2)]
    assert await ask() == [(100, 1)]
    await store.save_readings(device, [Reading(90, "t", 3)])
    assert await store.latest(device, ["t"]) == [Reading(90, "t", 3)]
    stale = msgspec.structs.replace(device, credentials_row=device.credentials_row + 1)
    with pytest.raises(CredentialsGone):
        await store.forget_latest(stale, ["u"])


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (Aggregation.AVG, [(100, 2.5), (110, 1.25), (140, -7.0)]),
        (Aggregation.MIN, [(100, 1), (110, 0.5), (140, -7)]),
        (Aggregation.MAX, [(100, 4), (110, 2.0), (140, -7)]),
        (Aggregation.SUM, [(100, 5), (110, 2.5), (140, -7)]),
        (Aggregation.COUNT, [(100, 2), (110, 2), (120, 3), (140, 1)]),
    ],
)
async def test_readings_are_put_together_by_interval(store, device, ask, aggregation, expected):
    """Numbers alone, but for the count; whole where all are whole; empty intervals are left out."""
    await store.save_readings(device, READINGS)
    found = await ask(aggregation)
    assert found == expected
    assert [type(value) for _, value in found] == [type(value) for _, value in expected]
    assert await ask(aggregation, limit=1) == expected[-1:]
    assert await ask(aggregation, newest_first=True) == expected[::-1]


async def test_without_an_interval_the_whole_time_is_one(store, device, ask):
    """However long it is; sums of whole numbers stay exact as long as they fit."""
    far = 2**53 + 1
    await store.save_readings(device, [Reading(200, "t", far), Reading(300, "t", -1)])
    long = {"since": -(2**63), "until": 2**63 - 1}
    found = await ask(Aggregation.SUM, 0, **long)
    assert [value for _, value in found] == [far - 1]
    most = 2**63 - 1
    await store.save_readings(device, [Reading(200, "t", most), Reading(300, "t", most)])
    assert await ask(Aggregation.SUM, 0) == [(100, float(2 * most))]
    assert await ask(Aggregation.AVG, 0) == [(100, float(most))]
    assert await ask(Aggregation.MAX, 0) == [(100, most)]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9))
def test_halves_of_sums_make_the_sum(numbers):
    """Whatever the signs: both databases cut towards zero."""

    def cut(number):
        return int(math.copysign(1, number)) * (abs(number) // 2**32)

    high = sum(cut(number) for number in numbers)
    low = sum(number - cut(number) * 2**32 for number in numbers)
    row = (0, len(numbers), len(numbers), 0, 0, 0, high, low, None, None, None)
    query = SeriesQuery(key="t", since=0, until=9, aggregation=Aggregation.SUM, interval_ms=1)
    found = reading_from_interval(query, row).value
    assert found == (sum(numbers) if isinstance(found, int) else float(sum(numbers)))


async def test_keys_are_those_ever_seen(store, registrar, device):
    """In their order."""
    await store.save_readings(device, [Reading(1, "b", 1), Reading(1, "a", 1)])
    assert await registrar.keys(device.id) == ["a", "b"]
    assert await registrar.keys(99) == []


async def test_many_devices_are_one_decision(store, registrar, registry, new_fleet):
    """Each is told whether its login was good; the readings of the others are stored."""
    fleet = await new_fleet()
    devices = [await fleet.waiting(f"d{n}") for n in range(100)]
    await registry.remove_device(await registry.device("d7"))
    sent = [(device, [Reading(n, "t", n)]) for n, device in enumerate(devices)]
    stored = await store.save_many_readings(sent)
    assert stored == [n != 7 for n in range(100)]
    for n in (0, 7, 99):
        expected = [] if n == 7 else [Reading(n, "t", n)]
        assert await registrar.latest(devices[n].id) == expected


async def test_a_profile_keeps_readings_for_a_time_of_its_own(store, clock, new_fleet):
    """Longer or shorter than the store does for the others."""
    day, registrar = 86_400_000, SqlRegistrar(store)
    kept = {}
    for name, days in (("brief", 1), ("usual", None), ("long", 30)):
        fleet = await new_fleet(name=name, readings_keep_days=days)
        kept[name] = await fleet.waiting(f"d-{name}")
        ages = [Reading(clock.now - age * day - 1, "t", age) for age in (0, 3, 10)]
        await store.save_readings(kept[name], ages)
    await Retention(store, clock, readings_keep_days=7).sweep()

    async def left(name):
        query = SeriesQuery(key="t", since=0, until=clock.now)
        return [one.value for one in await registrar.series(kept[name].id, query)]

    assert [await left(name) for name in kept] == [[0], [3, 0], [10, 3, 0]]
