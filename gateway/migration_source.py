"""A running ThingsBoard, read through its REST: what a migration copies from."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from gateway.core.errors import GatehouseError
from gateway.core.model import Secret

MOST_ANSWER_BYTES: Final = 67_108_864
MOST_PAGES: Final = 1_000_000
PAGE_SIZE: Final = 100
_TRIES: Final = 6
_LONGEST_WAIT_S: Final = 60.0
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What passes: a limit of calls, a server that starts or is busy."""


class SourceTrouble(GatehouseError):
    """The source cannot be read. The message is a sentence for a person; it shows no secret."""


class Missing(SourceTrouble):
    """It is not there (any more), or its user may not see it."""


class ThingsBoardSource:
    """Logs in, asks, waits and asks again. An async context manager.

    `wait_s` is the first pause before something is tried again; each is twice as long as the one
    before. `timeout_s` is for one answer.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: Secret,
        *,
        ca: ssl.SSLContext | None = None,
        timeout_s: float = 60.0,
        wait_s: float = 0.5,
        connections: int = 8,
    ) -> None:
        self.url = url.rstrip("/")
        self.user = user
        self._password = password
        self._ca = ca
        self._timeout_s = timeout_s
        self._wait_s = wait_s
        self._connections = connections
        self._token: Secret | None = None
        self._logging_in = asyncio.Lock()

    async def __aenter__(self) -> ThingsBoardSource:
        connector = aiohttp.TCPConnector(
            limit=self._connections, ssl=self._ca if self._ca is not None else True
        )
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=self._timeout_s)
        )
        try:
            await self._log_in(None)
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The JSON at `path`. Raises `Missing`, and `SourceTrouble` when it cannot be had."""
        token = self._token
        status, body = await self._ask("GET", path, query=query)
        if status == 401:
            await self._log_in(token)
            status, body = await self._ask("GET", path, query=query)
        if status in (403, 404):
            raise Missing(f"{path} is not there for {self.user} ({status}).")
        if status != 200:
            raise SourceTrouble(f"{self.url}{path} answers {status}.")
        return self._decoded(path, body)

    async def pages(
        self, path: str, *, since: int = 0, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[int, list[Any], int]]:
        """Page by page, the oldest first, from page `since`: its number, its rows, rows in all."""
        for number in range(since, MOST_PAGES):
            asked = {
                "pageSize": str(PAGE_SIZE),
                "page": str(number),
                "sortProperty": "createdTime",
                "sortOrder": "ASC",
                **(query or {}),
            }
            found = await self.get(path, asked)
            try:
                rows, total = list(found["data"]), int(found["totalElements"])
                more = bool(found["hasNext"])
            except (TypeError, KeyError, ValueError):
                raise SourceTrouble(
                    f"{self.url}{path} answers something else than a page."
                ) from None
            yield number, rows, total
            if not more:
                return

    async def _log_in(self, used: Secret | None) -> None:
        """A fresh token, unless another call got one since `used` was refused."""
        async with self._logging_in:
            if self._token is not None and self._token != used:
                return
            body = {"username": self.user, "password": self._password.reveal()}
            self._token = None
            path = "/api/auth/login"
            status, answer = await self._ask("POST", path, body=msgspec.json.encode(body))
            if status in (400, 401, 403):
                raise SourceTrouble(
                    f"{self.url} does not let {self.user} in: wrong name or password, or the "
                    "account is not enabled."
                )
            if status != 200:
                raise SourceTrouble(f"{self.url}{path} answers {status}: is it a ThingsBoard?")
            found = self._decoded(path, answer)
            token = found.get("token") if isinstance(found, dict) else None
            if not isinstance(token, str):
                raise SourceTrouble(f"{self.url} gives no token: is it a ThingsBoard?")
            self._token = Secret(token)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, bytes]:
        """Status and body; what passes is waited for."""
        wait_s, trouble = self._wait_s, ""
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))
                wait_s *= 2
            try:
                status, answer, asked_s = await self._once(method, path, query, body)
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                trouble = f"cannot be reached ({str(exc) or type(exc).__name__})"
                continue
            if status not in _AGAIN:
                return status, answer
            trouble = f"answers {status}"
            wait_s = max(wait_s, asked_s)
        raise SourceTrouble(f"{self.url}{path} {trouble}, after {_TRIES} tries.")

    async def _once(
        self, method: str, path: str, query: Mapping[str, str] | None, body: bytes | None
    ) -> tuple[int, bytes, float]:
        """Status, body, and how long to wait if it says so."""
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["X-Authorization"] = f"Bearer {self._token.reveal()}"
        async with self._session.request(
            method,
            self.url + path,
            params=query,
            data=body,
            headers=headers,
            allow_redirects=False,
        ) as answer:
            content = await answer.content.read(MOST_ANSWER_BYTES + 1)
            while not answer.content.at_eof() and len(content) <= MOST_ANSWER_BYTES:
                content += await answer.content.read(MOST_ANSWER_BYTES + 1 - len(content))
            if len(content) > MOST_ANSWER_BYTES:
                raise SourceTrouble(f"{self.url}{path} answers more than it should.")
            return answer.status, content, _seconds(answer.headers.get("Retry-After", ""))

    def _decoded(self, path: str, body: bytes) -> Any:
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise SourceTrouble(f"{self.url}{path} answers something else than JSON.") from None


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0


def proven_url(text: str) -> str:
    """An address of http or https, without a user. Raises `SourceTrouble`."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise SourceTrouble("an address looks like https://thingsboard.example.com")
    if parts.username is not None or parts.password is not None:
        raise SourceTrouble("the address holds a name or a password; give the name with --user.")
    return text.rstrip("/")


def is_exposed(url: str) -> bool:
    """Whether a password goes over a network in clear."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


Progress = Callable[[str, int, int], None]
"""Told what is being copied, how many of it are done, and how many there are."""
