"""A device's certificate chain: is it to be believed, and whose is it?

Path validation (RFC 5280, section 6) is OpenSSL's, with what it leaves open checked here. The
package's docstring says what is covered, and why it is OpenSSL.
"""

from __future__ import annotations

import base64
import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import re2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec import Struct
from OpenSSL import crypto

from gateway.core.model import RefusalReason, Secret, sha3_id
from gateway.core.pki.csr import UNREADABLE, PublicKey, first_common_name, quietly
from gateway.core.pki.model import ChainRule, Unfit

MOST_CERTIFICATES: Final = 10
"""In a chain as it is sent; RFC 5280 has no bound, factories have two or three."""
MOST_PATTERN_CHARACTERS: Final = 256
_MOST_PATTERN_MEMORY: Final = 262_144
_LEAST_RSA_BITS: Final = 2048
_MOST_RSA_BITS: Final = 8192
_LEAST_CURVE_BITS: Final = 256

# Numbers of OpenSSL's `x509_vfy.h`.
_EXPIRED: Final = 10
_REASONS: Final = {
    2: RefusalReason.UNKNOWN_CA,  # unable to get issuer certificate
    7: RefusalReason.BAD_SIGNATURE,
    8: RefusalReason.BAD_SIGNATURE,
    9: RefusalReason.NOT_YET_VALID,
    18: RefusalReason.UNKNOWN_CA,  # self-signed, and not the anchor
    19: RefusalReason.UNKNOWN_CA,  # the same, further up
    20: RefusalReason.UNKNOWN_CA,  # unable to get local issuer certificate
    21: RefusalReason.UNKNOWN_CA,  # nobody in the chain is above the leaf
    22: RefusalReason.OVERSIZED_CHAIN,
    25: RefusalReason.PATH_TOO_LONG,
    26: RefusalReason.WRONG_USAGE,
    27: RefusalReason.UNKNOWN_CA,  # untrusted
    66: RefusalReason.WEAK_KEY,
    67: RefusalReason.WEAK_KEY,
    68: RefusalReason.WEAK_KEY,
}
"""All others are BAD_CHAIN."""

_FOR_CLIENTS: Final = frozenset(
    {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
)


class Leaf(Struct, frozen=True, kw_only=True):
    """A device's certificate as ThingsBoard knows it: base64 of its DER in one line, and the hash
    of that. Times in ms."""

    text: str
    id: Secret
    common_name: str | None
    not_before: int
    not_after: int


def read_leaf(der: bytes) -> Leaf:
    """Raises `Unfit(CHAIN_UNREADABLE)`."""
    try:
        with quietly():
            certificate = x509.load_der_x509_certificate(der)
            text = base64.b64encode(der).decode()
            return Leaf(
                text=text,
                id=Secret(sha3_id(text)),
                common_name=first_common_name(certificate.subject),
                not_before=_milliseconds(certificate.not_valid_before_utc),
                not_after=_milliseconds(certificate.not_valid_after_utc),
            )
    except UNREADABLE as exc:
        raise Unfit(RefusalReason.CHAIN_UNREADABLE, type(exc).__name__) from None


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


# ── anchors ───────────────────────────────────────────────────────────────────────────────────


def anchor_of(pem: str) -> bytes:
    """DER of the first certificate of a PEM text. Raises `ValueError` with a sentence."""
    try:
        with quietly():
            found = x509.load_pem_x509_certificates(pem.encode())[0]
            return found.public_bytes(Encoding.DER)
    except UNREADABLE:
        raise ValueError("there is no certificate in it that can be read (PEM)") from None


def anchor_key(pem: str) -> str:
    """The provision key that ThingsBoard gives a profile of this anchor (contract, section 2.8).

    SHA3-256 over base64 of the first certificate. Raises `ValueError` as `anchor_of`.
    """
    return sha3_id(base64.b64encode(anchor_of(pem)).decode())


# ── path validation ───────────────────────────────────────────────────────────────────────────


def verify_chain(chain: Sequence[bytes], anchor: bytes, now: int) -> None:
    """Is there a valid path from `anchor` to the first certificate? All DER; `now` in ms.

    The others may be in any order, with the anchor among them or not, and with some that lead
    elsewhere. Raises `Unfit` with the reason: the first that OpenSSL finds on its way, which checks
    signature and time from the anchor downwards. An expired certificate above the leaf, the anchor
    too, is BAD_CHAIN.
    """
    if len(chain) > MOST_CERTIFICATES:
        raise Unfit(RefusalReason.OVERSIZED_CHAIN, f"{len(chain)} certificates")
    try:
        with quietly():
            _check_path(_path(chain, anchor, now))
    except (*UNREADABLE, IndexError, crypto.Error) as exc:
        raise Unfit(RefusalReason.CHAIN_UNREADABLE, type(exc).__name__) from None


def _path(chain: Sequence[bytes], anchor: bytes, now: int) -> list[x509.Certificate]:
    """The valid path, the leaf first, the anchor last."""
    leaf = chain[0]
    others = () if leaf == anchor else chain[1:]
    try:
        return _valid_path(leaf, others, anchor, now)
    except Unfit as unfit:
        # OpenSSL takes the first issuer that fits, and does not try the next.
        leading = _leading_to(anchor, others)
        if unfit.reason is not RefusalReason.UNKNOWN_CA or len(leading) == len(others):
            raise
    return _valid_path(leaf, leading, anchor, now)


def _valid_path(
    leaf: bytes, others: Iterable[bytes], anchor: bytes, now: int
) -> list[x509.Certificate]:
    store = crypto.X509Store()
    store.add_cert(_trusted(anchor))
    # The anchor need not be a root; nor need it be one that OpenSSL would look above.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(datetime.fromtimestamp(now // 1000, UTC))
    context = crypto.X509StoreContext(store, _loaded(leaf), [_loaded(der) for der in others])
    try:
        return [one.to_cryptography() for one in context.get_verified_chain()]
    except crypto.X509StoreContextError as exc:
        _forget_errors()
        code, depth, words = exc.errors
        raise Unfit(_reason(code, depth), f"{words}, {depth} above the leaf") from None


def _forget_errors() -> None:
    """A failed verification leaves errors in OpenSSL's queue of this thread, where the next TLS
    connection would take them for its own. Whatever fails in pyOpenSSL itself empties the queue."""
    with contextlib.suppress(crypto.Error):
        _loaded(b"")


def _reason(code: int, depth: int) -> RefusalReason:
    if code == _EXPIRED and depth == 0:
        return RefusalReason.EXPIRED_LEAF
    return _REASONS.get(code, RefusalReason.BAD_CHAIN)


def _loaded(der: bytes) -> crypto.X509:
    return crypto.load_certificate(crypto.FILETYPE_ASN1, der)


@functools.lru_cache(maxsize=256)
def _trusted(anchor: bytes) -> crypto.X509:
    return _loaded(anchor)


def _leading_to(anchor: bytes, others: Sequence[bytes]) -> list[bytes]:
    """Those whose issuers' names lead to the anchor's: of a certificate and its cross-signed twin,
    the one that helps."""
    certificates = {der: x509.load_der_x509_certificate(der) for der in others}
    reached = {x509.load_der_x509_certificate(anchor).subject}
    leading: dict[bytes, None] = {}
    for _ in certificates:
        for der, one in certificates.items():
            if one.issuer in reached:
                leading[der] = None
                reached.add(one.subject)
    return list(leading)


# ── what OpenSSL leaves open ──────────────────────────────────────────────────────────────────


def _check_path(path: Sequence[x509.Certificate]) -> None:
    extensions = [one.extensions for one in path]
    for one in extensions:
        _check_extended_usage(one)
    _check_usage(extensions[0])
    for at, certificate in enumerate(path):
        _check_strength(certificate, signed=at < len(path) - 1)


def _check_extended_usage(extensions: x509.Extensions) -> None:
    """Where a certificate says what for, it must be for clients; above the leaf too."""
    purposes = _found(extensions, x509.ExtendedKeyUsage)
    if purposes is not None and _FOR_CLIENTS.isdisjoint(purposes):
        raise Unfit(RefusalReason.WRONG_USAGE, "not for clients")


def _check_usage(extensions: x509.Extensions) -> None:
    """4.2.1.12: clientAuth goes with digitalSignature or keyAgreement."""
    usage = _found(extensions, x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.key_agreement):
        raise Unfit(RefusalReason.WRONG_USAGE, "its key may not sign")


def _found(extensions: x509.Extensions, kind: type[Any]) -> Any:
    for one in extensions:
        if isinstance(one.value, kind):
            return one.value
    return None


def _check_strength(certificate: x509.Certificate, *, signed: bool) -> None:
    """`signed`: its signature counts, which that of an anchor does not."""
    if _is_weak(certificate.public_key()):
        raise Unfit(RefusalReason.WEAK_KEY, "a key is too weak, or of no kind known here")
    if signed and isinstance(certificate.signature_hash_algorithm, hashes.MD5 | hashes.SHA1):
        raise Unfit(RefusalReason.WEAK_KEY, "signed over MD5 or SHA-1")


def _is_weak(key: PublicKey) -> bool:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.key_size < _LEAST_CURVE_BITS
    if isinstance(key, rsa.RSAPublicKey):
        return not _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS
    return not isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)


# ── whose certificate ─────────────────────────────────────────────────────────────────────────


def device_name(rule: ChainRule, leaf: Leaf) -> str | RefusalReason:
    """Group 1 of the rule's pattern, searched for in the first common name (contract, 2.8).

    CN_MISSING, or CN_MISMATCH; a name that is no device's name is not judged here.
    """
    if leaf.common_name is None:
        return RefusalReason.CN_MISSING
    try:
        found = compiled(rule.pattern)(leaf.common_name)
    except ValueError:
        return RefusalReason.CN_MISMATCH  # proven when the profile was saved, by another version
    name = None if found is None else found.group(1)
    return name or RefusalReason.CN_MISMATCH


@functools.lru_cache(maxsize=256)
def compiled(pattern: str) -> Callable[[str], Any]:
    """A pattern's search: text → match or None, in time linear in the text, by RE2.

    Raises `ValueError` with a sentence: over 256 characters, not RE2's, too large, without a group.
    """
    if len(pattern) > MOST_PATTERN_CHARACTERS:
        raise ValueError(f"the pattern has more than {MOST_PATTERN_CHARACTERS} characters")
    options = re2.Options()
    options.max_mem = _MOST_PATTERN_MEMORY
    options.log_errors = False
    try:
        expression = re2.compile(pattern, options)
    except UnicodeEncodeError:
        raise ValueError("the pattern has characters that are none") from None
    except re2.error as exc:
        raise ValueError(
            f"the pattern cannot be used: {_words(exc)} (RE2 has no look-around and no back "
            "references)"
        ) from None
    if not expression.groups:
        raise ValueError("the pattern has no group `( )` around the device's name")
    search: Callable[[str], Any] = expression.search
    return search


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
