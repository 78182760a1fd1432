"""What `SqlStore` does for certificates: authorities, serial numbers, renewals, factory chains."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from msgspec import structs

from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    Device,
    DeviceCredentials,
    DeviceProfile,
    Event,
    ProfileTransport,
    ProvisionType,
    Secret,
)
from gateway.core.pki.model import (
    Authority,
    AuthorityRole,
    CertificateRecord,
    IssuedCertificate,
    SerialReservation,
)
from gateway.core.ports import KnownCredentials
from gateway.store.authorities import AddAuthorities, RoleTaken, authority_from_row, sealed_key
from gateway.store.certificates import (
    NextCrlNumber,
    ReserveSerial,
    is_serial,
    record_from_row,
    serial_to_bytes,
)
from gateway.store.chain import Chain
from gateway.store.credentials import credentials_from_bytes
from gateway.store.driver import Driver, Row
from gateway.store.logins import Renew, TakeUpPending, kept_login
from gateway.store.records import device_from_row, profile_from_row
from gateway.store.vault import Vault
from gateway.store.writer import Writer, on_trial

_TRANSPORTS = {transport.value: transport for transport in ProfileTransport}


class CertificateStore:
    """One half of `SqlStore`, with what the other half needs of it."""

    def __init__(self, driver: Driver, vault: Vault, *, max_pending: int = 20_000) -> None:
        self.driver = driver
        self.vault = vault
        self.chain = Chain(vault)
        self.writer = Writer(driver, max_pending=max_pending, write_told=self.chain.write)

    def on_trial(self) -> AbstractContextManager[None]:
        return on_trial()

    def known_from_row(self, row: Row) -> KnownCredentials:
        """A row of `known_by_digest` or `known_by_id`, its credentials opened."""
        *device, transport, kind, digest, sealed = row
        credentials = credentials_from_bytes(kind, self.vault.open(sealed, digest))
        return KnownCredentials(device_from_row(tuple(device), _TRANSPORTS[transport]), credentials)

    async def chain_profiles(self) -> list[DeviceProfile]:
        profiles = map(profile_from_row, await self.driver.rows("chain_profiles"))
        kind = ProvisionType.X509_CERTIFICATE_CHAIN
        return [one for one in profiles if one.provision_type is kind and one.chain is not None]

    # ── renewal ─────────────────────────────────────────────────────────────────────────────

    async def find_pending(self, lookup_id: Secret) -> KnownCredentials | None:
        row = await self.driver.point("pending_by_digest", self.vault.digest(lookup_id.reveal()))
        return None if row is None else structs.replace(self.known_from_row(row), pending=True)

    async def take_up_pending(self, device_id: int, lookup_id: Secret, event: Event) -> bool:
        digest = self.vault.digest(lookup_id.reveal())
        return await self.writer.submit(TakeUpPending(device_id, digest, event))

    async def renew(
        self,
        device: Device,
        credentials: DeviceCredentials,
        issued: IssuedCertificate | None,
        event: Event,
    ) -> bool:
        """Nor are credentials given that are the device's already. No event when it is refused."""
        login = kept_login(self.vault, credentials)
        given = await self.writer.submit(Renew(device, login, issued, event))
        if given is None:
            raise CredentialsGone
        return given

    # ── authorities ─────────────────────────────────────────────────────────────────────────

    async def authorities(self) -> list[Authority]:
        rows = await self.driver.rows("authorities")
        return [authority_from_row(self.vault, row) for row in rows]

    async def add_authorities(
        self, new: Sequence[Authority], event: Event, *, replaces: Sequence[AuthorityRole] = ()
    ) -> list[Authority] | None:
        keys = [sealed_key(self.vault, one) for one in new]
        try:
            return await self.writer.submit(AddAuthorities(new, keys, event, replaces))
        except RoleTaken:
            return None

    # ── what was signed ─────────────────────────────────────────────────────────────────────

    async def reserve_serial(self, reservation: SerialReservation) -> bool:
        return await self.writer.submit(ReserveSerial(reservation))

    async def certificate(self, serial: int) -> CertificateRecord | None:
        if not is_serial(serial):
            return None
        row = await self.driver.point("certificate", serial_to_bytes(serial))
        return None if row is None else record_from_row(row)

    async def certificates_since(self, device_id: int, since: int) -> int:
        row = await self.driver.point("certificates_since", device_id, since)
        return 0 if row is None else int(row[0])

    async def revoked(self, authority_id: int, now: int) -> list[CertificateRecord]:
        rows = await self.driver.rows("revoked_certificates", authority_id, now)
        return [record_from_row(row) for row in rows]

    async def next_crl_number(self, authority_id: int) -> int:
        return await self.writer.submit(NextCrlNumber(authority_id))
