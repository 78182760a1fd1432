"""An authority, logins by certificate, and an operator, over the real store in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import certs
from certified import OPERATOR, Certified

from gateway.core.custody import Custody
from gateway.core.identities import Identities
from gateway.core.model import (
    DeviceCredentialsType,
    Event,
    Peer,
    Provisioned,
    ProvisionType,
    RequestedCredentials,
    Wire,
)
from gateway.core.pki.model import CertificateProfile, ChainRule
from gateway.core.presence import Attendance
from gateway.core.sessions import Sessions
from gateway.store.sql_store import SqlStore

PEER = Peer(Wire.COAPS, "192.0.2.9:50123")
X509 = DeviceCredentialsType.X509_CERTIFICATE
PSK = DeviceCredentialsType.DTLS_PSK


class House(Certified):
    """The same with sessions, secure wires' logins, and an operator who takes things back."""

    def __init__(self, store: SqlStore, clock: Any, tokens: Callable[[], str]) -> None:
        super().__init__(store, clock, tokens)
        self.sessions = Sessions(Attendance(store, clock))
        self.identities = Identities(store, self.sessions, self.profiles, clock)
        self.custody = Custody(store, self.registrar, clock=clock, peer=OPERATOR)

    async def events(self) -> list[Event]:
        await self.store.writer.settled()
        return await self.registrar.events(after_seq=0, limit=1000, device_id=None)

    async def refusals(self) -> list[str]:
        """The reasons of all refusals that were written down."""
        return [one.reason for one in await self.events() if one.outcome.value == "refused"]

    async def devices(self) -> list[str]:
        page = await self.registrar.devices(after_id=0, limit=100, profile_id=None, text="")
        return [one.device.name for one in page]


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


async def born(certified: House, fleet: Any, name: str, key: Any = None) -> Provisioned:
    """A device with a certificate of ours."""
    request = fleet.request(name, credentials=asking(certs.csr(key)))
    result = await certified.provisioner.provision(request)
    assert isinstance(result, Provisioned), result
    return result


def short_lived(**settings: Any) -> CertificateProfile:
    return CertificateProfile(lifetime_days=1, **settings)
