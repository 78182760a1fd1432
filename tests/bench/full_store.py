"""A store with very many devices, written by SQL: through the gateway it would take minutes."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def fill(database: Path, devices: int) -> None:
    """Add `devices` provisioned devices to a store that a gateway has made, and has closed.

    Their credentials have the sizes of real ones but open nothing.
    """
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -500000")
    profile = connection.execute("SELECT id, name FROM device_profile").fetchone()
    first = connection.execute("SELECT last FROM sequence WHERE name = 'device'").fetchone()[0] + 1
    numbers = range(first, first + devices)
    at = int(time.time() * 1000)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO device (id, uuid, organisation_id, profile_id, name, type, gateway,"
        " provision_state, created_at) VALUES (?, ?, 1, ?, ?, ?, 0, 'provisioned', ?)",
        _devices(numbers, profile, at),
    )
    connection.executemany(
        "INSERT INTO credentials VALUES (?, 1, 'ACCESS_TOKEN', ?, ?, ?)",
        ((number, os.urandom(32), os.urandom(72), at) for number in numbers),
    )
    connection.executemany(
        "INSERT INTO event (at, kind, outcome, reason, device_id, subject, wire, address, detail)"
        " VALUES (?, 'device:provision', 'success', '', ?, ?, 'coap', '127.0.0.1:50000', '')",
        ((at, number, f"stored-{number}") for number in numbers),
    )
    connection.execute("UPDATE sequence SET last = ? WHERE name = 'device'", (numbers[-1],))
    connection.execute("COMMIT")
    connection.close()


def _devices(numbers: range, profile: tuple[int, str], at: int) -> Iterator[tuple[Any, ...]]:
    for number in numbers:
        # The time first, as in a UUID of version 7: new ones go to the end of the index.
        identity = (at + number // 16).to_bytes(6, "big") + os.urandom(10)
        yield number, identity, profile[0], f"stored-{number}", profile[1], at


def count(database: Path) -> int:
    """Devices in a store."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM device").fetchone()[0])
    finally:
        connection.close()
