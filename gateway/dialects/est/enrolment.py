"""Who enrols, and as what: the same for both wires."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from msgspec import structs

from gateway.core.access import Access
from gateway.core.certifying import Certifier
from gateway.core.limits import RateLimiter
from gateway.core.model import (
    Certificate,
    Device,
    DeviceCredentialsType,
    DeviceProfile,
    FleetTicket,
    Identity,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    RefusalReason,
    Refused,
    RequestedCredentials,
    Secret,
)
from gateway.core.pki.model import CertificateProfile, Unfit
from gateway.core.ports import Clock
from gateway.core.profiles import Profiles
from gateway.core.provisioning import Provisioner
from gateway.dialects.est.messages import NO_SUCH_LABEL, csr_text, refusal
from gateway.wire.call import Call, Reply, Status

if TYPE_CHECKING:
    from gateway.core.pki.csr import SigningRequest

Tickets: TypeAlias = Callable[[Secret], Awaitable[FleetTicket | None]]
"""The ticket of a provision key (`Store.find_fleet_ticket`)."""

_DAY_MS = 86_400_000


class Enrolment:
    """Turns EST requests into provisioning and renewal. A certificate (DER) is on disk when it is
    returned; a `Reply` instead of one says why there is none.

    Renewals count as messages of their device, in the limits of `limiter`.
    """

    def __init__(
        self,
        *,
        provisioner: Provisioner,
        certifier: Certifier,
        access: Access,
        profiles: Profiles,
        tickets: Tickets,
        limiter: RateLimiter,
        clock: Clock,
    ) -> None:
        self._provisioner = provisioner
        self._certifier = certifier
        self._access = access
        self._profiles = profiles
        self._tickets = tickets
        self._limiter = limiter
        self._clock = clock

    async def device(self, identity: Identity | None) -> Device | None:
        """The device a handshake proved. A certificate that ended counts as long as its profile
        lets it be renewed."""
        if identity is None:
            return None
        device = await self._access.by_identity(structs.replace(identity, expires_at=0))
        if device is None or not identity.expires_at:
            return device
        ended_ms = self._clock() - identity.expires_at
        if ended_ms <= 0:
            return device
        profile = await self._profiles.of(device)
        return device if ended_ms <= profile.certificate.grace_days * _DAY_MS else None

    async def wishes(self, call: Call, proof: ProvisionKey | None) -> CertificateProfile:
        """What certificates the caller's profile is about; the usual ones for a stranger."""
        device = await self.device(call.identity)
        if device is not None:
            return (await self._profiles.of(device)).certificate
        found = None if proof is None else await self._tickets(proof.key)
        if proof is None or found is None or found.derived:
            return CertificateProfile()  # a device's own key proves nothing without its name
        request = ProvisionRequest(proof=proof, peer=call.peer)
        ticket = await self._provisioner.door.prove(request, proof)
        return CertificateProfile() if isinstance(ticket, Refused) else ticket.profile.certificate

    async def first(self, call: Call, proof: ProvisionKey) -> bytes | Reply:
        """A device's first certificate, for a fleet's key and secret."""
        csr = csr_text(call.body)
        request = ProvisionRequest(
            proof=proof,
            peer=call.peer,
            device_name=await self._name_to_prove(proof, csr),
            credentials=RequestedCredentials(type=DeviceCredentialsType.X509_CERTIFICATE, csr=csr),
        )
        ticket = await self._provisioner.prove(request, proof)
        if isinstance(ticket, Refused):
            return refusal(ticket)
        if _elsewhere(call, ticket.profile):
            return NO_SUCH_LABEL
        # What a stranger sent is not looked into: a signature is checked in doing so.
        asked = _read(csr)
        name = None if asked is None else asked.common_name
        result = await self._provisioner.provision(structs.replace(request, device_name=name))
        if isinstance(result, Refused):
            return refusal(result)
        return _der(result)

    async def again(self, call: Call, device: Device, *, named: bool = False) -> bytes | Reply:
        """Another certificate for a device; `named`: the request must not name somebody else."""
        profile = await self._profiles.of(device)
        if _elsewhere(call, profile):
            return NO_SUCH_LABEL
        limited = self._limited(device, profile)
        if limited is not None:
            return limited
        csr = csr_text(call.body)
        if named and _names_another(csr, device, profile):
            mismatch = RefusalReason.CN_MISMATCH
            return refusal(await self._certifier.refuse(device, mismatch, call.peer))
        result = await self._certifier.renew(device, csr, call.peer)
        return refusal(result) if isinstance(result, Refused) else _der(result)

    async def _name_to_prove(self, proof: ProvisionKey, csr: str) -> str | None:
        """The name of which the caller shows the key, where devices have keys of their own."""
        ticket = await self._tickets(proof.key) if proof.key else None
        if ticket is None or not ticket.derived:
            return None
        from gateway.core.pki.csr import name_in

        return name_in(csr)

    def _limited(self, device: Device, profile: DeviceProfile) -> Reply | None:
        own = self._limiter.own_limits(profile.limits, gateway=device.gateway)
        limited = self._limiter.take(device, None, self._clock(), own=own)
        if limited is None:
            return None
        return Reply(
            status=Status.LIMITED,
            reason=f"the rate limit of the {limited.scope} ({limited.what}) is reached",
            retry_after_s=limited.retry_after_s,
        )


def _der(result: Provisioned) -> bytes:
    assert isinstance(result.credentials, Certificate)
    return b64decode(result.credentials.text)


def _elsewhere(call: Call, profile: DeviceProfile) -> bool:
    label = call.params.get("label")
    return label is not None and label != profile.name


def _read(csr: str) -> SigningRequest | None:
    """None for a request that cannot be read: who decides on it says so."""
    # Loads cryptography's X.509, which gateways without EST do not need.
    from gateway.core.pki.csr import read_csr

    try:
        return read_csr(csr)
    except Unfit:
        return None


def _names_another(csr: str, device: Device, profile: DeviceProfile) -> bool:
    """Whether the request names neither the device, nor what its certificates call it."""
    from gateway.core.pki.issuer import common_name

    request = _read(csr)
    if request is None or request.common_name is None:
        return False
    called = common_name(profile.certificate, name=device.name, profile_name=profile.name)
    return request.common_name not in (device.name, called)
