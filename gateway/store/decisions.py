"""The decisions of provisioning, set-based: one statement per table for a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from gateway.core.errors import GatehouseError
from gateway.core.model import (
    PROVISIONED,
    DeviceProfile,
    Event,
    EventKind,
    Outcome,
    RefusalReason,
)
from gateway.core.ports import KnownCredentials
from gateway.store.births import Birth, bear
from gateway.store.driver import Row, Transaction
from gateway.store.records import event_row
from gateway.store.writer import Decision, SingleDecision


class Born(Struct, frozen=True):
    """The number a device got."""

    device_id: int


OpenKnown: TypeAlias = Callable[[Row], KnownCredentials]
"""Opens a row of `known_by_id`. Raises `StoreUnavailable` when the seal does not open."""

Created: TypeAlias = Born | KnownCredentials | RefusalReason


class CreateDevice(Decision[Created]):
    """Gives `Born`, or with `NewDevice.claim_existing` the device that was claimed."""

    __slots__ = ("birth", "open_known")

    def __init__(self, birth: Birth, open_known: OpenKnown) -> None:
        self.birth = birth
        self.open_known = open_known

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[CreateDevice]) -> list[Any]:
        outcomes = await bear(tx, [one.birth for one in decisions])
        results = [
            Born(outcome)
            if isinstance(outcome, int)
            else await one.existing(tx)
            if outcome is RefusalReason.NAME_TAKEN
            else outcome
            for one, outcome in zip(decisions, outcomes, strict=True)
        ]
        events = [
            event_row(await one.event(tx, result))
            for one, result in zip(decisions, results, strict=True)
            if not isinstance(result, GatehouseError)
        ]
        await tx.insert_rows("insert_events", events)
        return results

    async def existing(self, tx: Transaction) -> KnownCredentials | RefusalReason | GatehouseError:
        """The name is taken: claim the device that has it, where that is wanted."""
        new = self.birth.new
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
        new = self.birth.new
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
