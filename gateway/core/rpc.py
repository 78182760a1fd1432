"""Calls to devices: sent, waited for, given up; kept for those that are away.

A call is made here and now (`call`), or stored: then a running gateway hears of it by a notice
(`take`). A persistent one waits in the store until its device wants calls (`offer`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Final

import structlog
from msgspec import Struct

from gateway.core.errors import GatehouseError
from gateway.core.model import Device, RpcCall, RpcState
from gateway.core.ports import Clock, Store
from gateway.core.sessions import Session, Sessions, Slot

log = structlog.get_logger()

FIRST_PERSISTENT: Final = 1 << 30
"""Request ids from here on are numbers of stored calls, so that an answer finds its call after a
restart too; those below count from 0 for each device."""
MOST_TO_ONE: Final = 100
"""Calls to one device that wait for their answers."""
MOST_WAITING: Final = 10_000
"""Calls to all devices that wait for their answers."""
MOST_UNDELIVERED: Final = 20
"""Stored calls sent to one device and not yet acknowledged; the others wait for their turn."""
SWEEP_EVERY_S: Final = 1.0


class RpcOutcome(Enum):
    """How a call that was made here and now ended."""

    ANSWERED = "answered"
    SENT = "sent"
    """A one-way call left."""
    NOT_CONNECTED = "not_connected"
    TIMED_OUT = "timed_out"
    TOO_MANY = "too_many"
    """More calls wait for answers than may."""


class RpcResult(Struct, frozen=True):
    """`response` is the device's text, with ANSWERED alone."""

    outcome: RpcOutcome
    response: str | None = None


_STATES: Final = {
    RpcOutcome.ANSWERED: RpcState.SUCCESSFUL,
    RpcOutcome.SENT: RpcState.SUCCESSFUL,
    RpcOutcome.NOT_CONNECTED: RpcState.FAILED,
    RpcOutcome.TIMED_OUT: RpcState.TIMEOUT,
    RpcOutcome.TOO_MANY: RpcState.FAILED,
}


class _Line:
    """One device's calls under way: answers awaited here, and the stored calls that were sent and
    not yet acknowledged, with the session they went to."""

    __slots__ = ("awaited", "last_id", "sent")

    def __init__(self) -> None:
        self.last_id = -1
        self.awaited: dict[int, asyncio.Future[str]] = {}
        self.sent: dict[int, Session] = {}

    def undelivered(self, session: Session) -> int:
        return sum(1 for one in self.sent.values() if one is session)


class Rpc:
    """Makes calls through the sessions there are. One for a process."""

    def __init__(self, sessions: Sessions, store: Store, clock: Clock) -> None:
        self._sessions = sessions
        self._store = store
        self._clock = clock
        self._lines: dict[int, _Line] = {}
        self._waiting = 0
        self._attempts: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # ── here and now ────────────────────────────────────────────────────────────────────────

    async def call(self, call: RpcCall, timeout_s: float) -> RpcResult:
        """Send a call to a device that is here, and wait for its answer if it is two-way."""
        line = self._line(call.device_id)
        if len(line.awaited) >= MOST_TO_ONE or self._waiting >= MOST_WAITING:
            return RpcResult(RpcOutcome.TOO_MANY)
        request_id = self._next_id(line, call.device_id)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # Before it is sent: the answer may come within the same turn of the loop.
        line.awaited[request_id] = answer
        self._waiting += 1
        try:
            if not self._send(request_id, call, _nothing):
                return RpcResult(RpcOutcome.NOT_CONNECTED)
            if not call.two_way:
                return RpcResult(RpcOutcome.SENT)
            async with asyncio.timeout(timeout_s):
                return RpcResult(RpcOutcome.ANSWERED, await answer)
        except TimeoutError:
            return RpcResult(RpcOutcome.TIMED_OUT)
        finally:
            self._waiting -= 1
            line.awaited.pop(request_id, None)
            self._tidy(call.device_id)

    async def answered(self, device: Device, request_id: int, response: str) -> bool:
        """The device answered. A stored call's answer is on disk when this returns.

        False when nobody waits for that answer (any more).
        """
        line = self._lines.get(device.id)
        if request_id >= FIRST_PERSISTENT:
            return await self._answered_stored(device, request_id - FIRST_PERSISTENT, response)
        future = line.awaited.get(request_id) if line is not None else None
        if future is None or future.done():
            return False
        future.set_result(response)
        return True

    def _next_id(self, line: _Line, device_id: int) -> int:
        """Ids count from 0; but ThingsBoard's HTTP device class takes 0 for no id at all."""
        polls = any(one.slot is Slot.POLL for one in self._sessions.of(device_id))
        line.last_id = (line.last_id + 1) % FIRST_PERSISTENT or (1 if polls else 0)
        return line.last_id

    def _send(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        """Offer it to the sessions that want calls, the newest first."""
        return any(
            session.outlet.call(request_id, call, delivered)
            for session in reversed(self._sessions.of(call.device_id))
            if session.wants_calls
        )

    # ── stored calls ────────────────────────────────────────────────────────────────────────

    async def take(self, call_id: int) -> None:
        """A call was stored: make it, or leave it to wait for its device."""
        call = await self._store.stored_call(call_id)
        if call is None or call.state.final:
            return
        if call.persistent:
            for session in reversed(self._sessions.of(call.device_id)):
                if session.wants_calls and await self._send_stored(session, call):
                    return
        else:
            self._begin(self._make(call))

    async def offer(self, session: Session) -> None:
        """The session wants calls from now on: what waits for its device goes to it."""
        device_id = session.device.id
        for call in await self._store.waiting_calls(device_id, self._clock()):
            full = self._line(device_id).undelivered(session) >= MOST_UNDELIVERED
            if session.closed or not session.wants_calls or full:
                break
            await self._send_stored(session, call)
        self._tidy(device_id)

    def offer_soon(self, session: Session) -> None:
        """`offer`, in a task of its own."""
        self._begin(self.offer(session))

    async def sweep(self) -> None:
        """End the calls whose time is over, again and again, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            for device_id in list(self._lines):
                self._tidy(device_id)
            try:
                await self._store.end_calls(self._clock())
            except GatehouseError as exc:
                log.debug("rpc.not_swept", reason=str(exc))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _make(self, call: RpcCall) -> None:
        """A stored call that does not wait for its device: its caller reads how it ended."""
        left_ms = call.expires_at - self._clock()
        result = RpcResult(RpcOutcome.TIMED_OUT)
        if left_ms > 0:
            result = await self.call(call, left_ms / 1000)
        await self._store.mark_call(call.id, _STATES[result.outcome], response=result.response)

    async def _send_stored(self, session: Session, call: RpcCall) -> bool:
        """Send a persistent call once to one session. False when it did not leave."""
        line = self._line(call.device_id)
        before = line.sent.get(call.id)
        if before is not None and not before.closed:
            return True
        attempts = self._attempts.get(call.id, 0)
        if call.retries and attempts > call.retries:
            await self._store.mark_call(call.id, RpcState.FAILED)
            return True
        line.sent[call.id] = session
        # Marked first: whoever holds an older copy of this call learns here that it is done.
        moved = await self._store.mark_call(call.id, RpcState.SENT)
        if not moved or not session.outlet.call(
            FIRST_PERSISTENT + call.id, call, lambda: self._begin(self._delivered(call, session))
        ):
            self._forget(call.device_id, call.id)
            return not moved
        self._attempts[call.id] = attempts + 1
        return True

    async def _delivered(self, call: RpcCall, session: Session) -> None:
        """The device has it: a one-way call is done, and the next may go."""
        done = RpcState.DELIVERED if call.two_way else RpcState.SUCCESSFUL
        await self._store.mark_call(call.id, done)
        was_full = self._line(call.device_id).undelivered(session) >= MOST_UNDELIVERED
        self._unsend(call)
        if was_full and not session.closed:
            await self.offer(session)

    async def _answered_stored(self, device: Device, call_id: int, response: str) -> bool:
        call = await self._store.stored_call(call_id)
        if call is None or call.device_id != device.id:
            return False
        self._forget(device.id, call_id)
        return await self._store.mark_call(call_id, RpcState.SUCCESSFUL, response=response)

    # ── what is remembered ──────────────────────────────────────────────────────────────────

    def _line(self, device_id: int) -> _Line:
        line = self._lines.get(device_id)
        if line is None:
            line = self._lines[device_id] = _Line()
        return line

    def _unsend(self, call: RpcCall) -> None:
        """Its way to the device is over; of a two-way call the answer is still to come."""
        line = self._lines.get(call.device_id)
        if line is not None:
            line.sent.pop(call.id, None)
        if not call.two_way:
            self._forget(call.device_id, call.id)

    def _forget(self, device_id: int, call_id: int) -> None:
        self._attempts.pop(call_id, None)
        line = self._lines.get(device_id)
        if line is not None:
            line.sent.pop(call_id, None)
            self._tidy(device_id)

    def _tidy(self, device_id: int) -> None:
        """A device that is gone and waits for nothing is forgotten; its ids begin at 0 again."""
        line = self._lines.get(device_id)
        if line is not None and not line.awaited and not self._sessions.of(device_id):
            for call_id in line.sent:
                self._attempts.pop(call_id, None)
            del self._lines[device_id]

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _nothing() -> None:
    """Nobody asks whether a call made here and now was acknowledged."""


async def _logged(work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except GatehouseError as exc:
        log.warning("rpc.not_kept", reason=str(exc))
