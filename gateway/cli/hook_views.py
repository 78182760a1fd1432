"""Hooks as rows and JSON. Of a web service's address only the server is shown."""

from __future__ import annotations

import json
from typing import Any, Final

from gateway.cli.tables import when
from gateway.core.hook_queues import Hooked, place_of
from gateway.core.model import DeadDelivery, HookRule

COLUMNS: Final = ("profile", "before", "after", "waiting", "dead", "last failure")
DEAD_COLUMNS: Final = ("event", "profile", "what", "device", "given up", "attempts", "why")


def _place(rule: HookRule | None) -> str:
    return "" if rule is None else place_of(rule)


def row(hooked: Hooked) -> tuple[str, ...]:
    """In the order of `COLUMNS`."""
    profile, backlog = hooked.profile, hooked.backlog
    policy = profile.policy
    counts = ("", "") if policy.after is None else (str(backlog.waiting), str(backlog.dead))
    places = _place(policy.before), _place(policy.after)
    return (profile.name, *places, *counts, backlog.last_reason)


def plain_line(hooked: Hooked) -> dict[str, Any]:
    """A profile's hooks and what waits for them, for --json."""
    profile, backlog = hooked.profile, hooked.backlog
    before, after = profile.policy.before, profile.policy.after
    return {
        "profile": profile.name,
        "before": before and {"place": place_of(before), "on_failure": before.on_failure.value},
        "after": after and {"place": place_of(after), "events": list(after.events)},
        "waiting": backlog.waiting,
        "dead": backlog.dead,
        "last_failure": backlog.last_reason or None,
    }


def dead_row(one: DeadDelivery, profile: str) -> tuple[str, ...]:
    """In the order of `DEAD_COLUMNS`."""
    body = json.loads(one.body)
    what, device = str(body.get("event", "")), str(body.get("deviceName", ""))
    return str(one.seq), profile, what, device, when(one.at), str(one.attempts), one.reason


def plain_dead(one: DeadDelivery, profile: str) -> dict[str, Any]:
    """An event that could not be told, for --json."""
    return {
        "seq": one.seq,
        "profile": profile,
        "at": one.at,
        "attempts": one.attempts,
        "reason": one.reason,
        "event": json.loads(one.body),
    }
