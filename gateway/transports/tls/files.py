"""The server's certificate and key, read from two PEM files and proven to fit together."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct

from gateway.core.errors import ConfigError

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)
Mark = tuple[int, int, int]
"""A file as it was: time of change (ns), inode, size. Another one: it is to be read again."""

_MAX_BYTES = 1_048_576
_MAKE = "`gatehouse cert init` makes one for a lab"


class Pair(Struct, frozen=True):
    """A certificate, its issuers, and its key."""

    leaf: x509.Certificate
    issuers: tuple[x509.Certificate, ...]
    key: PrivateKey

    def holds_at(self, moment: datetime) -> bool:
        """Whether clients that look at the time will take the certificate."""
        return self.leaf.not_valid_before_utc <= moment <= self.leaf.not_valid_after_utc

    def __repr__(self) -> str:
        return "Pair(***)"


def mark_of(path: Path) -> Mark | None:
    """What tells one version of a file from the next; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def read_pair(certificate: Path, key: Path) -> Pair:
    """The pair in these files. Raises `ConfigError`, which says what to do."""
    leaf, *issuers = _certificates(certificate)
    private = _private_key(key)
    if _public(private) != _key_of(leaf, certificate):
        raise ConfigError(
            f"{key}: this key does not belong to the first certificate in {certificate}. "
            "Give the certificate that was made for this key, before its issuers'."
        )
    return Pair(leaf, tuple(issuers), private)


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path, "certificate"))
    except ValueError as exc:
        raise ConfigError(
            f"{path}: this is no PEM certificate. Write the server's certificate there, then its "
            f"issuers'; {_MAKE}."
        ) from exc


def _private_key(path: Path) -> PrivateKey:
    try:
        key = load_pem_private_key(_read(path, "key"), None)
    except TypeError as exc:
        raise ConfigError(
            f"{path}: this key is encrypted, and nobody is there to type its passphrase. "
            f"Decrypt it with `openssl pkey -in {path.name} -out {path.name}.plain`."
        ) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"{path}: this is no PEM private key; {_MAKE}.") from exc
    if not isinstance(key, PrivateKey):
        raise ConfigError(
            f"{path}: no TLS server can use a key of this kind; take an EC P-256 key."
        )
    return key


def _key_of(leaf: x509.Certificate, path: Path) -> object:
    try:
        return leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(
            f"{path}: no TLS server can use a certificate with a key of this kind; "
            "take an EC P-256 key."
        ) from exc


def _public(key: PrivateKey) -> object:
    return key.public_key()


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as exc:
        raise ConfigError(f"{path}: the {what} file of TLS is not there; {_MAKE}.") from exc
    except OSError as exc:
        raise ConfigError(
            f"{path}: the {what} file of TLS cannot be read: {exc.strerror}."
        ) from exc
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path}: the {what} file of TLS is larger than {_MAX_BYTES} bytes.")
    return content
