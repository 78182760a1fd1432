"""Certificates of ours as far as the store looks into them: a number, some bytes, an end."""

from __future__ import annotations

from gateway.core.model import Certificate
from gateway.core.pki.model import IssuedCertificate


def signed(serial: int) -> IssuedCertificate:
    """Lasts a day from the fixed clock's time on."""
    return IssuedCertificate(
        serial=serial,
        authority_id=1,
        der=b"certificate %d" % serial,
        not_after=1_790_000_000_000 + 86_400_000,
        issuers=(b"issuer",),
    )


def given(issued: IssuedCertificate) -> Certificate:
    """The credentials that this certificate is."""
    return Certificate(issued.der.decode())
