"""What after-hooks are to be told: events become deliveries, and deliveries come to an end.

The `event` table is the outbox. `hook_place` says up to where it was read for each profile that
follows; what was read stands in `hook_delivery` until its hook took it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.model import DeviceProfile, Event
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.identity import uuid_text
from gateway.store.queries import listed
from gateway.store.writer import Decision, SingleDecision

STEP = 1000
"""Events that are read in one transaction, or rows changed by a person: some milliseconds."""
_STEP_WEIGHT = 200
_NOT_TOLD = "hook:"
"""Kinds of events that speak of hooks are told to none: each would cause the next."""

_encode = msgspec.json.Encoder().encode


async def follow(tx: Transaction, profile_id: int, profile: DeviceProfile) -> None:
    """The profile was saved: from now on its after-hook, if it has one, is told what happens."""
    rule = profile.policy.after
    if rule is None:
        await tx.fetch("unfollow_events", profile_id)
        return
    kinds = " ".join(kind for kind in rule.events if not kind.startswith(_NOT_TOLD))
    await tx.fetch("follow_events", profile_id, f" {kinds} ")


def _delivery_row(row: Row, now: int) -> Row:
    """A row of `hook_events` as one of `insert_hook_deliveries`."""
    profile_id, seq, at, kind, device_id, detail, identity, name, profile = row
    body = {
        "event": kind,
        "seq": seq,
        "at": at,
        "deviceId": uuid_text(bytes(identity)),
        "deviceName": name,
        "profile": profile,
        "detail": msgspec.Raw(detail.encode() if detail else b"{}"),
    }
    return profile_id, seq, device_id, "waiting", _encode(body).decode(), now


class Filled(Struct, frozen=True):
    """A step through the events: for each profile how many deliveries it gave. `more`: there may be
    further events."""

    rows: dict[int, int]
    more: bool


class FillDeliveries(SingleDecision[Filled]):
    """Reads the next events for these profiles. The rows and the place are one transaction."""

    __slots__ = ("now", "profile_ids")

    weight = _STEP_WEIGHT

    def __init__(self, profile_ids: Sequence[int], now: int) -> None:
        self.profile_ids = profile_ids
        self.now = now

    async def decide(self, tx: Transaction) -> Filled:
        whose = listed(self.profile_ids)
        begin = (await tx.fetch("hook_begin", whose))[0][0]
        end = None if begin is None else (await tx.fetch("hook_end", begin, STEP))[0][0]
        if end is None:
            return Filled({}, more=False)
        found = await tx.fetch("hook_events", begin, end, whose)
        await tx.insert_rows("insert_hook_deliveries", [_delivery_row(r, self.now) for r in found])
        await tx.fetch("move_hook_places", end, whose)
        rows: dict[int, int] = {}
        for row in found:
            rows[row[0]] = rows.get(row[0], 0) + 1
        return Filled(rows, more=end - begin >= STEP)


class TellAgain(SingleDecision[tuple[int, int | None]]):
    """Makes deliveries of a step of events that a profile was told before, or gave up.

    `only` the event after `after`. Gives how many, and where the next step begins; None: this was
    the last.
    """

    __slots__ = ("after", "now", "only", "profile_id", "since")

    weight = _STEP_WEIGHT

    def __init__(
        self, profile_id: int, after: int, now: int, *, since: int = 0, only: bool = False
    ) -> None:
        self.profile_id = profile_id
        self.after = after
        self.now = now
        self.since = since
        self.only = only

    async def decide(self, tx: Transaction) -> tuple[int, int | None]:
        end: int | None = self.after + 1
        if not self.only:
            end = (await tx.fetch("hook_end", self.after, STEP))[0][0]
        if end is None:
            return 0, None
        asked = (self.after, end, self.profile_id, self.since)
        rows = [_delivery_row(row, self.now) for row in await tx.fetch("hook_events_again", *asked)]
        await tx.insert_rows("insert_hook_deliveries", rows)
        return len(rows), None if self.only else end


class TakeDeliveries(SingleDecision[list[Row]]):
    """Takes some that are due, for a while: no other process works on them until then."""

    __slots__ = ("limit", "now", "profile_id", "until")

    def __init__(self, profile_id: int, now: int, until: int, limit: int) -> None:
        self.profile_id = profile_id
        self.now = now
        self.until = until
        self.limit = limit

    async def decide(self, tx: Transaction) -> list[Row]:
        asked = (self.profile_id, self.now, self.until, self.limit)
        return await tx.fetch("take_hook_deliveries", *asked)


class DropDelivered(Decision[None]):
    """The hook took it."""

    __slots__ = ("profile_id", "seq")

    def __init__(self, profile_id: int, seq: int) -> None:
        self.profile_id = profile_id
        self.seq = seq

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[DropDelivered]) -> list[Any]:
        by_profile: dict[int, list[int]] = {}
        for one in decisions:
            by_profile.setdefault(one.profile_id, []).append(one.seq)
        for profile_id, seqs in by_profile.items():
            await tx.fetch("drop_delivered", profile_id, listed(seqs))
        return [None] * len(decisions)


class PutBack(SingleDecision[bool]):
    """The hook did not take it: it is tried again at `next_at`, or (`event`) given up.

    True: there may be more that waits behind it, see `put_back_later`.
    """

    __slots__ = ("attempts", "event", "next_at", "place", "reason")

    def __init__(
        self,
        place: tuple[int, int, int],
        attempts: int,
        next_at: int,
        reason: str,
        event: Event | None,
    ) -> None:
        self.place = place
        """Profile, event, and until when it was taken."""
        self.attempts = attempts
        self.next_at = next_at
        self.reason = reason
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        name = "put_back_delivery" if self.event is None else "bury_delivery"
        ours = await tx.fetch(name, *self.place, self.attempts, self.next_at, self.reason)
        if not ours:
            return False
        if self.event is not None:
            tell(tx, [self.event])
            return False
        profile_id, seq, _ = self.place
        later = (profile_id, ours[0][0], seq, self.next_at, STEP)
        return len(await tx.fetch("put_back_later", *later)) == STEP


class ReleaseDeliveries(SingleDecision[None]):
    """Whoever stops gives back what it took and did not finish."""

    __slots__ = ("places",)

    def __init__(self, places: Iterable[tuple[int, int, int]]) -> None:
        self.places = list(places)

    async def decide(self, tx: Transaction) -> None:
        for profile_id, seq, until in self.places:
            await tx.fetch("release_deliveries", profile_id, listed([seq]), until)


class ChangeDeliveries(SingleDecision[int]):
    """Runs a statement that changes some rows of a profile and gives them; how many."""

    __slots__ = ("name", "params")

    def __init__(self, name: str, *params: Any) -> None:
        self.name = name
        self.params = params

    async def decide(self, tx: Transaction) -> int:
        return len(await tx.fetch(self.name, *self.params))


class ForgetRemoved(SingleDecision[None]):
    """Forgets whose the devices were that were removed before a time."""

    __slots__ = ("before",)

    def __init__(self, before: int) -> None:
        self.before = before

    async def decide(self, tx: Transaction) -> None:
        await tx.fetch("forget_removed", self.before)


class TellOf(SingleDecision[None]):
    """Writes down what a person did with deliveries."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        self.event = event

    async def decide(self, tx: Transaction) -> None:
        tell(tx, [self.event])
