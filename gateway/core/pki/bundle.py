"""What EST carries: certificates without a signature around them, and what a request should hold.

RFC 5652 section 5.2 (the degenerate SignedData), RFC 7030 section 4.5.2 (CsrAttrs). All is DER.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.pki.model import CertificateProfile, KeyKind

_SEQUENCE: Final = 0x30
_SET: Final = 0x31

_EC_PUBLIC_KEY: Final = bytes.fromhex("06072a8648ce3d0201")
_P256: Final = bytes.fromhex("06082a8648ce3d030107")
_P384: Final = bytes.fromhex("06052b81040022")
_ECDSA_SHA256: Final = bytes.fromhex("06082a8648ce3d040302")
_ECDSA_SHA384: Final = bytes.fromhex("06082a8648ce3d040303")
_ED25519: Final = bytes.fromhex("06032b6570")
_RSA: Final = bytes.fromhex("06092a864886f70d010101")
_RSA_SHA256: Final = bytes.fromhex("06092a864886f70d01010b")
_2048_BITS: Final = bytes.fromhex("02020800")


def certs_only(certificates: Sequence[bytes]) -> bytes:
    """Certificates (DER each) in a PKCS #7 that signs nothing: "certs-only"."""
    # Loads cryptography's X.509 and PKCS #7, which gateways without EST do not need.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    return pkcs7.serialize_certificates(
        [x509.load_der_x509_certificate(der) for der in certificates], Encoding.DER
    )


def csr_attributes(profile: CertificateProfile) -> bytes:
    """The key that is liked best, and how to sign the request with it.

    That is the first of the profile's `keys`: the list has no way to say "or". The others are
    accepted all the same. Names and extensions are not asked for: the profile decides them.
    """
    kind = profile.keys[0] if profile.keys else KeyKind.P256
    return _tagged(_SEQUENCE, *_WANTED[kind])


def _tagged(tag: int, *parts: bytes) -> bytes:
    """Parts of less than 128 bytes together."""
    content = b"".join(parts)
    return bytes((tag, len(content))) + content


def _attribute(kind: bytes, value: bytes) -> bytes:
    return _tagged(_SEQUENCE, kind, _tagged(_SET, value))


_WANTED: Final[Mapping[KeyKind, tuple[bytes, ...]]] = {
    KeyKind.P256: (_attribute(_EC_PUBLIC_KEY, _P256), _ECDSA_SHA256),
    KeyKind.P384: (_attribute(_EC_PUBLIC_KEY, _P384), _ECDSA_SHA384),
    KeyKind.ED25519: (_ED25519,),
    KeyKind.RSA: (_attribute(_RSA, _2048_BITS), _RSA_SHA256),
}
