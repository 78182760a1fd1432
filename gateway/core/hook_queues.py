"""What profiles' hooks are, and what their after-hooks were not told: for people.

Events that were given up are told again or dropped; each such change is an event itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

from msgspec import Struct, structs

from gateway.core.after_hooks import MOST_KEPT
from gateway.core.catalogue import Catalogue
from gateway.core.model import (
    Actor,
    DeadDelivery,
    DeviceProfile,
    Event,
    EventKind,
    HookBacklog,
    HookRule,
    Permission,
)
from gateway.core.organisations import need
from gateway.core.ports import Clock

_PER_PAGE: Final = 1000
_MOST_PROFILES: Final = 10_000
"""Looked through for hooks."""
_NOTHING: Final = HookBacklog()


class QueueStore(Protocol):
    """What is asked of the store. `now` and other times are milliseconds."""

    async def backlog(self) -> Mapping[int, HookBacklog]: ...

    async def last_reason(self, profile_id: int) -> str: ...

    async def dead(
        self, profile_ids: Sequence[int], limit: int, *, after_seq: int = 0
    ) -> list[DeadDelivery]: ...

    async def replay_dead(self, profile_id: int, now: int) -> int: ...

    async def replay_one(self, profile_id: int, seq: int, now: int) -> int: ...

    async def replay_since(
        self, profile_id: int, since: int, now: int, most: int, advance: Callable[[int], None]
    ) -> int: ...

    async def drop(self, profile_id: int, state: str, most: int) -> int: ...

    async def record(self, event: Event) -> None: ...


class Hooked(Struct, frozen=True):
    """A profile with a hook at least, and what its after-hook was not told."""

    profile: DeviceProfile
    backlog: HookBacklog


def place_of(rule: HookRule) -> str:
    """Where a hook is: a function, or a server without the path, which may hold a secret."""
    if rule.entry_point:
        return rule.entry_point
    parts = urlsplit(rule.url)
    return f"{parts.scheme}://{parts.netloc}"


class HookQueues:
    """Lists, replays and drops, for profiles in the actor's sight.

    Raises `Forbidden`: PRODUCT_VIEW to look, and ORG_DEVICES_VIEW for events, PRODUCT_EDIT
    to replay and drop. The profiles are those that the actor was given by `Catalogue`.
    """

    def __init__(self, store: QueueStore, catalogue: Catalogue, *, clock: Clock) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock = clock

    async def listed(self, actor: Actor) -> list[Hooked]:
        """By name, provision profiles last."""
        need(actor, Permission.PRODUCT_VIEW)
        profiles = [*await self._hooked(actor), *await self._hooked(actor, provision=True)]
        backlogs = await self._store.backlog() if profiles else {}
        return [Hooked(one, await self._backlog(one, backlogs)) for one in profiles]

    async def _hooked(self, actor: Actor, *, provision: bool = False) -> list[DeviceProfile]:
        hooked: list[DeviceProfile] = []
        for page in range(_MOST_PROFILES // _PER_PAGE):
            found = await self._catalogue.page(
                actor, page=page, page_size=_PER_PAGE, provision=provision
            )
            hooked += (one for one in found.data if one.policy.before or one.policy.after)
            if not found.has_next:
                break
        return hooked

    async def _backlog(
        self, profile: DeviceProfile, backlogs: Mapping[int, HookBacklog]
    ) -> HookBacklog:
        backlog = backlogs.get(profile.id, _NOTHING)
        if not (backlog.waiting or backlog.dead):
            return backlog
        reason = await self._store.last_reason(profile.id)
        return structs.replace(backlog, last_reason=reason)

    async def dead(
        self, actor: Actor, profiles: Sequence[DeviceProfile], limit: int, *, after_seq: int = 0
    ) -> list[DeadDelivery]:
        """What was given up, by profile and in order; events with greater numbers alone."""
        need(actor, Permission.PRODUCT_VIEW)
        need(actor, Permission.ORG_DEVICES_VIEW)
        return await self._store.dead([one.id for one in profiles], limit, after_seq=after_seq)

    async def replay(self, actor: Actor, profile: DeviceProfile) -> int:
        """All that was given up waits again; how many."""
        need(actor, Permission.PRODUCT_EDIT)
        done = await self._store.replay_dead(profile.id, self._clock())
        return await self._told(actor, EventKind.HOOK_REPLAY, profile, done)

    async def replay_one(self, actor: Actor, profile: DeviceProfile, seq: int) -> int:
        """One event waits again, also if it was told; 0: the hook wants none of that number."""
        need(actor, Permission.PRODUCT_EDIT)
        done = await self._store.replay_one(profile.id, seq, self._clock())
        return await self._told(actor, EventKind.HOOK_REPLAY, profile, done)

    async def replay_since(
        self, actor: Actor, profile: DeviceProfile, since: int, advance: Callable[[int], None]
    ) -> int:
        """All since a time waits again, also what was told; how many, about `MOST_KEPT` at most.

        `advance` is called with how many more events were looked at.
        """
        need(actor, Permission.PRODUCT_EDIT)
        now = self._clock()
        done = await self._store.replay_since(profile.id, since, now, MOST_KEPT, advance)
        return await self._told(actor, EventKind.HOOK_REPLAY, profile, done)

    async def drop(self, actor: Actor, profile: DeviceProfile, *, waiting: bool = False) -> int:
        """What was given up is forgotten, with `waiting` also what was not; how many."""
        need(actor, Permission.PRODUCT_EDIT)
        done = 0
        for state in ("dead", "waiting") if waiting else ("dead",):
            done += await self._store.drop(profile.id, state, 10 * MOST_KEPT)
        return await self._told(actor, EventKind.HOOK_DROP, profile, done)

    async def _told(self, actor: Actor, kind: EventKind, profile: DeviceProfile, count: int) -> int:
        if count:
            await self._store.record(
                Event(
                    kind=kind,
                    at=self._clock(),
                    peer=actor.peer,
                    subject=profile.name,
                    object=profile.uuid,
                    detail={"events": str(count)},
                )
            )
        return count
