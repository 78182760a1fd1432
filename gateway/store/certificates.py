"""Certificates of ours, as they are written down: reserved, issued, revoked, forgotten.

Those issued to a device are at any time its login and what is pending: whatever changes one of the
two says `end_certificates` afterwards. A key is its owner's while a row here has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from gateway.core.pki.model import (
    CertificateRecord,
    CertificateState,
    IssuedCertificate,
    RevocationReason,
    SerialReservation,
)
from gateway.store.driver import Row, Transaction
from gateway.store.writer import Decision, SingleDecision

_SERIAL_BYTES = 20
_RESERVED_MS = 3_600_000
"""After it nobody waits any more for what was reserved."""

Claimant: TypeAlias = tuple[bytes, int, str]
"""A key by its digest, and for whom it is to be certified: organisation and name."""


def is_serial(number: int) -> bool:
    """Whether it may be one of ours. Anybody may ask for any number."""
    return 0 < number < 1 << 8 * _SERIAL_BYTES


def serial_to_bytes(serial: int) -> bytes:
    """The `serial` column."""
    return serial.to_bytes(_SERIAL_BYTES)


def serial_text(serial: int) -> str:
    """How events name a certificate: its number in hexadecimal."""
    return f"{serial:x}"


def serial_texts(rows: Iterable[Row]) -> str:
    """The same for rows that begin with the `serial` column."""
    return ", ".join(serial_text(int.from_bytes(row[0])) for row in rows)


def record_from_row(row: Row) -> CertificateRecord:
    """A row of `certificate` or `certificates` as a record."""
    serial, authority_id, state, device_id, name, created_at, not_after, revoked_at, reason = row
    return CertificateRecord(
        serial=int.from_bytes(serial),
        authority_id=authority_id,
        state=CertificateState(state),
        device_id=device_id,
        name=name,
        created_at=created_at,
        # Of a reservation the column tells when it is forgotten.
        not_after=0 if state == CertificateState.RESERVED else not_after,
        revoked_at=revoked_at,
        reason=RevocationReason(reason),
    )


# ── reserved ──────────────────────────────────────────────────────────────────────────────────


class ReserveSerial(Decision[bool]):
    """Writes serial numbers down whose key is free, or that device's already."""

    __slots__ = ("claimant", "reservation")

    def __init__(self, reservation: SerialReservation) -> None:
        self.reservation = reservation
        self.claimant: Claimant = (
            reservation.key_digest,
            reservation.organisation_id,
            reservation.name,
        )

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[ReserveSerial]) -> list[Any]:
        held = await _hold_keys(tx, Counter(one.claimant for one in decisions))
        results = [one.claimant in held for one in decisions]
        rows = [one.row() for one, is_held in zip(decisions, results, strict=True) if is_held]
        await tx.insert_rows("insert_reservations", rows)
        return results

    def row(self) -> Row:
        one = self.reservation
        return (
            serial_to_bytes(one.serial),
            one.authority_id,
            CertificateState.RESERVED.value,
            one.organisation_id,
            one.name,
            one.key_digest,
            one.at,
            one.at + _RESERVED_MS,
        )


async def _hold_keys(tx: Transaction, asked: Counter[Claimant]) -> set[Claimant]:
    """Who of these may have the key: one statement decides, for one claimant of each key a turn."""
    held: set[Claimant] = set()
    waiting = dict(asked)
    while waiting:
        turn: dict[bytes, Claimant] = {}
        for claimant in waiting:
            turn.setdefault(claimant[0], claimant)
        rows = [(*claimant, waiting.pop(claimant)) for claimant in turn.values()]
        if await tx.insert_rows("hold_keys", rows) == len(rows):
            held.update(turn.values())
            continue
        for claimant in turn.values():
            if (await tx.fetch("key_owner", claimant[0]))[0] == claimant[1:]:
                held.add(claimant)
    return held


async def drop_reservation(tx: Transaction, serial: int) -> None:
    """Nothing was issued: neither the number nor, if it brought the key, the key is kept."""
    dropped = await tx.fetch("delete_reservation", serial_to_bytes(serial))
    await _release_keys(tx, Counter(row[0] for row in dropped))


async def _release_keys(tx: Transaction, digests: Counter[bytes | None]) -> None:
    """So many rows have these keys no more. None: the key was given back before."""
    for digest, times in digests.items():
        if digest is not None:
            await tx.fetch("release_key", digest, times)
            await tx.fetch("delete_key", digest)


# ── issued ────────────────────────────────────────────────────────────────────────────────────


def issued_row(
    issued: IssuedCertificate, owner: tuple[int, str], device_id: int, digest: bytes, at: int
) -> Row:
    """A row of `insert_issued`. `owner` is the device's organisation and name, `digest` that of
    the credentials which this certificate is."""
    return (
        serial_to_bytes(issued.serial),
        issued.authority_id,
        CertificateState.ISSUED.value,
        *owner,
        device_id,
        digest,
        at,
        issued.not_after,
    )


async def write_issued(tx: Transaction, rows: Sequence[Row]) -> None:
    """Reservations become certificates, in the transaction that gives them to their devices."""
    if await tx.insert_rows("insert_issued", rows) != len(rows):
        raise RuntimeError("a serial number was used twice")


async def end_certificates(
    tx: Transaction,
    device_id: int,
    at: int,
    reason: RevocationReason = RevocationReason.SUPERSEDED,
) -> str:
    """Revoke those of a device that are neither its login nor pending; their numbers as text."""
    return serial_texts(await tx.fetch("end_certificates", device_id, at, int(reason)))


async def serial_of_login(tx: Transaction, device_id: int, digest: bytes) -> str:
    """The number of the certificate of ours that is these credentials; empty when none is."""
    return serial_texts(await tx.fetch("serial_of_login", device_id, digest))


async def give_back_keys(tx: Transaction, device_id: int) -> None:
    """The device is no more: another may have its keys, but for those that are compromised."""
    compromised = int(RevocationReason.KEY_COMPROMISE)
    keys = {row[0]: row[1] for row in await tx.fetch("keys_of_device", device_id, compromised)}
    await tx.fetch("give_back_keys", device_id, compromised)
    await _release_keys(tx, Counter(keys))


async def ban_compromised(tx: Transaction, device_id: int, reason: RevocationReason) -> None:
    """Keys of a device that were revoked just now are certified for nobody, if that was why; until
    those certificates are forgotten."""
    if reason is RevocationReason.KEY_COMPROMISE:
        await tx.fetch("ban_keys", device_id, int(reason))


# ── afterwards ────────────────────────────────────────────────────────────────────────────────


class ForgetCertificates(SingleDecision[bool]):
    """Forgets some old rows, by one of the `forget_…` statements. True when there may be more."""

    __slots__ = ("before", "most", "name")

    def __init__(self, name: str, before: int, most: int) -> None:
        self.name = name
        self.before = before
        self.most = most

    async def decide(self, tx: Transaction) -> bool:
        forgotten = await tx.fetch(self.name, self.before, self.most)
        await _release_keys(tx, Counter(row[0] for row in forgotten))
        return len(forgotten) == self.most


class NextCrlNumber(SingleDecision[int]):
    """Counts the revocation lists of an authority."""

    __slots__ = ("authority_id",)

    def __init__(self, authority_id: int) -> None:
        self.authority_id = authority_id

    async def decide(self, tx: Transaction) -> int:
        return int((await tx.fetch("next_crl_number", f"crl {self.authority_id}"))[0][0])
