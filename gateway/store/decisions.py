"""The decisions of the hot path, set-based: one statement per table for a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from gateway.core.errors import CredentialsGone, GatehouseError
from gateway.core.model import (
    PROVISIONED,
    AttributeScope,
    DeviceProfile,
    Event,
    EventKind,
    Outcome,
    Reading,
    RefusalReason,
    Value,
)
from gateway.core.ports import KnownCredentials, NewDevice
from gateway.store.driver import Row, Transaction
from gateway.store.values import to_columns
from gateway.store.writer import Decision, SingleDecision

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


OpenKnown: TypeAlias = Callable[[Row], KnownCredentials]
"""Opens a row of `known_by_id`. Raises `StoreUnavailable` when the seal does not open."""

Created: TypeAlias = Born | KnownCredentials | RefusalReason


class CreateDevice(Decision[Created]):
    """Is the name free, and the credentials? The insert itself is the question.

    Gives `Born`, or with `NewDevice.claim_existing` the device that was claimed.
    """

    __slots__ = ("digest", "new", "open_known", "sealed", "uuid")

    def __init__(
        self, new: NewDevice, uuid: bytes, digest: bytes, sealed: bytes, open_known: OpenKnown
    ) -> None:
        self.new = new
        self.uuid = uuid
        self.digest = digest
        self.sealed = sealed
        self.open_known = open_known

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[CreateDevice]) -> list[Any]:
        last = (await tx.fetch("next_ids", "device", len(decisions)))[0][0]
        first = last - len(decisions) + 1
        numbered = dict(enumerate(decisions, first))
        born: set[int] = set()
        unkeyed: set[int] = set()
        pending = numbered
        while pending:
            fresh = await _insert_devices(tx, pending, first)
            lost = await _insert_credentials(tx, fresh, first)
            born |= fresh.keys() - lost
            unkeyed |= lost
            # A name that was taken back is free again for those it was refused to.
            freed = {numbered[number].new.name for number in lost}
            pending = {
                number: one
                for number, one in pending.items()
                if number not in fresh and one.new.name in freed
            }
        results = [
            Born(number)
            if number in born
            else RefusalReason.CREDENTIALS_TAKEN
            if number in unkeyed
            else await one.existing(tx)
            for number, one in numbered.items()
        ]
        events = [
            event_row(await one.event(tx, result))
            for one, result in zip(decisions, results, strict=True)
            if not isinstance(result, GatehouseError)
        ]
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

    async def existing(self, tx: Transaction) -> KnownCredentials | RefusalReason | GatehouseError:
        """The name is taken: claim the device that has it, where that is wanted."""
        new = self.new
        if not new.claim_existing:
            return RefusalReason.NAME_TAKEN
        await tx.savepoint()
        try:
            claimed = await claim(
                tx, new.organisation_id, new.profile_id, new.name, self.open_known
            )
        except GatehouseError as exc:
            await tx.rollback_to_savepoint()
            return exc
        await tx.release()
        return claimed

    async def event(self, tx: Transaction, result: Created) -> Event:
        new = self.new
        provisioning = new.provision_state == PROVISIONED
        told = Event(
            kind=EventKind.DEVICE_PROVISION if provisioning else EventKind.DEVICE_CREATE,
            at=new.at,
            peer=new.peer,
            subject=new.name,
        )
        match result:
            case Born(device_id):
                detail = {"warning": new.warning} if new.warning else {}
                return msgspec.structs.replace(told, device_id=device_id, detail=detail)
            case KnownCredentials(device):
                return msgspec.structs.replace(told, device_id=device.id)
            case reason:
                return await refused(tx, told, new.organisation_id, reason)


async def _insert_devices(
    tx: Transaction, pending: Mapping[int, CreateDevice], first: int
) -> dict[int, CreateDevice]:
    """Insert all whose name is free; of two with one name the first. Gives those inserted."""
    rows = [one.device_row(number) for number, one in pending.items()]
    if await tx.insert_rows("insert_devices", rows) == len(rows):
        return dict(pending)
    ids = {row[0] for row in await tx.fetch("devices_after", first - 1)}
    return {number: one for number, one in pending.items() if number in ids}


async def _insert_credentials(
    tx: Transaction, fresh: Mapping[int, CreateDevice], first: int
) -> set[int]:
    """Insert the credentials of new devices. Those whose are another's are taken back; which?"""
    rows = [one.credentials_row(number) for number, one in fresh.items()]
    if await tx.insert_rows("insert_credentials", rows) == len(rows):
        return set()
    lost = fresh.keys() - {row[0] for row in await tx.fetch("credentials_after", first - 1)}
    for number in lost:
        await tx.fetch("delete_device", number)
    return lost


async def claim(
    tx: Transaction, organisation_id: int, profile_id: int, name: str, open_known: OpenKnown
) -> KnownCredentials | RefusalReason:
    """One UPDATE decides. The credentials are opened before the commit: given, or not claimed."""
    claimed = await tx.fetch("claim_device", organisation_id, profile_id, name)
    if claimed:
        return open_known((await tx.fetch("known_by_id", claimed[0][0]))[0])
    # Only now do we look, to tell the operator why.
    named = await tx.fetch("device_named", organisation_id, name)
    if not named:
        return RefusalReason.NO_SUCH_DEVICE
    _, owner, state = named[0]
    if owner != profile_id:
        return RefusalReason.OTHER_PROFILE
    return RefusalReason.ALREADY_PROVISIONED if state == PROVISIONED else RefusalReason.BLOCKED


async def refused(
    tx: Transaction, told: Event, organisation_id: int, reason: RefusalReason
) -> Event:
    """The event of a refusal, on the device that has the name, if there is one."""
    named = await tx.fetch("device_named", organisation_id, told.subject)
    return msgspec.structs.replace(
        told,
        outcome=Outcome.REFUSED,
        reason=reason.value,
        device_id=named[0][0] if named else None,
    )


class ClaimDevice(SingleDecision[KnownCredentials | RefusalReason]):
    """Marks a waiting device provisioned, once, and tells the event of it either way."""

    __slots__ = ("event", "name", "open_known", "profile")

    def __init__(
        self, profile: DeviceProfile, name: str, event: Event, open_known: OpenKnown
    ) -> None:
        self.profile = profile
        self.name = name
        self.event = event
        self.open_known = open_known

    async def decide(self, tx: Transaction) -> KnownCredentials | RefusalReason:
        organisation_id = self.profile.organisation_id
        result = await claim(tx, organisation_id, self.profile.id, self.name, self.open_known)
        if isinstance(result, KnownCredentials):
            event = msgspec.structs.replace(self.event, device_id=result.device.id)
        else:
            event = await refused(tx, self.event, organisation_id, result)
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
