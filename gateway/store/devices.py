"""Devices, changed by people."""

from __future__ import annotations

from gateway.core.model import Event, NoticeKind
from gateway.core.pki.model import RevocationReason
from gateway.store.certificates import end_certificates, give_back_keys
from gateway.store.driver import Transaction
from gateway.store.events import event_on, tell
from gateway.store.notices import notify
from gateway.store.static_tokens import renew_pair_of_device
from gateway.store.writer import SingleDecision

_ROWS_PER_STEP = 2000
_OF_A_DEVICE = (
    "delete_credentials",
    "delete_pending",
    "delete_attributes",
    "delete_presence",
    "delete_claim",
    "delete_calls",
    "delete_downloads",
    "leave_groups",
    "delete_retry",
    "disarm_device",
    "forget_reprovisionings_of",
    "end_forgetting",
)
"""What goes with a device, in the same transaction."""


class RemoveDevice(SingleDecision[bool]):
    """Removes a device and what is kept for it, less its readings: see `ForgetDevice`.

    Its certificates stay, revoked, for whoever asks for their status. A pair of static tokens that
    it was made with is unclaimed, and lets the hardware in as another device.
    """

    __slots__ = ("device_id", "event")

    def __init__(self, device_id: int, event: Event) -> None:
        self.device_id = device_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        await tx.fetch("keep_removed", self.device_id, self.event.at)
        if not await tx.fetch("delete_device", self.device_id):
            return False
        for name in _OF_A_DEVICE:
            await tx.fetch(name, self.device_id)
        await tx.fetch("delete_assignments", "device", self.device_id)
        revoked = await end_certificates(
            tx, self.device_id, self.event.at, RevocationReason.CESSATION_OF_OPERATION
        )
        await give_back_keys(tx, self.device_id)
        tickets = await tx.fetch("revoke_rotations", self.device_id)
        pair = await renew_pair_of_device(tx, self.device_id, self.event)
        waiting = ", ".join(str(row[0]) for row in tickets)
        event = event_on(
            self.event,
            self.event.device_id,
            revoked=revoked,
            revoked_tickets=waiting,
            static_token=pair,
        )
        tell(tx, [event])
        await notify(tx, NoticeKind.REMOVED, self.event.at, device_id=self.device_id)
        return True


class ForgetDevice(SingleDecision[bool]):
    """Forgets some readings of a removed device. True when there may be more."""

    __slots__ = ("device_id",)

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id

    async def decide(self, tx: Transaction) -> bool:
        if await tx.fetch("forget_device_readings", self.device_id, _ROWS_PER_STEP):
            return True
        await tx.fetch("delete_latest", self.device_id)
        return False


class RearmDevice(SingleDecision[bool]):
    """Forgets that a device was provisioned."""

    __slots__ = ("device_id", "event")

    def __init__(self, device_id: int, event: Event) -> None:
        self.device_id = device_id
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("rearm_device", self.device_id):
            return False
        await tx.fetch("end_retry", self.device_id)
        tell(tx, [self.event])
        return True
