"""A profile's policy in the words of a profile file: written, and read from elsewhere than a file.

The REST API has it as `profileData.gatehouse`: the same keys and tables, as a JSON object.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.core.errors import ConfigError
from gateway.core.model import PLAIN_POLICY, HookRule, Policy
from gateway.core.spelling import nearest
from gateway.profile_policies import ADMISSION, ANSWER, BIRTH, HOOKS, KEYS, read_policy
from gateway.toml_lines import TomlFile, plain

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


class PolicyWords:
    """Policies as `profileData.gatehouse` has them, and back."""

    def write(self, policy: Policy) -> dict[str, Any]:
        """What differs from a plain profile; nothing of a plain one."""
        return policy_settings(policy)

    def read(self, sent: Any, before: Policy) -> Policy:
        """`before`, with what was sent instead: a key that is absent stays, a null is as in a plain
        profile, a table is replaced whole. Raises `ConfigError`."""
        if sent is None:
            return PLAIN_POLICY
        file = _Sent()
        if not isinstance(sent, dict):
            raise file.fault((), "it is an object.", "Write it as {...}, or null for none.")
        settings = policy_settings(before)
        for key, value in sent.items():
            if key not in KEYS:
                wrong = f"it has no setting `{plain(key)}`."
                raise file.fault((key,), wrong, nearest(key, KEYS))
            settings.pop(key, None)
            if value is not None:
                settings[key] = value
        policy = read_policy(file, settings)
        _refuse_code(file, policy, before)
        return policy


class _Sent(TomlFile):
    """What came over REST: it has no lines."""

    def __init__(self) -> None:
        super().__init__("profileData.gatehouse", "", {})

    def fault(self, where: tuple[str, ...], wrong: str, remedy: str) -> ConfigError:
        return ConfigError(f"{self.name}: {wrong} {remedy}")


def _refuse_code(file: TomlFile, policy: Policy, before: Policy) -> None:
    """Whoever may change profiles from afar is not to choose what code runs here."""
    for name in ("before", "after"):
        rule: HookRule | None = getattr(policy, name)
        if rule is not None and rule.entry_point and rule != getattr(before, name):
            raise file.fault(
                (HOOKS, name),
                f"[hooks.{name}] entry_point may stand in a profile file alone.",
                "Write it there, or give a url.",
            )


# ── writing ───────────────────────────────────────────────────────────────────────────────────


def policy_settings(policy: Policy) -> dict[str, Any]:
    """The policy with the keys of a profile file: what differs from `PLAIN_POLICY`."""
    if policy is PLAIN_POLICY:
        return {}
    settings: dict[str, Any] = _changed(policy, PLAIN_POLICY, ("newborn", "before", "after"))
    if "retry_window_s" in settings:
        settings = {"retry_window": lasting(settings.pop("retry_window_s")), **settings}
    admission = _changed(policy.admission, PLAIN_POLICY.admission)
    for key in ("opens_at", "closes_at"):
        if key in admission:
            admission[key] = moment(admission[key])
    birth = _changed(policy.newborn, PLAIN_POLICY.newborn)
    if "expires_after_s" in birth:
        birth["expires_after"] = lasting(birth.pop("expires_after_s"))
    rules = {"before": policy.before, "after": policy.after}
    tables = {
        ADMISSION: admission,
        BIRTH: birth,
        ANSWER: _changed(policy.answer, PLAIN_POLICY.answer),
        HOOKS: {name: _changed(rule, HookRule()) for name, rule in rules.items() if rule},
    }
    return settings | {name: table for name, table in tables.items() if table}


def _changed(value: Struct, usual: Struct, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The members that differ from `usual`, as JSON has them; tables of their own are left out."""
    found = {}
    for name in value.__struct_fields__:
        one = getattr(value, name)
        if name not in without and one != getattr(usual, name) and not isinstance(one, Struct):
            found[name] = msgspec.to_builtins(one)
    return found


def lasting(seconds: int) -> str:
    """`15m`, as `seconds_of` reads it."""
    for unit, size in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return "0"


def moment(at: int) -> str:
    """ms since the epoch, as `ms_of` reads it."""
    text = (_EPOCH + timedelta(milliseconds=at)).isoformat(timespec="milliseconds")
    return text.replace(".000+", "+").replace("+00:00", "Z")
