"""An authority over the tests' store: it signs for devices, judges logins; an operator revokes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import certs
from cryptography import x509

from gateway.core.access import Access
from gateway.core.authorities import Authorities
from gateway.core.certifying import Certifier
from gateway.core.custody import Custody
from gateway.core.gates import Gates
from gateway.core.identities import Identities
from gateway.core.model import (
    Certificate,
    Device,
    DeviceCredentialsType,
    DeviceProfile,
    Event,
    EventKind,
    Identity,
    Peer,
    Provisioned,
    ProvisionRequest,
    ProvisionResult,
    ProvisionType,
    RequestedCredentials,
    Wire,
)
from gateway.core.pki.model import CertificateProfile, ChainRule, RevocationReason
from gateway.core.presence import Attendance
from gateway.core.profiles import Profiles
from gateway.core.provisioning import Provisioner
from gateway.core.sessions import Sessions
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore

OPERATOR = Peer(Wire.SHELL, "tester")
PEER = Peer(Wire.COAPS, "192.0.2.9:50123")
X509 = DeviceCredentialsType.X509_CERTIFICATE
PSK = DeviceCredentialsType.DTLS_PSK


class Certified:
    """The core's part of certificates, with what tests do to it."""

    def __init__(
        self,
        store: SqlStore,
        clock: Any,
        new_token: Callable[[], str],
        *,
        gates: Gates | None = None,
        **options: Any,
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
        self.sessions = Sessions(Attendance(store, clock))
        self.identities = Identities(store, self.sessions, self.profiles, clock, gates=gates)
        self.custody = Custody(store, self.registrar, clock=clock, peer=OPERATOR)

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

    async def events(self) -> list[Event]:
        await self.store.writer.settled()
        return await self.registrar.events(after_seq=0, limit=1000, device_id=None)

    async def refusals(self) -> list[str]:
        """The reasons of all refusals that were written down."""
        return [one.reason for one in await self.events() if one.outcome.value == "refused"]

    async def devices(self) -> list[str]:
        page = await self.registrar.devices(after_id=0, limit=100, profile_id=None, text="")
        return [one.device.name for one in page]

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


def asking(csr: str) -> RequestedCredentials:
    """What a device asks that wants a certificate."""
    return RequestedCredentials(type=X509, csr=csr)


async def chain_fleet(
    new_fleet: Callable[..., Any],
    root: certs.Issued,
    *,
    pattern: str = "(.*)",
    create: bool = True,
    name: str = "factory",
    **settings: Any,
) -> Any:
    """A profile that believes `root`."""
    rule = ChainRule(certificate=root.pem, pattern=pattern, create=create)
    kind = ProvisionType.X509_CERTIFICATE_CHAIN
    return await new_fleet(kind, name, chain=rule, **settings)


async def born(certified: Certified, fleet: Any, name: str, key: Any = None) -> Provisioned:
    """A device with a certificate of ours."""
    request = fleet.request(name, credentials=asking(certs.csr(key)))
    result = await certified.provisioner.provision(request)
    assert isinstance(result, Provisioned), result
    return result


def short_lived(**settings: Any) -> CertificateProfile:
    return CertificateProfile(lifetime_days=1, **settings)
