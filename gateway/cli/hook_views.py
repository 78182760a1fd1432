"""Hooks as rows and JSON. Of a web service's address only the server is shown."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.cli.tables import when
from gateway.core.model import DeadDelivery, DeviceProfile, HookBacklog, HookRule

COLUMNS: Final = ("profile", "before", "after", "waiting", "dead", "last failure")
DEAD_COLUMNS: Final = ("event", "profile", "what", "device", "given up", "attempts", "why")


def place(rule: HookRule | None) -> str:
    """Where a hook is: a function, or a server without the path, which may hold a secret."""
    if rule is None:
        return ""
    if rule.entry_point:
        return rule.entry_point
    parts = urlsplit(rule.url)
    return f"{parts.scheme}://{parts.netloc}"


def row(profile: DeviceProfile, backlog: HookBacklog, last_reason: str) -> tuple[str, ...]:
    """In the order of `COLUMNS`."""
    policy = profile.policy
    counts = ("", "") if policy.after is None else (str(backlog.waiting), str(backlog.dead))
    return (profile.name, place(policy.before), place(policy.after), *counts, last_reason)


def plain_line(profile: DeviceProfile, backlog: HookBacklog, last_reason: str) -> dict[str, Any]:
    before, after = profile.policy.before, profile.policy.after
    return {
        "profile": profile.name,
        "before": before and {"place": place(before), "on_failure": before.on_failure.value},
        "after": after and {"place": place(after), "events": list(after.events)},
        "waiting": backlog.waiting,
        "dead": backlog.dead,
        "last_failure": last_reason or None,
    }


def dead_row(one: DeadDelivery, profile: str) -> tuple[str, ...]:
    """In the order of `DEAD_COLUMNS`."""
    body = json.loads(one.body)
    what, device = str(body.get("event", "")), str(body.get("deviceName", ""))
    return str(one.seq), profile, what, device, when(one.at), str(one.attempts), one.reason


def plain_dead(one: DeadDelivery, profile: str) -> dict[str, Any]:
    return {
        "seq": one.seq,
        "profile": profile,
        "at": one.at,
        "attempts": one.attempts,
        "reason": one.reason,
        "event": json.loads(one.body),
    }
