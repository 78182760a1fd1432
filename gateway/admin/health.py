"""`/healthz` and `/readyz`: does the process live, and would it serve a device right now?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

from gateway.admin.errors import ErrorBody
from gateway.core.errors import GatehouseError
from gateway.wire.call import Call, Format, Reply, Status
from gateway.wire.operation import Answer, Operation
from gateway.wire.route import Route

_PROBE_EVERY_S = 1.0
"""Asking readiness more often than this repeats the last answer: it costs a disk write."""


class Live(msgspec.Struct):
    status: str


class Ready(msgspec.Struct):
    """`checks` says of each part `ok`, or what is wrong."""

    status: str
    checks: dict[str, str]


_LIVE = Operation(
    summary="Does the process live?",
    tag="Operation",
    public=True,
    answers={200: Answer("It does.", Live)},
)
_READY = Operation(
    summary="Would a device be served right now?",
    tag="Operation",
    public=True,
    answers={200: Answer("It would.", Ready), 503: Answer("It would not.", Ready | ErrorBody)},
)


class Health:
    """Tells liveness and readiness.

    `listening()` is True once all listeners accept, and again False while draining. `probe()`
    writes to the store and raises a `GatehouseError` when it cannot.
    """

    def __init__(
        self,
        *,
        listening: Callable[[], bool],
        probe: Callable[[], Awaitable[None]],
        timeout_s: float = 2.0,
    ) -> None:
        self._listening = listening
        self._probe = probe
        self._timeout_s = timeout_s
        self._asked_at = 0.0
        self._asking: asyncio.Task[str] | None = None

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                name="health.live",
                handler=self.live,
                http=("GET /healthz",),
                quiet=True,
                operation=_LIVE,
            ),
            Route(
                name="health.ready",
                handler=self.ready,
                http=("GET /readyz",),
                http_codes={Status.REFUSED: 503},
                quiet=True,
                operation=_READY,
            ),
        )

    async def live(self, call: Call) -> Reply:
        return Reply(b'{"status":"ok"}', format=Format.JSON)

    async def ready(self, call: Call) -> Reply:
        checks = {
            "listeners": "ok" if self._listening() else "not accepting",
            "store": await self._store_now() or "ok",
        }
        good = all(said == "ok" for said in checks.values())
        body = msgspec.json.encode({"status": "ready" if good else "not ready", "checks": checks})
        return Reply(body, Status.OK if good else Status.REFUSED, Format.JSON)

    async def _store_now(self) -> str:
        """What the store said within the last second; all who ask at once share one probe."""
        if self._asking is None or (
            self._asking.done() and time.monotonic() - self._asked_at > _PROBE_EVERY_S
        ):
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._ask_store(), name="health.probe")
        return await asyncio.shield(self._asking)

    async def _ask_store(self) -> str:
        """Empty when the store could be written, else what to tell."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._probe()
        except TimeoutError:
            return "did not commit in time"
        except GatehouseError:
            return "cannot be written"
        return ""
