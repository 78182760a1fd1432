"""Calling a profile's hooks on trial."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Final

from gateway.clock import now_ms
from gateway.core.after_hooks import DEADLINE_S
from gateway.core.hooking import Denied, question, read_answer, why_not
from gateway.core.model import (
    Amendment,
    DeviceProfile,
    HookRule,
    HookTrouble,
    Peer,
    ProvisionKey,
    ProvisionRequest,
    Secret,
    Wire,
)
from gateway.core.tokens import new_token
from gateway.sinks.hooks import HookCaller

_HERE: Final = Peer(Wire.SHELL, "127.0.0.1:0")
"""Whence the device on trial comes: an address, since hooks may decide by it."""


async def try_hooks(profile: DeviceProfile, device_name: str) -> list[dict[str, Any]]:
    """How each hook of the profile answered: `hook`, `answered`, `told`, `took_ms`, `answer`."""
    caller = HookCaller(os.environ, now_ms)
    found: list[dict[str, Any]] = []
    try:
        if profile.policy.before is not None:
            found.append(await _before(caller, profile, profile.policy.before, device_name))
        if profile.policy.after is not None:
            found.append(await _after(caller, profile, profile.policy.after, device_name))
    finally:
        await caller.close()
    return found


async def _before(
    caller: HookCaller, profile: DeviceProfile, rule: HookRule, device_name: str
) -> dict[str, Any]:
    nobody = ProvisionKey(Secret(""), Secret(""))
    request = ProvisionRequest(proof=nobody, peer=_HERE, device_name=device_name, trial=True)
    number = new_token()
    body = question(profile, request, now_ms(), number)
    deadline_s = rule.deadline_ms / 1000
    began = time.perf_counter()
    answer = why_not(rule, in_file=profile.source is not None) or await caller.ask(
        rule, body, deadline_s=deadline_s, delivery=number
    )
    took_ms = _since(began)
    try:
        decided = answer if isinstance(answer, HookTrouble) else read_answer(answer)
    except ValueError as exc:
        decided = HookTrouble(str(exc))
    return _line("before", decided, took_ms) | {"answer": _plain(answer)}


async def _after(
    caller: HookCaller, profile: DeviceProfile, rule: HookRule, device_name: str
) -> dict[str, Any]:
    told = {
        "event": "hook:test",
        "seq": 0,
        "at": now_ms(),
        "deviceId": None,
        "deviceName": device_name,
        "profile": profile.name,
        "detail": {},
    }
    body = json.dumps(told).encode()
    number = f"{profile.uuid or profile.id}-0"
    began = time.perf_counter()
    trouble = why_not(rule, in_file=profile.source is not None) or await caller.tell(
        rule, body, deadline_s=DEADLINE_S, delivery=number
    )
    return _line("after", trouble, _since(began))


def _since(began: float) -> int:
    """In ms."""
    return round((time.perf_counter() - began) * 1000)


def _line(hook: str, decided: object, took_ms: int) -> dict[str, Any]:
    failed = isinstance(decided, HookTrouble)
    return {"hook": hook, "answered": not failed, "told": _told(hook, decided), "took_ms": took_ms}


def _told(hook: str, decided: object) -> str:
    match decided:
        case HookTrouble(reason):
            return f"failed: {reason}"
        case Denied(said):
            return f"denies: {said}" if said else "denies"
        case Amendment():
            return "allows, and amends " + ", ".join(_amended(decided))
        case _:
            return "allows" if hook == "before" else "takes it"


def _amended(amendment: Amendment) -> list[str]:
    parts = {
        "the name": amendment.name,
        "attributes": amendment.attributes,
        "groups": amendment.groups,
    }
    return [name for name, part in parts.items() if part]


def _plain(answer: object) -> object:
    """As JSON has it; a function may return anything."""
    try:
        return None if isinstance(answer, HookTrouble) else json.loads(json.dumps(answer))
    except (TypeError, ValueError):
        return None
