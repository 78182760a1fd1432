"""Random lives of a gateway, held step by step against the reference.

    python tests/model/machine.py [--steps 10000]

After each step: no two devices of one name, and as many as there should be; no credential was given
to a second asker; whatever a device was answered with is stored. And every answer is the one that
the reference gives.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

sys.path.insert(0, str(Path(__file__).parent))

from reference import CHECK, WAITING, Ask, FleetSecret, Reference, Thing, Verdict
from subject import PROFILES, WIRES, UnderTest

NAMES = ("anna", "berta", "clara", "dora")
NONCES = ("nonce-of-the-first-1", "nonce-of-the-other-2", "nonce-of-the-third-3")
OWN = ("own-token-0000000001", "own-token-0000000002")
GRANTED = (Verdict.NEW, Verdict.AGAIN, Verdict.CLAIMED)
BEGIN = 1_800_000_000_000

wires = st.sampled_from(WIRES)
names = st.sampled_from(NAMES)
profiles = st.sampled_from(tuple(PROFILES))
asks = st.builds(
    Ask,
    secret=st.integers(0, 9).map(str),  # which of those there are by then; `_known` says
    name=st.sampled_from((*NAMES, *NAMES, "")),
    nonce=st.sampled_from((*NONCES, "")),
    own=st.sampled_from(("", "", "", *OWN)),
)


class Machine(RuleBasedStateMachine):
    """One gateway from its first start on."""

    asked = Bundle("asked")
    steps: ClassVar[Counter[str]] = Counter()

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(prefix="gatehouse-model-")
        self.real = UnderTest(Path(self.folder.name), BEGIN)
        self.model = Reference(BEGIN)
        self.model.secrets = {name: FleetSecret(name) for name in PROFILES}
        self.askers: dict[str, tuple[Ask, int]] = {}
        self.serial = 0
        self.do(self.real.start())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            try:
                self.runner.run(self.real.stop())
            finally:
                self.runner.close()
                self.folder.cleanup()

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    def count(self, what: str) -> None:
        self.steps[what] += 1
        self.real.now += 1
        self.model.now += 1

    # ── devices ask ───────────────────────────────────────────────────────────────────────────

    def _known(self, ask: Ask) -> Ask:
        """With the label of a secret instead of a number; the last of them is wrong."""
        labels = [*self.model.secrets, "wrong"]
        label = ask.secret if ask.secret in labels else labels[int(ask.secret) % len(labels)]
        return Ask(label, ask.name, ask.nonce, ask.own)

    @rule(target=asked, ask=asks, wire=wires, lost=st.integers(0, 3))
    def first_ask(self, ask: Ask, wire: str, lost: int) -> Any:
        ask = self._known(ask)
        self.count("ask")
        self._ask(ask, wire, lost=not lost)
        return ask

    @rule(ask=asked, wire=wires, lost=st.integers(0, 3))
    def ask_again(self, ask: Ask, wire: str, lost: int) -> None:
        self.count("retry")
        self._ask(ask, wire, lost=not lost)

    @rule(ask=asked, other=asks, wire=wires, what=st.integers(0, 2))
    def ask_as_another(self, ask: Ask, other: Ask, wire: str, what: int) -> None:
        """One thing differs: the nonce, the chosen token, or the secret."""
        other = self._known(other)
        stranger = (
            Ask(ask.secret, ask.name, other.nonce, ask.own),
            Ask(ask.secret, ask.name, ask.nonce, other.own),
            Ask(other.secret, ask.name, ask.nonce, ask.own),
        )[what]
        self.count("stranger")
        self._ask(stranger, wire, lost=False)

    def _ask(self, ask: Ask, wire: str, *, lost: bool) -> None:
        verdict, thing = self.model.provision(ask)
        if lost:
            self.do(self.real.provision_in_vain(wire, ask))
            return
        self._hold(ask, verdict, thing, *self.do(self.real.provision(wire, ask)))

    def _hold(
        self, ask: Ask, verdict: Verdict, thing: Thing | None, status: str, token: str
    ) -> None:
        """The answer is that of the reference, and to its first asker alone."""
        if thing is None:
            assert (status, token) == (verdict.value, ""), (ask, verdict, status)
            return
        assert status == "SUCCESS", (ask, verdict, status)
        assert thing.token in (None, token), (ask, verdict, "another credential than before")
        if thing.token is None:
            assert self.model.owner(token) is None, "somebody else's credential"
            thing.token = token
        self._only_asker(ask, token)
        if self.model.opens(thing):
            stored = self.do(self.real.stored(token))
            assert stored is not None, "answered, and not stored"
            assert stored == (ask.name or stored)
            thing.name = stored

    def _only_asker(self, ask: Ask, token: str) -> None:
        """This does not rely on the reference: who asks is known by what it shows."""
        self.serial += 1
        asker = (ask, 0 if ask.nonce or ask.own == token else self.serial)
        assert self.askers.setdefault(token, asker) == asker, (ask, "a second asker was answered")

    @rule(ask=asked, some=st.lists(wires, min_size=2, max_size=4))
    def ask_everywhere(self, ask: Ask, some: list[str]) -> None:
        """The same request several times at once: all are one device, or one of them is."""
        self.count("at once")
        verdicts = [self.model.provision(ask) for _ in some]
        answers = self.do(self._at_once([(wire, ask) for wire in some]))
        told = sorted(status != "SUCCESS" for status, _ in answers)
        assert told == sorted(verdict not in GRANTED for verdict, _ in verdicts), (ask, answers)
        given = [answer for answer in answers if answer[1]]
        assert len(set(given)) <= 1 or not ask.name, (ask, "two devices of one request")
        granted = [one for one in verdicts if one[1] is not None]
        for (verdict, thing), answer in zip(granted, given, strict=True):
            self._hold(ask, verdict, thing, *answer)

    @rule(
        name=names,
        some=st.lists(wires, min_size=2, max_size=3),
        profile=st.sampled_from((*PROFILES,)),
    )
    def race(self, name: str, profile: str, some: list[str]) -> None:
        """Different devices of one name at once: one of them gets it."""
        self.count("race")
        there = [Ask(profile, name, nonce) for nonce in NONCES[: len(some)]]
        if any(one.bound in there for one in self.model.things):
            return  # then it is a repetition, which has rules of its own
        answers = self.do(self._at_once(list(zip(some, there, strict=True))))
        winners = [at for at, (status, _) in enumerate(answers) if status == "SUCCESS"]
        assert len(winners) <= 1, "two devices of one name"
        order = winners + [at for at in range(len(there)) if at not in winners]
        for at in order:
            self._hold(there[at], *self.model.provision(there[at]), *answers[at])

    async def _at_once(self, requests: list[tuple[str, Ask]]) -> list[tuple[str, str]]:
        return await asyncio.gather(*(self.real.provision(wire, ask) for wire, ask in requests))

    # ── devices come ──────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: any(one.token for one in self.model.things))
    @rule(which=st.integers(0, 9), wire=wires)
    def log_in(self, which: int, wire: str) -> None:
        known = [one for one in self.model.things if one.token]
        thing = known[which % len(known)]
        self.count("login")
        assert thing.token is not None
        heir = self.model.owner(thing.token) or thing  # a revoked token may be another's by now
        came = self.do(self.real.log_in(wire, thing.token))
        assert came == self.model.log_in(heir), (heir, came)

    # ── operators ─────────────────────────────────────────────────────────────────────────────

    @rule(name=names, profile=st.sampled_from((WAITING, CHECK)))
    def add(self, name: str, profile: str) -> None:
        if self.model.named(name) is not None:
            return
        self.count("add")
        self.serial += 1
        token = f"factory-token-{self.serial:06}"
        self.do(self.real.add(name, profile, token))
        self.model.add(name, profile, token)

    @rule(name=names)
    def rearm(self, name: str) -> None:
        thing = self.model.named(name)
        if thing is None:
            return
        self.count("rearm")
        self.do(self.real.rearm(name))
        self.model.rearm(thing)
        self.askers.pop(thing.token or "", None)  # the operator wants it given once more

    @rule(name=names, sure=st.integers(0, 2))
    def revoke(self, name: str, sure: int) -> None:
        thing = self.model.named(name)
        if thing is None or thing.revoked or sure:
            return
        self.count("revoke")
        self.do(self.real.revoke(name))
        self.model.revoke(thing)
        self.askers.pop(thing.token or "", None)

    @rule(which=st.integers(0, 9), overlap_ms=st.sampled_from((0, 60_000, 86_400_000)))
    def rotate(self, which: int, overlap_ms: int) -> None:
        living = [name for name, one in self.model.secrets.items() if not one.revoked]
        if not living or len(self.model.secrets) > 8:
            return
        self.count("rotate")
        label, fresh = living[which % len(living)], f"secret-{len(self.model.secrets)}"
        self.do(self.real.rotate(label, fresh, overlap_ms))
        self.model.rotate(label, fresh, overlap_ms)

    @rule(which=st.integers(0, 9), sure=st.integers(0, 3))
    def revoke_secret(self, which: int, sure: int) -> None:
        living = [name for name, one in self.model.secrets.items() if not one.revoked]
        if sure or len(living) < 4:
            return
        self.count("revoke secret")
        label = living[which % len(living)]
        self.do(self.real.revoke_secret(label))
        self.model.secrets[label].revoked = True

    @rule(which=st.integers(0, 9), back_ms=st.sampled_from((0, 5, 300_000, BEGIN)))
    def quarantine(self, which: int, back_ms: int) -> None:
        self.count("quarantine")
        label = list(self.model.secrets)[which % len(self.model.secrets)]
        since = self.model.now - back_ms
        self.do(self.real.quarantine(label, since))
        self.model.secrets[label].quarantined_since = since

    @precondition(lambda self: any(one.quarantined_since for one in self.model.secrets.values()))
    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        held = [name for name, one in self.model.secrets.items() if one.quarantined_since]
        self.count("release")
        label = held[which % len(held)]
        self.do(self.real.release(label))
        self.model.secrets[label].quarantined_since = None

    # ── the world ─────────────────────────────────────────────────────────────────────────────

    @rule(ms=st.sampled_from((10, 60_000, 5 * 60_000, 16 * 60_000)))
    def time_passes(self, ms: int) -> None:
        self.count("time")
        self.real.now += ms
        self.model.now += ms

    @rule(sure=st.integers(0, 2))
    def restart(self, sure: int) -> None:
        if sure:
            return
        self.count("restart")
        self.do(self.real.stop())
        self.do(self.real.start())
        for thing in self.model.things:
            if thing.token and self.model.opens(thing):
                assert self.do(self.real.stored(thing.token)) is not None, "lost at a restart"

    @invariant()
    def each_device_is_there_once(self) -> None:
        if not hasattr(self, "real"):
            return
        stored = self.real.names()
        assert len(stored) == len(set(stored)), "two devices of one name"
        assert len(stored) == len(self.model.things), "a device too many, or too few"
        assert {one.name for one in self.model.things if one.name} <= set(stored)


def run(steps: int, *, length: int = 50, shrink: bool = True) -> Counter[str]:
    """At least so many steps in lives of `length` at most; what was done how often.

    `shrink`: look for the shortest life that goes wrong, which takes minutes.
    """
    Machine.steps.clear()
    chosen = settings(
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        max_examples=max(1, steps // length),
        stateful_step_count=length,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    while Machine.steps.total() < steps:
        run_state_machine_as_test(Machine, settings=chosen)
    return Machine.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--as-found", action="store_true", help="do not look for a shorter life")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began = time.perf_counter()
    done = run(given.steps, shrink=not given.as_found)
    print(f"{done.total()} steps in {time.perf_counter() - began:.0f} s, all as the reference says")
    for what, times in done.most_common():
        print(f"  {what:14} {times}")


if __name__ == "__main__":
    main()
