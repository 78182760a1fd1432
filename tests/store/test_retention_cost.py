"""What a sweep costs that finds nothing to forget: it is done each minute, beside the traffic."""

from __future__ import annotations

import sqlite3

import pytest

from gateway.store.migrate import migrations
from gateway.store.queries import QUERIES

_STEP = 1000


def _steps(db: sqlite3.Connection, name: str) -> int:
    """About how many thousand operations SQLite needs for the statement."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    db.set_progress_handler(count, _STEP)
    params = (0, 2000, 2**62) if name == "forget_events" else (0, 2000)
    assert db.execute(QUERIES[name], params).fetchall() == []
    db.set_progress_handler(None, 0)
    return counted[0]


@pytest.mark.parametrize(
    ("name", "fill"),
    [
        (
            "forget_events",
            "INSERT INTO event (at, kind, outcome, reason, subject, wire, address, detail) "
            "SELECT value, 'k', 'o', '', '', 'mqtt', '', '' FROM generate",
        ),
        (
            "forget_notices",
            "INSERT INTO notice (seq, at, kind, body) SELECT value, value, 'k', '' FROM generate",
        ),
    ],
)
def test_a_large_young_table_costs_no_more_than_a_small_one(name: str, fill: str) -> None:
    """Ten times the rows, none of them old: the writer is not held ten times as long."""
    found = []
    for rows in (10_000, 100_000):
        db = sqlite3.connect(":memory:")
        for _, script in migrations("sqlite"):
            db.executescript(script)
        numbers = (
            "WITH RECURSIVE generate (value) AS "
            f"(SELECT 1 UNION ALL SELECT value + 1 FROM generate WHERE value < {rows}) "
        )
        db.execute(numbers + fill)
        found.append(_steps(db, name))
        db.close()
    assert found[1] <= 2 * found[0]
