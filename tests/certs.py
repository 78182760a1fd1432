"""Makes every certificate the tests need, good and bogus; nothing is checked in by hand.

`Authority` signs, `self_signed` signs itself, `csr` asks. `BOGUS` has one maker for each chain that
must be refused, and the reason it must be refused for. What is made holds from 2020 to 2049, on the
real clock and on the tests' own.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2049, 12, 31, tzinfo=UTC)
CLIENT = ("client_auth",)
SERVER = ("server_auth",)
CLIENT_AND_SERVER = ("client_auth", "server_auth")
SIGNS = ("digital_signature", "key_agreement")
CA_SIGNS = ("key_cert_sign", "crl_sign")

_EKU = {
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "code_signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_CURVES = {
    "P-192": ec.SECP192R1,
    "P-224": ec.SECP224R1,
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "K-256": ec.SECP256K1,
}

Key = Any
"""A private key of cryptography's."""


# ── keys and names ────────────────────────────────────────────────────────────────────────────


def new_key(kind: str = "P-256") -> Key:
    """A private key: `P-256` and other curves, `Ed25519`, `RSA-2048` (one of each size), `DSA`."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind]())
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return _slow_key(kind)


@functools.cache
def _slow_key(kind: str) -> Key:
    if kind == "DSA":
        return dsa.generate_private_key(2048)
    exponent = 3 if kind.endswith("-e3") else 65537
    return rsa.generate_private_key(exponent, int(kind.split("-")[1]))


def key_pem(key: Key, passphrase: str = "") -> str:
    """PKCS #8; encrypted when there is a passphrase."""
    sealed: Any = serialization.NoEncryption()
    if passphrase:
        sealed = serialization.BestAvailableEncryption(passphrase.encode())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, sealed).decode()


def name_of(cn: str | None, **others: str) -> x509.Name:
    """A subject; `None` has no common name, but an organisation. `O=`, `OU=` add to it."""
    given = [] if cn is None else [_attribute(NameOID.COMMON_NAME, cn)]
    kinds = {"O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME}
    given += [_attribute(kinds[kind], text) for kind, text in others.items()]
    return x509.Name(given or [_attribute(NameOID.ORGANIZATION_NAME, "Nameless")])


def _attribute(oid: x509.ObjectIdentifier, text: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(oid, text)


def key_usage(names: Iterable[str]) -> x509.KeyUsage:
    wanted = set(names)
    return x509.KeyUsage(**{name: name in wanted for name in _USAGES})


def extended_key_usage(names: Iterable[str]) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([_EKU[name] for name in names])


def alternative_names(names: Iterable[str]) -> x509.SubjectAlternativeName:
    """Addresses, `scheme:` URIs and DNS names, told apart by their look."""
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        uri = ":" in text
        return x509.UniformResourceIdentifier(text) if uri else x509.DNSName(text)


def _hash_for(key: Key, wanted: Any) -> Any:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else wanted or hashes.SHA256()


# ── what is made ──────────────────────────────────────────────────────────────────────────────


class Issued:
    """A certificate, its key, and the DER of its issuers, nearest first, the root last."""

    def __init__(
        self, certificate: x509.Certificate, key: Key, issuers: tuple[bytes, ...] = ()
    ) -> None:
        self.certificate = certificate
        self.key = key
        self.issuers = issuers

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def text(self) -> str:
        """Base64 of the DER in one line, as ThingsBoard keeps it."""
        return base64.b64encode(self.der).decode()

    @property
    def key_pem(self) -> str:
        return key_pem(self.key)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """What a device sends: its certificate, then its issuers with the root. DER."""
        return (self.der, *self.issuers)

    def chain_pem(self, *, root: bool = True) -> str:
        """The chain as PEM, with or without its last certificate."""
        chain = self.chain if root or len(self.chain) == 1 else self.chain[:-1]
        return "".join(pem_of(der) for der in chain)

    def files(self, folder: Path, stem: str = "device") -> tuple[Path, Path]:
        """`<stem>.pem` (the chain without the root) and `<stem>.key`, written in `folder`."""
        certificate, key = folder / f"{stem}.pem", folder / f"{stem}.key"
        certificate.write_text(self.chain_pem(root=False), "ascii")
        key.write_text(self.key_pem, "ascii")
        return certificate, key


def pem_of(der: bytes) -> str:
    body = base64.encodebytes(der).decode().replace("\n", "")
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


class Authority(Issued):
    """A certificate authority. Without `parent` it is a root and signs itself.

    `key` is a kind (`P-256`) or a private key. `ca` False: its certificate says it is none, None:
    it says nothing of it. `excluded` and `permitted` are name constraints.
    """

    def __init__(
        self,
        name: str,
        *,
        parent: Authority | None = None,
        key: str | Key = "P-256",
        subject: x509.Name | None = None,
        path_length: int | None = None,
        not_before: datetime = NOT_BEFORE,
        not_after: datetime = NOT_AFTER,
        key_usage: Sequence[str] | None = CA_SIGNS,
        eku: Sequence[str] | None = None,
        permitted: Sequence[x509.GeneralName] | None = None,
        excluded: Sequence[x509.GeneralName] | None = None,
        ca: bool | None = True,
        hash_with: Any = None,
    ) -> None:
        own = new_key(key) if isinstance(key, str) else key
        builder = _builder(subject or name_of(name), own, not_before, not_after)
        builder = _with_constraints(builder, ca, path_length if ca else None)
        builder = _with_usages(builder, key_usage, eku)
        if permitted is not None or excluded is not None:
            builder = builder.add_extension(x509.NameConstraints(permitted, excluded), True)
        made = _signed(builder, parent or _OwnIssuer(own), hash_with)
        super().__init__(made, own, parent.chain if parent else ())
        self.name = name

    def issue(
        self,
        cn: str | None,
        *,
        key: str | Key = "P-256",
        subject: x509.Name | None = None,
        not_before: datetime = NOT_BEFORE,
        not_after: datetime = NOT_AFTER,
        key_usage: Sequence[str] | None = SIGNS,
        eku: Sequence[str] | None = CLIENT,
        san: Sequence[str] = (),
        ca: bool | None = False,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        serial: int | None = None,
        hash_with: Any = None,
    ) -> Issued:
        """A leaf. `cn` None: it has no common name. `extensions` are added, each with criticality.

        For a server's certificate: `eku=SERVER, san=("localhost", "127.0.0.1")`.
        """
        own = new_key(key) if isinstance(key, str) else key
        builder = _builder(subject or name_of(cn), own, not_before, not_after, serial)
        builder = _with_constraints(builder, ca, None)
        builder = _with_usages(builder, key_usage, eku)
        if san:
            builder = builder.add_extension(alternative_names(san), False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        made = _signed(builder, self, hash_with)
        return Issued(made, own, self.chain)

    def server(self, *names: str, **options: Any) -> Issued:
        """A server's certificate for `names` (`localhost` and the loopback addresses if none)."""
        wanted = names or ("localhost", "127.0.0.1", "::1")
        return self.issue(wanted[0], eku=SERVER, san=wanted, **options)


def self_signed(cn: str | None, *, key: str | Key = "P-256", **options: Any) -> Issued:
    """A device's own certificate, signed by nobody else; `options` are those of `issue`."""
    own = new_key(key) if isinstance(key, str) else key
    builder = _builder(
        options.get("subject") or name_of(cn),
        own,
        options.get("not_before", NOT_BEFORE),
        options.get("not_after", NOT_AFTER),
    )
    builder = _with_usages(builder, options.get("key_usage", SIGNS), options.get("eku", CLIENT))
    return Issued(_signed(builder, _OwnIssuer(own), options.get("hash_with")), own)


def _builder(
    subject: x509.Name, key: Key, start: datetime, end: datetime, serial: int | None = None
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _with_constraints(
    builder: x509.CertificateBuilder, ca: bool | None, path_length: int | None
) -> x509.CertificateBuilder:
    if ca is None:
        return builder
    return builder.add_extension(x509.BasicConstraints(ca, path_length), True)


def _with_usages(
    builder: x509.CertificateBuilder, usage: Sequence[str] | None, eku: Sequence[str] | None
) -> x509.CertificateBuilder:
    if usage is not None:
        builder = builder.add_extension(key_usage(usage), True)
    if eku is not None:
        builder = builder.add_extension(extended_key_usage(eku), False)
    return builder


@dataclass(frozen=True)
class _OwnIssuer:
    """Who signs itself."""

    key: Key


def _signed(
    builder: x509.CertificateBuilder, issuer: Authority | _OwnIssuer, hash_with: Any
) -> x509.Certificate:
    own = isinstance(issuer, _OwnIssuer)
    subject = builder._subject_name if own else issuer.certificate.subject
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = builder.issuer_name(subject).add_extension(identifier, False)
    return builder.sign(issuer.key, _hash_for(issuer.key, hash_with))


# ── signing requests ──────────────────────────────────────────────────────────────────────────


def csr(
    key: str | Key | None = None,
    cn: str | None = "any",
    *,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    challenge: bytes | None = None,
    hash_with: Any = None,
) -> str:
    """A PKCS #10 request as PEM. `key` None: a new P-256 key; `cn` None: an empty subject."""
    own = new_key(key or "P-256") if key is None or isinstance(key, str) else key
    subject = x509.Name([]) if cn is None else name_of(cn)
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    if challenge is not None:
        oid = x509.oid.AttributeOID.CHALLENGE_PASSWORD
        builder = builder.add_attribute(oid, challenge)
    made = builder.sign(own, _hash_for(own, hash_with))
    return made.public_bytes(serialization.Encoding.PEM).decode()


def der_of(pem: str) -> bytes:
    """The bytes between the markers of the first object of a PEM text."""
    body = pem.split("-----")[2]
    return base64.b64decode("".join(body.split()))


def base64_of(pem: str) -> str:
    """A PEM text without its markers, in one line."""
    return base64.b64encode(der_of(pem)).decode()


def csr_signed_by_another() -> str:
    """A request whose signature is not its key's: no proof of possession."""
    return pem_named("CERTIFICATE REQUEST", spoilt(der_of(csr())))


def pem_named(label: str, der: bytes) -> str:
    return pem_of(der).replace("CERTIFICATE", label)


def spoilt(der: bytes) -> bytes:
    """A signed object with one bit of the signature's last byte turned over."""
    return der[:-1] + bytes([der[-1] ^ 1])


# ── chains that must be refused ───────────────────────────────────────────────────────────────


def bad_signature(root: Authority, cn: str = "bad-signature") -> Issued:
    good = root.issue(cn)
    return Issued(x509.load_der_x509_certificate(spoilt(good.der)), good.key, good.issuers)


def forged_issuer(root: Authority, cn: str = "forged-issuer") -> Issued:
    """Signed by somebody who took the root's name and key identifier, but has another key."""
    made = _builder(name_of(cn), own := new_key(), NOT_BEFORE, NOT_AFTER)
    made = made.issuer_name(root.certificate.subject)
    made = made.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), False
    )
    return Issued(made.sign(new_key(), hashes.SHA256()), own, root.chain)


def expired_leaf(root: Authority, cn: str = "expired-leaf") -> Issued:
    return root.issue(cn, not_after=NOT_BEFORE + timedelta(days=30))


def expired_issuer(root: Authority, cn: str = "expired-issuer") -> Issued:
    end = NOT_BEFORE + timedelta(days=30)
    return Authority("Expired issuing", parent=root, not_after=end).issue(cn)


def not_yet_valid(root: Authority, cn: str = "not-yet-valid") -> Issued:
    return root.issue(cn, not_before=NOT_AFTER - timedelta(days=30))


def wrong_usage(root: Authority, cn: str = "wrong-usage") -> Issued:
    """For servers only."""
    return root.issue(cn, eku=SERVER)


def wrong_key_usage(root: Authority, cn: str = "wrong-key-usage") -> Issued:
    """A key that may encipher keys, and not sign."""
    return root.issue(cn, key_usage=("key_encipherment",), eku=None)


def wrong_issuer_usage(root: Authority, cn: str = "wrong-issuer-usage") -> Issued:
    """An issuer that may issue to servers only; the leaf says nothing of its use."""
    return Authority("Servers only", parent=root, eku=SERVER).issue(cn, eku=None)


def path_too_long(root: Authority, cn: str = "path-too-long") -> Issued:
    """An authority that may have none under it has one."""
    last = Authority("Last", parent=root, path_length=0)
    return Authority("One too many", parent=last).issue(cn)


def unknown_ca(root: Authority, cn: str = "unknown-ca") -> Issued:
    """Another root of the same name."""
    return Authority(root.name).issue(cn)


def stranger(root: Authority, cn: str = "stranger") -> Issued:
    """A root nobody heard of."""
    return Authority("Nobody's").issue(cn)


def issuer_is_no_ca(root: Authority, cn: str = "issuer-is-no-ca") -> Issued:
    """A device's certificate signs another."""
    return Authority("A device", parent=root, ca=False, key_usage=SIGNS).issue(cn)


def issuer_without_constraints(root: Authority, cn: str = "issuer-unsaid") -> Issued:
    """An issuer that does not say whether it is one."""
    return Authority("Says nothing", parent=root, ca=None, key_usage=None).issue(cn)


def issuer_by_key_usage(root: Authority, cn: str = "issuer-by-key-usage") -> Issued:
    """A key that may sign certificates, in one that does not say it is an authority's."""
    return Authority("Key usage only", parent=root, ca=None).issue(cn)


def issuer_may_not_sign(root: Authority, cn: str = "issuer-may-not-sign") -> Issued:
    """A CA whose key may sign revocation lists only."""
    return Authority("Lists only", parent=root, key_usage=("crl_sign",)).issue(cn)


def outside_dns_constraints(root: Authority, cn: str = "outside-dns") -> Issued:
    within = [x509.DNSName("plant.example")]
    return Authority("Plant", parent=root, permitted=within).issue(cn, san=("other.example",))


def outside_directory_constraints(root: Authority, cn: str = "outside-directory") -> Issued:
    within = [x509.DirectoryName(x509.Name([_attribute(NameOID.ORGANIZATION_NAME, "Plant")]))]
    return Authority("Plant", parent=root, permitted=within).issue(
        cn, subject=name_of(cn, O="Other")
    )


def oversized_chain(root: Authority, cn: str = "oversized-chain", length: int = 11) -> Issued:
    """More certificates than anybody needs, each in order."""
    last = root
    for step in range(length - 2):
        last = Authority(f"Step {step}", parent=last)
    return last.issue(cn)


def weak_key(root: Authority, cn: str = "weak-key") -> Issued:
    return root.issue(cn, key="RSA-1024")


def weak_issuer(root: Authority, cn: str = "weak-issuer") -> Issued:
    return Authority("Weak issuing", parent=root, key="RSA-1024").issue(cn)


def unknown_critical_extension(root: Authority, cn: str = "critical") -> Issued:
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.55555.1")
    return root.issue(cn, extensions=((x509.UnrecognizedExtension(oid, b"\x05\x00"), True),))


BOGUS: dict[str, tuple[Callable[[Authority], Issued], str]] = {
    "bad_signature": (bad_signature, "bad_signature"),
    "forged_issuer": (forged_issuer, "bad_signature"),
    "expired_leaf": (expired_leaf, "expired_leaf"),
    "expired_issuer": (expired_issuer, "bad_chain"),
    "not_yet_valid": (not_yet_valid, "not_yet_valid"),
    "wrong_usage": (wrong_usage, "wrong_usage"),
    "wrong_key_usage": (wrong_key_usage, "wrong_usage"),
    "wrong_issuer_usage": (wrong_issuer_usage, "wrong_usage"),
    "path_too_long": (path_too_long, "path_too_long"),
    "unknown_ca": (unknown_ca, "unknown_ca"),
    "stranger": (stranger, "unknown_ca"),
    "issuer_is_no_ca": (issuer_is_no_ca, "bad_chain"),
    "issuer_without_constraints": (issuer_without_constraints, "bad_chain"),
    "issuer_by_key_usage": (issuer_by_key_usage, "bad_chain"),
    "issuer_may_not_sign": (issuer_may_not_sign, "bad_chain"),
    "outside_dns_constraints": (outside_dns_constraints, "bad_chain"),
    "outside_directory_constraints": (outside_directory_constraints, "bad_chain"),
    "oversized_chain": (oversized_chain, "oversized_chain"),
    "weak_key": (weak_key, "weak_key"),
    "weak_issuer": (weak_issuer, "weak_key"),
    "unknown_critical_extension": (unknown_critical_extension, "bad_chain"),
}
"""Name → maker (given the root that is believed) and the `RefusalReason` it must be refused for."""


# ── chains that must be believed ──────────────────────────────────────────────────────────────


def reordered(root: Authority, cn: str = "reordered") -> Issued:
    """Leaf first, its issuers in the wrong order."""
    second = Authority("Second", parent=Authority("First", parent=root))
    good = second.issue(cn)
    return Issued(good.certificate, good.key, tuple(reversed(good.issuers)))


def cross_signed(root: Authority, cn: str = "cross-signed") -> Issued:
    """One issuing key with two certificates, the first of them from a root nobody knows."""
    key = new_key()
    ours = Authority("Crossed", parent=root, key=key)
    theirs = Authority("Crossed", parent=Authority("Nobody's"), key=key)
    good = ours.issue(cn)
    return Issued(good.certificate, good.key, (theirs.der, *theirs.issuers, *good.issuers))


def without_cn(root: Authority) -> Issued:
    """A good chain whose leaf has no common name."""
    return root.issue(None)
