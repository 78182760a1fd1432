"""Taking credentials back, for people: what the shell and later the admin API do.

Giving new ones is `Registry.replace_credentials`. A revocation is one transaction with its event
and its notice: a gateway on the same store cuts what is connected with them within a second.
"""

from __future__ import annotations

from gateway.core.author import Author
from gateway.core.model import DeviceCredentials, EventKind, Peer
from gateway.core.pki.model import CertificateRecord, RevocationReason
from gateway.core.ports import Clock, KnownCredentials, Store
from gateway.core.registrar import Registrar


class Custody:
    """Lists and revokes the credentials of devices, as `peer` (the events' author)."""

    def __init__(self, store: Store, registrar: Registrar, *, clock: Clock, peer: Peer) -> None:
        self._store = store
        self._registrar = registrar
        self._author = Author(clock, peer)

    async def revoke(
        self, known: KnownCredentials, reason: RevocationReason = RevocationReason.UNSPECIFIED
    ) -> bool:
        """Take back all a device has, also what is pending and a new token that waits for it:
        nothing lets it in any more.

        False when there is nothing to take back: they are revoked, or the device is no more.
        """
        device = known.device
        event = self._author.event(
            EventKind.DEVICE_CREDENTIALS_REVOKE,
            device.name,
            {"type": known.credentials.type.value, "reason": reason.name.lower()},
            device.id,
        )
        return await self._registrar.revoke_credentials(device.id, reason, event)

    async def revoke_serial(
        self, serial: int, reason: RevocationReason = RevocationReason.UNSPECIFIED
    ) -> CertificateRecord | None:
        """Revoke one certificate of ours; the login of the device that uses it ends with it.

        The record as it was before; None when there is none of that number, or it is revoked.
        """
        record = await self._store.certificate(serial)
        if record is None:
            return None
        event = self._author.event(
            EventKind.CERTIFICATE_REVOKE,
            record.name,
            {"serial": f"{serial:x}", "reason": reason.name.lower()},
            record.device_id,
        )
        return await self._registrar.revoke_certificate(serial, reason, event)

    async def certificate(self, serial: int) -> CertificateRecord | None:
        """What is written down of the certificate with this serial number."""
        return await self._store.certificate(serial)

    async def certificates(
        self, known: KnownCredentials | None = None, *, limit: int = 100
    ) -> list[CertificateRecord]:
        """Those signed here, of one device or of all, newest first."""
        device_id = known.device.id if known else None
        return await self._registrar.certificates(device_id=device_id, limit=limit)

    async def pending(self, known: KnownCredentials) -> DeviceCredentials | None:
        """What the device was given by a renewal and has not used yet."""
        return await self._registrar.pending_credentials(known.device.id)
