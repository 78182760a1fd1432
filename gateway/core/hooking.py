"""Somebody else decides, too: hooks before a birth.

What is asked holds no secret: no fleet secret, no nonce, no credential, no signing request.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import structlog
from msgspec import Struct

from gateway.core.breaking import Breaker
from gateway.core.model import (
    Amendment,
    DeviceProfile,
    HookRule,
    HookTrouble,
    OnFailure,
    ProvisionRequest,
    RefusalReason,
    Refused,
)
from gateway.core.names import MOST_NAME_CHARACTERS, is_device_name, is_plain, printable
from gateway.core.ports import Clock, NewToken

log = structlog.get_logger()

BEFORE_BIRTH: Final = "before_birth"
MOST_ATTRIBUTES: Final = 64
MOST_GROUPS: Final = 20
MOST_TEXT: Final = 4096
"""Characters of an attribute that a hook gives."""
MOST_SAID: Final = 200
"""Characters of a hook's reason."""
MOST_AT_ONCE: Final = 32
"""Calls of one profile's hook that are under way at once."""
MOST_WAITING: Final = 500
"""Calls that wait for their turn, within their deadline; beyond them a call fails at once."""
_MOST_LANES: Final = 10_000
_RETRY_S: Final = 5
_OUR_CODE: Final = HookTrouble("only a profile file may name an entry point")

_encode = msgspec.json.Encoder().encode

Outcomes: TypeAlias = defaultdict[tuple[str, str], int]
"""How many calls of hooks ended how: `before` or `after`, and a word of ours."""


class Caller(Protocol):
    """Reaches hooks: a web service, or a function of this process."""

    async def ask(
        self, rule: HookRule, body: bytes, *, deadline_s: float, delivery: str
    ) -> object | HookTrouble:
        """Its answer, decoded; None: it has nothing to say. `body` is a JSON object."""

    async def tell(
        self, rule: HookRule, body: bytes, *, deadline_s: float, delivery: str
    ) -> HookTrouble | None:
        """None: it took what it was told."""


class Denied(Struct, frozen=True):
    """A hook said no; in its own words, which may be none."""

    said: str


# ── what is asked, what is answered ───────────────────────────────────────────────────────────


def question(profile: DeviceProfile, request: ProvisionRequest, at: int, number: str) -> bytes:
    """What a before-hook is asked, as JSON."""
    name, hardware, asked = request.device_name, request.hardware, request.credentials
    told: dict[str, Any] = {
        "event": BEFORE_BIRTH,
        "id": number,
        "at": at,
        "profile": profile.name,
        "provisionType": profile.provision_type.value,
        "deviceName": None if name is None else printable(name.strip()),
        "deviceType": printable(request.device_type or ""),
        "hardware": None if hardware is None else msgspec.Raw(hardware.text.encode()),
        "gateway": request.gateway,
        "wire": request.peer.wire.value,
        "address": request.peer.address,
        "credentialsType": asked.type.value,
        "signingRequest": bool(asked.csr),
        "trial": request.trial,
    }
    return _encode(told)


def read_answer(answer: object) -> Amendment | Denied | None:
    """What a hook decided; None: allowed as asked. Raises `ValueError` for what is no answer."""
    if answer is None:
        return None
    if not isinstance(answer, Mapping):
        raise ValueError("the answer is no object")
    decision = answer.get("decision")
    if decision == "deny":
        said = answer.get("reason")
        return Denied(printable(said.strip()[:MOST_SAID]) if isinstance(said, str) else "")
    if decision != "allow":
        raise ValueError('the decision is neither "allow" nor "deny"')
    amendment = Amendment(
        name=_name(answer.get("deviceName")),
        attributes=_attributes(answer.get("attributes")),
        groups=_groups(answer.get("groups", answer.get("group"))),
    )
    return None if amendment == _NOTHING else amendment


_NOTHING: Final = Amendment()


def _name(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not is_device_name(value.strip()):
        raise ValueError("deviceName is no name of a device")
    return value.strip()


def _attributes(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > MOST_ATTRIBUTES:
        raise ValueError(f"attributes is no object of at most {MOST_ATTRIBUTES}")
    for key, one in value.items():
        if not _is_text(key) or not _is_value(one):
            raise ValueError("attributes holds what is no plain value")
    return dict(value)


def _is_value(value: object) -> bool:
    match value:
        case bool():
            return True
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
        case str():
            storable = not any("\ud800" <= ch <= "\udfff" for ch in value)
            return len(value) <= MOST_TEXT and storable
        case _:
            return False


def _groups(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or len(names) > MOST_GROUPS:
        raise ValueError(f"groups is no list of at most {MOST_GROUPS}")
    if not all(_is_text(name) for name in names):
        raise ValueError("groups holds what is no name")
    return tuple(dict.fromkeys(name.strip() for name in names))


def _is_text(value: object) -> bool:
    """A name of something: some characters, none a control character."""
    return (
        isinstance(value, str)
        and bool(value.strip())
        and len(value) <= MOST_NAME_CHARACTERS
        and is_plain(value)
    )


def why_not(rule: HookRule, *, in_file: bool) -> HookTrouble | None:
    """Code of this process is named by files alone: who may save a profile from afar must not run
    what they like."""
    return _OUR_CODE if rule.entry_point and not in_file else None


# ── asking ────────────────────────────────────────────────────────────────────────────────────


class _Lane:
    """The way to one profile's hook."""

    __slots__ = ("breaker", "room", "rule", "waiting")

    def __init__(self, rule: HookRule) -> None:
        self.rule = rule
        self.breaker = Breaker()
        self.room = asyncio.Semaphore(MOST_AT_ONCE)
        self.waiting = 0


class BeforeHooks:
    """Asks a profile's before-hook. One for a process; `outcomes` counts how it ended."""

    def __init__(
        self,
        caller: Caller,
        clock: Clock,
        new_token: NewToken,
        *,
        outcomes: Outcomes | None = None,
        elapsed: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        self._caller = caller
        self._clock = clock
        self._new_token = new_token
        self._outcomes: Outcomes = defaultdict(int) if outcomes is None else outcomes
        self._elapsed = elapsed
        self._lanes: dict[int, _Lane] = {}

    async def ask(
        self, profile: DeviceProfile, request: ProvisionRequest
    ) -> ProvisionRequest | Refused:
        """The request, perhaps amended (`ProvisionRequest.amended`); or why it is refused."""
        rule = profile.policy.before
        if rule is None:
            return request
        lane = self._lane(profile.id, rule)
        trouble = why_not(rule, in_file=profile.source is not None)
        answer: object = trouble or await self._answer(lane, profile, request)
        if isinstance(answer, HookTrouble):
            return self._failed(lane, profile, request, answer)
        if isinstance(answer, Denied):
            self._count("deny")
            return Refused(RefusalReason.DENIED_BY_HOOK, said=answer.said)
        if isinstance(answer, Amendment):
            self._count("amend")
            return msgspec.structs.replace(request, amended=answer)
        self._count("allow")
        return request

    async def _answer(
        self, lane: _Lane, profile: DeviceProfile, request: ProvisionRequest
    ) -> Amendment | Denied | HookTrouble | None:
        breaker = lane.breaker
        if not breaker.enter(self._clock()):
            return HookTrouble("it failed too often and is left alone for a while")
        ended = False
        try:
            answer = await self._in_turn(lane, profile, request)
            ended = True
            if answer is _FULL:
                breaker.leave()
            elif isinstance(answer, HookTrouble):
                self._went_wrong(breaker, profile, answer)
            elif breaker.right():
                log.info("hook.closed", hook="before", profile=profile.name)
            return answer
        finally:
            if not ended:  # whoever asked went away
                breaker.leave()

    def _went_wrong(self, breaker: Breaker, profile: DeviceProfile, trouble: HookTrouble) -> None:
        names = {"hook": "before", "profile": profile.name, "reason": trouble.reason}
        if breaker.wrong(self._clock()):
            log.error("hook.open", **names, told="it is left alone, and then tried again")
        elif not breaker.is_open:
            log.warning("hook.failed", **names)

    async def _in_turn(
        self, lane: _Lane, profile: DeviceProfile, request: ProvisionRequest
    ) -> Amendment | Denied | HookTrouble | None:
        """The deadline counts from here, the wait for a turn included."""
        deadline_s = lane.rule.deadline_ms / 1000
        ends = self._elapsed() + deadline_s
        if lane.room.locked():
            if lane.waiting >= MOST_WAITING:
                return _FULL
            lane.waiting += 1
            try:
                await asyncio.wait_for(lane.room.acquire(), deadline_s)
            except TimeoutError:
                return _FULL
            finally:
                lane.waiting -= 1
        else:
            await lane.room.acquire()
        try:
            left_s = ends - self._elapsed()
            number = self._new_token()
            body = question(profile, request, self._clock(), number)
            answer = await self._caller.ask(
                lane.rule, body, deadline_s=max(left_s, 0.001), delivery=number
            )
        finally:
            lane.room.release()
        if isinstance(answer, HookTrouble):
            return answer
        try:
            return read_answer(answer)
        except ValueError as exc:
            return HookTrouble(str(exc))

    def _failed(
        self, lane: _Lane, profile: DeviceProfile, request: ProvisionRequest, trouble: HookTrouble
    ) -> ProvisionRequest | Refused:
        allowed = lane.rule.on_failure is OnFailure.ALLOW
        self._count("failed_allowed" if allowed else "failed_denied")
        log.debug("hook.no_decision", profile=profile.name, reason=trouble.reason, allowed=allowed)
        if allowed:
            return request
        wait_s = -(-lane.breaker.wait(self._clock()) // 1000)
        return Refused(RefusalReason.HOOK_FAILED, max(wait_s, _RETRY_S))

    def _lane(self, profile_id: int, rule: HookRule) -> _Lane:
        """A hook that was changed begins anew."""
        lane = self._lanes.get(profile_id)
        if lane is None or lane.rule != rule:
            if len(self._lanes) >= _MOST_LANES:
                self._lanes.clear()
            lane = self._lanes[profile_id] = _Lane(rule)
        return lane

    def _count(self, outcome: str) -> None:
        self._outcomes["before", outcome] += 1


_FULL: Final = HookTrouble("too many calls of it are under way")
