"""Credentials that change: replaced, renewed, taken up, revoked.

A device has one row of credentials, whose generation grows, and at most one that is pending. Each
change of the row ends the older login, by a notice in its transaction.
"""

from __future__ import annotations

from msgspec import Struct

from gateway.core.model import Device, DeviceCredentials, Event, NoticeKind
from gateway.core.pki.model import (
    CertificateRecord,
    CertificateState,
    IssuedCertificate,
    RevocationReason,
)
from gateway.store.certificates import (
    ban_compromised,
    drop_reservation,
    end_certificates,
    issued_row,
    serial_of_login,
    serial_text,
    serial_to_bytes,
    write_issued,
)
from gateway.store.credentials import sealed_credentials
from gateway.store.driver import Transaction
from gateway.store.events import event_on, tell
from gateway.store.notices import notify
from gateway.store.readings import good_logins
from gateway.store.vault import Vault
from gateway.store.writer import SingleDecision


class Login(Struct, frozen=True):
    """Credentials as they are kept."""

    kind: str
    digest: bytes
    sealed: bytes


def kept_login(vault: Vault, credentials: DeviceCredentials) -> Login:
    """Not for the writer's thread: sealing takes from the loop's randomness."""
    digest, sealed = sealed_credentials(vault, credentials)
    return Login(credentials.type._value_, digest, sealed)


async def change_login(tx: Transaction, device_id: int, login: Login, at: int) -> str | None:
    """Give a device these credentials. One UPDATE decides: None when they are another's.

    Else the certificates that ended with the older login, as text.
    """
    changed = await tx.fetch(
        "replace_credentials", device_id, login.kind, login.digest, login.sealed, at
    )
    return await login_changed(tx, device_id, changed[0][0], at) if changed else None


async def login_changed(
    tx: Transaction,
    device_id: int,
    generation: int,
    at: int,
    reason: RevocationReason = RevocationReason.SUPERSEDED,
) -> str:
    """What goes with older credentials: those pending, their answer, the certificates, the live
    sessions."""
    await tx.fetch("delete_pending", device_id)
    await tx.fetch("end_retry", device_id)
    ended = await end_certificates(tx, device_id, at, reason)
    await notify(tx, NoticeKind.LOGIN, at, device_id=device_id, generation=generation)
    return ended


async def end_sessions(tx: Transaction, device_id: int, at: int) -> None:
    """Let a device log in anew, with the credentials it has, as what it is now."""
    generation = (await tx.fetch("renew_login", device_id))[0][0]
    await notify(tx, NoticeKind.LOGIN, at, device_id=device_id, generation=generation)


class ReplaceCredentials(SingleDecision[bool]):
    """New credentials of the next generation; the old ones are gone."""

    __slots__ = ("device_id", "event", "login")

    def __init__(self, device_id: int, login: Login, event: Event) -> None:
        self.device_id = device_id
        self.login = login
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        superseded = await change_login(tx, self.device_id, self.login, self.event.at)
        if superseded is None:
            return False
        event = event_on(self.event, self.device_id, superseded=superseded)
        tell(tx, [event])
        return True


# ── renewal ───────────────────────────────────────────────────────────────────────────────────


class Renew(SingleDecision[bool | None]):
    """Other credentials, pending until they are used. None: the device's login is gone."""

    __slots__ = ("device", "event", "issued", "login")

    def __init__(
        self, device: Device, login: Login, issued: IssuedCertificate | None, event: Event
    ) -> None:
        self.device = device
        self.login = login
        self.issued = issued
        self.event = event

    async def decide(self, tx: Transaction) -> bool | None:
        number, at = self.device.id, self.event.at
        login, issued = self.login, self.issued
        given: bool | None = None
        if (number, self.device.credentials_row) in await good_logins(tx, (number,)):
            columns = (login.kind, login.digest, login.sealed, at)
            given = bool(await tx.fetch("insert_pending", number, *columns))
        if not given:
            if issued is not None:
                await drop_reservation(tx, issued.serial)
            return given
        await tx.fetch("end_retry", number)
        if issued is not None:
            owner = (self.device.organisation_id, self.device.name)
            await write_issued(tx, [issued_row(issued, owner, number, login.digest, at)])
        superseded = await end_certificates(tx, number, at)
        serial = serial_text(issued.serial) if issued is not None else ""
        event = event_on(self.event, number, certificate=serial, superseded=superseded)
        tell(tx, [event])
        return True


class TakeUpPending(SingleDecision[bool]):
    """Pending credentials become the device's. One DELETE decides who of many took them up."""

    __slots__ = ("device_id", "digest", "event")

    def __init__(self, device_id: int, digest: bytes, event: Event) -> None:
        self.device_id = device_id
        self.digest = digest
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        taken = await tx.fetch("take_pending", self.device_id, self.digest)
        if not taken:
            return False
        superseded = await change_login(tx, self.device_id, Login(*taken[0]), self.event.at)
        if superseded is None:
            return False
        serial = await serial_of_login(tx, self.device_id, self.digest)
        event = event_on(self.event, self.device_id, certificate=serial, superseded=superseded)
        tell(tx, [event])
        return True


# ── revocation ────────────────────────────────────────────────────────────────────────────────


class RevokeCredentials(SingleDecision[bool]):
    """Nothing lets the device in any more, a new token that waits neither. `blank` is what it gets
    instead."""

    __slots__ = ("blank", "device_id", "event", "reason")

    def __init__(
        self, device_id: int, blank: Login, reason: RevocationReason, event: Event
    ) -> None:
        self.device_id = device_id
        self.blank = blank
        self.reason = reason
        self.event = event

    async def decide(self, tx: Transaction) -> bool:
        tickets = await tx.fetch("revoke_rotations", self.device_id)
        ended = await _revoke_login(
            tx, self.device_id, self.blank, self.reason, self.event.at, held=None
        )
        if ended is None and not tickets:
            return False
        await ban_compromised(tx, self.device_id, self.reason)
        event = event_on(
            self.event,
            self.device_id,
            reason=self.reason.name.lower(),
            revoked=ended or "",
            revoked_tickets=", ".join(str(row[0]) for row in tickets),
        )
        tell(tx, [event])
        return True


async def _revoke_login(
    tx: Transaction,
    device_id: int,
    blank: Login,
    reason: RevocationReason,
    at: int,
    *,
    held: bytes | None,
) -> str | None:
    """Take its credentials from a device, whichever they are or only those with the digest `held`.

    One UPDATE decides. Who has the login may have its renewal as well: what is pending goes, too.
    The certificates that went with them, as text; None: there was nothing.
    """
    columns = (blank.kind, blank.digest, blank.sealed, at)
    revoked = await tx.fetch("revoke_credentials", device_id, *columns, held)
    disarmed = await tx.fetch("disarm_device", device_id) if revoked or held is None else []
    if revoked:
        return await login_changed(tx, device_id, revoked[0][0], at, reason)
    if held is not None:
        return None
    # Revoked before; and given others since, or about to be, that were not used yet.
    dropped = await tx.fetch("delete_pending", device_id)
    if not (dropped or disarmed):
        return None
    await tx.fetch("end_retry", device_id)
    return await end_certificates(tx, device_id, at, reason)


class RevokeCertificate(SingleDecision[CertificateRecord | None]):
    """One certificate of ours, and the login that it is. One UPDATE decides."""

    __slots__ = ("blank", "event", "reason", "serial")

    def __init__(self, serial: int, blank: Login, reason: RevocationReason, event: Event) -> None:
        self.serial = serial
        self.blank = blank
        self.reason = reason
        self.event = event

    async def decide(self, tx: Transaction) -> CertificateRecord | None:
        at, key = self.event.at, serial_to_bytes(self.serial)
        revoked = await tx.fetch("revoke_certificate", key, at, int(self.reason))
        if not revoked:
            return None
        authority_id, device_id, name, created_at, not_after, digest = revoked[0]
        await tx.fetch("delete_pending_with", device_id, digest)
        ended = await _revoke_login(tx, device_id, self.blank, self.reason, at, held=digest)
        await ban_compromised(tx, device_id, self.reason)
        event = event_on(
            self.event,
            device_id,
            certificate=serial_text(self.serial),
            reason=self.reason.name.lower(),
            revoked=ended or "",
        )
        tell(tx, [event])
        return CertificateRecord(
            serial=self.serial,
            authority_id=authority_id,
            state=CertificateState.ISSUED,
            device_id=device_id,
            name=name,
            created_at=created_at,
            not_after=not_after,
        )
