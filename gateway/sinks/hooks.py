"""Reaches hooks of both kinds; implements `core.hooking.Caller`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.core.model import HookRule, HookTrouble
from gateway.core.ports import Clock
from gateway.sinks.function_hook import FunctionHooks
from gateway.sinks.web_hook import MOST_ANSWER, WebHooks


class HookCaller:
    """One for a process, until `close`. Secrets are looked up in `environ` at each call."""

    def __init__(self, environ: Mapping[str, str], clock: Clock) -> None:
        self._web = WebHooks(environ, clock)
        self._functions = FunctionHooks()

    async def close(self) -> None:
        await self._functions.close()
        await self._web.close()

    async def prove(self, rule: HookRule) -> HookTrouble | None:
        """Why a hook cannot be called, as far as that can be told without calling it."""
        if rule.entry_point:
            return await self._functions.prove(rule.entry_point)
        return self._web.prove(rule)

    async def ask(
        self, rule: HookRule, body: bytes, *, deadline_s: float, delivery: str
    ) -> object | HookTrouble:
        if rule.entry_point:
            given = await self._functions.call(rule.entry_point, body, deadline_s=deadline_s)
            return _as_json(given)
        answer = await self._web.call(rule, body, deadline_s=deadline_s, delivery=delivery)
        if isinstance(answer, HookTrouble):
            return answer
        try:
            decoded = msgspec.json.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return HookTrouble("its answer is no JSON")
        # A function may say nothing; a web service that answers `null` is broken.
        return HookTrouble("the answer is no object") if decoded is None else decoded

    async def tell(
        self, rule: HookRule, body: bytes, *, deadline_s: float, delivery: str
    ) -> HookTrouble | None:
        answer: object
        if rule.entry_point:
            answer = await self._functions.call(rule.entry_point, body, deadline_s=deadline_s)
        else:
            answer = await self._web.call(rule, body, deadline_s=deadline_s, delivery=delivery)
        return answer if isinstance(answer, HookTrouble) else None


def _as_json(given: object) -> object | HookTrouble:
    """What a function returned, as a web service would have answered it: plain, and its own."""
    if given is None or isinstance(given, HookTrouble):
        return given
    try:
        text = msgspec.json.encode(given)
        return msgspec.json.decode(text) if len(text) <= MOST_ANSWER else _TOO_LONG
    except Exception as exc:  # whatever the methods of a strange object raise
        return HookTrouble(f"it returned what is no JSON ({type(exc).__name__})")


_TOO_LONG = HookTrouble(f"it returned more than {MOST_ANSWER} bytes")
