"""A hook that is a web service of the operator's: `POST url` with a signed JSON body."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Final

import aiohttp
import structlog

from gateway.core.model import HookRule, HookTrouble, Secret
from gateway.core.ports import Clock
from gateway.sinks.signing import DELIVERY, MIN_SECRET_CHARACTERS, signed

log = structlog.get_logger()

MOST_CALLS: Final = 256
"""Connections of all hooks together."""
MOST_ANSWER: Final = 65_536
_OURS: Final = "GATEHOUSE_"
_FOR_HOOKS: Final = "GATEHOUSE_HOOK"
"""Other variables with our name hold what no profile may use (the master key)."""


def hook_secret(rule: HookRule, environ: Mapping[str, str]) -> Secret | HookTrouble:
    """The secret that a rule names."""
    name = rule.secret_env
    if name.startswith(_OURS) and not name.startswith(_FOR_HOOKS):
        return HookTrouble(f"secret_env: {name} is not for hooks")
    text = environ.get(name, "")
    if not text:
        return HookTrouble(f"the environment variable {name} is not set")
    if len(text) < MIN_SECRET_CHARACTERS:
        return HookTrouble(f"{name} has fewer than {MIN_SECRET_CHARACTERS} characters")
    return Secret(text)


class WebHooks:
    """Calls web services, between the first call and `close`. Follows no redirect."""

    def __init__(self, environ: Mapping[str, str], clock: Clock) -> None:
        self._environ = environ
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def prove(self, rule: HookRule) -> HookTrouble | None:
        """Why it cannot be called, as far as that can be told here."""
        secret = hook_secret(rule, self._environ)
        return secret if isinstance(secret, HookTrouble) else None

    async def call(
        self, rule: HookRule, body: bytes, *, deadline_s: float, delivery: str
    ) -> bytes | HookTrouble:
        """The body of its answer, whose status was one of success."""
        secret = hook_secret(rule, self._environ)
        if isinstance(secret, HookTrouble):
            return secret
        headers = signed(secret, body, self._clock() // 1000) | {DELIVERY: delivery}
        try:
            async with asyncio.timeout(deadline_s):
                return await self._post(rule.url, body, headers)
        except TimeoutError:
            return HookTrouble(f"no answer within {round(deadline_s * 1000)} ms")
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            return HookTrouble(_reason(exc))

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> bytes | HookTrouble:
        async with self._open().post(
            url, data=body, headers=headers, allow_redirects=False
        ) as response:
            if response.status // 100 != 2:
                return HookTrouble(f"it answered with status {response.status}")
            answer = b""
            while len(answer) <= MOST_ANSWER:
                part = await response.content.read(MOST_ANSWER + 1 - len(answer))
                if not part:
                    return answer
                answer += part
            return HookTrouble(f"its answer is longer than {MOST_ANSWER} bytes")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None),
                connector=aiohttp.TCPConnector(limit=MOST_CALLS),
                cookie_jar=aiohttp.DummyCookieJar(),
                # What is small on the wire must not become large here.
                auto_decompress=False,
                headers={
                    "User-Agent": "gatehouse",
                    "Content-Type": "application/json",
                    "Accept-Encoding": "identity",
                },
            )
        return self._session


def _reason(exc: Exception) -> str:
    """What went wrong, without the address, whose path or query may hold a secret."""
    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    if isinstance(cause, socket.gaierror):
        return "its server's name is not known"
    number = cause.errno if isinstance(cause, OSError) else None
    return os.strerror(number) if number else type(exc).__name__
