"""What is signed of certificates that count no more: revocation lists and OCSP answers, in DER.

RFC 5280 section 5, RFC 6960, RFC 9654. `revocation` says when one is made, and of what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from msgspec import Struct

from gateway.core.pki.authority import Signer, authority_key_id, hash_for, moment
from gateway.core.pki.csr import UNREADABLE
from gateway.core.pki.model import CertificateRecord, CertificateState, RevocationReason

MOST_NONCE_BYTES: Final = 32
"""Of a nonce that is repeated in the answer; longer ones are left out of it (RFC 9654, 2.1)."""
_LONGEST_NONCE: Final = 128
"""No nonce is longer, nor empty (RFC 9654, section 2.1)."""

_REASONS: Final = {
    RevocationReason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    RevocationReason.AFFILIATION_CHANGED: x509.ReasonFlags.affiliation_changed,
    RevocationReason.SUPERSEDED: x509.ReasonFlags.superseded,
    RevocationReason.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
    RevocationReason.PRIVILEGE_WITHDRAWN: x509.ReasonFlags.privilege_withdrawn,
}
"""UNSPECIFIED is said by saying nothing (RFC 5280, section 5.3.1)."""
_ENTRY_REASONS: Final = {reason: (x509.CRLReason(flag),) for reason, flag in _REASONS.items()}


def make_list(
    signer: Signer,
    records: Sequence[CertificateRecord],
    number: int,
    this_update: int,
    next_update: int,
) -> bytes:
    """A signed CRL v2 of these revoked certificates, in DER. Takes 10 µs for each."""
    builder = x509.CertificateRevocationListBuilder(
        signer.certificate.subject,
        moment(this_update),
        moment(next_update),
        [],
        # One by one the builder would copy all that came before.
        [_entry(record) for record in records],
    )
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    builder = builder.add_extension(authority_key_id(signer), critical=False)
    return builder.sign(signer.key, hash_for(signer.key)).public_bytes(Encoding.DER)


def _entry(record: CertificateRecord) -> x509.RevokedCertificate:
    entry = x509.RevokedCertificateBuilder(record.serial, moment(record.revoked_at))
    for reason in _ENTRY_REASONS.get(record.reason, ()):
        entry = entry.add_extension(reason, critical=False)
    return entry.build()


# ── OCSP ──────────────────────────────────────────────────────────────────────────────────────


def _unsuccessful(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


MALFORMED: Final = _unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
UNAUTHORIZED: Final = _unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
TRY_LATER: Final = _unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
"""Responses without an answer (RFC 6960, section 2.3)."""

_ALGORITHMS: Final = (
    hashes.SHA1(),  # noqa: S303
    hashes.SHA224(),
    hashes.SHA256(),
    hashes.SHA384(),
    hashes.SHA512(),
)
"""By which a request may name an issuer; SHA-1 is what nearly all use, and guards nothing here."""


class Unanswered(Exception):
    """There is no answer but this response."""

    def __init__(self, response: bytes) -> None:
        super().__init__()
        self.response = response


class Question(Struct, frozen=True):
    """About one certificate.

    `issuer` is by hash algorithm, hash of its name, hash of its key. `nonce`: what to repeat, if
    anything.
    """

    asked: ocsp.OCSPRequest
    issuer: tuple[str, bytes, bytes]
    serial: int
    nonce: bytes


def read_question(der: bytes) -> Question:
    """An OCSP request. Raises `Unanswered`."""
    try:
        asked = ocsp.load_der_ocsp_request(der)
        issuer = asked.hash_algorithm.name, asked.issuer_name_hash, asked.issuer_key_hash
        return Question(asked, issuer, asked.serial_number, _nonce(asked))
    except (NotImplementedError, UnsupportedAlgorithm):
        raise Unanswered(UNAUTHORIZED) from None
    except UNREADABLE:
        raise Unanswered(MALFORMED) from None


def _nonce(asked: ocsp.OCSPRequest) -> bytes:
    """The nonce to repeat. Raises `ValueError` for what no request may have."""
    nonce = b""
    for extension in asked.extensions:
        if isinstance(extension.value, x509.OCSPNonce):
            nonce = extension.value.nonce
            if not 0 < len(nonce) <= _LONGEST_NONCE:
                raise ValueError("the nonce has a length no nonce has")
        elif extension.critical:
            raise ValueError("a critical extension that is not known")
    return nonce if len(nonce) <= MOST_NONCE_BYTES else b""


def names_of(authority: x509.Certificate) -> list[tuple[str, bytes, bytes]]:
    """How requests may name this authority (RFC 6960, section 4.1.1)."""
    subject = authority.subject.public_bytes()
    names = []
    for algorithm in _ALGORITHMS:
        # The name it hashes is that of the first one's issuer, the key that of the second one.
        own = ocsp.OCSPRequestBuilder().add_certificate(authority, authority, algorithm).build()
        name_hash = hashlib.new(algorithm.name, subject).digest()
        names.append((algorithm.name, name_hash, own.issuer_key_hash))
    return names


def signed_response(
    question: Question,
    signer: Signer,
    record: CertificateRecord | None,
    this_update: int,
    next_update: int,
) -> bytes:
    """The answer, signed; `record` is None for a certificate that `signer` did not sign."""
    asked = question.asked
    revoked = record is not None and record.state is CertificateState.REVOKED
    status = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        asked.issuer_name_hash,
        asked.issuer_key_hash,
        asked.serial_number,
        asked.hash_algorithm,
        ocsp.OCSPCertStatus.UNKNOWN if record is None else status,
        moment(this_update),
        moment(next_update),
        moment(record.revoked_at) if record is not None and revoked else None,
        _REASONS.get(record.reason) if record is not None and revoked else None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    if question.nonce:
        builder = builder.add_extension(x509.OCSPNonce(question.nonce), critical=False)
    return builder.sign(signer.key, hash_for(signer.key)).public_bytes(Encoding.DER)
