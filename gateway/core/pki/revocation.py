"""What is told of certificates that count no more: lists (CRL v2) and single answers (OCSP).

RFC 5280 section 5, RFC 6960, RFC 9654. Both are signed by the key that signed the certificates.
Lists are complete ones (no deltas, no partitions). Of the authorities' own certificates nothing is
told: a root that signs no list can only be taken out of where it is believed.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from msgspec import Struct

from gateway.core.authorities import Authorities
from gateway.core.errors import Overloaded, StoreUnavailable
from gateway.core.pki.authority import Signer, authority_key_id, hash_for, moment
from gateway.core.pki.csr import UNREADABLE, Unfit
from gateway.core.pki.model import (
    AuthorityRole,
    CertificateRecord,
    CertificateState,
    RevocationReason,
)
from gateway.core.ports import Clock, Store

MOST_REQUEST_BYTES: Final = 4096
"""Of an OCSP request; one for a single certificate with a nonce has about 120."""
MOST_NONCE_BYTES: Final = 32
"""Of a nonce that is repeated in the answer; longer ones are left out of it (RFC 9654, 2.1)."""
_LONGEST_NONCE: Final = 128
"""No nonce is longer, nor empty (RFC 9654, section 2.1)."""
_LARGEST_SERIAL: Final = 1 << 159
"""Serial numbers are positive and have at most 20 bytes (RFC 5280, section 4.1.2.2)."""
_FRESH_MS = 5000
"""How long the list of authorities is believed before a stranger's question reads it again."""
_SHARE = 4
"""After making a list, so many times as long none is made: at most a fifth of the time."""

_REASONS: Final = {
    RevocationReason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    RevocationReason.AFFILIATION_CHANGED: x509.ReasonFlags.affiliation_changed,
    RevocationReason.SUPERSEDED: x509.ReasonFlags.superseded,
    RevocationReason.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
    RevocationReason.PRIVILEGE_WITHDRAWN: x509.ReasonFlags.privilege_withdrawn,
}
"""UNSPECIFIED is said by saying nothing (RFC 5280, section 5.3.1)."""
_ENTRY_REASONS: Final = {reason: (x509.CRLReason(flag),) for reason, flag in _REASONS.items()}


class RevocationList(Struct, frozen=True):
    """A signed list in DER, and until when it may be relied on (ms)."""

    der: bytes
    made_at: int
    next_update: int


class RevocationLists:
    """The list of each authority, made when it is asked for and kept until it is out of date.

    `lifetime_ms` is how long one may be relied on; when a third of it is left, the next asker gets
    a new one. `forget` makes all of them out of date. Whoever asks after a `forget` is given a list
    that was begun after it, unless that takes longer than `patience_s` and an older one may still
    be relied on. However many ask at once, one is made, also when none of them waits for it.
    """

    def __init__(
        self,
        store: Store,
        authorities: Authorities,
        clock: Clock,
        *,
        lifetime_ms: int = 24 * 3_600_000,
        patience_s: float = 5.0,
    ) -> None:
        self._store = store
        self._authorities = authorities
        self._clock = clock
        self._lifetime = lifetime_ms
        self._patience_s = patience_s
        self._age = 0
        """How often it was told to forget."""
        self._shelves: dict[int, _Shelf] = {}

    def forget(self) -> None:
        """Something was revoked."""
        self._age += 1

    async def of(self, authority_id: int) -> RevocationList | None:
        """The list of what this authority signed; None when it is none of ours.

        Raises what the store raises, and `Unfit(NO_AUTHORITY)` when its key cannot be had.
        """
        shelf = self._shelves.get(authority_id)
        if shelf is None:
            signer = await self._authorities.signer_of(authority_id)
            if signer is None:
                return None
            shelf = self._shelves.setdefault(authority_id, _Shelf(signer))
        older, age = shelf.made, self._age
        usable = older is not None and self._clock() < older.next_update
        try:
            async with asyncio.timeout(self._patience_s if usable else None):
                while self._stale(shelf, age):
                    await asyncio.shield(self._making(shelf))
        except TimeoutError:
            return older
        return shelf.made

    def _stale(self, shelf: _Shelf, age: int) -> bool:
        """Whether its list was begun before that age, or is to be replaced."""
        if shelf.made is None or shelf.age < age:
            return True
        return self._clock() >= shelf.made.next_update - self._lifetime // 3

    def _making(self, shelf: _Shelf) -> asyncio.Task[None]:
        """The making of a list, begun now unless it is under way."""
        if shelf.making is None:
            shelf.making = asyncio.create_task(self._make(shelf), name="revocation list")
            shelf.making.add_done_callback(shelf.finished)
        return shelf.making

    async def _make(self, shelf: _Shelf) -> None:
        await asyncio.sleep(shelf.rest_until - time.monotonic())
        age, now = self._age, self._clock()
        signer = shelf.signer
        # One that ended is on one more list (RFC 5280, section 3.3).
        records = await self._store.revoked(signer.authority_id, now - self._lifetime)
        number = await self._store.next_crl_number(signer.authority_id)
        began = time.monotonic()
        next_update = now + self._lifetime
        # Ten thousand entries take 100 ms.
        der = await asyncio.to_thread(make_list, signer, records, number, now, next_update)
        shelf.rest_until = time.monotonic() + _SHARE * (time.monotonic() - began)
        shelf.made = RevocationList(der, now, next_update)
        shelf.age = age


class _Shelf:
    """Where the list of one authority is kept."""

    __slots__ = ("age", "made", "making", "rest_until", "signer")

    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self.made: RevocationList | None = None
        self.age = 0
        self.making: asyncio.Task[None] | None = None
        self.rest_until = 0.0

    def finished(self, making: asyncio.Task[None]) -> None:
        """Why it failed is told to those who wait for it; perhaps nobody does."""
        self.making = None
        if not making.cancelled():
            making.exception()


def make_list(
    signer: Signer,
    records: Sequence[CertificateRecord],
    number: int,
    this_update: int,
    next_update: int,
) -> bytes:
    """A signed CRL v2 of these revoked certificates, in DER. Takes 10 µs for each."""
    builder = x509.CertificateRevocationListBuilder(
        signer.certificate.subject,
        moment(this_update),
        moment(next_update),
        [],
        # One by one the builder would copy all that came before.
        [_entry(record) for record in records],
    )
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    builder = builder.add_extension(authority_key_id(signer), critical=False)
    return builder.sign(signer.key, hash_for(signer.key)).public_bytes(Encoding.DER)


def _entry(record: CertificateRecord) -> x509.RevokedCertificate:
    entry = x509.RevokedCertificateBuilder(record.serial, moment(record.revoked_at))
    for reason in _ENTRY_REASONS.get(record.reason, ()):
        entry = entry.add_extension(reason, critical=False)
    return entry.build()


# ── OCSP ──────────────────────────────────────────────────────────────────────────────────────


class OcspAnswer(Struct, frozen=True):
    """A response in DER. `next_update` (ms): whoever asks the same may be given it until then.

    0: this one is for this request alone, or says that there is no answer.
    """

    der: bytes
    made_at: int
    next_update: int = 0


class _Question(Struct, frozen=True):
    asked: ocsp.OCSPRequest
    signer: Signer
    nonce: bytes


class _Unanswered(Exception):
    """There is no answer but this."""

    def __init__(self, status: ocsp.OCSPResponseStatus) -> None:
        super().__init__(status.name)
        self.status = status


_MALFORMED: Final = ocsp.OCSPResponseStatus.MALFORMED_REQUEST
_UNAUTHORIZED: Final = ocsp.OCSPResponseStatus.UNAUTHORIZED
_ALGORITHMS: Final = (
    hashes.SHA1(),  # noqa: S303
    hashes.SHA224(),
    hashes.SHA256(),
    hashes.SHA384(),
    hashes.SHA512(),
)
"""By which a request may name an issuer; SHA-1 is what nearly all use, and guards nothing here."""


class OcspResponder:
    """Answers whether a certificate that was signed here still counts (RFC 6960).

    A request for one certificate is answered; one for several is `unauthorized` (RFC 5019 lets a
    responder be so), as is one about an issuer that is none of ours. A signature on the request is
    not looked at. `lifetime_ms` is how long an answer may be relied on.
    """

    def __init__(
        self,
        store: Store,
        authorities: Authorities,
        clock: Clock,
        *,
        lifetime_ms: int = 3_600_000,
    ) -> None:
        self._store = store
        self._authorities = authorities
        self._clock = clock
        self._lifetime = lifetime_ms
        self._signers: dict[tuple[str, bytes, bytes], Signer] = {}
        """By hash algorithm, hash of the issuer's name, hash of its key."""
        self._fresh_until = 0
        self._looking = asyncio.Lock()

    async def answer(self, der: bytes) -> OcspAnswer:
        """The response to a request. Raises nothing of a request's making."""
        now = self._clock()
        try:
            question = await self._understand(der)
            record = await self._record(question)
        except _Unanswered as unanswered:
            return OcspAnswer(_unsuccessful(unanswered.status), now)
        except (StoreUnavailable, Overloaded, Unfit):
            return OcspAnswer(_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER), now)
        next_update = now + self._lifetime
        response = _response(question, record, now, next_update)
        return OcspAnswer(response, now, 0 if question.nonce else next_update)

    async def _understand(self, der: bytes) -> _Question:
        if len(der) > MOST_REQUEST_BYTES:
            raise _Unanswered(_MALFORMED)
        try:
            asked = ocsp.load_der_ocsp_request(der)
            issuer = asked.hash_algorithm.name, asked.issuer_name_hash, asked.issuer_key_hash
            nonce = _nonce(asked)
        except (NotImplementedError, UnsupportedAlgorithm):
            raise _Unanswered(_UNAUTHORIZED) from None
        except UNREADABLE:
            raise _Unanswered(_MALFORMED) from None
        signer = await self._signer(issuer)
        if signer is None:
            raise _Unanswered(_UNAUTHORIZED)
        return _Question(asked, signer, nonce)

    async def _signer(self, issuer: tuple[str, bytes, bytes]) -> Signer | None:
        if issuer not in self._signers:
            async with self._looking:
                if self._clock() >= self._fresh_until:
                    await self._look()
        return self._signers.get(issuer)

    async def _look(self) -> None:
        for authority_id in await self._issuing():
            signer = await self._authorities.signer_of(authority_id)
            if signer is not None:
                self._signers.update((name, signer) for name in _names(signer.certificate))
        self._fresh_until = self._clock() + _FRESH_MS

    async def _issuing(self) -> list[int]:
        file = self._authorities.file
        ours = [one for one in await self._authorities.all() if one.role is AuthorityRole.ISSUING]
        return [one.id for one in ours] + ([] if file is None else [file.authority_id])

    async def _record(self, question: _Question) -> CertificateRecord | None:
        """What is known of the certificate; None when it was not signed by that authority."""
        serial = question.asked.serial_number
        if not 0 < serial < _LARGEST_SERIAL:
            return None
        record = await self._store.certificate(serial)
        if record is None or record.state is CertificateState.RESERVED:
            return None
        return record if record.authority_id == question.signer.authority_id else None


def _nonce(asked: ocsp.OCSPRequest) -> bytes:
    """The nonce to repeat. Raises `ValueError` for what no request may have."""
    nonce = b""
    for extension in asked.extensions:
        if isinstance(extension.value, x509.OCSPNonce):
            nonce = extension.value.nonce
            if not 0 < len(nonce) <= _LONGEST_NONCE:
                raise ValueError("the nonce has a length no nonce has")
        elif extension.critical:
            raise ValueError("a critical extension that is not known")
    return nonce if len(nonce) <= MOST_NONCE_BYTES else b""


def _names(authority: x509.Certificate) -> list[tuple[str, bytes, bytes]]:
    """How requests may name this authority (RFC 6960, section 4.1.1)."""
    subject = authority.subject.public_bytes()
    names = []
    for algorithm in _ALGORITHMS:
        # The name it hashes is that of the first one's issuer, the key that of the second one.
        own = ocsp.OCSPRequestBuilder().add_certificate(authority, authority, algorithm).build()
        name_hash = hashlib.new(algorithm.name, subject).digest()
        names.append((algorithm.name, name_hash, own.issuer_key_hash))
    return names


def _response(
    question: _Question, record: CertificateRecord | None, this_update: int, next_update: int
) -> bytes:
    asked, signer = question.asked, question.signer
    revoked = record is not None and record.state is CertificateState.REVOKED
    status = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        asked.issuer_name_hash,
        asked.issuer_key_hash,
        asked.serial_number,
        asked.hash_algorithm,
        ocsp.OCSPCertStatus.UNKNOWN if record is None else status,
        moment(this_update),
        moment(next_update),
        moment(record.revoked_at) if record is not None and revoked else None,
        _REASONS.get(record.reason) if record is not None and revoked else None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    if question.nonce:
        builder = builder.add_extension(x509.OCSPNonce(question.nonce), critical=False)
    return builder.sign(signer.key, hash_for(signer.key)).public_bytes(Encoding.DER)


def _unsuccessful(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)
