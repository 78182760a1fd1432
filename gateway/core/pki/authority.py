"""Who signs: our own authority, or one from a file. `Signer` is where another would plug in.

Ours is a root that signs issuing keys, and an issuing key that signs devices' certificates. Both
are P-256, the one curve that the smallest devices have anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, Protocol, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from gateway.core.errors import ConfigError
from gateway.core.model import RefusalReason, Secret
from gateway.core.pki.csr import UNREADABLE, spki_of
from gateway.core.pki.model import Authority, AuthorityRole, Unfit
from gateway.core.tokens import new_token

ROOT_DAYS: Final = 20 * 365
ISSUING_DAYS: Final = 5 * 365
BACKDATED: Final = timedelta(minutes=5)
"""A new certificate holds from then on: clocks of devices go a little wrong."""
_LEAST_RSA_BITS: Final = 2048
_LEAST_CURVE_BITS: Final = 256

PrivateKey: TypeAlias = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)


class Signer(Protocol):
    """A key that certifies, and the certificates that say it may."""

    @property
    def authority_id(self) -> int:
        """As the store counts them; 0 is the one from a file."""

    @property
    def certificate(self) -> x509.Certificate: ...

    @property
    def issuers(self) -> tuple[bytes, ...]:
        """DER: its own certificate, and so on up to but without the root; none if it is one."""

    @property
    def root(self) -> bytes:
        """DER of the last certificate that is known: a root, if the file had it."""

    @property
    def key(self) -> PrivateKey:
        """For what is not a certificate: revocation lists, OCSP answers."""

    @property
    def algorithm(self) -> bytes:
        """Of its signatures: an AlgorithmIdentifier (RFC 5280, section 4.1.1.2) in DER."""

    def sign(self, content: bytes) -> bytes:
        """A signature, as it stands in a certificate."""


class KeySigner:
    """A `Signer` whose key is in memory."""

    def __init__(
        self,
        authority_id: int,
        certificate: x509.Certificate,
        key: PrivateKey,
        *,
        issuers: tuple[bytes, ...],
        root: bytes,
    ) -> None:
        self.authority_id = authority_id
        self.certificate = certificate
        self.issuers = issuers
        self.root = root
        self.key = key
        self._hash = hash_for(key)
        self.algorithm = _algorithm(key)

    def sign(self, content: bytes) -> bytes:
        match self.key, self._hash:
            case ec.EllipticCurvePrivateKey() as key, hashes.HashAlgorithm() as over:
                return key.sign(content, ec.ECDSA(over))
            case rsa.RSAPrivateKey() as key, hashes.HashAlgorithm() as over:
                return key.sign(content, padding.PKCS1v15(), over)
            case (ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey()) as key, None:
                return key.sign(content)
        raise AssertionError("a key of another kind")

    def __repr__(self) -> str:
        return f"KeySigner({self.authority_id})"


def hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """What a signature of this key is over (as strong as the key); EdDSA brings its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return None
    if isinstance(key, rsa.RSAPrivateKey) or key.curve.key_size <= 256:
        return hashes.SHA256()
    return hashes.SHA384() if key.curve.key_size <= 384 else hashes.SHA512()


_ALGORITHMS: Final = {
    # RSA's parameters are NULL (RFC 4055, section 5), the others have none (RFC 5758, RFC 8410).
    "rsa": bytes.fromhex("300d06092a864886f70d01010b0500"),
    "sha256": bytes.fromhex("300a06082a8648ce3d040302"),
    "sha384": bytes.fromhex("300a06082a8648ce3d040303"),
    "sha512": bytes.fromhex("300a06082a8648ce3d040304"),
    "ed25519": bytes.fromhex("300506032b6570"),
    "ed448": bytes.fromhex("300506032b6571"),
}


def _algorithm(key: PrivateKey) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return _ALGORITHMS["rsa"]
    over = hash_for(key)
    if over is not None:
        return _ALGORITHMS[over.name]
    return _ALGORITHMS["ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "ed448"]


def moment(ms: int) -> datetime:
    """To the second: certificates know nothing finer."""
    return datetime.fromtimestamp(ms // 1000, UTC)


def authority_key_id(signer: Signer) -> x509.AuthorityKeyIdentifier:
    """As the issuer names its own key (RFC 5280, sections 4.2.1.1 and 5.2.1), so that both are
    found equal however that was made."""
    for extension in signer.certificate.extensions:
        if isinstance(extension.value, x509.SubjectKeyIdentifier):
            return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(extension.value)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())


# ── our own ───────────────────────────────────────────────────────────────────────────────────


def make_root(now: int) -> Authority:
    """A new root for 20 years. Two gateways' roots have different names."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Gatehouse root")
    builder = _authority(name, key, now, ROOT_DAYS, path_length=1)
    made = _signed(builder.issuer_name(name), key, key)
    return _kept(AuthorityRole.ROOT, made, key, now)


def make_issuing(root: Authority, now: int) -> Authority:
    """A new issuing key for 5 years, or as long as the root holds. May have no other under it.

    Raises `Unfit(NO_AUTHORITY)` when the root's key is not here or its time is over.
    """
    issuer = x509.load_der_x509_certificate(root.certificate)
    if moment(now) >= issuer.not_valid_after_utc:
        raise Unfit(RefusalReason.NO_AUTHORITY, "the root has expired")
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Gatehouse issuing")
    builder = _authority(name, key, now, ISSUING_DAYS, path_length=0, issuer=issuer)
    made = _signed(builder.issuer_name(issuer.subject), key, _key_of(root))
    return _kept(AuthorityRole.ISSUING, made, key, now)


def signer_of(authority: Authority, roots: Sequence[Authority]) -> Signer:
    """The signer of an authority of ours, under whichever of `roots` signed it.

    Raises `Unfit(NO_AUTHORITY)` when its key is not here, or it is under none of them.
    """
    certificate = x509.load_der_x509_certificate(authority.certificate)
    key = _key_of(authority)
    for root in roots:
        if _issued(x509.load_der_x509_certificate(root.certificate), certificate):
            own_root = authority.certificate == root.certificate
            issuers = () if own_root else (authority.certificate,)
            return KeySigner(authority.id, certificate, key, issuers=issuers, root=root.certificate)
    raise Unfit(RefusalReason.NO_AUTHORITY, f"authority {authority.id} is under no root of ours")


def _name(kind: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{kind} {new_token(8)}")])


def _authority(
    name: x509.Name,
    key: PrivateKey,
    now: int,
    days: int,
    *,
    path_length: int,
    issuer: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    end = moment(now) + timedelta(days=days)
    if issuer is not None:
        end = min(end, issuer.not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment(now) - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_AUTHORITY_USAGE, critical=True)
    )


_AUTHORITY_USAGE: Final = x509.KeyUsage(
    digital_signature=True,  # of OCSP answers
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _signed(
    builder: x509.CertificateBuilder, key: PrivateKey, issuer: PrivateKey
) -> x509.Certificate:
    subject_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return (
        builder.add_extension(subject_id, critical=False)
        .add_extension(issuer_id, critical=False)
        .sign(issuer, hash_for(issuer))
    )


def _kept(role: AuthorityRole, made: x509.Certificate, key: PrivateKey, now: int) -> Authority:
    return Authority(
        role=role,
        certificate=made.public_bytes(Encoding.DER),
        key=key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        created_at=now,
    )


def _key_of(authority: Authority) -> PrivateKey:
    if authority.key is None:
        raise Unfit(RefusalReason.NO_AUTHORITY, f"the key of authority {authority.id} is not here")
    key = load_der_private_key(authority.key, None)
    assert isinstance(key, PrivateKey), "nothing else is kept"
    return key


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


# ── from a file ───────────────────────────────────────────────────────────────────────────────


def file_signer(
    certificate_pem: bytes, key_pem: bytes, passphrase: Secret | None, *, now: int
) -> Signer:
    """An authority from elsewhere, number 0: PEM with its certificate first, then its issuers.

    The key is PKCS #8, or as OpenSSL once wrote it; encrypted or not. Raises `ConfigError`.
    """
    chain = _certificates(certificate_pem)
    certificate = chain[0]
    key = _key(key_pem, passphrase)
    if spki_of(certificate.public_key()) != spki_of(key.public_key()):
        raise _unfit("the key does not belong to the certificate", "Give both of one authority")
    _check_authority(certificate)
    _check_time(certificate, now)
    _check_order(chain)
    ders = tuple(one.public_bytes(Encoding.DER) for one in chain)
    issuers = ders[:-1] if _issued(chain[-1], chain[-1]) else ders
    return KeySigner(0, certificate, key, issuers=issuers, root=ders[-1])


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except UNREADABLE:
        raise _unfit(
            "certificate_file has no certificate that can be read",
            "It must be PEM (`-----BEGIN CERTIFICATE-----`), the authority's own certificate first",
        ) from None


def _key(pem: bytes, passphrase: Secret | None) -> PrivateKey:
    opened_by = None if passphrase is None else passphrase.reveal().encode()
    try:
        key = _load(pem, opened_by)
    except TypeError:
        raise _unfit(
            "the key in key_file is encrypted", "Set GATEHOUSE_AUTHORITY_PASSPHRASE"
        ) from None
    except ValueError:
        raise _unfit(
            "key_file cannot be read as a key, or the passphrase is not its",
            "It must be PEM (`-----BEGIN PRIVATE KEY-----`); see GATEHOUSE_AUTHORITY_PASSPHRASE",
        ) from None
    except UnsupportedAlgorithm:
        raise _unfit("the key in key_file is of no kind known here", _KINDS) from None
    if not isinstance(key, PrivateKey) or _weak(key):
        raise _unfit("the key in key_file is too weak, or cannot sign", _KINDS)
    return key


def _load(pem: bytes, passphrase: bytes | None) -> object:
    """A passphrase that is not needed is no error: it may be set for another file."""
    encrypted = b"ENCRYPTED" in pem
    return load_pem_private_key(pem, passphrase if encrypted else None)


_KINDS: Final = "Use ECDSA on P-256 or more, Ed25519, or RSA of 2048 bits or more"


def _weak(key: PrivateKey) -> bool:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.key_size < _LEAST_RSA_BITS
    return isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size < _LEAST_CURVE_BITS


def _check_authority(certificate: x509.Certificate) -> None:
    try:
        extensions = certificate.extensions
    except UNREADABLE:
        raise _unfit("the certificate's extensions cannot be read", "Have it made anew") from None
    if not any(isinstance(one.value, x509.BasicConstraints) and one.value.ca for one in extensions):
        raise _unfit(
            "the certificate is no authority's (basicConstraints do not say CA:TRUE)",
            "Have it issued as that of a subordinate CA",
        )
    for one in extensions:
        if isinstance(one.value, x509.KeyUsage) and not one.value.key_cert_sign:
            raise _unfit(
                "the certificate's key may not sign certificates (keyUsage has no keyCertSign)",
                "Have it issued with keyCertSign and cRLSign",
            )


def _check_time(certificate: x509.Certificate, now: int) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if moment(now) > end:
        raise _unfit(f"the certificate expired at {end:%Y-%m-%d %H:%M} UTC", "Have it renewed")
    if moment(now) < start:
        raise _unfit(
            f"the certificate holds only from {start:%Y-%m-%d %H:%M} UTC on",
            "Check this machine's clock",
        )


def _check_order(chain: Sequence[x509.Certificate]) -> None:
    for at, (lower, upper) in enumerate(pairwise(chain), 2):
        if not _issued(upper, lower):
            raise _unfit(
                f"certificate {at} in certificate_file is not the issuer of the one before it",
                "The order is: the authority's own, its issuer, and so on up to the root",
            )


def _unfit(what: str, remedy: str) -> ConfigError:
    return ConfigError(f"[ca]: {what}. {remedy}.")
