"""A certificate authority and a server certificate for a lab, where nobody else gives any.

ECDSA P-256 throughout. The authority signs servers and nothing else, with a path length of 0; it
is no relative of the authority that signs devices' certificates. RFC 5280 says what must be in
them, RFC 6125 (and RFC 9525) that clients look at the alternative names alone.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from gateway.core.errors import ConfigError
from gateway.core.tokens import new_token

CA_DAYS = 3650
_BACK = timedelta(minutes=5)
"""How far back validity begins: clients' clocks are a little slow."""
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\.?")
_MOST_DNS, _MOST_CN = 253, 64


class Lab(Struct, frozen=True):
    """An authority: its certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)

    def __repr__(self) -> str:
        return "Lab(***)"


def host_name(text: str) -> x509.GeneralName:
    """A host as a certificate names it: an IP address, or a DNS name (`*.` may begin it).

    Raises `ValueError` with a sentence.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    if not _DNS.fullmatch(text) or len(text) > _MOST_DNS:
        raise ValueError(
            "is neither an IP address nor a host name; names with other letters are written in "
            "their xn-- form"
        )
    return x509.DNSName(text.rstrip(".").lower())


def usual_hosts() -> list[str]:
    """What a machine calls itself: the loopback names, and its own where it has a usable one."""
    own = socket.gethostname()
    known = ["localhost", "127.0.0.1", "::1"]
    return [*known, own] if own not in known and _DNS.fullmatch(own) else known


def make_lab(now: datetime) -> Lab:
    """A new authority. Its name differs from any other's, so that a client may trust several."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Gatehouse lab {new_token(6)}")])
    usage = _key_usage(signs_certificates=True)
    builder = (
        _builder(name, key.public_key(), now, now + timedelta(days=CA_DAYS))
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return Lab(builder.sign(key, hashes.SHA256()), key)


def read_lab(certificate: bytes, key: bytes) -> Lab:
    """The authority that was made before. Raises `ValueError` when it cannot sign any more."""
    found = x509.load_pem_x509_certificate(certificate)
    private = load_pem_private_key(key, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("is not an EC key")
    if private.public_key() != found.public_key():
        raise ValueError("does not belong to the certificate beside it")
    return Lab(found, private)


def make_server(
    lab: Lab, hosts: Sequence[x509.GeneralName], days: int, now: datetime
) -> tuple[bytes, bytes]:
    """A server's certificate and key in PEM, for these names; it ends before its authority.

    Raises `ConfigError` when the authority has ended.
    """
    ends = min(now + timedelta(days=days), lab.certificate.not_valid_after_utc)
    if ends <= now:
        raise ConfigError(
            f"the lab authority ended on {ends:%Y-%m-%d}. Move its two files away to have a new "
            "one made, and give that to the clients."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    common = str(hosts[0].value)[:_MOST_CN]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    builder = (
        _builder(name, key.public_key(), now, ends)
        .issuer_name(lab.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(lab.key.public_key()),
            critical=False,
        )
    )
    certificate = builder.sign(lab.key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM), key_pem(key)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key, PKCS #8, in clear: its file's mode protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def utc_now() -> datetime:
    return datetime.now(UTC)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACK)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
