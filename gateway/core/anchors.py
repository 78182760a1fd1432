"""Whom do profiles believe? The certificates that admit to them, and the paths that lead there."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from msgspec import Struct

from gateway.core.model import DeviceProfile, RefusalReason
from gateway.core.pki.model import CertificateState, ChainRule, Unfit
from gateway.core.ports import Clock, Store

log = structlog.get_logger()

FRESH_MS = 5000
"""How long the anchors of chain profiles are known without another look."""


class Anchor(Struct, frozen=True):
    """A certificate that admits to a profile; `der` and `subject` are DER."""

    profile: DeviceProfile
    rule: ChainRule
    der: bytes
    subject: bytes


class Anchors:
    """The anchors of all profiles."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: list[Anchor] = []
        self._fresh_until = 0
        self._age = 0
        """How often it was told to forget."""

    def forget(self) -> None:
        """A profile changed, perhaps what it believes."""
        self._fresh_until = 0
        self._age += 1

    async def believed(self, chain: Sequence[bytes]) -> Anchor:
        """The anchor from which a valid path leads to the leaf. Raises `Unfit`."""
        # Loads OpenSSL's bindings and RE2, here and below: only secure wires show certificates.
        from gateway.core.pki.chain import verify_chain

        issuers, serials = zip(*map(_named, chain), strict=True)
        failure: RefusalReason | None = None
        for anchor in await self._fresh():
            if anchor.subject not in issuers and anchor.der not in chain:
                continue
            try:
                verify_chain(chain, anchor.der, self._clock())
            except Unfit as unfit:
                failure = failure or unfit.reason
            else:
                return anchor
        raise Unfit(failure or await self._unknown(serials[0]))

    async def _unknown(self, serial: int) -> RefusalReason:
        """Why a certificate that nobody believes is not a device's, as far as we signed it."""
        record = await self._store.certificate(serial)
        if record is None:
            return RefusalReason.UNKNOWN_CA
        if record.state is CertificateState.REVOKED:
            return RefusalReason.CREDENTIALS_REVOKED
        return RefusalReason.UNKNOWN_CERTIFICATE

    async def _fresh(self) -> list[Anchor]:
        now = self._clock()
        if now >= self._fresh_until:
            age = self._age
            profiles = await self._store.chain_profiles()
            self._known = [found for one in profiles if (found := _anchor(one)) is not None]
            if age == self._age:  # else something changed while we read
                self._fresh_until = now + FRESH_MS
        return self._known


def _named(der: bytes) -> tuple[bytes, int]:
    """The name of its issuer, DER, and its serial number."""
    from cryptography import x509

    from gateway.core.pki.csr import UNREADABLE, quietly

    try:
        with quietly():
            certificate = x509.load_der_x509_certificate(der)
            return certificate.issuer.public_bytes(), certificate.serial_number
    except UNREADABLE:
        raise Unfit(RefusalReason.CHAIN_UNREADABLE) from None


def _anchor(profile: DeviceProfile) -> Anchor | None:
    if profile.chain is None:
        return None
    from cryptography import x509

    from gateway.core.pki.chain import anchor_of

    try:
        der = anchor_of(profile.chain.certificate)
        subject = x509.load_der_x509_certificate(der).subject.public_bytes()
    except ValueError as exc:
        # Proven when it was read from its file: it was written by another version.
        log.error("profile.unusable", profile=profile.name, reason=str(exc))
        return None
    return Anchor(profile, profile.chain, der, subject)
