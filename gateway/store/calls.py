"""Calls to devices, as they are kept. A call only ever moves forward."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.model import Event, NoticeKind, RpcCall, RpcState
from gateway.store.driver import Transaction
from gateway.store.events import tell
from gateway.store.identity import uuid7, uuid_text
from gateway.store.notices import notify
from gateway.store.records import call_row
from gateway.store.writer import SingleDecision

MOST_WAITING: Final = 100
"""Waiting calls of one device given at once; the rest follow when these are through."""
_CALLS_PER_STEP = 2000
_MOVES_BELOW = {RpcState.QUEUED: 0, RpcState.SENT: 2, RpcState.DELIVERED: 2}
_FINAL_MOVES_BELOW = 3
"""A call moves to a state if its rank, in the statement `mark_call`, is below this number: one
that is SENT may be sent again."""


class SaveCall(SingleDecision[RpcCall | None]):
    """Stores a call, and tells the gateways of it. None when there is no such device."""

    __slots__ = ("call", "event")

    def __init__(self, call: RpcCall, event: Event) -> None:
        self.call = call
        self.event = event

    async def decide(self, tx: Transaction) -> RpcCall | None:
        device_id = self.call.device_id
        if not await tx.fetch("living", f"[{device_id}]"):
            return None
        number = (await tx.fetch("next_ids", "call", 1))[0][0]
        identity = self.call.uuid or uuid_text(uuid7(self.call.created_at))
        call = msgspec.structs.replace(self.call, id=number, uuid=identity)
        await tx.insert_rows("insert_calls", [call_row(call)])
        event = msgspec.structs.replace(self.event, device_id=device_id)
        tell(tx, [event])
        await notify(tx, NoticeKind.RPC, event.at, device_id=device_id, call_id=number)
        return call


class MarkCall(SingleDecision[bool]):
    """Moves a call on. One UPDATE decides."""

    __slots__ = ("call_id", "response", "state")

    def __init__(self, call_id: int, state: RpcState, response: str | None) -> None:
        self.call_id = call_id
        self.state = state
        self.response = response

    async def decide(self, tx: Transaction) -> bool:
        below = _MOVES_BELOW.get(self.state, _FINAL_MOVES_BELOW)
        state = self.state.value
        return bool(await tx.fetch("mark_call", self.call_id, state, below, self.response))


class EndCalls(SingleDecision[int]):
    """Ends some calls whose time is over; how many."""

    __slots__ = ("now",)

    def __init__(self, now: int) -> None:
        self.now = now

    async def decide(self, tx: Transaction) -> int:
        return len(await tx.fetch("end_calls", self.now, _CALLS_PER_STEP))
