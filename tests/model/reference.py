"""What a gateway is to answer, on a page: devices, fleet secrets, windows and time.

It knows of no wire, no byte and no database, and does one thing after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

WINDOW_MS = 15 * 60_000
CREATE, WAITING, CHECK = "create", "waiting", "check"
"""Profiles: whose devices are made, made unless one of the name waits, or must wait."""


class Verdict(Enum):
    """How a request ends. NEW: with credentials nobody has seen; AGAIN: with those of before;
    CLAIMED: with those of the device that waited."""

    NEW = "new"
    AGAIN = "again"
    CLAIMED = "claimed"
    NOT_FOUND = "NOT_FOUND"
    FAILURE = "FAILURE"


@dataclass(frozen=True)
class Ask:
    """One request: `secret` is a label, `own` a token the device chose, "" what it leaves out."""

    secret: str
    name: str = ""
    nonce: str = ""
    own: str = ""


@dataclass
class FleetSecret:
    profile: str
    ends: int | None = None
    revoked: bool = False
    quarantined_since: int | None = None

    def admits(self, now: int) -> bool:
        over = self.ends is not None and now >= self.ends
        return not (over or self.revoked or self.quarantined_since is not None)


@dataclass(eq=False)
class Thing:
    """A device. `token` is None until an answer told it; `bound` is whose answer may be repeated
    until `until`; `secret` bore it, `since` then."""

    name: str
    profile: str
    token: str | None
    waits: bool = False
    revoked: bool = False
    secret: str = ""
    since: int = 0
    bound: Ask | None = None
    until: int = 0


@dataclass
class Reference:
    now: int
    secrets: dict[str, FleetSecret] = field(default_factory=dict)
    things: list[Thing] = field(default_factory=list)

    def named(self, name: str) -> Thing | None:
        return next((one for one in self.things if name and one.name == name), None)

    def owner(self, token: str) -> Thing | None:
        living = (one for one in self.things if not one.revoked)
        return next((one for one in living if token and one.token == token), None)

    # ── devices ───────────────────────────────────────────────────────────────────────────────

    def provision(self, ask: Ask) -> tuple[Verdict, Thing | None]:
        secret = self.secrets.get(ask.secret)
        if secret is None:
            return Verdict.NOT_FOUND, None
        if not secret.admits(self.now):
            return Verdict.FAILURE, None
        # Who waits is given what it has: whatever it chose tells nobody that it is the one.
        bound = ask if ask.nonce or (ask.own and secret.profile == CREATE) else None
        for thing in self.things:
            if bound is not None and thing.bound == bound and self.now < thing.until:
                return Verdict.AGAIN, thing
        there = self.named(ask.name)
        if secret.profile == CHECK and there is None:
            return Verdict.FAILURE, None
        if there is not None:
            if secret.profile == CREATE or there.profile != secret.profile:
                return Verdict.FAILURE, None
            if not there.waits or there.revoked or self.suspended(there):
                return Verdict.FAILURE, None
            return Verdict.CLAIMED, self._given(there, ask, bound)
        if self.owner(ask.own) is not None:
            return Verdict.FAILURE, None
        born = Thing(ask.name, secret.profile, ask.own or None)
        self.things.append(born)
        return Verdict.NEW, self._given(born, ask, bound)

    def _given(self, thing: Thing, ask: Ask, bound: Ask | None) -> Thing:
        """Its window takes the place of any that is over."""
        for one in self.things:
            if one.bound == bound:
                one.bound = None
        thing.waits, thing.secret, thing.since = False, ask.secret, self.now
        thing.bound, thing.until = bound, self.now + WINDOW_MS
        return thing

    def suspended(self, thing: Thing) -> bool:
        secret = self.secrets.get(thing.secret)
        since = None if secret is None else secret.quarantined_since
        return since is not None and since <= thing.since

    def opens(self, thing: Thing) -> bool:
        """Whether its credentials log it in now."""
        return thing.token is not None and not thing.revoked and not self.suspended(thing)

    def log_in(self, thing: Thing) -> bool:
        """The first use ends the window."""
        if self.opens(thing):
            thing.bound = None
            return True
        return False

    # ── operators ─────────────────────────────────────────────────────────────────────────────

    def add(self, name: str, profile: str, token: str) -> Thing:
        self.things.append(Thing(name, profile, token, waits=True, since=self.now))
        return self.things[-1]

    def rearm(self, thing: Thing) -> None:
        thing.waits, thing.bound = True, None

    def revoke(self, thing: Thing) -> None:
        thing.revoked, thing.bound = True, None

    def rotate(self, label: str, fresh: str, overlap_ms: int) -> None:
        old = self.secrets[label]
        ends = self.now + overlap_ms
        old.ends = ends if old.ends is None else min(old.ends, ends)
        self.secrets[fresh] = FleetSecret(old.profile)
