"""Rehearsals: what would become of a request, found out by the gates and decisions themselves.

A rehearsal goes the way of a birth, past the same gates, while the store takes every decision back
(`Store.on_trial`). The gates of this module stand in front of the real ones: they note what those
say, and ask nobody elsewhere. The door is the real one: a wrong secret is a wrong secret.
"""

from __future__ import annotations

from gateway.core.admitting import Admitting
from gateway.core.awaiting import NO_APPROVAL, Awaiting
from gateway.core.gates import Gates
from gateway.core.hooking import BeforeHooks
from gateway.core.model import (
    Admission,
    ApprovalKind,
    Binding,
    Device,
    DeviceProfile,
    FleetTicket,
    Provisioned,
    ProvisionRequest,
    ProvisionResult,
    RefusalReason,
    Refused,
    Rehearsal,
)
from gateway.core.names import printable
from gateway.core.refusals import REFUSALS
from gateway.core.reprovisioning import Reprovisioner
from gateway.core.terms import Terms

_OPEN = Admission()


class Notes:
    """What a rehearsal saw on its way. `known`: the device was provisioned before."""

    def __init__(self, ticket: FleetTicket) -> None:
        self.known = False
        self._profile = profile = ticket.profile
        self._steps = [
            f"Key and secret are right: they are {ticket.label!r} of the profile {profile.name!r}. "
            "Rates are not counted on trial."
        ]

    def step(self, sentence: str) -> None:
        """What was looked at, and what it came to."""
        self._steps.append(sentence)

    def rehearsal(
        self, request: ProvisionRequest, result: ProvisionResult, there: Device | None
    ) -> Rehearsal:
        """What is told of it. `there`: the device of the result's number, as it is in truth."""
        if isinstance(result, Refused):
            self.step(_told(result))
            return Rehearsal(
                refusal=result,
                profile_name=self._profile.name,
                device_name=printable((request.device_name or "").strip()),
                steps=tuple(self._steps),
            )
        device = result.device
        is_new = there is None or there.uuid != device.uuid
        claims = not (is_new or self.known or result.again)
        self.step(self._conclusion(result, claims=claims))
        made_up = is_new and not request.device_name
        return Rehearsal(
            refusal=None,
            profile_name=self._profile.name,
            device_name="" if made_up else device.name,
            credentials_type=result.credentials.type.value,
            claims=claims,
            steps=tuple(self._steps),
        )

    def _conclusion(self, result: Provisioned, *, claims: bool) -> str:
        if self.known:
            return "It would get another credential."
        if result.again:
            return "The same request was answered before: it would get the same credential again."
        if claims:
            return "A device of this name waits: it would be claimed."
        return "Name and credentials are free: a device would be made."


def turned_away(refused: Refused) -> Rehearsal:
    """Of a request that did not come past the door. Who proved nothing is not told why."""
    proven = REFUSALS[refused.reason].proven
    return Rehearsal(refusal=refused, steps=(_told(refused),) if proven else ())


def _told(refused: Refused) -> str:
    row, said = REFUSALS[refused.reason], printable(refused.said)
    return f"It would be refused: {said or row.title}. {row.detail}"


class NotedAdmitting(Admitting):
    """The same answers, noted."""

    def __init__(self, admitting: Admitting, notes: Notes) -> None:
        self._admitting = admitting
        self._notes = notes

    def is_open(self, profile: DeviceProfile, now: int) -> bool:
        return self._admitting.is_open(profile, now)

    async def why_not(
        self, profile: DeviceProfile, request: ProvisionRequest, now: int
    ) -> RefusalReason | None:
        reason = await self._admitting.why_not(profile, request, now)
        if reason is None and profile.policy.admission != _OPEN:
            self._notes.step("The profile's lists, patterns, networks and hours let it come.")
        return reason

    def wait_s(
        self, profile: DeviceProfile, reason: RefusalReason, name: str | None, now: int
    ) -> int:
        return self._admitting.wait_s(profile, reason, name, now)


class QuietHooks(BeforeHooks):
    """Nobody is asked."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    async def ask(
        self, profile: DeviceProfile, request: ProvisionRequest
    ) -> ProvisionRequest | Refused:
        self._notes.step("The profile's hook would be asked; it is not, on trial.")
        return request


class NotedAwaiting(Awaiting):
    """The same answers, noted; who asks on trial has no place in the queue."""

    def __init__(self, awaiting: Awaiting, notes: Notes) -> None:
        self._awaiting = awaiting
        self._notes = notes

    async def ask(
        self,
        profile: DeviceProfile,
        request: ProvisionRequest,
        name: str,
        kind: ApprovalKind,
        binding: Binding | None,
        now: int,
        *,
        claims: bool = True,
    ) -> int | Refused | None:
        answer = await self._awaiting.ask(profile, request, name, kind, binding, now, claims=claims)
        if isinstance(answer, int) and answer != NO_APPROVAL:
            self._notes.step("An operator said yes.")
        elif isinstance(answer, Refused):
            self._notes.step("An operator has to say yes first.")
        return answer


class NotedReprovisioner(Reprovisioner):
    """The same answers, noted."""

    def __init__(self, reprovisioner: Reprovisioner, notes: Notes) -> None:
        self._reprovisioner = reprovisioner
        self._notes = notes

    async def again(
        self, ticket: FleetTicket, request: ProvisionRequest, name: str, terms: Terms
    ) -> ProvisionResult | None:
        result = await self._reprovisioner.again(ticket, request, name, terms)
        if isinstance(result, Provisioned):
            self._notes.known = True
            self._notes.step("A device of this name was here before, and proved that it is it.")
        return result


def quiet(gates: Gates, notes: Notes) -> Gates:
    """Those behind the door, for one rehearsal."""
    reprovisioner = gates.reprovisioner
    return Gates(
        admitting=NotedAdmitting(gates.admitting, notes),
        awaiting=NotedAwaiting(gates.awaiting, notes),
        before=QuietHooks(notes),
        reprovisioner=NotedReprovisioner(reprovisioner, notes) if reprovisioner else None,
    )
