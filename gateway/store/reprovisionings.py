"""Devices that were provisioned before: armed for it, and given other credentials."""

from __future__ import annotations

from typing import Final

from gateway.core.errors import GatehouseError
from gateway.core.model import (
    Event,
    EventKind,
    MqttBasic,
    Provisioned,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.reprovisioning import Reprovision, Showing
from gateway.core.terms import Gifts
from gateway.store.approvals import spend_approvals
from gateway.store.attributes import forget_attributes
from gateway.store.certificates import (
    drop_reservation,
    end_certificates,
    issued_row,
    serial_text,
    write_issued,
)
from gateway.store.decisions import OpenKnown
from gateway.store.driver import Transaction
from gateway.store.events import event_on, tell
from gateway.store.gifts import give
from gateway.store.logins import Login
from gateway.store.readings import good_logins
from gateway.store.retries import Bound, Repeated, open_window, repeated
from gateway.store.vault import Vault
from gateway.store.writer import SingleDecision

ROWS_PER_STEP: Final = 2000
"""Readings forgotten in one transaction."""


def code_digest(vault: Vault, device_id: int, code: Secret) -> bytes:
    """What is kept of a claim code: of two devices with one code it differs."""
    return vault.digest(f"rearm {device_id} {code.reveal()}")


class ArmDevice(SingleDecision[bool]):
    """Lets a device be provisioned anew, until `until` (ms).

    `digest` is that of a claim code; None: it needs none. False when the device is no more, or
    waits for its claim anyway.
    """

    __slots__ = ("device_id", "digest", "event", "until")

    def __init__(self, device_id: int, digest: bytes | None, until: int, event: Event) -> None:
        self.device_id = device_id
        self.digest = digest
        self.until = until
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        if not await tx.fetch("arm_device", self.device_id, self.digest, self.until):
            return False
        await tx.fetch("provision_state_stands", self.device_id)
        tell(tx, [self.event])
        return True


class No(GatehouseError):
    """It gets nothing, and what was done so far is undone."""

    def __init__(self, reason: RefusalReason, wait_ms: int = 0) -> None:
        super().__init__(reason.value)
        self.refused = Refused(reason, -(-wait_ms // 1000))


class ReprovisionDevice(SingleDecision[Provisioned | Repeated | Refused]):
    """Gives a device other credentials, pending until they are used.

    `login` is how they are kept, `digest` that of a claim code, `bound` what the answer is bound
    to. Whoever made the same request before gets what was given then.
    """

    __slots__ = ("bound", "digest", "login", "open_known", "order")

    def __init__(
        self,
        order: Reprovision,
        login: Login,
        digest: bytes,
        bound: Bound | None,
        open_known: OpenKnown,
    ) -> None:
        self.order = order
        self.login = login
        self.digest = digest
        self.bound = bound
        self.open_known = open_known

    async def decide(self, tx: Transaction) -> Provisioned | Repeated | Refused:
        again = await repeated(tx, self.bound, self.order.at, self.open_known)
        if again is not None:
            await self._drop(tx)
            return again
        await tx.savepoint()
        try:
            given = await self._given(tx)
        except No as no:
            await tx.rollback_to_savepoint()
            await self._drop(tx)
            return no.refused
        await tx.release()
        return given

    async def _given(self, tx: Transaction) -> Provisioned:
        """Raises `No`."""
        order, device = self.order, self.order.known.device
        if (device.id, device.credentials_row) not in await good_logins(tx, (device.id,)):
            raise No(RefusalReason.NO_PROOF_OF_OLD)
        await self._spend(tx)
        await self._take(tx)
        superseded = await self._renew(tx)
        if not await tx.fetch("mark_reprovisioned", device.id, order.terms.ticket_id, order.at):
            raise No(RefusalReason.SECRET_QUARANTINED)
        await tx.fetch("end_retry", device.id)
        if self.bound is not None:
            await open_window(tx, (device.id, self.bound.digest, self.bound.until), order.at)
        if order.reset:
            await self._reset(tx)
        self._tell(tx, superseded)
        issuers = order.issued.issuers if order.issued is not None else ()
        return Provisioned(device, order.credentials, issuers, again=True)

    async def _spend(self, tx: Transaction) -> None:
        """What proved it is used up; of several who show it at once one has it."""
        order = self.order
        if order.showing in (Showing.CLAIM_CODE, Showing.OPERATOR):
            where = (order.known.device.id, order.at, self.digest)
            if not await tx.fetch("spend_arming", *where):
                raise No(RefusalReason.NO_PROOF_OF_OLD)
        else:
            # What an operator allowed meanwhile was for this device, not for the next that asks.
            await tx.fetch("disarm_device", order.known.device.id)
        reason = await spend_approvals(tx, [order.terms])
        if reason is not None:
            raise No(reason)

    async def _take(self, tx: Transaction) -> None:
        """One of as many as there may be: each statement decides for one window of the rate."""
        number, now = self.order.known.device.id, self.order.at
        for capacity, period in self.order.rate.windows if self.order.rate is not None else ():
            each, ends = max(1, period // capacity), now + period
            bounds = (now + each, now, ends, each, ends - each)
            if not await tx.fetch("take_reprovisioning", number, period, *bounds):
                due = (await tx.fetch("reprovisioning_due", number, period))[0][0]
                raise No(RefusalReason.TOO_MANY_REPROVISIONINGS, due - bounds[-1])

    async def _renew(self, tx: Transaction) -> str:
        """The certificates that ended, as text. Who chose what it has already keeps it."""
        order, device, login = self.order, self.order.known.device, self.login
        if order.credentials == order.known.credentials:
            await tx.fetch("delete_pending", device.id)
        elif order.credentials.id == order.known.credentials.id and not _told_apart(order):
            raise No(RefusalReason.CREDENTIALS_TAKEN)
        else:
            columns = (login.kind, login.digest, login.sealed, order.at)
            if not await tx.fetch("insert_pending", device.id, *columns):
                raise No(RefusalReason.CREDENTIALS_TAKEN)
        if order.issued is not None:
            owner = (device.organisation_id, device.name)
            row = issued_row(order.issued, owner, device.id, login.digest, order.at)
            await write_issued(tx, [row])
        return await end_certificates(tx, device.id, order.at)

    async def _reset(self, tx: Transaction) -> None:
        """Attributes and latest values are forgotten at once, readings from now on."""
        order, device = self.order, self.order.known.device
        await forget_attributes(tx, device, order.at)
        latest = [row[0] for row in await tx.fetch("take_latest", device.id)]
        await tx.fetch("begin_forgetting", device.id, max(order.at, *latest, 0))
        if order.gifts is not None and order.gifts.attributes:
            newborn = Gifts(attributes=order.gifts.attributes)
            await give(tx, device.id, newborn, order.at, order.peer)

    def _tell(self, tx: Transaction, superseded: str) -> None:
        order, device = self.order, self.order.known.device
        event = Event(
            kind=EventKind.DEVICE_REPROVISION,
            at=order.at,
            peer=order.peer,
            subject=device.name,
        )
        told = event_on(
            event,
            device.id,
            proof=order.showing.value,
            policy=order.policy.value,
            certificate=serial_text(order.issued.serial) if order.issued is not None else "",
            superseded=superseded,
        )
        tell(tx, [told])

    async def _drop(self, tx: Transaction) -> None:
        if self.order.issued is not None:
            await drop_reservation(tx, self.order.issued.serial)


def _told_apart(order: Reprovision) -> bool:
    """Whether credentials that are looked up alike tell themselves from the older by a password."""
    old, new = order.known.credentials, order.credentials
    if not (isinstance(old, MqttBasic) and isinstance(new, MqttBasic)):
        return False
    return bool(old.password and new.password) and old.password != new.password


class ForgetReadings(SingleDecision[bool]):
    """Forgets some readings of a device that was reset. True when there may be more."""

    __slots__ = ("device_id", "until")

    def __init__(self, device_id: int, until: int) -> None:
        self.device_id = device_id
        self.until = until

    async def decide(self, tx: Transaction) -> bool:
        where = (self.device_id, self.until, ROWS_PER_STEP)
        if len(await tx.fetch("forget_readings_until", *where)) == ROWS_PER_STEP:
            return True
        await tx.fetch("end_forgetting", self.device_id)
        return False
