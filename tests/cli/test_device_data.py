"""`gatehouse device data`."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any

import pytest

from gateway.core.model import Json, Reading

T0 = 1_795_219_200_000
"""2026-11-21T00:00:00Z."""
DATA = ("device", "data", "d1")


@pytest.fixture
async def meter(shell: Any) -> Any:
    """A shell whose store has a device with 35 temperatures, one each minute, and two texts."""
    await asyncio.to_thread(shell.ok, "device", "add", "d1")
    readings = [Reading(T0 + n * 60_000, "t", n + 0.5) for n in range(35)]
    readings += [Reading(T0, "note", 'a "b",\nc'), Reading(T0 + 1, "note", Json('{"x":1e2}'))]
    async with shell.inside() as inside:
        await inside.store.save_readings(await inside.device("d1"), readings)
    return shell


def values(shell: Any, *args: str) -> dict[str, list[Any]]:
    found = shell.json(*DATA, *args)
    return {key: [one["value"] for one in readings] for key, readings in found.items()}


def test_the_latest_of_each_key_is_listed(meter: Any) -> None:
    """With a name alone, each key has its newest value."""
    found = meter.json(*DATA)
    assert found["t"] == {"ts": T0 + 34 * 60_000, "value": 34.5}
    assert found["note"]["value"] == {"x": 100.0}
    assert "34.5" in meter.ok(*DATA)


def test_readings_come_in_the_order_of_time(meter: Any) -> None:
    """--json has all readings of the keys that are asked for, oldest first."""
    assert values(meter, "t") == {"t": [n + 0.5 for n in range(35)]}
    assert list(values(meter, "--limit", "2")) == ["note", "t"]
    assert values(meter, "t", "--limit", "2") == {"t": [33.5, 34.5]}


def test_a_range_is_from_its_begin_to_before_its_end(meter: Any) -> None:
    """--from is inside, --to is not; both are ISO or milliseconds."""
    bounds = ("--from", "2026-11-21T00:01:00Z", "--to", str(T0 + 180_000))
    assert values(meter, "t", *bounds) == {"t": [1.5, 2.5]}
    assert values(meter, "t", "--last", "1h", "--to", str(T0 + 120_000)) == {"t": [0.5, 1.5]}


@pytest.mark.parametrize("limit", [None, 7, 20, 30])
def test_a_long_export_is_whole(
    meter: Any, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    """Read in pages, no reading is missing, none is twice, and their order is that of time."""
    monkeypatch.setattr("gateway.cli.device_data._PAGE", 10)
    newest = 35 if limit is None else limit
    args = () if limit is None else ("--limit", str(limit))

    assert values(meter, "t", *args)["t"] == [n + 0.5 for n in range(35 - newest, 35)]


def test_csv_is_what_spreadsheets_take(meter: Any) -> None:
    """Lines end with CR LF, quotes are doubled, and the values are exact."""
    text = meter(*DATA, "--csv").stdout_bytes.decode()

    assert text.startswith("ts,key,value\r\n")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[1] == [str(T0), "note", 'a "b",\nc']
    assert rows[2] == [str(T0 + 1), "note", '{"x":1e2}']
    assert len(rows) == 1 + 37
    assert text.count("\r\n") == 38


def test_json_a_device_sent_stays_as_it_was(meter: Any) -> None:
    """Numbers within a JSON value are not rewritten."""
    assert '"value": {"x":1e2}' in meter.ok(*DATA, "note", "--json")


def test_aggregations_go_by_interval(meter: Any) -> None:
    """--agg gives a value for each interval that has readings, and --every its length."""
    asked = ("t", "--from", str(T0), "--to", str(T0 + 35 * 60_000))

    assert values(meter, *asked, "--agg", "count", "--every", "10m") == {"t": [10, 10, 10, 5]}
    assert values(meter, *asked, "--agg", "max", "--every", "30m") == {"t": [29.5, 34.5]}
    assert values(meter, *asked, "--agg", "avg") == {"t": [17.5]}


def test_a_table_says_when_it_is_cut(meter: Any) -> None:
    """The newest are shown, and that there may be more."""
    result = meter(*DATA, "t", "--limit", "5")
    assert "the newest 5" in result.stderr
    assert "2026-11-21 00:34:00.000Z" in result.stdout
    assert "00:29:00" not in result.stdout
    assert "the newest" not in meter(*DATA, "t").stderr


def test_numbers_are_drawn_and_texts_are_not(meter: Any) -> None:
    """--plot draws keys that are all numbers; a pipe gets no drawing unless it is asked for."""
    assert "┤" not in meter.ok(*DATA, "t")
    assert "┤" not in meter.ok(*DATA, "note", "--plot")
    assert "34.5 ┤" in meter.ok(*DATA, "t", "--plot")


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (("humidity",), 1),
        (("t", "--csv", "--json"), 2),
        (("t", "--every", "5m"), 2),
        (("t", "--agg", "avg"), 2),
        (("t", "--last", "1h", "--from", "2026-11-21"), 2),
        (("t", "--from", "2026-11-22", "--to", "2026-11-21"), 2),
        (("t", "--last", "3650d", "--agg", "avg", "--every", "1s"), 2),
    ],
)
def test_what_cannot_be_shown_is_told(meter: Any, args: tuple[str, ...], status: int) -> None:
    """Keys that are not there and options that contradict each other end with a sentence."""
    result = meter(*DATA, *args)
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr


def test_a_device_without_readings_is_no_error(shell: Any) -> None:
    """There is nothing to show, and JSON says so, too."""
    shell.ok("device", "add", "d1")
    assert "no readings yet" in shell(*DATA).stderr
    assert json.loads(shell.ok(*DATA, "--json")) == {}
