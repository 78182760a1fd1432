"""What people make forgotten: readings of a device, and calls to it."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.model import Event
from gateway.store.driver import Transaction
from gateway.store.events import tell
from gateway.store.writer import SingleDecision

_ROWS_PER_STEP = 2000
"""Rows deleted in one transaction: some milliseconds, between which devices are served."""


class BeginForgetting(SingleDecision[bool]):
    """Says that readings of a device are about to be forgotten. False: no such device."""

    __slots__ = ("device_id", "event")

    def __init__(self, device_id: int, event: Event) -> None:
        self.device_id = device_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("living", f"[{self.device_id}]"):
            return False
        tell(tx, [self.event])
        return True


class ForgetSpan(SingleDecision[list[str]]):
    """Forgets some readings of a device; gives the keys that may have more.

    With the last of a key its latest reading becomes the newest that is left.
    """

    __slots__ = ("device_id", "keys", "since", "until")

    def __init__(self, device_id: int, keys: Sequence[str], since: int, until: int) -> None:
        self.device_id = device_id
        self.keys = keys
        self.since = since
        self.until = until

    async def decide(self, tx: Transaction) -> list[str]:
        left = _ROWS_PER_STEP
        for done, key in enumerate(self.keys):
            span = (self.device_id, key, self.since, self.until)
            left -= len(await tx.fetch("forget_span", *span, left))
            if left <= 0:
                return list(self.keys[done:])
            await tx.fetch("forget_latest", *span)
            await tx.fetch("renew_latest", self.device_id, key)
        return []


class RemoveCall(SingleDecision[bool]):
    """Forgets a call. The deletion decides."""

    __slots__ = ("call_id", "event")

    def __init__(self, call_id: int, event: Event) -> None:
        self.call_id = call_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("remove_call", self.call_id):
            return False
        tell(tx, [self.event])
        return True
