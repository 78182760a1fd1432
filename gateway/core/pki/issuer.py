"""Signs certificates of devices: the profile says what is in them, the request only whose key.

The certificates keep to RFC 5280, section 4. Where a device's name does not fit its place:

- an attribute of the subject has at most 64 bytes (`ub-common-name`, counted in UTF-8): a longer
  text is cut and ends in `~` and 16 hex digits of its SHA-256;
- `serialNumber` is a PrintableString: a text with other characters, or too long, becomes its
  SHA-256 in hex;
- in a URI the name is percent-encoded;
- a DNS name cannot hold what is no host name (RFC 1123): then nothing is signed (NAME_INVALID).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import quote

import msgspec
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from gateway.core.model import RefusalReason
from gateway.core.pki import der
from gateway.core.pki.authority import BACKDATED, Signer, authority_key_id, moment
from gateway.core.pki.csr import SigningRequest, key_kind
from gateway.core.pki.model import CertificateProfile, IssuedCertificate, KeyKind, Unfit

_SUBJECT: Final = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
}
_EXTENDED: Final = {
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "code_signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email_protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
}
_SIGNING: Final = frozenset({"digital_signature", "content_commitment"})
_USAGES: Final[Mapping[KeyKind, frozenset[str]]] = {
    KeyKind.P256: _SIGNING | {"key_agreement"},
    KeyKind.P384: _SIGNING | {"key_agreement"},
    KeyKind.ED25519: _SIGNING,
    KeyKind.RSA: _SIGNING | {"key_encipherment", "data_encipherment"},
}
"""What a kind of key can do at all (RFC 3279, 2.3; RFC 8410, 5), an authority's work left out."""
_BITS: Final = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign"),
)
_VERSION_3: Final = der.tagged(0xA0, der.integer(2))
_EXTENSIONS: Final = 0xA3
_SUBJECT_KEY_ID: Final = bytes.fromhex("301d0603551d0e04160414")
"""A SubjectKeyIdentifier, up to its bytes: the first of the key's SHA-256 (RFC 7093, section 2)."""
_KEY_ID_BYTES: Final = 20
_MOST_ATTRIBUTE_BYTES: Final = 64
_MARK_DIGITS: Final = 16
_MOST_PLANS: Final = 256
_HOLE = re.compile(r"\{name\}|\{profile\}")
_PRINTABLE = re.compile(rf"[A-Za-z0-9 '()+,\-./:=?]{{1,{_MOST_ATTRIBUTE_BYTES}}}\Z")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")


def new_serial() -> int:
    """159 random bits: positive, and at most 20 bytes (RFC 5280, section 4.1.2.2)."""
    return x509.random_serial_number()


class _Plan(Struct, frozen=True):
    """What certificates of one profile and kind of key have in common."""

    extensions: bytes
    """DER of those that are the same in all."""
    askable: frozenset[str]
    """Key usages a request may name; the key may be of a kind that cannot do all of them."""
    extended: frozenset[x509.ObjectIdentifier]
    lifetime: timedelta


class Draft(Struct, frozen=True):
    """A certificate but for its number and its signature: all that is between them, DER."""

    fields: bytes
    not_after: int


class Issuer:
    """Signs with one `Signer`. `public_url` (without a slash at its end) is where certificates say
    their revocation list, their status and their issuer are to be had; "" says nothing."""

    def __init__(self, signer: Signer, *, public_url: str = "") -> None:
        self.signer = signer
        self._url = public_url.rstrip("/")
        self._algorithm_and_issuer = signer.algorithm + signer.certificate.subject.public_bytes()
        self._end = signer.certificate.not_valid_after_utc
        self._constant = self._constant_extensions()
        self._plans: dict[tuple[bytes, KeyKind], _Plan] = {}

    def draft(
        self,
        request: SigningRequest,
        profile: CertificateProfile,
        *,
        name: str,
        profile_name: str,
        now: int,
    ) -> Draft:
        """What a certificate for the device `name` is to say. It ends with its issuer's at latest.

        Raises `Unfit`: WEAK_KEY, CSR_EXTRA_EXTENSIONS for a request for more than the profile
        gives, NAME_INVALID (see above), NO_AUTHORITY when the signer's own time is over.
        """
        start = moment(now)
        if start >= self._end:
            raise Unfit(RefusalReason.NO_AUTHORITY, "the issuing certificate has expired")
        plan = self._plan(profile, key_kind(request.public_key))
        values = {"{name}": name, "{profile}": profile_name}
        names = _alternative_names(profile, values)
        if request.extensions is not None:
            _check_extensions(request.extensions, plan, names)
        end = min(start + plan.lifetime, self._end)
        extensions = plan.extensions + _SUBJECT_KEY_ID + request.key_digest[:_KEY_ID_BYTES]
        if names:
            # Critical where it is the only name there is (RFC 5280, section 4.2.1.6).
            alternatives = x509.SubjectAlternativeName(names)
            extensions += der.extension(alternatives, critical=not profile.subject)
        fields = (
            self._algorithm_and_issuer,
            der.tagged(der.SEQUENCE, der.time(start - BACKDATED), der.time(end)),
            _subject(profile, values),
            request.spki,
            der.tagged(_EXTENSIONS, der.tagged(der.SEQUENCE, extensions)),
        )
        return Draft(b"".join(fields), int(end.timestamp()) * 1000)

    def issue(self, draft: Draft, serial: int) -> IssuedCertificate:
        """The certificate, under a number that is written down by now."""
        number = der.integer(serial)
        content = der.tagged(der.SEQUENCE, _VERSION_3, number, draft.fields)
        signature = der.bit_string(self.signer.sign(content))
        return IssuedCertificate(
            serial=serial,
            authority_id=self.signer.authority_id,
            der=der.tagged(der.SEQUENCE, content, self.signer.algorithm, signature),
            not_after=draft.not_after,
            issuers=self.signer.issuers,
        )

    def _plan(self, profile: CertificateProfile, kind: KeyKind) -> _Plan:
        key = msgspec.json.encode(profile), kind
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            plan = self._plans[key] = self._new_plan(profile, kind)
        return plan

    def _new_plan(self, profile: CertificateProfile, kind: KeyKind) -> _Plan:
        usage = _USAGES[kind].intersection(profile.key_usage) or {"digital_signature"}
        askable = frozenset(usage).union(profile.key_usage) - {"key_cert_sign", "crl_sign"}
        extended = [_EXTENDED[name] for name in profile.extended_key_usage]
        parts = [*self._constant, der.extension(_key_usage(usage), critical=True)]
        if extended:
            parts.append(der.extension(x509.ExtendedKeyUsage(extended)))
        lifetime = timedelta(days=profile.lifetime_days)
        return _Plan(b"".join(parts), askable, frozenset(extended), lifetime)

    def _constant_extensions(self) -> list[bytes]:
        constant = [
            der.extension(x509.BasicConstraints(ca=False, path_length=None), critical=True),
            der.extension(authority_key_id(self.signer)),
        ]
        if self._url:
            number = self.signer.authority_id
            points = _distribution_point(f"{self._url}/crl/{number}")
            access = _access(f"{self._url}/ocsp", f"{self._url}/ca/{number}")
            constant += [der.extension(points), der.extension(access)]
        return constant


# ── what is in a certificate ──────────────────────────────────────────────────────────────────


def _key_usage(names: Iterable[str]) -> x509.KeyUsage:
    wanted = set(names)
    bits = {bit: bit in wanted for bit in _BITS}
    return x509.KeyUsage(**bits, encipher_only=False, decipher_only=False)


def _distribution_point(url: str) -> x509.CRLDistributionPoints:
    place = [x509.UniformResourceIdentifier(url)]
    return x509.CRLDistributionPoints([x509.DistributionPoint(place, None, None, None)])


def _access(ocsp: str, issuer: str) -> x509.AuthorityInformationAccess:
    kinds = AuthorityInformationAccessOID
    return x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(kinds.OCSP, x509.UniformResourceIdentifier(ocsp)),
            x509.AccessDescription(kinds.CA_ISSUERS, x509.UniformResourceIdentifier(issuer)),
        ]
    )


def _rendered(template: str, values: Mapping[str, str]) -> str:
    """A name that looks like a placeholder stays what it is."""
    return _HOLE.sub(lambda hole: values[hole[0]], template)


def _subject(profile: CertificateProfile, values: Mapping[str, str]) -> bytes:
    attributes = [_attribute(kind, text, values) for kind, text in profile.subject.items()]
    return x509.Name(attributes).public_bytes()


def _attribute(kind: str, template: str, values: Mapping[str, str]) -> x509.NameAttribute[str]:
    text = _rendered(template, values)
    if kind == "serialNumber" and not _PRINTABLE.match(text):
        text = hashlib.sha256(text.encode()).hexdigest()
    return x509.NameAttribute(_SUBJECT[kind], _fitted(text))


def common_name(profile: CertificateProfile, *, name: str, profile_name: str) -> str | None:
    """What certificates of this profile call the device `name`; None when they have no CN."""
    template = profile.subject.get("CN")
    if template is None:
        return None
    return _fitted(_rendered(template, {"{name}": name, "{profile}": profile_name}))


def _fitted(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= _MOST_ATTRIBUTE_BYTES:
        return text
    head = encoded[: _MOST_ATTRIBUTE_BYTES - _MARK_DIGITS - 1].decode(errors="ignore")
    return f"{head}~{hashlib.sha256(encoded).hexdigest()[:_MARK_DIGITS]}"


def _alternative_names(
    profile: CertificateProfile, values: Mapping[str, str]
) -> list[x509.GeneralName]:
    if not profile.dns_names and not profile.uris:
        return []
    quoted = {hole: quote(value, safe="") for hole, value in values.items()}
    names: list[x509.GeneralName] = [_dns_name(one, values) for one in profile.dns_names]
    names += [x509.UniformResourceIdentifier(_rendered(one, quoted)) for one in profile.uris]
    return names


def _dns_name(template: str, values: Mapping[str, str]) -> x509.DNSName:
    text = _rendered(template, values)
    if not _HOST_NAME.match(text):
        raise Unfit(RefusalReason.NAME_INVALID, "the device's name makes no host name")
    return x509.DNSName(text)


# ── what was asked for ────────────────────────────────────────────────────────────────────────


def _check_extensions(asked: x509.Extensions, plan: _Plan, names: list[x509.GeneralName]) -> None:
    """Who asks for what the certificate has anyway may do so; for nothing else."""
    for extension in asked:
        if not _granted(extension.value, plan, names):
            raise Unfit(RefusalReason.CSR_EXTRA_EXTENSIONS, extension.oid.dotted_string)


def _granted(asked: x509.ExtensionType, plan: _Plan, names: list[x509.GeneralName]) -> bool:
    match asked:
        case x509.BasicConstraints():
            return not asked.ca
        case x509.KeyUsage():
            wanted = {bit for bit in _BITS if getattr(asked, bit)}
            # Those two have a meaning with key_agreement alone, and are never given.
            one_way = asked.key_agreement and (asked.encipher_only or asked.decipher_only)
            return wanted <= plan.askable and not one_way
        case x509.ExtendedKeyUsage():
            return plan.extended.issuperset(asked)
        case x509.SubjectAlternativeName():
            return all(name in names for name in asked)
        case _:
            return False
