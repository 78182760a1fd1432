"""Devices that wait for an operator: asking, deciding, and using a yes up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from gateway.core.awaiting import MOST_WAITING, SILENT_MS, Asking, Standing
from gateway.core.model import (
    Approval,
    ApprovalKind,
    ApprovalState,
    Event,
    EventKind,
    Json,
    ProvisionType,
    RefusalReason,
    Wire,
)
from gateway.core.terms import Terms
from gateway.store.driver import Row, Transaction
from gateway.store.events import event_on, tell
from gateway.store.queries import listed
from gateway.store.writer import SingleDecision

_MOST_HARDWARE: Final = 4096
"""Characters, of what strangers fill a queue with."""
_REASONS: Final = {
    ApprovalState.WAITING: RefusalReason.APPROVAL_PENDING,
    ApprovalState.APPROVED: RefusalReason.APPROVAL_PENDING,
    ApprovalState.DENIED: RefusalReason.APPROVAL_DENIED,
}
"""What is told to who has no yes: of another's yes nobody hears."""


async def spend_approvals(tx: Transaction, held: Sequence[Terms]) -> RefusalReason | None:
    """Use the operators' yes of all of them up; why one does not stand, or None. The delete
    decides."""
    for terms in held:
        if terms.approval_id is None:
            continue
        if not await tx.fetch("spend_approval", terms.approval_id):
            return RefusalReason.APPROVAL_PENDING
    return None


def approval_from_row(row: Row) -> Approval:
    """A row of `approvals`."""
    number, organisation_id, organisation, profile_id, profile, name, kind, state, bound = row[:9]
    wire, address, hardware, asked_at, last_at, tries, decided_by, decided_at = row[9:]
    return Approval(
        id=number,
        organisation_id=organisation_id,
        organisation_name=organisation,
        profile_id=profile_id,
        profile_name=profile,
        name=name,
        kind=ApprovalKind(kind),
        state=ApprovalState(state),
        bound=bool(bound),
        wire=Wire(wire),
        address=address,
        hardware=Json(hardware) if hardware else None,
        asked_at=asked_at,
        last_at=last_at,
        tries=tries,
        decided_by=decided_by,
        decided_at=decided_at,
    )


class AwaitApproval(SingleDecision[Standing]):
    """Finds the place of who asks, or makes one. `digest`: what binds the request, or nothing."""

    __slots__ = ("asking", "digest")

    def __init__(self, asking: Asking, digest: bytes) -> None:
        self.asking = asking
        self.digest = digest

    @property
    def place(self) -> tuple[int, str, str]:
        return self.asking.profile.organisation_id, self.asking.name, self.asking.kind.value

    async def decide(self, tx: Transaction) -> Standing:
        asking, peer = self.asking, self.asking.peer
        if asking.kind is ApprovalKind.BIRTH and not await self._may_be_born(tx):
            return Standing()
        again = await tx.fetch(
            "ask_again",
            *self.place,
            asking.profile.id,
            self.digest,
            asking.at,
            peer.wire.value,
            peer.address,
        )
        if again:
            number, state, tries = again[0]
            if state == ApprovalState.APPROVED:
                return Standing(number)
            return Standing(reason=_REASONS[ApprovalState(state)], tries=tries)
        return await self._queue(tx)

    async def _may_be_born(self, tx: Transaction) -> bool:
        """Whether the name is not refused anyway, so that an operator's word would be wasted."""
        profile = self.asking.profile
        named = await tx.fetch("device_named", profile.organisation_id, self.asking.name)
        if named:
            return self.asking.claims and named[0][2] is None
        return profile.provision_type is not ProvisionType.CHECK_PRE_PROVISIONED_DEVICES

    async def _queue(self, tx: Transaction) -> Standing:
        """At the end of the queue, unless another has the place, or there is no room."""
        asking = self.asking
        await tx.fetch("drop_silent_approval", *self.place, asking.at - SILENT_MS)
        others = await tx.fetch("approval_state", *self.place)
        if not others:
            counted = await tx.fetch("approvals_waiting", asking.profile.id, MOST_WAITING)
            if counted[0][0] >= MOST_WAITING:
                return Standing(reason=RefusalReason.TOO_MANY_REQUESTS)
            if await self._insert(tx):
                return Standing(reason=RefusalReason.APPROVAL_PENDING)
            others = await tx.fetch("approval_state", *self.place)
        state, tries = others[0] if others else (ApprovalState.WAITING, 1)
        return Standing(reason=_REASONS[ApprovalState(state)], tries=tries)

    async def _insert(self, tx: Transaction) -> bool:
        """False when another process gave the place away just now."""
        asking = self.asking
        organisation_id, name, kind = self.place
        number = (await tx.fetch("next_ids", "approval", 1))[0][0]
        inserted = await tx.fetch(
            "insert_approval",
            number,
            organisation_id,
            asking.profile.id,
            name,
            kind,
            self.digest,
            asking.peer.wire.value,
            asking.peer.address,
            _kept(asking.hardware),
            asking.at,
        )
        if inserted:
            detail = {"number": str(number), "profile": asking.profile.name, "kind": kind}
            event = Event(
                kind=EventKind.APPROVAL_ASK,
                at=asking.at,
                peer=asking.peer,
                subject=name,
                detail=detail,
            )
            tell(tx, [event])
        return bool(inserted)


def _kept(hardware: Json | None) -> str:
    """What an operator is shown of it: nothing of one that is long."""
    if hardware is None or len(hardware.text) > _MOST_HARDWARE:
        return ""
    return hardware.text


class DecideApprovals(SingleDecision[list[Approval]]):
    """An operator says yes or no. `path` is a pattern."""

    __slots__ = ("event", "numbers", "path", "state")

    def __init__(
        self, numbers: Sequence[int], state: ApprovalState, path: str, event: Event
    ) -> None:
        self.numbers = numbers
        self.state = state
        self.path = path
        self.event = event

    async def decide(self, tx: Transaction) -> list[Approval]:
        event = self.event
        decided = await tx.fetch(
            "decide_approvals",
            listed(self.numbers),
            self.state.value,
            event.peer.actor,
            event.at,
            self.path,
        )
        changed = listed(sorted(number for (number,) in decided))
        found = [
            approval_from_row(row)
            for row in await tx.fetch("approvals_numbered", changed, self.path)
        ]
        tell(tx, [_about(event, one) for one in found])
        return found


class ForgetApprovals(SingleDecision[list[Approval]]):
    """An operator clears places in the queue. `path` is a pattern."""

    __slots__ = ("event", "numbers", "path")

    def __init__(self, numbers: Sequence[int], path: str, event: Event) -> None:
        self.numbers = numbers
        self.path = path
        self.event = event

    async def decide(self, tx: Transaction) -> list[Approval]:
        found = [
            approval_from_row(row)
            for row in await tx.fetch("approvals_numbered", listed(self.numbers), self.path)
        ]
        await tx.fetch("remove_approvals", listed([one.id for one in found]))
        tell(tx, [_about(self.event, one) for one in found])
        return found


def _about(event: Event, approval: Approval) -> Event:
    return event_on(
        structs.replace(event, subject=approval.name),
        None,
        number=str(approval.id),
        profile=approval.profile_name,
        kind=approval.kind.value,
    )
