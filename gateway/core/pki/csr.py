"""Signing requests (PKCS #10, RFC 2986): read, and proven to come from who has the key.

A request says one thing that counts, its public key. Its subject and the extensions it asks for are
read so that a request for more than the profile gives can be refused; they decide nothing.
"""

from __future__ import annotations

import binascii
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from msgspec import Struct

from gateway.core.model import RefusalReason
from gateway.core.pki.model import KeyKind, Unfit

MOST_REQUEST_BYTES: Final = 16_384
"""Of a request in any form; one with an RSA key of 8192 bits is 3 KiB of PEM."""
_RSA_BITS: Final = range(2048, 8192 + 1)
_LEAST_EXPONENT: Final = 65_537
_MOST_EXPONENT_BITS: Final = 64
"""What OpenSSL verifies with a large modulus; a longer exponent only costs us time."""
_DER_SEQUENCE: Final = 0x30
_LABELS: Final = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
_BROKEN_HASHES: Final = (hashes.MD5, hashes.SHA1)
"""cryptography verifies no signature over them since some version; older ones do."""

UNREADABLE: Final = (
    *(ValueError, TypeError, OverflowError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
"""What cryptography raises of bytes that are no certificate or request, at once or when asked."""

PublicKey: TypeAlias = CertificatePublicKeyTypes


class SigningRequest(Struct, frozen=True, kw_only=True):
    """A request whose sender has the private key.

    `spki` is the key as SubjectPublicKeyInfo (DER), `key_digest` its SHA-256. `common_name` is the
    first of its subject. `pem`: it came as PEM, so the answer is PEM too.
    """

    public_key: PublicKey
    spki: bytes
    key_digest: bytes
    common_name: str | None
    extensions: x509.Extensions | None
    pem: bool


# ── reading ───────────────────────────────────────────────────────────────────────────────────


def read_csr(text: str | bytes) -> SigningRequest:
    """A request as PEM, as base64 of its DER (in lines or not), or as DER bytes; 16 KiB at most.

    Raises `Unfit`: CSR_UNREADABLE, WEAK_KEY for a key we certify for nobody (found out before it
    costs the time of a verification), BAD_SIGNATURE when its signature is not made with its key.
    """
    if len(text) > MOST_REQUEST_BYTES:
        raise Unfit(RefusalReason.CSR_UNREADABLE, f"over {MOST_REQUEST_BYTES} bytes")
    try:
        der, pem = _der_of(text)
        with quietly():
            return _read(der, pem)
    except UNREADABLE as exc:
        raise Unfit(RefusalReason.CSR_UNREADABLE, type(exc).__name__) from None


def key_digest_of(text: str) -> bytes | None:
    """The `key_digest` of a request, whoever has its private key; None for one that is none."""
    if len(text) > MOST_REQUEST_BYTES:
        return None
    try:
        with quietly():
            public_key = x509.load_der_x509_csr(_der_of(text)[0]).public_key()
            return hashlib.sha256(spki_of(public_key)).digest()
    except UNREADABLE:
        return None


def name_in(text: str | bytes) -> str | None:
    """The common name a request gives, unproven: its signature is not looked at. None without."""
    if len(text) > MOST_REQUEST_BYTES:
        return None
    try:
        with quietly():
            return first_common_name(x509.load_der_x509_csr(_der_of(text)[0]).subject)
    except UNREADABLE:
        return None


def _read(der: bytes, pem: bool) -> SigningRequest:
    csr = x509.load_der_x509_csr(der)
    public_key = csr.public_key()
    key_kind(public_key)
    spki = spki_of(public_key)
    request = SigningRequest(
        public_key=public_key,
        spki=spki,
        key_digest=hashlib.sha256(spki).digest(),
        common_name=first_common_name(csr.subject),
        extensions=csr.extensions if len(csr.attributes) else None,
        pem=pem,
    )
    _prove_possession(csr)
    return request


def _prove_possession(csr: x509.CertificateSigningRequest) -> None:
    try:
        proven = csr.is_signature_valid
        broken = isinstance(csr.signature_hash_algorithm, _BROKEN_HASHES)
    except UNREADABLE:
        proven, broken = False, False
    if not proven or broken:
        raise Unfit(RefusalReason.BAD_SIGNATURE, "MD5 or SHA-1" if broken else "")


def _der_of(text: str | bytes) -> tuple[bytes, bool]:
    """The DER, and whether it came as PEM. No base64 of a request begins as DER does."""
    if isinstance(text, bytes):
        if text[:1] == bytes((_DER_SEQUENCE,)):
            return text, False
        text = text.decode("ascii")
    body = _pem_body(text)
    stripped = "".join((text if body is None else body).split())
    return binascii.a2b_base64(stripped, strict_mode=True), body is not None


def _pem_body(text: str) -> str | None:
    """What is between the markers, whether or not a sender lost the line breaks around them."""
    for label in _LABELS:
        _, begun, rest = text.partition(f"-----BEGIN {label}-----")
        body, ended, _ = rest.partition(f"-----END {label}-----")
        if begun and ended:
            return body
    return None


@contextmanager
def quietly() -> Iterator[None]:
    """Without cryptography's warnings: what strangers send is not the operator's to repair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def first_common_name(subject: x509.Name) -> str | None:
    """The first CN; None when there is none, or it is empty."""
    for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        return str(attribute.value) or None
    return None


# ── keys ──────────────────────────────────────────────────────────────────────────────────────


def spki_of(public_key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7), DER: equal for equal keys."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_kind(public_key: PublicKey) -> KeyKind:
    """Which kind of ours a key is. Raises `Unfit(WEAK_KEY)` for all we certify for nobody."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        if isinstance(public_key.curve, ec.SECP256R1):
            return KeyKind.P256
        if isinstance(public_key.curve, ec.SECP384R1):
            return KeyKind.P384
    elif isinstance(public_key, ed25519.Ed25519PublicKey):
        return KeyKind.ED25519
    elif isinstance(public_key, rsa.RSAPublicKey) and _strong_rsa(public_key):
        return KeyKind.RSA
    raise Unfit(RefusalReason.WEAK_KEY, "not P-256, P-384, Ed25519, or RSA of 2048 to 8192 bits")


def _strong_rsa(public_key: rsa.RSAPublicKey) -> bool:
    exponent = public_key.public_numbers().e
    return (
        public_key.key_size in _RSA_BITS
        and exponent >= _LEAST_EXPONENT
        and exponent.bit_length() <= _MOST_EXPONENT_BITS
        and exponent % 2 == 1
    )


def check_key(public_key: PublicKey, allowed: Sequence[KeyKind]) -> None:
    """Raises `Unfit(WEAK_KEY)` unless the key is of an allowed kind."""
    kind = key_kind(public_key)
    if kind not in allowed:
        raise Unfit(RefusalReason.WEAK_KEY, f"{kind.value} is not among the profile's keys")
