"""The tables of a profile file about certificates: `[certificate]` and `[chain]`.

The first says what our authority writes into certificates of the profile's devices, the second
which factory certificates admit to it. Both are proven here, so that nothing is found wrong with
them when a device comes.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import structlog
from msgspec import Meta, Struct

from gateway.core.errors import ConfigError
from gateway.core.model import ProvisionType
from gateway.core.pki.model import CertificateProfile, ChainRule, KeyKind
from gateway.toml_lines import TomlFile, plain, read_table, shown

if TYPE_CHECKING:
    from cryptography import x509

log = structlog.get_logger()

_Extension = TypeVar("_Extension", bound="x509.ExtensionType")

CERTIFICATE, CHAIN = "certificate", "chain"
_BY_CHAIN: Final = ProvisionType.X509_CERTIFICATE_CHAIN

SUBJECT: Final = ("CN", "O", "OU", "C", "serialNumber")
"""Attributes a subject may have."""
KEY_USAGES: Final = (
    *("digital_signature", "content_commitment", "key_encipherment"),
    *("data_encipherment", "key_agreement"),
)
"""Those of RFC 5280, section 4.2.1.3, that are not an authority's."""
EXTENDED_KEY_USAGES: Final = ("client_auth", "server_auth", "code_signing", "email_protection")

MOST_NAMES: Final = 16
"""Of each kind in one certificate: it is sent in every handshake."""
MOST_SUBJECT_CHARACTERS: Final = 64
"""RFC 5280, appendix A.1: the bounds of the attributes above, but for the country's."""
MOST_PATTERN_CHARACTERS: Final = 256
MAX_ROOT_FILES: Final = 1000

_PLACEHOLDER = re.compile(r"\{(?:name|profile)\}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]{1,2000}\Z")
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]{1,3}\Z")
"""A certificate's file in a folder that OpenSSL looks into."""


# ── proofs ────────────────────────────────────────────────────────────────────────────────────


def _rendered(template: str) -> str:
    """A template with its names filled in. Raises `ValueError` for what cannot be one."""
    text = _PLACEHOLDER.sub("x", template)
    if "{" in text or "}" in text:
        raise ValueError(f"{shown(template)} has braces around something else")
    if not text.isprintable() or text != text.strip() or not text:
        raise ValueError("a text is empty, or has control characters or outer spaces")
    return text


def _prove_subject(subject: Mapping[str, str]) -> None:
    if not subject:
        raise ValueError("it is empty")
    for name, template in subject.items():
        if name not in SUBJECT:
            raise ValueError(f"{shown(name)} is no attribute known here")
        text = _rendered(template)
        if len(template) > MOST_SUBJECT_CHARACTERS:
            raise ValueError(f"{name} has more than {MOST_SUBJECT_CHARACTERS} characters")
        if name == "C" and not (len(text) == 2 and text.isascii() and text.isupper()):
            raise ValueError('C is a country by two letters, such as "DE"')


def _names(fits: re.Pattern[str], what: str) -> Callable[[tuple[str, ...]], None]:
    def prove(templates: tuple[str, ...]) -> None:
        _prove_few(templates)
        for template in templates:
            if not fits.match(_rendered(template)):
                raise ValueError(f"{shown(template)} is no {what}")

    return prove


def _prove_few(names: Iterable[str]) -> None:
    listed = list(names)
    if len(listed) > MOST_NAMES:
        raise ValueError(f"there are more than {MOST_NAMES}")
    if len(set(listed)) < len(listed):
        raise ValueError("one is named twice")


def _usages(known: tuple[str, ...], needed: str, *, or_none: bool) -> Callable[[Any], None]:
    def prove(names: tuple[str, ...]) -> None:
        _prove_few(names)
        for name in names:
            if name not in known:
                raise ValueError(f"{shown(name)} is none of them")
        if needed not in names and not (or_none and not names):
            raise ValueError(f"without {needed} no device could log in with its certificate")

    return prove


def _prove_keys(kinds: tuple[KeyKind, ...]) -> None:
    _prove_few(kinds)
    if not kinds:
        raise ValueError("no kind of key is left")


def _prove_pattern(pattern: str) -> None:
    # Loads RE2 and cryptography's X.509, which few profiles need.
    from gateway.core.pki.chain import compiled

    compiled(pattern)


def _list_of(words: Iterable[str]) -> str:
    return "a list of " + ", ".join(f'"{word}"' for word in words)


# ── the tables ────────────────────────────────────────────────────────────────────────────────


class _Certificate(Struct, frozen=True, kw_only=True):
    """The keys of `[certificate]`; those of `CertificateProfile`."""

    subject: Annotated[
        dict[str, str],
        Meta(
            extra={
                "wants": f"a table of texts by {', '.join(SUBJECT)}, in which {{name}} is the "
                "device's name and {profile} its profile's",
                "example": {"CN": "{name}", "O": "Acme"},
                "proof": _prove_subject,
            }
        ),
    ]
    dns_names: Annotated[
        tuple[str, ...],
        Meta(
            extra={
                "wants": "a list of host names, in which {name} is the device's name",
                "example": ["{name}.devices.example"],
                "proof": _names(_DNS_NAME, "host name"),
            }
        ),
    ]
    uris: Annotated[
        tuple[str, ...],
        Meta(
            extra={
                "wants": "a list of URIs, in which {name} is the device's name",
                "example": ["urn:example:{name}"],
                "proof": _names(_URI, "URI"),
            }
        ),
    ]
    lifetime_days: Annotated[int, Meta(ge=1, le=7300, extra={"example": 365})]
    key_usage: Annotated[
        tuple[str, ...],
        Meta(
            extra={
                "wants": _list_of(KEY_USAGES),
                "example": ["digital_signature", "key_agreement"],
                "proof": _usages(KEY_USAGES, "digital_signature", or_none=False),
            }
        ),
    ]
    extended_key_usage: Annotated[
        tuple[str, ...],
        Meta(
            extra={
                "wants": _list_of(EXTENDED_KEY_USAGES),
                "example": ["client_auth"],
                "proof": _usages(EXTENDED_KEY_USAGES, "client_auth", or_none=True),
            }
        ),
    ]
    keys: Annotated[
        tuple[KeyKind, ...],
        Meta(
            extra={
                "wants": _list_of(kind.value for kind in KeyKind),
                "example": ["P-256"],
                "proof": _prove_keys,
            }
        ),
    ]
    grace_days: Annotated[int, Meta(ge=0, le=3650, extra={"example": 30})]
    fresh_key: bool = False


class _Chain(Struct, frozen=True, kw_only=True):
    """The keys of `[chain]` beside the certificate."""

    pattern: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MOST_PATTERN_CHARACTERS,
            extra={
                "wants": f"an RE2 expression of at most {MOST_PATTERN_CHARACTERS} characters whose "
                "group 1 is the device's name (RE2 has no look-around and no back references)",
                "example": "^(meter-[0-9]+)$",
                "proof": _prove_pattern,
            },
        ),
    ]
    create: bool = False


def read_certificate(file: TomlFile, table: Mapping[str, object]) -> CertificateProfile:
    """`[certificate]`, proven. Raises `ConfigError`."""
    return CertificateProfile(**read_table(file, (CERTIFICATE,), table, _Certificate))


def read_chain(
    file: TomlFile, table: Mapping[str, object] | None, provision_type: ProvisionType
) -> ChainRule | None:
    """`[chain]`, proven; its `certificate` is text by now. Raises `ConfigError`.

    A profile that is closed for a while keeps it.
    """
    if table is not None and provision_type not in (_BY_CHAIN, ProvisionType.DISABLED):
        raise file.fault(
            (CHAIN,),
            f"[chain] belongs to a profile of type {_BY_CHAIN}.",
            "Remove it, or choose that provision_type.",
        )
    if table is None and provision_type is _BY_CHAIN:
        raise file.fault(
            ("provision_type",),
            f"a profile of type {_BY_CHAIN} needs a section [chain].",
            'Write `[chain]` with `certificate = { file = "factory-root.pem" }` and `pattern`.',
        )
    if table is None:
        return None
    values = read_table(file, (CHAIN,), _without_certificate(table), _Chain)
    if "pattern" not in values:
        raise file.fault(
            (CHAIN,),
            "[chain] pattern is missing: it finds a device's name in its certificate.",
            'Write for example `pattern = "^(.+)$"`.',
        )
    return ChainRule(certificate=_anchor(file, table.get(CERTIFICATE)), **values)


def _without_certificate(table: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in table.items() if key != CERTIFICATE}


# ── the anchor ────────────────────────────────────────────────────────────────────────────────


def _anchor(file: TomlFile, text: object) -> str:
    """The PEM text of an authority's certificate that a factory alone has."""
    if not isinstance(text, str):
        raise _unfit(
            file,
            "must be the text of a PEM file.",
            'Write for example `certificate = { file = "factory-root.pem" }`.',
        )
    if "PRIVATE KEY" in text:
        raise _unfit(
            file, "holds a private key, which is not ours to know.", "Take it out of there."
        )
    # Loads cryptography's X.509, which few profiles need.
    from gateway.core.pki.chain import anchor_of

    try:
        der = anchor_of(text)
        authority = _is_authority(file.name, der)
    except ValueError as exc:
        raise _unfit(
            file,
            f"cannot be read: {plain(str(exc), 200).rstrip('.')}.",
            "Give a certificate as PEM: it begins with -----BEGIN CERTIFICATE-----.",
        ) from None
    if not authority:
        raise _unfit(
            file,
            "is not a certificate authority's.",
            "Give the certificate that signed those of the devices.",
        )
    if _is_well_known(der):
        raise _unfit(
            file,
            "is one this system trusts anyway. Device profile certificate cannot be well known "
            "root CA!",
            "Anybody may have certificates from there: give the factory's own.",
        )
    return text


def prove_anchor(text: str) -> None:
    """The same for a profile that no file defines. Raises `ValueError` with a sentence."""
    # Loads cryptography's X.509, which few profiles need.
    from gateway.core.pki.chain import anchor_of

    if "PRIVATE KEY" in text:
        raise ValueError("the certificate holds a private key, which is not ours to know")
    der = anchor_of(text)
    if not _is_authority("", der):
        raise ValueError("the certificate is not a certificate authority's")
    if _is_well_known(der):
        raise ValueError("Device profile certificate cannot be well known root CA!")


def _is_well_known(der: bytes) -> bool:
    return sha256(der).digest() in _well_known()


def _unfit(file: TomlFile, wrong: str, remedy: str) -> ConfigError:
    return file.fault((CHAIN, CERTIFICATE), f"[chain] certificate {wrong}", remedy)


def _is_authority(name: str, der: bytes) -> bool:
    """Nothing but an authority can have signed the devices' certificates. Raises `ValueError`."""
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    if certificate.version is x509.Version.v1:
        # Too old to say what it is for; its owner says it.
        log.warning("profile.authority_unmarked", file=name, missing="basicConstraints")
        return True
    try:
        constraints = _of(certificate.extensions, x509.BasicConstraints)
        usage = _of(certificate.extensions, x509.KeyUsage)
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        raise ValueError(str(exc)) from None
    marked = constraints is not None and constraints.ca
    return marked and (usage is None or usage.key_cert_sign)


def _of(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    return next((one.value for one in extensions if isinstance(one.value, kind)), None)


@cache
def _well_known() -> frozenset[bytes]:
    """SHA-256 of the certificates this system trusts by itself; none when there is no such list."""
    return frozenset(sha256(der).digest() for der in _trusted())


def _trusted() -> Iterator[bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLError, OSError):
        context.load_default_certs()
    yield from context.get_ca_certs(binary_form=True)
    # Those in a folder are not loaded before one is wanted.
    folder = ssl.get_default_verify_paths().capath
    with suppress(OSError):
        paths = sorted(one for one in Path(folder or "").iterdir() if _HASHED.match(one.name))
        for path in paths[:MAX_ROOT_FILES] if folder else ():
            with suppress(OSError, ValueError):
                yield ssl.PEM_cert_to_DER_cert(path.read_text("ascii"))
