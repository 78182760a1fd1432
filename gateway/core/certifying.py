"""Certificates for devices that ask with a signing request, the first time and later ones."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

import structlog
from msgspec import structs

from gateway.core.authorities import Authorities
from gateway.core.limits import Allowance
from gateway.core.model import (
    Certificate,
    Device,
    DeviceProfile,
    Event,
    EventKind,
    Outcome,
    Peer,
    Provisioned,
    ProvisionResult,
    RefusalReason,
    Refused,
)
from gateway.core.pki.model import IssuedCertificate, SerialReservation, Unfit
from gateway.core.ports import Clock, Store
from gateway.core.profiles import Profiles

if TYPE_CHECKING:
    from gateway.core.pki.csr import SigningRequest

log = structlog.get_logger()

_HOUR_MS = 3_600_000
_EVENTS_AT_ONCE = 100
_EVENTS_PER_S = 10
"""How many refused renewals are written down; a flood of them must not fill the disk."""


class Certifier:
    """Signs what may be signed. A serial number is on disk before anything is signed with it, and
    the certificate before it is given to anybody.

    `most_an_hour`: certificates for one device; more are refused, since each is on the books, and
    on the revocation list, until its end.
    """

    def __init__(
        self,
        store: Store,
        authorities: Authorities,
        profiles: Profiles,
        clock: Clock,
        *,
        most_an_hour: int = 20,
    ) -> None:
        self._store = store
        self._authorities = authorities
        self._profiles = profiles
        self._clock = clock
        self._most_an_hour = most_an_hour
        self._refusals = Allowance(_EVENTS_AT_ONCE, _EVENTS_PER_S)

    async def certify(
        self, csr: str, profile: DeviceProfile, name: str
    ) -> IssuedCertificate | RefusalReason:
        """A certificate for the device `name` of that profile, signed and not written down yet.

        Its serial number is reserved: hand it to the store with the device, or forget it.
        """
        try:
            return await self._sign(self._read(csr, profile), profile, name)
        except Unfit as unfit:
            return unfit.reason

    async def issuers_of(self, certificate: Certificate) -> tuple[bytes, ...]:
        """Who signed a certificate of ours, up to but without the root (DER); empty for others."""
        named = _names_of(certificate.text)
        record = None if named is None else await self._store.certificate(named[0])
        if named is None or record is None:
            return ()
        signer = await self._authorities.signer_of(record.authority_id)
        if signer is None or signer.certificate.subject.public_bytes() != named[1]:
            return ()
        return signer.issuers

    async def renew(self, device: Device, csr: str, peer: Peer) -> ProvisionResult:
        """Another certificate for a device that proved who it is.

        It counts from its first use on; until then the device's older credentials do. A repeated
        request gives another, which replaces the one that was not used. Raises `CredentialsGone`,
        `StoreUnavailable` or `Overloaded`.
        """
        try:
            profile = await self._profiles.of(device)
            await self._check_number(device)
            request = self._read(csr, profile)
            if profile.certificate.fresh_key:
                await self._check_fresh(device, request)
            issued = await self._sign(request, profile, device.name)
        except Unfit as unfit:
            return await self.refuse(device, unfit.reason, peer)
        credentials = certificate_of(issued)
        if not await self._store.renew(device, credentials, issued, self._event(device, peer)):
            return await self.refuse(device, RefusalReason.CREDENTIALS_TAKEN, peer)
        log.info("device.renewed", wire=peer.wire, peer=peer.address, device=device.name)
        return Provisioned(device, credentials, issued.issuers)

    def _read(self, csr: str, profile: DeviceProfile) -> SigningRequest:
        # Loads cryptography's X.509, here and below: a gateway that signs nothing need not wait.
        from gateway.core.pki.csr import check_key, read_csr

        request = read_csr(csr)
        check_key(request.public_key, profile.certificate.keys)
        return request

    async def _sign(
        self, request: SigningRequest, profile: DeviceProfile, name: str
    ) -> IssuedCertificate:
        from gateway.core.pki.issuer import new_serial

        issuer = await self._authorities.issuer()
        now = self._clock()
        draft = issuer.draft(
            request, profile.certificate, name=name, profile_name=profile.name, now=now
        )
        serial = new_serial()
        reserved = await self._store.reserve_serial(
            SerialReservation(
                serial=serial,
                authority_id=issuer.signer.authority_id,
                key_digest=request.key_digest,
                organisation_id=profile.organisation_id,
                name=name,
                at=now,
            )
        )
        if not reserved:
            raise Unfit(RefusalReason.REUSED_KEY)
        return issuer.issue(draft, serial)

    async def _check_number(self, device: Device) -> None:
        since = self._clock() - _HOUR_MS
        if await self._store.certificates_since(device.id, since) >= self._most_an_hour:
            raise Unfit(RefusalReason.TOO_MANY_CERTIFICATES)

    async def _check_fresh(self, device: Device, request: SigningRequest) -> None:
        known = await self._store.known_device(device.id)
        if known is None or not isinstance(known.credentials, Certificate):
            return
        if key_of(known.credentials.text) == request.spki:
            raise Unfit(RefusalReason.REUSED_KEY)

    async def refuse(self, device: Device, reason: RefusalReason, peer: Peer) -> Refused:
        """Say no to a renewal, and write it down, unless many were written down just now."""
        log.info(
            "device.not_renewed",
            wire=peer.wire,
            peer=peer.address,
            device=device.name,
            reason=reason.value,
        )
        event = self._event(device, peer)
        if self._refusals.take(event.at):
            await self._store.record(
                structs.replace(
                    event,
                    outcome=Outcome.REFUSED,
                    reason=reason.value,
                    detail=self._refusals.untold(),
                )
            )
        return Refused(reason)

    def _event(self, device: Device, peer: Peer) -> Event:
        return Event(
            kind=EventKind.DEVICE_CREDENTIALS_RENEW,
            at=self._clock(),
            peer=peer,
            subject=device.name,
            device_id=device.id,
        )


def certificate_of(issued: IssuedCertificate) -> Certificate:
    """What a device has that was given this certificate."""
    return Certificate(b64encode(issued.der).decode())


def _names_of(text: str) -> tuple[int, bytes] | None:
    """The serial number and issuer (DER) of a certificate in base64, if it can be read."""
    from cryptography import x509

    from gateway.core.pki.csr import UNREADABLE, quietly

    try:
        with quietly():
            certificate = x509.load_der_x509_certificate(b64decode(text))
            return certificate.serial_number, certificate.issuer.public_bytes()
    except UNREADABLE:
        return None


def key_of(text: str) -> bytes | None:
    """The public key (SubjectPublicKeyInfo, DER) of a certificate in base64, if it can be read."""
    from cryptography import x509

    from gateway.core.pki.csr import UNREADABLE, quietly, spki_of

    try:
        with quietly():
            return spki_of(x509.load_der_x509_certificate(b64decode(text)).public_key())
    except UNREADABLE:
        return None
