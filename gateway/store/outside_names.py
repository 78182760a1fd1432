"""Rows of older versions get the UUIDs by which people name them."""

from __future__ import annotations

import time

from gateway.store.driver import Driver, Row, Transaction
from gateway.store.identity import uuid7

_TABLES = (
    ("unnamed_organisations", "name_organisation"),
    ("unnamed_users", "name_user"),
    ("unnamed_profiles", "name_profile"),
)
_AT_ONCE = 1000


async def fill_outside_names(driver: Driver) -> None:
    """Name whatever has no UUID yet. Of two processes at once the first one's name stays."""
    for unnamed, name in _TABLES:
        while rows := await driver.rows(unnamed, _AT_ONCE):
            await _name(driver, name, rows)


async def _name(driver: Driver, statement: str, rows: list[Row]) -> None:
    now = time.time_ns() // 1_000_000
    named = [(number, uuid7(now)) for (number,) in rows]

    async def work(tx: Transaction) -> None:
        for row in named:
            await tx.fetch(statement, *row)

    await driver.transact(work)
