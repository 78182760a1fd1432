"""Readings of devices, read, written and deleted by people."""

from __future__ import annotations

import pytest

from gateway.core.model import EventKind, Json, Permission, Reading

ROOT = "/api/plugins/telemetry/DEVICE"


@pytest.fixture
async def device(case):
    return await case.device("meter-1", "Acme")


@pytest.fixture
def path(device):
    return f"{ROOT}/{device.device.uuid}"


@pytest.fixture
def send(case, device):
    async def send(*readings):
        await case.store.save_readings(device.device, [Reading(*one) for one in readings])

    return send


async def test_the_latest_of_each_key_is_given_as_texts(case, path, send):
    """Values are texts as ThingsBoard writes them, unless strict types are asked for."""
    await send((1, "n", 3), (2, "n", 4), (1, "d", 3.0), (1, "b", True), (1, "t", "x"))
    await send((1, "o", Json('{"a": 1}')))
    told = (await case.get(f"{path}/values/timeseries")).json
    assert told == {
        "n": [{"ts": 2, "value": "4"}],
        "d": [{"ts": 1, "value": "3.0"}],
        "b": [{"ts": 1, "value": "true"}],
        "t": [{"ts": 1, "value": "x"}],
        "o": [{"ts": 1, "value": '{"a": 1}'}],
    }
    strict = (await case.get(f"{path}/values/timeseries?useStrictDataTypes=true")).json
    assert {key: some[0]["value"] for key, some in strict.items()} == {
        "n": 4,
        "d": 3.0,
        "b": True,
        "t": "x",
        "o": {"a": 1},
    }
    assert (await case.get(f"{path}/keys/timeseries")).json == ["b", "d", "n", "o", "t"]


async def test_a_key_that_is_not_there_has_a_latest_of_null(case, path, send, clock):
    """As with ThingsBoard, when it is asked for by name."""
    await send((1, "n", 3))
    told = (await case.get(f"{path}/values/timeseries?keys=n,none")).json
    assert told == {
        "n": [{"ts": 1, "value": "3"}],
        "none": [{"ts": clock.now, "value": None}],
    }


async def test_a_range_is_given_newest_first(case, path, send):
    """`startTs` counts, `endTs` does not; limit and order are heeded; absent keys are left out."""
    await send(*[(ts, "n", ts) for ts in range(10)])
    query = "keys=n,none&startTs=2&endTs=8"
    told = (await case.get(f"{path}/values/timeseries?{query}")).json
    assert told == {"n": [{"ts": ts, "value": str(ts)} for ts in range(7, 1, -1)]}
    told = (await case.get(f"{path}/values/timeseries?{query}&limit=2&orderBy=ASC")).json
    assert [one["ts"] for one in told["n"]] == [2, 3]
    told = (await case.get(f"{path}/values/timeseries?{query}&limit=2")).json
    assert [one["ts"] for one in told["n"]] == [7, 6]


@pytest.mark.parametrize(
    ("agg", "values"),
    [
        ("AVG", ["0.5", "2.5", "4.0"]),
        ("MIN", ["0", "2", "4"]),
        ("MAX", ["1", "3", "4"]),
        ("SUM", ["1", "5", "4"]),
        ("COUNT", ["2", "2", "1"]),
    ],
)
async def test_intervals_are_aggregated(case, path, send, agg, values):
    """A value for each interval, at its middle, in the order of time."""
    await send(*[(1000 * n, "n", n) for n in range(5)])
    query = f"keys=n&startTs=0&endTs=5000&interval=2000&agg={agg}"
    told = (await case.get(f"{path}/values/timeseries?{query}")).json["n"]
    assert [one["value"] for one in told] == values
    assert [one["ts"] for one in told] == [1000, 3000, 4500]
    back = (await case.get(f"{path}/values/timeseries?{query}&orderBy=DESC")).json["n"]
    assert back == told[::-1]


async def test_without_an_interval_nothing_is_aggregated(case, path, send):
    """ThingsBoard takes an interval of 0 for no aggregation."""
    await send((1, "n", 1), (2, "n", 2))
    query = "keys=n&startTs=0&endTs=5&agg=AVG"
    assert len((await case.get(f"{path}/values/timeseries?{query}")).json["n"]) == 2


@pytest.mark.parametrize(
    "query",
    [
        "startTs=1",
        "endTs=1&keys=n",
        "startTs=1&endTs=2",
        "keys=n&startTs=x&endTs=2",
        "keys=n&startTs=1&endTs=2&limit=0",
        "keys=n&startTs=1&endTs=2&limit=50001",
        "keys=n&startTs=1&endTs=2&agg=MEDIAN",
        "keys=n&startTs=1&endTs=2&orderBy=UP",
        "keys=n&startTs=0&endTs=1000000&agg=AVG&interval=1",
        "keys=n&startTs=0&endTs=99999999999999999999&interval=1",
        "useStrictDataTypes=perhaps",
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(case, path, query):
    """It is a bad request with a sentence, never a 500."""
    answer = await case.get(f"{path}/values/timeseries?{query}")
    assert (answer.status, answer.json["errorCode"]) == (400, 31)
    assert answer.message


@pytest.mark.parametrize("tail", ["ANY", "ANY/3600", "LATEST_TELEMETRY"])
async def test_people_write_readings(case, path, clock, tail):
    """As a device sends them, at any scope, with or without a time to live."""
    body = [{"a": 1, "cast": "12"}, {"ts": 5, "values": {"b": 2.0}}]
    answer = await case.post(f"{path}/timeseries/{tail}", body, as_="boss")
    assert (answer.status, answer.text) == (200, "")
    assert (await case.get(f"{path}/values/timeseries?useStrictDataTypes=true")).json == {
        "a": [{"ts": clock.now, "value": 1}],
        "b": [{"ts": 5, "value": 2.0}],
        "cast": [{"ts": clock.now, "value": 12}],
    }
    events = await case.registry.last_events(limit=9)
    [event] = [one for one in events if one.kind is EventKind.DEVICE_UPDATE]
    assert event.peer.actor == "boss@example.com"
    assert event.detail == {"readings written": "a, cast, b"}


async def test_readings_are_written_after_the_login_changed(case, device, path):
    """The device's credentials are of no matter to people."""
    known = await case.registry.device(device.device.uuid)
    await case.registry.replace_credentials(known)
    assert (await case.post(f"{path}/timeseries/ANY", {"a": 1})).status == 200
    assert (await case.get(f"{path}/keys/timeseries")).json == ["a"]


@pytest.mark.parametrize(
    "body", [b"", b"7", b"[]", b"{}", b'{"a":null}', b'{"ts":"x","values":{}}']
)
async def test_readings_that_are_none_are_refused(case, path, body):
    """A bad request; nothing is stored."""
    answer = await case.post(f"{path}/timeseries/ANY", body)
    assert (answer.status, answer.json["errorCode"]) == (400, 31)
    assert (await case.get(f"{path}/keys/timeseries")).json == []


async def test_a_range_of_readings_is_deleted(case, path, send):
    """What is outside it stays, and the latest becomes the newest that is left."""
    await send(*[(ts, key, ts) for ts in range(5) for key in "ab"])
    query = "keys=a&startTs=2&endTs=9"
    assert (await case.delete(f"{path}/timeseries/delete?{query}")).status == 200
    told = (await case.get(f"{path}/values/timeseries?keys=a,b&startTs=0&endTs=9")).json
    assert [one["ts"] for one in told["a"]] == [1, 0]
    assert len(told["b"]) == 5
    assert (await case.get(f"{path}/values/timeseries")).json["a"] == [{"ts": 1, "value": "1"}]


async def test_all_readings_of_a_key_are_deleted(case, path, send):
    """The key is gone with them, however many there were."""
    await send(*[(ts, "a", ts) for ts in range(4500)], (1, "b", 1))
    query = "keys=a&deleteAllDataForKeys=true"
    assert (await case.delete(f"{path}/timeseries/delete?{query}")).status == 200
    assert (await case.get(f"{path}/keys/timeseries")).json == ["b"]
    event = (await case.registry.last_events(limit=1))[0]
    assert event.detail == {"readings forgotten": "a"}
    assert (await case.delete(f"{path}/timeseries/delete")).status == 400
    assert (await case.delete(f"{path}/timeseries/delete?keys=b")).status == 400


@pytest.mark.parametrize(
    ("who", "status"), [(None, 401), ("other", 404), ("north", 404), ("user", 200), ("boss", 200)]
)
async def test_only_those_who_see_a_device_read_it(case, path, send, who, status):
    """Nobody: 401. Out of sight: 404. Its organisation: 200."""
    await send((1, "a", 1))
    for place in ("values/timeseries", "keys/timeseries"):
        assert (await case.get(f"{path}/{place}", as_=who)).status == status
    query = "keys=a&deleteAllDataForKeys=true"
    assert (await case.delete(f"{path}/timeseries/delete?{query}", as_=who)).status == status
    assert (await case.post(f"{path}/timeseries/ANY", {"a": 1}, as_=who)).status == status


async def test_reading_needs_a_permission(case, path):
    """403 before anything is looked up."""
    views = (Permission.ORG_DEVICES_VIEW, Permission.OWN_DEVICES_VIEW)
    key = {"X-Authorization": await case.key_without("admin", *views)}
    for place in (path, f"{ROOT}/8d8b4b1e-0000-4000-8000-000000000000"):
        answer = await case.get(f"{place}/values/timeseries", headers=key)
        assert answer.status == 403


async def test_too_many_readings_are_refused_and_not_cut(case, path, send, monkeypatch):
    """The bound is for all keys together."""
    monkeypatch.setattr("gateway.dialects.thingsboard.admin.telemetry.MOST_READINGS", 9)
    await send(*[(ts, key, ts) for ts in range(5) for key in "ab"])
    query = "keys=a,b&startTs=0&endTs=9&limit=5"
    answer = await case.get(f"{path}/values/timeseries?{query}")
    assert answer.status == 400
    assert "narrow" in answer.message
