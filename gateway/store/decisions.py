"""The decisions of the hot path, set-based: one statement per table for a whole batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    PROVISIONED,
    AttributeScope,
    Event,
    EventKind,
    Outcome,
    Reading,
    RefusalReason,
    Value,
)
from gateway.core.ports import NewDevice
from gateway.store.driver import Row, Transaction
from gateway.store.values import to_columns
from gateway.store.writer import Decision

_json = msgspec.json.Encoder()


def event_row(event: Event) -> Row:
    """An event as a row of the `event` table."""
    detail = _json.encode(event.detail).decode() if event.detail else ""
    return (
        event.at,
        event.kind.value,
        event.outcome.value,
        event.reason,
        event.device_id,
        event.subject,
        event.peer.wire.value,
        event.peer.address,
        detail,
    )


class Born(Struct, frozen=True):
    """The number a device got."""

    device_id: int


class Claimed(Struct, frozen=True):
    """The number of the existing device that was claimed."""

    device_id: int


class CreateDevice(Decision[Born | Claimed | RefusalReason]):
    """Is the name free, and the credentials? The insert itself is the question."""

    __slots__ = ("digest", "new", "sealed", "uuid")

    def __init__(self, new: NewDevice, uuid: bytes, digest: bytes, sealed: bytes) -> None:
        self.new = new
        self.uuid = uuid
        self.digest = digest
        self.sealed = sealed

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[CreateDevice]) -> list[Any]:
        last = (await tx.fetch("next_ids", "device", len(decisions)))[0][0]
        first = last - len(decisions) + 1
        numbered = dict(enumerate(decisions, first))
        written = await tx.insert_rows(
            "insert_devices", [one.device_row(number) for number, one in numbered.items()]
        )
        born = numbered
        if written < len(numbered):
            ids = {row[0] for row in await tx.fetch("devices_after", first - 1)}
            born = {number: one for number, one in numbered.items() if number in ids}
        written = await tx.insert_rows(
            "insert_credentials", [one.credentials_row(number) for number, one in born.items()]
        )
        unkeyed = set[int]()
        if written < len(born):
            unkeyed = born.keys() - {
                row[0] for row in await tx.fetch("credentials_after", first - 1)
            }
        events: list[Row] = []
        results: list[Any] = []
        for number, one in numbered.items():
            result = await one.outcome(tx, number, born=number in born, keyed=number not in unkeyed)
            results.append(result)
            events.append(event_row(await one.event(tx, result)))
        await tx.insert_rows("insert_events", events)
        return results

    def device_row(self, number: int) -> Row:
        new = self.new
        return (
            number,
            self.uuid,
            new.organisation_id,
            new.profile_id,
            new.name,
            new.type,
            int(new.gateway),
            new.provision_state,
            new.at,
        )

    def credentials_row(self, number: int) -> Row:
        return (number, 1, self.new.credentials.type.value, self.digest, self.sealed, self.new.at)

    async def outcome(
        self, tx: Transaction, number: int, *, born: bool, keyed: bool
    ) -> Born | Claimed | RefusalReason:
        """What became of this one; takes back a device whose credentials another one holds."""
        if born and keyed:
            return Born(number)
        if born:
            await tx.fetch("delete_device", number)
            return RefusalReason.CREDENTIALS_TAKEN
        if self.new.claim_existing:
            return await claim(tx, self.new.organisation_id, self.new.profile_id, self.new.name)
        return RefusalReason.NAME_TAKEN

    async def event(self, tx: Transaction, result: Born | Claimed | RefusalReason) -> Event:
        new = self.new
        refused = isinstance(result, RefusalReason)
        kind = EventKind.DEVICE_PROVISION
        if new.provision_state != PROVISIONED:
            kind = EventKind.DEVICE_CREATE
        device_id: int | None
        if isinstance(result, RefusalReason):
            named = await tx.fetch("device_named", new.organisation_id, new.name)
            device_id = named[0][0] if named else None
        else:
            device_id = result.device_id
        return Event(
            kind=kind,
            at=new.at,
            peer=new.peer,
            outcome=Outcome.REFUSED if refused else Outcome.SUCCESS,
            reason=result.value if isinstance(result, RefusalReason) else "",
            device_id=device_id,
            subject=new.name,
            detail={"warning": new.warning} if new.warning else {},
        )


async def claim(
    tx: Transaction, organisation_id: int, profile_id: int, name: str
) -> Claimed | RefusalReason:
    """One UPDATE decides. Only when it said no do we look, to tell the operator why."""
    claimed = await tx.fetch("claim_device", organisation_id, profile_id, name)
    if claimed:
        return Claimed(claimed[0][0])
    named = await tx.fetch("device_named", organisation_id, name)
    if not named:
        return RefusalReason.NO_SUCH_DEVICE
    _, owner, state = named[0]
    if owner != profile_id:
        return RefusalReason.OTHER_PROFILE
    return RefusalReason.ALREADY_PROVISIONED if state == PROVISIONED else RefusalReason.BLOCKED


class ClaimDevice(Decision[Claimed | RefusalReason]):
    """Marks a waiting device provisioned, once, and tells the event of it either way."""

    __slots__ = ("event", "name", "organisation_id", "profile_id")

    def __init__(self, organisation_id: int, profile_id: int, name: str, event: Event) -> None:
        self.organisation_id = organisation_id
        self.profile_id = profile_id
        self.name = name
        self.event = event

    async def decide(self, tx: Transaction) -> Claimed | RefusalReason:
        result = await claim(tx, self.organisation_id, self.profile_id, self.name)
        event = self.event
        if isinstance(result, Claimed):
            event = msgspec.structs.replace(event, device_id=result.device_id)
        else:
            named = await tx.fetch("device_named", self.organisation_id, self.name)
            event = msgspec.structs.replace(
                event,
                outcome=Outcome.REFUSED,
                reason=result.value,
                device_id=named[0][0] if named else None,
            )
        await tx.insert_rows("insert_events", [event_row(event)])
        return result


class RecordEvent(Decision[None]):
    """Writes down what happened, for events that change nothing else."""

    __slots__ = ("written",)

    def __init__(self, event: Event) -> None:
        self.written = event

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[RecordEvent]) -> list[Any]:
        await tx.insert_rows("insert_events", [event_row(one.written) for one in decisions])
        return [None] * len(decisions)


class Probe(Decision[None]):
    """Can the database commit? A counter goes up, since SQLite writes no page that stays equal."""

    __slots__ = ()

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[Probe]) -> list[Any]:
        await tx.fetch("probe")
        return [None] * len(decisions)


async def _generations(tx: Transaction, device_ids: set[int]) -> dict[int, set[int]]:
    """The credentials generations that are good now, by device."""
    good: dict[int, set[int]] = {}
    listed = _json.encode(sorted(device_ids)).decode()
    for device_id, generation in await tx.fetch("generations", listed):
        good.setdefault(device_id, set()).add(generation)
    return good


class SaveReadings(Decision[None]):
    """Stores readings, and the latest value per key; refused when the login is of yesterday."""

    __slots__ = ("device_id", "generation", "readings")

    def __init__(self, device_id: int, generation: int, readings: Sequence[Reading]) -> None:
        self.device_id = device_id
        self.generation = generation
        self.readings = readings

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[SaveReadings]) -> list[Any]:
        good = await _generations(tx, {one.device_id for one in decisions})
        results: list[Any] = []
        rows: dict[tuple[int, str, int], Row] = {}
        latest: dict[tuple[int, str], Row] = {}
        for one in decisions:
            device_id = one.device_id
            if one.generation not in good.get(device_id, ()):
                results.append(CredentialsGone())
                continue
            for reading in one.readings:
                key, ts = reading.key, reading.ts
                row = (device_id, key, ts, *to_columns(reading.value))
                rows[device_id, key, ts] = row
                newest = latest.get((device_id, key))
                if newest is None or newest[2] <= ts:
                    latest[device_id, key] = row
            results.append(None)
        await tx.insert_rows("insert_readings", list(rows.values()))
        await tx.insert_rows("insert_latest", list(latest.values()))
        return results


class SaveAttributes(Decision[None]):
    """Stores attributes of one scope; the last value of a key stands."""

    __slots__ = ("at", "device_id", "generation", "scope", "values")

    def __init__(
        self,
        device_id: int,
        generation: int,
        scope: AttributeScope,
        values: Mapping[str, Value],
        at: int,
    ) -> None:
        self.device_id = device_id
        self.generation = generation
        self.scope = scope
        self.values = values
        self.at = at

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[SaveAttributes]) -> list[Any]:
        good = await _generations(tx, {one.device_id for one in decisions})
        results: list[Any] = []
        rows: dict[tuple[int, str, str], Row] = {}
        for one in decisions:
            if one.generation not in good.get(one.device_id, ()):
                results.append(CredentialsGone())
                continue
            scope = one.scope.value
            for key, value in one.values.items():
                row = (one.device_id, scope, key, *to_columns(value), one.at)
                rows[one.device_id, scope, key] = row
            results.append(None)
        await tx.insert_rows("insert_attributes", list(rows.values()))
        return results
