"""The hooks of profiles, put together: one of each for a process."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping

import structlog

from gateway.clock import now_ms
from gateway.core.after_hooks import AfterHooks
from gateway.core.hooking import BeforeHooks, Outcomes, why_not
from gateway.core.model import DeviceProfile
from gateway.core.ports import Clock
from gateway.core.tokens import new_token
from gateway.sinks.hooks import HookCaller
from gateway.store.sql_hooks import SqlHooks
from gateway.store.sql_store import SqlStore

log = structlog.get_logger()


class Hooks:
    """Asks before a birth, tells after. `outcomes` counts calls by how they ended."""

    def __init__(
        self, store: SqlStore, environ: Mapping[str, str] = os.environ, clock: Clock = now_ms
    ) -> None:
        self.outcomes: Outcomes = defaultdict(int)
        self.caller = HookCaller(environ, clock)
        self.before = BeforeHooks(self.caller, clock, new_token, outcomes=self.outcomes)
        self.after = AfterHooks(SqlHooks(store), self.caller, clock, outcomes=self.outcomes)

    async def prove(self, profiles: Iterable[DeviceProfile]) -> list[str]:
        """Load what these name, and say loudly what cannot be called: such a hook has failed."""
        wrong: list[str] = []
        for profile in profiles:
            for kind, rule in (("before", profile.policy.before), ("after", profile.policy.after)):
                if rule is None:
                    continue
                in_file = profile.source is not None
                trouble = why_not(rule, in_file=in_file) or await self.caller.prove(rule)
                if trouble is not None:
                    wrong.append(f"profile {profile.name}, [hooks.{kind}]: {trouble.reason}")
                    names = {"profile": profile.name, "hook": kind, "reason": trouble.reason}
                    log.error("hook.unusable", **names)
        return wrong

    async def close(self, grace_s: float) -> None:
        """Finish what is being told, then let go. After `after.run` ended."""
        await self.after.close(grace_s)
        await self.caller.close()
