"""What claiming and issuing many tickets costs the database: no statement walks the table."""

from __future__ import annotations

import sqlite3

import pytest

from gateway.store.migrate import migrations
from gateway.store.queries import QUERIES


@pytest.fixture(scope="module")
def database():
    connection = sqlite3.connect(":memory:")
    for _, script in migrations("sqlite"):
        connection.executescript(script)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("name", "values", "index"),
    [
        ("take_tickets", (bytes(64), 5, 1), "sqlite_autoindex_ticket_1 (digest=?)"),
        ("find_ticket", (bytes(32),), "sqlite_autoindex_ticket_1 (digest=?)"),
        ("take_rotation", (1, 5, 1), "INTEGER PRIMARY KEY (rowid=?)"),
        ("expire_tickets", (5, 10), "ticket_ends (expires_at<?)"),
        ("count_tickets", (1,), "ticket_of_organisation (organisation_id=?)"),
        ("revoke_tickets_of_organisation", (1,), "ticket_of_organisation (organisation_id=?)"),
        ("revoke_rotations", (1,), "ticket_of_device (device_id=?)"),
    ],
)
def test_a_statement_goes_by_its_index(database, name, values, index):
    """A million tickets that wait must not be looked through for one."""
    plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", values)]
    assert any(index in step for step in plan), plan
    assert not any(step.startswith("SCAN ticket") for step in plan), plan
