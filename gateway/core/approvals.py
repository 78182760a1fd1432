"""The queue of devices that wait for an operator's word, for the operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

from gateway.core.errors import Invalid
from gateway.core.model import (
    Actor,
    Approval,
    ApprovalState,
    Event,
    EventKind,
    Page,
    Permission,
)
from gateway.core.organisations import need
from gateway.core.ports import Clock

MOST_AT_ONCE: Final = 1000
"""Devices decided in one transaction."""
KEEP_MS: Final = 30 * 86_400_000
"""How long a device that comes no more keeps its place, and a decision stands unused."""


class ApprovalQuery(Struct, frozen=True, kw_only=True):
    """Which of those that asked, in the order they did.

    `state` None: whatever was decided. `names`: those alone. `after_id`: later ones alone.
    """

    state: ApprovalState | None = None
    profile_id: int | None = None
    names: tuple[str, ...] | None = None
    after_id: int = 0
    page: int = 0
    page_size: int = 100


class QueueStore(Protocol):
    """What is asked of the store. `path`: devices of organisations at or below it alone."""

    async def approvals(self, query: ApprovalQuery, path: str) -> Page[Approval]: ...

    async def approval(self, number: int, path: str) -> Approval | None: ...

    async def decide_approvals(
        self, numbers: Sequence[int], state: ApprovalState, path: str, event: Event
    ) -> list[Approval]:
        """Decides: those of them that were not in that state are now. An event for each."""

    async def forget_approvals(
        self, numbers: Sequence[int], path: str, event: Event
    ) -> list[Approval]:
        """Decides: those that were there are gone. An event for each."""


class Approvals:
    """Shows and decides what waits at or below the actor's organisation.

    All of it needs PROVISION_DEVICES; else `Forbidden`.
    """

    def __init__(self, store: QueueStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def page(self, actor: Actor, query: ApprovalQuery) -> Page[Approval]:
        """`Page.total` is exact."""
        need(actor, Permission.PROVISION_DEVICES)
        return await self._store.approvals(query, actor.organisation.path)

    async def find(self, actor: Actor, number: int) -> Approval | None:
        need(actor, Permission.PROVISION_DEVICES)
        return await self._store.approval(number, actor.organisation.path)

    async def approve(self, actor: Actor, numbers: Sequence[int]) -> list[Approval]:
        """The devices come in when they ask the next time. Gives those that changed.

        Raises `Invalid` for more than `MOST_AT_ONCE`.
        """
        return await self._decide(actor, numbers, ApprovalState.APPROVED)

    async def deny(self, actor: Actor, numbers: Sequence[int]) -> list[Approval]:
        """The devices are refused from now on, for as long as they ask. Gives those that changed.

        Raises `Invalid` for more than `MOST_AT_ONCE`.
        """
        return await self._decide(actor, numbers, ApprovalState.DENIED)

    async def forget(self, actor: Actor, numbers: Sequence[int]) -> list[Approval]:
        """Whoever asks for one of these names next is new in the queue.

        Gives those that were there. Raises `Invalid` for more than `MOST_AT_ONCE`.
        """
        need(actor, Permission.PROVISION_DEVICES)
        _check(numbers)
        event = self._event(actor, EventKind.APPROVAL_FORGET)
        return await self._store.forget_approvals(numbers, actor.organisation.path, event)

    async def _decide(
        self, actor: Actor, numbers: Sequence[int], state: ApprovalState
    ) -> list[Approval]:
        need(actor, Permission.PROVISION_DEVICES)
        _check(numbers)
        approved = state is ApprovalState.APPROVED
        kind = EventKind.APPROVAL_APPROVE if approved else EventKind.APPROVAL_DENY
        event = self._event(actor, kind)
        return await self._store.decide_approvals(numbers, state, actor.organisation.path, event)

    def _event(self, actor: Actor, kind: EventKind) -> Event:
        return Event(kind=kind, at=self._clock(), peer=actor.peer)


def _check(numbers: Sequence[int]) -> None:
    if len(numbers) > MOST_AT_ONCE:
        raise Invalid(f"At most {MOST_AT_ONCE} devices are decided at once.")
