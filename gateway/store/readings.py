"""Telemetry, set-based: the readings of any number of devices are one decision."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from gateway.core.errors import CredentialsGone
from gateway.core.model import Device, Reading
from gateway.store.driver import Row, Transaction
from gateway.store.values import to_columns
from gateway.store.writer import Decision, SingleDecision

_json = msgspec.json.Encoder()
_ROWS_PER_WEIGHT = 16
"""Readings that cost as much as a small decision: a full batch of them takes about 0.15 s."""


async def good_logins(tx: Transaction, device_ids: Collection[int]) -> set[tuple[int, int]]:
    """The devices of these that exist, each with the generation of its credentials."""
    listed = _json.encode(sorted(device_ids)).decode()
    return {(row[0], row[1]) for row in await tx.fetch("generations", listed)}


class SaveReadings(Decision[list[bool]]):
    """Stores readings, and the latest value per key; False where the login is of yesterday."""

    __slots__ = ("sent", "weight")

    def __init__(self, sent: Sequence[tuple[Device, Sequence[Reading]]]) -> None:
        self.sent = sent
        self.weight = 1 + sum([len(readings) for _, readings in sent]) // _ROWS_PER_WEIGHT

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[SaveReadings]) -> list[Any]:
        good = await good_logins(tx, {device.id for one in decisions for device, _ in one.sent})
        rows: dict[tuple[int, str, int], Row] = {}
        latest: dict[tuple[int, str], Row] = {}
        results: list[Any] = []
        for one in decisions:
            stored = [(device.id, device.credentials_row) in good for device, _ in one.sent]
            for (device, readings), is_good in zip(one.sent, stored, strict=True):
                if is_good:
                    _gather(device.id, readings, rows, latest)
            results.append(stored)
        await tx.insert_rows("insert_readings", list(rows.values()))
        await tx.insert_rows("insert_latest", list(latest.values()))
        return results


def _gather(
    device_id: int,
    readings: Sequence[Reading],
    rows: dict[tuple[int, str, int], Row],
    latest: dict[tuple[int, str], Row],
) -> None:
    """Add the rows of one device: one for each key and time, the last one given."""
    for reading in readings:
        key, ts = reading.key, reading.ts
        row = (device_id, key, ts, *to_columns(reading.value))
        rows[device_id, key, ts] = row
        newest = latest.get((device_id, key))
        if newest is None or newest[2] <= ts:
            latest[device_id, key] = row


class ForgetLatest(SingleDecision[None]):
    """A device takes back what it said last; as history it stays."""

    __slots__ = ("device", "keys")

    def __init__(self, device: Device, keys: Sequence[str]) -> None:
        self.device = device
        self.keys = keys

    async def decide(self, tx: Transaction) -> None:
        device = self.device
        if (device.id, device.credentials_row) not in await good_logins(tx, (device.id,)):
            raise CredentialsGone
        await tx.fetch("forget_latest_of", device.id, _json.encode(self.keys).decode())
