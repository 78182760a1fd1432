"""Devices whose time is over go by themselves (burn-in), unless somebody keeps them."""

from __future__ import annotations

from gateway.core.model import Event, EventKind, Peer
from gateway.store.devices import RemoveDevice
from gateway.store.driver import Transaction
from gateway.store.events import tell
from gateway.store.writer import SingleDecision


class ExpireDevices(SingleDecision[list[int]]):
    """Removes some devices whose time was over at `now`, as a person does; gives their numbers.

    Their readings are left for `ForgetDevice`. One UPDATE takes them: a device that is kept
    meanwhile stays.
    """

    __slots__ = ("most", "now", "peer")

    weight = 200

    def __init__(self, now: int, most: int, peer: Peer) -> None:
        self.now = now
        self.most = most
        self.peer = peer

    async def decide(self, tx: Transaction) -> list[int]:
        taken = await tx.fetch("take_expired_devices", self.now, self.most)
        for number, name in taken:
            event = Event(
                kind=EventKind.DEVICE_EXPIRE,
                at=self.now,
                peer=self.peer,
                subject=name,
                device_id=number,
            )
            await RemoveDevice(number, event).decide(tx)
        return [number for number, _ in taken]


class KeepDevice(SingleDecision[bool]):
    """Lets a device stay until `until` (ms), or (None) for good. False: it stays anyway."""

    __slots__ = ("device_id", "event", "until")

    def __init__(self, device_id: int, until: int | None, event: Event) -> None:
        self.device_id = device_id
        self.until = until
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("keep_device", self.device_id, self.until):
            return False
        tell(tx, [self.event])
        return True
