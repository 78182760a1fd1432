"""Who may come, of those who know the secret: hours, networks, patterns of names, lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar
from zlib import crc32

import structlog
from msgspec import Struct

from gateway.core.admission_entries import Marks, marks_of
from gateway.core.model import (
    PLAIN_POLICY,
    Admission,
    DeviceProfile,
    ProvisionRequest,
    RefusalReason,
)
from gateway.core.name_patterns import Fits, fitting
from gateway.core.networks import Network, host_of, is_within, network_of
from gateway.core.opening_hours import Hours, hours_of
from gateway.core.recent import FRESH_MS, MOST_KEPT

log = structlog.get_logger()

T = TypeVar("T")

_ANYBODY: Final = Admission()
_MOST_SPREAD_S: Final = 600
"""Over how long those come who were told to wait for the same hour."""
_MOST_RULES: Final = 64
"""Profiles whose settings are kept ready. Patterns take up to two MiB of each."""


class Listed(Struct, frozen=True):
    """Whether a device is in a profile's allow-list, and in its deny-list."""

    allowed: bool
    denied: bool


class ListStore(Protocol):
    """What is asked of the store."""

    async def look_up(self, profile_id: int, marks: Marks, *, denying: bool) -> Listed:
        """Whether one of a device's marks is in the lists of its profile: one look-up.

        `denying`: there is a deny-list, too.
        """

    async def has_deny_list(self, profile_id: int) -> bool:
        """Whether the profile has any denied entry."""


class Rules(Struct, frozen=True):
    """A profile's `Admission`, ready to be held against requests.

    `allow`, `deny`, None: there are no such patterns. `closed`: they cannot be read here.
    """

    admission: Admission
    allow: Fits | None
    deny: Fits | None
    networks: tuple[Network, ...]
    hours: tuple[Hours, ...]
    closed: bool = False


class Admitting:
    """Holds a request against the profile's `Admission`, and against its lists."""

    def __init__(self, store: ListStore | None = None) -> None:
        self._store = store
        self._kept: dict[int, Rules] = {}
        self._denying: dict[int, tuple[bool, int]] = {}

    def is_open(self, profile: DeviceProfile, now: int) -> bool:
        """Whether anybody may come: known without a look at the store, for most profiles."""
        denying = self._denying.get(profile.id)
        return (
            denying is not None
            and not denying[0]
            and profile.policy is PLAIN_POLICY
            and denying[1] <= now < denying[1] + FRESH_MS
        )

    async def why_not(
        self, profile: DeviceProfile, request: ProvisionRequest, now: int
    ) -> RefusalReason | None:
        """Why this device may not come now; None: it may. That it is denied is said first."""
        known = self._denying.get(profile.id)
        if known is not None and known[1] <= now < known[1] + FRESH_MS:
            denying = known[0]
        else:
            denying = await self._look_for_denied(profile.id, now)
        policy = profile.policy
        if not denying and (policy is PLAIN_POLICY or policy.admission == _ANYBODY):
            return None
        return await self._judged(profile, request, now, denying=denying)

    async def _look_for_denied(self, profile_id: int, now: int) -> bool:
        """Whether there is a deny-list: looked for at most once a second."""
        denying = self._store is not None and await self._store.has_deny_list(profile_id)
        if len(self._denying) >= MOST_KEPT:
            self._denying.clear()
        self._denying[profile_id] = denying, now
        return denying

    async def _judged(
        self, profile: DeviceProfile, request: ProvisionRequest, now: int, *, denying: bool
    ) -> RefusalReason | None:
        allow_list, marks = profile.policy.admission.allow_list, marks_of(request)
        reason = why_not_now(self._rules(profile), host_of(request.peer), marks.name, now)
        if not (denying or (allow_list and reason is None)):
            return reason
        if self._store is None:
            return reason or RefusalReason.NOT_ON_ALLOW_LIST
        listed = await self._store.look_up(profile.id, marks, denying=denying)
        if listed.denied:
            return RefusalReason.ON_DENY_LIST
        if reason is None and allow_list and not listed.allowed:
            return RefusalReason.NOT_ON_ALLOW_LIST
        return reason

    def wait_s(
        self, profile: DeviceProfile, reason: RefusalReason, name: str | None, now: int
    ) -> int:
        """When a device that may not come for that reason is to come again; 0: waiting is no help.

        It differs by name: those who wait for the same hour do not come all at once.
        """
        if reason is not RefusalReason.OUTSIDE_HOURS:
            return 0
        opens_at = _opens_at(self._rules(profile), now)
        if opens_at is None:
            return 0
        wait_s = max(1, -(-(opens_at - now) // 1000))
        share = crc32((name or "").encode("utf-8", "surrogatepass")) % 1000
        return wait_s + min(wait_s, _MOST_SPREAD_S) * share // 1000

    def _rules(self, profile: DeviceProfile) -> Rules:
        kept = self._kept.get(profile.id)
        if kept is not None and kept.admission == profile.policy.admission:
            return kept
        rules = rules_of(profile.policy.admission)
        if rules.closed:
            log.error("admission.unreadable", profile=profile.name)
        if len(self._kept) >= _MOST_RULES:
            self._kept.clear()
        self._kept[profile.id] = rules
        return rules


def rules_of(admission: Admission) -> Rules:
    """Proven when they were saved, perhaps elsewhere: what is unreadable here admits nobody."""
    networks, hours = _read(admission.networks, network_of), _read(admission.hours, hours_of)
    try:
        allow = fitting(admission.allow) if admission.allow else None
        deny = fitting(admission.deny) if admission.deny else None
    except ValueError:
        return Rules(admission, None, None, networks, hours, closed=True)
    closed = len(networks) < len(admission.networks) or len(hours) < len(admission.hours)
    return Rules(admission, allow, deny, networks, hours, closed=closed)


def _read(texts: tuple[str, ...], read: Callable[[str], T]) -> tuple[T, ...]:
    found: list[T] = []
    for text in texts:
        try:
            found.append(read(text))
        except ValueError:
            continue
    return tuple(found)


def why_not_now(rules: Rules, address: str, name: str | None, now: int) -> RefusalReason | None:
    """Why a device of that name at that IP address may not come at `now`, lists aside.

    `name` None: it has none yet, and fits no pattern.
    """
    if rules.deny is not None and name is not None and rules.deny(name):
        return RefusalReason.ON_DENY_LIST
    if rules.closed or not _is_open(rules.admission, rules.hours, now):
        return RefusalReason.OUTSIDE_HOURS
    if rules.networks and not is_within(address, rules.networks):
        return RefusalReason.NETWORK_NOT_ALLOWED
    if rules.allow is not None and (name is None or not rules.allow(name)):
        return RefusalReason.NOT_ON_ALLOW_LIST
    return None


def _is_open(admission: Admission, hours: tuple[Hours, ...], now: int) -> bool:
    if admission.opens_at is not None and now < admission.opens_at:
        return False
    if admission.closes_at is not None and now >= admission.closes_at:
        return False
    return not hours or any(one.hold(now) for one in hours)


def _opens_at(rules: Rules, now: int) -> int | None:
    """When devices may come again, after `now`; None: not as far as is known."""
    admission = rules.admission
    if rules.closed:
        return None
    at = max(now, admission.opens_at or now)
    if rules.hours and not any(one.hold(at) for one in rules.hours):
        at = min(one.next(at) for one in rules.hours)
    closes_at = admission.closes_at
    return None if closes_at is not None and at >= closes_at else at
