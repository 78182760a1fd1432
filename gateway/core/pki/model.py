"""The nouns of certificates. Times are milliseconds since the epoch, UTC; certificates are DER."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from gateway.core.model import RefusalReason


class KeyKind(StrEnum):
    """A kind of key we are ready to certify."""

    P256 = "P-256"
    P384 = "P-384"
    ED25519 = "Ed25519"
    RSA = "RSA"
    """2048 bits at least, 8192 at most."""


class CertificateProfile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What our authority writes into the certificates of a profile's devices.

    The signing request decides nothing but the key. `subject` maps attribute names (`CN`, `O`,
    `OU`, `C`, `serialNumber`) to templates, as are `dns_names` and `uris` (the subject alternative
    names); in a template `{name}` is the device's name and `{profile}` its profile's.

    `grace_days`: how long after its end a certificate may still be renewed, and do nothing else.
    `fresh_key`: a renewal must bring another key than the one before.
    """

    subject: Mapping[str, str] = field(default_factory=lambda: {"CN": "{name}"})
    dns_names: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    lifetime_days: int = 365
    key_usage: tuple[str, ...] = ("digital_signature", "key_agreement")
    extended_key_usage: tuple[str, ...] = ("client_auth",)
    keys: tuple[KeyKind, ...] = tuple(KeyKind)
    grace_days: int = 0
    fresh_key: bool = False


class ChainRule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which factory certificates admit a device, and as whom (ThingsBoard contract, section 2.8).

    `certificate` is PEM; its first certificate is the anchor, a root or not. `pattern` is an RE2
    expression searched for in the leaf's first common name; its group 1 is the device's name.
    `create`: a device of that name that does not exist is created.
    """

    certificate: str
    pattern: str
    create: bool = False


class RevocationReason(IntEnum):
    """Why a certificate was revoked (`CRLReason`, RFC 5280 section 5.3.1)."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    PRIVILEGE_WITHDRAWN = 9


class AuthorityRole(StrEnum):
    ROOT = "root"
    ISSUING = "issuing"


class Authority(Struct, frozen=True, kw_only=True):
    """A certificate authority of ours, as it is kept: one of each role is active.

    `key` is PKCS #8 DER; None when it is kept elsewhere (in a file). A retired one signs nothing
    but the revocation lists of what it signed.
    """

    id: int = 0
    role: AuthorityRole
    certificate: bytes
    key: bytes | None
    active: bool = True
    created_at: int = 0

    def __repr__(self) -> str:
        return f"Authority({self.id}, {self.role.value})"


class SerialReservation(Struct, frozen=True, kw_only=True):
    """A serial number that is written down before anything is signed with it.

    `serial` is positive and fits 20 bytes (RFC 5280, section 4.1.2.2). `key_digest` is the SHA-256
    of the key's SubjectPublicKeyInfo. `name` is the device it is for, in `organisation_id`.
    """

    serial: int
    authority_id: int
    key_digest: bytes
    organisation_id: int
    name: str
    at: int


class IssuedCertificate(Struct, frozen=True, kw_only=True):
    """A certificate that was signed, and is not given to anybody before it is on disk."""

    serial: int
    authority_id: int
    der: bytes
    not_after: int
    issuers: tuple[bytes, ...] = ()


class CertificateState(StrEnum):
    RESERVED = "reserved"
    """Its serial number is; nothing was given to anybody."""
    ISSUED = "issued"
    REVOKED = "revoked"


class CertificateRecord(Struct, frozen=True, kw_only=True):
    """What is written down of a certificate of ours. `reason` goes with REVOKED."""

    serial: int
    authority_id: int
    state: CertificateState
    device_id: int | None = None
    name: str = ""
    created_at: int = 0
    not_after: int = 0
    revoked_at: int = 0
    reason: RevocationReason = RevocationReason.UNSPECIFIED


class Unfit(Exception):
    """A signing request or a chain that gets nothing. `detail` is for the operator."""

    def __init__(self, reason: RefusalReason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
