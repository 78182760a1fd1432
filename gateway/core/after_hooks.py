"""After-hooks: somebody is told what happened, at least once and for each device in order.

The store is the queue: nothing waits in memory but what is being told right now. Several processes
on one store share the work; what one took and did not finish is another's after a while.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog

from gateway.core.breaking import Breaker
from gateway.core.errors import GatehouseError
from gateway.core.hooking import Caller, Outcomes, why_not
from gateway.core.model import (
    Delivery,
    Event,
    EventKind,
    Followed,
    HookBacklog,
    HookRule,
    HookTrouble,
    Outcome,
    Peer,
    Wire,
)
from gateway.core.ports import Clock

log = structlog.get_logger()

LOOK_EVERY_S: Final = 0.5
"""How late an event is told at most, when its hook takes it."""
DEADLINE_S: Final = 10.0
LEASE_MS: Final = 30_000
"""For how long a process has alone what it took; more than the deadline and a slow commit."""
MOST_AT_ONCE: Final = 16
"""Calls of one profile's hook that are under way at once."""
MOST_IN_ALL: Final = 64
MOST_ATTEMPTS: Final = 12
FIRST_MS: Final = 1000
LATEST_MS: Final = 600_000
MOST_KEPT: Final = 100_000
"""Deliveries of one profile. Beyond them the oldest that were given up are dropped; if all of them
wait, no more events are read for it: they wait in the event log, as long as that is kept."""
_TIDY_MS: Final = 10_000
_REMOVED_MS: Final = 7 * 86_400_000
"""How long it is known whose a removed device was."""
_PAUSE_S: Final = 0.05
"""Between two steps through the events, so that devices are served in between."""
_SETTLE_S: Final = 0.01
"""After a delivery, so that those that end together are followed up together."""
_AFTER_FAILURE_S: Final = 1.0
_PEER: Final = Peer(Wire.SHELL, "hooks")


class DeliveryStore(Protocol):
    """What is asked of the store. `now` and other times are milliseconds."""

    async def followed(self) -> Sequence[Followed]:
        """The profiles with an after-hook. Cheap when there is none."""

    async def behind(self) -> bool:
        """Whether there are events that some profile was not asked about yet. Cheap."""

    async def fill(self, profile_ids: Sequence[int], now: int) -> tuple[Mapping[int, int], bool]:
        """Decides: the next events become deliveries. How many of each profile, and whether there
        may be more."""

    async def take(self, profile_id: int, now: int, until: int, limit: int) -> list[Delivery]:
        """Decides: some that are due, ours alone until `until`; of each device only its oldest."""

    async def delivered(self, one: Delivery) -> None: ...

    async def put_back(self, one: Delivery, next_at: int, reason: str) -> None:
        """It failed once more. It and what waits behind it wait until `next_at`."""

    async def bury(self, one: Delivery, reason: str, event: Event) -> None:
        """It failed for the last time; `event` says so."""

    async def release(self, several: Iterable[Delivery]) -> None:
        """They were taken, and not finished."""

    async def backlog(self) -> Mapping[int, HookBacklog]:
        """How many deliveries there are, by profile."""

    async def drop(self, profile_id: int, state: str, most: int) -> int:
        """Forget the oldest in this state (`waiting`, `dead`); how many."""

    async def forget_removed(self, before: int) -> None:
        """Forget whose the devices were that were removed before a time."""


class _Lane:
    """The way to one profile's hook."""

    __slots__ = ("breaker", "busy", "rule")

    def __init__(self, rule: HookRule) -> None:
        self.rule = rule
        self.breaker = Breaker()
        self.busy = 0

    def free(self, now: int) -> int:
        """How many more may be told now. One alone tries whether a hook that failed is back."""
        if self.breaker.wait(now):
            return 0
        return (0 if self.busy else 1) if self.breaker.is_open else MOST_AT_ONCE - self.busy


class AfterHooks:
    """Reads events, tells hooks. One for a process: `run` until cancelled, then `close`."""

    def __init__(
        self,
        store: DeliveryStore,
        caller: Caller,
        clock: Clock,
        *,
        outcomes: Outcomes | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._caller = caller
        self._clock = clock
        self._outcomes: Outcomes = defaultdict(int) if outcomes is None else outcomes
        self._jitter = jitter
        self._lanes: dict[int, _Lane] = {}
        self._kept: dict[int, int] = {}
        """About how many deliveries each profile has."""
        self._tidied = 0
        self._tasks: dict[asyncio.Task[None], Delivery] = {}
        self._taking: asyncio.Task[list[Delivery]] | None = None
        """What is being taken just now: it goes on when `run` is cancelled meanwhile."""
        self._woken = asyncio.Event()

    def nudge(self) -> None:
        """Look at once."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. A busy or full store only postpones it."""
        while True:
            try:
                await self.look()
            except GatehouseError as exc:
                log.debug("hooks.postponed", reason=str(exc))
            except Exception:
                log.exception("hooks.failed")
                await asyncio.sleep(_AFTER_FAILURE_S)
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._woken.wait()
                    await asyncio.sleep(_SETTLE_S)
            except TimeoutError:
                pass
            self._woken.clear()

    async def look(self) -> int:
        """Read what happened, and begin to tell what is due; how many are being told now."""
        followed = await self._store.followed()
        if followed:
            await self._tidy(followed)
            await self._fill(followed)
            for one in followed:
                await self._begin(one)
        return len(self._tasks)

    async def settle(self) -> None:
        """Wait for what is being told now."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def close(self, grace_s: float) -> None:
        """Finish what is being told; what is not done then is given back. After `run` ended."""
        late = set[asyncio.Task[None]]()
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=grace_s)
        left = [self._tasks[task] for task in late if task in self._tasks]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        try:
            async with asyncio.timeout(grace_s):
                if self._taking is not None:
                    left += await self._taking
                await self._store.release(left)
        except (GatehouseError, TimeoutError) as exc:
            reason = str(exc) or "the store takes too long"
            log.warning("hooks.not_released", reason=reason, deliveries=len(left))

    # ── reading ─────────────────────────────────────────────────────────────────────────────

    async def _fill(self, followed: Sequence[Followed]) -> None:
        """Events become deliveries, of profiles that have room for them."""
        while await self._store.behind():
            room = [
                one.profile_id for one in followed if self._kept.get(one.profile_id, 0) < MOST_KEPT
            ]
            if not room:
                return
            filled, more = await self._store.fill(room, self._clock())
            for profile_id, count in filled.items():
                self._kept[profile_id] = self._kept.get(profile_id, 0) + count
            if not more:
                return
            await asyncio.sleep(_PAUSE_S)

    async def _tidy(self, followed: Sequence[Followed]) -> None:
        """Now and then: count, and drop what is too much."""
        now = self._clock()
        if 0 <= now - self._tidied < _TIDY_MS:
            return
        self._tidied = now
        there = {one.profile_id: one for one in followed}
        self._lanes = {number: lane for number, lane in self._lanes.items() if number in there}
        backlog = await self._store.backlog()
        for number, one in there.items():
            kept = backlog.get(number, HookBacklog())
            surplus = min(kept.waiting + kept.dead - MOST_KEPT, kept.dead)
            if surplus > 0:
                surplus = await self._store.drop(number, "dead", surplus)
                self._outcomes["after", "dropped"] += surplus
                log.error("hook.dropped", profile=one.name, events=surplus, kept=MOST_KEPT)
            self._kept[number] = kept.waiting + kept.dead - max(surplus, 0)
        await self._store.forget_removed(now - _REMOVED_MS)

    # ── telling ─────────────────────────────────────────────────────────────────────────────

    async def _begin(self, one: Followed) -> None:
        lane = self._lanes.get(one.profile_id)
        if lane is None or lane.rule != one.rule:
            lane = self._lanes[one.profile_id] = _Lane(one.rule)
        now = self._clock()
        free = min(lane.free(now), MOST_IN_ALL - len(self._tasks))
        if free <= 0:
            return
        take = self._store.take(one.profile_id, now, now + LEASE_MS, free)
        self._taking = asyncio.create_task(take, name="hooks.take")
        try:
            deliveries = await asyncio.shield(self._taking)
        except Exception:
            self._taking = None
            raise
        self._taking = None
        for delivery in deliveries:
            lane.breaker.enter(now)
            lane.busy += 1
            task = asyncio.create_task(self._deliver(one, lane, delivery), name="hooks.tell")
            self._tasks[task] = delivery
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._woken.set()

    async def _deliver(self, one: Followed, lane: _Lane, delivery: Delivery) -> None:
        ended = False
        try:
            trouble = await self._tell(one, delivery)
            ended = True
            if trouble is None:
                if lane.breaker.right():
                    log.info("hook.closed", hook="after", profile=one.name)
                self._outcomes["after", "delivered"] += 1
                self._kept[one.profile_id] = self._kept.get(one.profile_id, 1) - 1
                await self._store.delivered(delivery)
            else:
                await self._failed(one, lane, delivery, trouble)
        except GatehouseError as exc:
            log.warning("hook.not_marked", profile=one.name, seq=delivery.seq, reason=str(exc))
        except Exception:
            log.exception("hook.not_told", profile=one.name, seq=delivery.seq)
        finally:
            lane.busy -= 1
            if not ended:
                lane.breaker.leave()

    async def _tell(self, one: Followed, delivery: Delivery) -> HookTrouble | None:
        trouble = why_not(one.rule, in_file=one.in_file)
        if trouble is not None:
            return trouble
        number = delivery_id(one, delivery.seq)
        body = delivery.body.encode()
        return await self._caller.tell(one.rule, body, deadline_s=DEADLINE_S, delivery=number)

    async def _failed(
        self, one: Followed, lane: _Lane, delivery: Delivery, trouble: HookTrouble
    ) -> None:
        now, attempts = self._clock(), delivery.attempts + 1
        names = {"profile": one.name, "seq": delivery.seq, "reason": trouble.reason}
        self._outcomes["after", "failed"] += 1
        if lane.breaker.wrong(now):
            log.error("hook.open", hook="after", **names, told="it is tried again by itself")
        if attempts >= MOST_ATTEMPTS:
            self._outcomes["after", "dead"] += 1
            log.error("hook.dead", **names, told="`gatehouse hook replay` tries it again")
            await self._store.bury(delivery, trouble.reason, _dead_event(one, delivery, now, names))
            return
        wait_ms = backoff_ms(attempts, self._jitter())
        log.debug("hook.again", **names, attempts=attempts, wait_ms=wait_ms)
        await self._store.put_back(delivery, now + wait_ms, trouble.reason)


def backoff_ms(attempts: int, jitter: float) -> int:
    """How long to wait after so many attempts; `jitter`, 0 to 1, spreads it by half of it."""
    whole = min(FIRST_MS << min(attempts - 1, 30), LATEST_MS)
    return round(whole * (0.5 + jitter / 2))


def delivery_id(one: Followed, seq: int) -> str:
    """By which a hook knows that it was told before: the same for the same event, always."""
    return f"{one.uuid or one.profile_id}-{seq}"


def _dead_event(one: Followed, delivery: Delivery, at: int, names: Mapping[str, Any]) -> Event:
    return Event(
        kind=EventKind.HOOK_DEAD,
        at=at,
        peer=_PEER,
        outcome=Outcome.WARNING,
        device_id=delivery.device_id,
        subject=str(msgspec.json.decode(delivery.body).get("deviceName", "")),
        detail={"profile": one.name, "event": str(delivery.seq), "why": str(names["reason"])},
    )
