"""Calls to devices: sent, waited for, given up; kept for those that are away.

A call is made here and now (`call`), or stored: then a running gateway hears of it by a notice
(`take`). A persistent one waits in the store until its device wants calls (`offer`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Final

import structlog
from msgspec import Struct

from gateway.core.errors import GatehouseError
from gateway.core.model import Device, Order, RpcCall, RpcState
from gateway.core.ports import Clock, Store
from gateway.core.sessions import Obedient, Session, Sessions, Slot

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
MOST_COUNTED: Final = 10_000
"""Stored calls with a bound of their own of which it is known how often they were sent; of more
the oldest are sent as if for the first time."""
SWEEP_EVERY_S: Final = 1.0
RETRY_S: Final = 1.0
"""How soon something is tried again that the store did not take."""


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


class _Sent(Struct, frozen=True):
    """Where a stored call went, and until when that matters (ms)."""

    session: Session
    expires_at: int


class _Line:
    """One device's calls under way: answers awaited here, and the stored calls that were sent and
    not yet acknowledged."""

    __slots__ = ("awaited", "last_id", "sent")

    def __init__(self) -> None:
        self.last_id = -1
        self.awaited: dict[int, asyncio.Future[str]] = {}
        self.sent: dict[int, _Sent] = {}

    def is_full(self, session: Session) -> bool:
        return sum(one.session is session for one in self.sent.values()) >= MOST_UNDELIVERED


class Rpc:
    """Makes calls through the sessions there are. One for a process."""

    def __init__(self, sessions: Sessions, store: Store, clock: Clock) -> None:
        self._sessions = sessions
        self._store = store
        self._clock = clock
        self._lines: dict[int, _Line] = {}
        self._waiting = 0
        self._attempts: dict[int, tuple[int, int]] = {}
        """How often calls with a bound were sent, and when they expire."""
        self._offering: dict[Session, bool] = {}
        """Sessions that calls are being offered to; whether the store is to be asked once more."""
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

    def order(self, device_id: int, order: Order, argument: str) -> None:
        """Pass an order on to each session of the device; where its dialect has no word for it,
        as a call of that method, whose answer nobody waits for."""
        for session in self._sessions.of(device_id):
            outlet = session.outlet
            if isinstance(outlet, Obedient):
                outlet.obey(order, argument)
            elif session.wants_calls:
                params = json.dumps({"to": argument}) if argument else "{}"
                call = RpcCall(
                    device_id=device_id, method=order.value, params=params, two_way=False
                )
                request_id = self._next_id(self._line(device_id), device_id)
                outlet.call(request_id, call, _nothing)
        self._tidy(device_id)

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
            self._begin(self._offer_in_turn(call.device_id))
        else:
            self._begin(self._make(call))

    async def offer(self, session: Session) -> None:
        """The session wants calls from now on: what waits for its device goes to it.

        Again and again while the store is away. When it is under way already, that looks once more.
        """
        if not self._is_offering(session):
            await self._offer(session)

    def offer_soon(self, session: Session) -> None:
        """`offer`, in a task of its own."""
        if not self._is_offering(session):
            self._begin(self._offer(session))

    async def sweep(self) -> None:
        """End the calls whose time is over, again and again, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                self._forget_overdue(self._clock())
                await self._store.end_calls(self._clock())
            except GatehouseError as exc:
                log.debug("rpc.not_swept", reason=str(exc))
            except Exception:
                log.exception("rpc.sweep_failed")

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_offering(self, session: Session) -> bool:
        under_way = session in self._offering
        self._offering[session] = True
        return under_way

    async def _offer_in_turn(self, device_id: int) -> None:
        """To the newest session first; what it does not take, to the next."""
        for session in reversed(self._sessions.of(device_id)):
            if session.wants_calls:
                await self.offer(session)

    async def _offer(self, session: Session) -> None:
        try:
            while self._offering[session] and not session.closed:
                self._offering[session] = False
                try:
                    await self._offer_waiting(session)
                except GatehouseError as exc:
                    log.debug("rpc.not_offered", reason=str(exc))
                    self._offering[session] = True
                    await asyncio.sleep(RETRY_S)
        finally:
            del self._offering[session]
            self._tidy(session.device.id)

    async def _offer_waiting(self, session: Session) -> None:
        device_id = session.device.id
        for call in await self._store.waiting_calls(device_id, self._clock()):
            if not _wants(session) or self._line(device_id).is_full(session):
                return
            if await self._send_stored(session, call) and session.slot is Slot.POLL:
                return  # it takes one

    async def _make(self, call: RpcCall) -> None:
        """A stored call that does not wait for its device: its caller reads how it ended."""
        left_ms = call.expires_at - self._clock()
        result = RpcResult(RpcOutcome.TIMED_OUT)
        if left_ms > 0:
            result = await self.call(call, left_ms / 1000)
        if result.outcome is RpcOutcome.NOT_CONNECTED and await self._is_elsewhere(call):
            return
        await self._mark(call, _STATES[result.outcome], response=result.response)

    async def _send_stored(self, session: Session, call: RpcCall) -> bool:
        """Send a persistent call once to one session, unless it is on its way already.

        Whether it left now.
        """
        sent = self._line(call.device_id).sent
        before = sent.get(call.id)
        if before is not None and not before.session.closed:
            return False
        if call.retries and self._attempts.get(call.id, (0, 0))[0] > call.retries:
            await self._store.mark_call(call.id, RpcState.FAILED)
            self._attempts.pop(call.id, None)
            return False
        attempt = sent[call.id] = _Sent(session, call.expires_at)
        left = False
        try:
            # Marked first: whoever holds an older copy of this call learns here that it is done.
            moved = await self._store.mark_call(call.id, RpcState.SENT)
            left = moved and _wants(session) and self._push(session, call)
        finally:
            if not left and sent.get(call.id) is attempt:
                del sent[call.id]  # asking nobody for more: the calls after it are looked at now
        if left and call.retries:
            self._count(call)
        return left

    async def _is_elsewhere(self, call: RpcCall) -> bool:
        """Whether another gateway on the same store has the device: it says how the call ended."""
        return await self._store.is_elsewhere(call.device_id, self._sessions.node, self._clock())

    def _push(self, session: Session, call: RpcCall) -> bool:
        return session.outlet.call(
            FIRST_PERSISTENT + call.id, call, lambda: self._begin(self._delivered(call, session))
        )

    async def _delivered(self, call: RpcCall, session: Session) -> None:
        """The device has it: a one-way call is done, and the next may go."""
        await self._mark(call, RpcState.DELIVERED if call.two_way else RpcState.SUCCESSFUL)
        self._attempts.pop(call.id, None)
        self._release(call.device_id, call.id, session)
        self._tidy(call.device_id)

    async def _answered_stored(self, device: Device, call_id: int, response: str) -> bool:
        call = await self._store.stored_call(call_id)
        if call is None or call.device_id != device.id:
            return False
        moved = await self._store.mark_call(call_id, RpcState.SUCCESSFUL, response=response)
        self._attempts.pop(call_id, None)
        self._release(device.id, call_id)
        self._tidy(device.id)
        return moved

    async def _mark(self, call: RpcCall, state: RpcState, *, response: str | None = None) -> None:
        """Move a call on, if need be again and again until its time is over."""
        while True:
            try:
                await self._store.mark_call(call.id, state, response=response)
                return
            except GatehouseError:
                if self._clock() >= call.expires_at:
                    raise
            await asyncio.sleep(RETRY_S)

    # ── what is remembered ──────────────────────────────────────────────────────────────────

    def _line(self, device_id: int) -> _Line:
        line = self._lines.get(device_id)
        if line is None:
            line = self._lines[device_id] = _Line()
        return line

    def _count(self, call: RpcCall) -> None:
        """The call was sent once more; known even while its device is away."""
        before = self._attempts.pop(call.id, (0, 0))[0]
        if len(self._attempts) >= MOST_COUNTED:
            del self._attempts[next(iter(self._attempts))]
        self._attempts[call.id] = (before + 1, call.expires_at)

    def _release(self, device_id: int, call_id: int, session: Session | None = None) -> None:
        """A call is on its way (to `session`) no more: there is room for the next."""
        line = self._lines.get(device_id)
        sent = line.sent.get(call_id) if line is not None else None
        if line is None or sent is None or (session is not None and sent.session is not session):
            return
        was_full = line.is_full(sent.session)
        del line.sent[call_id]
        if was_full and _wants(sent.session):
            self.offer_soon(sent.session)

    def _forget_overdue(self, now: int) -> None:
        """Calls nobody acknowledged in time, how often calls were sent, and devices that left."""
        for device_id, line in list(self._lines.items()):
            overdue = [number for number, one in line.sent.items() if one.expires_at <= now]
            for call_id in overdue:
                self._release(device_id, call_id)
            self._tidy(device_id)
        if self._attempts:
            kept = self._attempts.items()
            self._attempts = {number: one for number, one in kept if one[1] > now}

    def _tidy(self, device_id: int) -> None:
        """A device that is gone and waits for nothing is forgotten; its ids begin at 0 again."""
        line = self._lines.get(device_id)
        if line is not None and not line.awaited and not self._sessions.of(device_id):
            del self._lines[device_id]

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(_logged(work))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            work.close()  # a task that is cancelled before its first turn leaves it unbegun

        task.add_done_callback(ended)


def _wants(session: Session) -> bool:
    return session.wants_calls and not session.closed


def _nothing() -> None:
    """Nobody asks whether a call made here and now was acknowledged."""


async def _logged(work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except GatehouseError as exc:
        log.warning("rpc.not_kept", reason=str(exc))
    except Exception:
        log.exception("rpc.failed")
