"""The after-hooks' half of the store; implements `core.after_hooks.DeliveryStore`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.core.model import (
    DeadDelivery,
    Delivery,
    Event,
    Followed,
    HookBacklog,
)
from gateway.store.hook_deliveries import (
    STEP,
    ChangeDeliveries,
    DropDelivered,
    FillDeliveries,
    ForgetRemoved,
    PutBack,
    ReleaseDeliveries,
    TakeDeliveries,
    TellAgain,
    TellOf,
)
from gateway.store.queries import listed
from gateway.store.sql_store import SqlStore


class SqlHooks:
    """Deliveries of one store; any number of processes may work on them."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver
        self._submit = store.writer.submit
        self._kept: dict[int, tuple[int, Followed]] = {}
        """By profile, with its revision."""

    # ── for the worker ──────────────────────────────────────────────────────────────────────

    async def followed(self) -> Sequence[Followed]:
        if await self._driver.point("first_hook_place") is None:
            return ()
        found: dict[int, tuple[int, Followed]] = {}
        for profile_id, revision in await self._driver.rows("hook_places"):
            kept = self._kept.get(profile_id)
            if kept is None or kept[0] != revision:
                one = await self._look_up(profile_id)
                kept = None if one is None else (revision, one)
            if kept is not None:
                found[profile_id] = kept
        self._kept = found
        return [one for _, one in found.values()]

    async def _look_up(self, profile_id: int) -> Followed | None:
        profile = await self._store.profile(profile_id)
        if profile is None or profile.policy.after is None:
            return None
        return Followed(
            profile_id=profile_id,
            uuid=profile.uuid,
            name=profile.name,
            rule=profile.policy.after,
            in_file=profile.source is not None,
        )

    async def behind(self) -> bool:
        return await self._driver.point("hook_behind") is not None

    async def fill(self, profile_ids: Sequence[int], now: int) -> tuple[Mapping[int, int], bool]:
        filled = await self._submit(FillDeliveries(profile_ids, now))
        return filled.rows, filled.more

    async def take(self, profile_id: int, now: int, until: int, limit: int) -> list[Delivery]:
        if await self._driver.point("hook_due", profile_id, now) is None:
            return []
        rows = await self._submit(TakeDeliveries(profile_id, now, until, limit))
        return [
            Delivery(
                profile_id=profile_id,
                seq=seq,
                device_id=device_id,
                body=body,
                attempts=attempts,
                taken_until=until,
            )
            for seq, device_id, body, attempts in sorted(rows)
        ]

    async def delivered(self, one: Delivery) -> None:
        await self._submit(DropDelivered(one.profile_id, one.seq))

    async def put_back(self, one: Delivery, next_at: int, reason: str) -> None:
        place = (one.profile_id, one.seq, one.taken_until)
        more = await self._submit(PutBack(place, one.attempts + 1, next_at, reason, None))
        later = (one.profile_id, one.device_id, one.seq, next_at, STEP)
        while more:
            more = await self._submit(ChangeDeliveries("put_back_later", *later)) == STEP

    async def bury(self, one: Delivery, reason: str, event: Event) -> None:
        place = (one.profile_id, one.seq, one.taken_until)
        await self._submit(PutBack(place, one.attempts + 1, event.at, reason, event))

    async def release(self, several: Iterable[Delivery]) -> None:
        places = [(one.profile_id, one.seq, one.taken_until) for one in several]
        if places:
            await self._submit(ReleaseDeliveries(places))

    async def backlog(self) -> Mapping[int, HookBacklog]:
        counts: dict[int, dict[str, int]] = {}
        for profile_id, state, count in await self._driver.rows("hook_counts"):
            counts.setdefault(profile_id, {})[state] = count
        return {
            number: HookBacklog(waiting=each.get("waiting", 0), dead=each.get("dead", 0))
            for number, each in counts.items()
        }

    async def drop(self, profile_id: int, state: str, most: int) -> int:
        dropped = 0
        while dropped < most:
            step = min(STEP, most - dropped)
            done = await self._submit(ChangeDeliveries("drop_deliveries", profile_id, state, step))
            dropped += done
            if done < step:
                break
        return dropped

    async def forget_removed(self, before: int) -> None:
        await self._submit(ForgetRemoved(before))

    # ── for people ──────────────────────────────────────────────────────────────────────────

    async def last_reason(self, profile_id: int) -> str:
        """Why a delivery of this profile failed last, of those that are still there."""
        row = await self._driver.point("last_hook_reason", profile_id)
        return "" if row is None else str(row[0])

    async def dead(
        self, profile_ids: Sequence[int], limit: int, *, after_seq: int = 0
    ) -> list[DeadDelivery]:
        rows = await self._driver.rows("dead_deliveries", listed(profile_ids), limit, after_seq)
        return [
            DeadDelivery(
                profile_id=profile_id,
                seq=seq,
                device_id=device_id,
                body=body,
                attempts=attempts,
                at=at,
                reason=reason,
            )
            for profile_id, seq, device_id, body, attempts, at, reason in rows
        ]

    async def replay_dead(self, profile_id: int, now: int) -> int:
        """All that were given up wait again; how many."""
        replayed = 0
        while True:
            done = await self._submit(ChangeDeliveries("replay_dead", profile_id, now, STEP))
            replayed += done
            if done < STEP:
                return replayed

    async def replay_one(self, profile_id: int, seq: int, now: int) -> int:
        """One event waits again, whether it was told or given up; 0: there is none of the profile
        that its hook wants."""
        if await self._submit(ChangeDeliveries("replay_dead_one", profile_id, seq, now)):
            return 1  # its event may be forgotten by now
        return (await self._submit(TellAgain(profile_id, seq - 1, now, only=True)))[0]

    async def replay_since(
        self, profile_id: int, since: int, now: int, most: int, advance: Callable[[int], None]
    ) -> int:
        """What was told since a time (ms) waits again, the oldest first; how many, about `most`.

        `advance` is called with how many more events were looked at.
        """
        row = (await self._driver.rows("first_event_since", since))[0]
        after: int | None = None if row[0] is None else row[0] - 1
        replayed = 0
        while after is not None and replayed < most:
            again = TellAgain(profile_id, after, now, since=since)
            done, after = await self._submit(again)
            replayed += done
            advance(STEP)
        return replayed

    async def record(self, event: Event) -> None:
        """What a person did with them; on disk when this returns."""
        await self._submit(TellOf(event))
