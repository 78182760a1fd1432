"""Profiles' hooks, and what their after-hooks were not told. ThingsBoard has no such.

Of a web service's address only the server is told: what follows it may hold a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from gateway.core.hook_queues import Hooked, place_of
from gateway.core.model import Actor, DeadDelivery, DeviceProfile, HookRule, Permission
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import (
    Desk,
    bad_request,
    body_of,
    json_reply,
    not_found,
)
from gateway.dialects.thingsboard.admin.profiles import EDIT, SEE
from gateway.dialects.thingsboard.admin.words import EntityId, number_of, uuid_of
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.catalogue import Catalogue
    from gateway.core.hook_queues import HookQueues

_MOST_NUMBER: Final = 2**63 - 1


class BeforeAnswer(Struct, rename="camel"):
    """Who is asked about births. `on_failure`: what no answer stands for."""

    place: str
    on_failure: str


class AfterAnswer(Struct):
    """Who is told of events of these kinds."""

    place: str
    events: tuple[str, ...]


class HookAnswer(Struct, rename="camel", kw_only=True):
    """A profile with hooks. `waiting` and `dead`: events the after-hook is still to be told, and
    those that were given up. `last_failure`: of those that are still there."""

    device_profile_id: EntityId
    device_profile_name: str
    before: BeforeAnswer | None
    after: AfterAnswer | None
    waiting: int
    dead: int
    last_failure: str | None


class DeadAnswer(Struct, rename="camel", kw_only=True):
    """An event that was given up. `event` is what the hook was to be told."""

    seq: int
    time: int
    attempts: int
    reason: str
    event: Any


class DeadPage(Struct):
    """`next`: `after` of the next request, if there may be more."""

    data: list[DeadAnswer]
    next: int | None


class ReplayBody(Struct):
    """`seq`: that event alone, also if it was told."""

    seq: Annotated[int, Meta(ge=1, le=_MOST_NUMBER)] | None = None


class DropBody(Struct):
    """`waiting`: also what is still to be told."""

    waiting: bool = False


class ReplayedAnswer(Struct):
    """How many are going to be told again."""

    replayed: int


class DroppedAnswer(Struct):
    """How many are told no more."""

    dropped: int


class HookRoutes:
    """Of profiles at or below the caller's organisation."""

    def __init__(self, hooks: HookQueues, catalogue: Catalogue) -> None:
        self._hooks = hooks
        self._catalogue = catalogue

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        rows = (
            ("list", f"GET {_ALL}", self._list, SEE, _LIST),
            ("dead", f"GET {_ONE}/dead", self._dead, _DEVICES_SEEN, _DEAD),
            ("replay", f"POST {_ONE}/replay", self._replay, EDIT, _REPLAY),
            ("drop", f"POST {_ONE}/drop", self._drop, EDIT, _DROP),
        )
        return tuple(
            desk.route(f"hook.{name}", http, handler, needs=needs, operation=operation)
            for name, http, handler, needs, operation in rows
        )

    async def _list(self, call: Call, actor: Actor) -> Reply:
        return json_reply([_answer(one) for one in await self._hooks.listed(actor)])

    async def _dead(self, call: Call, actor: Actor) -> Reply:
        profile, query = await self._found(call, actor), call.query
        limit = number_of(query, "limit", least=1, most=1_000, default=100)
        after = number_of(query, "after", least=0, most=_MOST_NUMBER, default=0)
        found = await self._hooks.dead(actor, [profile], limit, after_seq=after)
        return json_reply(
            DeadPage(
                data=[_dead(one) for one in found],
                next=found[-1].seq if len(found) == limit else None,
            )
        )

    async def _replay(self, call: Call, actor: Actor) -> Reply:
        profile = await self._found(call, actor)
        body = body_of(call, ReplayBody) if call.body else ReplayBody()
        if profile.policy.after is None:
            raise bad_request(f"{profile.name} has no after-hook that could be told")
        if body.seq is None:
            return json_reply(ReplayedAnswer(await self._hooks.replay(actor, profile)))
        if not await self._hooks.replay_one(actor, profile, body.seq):
            raise bad_request(f"event {body.seq} is none that the hook wants, or is forgotten")
        return json_reply(ReplayedAnswer(1))

    async def _drop(self, call: Call, actor: Actor) -> Reply:
        profile = await self._found(call, actor)
        body = body_of(call, DropBody) if call.body else DropBody()
        dropped = await self._hooks.drop(actor, profile, waiting=body.waiting)
        return json_reply(DroppedAnswer(dropped))

    async def _found(self, call: Call, actor: Actor) -> DeviceProfile:
        """A device profile or provision profile in sight."""
        identity = uuid_of(call.params["deviceProfileId"], "deviceProfileId")
        found = await self._catalogue.find(actor, identity)
        found = found or await self._catalogue.find_provision(actor, identity)
        if found is None:
            raise not_found()
        return found


def _answer(hooked: Hooked) -> HookAnswer:
    profile, backlog = hooked.profile, hooked.backlog
    return HookAnswer(
        device_profile_id=EntityId(profile.uuid, "DEVICE_PROFILE"),
        device_profile_name=profile.name,
        before=_before(profile.policy.before),
        after=_after(profile.policy.after),
        waiting=backlog.waiting,
        dead=backlog.dead,
        last_failure=backlog.last_reason or None,
    )


def _before(rule: HookRule | None) -> BeforeAnswer | None:
    return None if rule is None else BeforeAnswer(place_of(rule), rule.on_failure.value)


def _after(rule: HookRule | None) -> AfterAnswer | None:
    return None if rule is None else AfterAnswer(place_of(rule), rule.events)


def _dead(one: DeadDelivery) -> DeadAnswer:
    return DeadAnswer(
        seq=one.seq,
        time=one.at,
        attempts=one.attempts,
        reason=one.reason,
        event=msgspec.Raw(one.body.encode()),
    )


# ── for the document ──────────────────────────────────────────────────────────────────────────

_ALL: Final = "/api/gatehouse/hooks"
_ONE: Final = "/api/gatehouse/hooks/{deviceProfileId}"
_TAG: Final = "hooks"
_PATH: Final = {"deviceProfileId": "the UUID of the device profile"}
_DEVICES_SEEN: Final = (Permission.ORG_DEVICES_VIEW,)

_LIST: Final = Operation(
    summary="Device profiles with hooks",
    tag=_TAG,
    about="With how much each after-hook was not told. Of an address the server alone is told.",
    answers=answers("They are, by name.", list[HookAnswer], 401, 403),
)
_DEAD: Final = Operation(
    summary="Events that an after-hook did not take, and that were given up",
    tag=_TAG,
    path=_PATH,
    query=(
        Query("limit", "at most so many, 1 to 1000", int, example=100),
        Query("after", "those with greater numbers: `next` of the answer before", int),
    ),
    answers=answers("Some of them, in order.", DeadPage, 400, 401, 403, 404),
)
_REPLAY: Final = Operation(
    summary="Tell an after-hook again what was given up",
    tag=_TAG,
    about=(
        "With `seq` that event alone, also if it was told. It is sent within a second; "
        "`X-Gatehouse-Delivery` is the same as before."
    ),
    path=_PATH,
    body=ReplayBody,
    body_required=False,
    body_example={"seq": 4711},
    answers=answers("How many are to be told.", ReplayedAnswer, 400, 401, 403, 404),
)
_DROP: Final = Operation(
    summary="Forget what an after-hook did not take",
    tag=_TAG,
    about="What was given up; with `waiting` also what is still to be told.",
    path=_PATH,
    body=DropBody,
    body_required=False,
    body_example={"waiting": True},
    answers=answers("How many were forgotten.", DroppedAnswer, 400, 401, 403, 404),
)
