"""An authority over the tests' store: it signs for devices, and an operator revokes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import certs
from cryptography import x509

from gateway.core.access import Access
from gateway.core.authorities import Authorities
from gateway.core.certifying import Certifier
from gateway.core.model import (
    Certificate,
    Device,
    DeviceProfile,
    Event,
    EventKind,
    Identity,
    Peer,
    Provisioned,
    ProvisionRequest,
    ProvisionResult,
    RequestedCredentials,
    Wire,
)
from gateway.core.pki.model import RevocationReason
from gateway.core.profiles import Profiles
from gateway.core.provisioning import Provisioner
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

OPERATOR = Peer(Wire.SHELL, "tester")


class Certified:
    """The core's part of certificates, with what tests do to it."""

    def __init__(
        self, store: SqlStore, clock: Any, new_token: Callable[[], str], **options: Any
    ) -> None:
        self.store = store
        self.clock = clock
        self.registrar = SqlRegistrar(store)
        self.access = Access(store, clock)
        self.profiles = Profiles(store)
        self.authorities = Authorities(store, clock, OPERATOR, **options)
        self.certifier = Certifier(store, self.authorities, self.profiles, clock)
        self.provisioner = Provisioner(
            store,
            clock=clock,
            new_token=new_token,
            readable=lambda text: True,
            certifier=self.certifier,
        )

    async def device(self, fleet: Any, name: str, **csr: Any) -> tuple[Device, x509.Certificate]:
        """A new device of that fleet, and its certificate."""
        asked = RequestedCredentials(csr=certs.csr(cn=name, **csr))
        request: ProvisionRequest = fleet.request(name, credentials=asked)
        return read(await self.provisioner.provision(request))

    async def revoke(
        self, certificate: x509.Certificate, reason: RevocationReason = RevocationReason.UNSPECIFIED
    ) -> None:
        event = Event(kind=EventKind.CERTIFICATE_REVOKE, at=self.clock(), peer=OPERATOR)
        before = await self.registrar.revoke_certificate(certificate.serial_number, reason, event)
        assert before is not None
        self.access.forget()

    async def issuing(self) -> x509.Certificate:
        return (await self.authorities.issuer()).signer.certificate

    async def root(self) -> x509.Certificate:
        return x509.load_der_x509_certificate((await self.authorities.chain())[-1])

    async def profile(self, device: Device) -> DeviceProfile:
        return await self.profiles.of(device)


def read(result: ProvisionResult) -> tuple[Device, x509.Certificate]:
    assert isinstance(result, Provisioned), result
    assert isinstance(result.credentials, Certificate)
    der = certs.base64.b64decode(result.credentials.text)
    return result.device, x509.load_der_x509_certificate(der)


def identity_of(device: Device, certificate: x509.Certificate) -> Identity:
    """What a handshake with this certificate proves."""
    text = certs.base64.b64encode(
        certificate.public_bytes(certs.serialization.Encoding.DER)
    ).decode()
    ends = int(certificate.not_valid_after_utc.timestamp() * 1000)
    return Identity(Certificate(text).id, device.id, ends)
