"""What is told of certificates that count no more: lists (CRL v2) and single answers (OCSP).

RFC 5280 section 5, RFC 6960, RFC 9654. Both are signed by the key that signed the certificates.
Lists are complete ones (no deltas, no partitions). Of the authorities' own certificates nothing is
told: a root that signs no list can only be taken out of where it is believed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from gateway.core.authorities import Authorities
from gateway.core.errors import Overloaded, StoreUnavailable
from gateway.core.pki.model import AuthorityRole, CertificateRecord, CertificateState, Unfit
from gateway.core.ports import Clock, Store

if TYPE_CHECKING:
    from gateway.core.pki.authority import Signer

MOST_REQUEST_BYTES: Final = 4096
"""Of an OCSP request; one for a single certificate with a nonce has about 120."""
_LARGEST_SERIAL: Final = 1 << 159
"""Serial numbers are positive and have at most 20 bytes (RFC 5280, section 4.1.2.2)."""
_FRESH_MS = 5000
"""How long the list of authorities is believed before a stranger's question reads it again."""
_SHARE = 4
"""After making a list, so many times as long none is made: at most a fifth of the time."""


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
        # Loads cryptography's X.509, here and below: a gateway that is not asked need not wait.
        from gateway.core.pki.statements import make_list

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


# ── OCSP ──────────────────────────────────────────────────────────────────────────────────────


class OcspAnswer(Struct, frozen=True):
    """A response in DER. `next_update` (ms): whoever asks the same may be given it until then.

    0: this one is for this request alone, or says that there is no answer.
    """

    der: bytes
    made_at: int
    next_update: int = 0


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
        from gateway.core.pki import statements

        now = self._clock()
        try:
            if len(der) > MOST_REQUEST_BYTES:
                return OcspAnswer(statements.MALFORMED, now)
            question = statements.read_question(der)
            signer = await self._signer(question.issuer)
            if signer is None:
                return OcspAnswer(statements.UNAUTHORIZED, now)
            record = await self._record(question.serial, signer)
        except statements.Unanswered as unanswered:
            return OcspAnswer(unanswered.response, now)
        except (StoreUnavailable, Overloaded, Unfit):
            return OcspAnswer(statements.TRY_LATER, now)
        next_update = now + self._lifetime
        response = statements.signed_response(question, signer, record, now, next_update)
        return OcspAnswer(response, now, 0 if question.nonce else next_update)

    async def _signer(self, issuer: tuple[str, bytes, bytes]) -> Signer | None:
        if issuer not in self._signers:
            async with self._looking:
                if self._clock() >= self._fresh_until:
                    await self._look()
        return self._signers.get(issuer)

    async def _look(self) -> None:
        from gateway.core.pki.statements import names_of

        for authority_id in await self._issuing():
            signer = await self._authorities.signer_of(authority_id)
            if signer is not None:
                self._signers.update((name, signer) for name in names_of(signer.certificate))
        self._fresh_until = self._clock() + _FRESH_MS

    async def _issuing(self) -> list[int]:
        file = self._authorities.file
        ours = [one for one in await self._authorities.all() if one.role is AuthorityRole.ISSUING]
        return [one.id for one in ours] + ([] if file is None else [file.authority_id])

    async def _record(self, serial: int, signer: Signer) -> CertificateRecord | None:
        """What is known of the certificate; None when it was not signed by that authority."""
        if not 0 < serial < _LARGEST_SERIAL:
            return None
        record = await self._store.certificate(serial)
        if record is None or record.state is CertificateState.RESERVED:
            return None
        return record if record.authority_id == signer.authority_id else None
