"""What a person wants to know of a certificate: whose, from whom, for which names, how long."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec import Struct

from gateway.cli.tables import when
from gateway.core.errors import ConfigError

DAY_MS = 86_400_000
MOST_PEM_BYTES = 262_144
_SERVER_USAGES = {
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}
_FEWEST_RSA_BITS, _FEWEST_EC_BITS = 2048, 224


class Facts(Struct, frozen=True, kw_only=True):
    """One certificate. `names` are its subject alternative names (`DNS:…`, `IP:…`, `URI:…`).

    Times are milliseconds; `fingerprint` is the SHA-256 of the DER in hex. `faults` are sentences
    about what makes clients refuse it or anybody distrust it, apart from its dates.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    serial: int
    fingerprint: str
    not_before: int
    not_after: int
    key: str
    authority: bool
    for_servers: bool = True
    """Whether its extended key usage, if it has one, allows a TLS server."""
    faults: tuple[str, ...] = ()

    def plain(self, now: int) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "serial": serial_text(self.serial),
            "sha256": self.fingerprint,
            "not_before": self.not_before,
            "not_after": self.not_after,
            "days_left": days_left(self.not_after, now),
            "key": self.key,
            "authority": self.authority,
        }

    def fields(self, now: int) -> list[tuple[str, str]]:
        """As a person reads it."""
        return [
            ("subject", self.subject),
            ("issuer", self.issuer if self.issuer != self.subject else "itself"),
            *([("for", ", ".join(self.names))] if self.names else []),
            ("serial", serial_text(self.serial)),
            ("sha256", self.fingerprint),
            ("valid", f"{when(self.not_before)} to {when(self.not_after)}"),
            ("", lasting_until(self.not_after, now)),
            ("key", self.key),
        ]


def facts_of(certificate: x509.Certificate) -> Facts:
    """Read it. Raises `ValueError` where an extension it needs for that cannot be read."""
    constraints = _extension(certificate, x509.BasicConstraints)
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    return Facts(
        subject=_name(certificate.subject),
        issuer=_name(certificate.issuer),
        names=_alternative_names(certificate),
        serial=certificate.serial_number,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=_ms(certificate.not_valid_before_utc.timestamp()),
        not_after=_ms(certificate.not_valid_after_utc.timestamp()),
        key=_key(certificate),
        authority=constraints is not None and constraints.ca,
        for_servers=usages is None or not _SERVER_USAGES.isdisjoint(usages),
        faults=tuple(_faults(certificate)),
    )


def facts_of_der(der: bytes) -> Facts | None:
    """The same of DER; None when it is no certificate that can be read."""
    try:
        return facts_of(x509.load_der_x509_certificate(der))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None


def facts_of_text(text: str) -> Facts | None:
    """The same of a certificate as credentials have it: base64 of DER."""
    try:
        return facts_of_der(b64decode(text, validate=True))
    except binascii.Error:
        return None


def facts_of_pem(text: str) -> Facts | None:
    """The same of the first certificate in a PEM text."""
    try:
        return facts_of(x509.load_pem_x509_certificate(text.encode()))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_PEM_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror}).") from None
    if len(content) > MOST_PEM_BYTES:
        raise ConfigError(f"{path}: is larger than {MOST_PEM_BYTES} bytes; is this the file?")
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise ConfigError(f"{path}: {_no_certificate(content)}") from None


def _no_certificate(content: bytes) -> str:
    """What the file holds instead, and what shows that."""
    if b"-----BEGIN CERTIFICATE REQUEST-----" in content:
        return "holds a signing request; `openssl req -noout -text -in FILE` shows it."
    if b"PRIVATE KEY-----" in content:
        return "holds a key, and no certificate that can be read."
    return (
        "holds no certificate in PEM that can be read. `openssl x509 -inform der -in FILE` makes "
        "PEM of DER."
    )


# ── a chain ───────────────────────────────────────────────────────────────────────────────────


class Chain(Struct, frozen=True):
    """How far a file's certificates lead: `sound` when each was signed by the next."""

    sound: bool
    told: str


def chain_of(certificates: Sequence[x509.Certificate], known: x509.Certificate | None) -> Chain:
    """Whether each certificate was signed by the next; `known` is one that may be the last's.

    Only names and signatures are looked at: whom a client trusts is its own affair.
    """
    for number, (one, issuer) in enumerate(pairwise(certificates), 1):
        if not signed_by(one, issuer):
            return Chain(False, f"certificate {number + 1} of the file did not sign the one before")
    last = certificates[-1]
    if signed_by(last, last):
        return Chain(True, f"complete up to its root, {_name(last.subject)}")
    if known is not None and signed_by(last, known):
        return Chain(True, f"signed by the lab authority, {_name(known.subject)}")
    if len(certificates) == 1:
        return Chain(False, f"its issuer, {_name(last.issuer)}, is not in the file")
    return Chain(
        True, f"{len(certificates)} certificates; the last was signed by {_name(last.issuer)}"
    )


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


# ── words ─────────────────────────────────────────────────────────────────────────────────────


def serial_text(serial: int) -> str:
    """A serial number as `--serial` takes it: hex, of whole bytes."""
    text = f"{serial:x}"
    return text.zfill(len(text) + len(text) % 2)


def days_left(not_after: int, now: int) -> int:
    """Whole days until then; negative after it."""
    return (not_after - now) // DAY_MS


def lasting_until(not_after: int, now: int) -> str:
    """`ends in 30 days`, or that it ended."""
    if not_after < now:
        gone = (now - not_after) // DAY_MS
        return f"EXPIRED {_days(gone)} ago" if gone else "EXPIRED less than a day ago"
    days = days_left(not_after, now)
    return f"ends in {_days(days)}" if days else "ends within a day"


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number:,} days"


def _name(name: x509.Name) -> str:
    return name.rfc4514_string() or "(no name)"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    found = _extension(certificate, x509.SubjectAlternativeName)
    return tuple(f"{_WORDS.get(type(one), 'other')}:{one.value}" for one in found or ())


_WORDS: Mapping[type[Any], str] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.UniformResourceIdentifier: "URI",
}


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "of an unknown kind"
    match key:
        case ec.EllipticCurvePublicKey():
            return f"EC {_CURVES.get(key.curve.name, key.curve.name)}"
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case _:
            return type(key).__name__.removesuffix("PublicKey").lstrip("_")


_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def _faults(certificate: x509.Certificate) -> list[str]:
    """What today's clients refuse whatever the dates say."""
    faults = []
    algorithm = certificate.signature_hash_algorithm
    if algorithm is not None and algorithm.name in ("md5", "sha1"):
        faults.append(f"it is signed with {algorithm.name}")
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return [*faults, "its key is of an unknown kind"]
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _FEWEST_RSA_BITS:
        faults.append(f"its RSA key has {key.key_size} bits; 2048 are the least")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < _FEWEST_EC_BITS:
        faults.append(f"its curve {key.curve.name} is weak")
    return faults
