"""The chain: each event carries the SHA-256 of the one before it.

The digest of an event is over all its columns, in the order of `write_events`, its own `previous`
among them, as one MessagePack array. So whatever is changed, removed, inserted or put elsewhere
breaks the chain at the next event. The newest event has none after it: its number and digest stand
in `event_chain`, with those of the last event that is no longer there (`after_seq`), under a keyed
digest. Without the master key neither the end nor the beginning can be moved.

Numbers are given here and have no gaps. All of a transaction is chained at its end with one write
of `event_chain`, which is read only when it does not stand where this process left it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from hmac import compare_digest
from operator import itemgetter
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from gateway.store.driver import Row, Transaction
from gateway.store.vault import Vault

log = structlog.get_logger()

NOTHING_BEFORE: Final = bytes(32)
"""What the first event of a store carries."""
_BROKEN_SEAL: Final = b""
_NO_SEAL_YET: Final = b"-"
_NOT_SEALS = (_BROKEN_SEAL, _NO_SEAL_YET)
_encode = msgspec.msgpack.Encoder().encode
_sha256 = hashlib.sha256


def event_digest(row: Sequence[Any]) -> bytes:
    """The digest of a whole row: `seq, at, …, object, previous`."""
    return _sha256(_encode(row)).digest()


class Head(Struct, frozen=True):
    """The row of `event_chain`: the newest event, and the last one that is no longer chained."""

    seq: int
    digest: bytes
    after_seq: int
    after_digest: bytes
    mac: bytes

    @property
    def sealed(self) -> bytes:
        """What `mac` is over."""
        return _sealed(self.seq, self.digest, self.after_seq, self.after_digest)


def _sealed(seq: int, digest: bytes, after_seq: int, after_digest: bytes) -> bytes:
    return struct.pack(">q32sq32s", seq, digest, after_seq, after_digest)


def _chained(told: Sequence[Row], head: Head) -> tuple[list[Row], bytes]:
    """The rows of what was told, tied to `head` and to each other, and the digest of the last."""
    previous = head.digest
    rows: list[Row] = []
    for seq, columns in enumerate(told, head.seq + 1):
        row = (seq, *columns, previous)
        previous = _sha256(_encode(row)).digest()
        rows.append(row)
    return rows, previous


def _lead(head: Head, gone: Sequence[Row], digest: bytes) -> bool:
    """Whether the events lead without a gap from where the chain begins to the digest. Those that
    are older than the chain do not matter."""
    seq, found = head.after_seq, head.after_digest
    for row in sorted(gone, key=itemgetter(0)):
        if row[0] <= head.after_seq:
            continue
        if row[0] != seq + 1 or row[-1] is None or bytes(row[-1]) != found:
            return False
        seq, found = row[0], event_digest(row)
    return found == digest


class Chain:
    """Ties the events of each transaction to those before them."""

    def __init__(self, vault: Vault) -> None:
        self._mac: Callable[[bytes], bytes] = vault.chain_mac
        self._kept = Head(0, NOTHING_BEFORE, 0, NOTHING_BEFORE, _NO_SEAL_YET)
        self._told_broken = False
        self._sure_seq = 0
        """Up to here events are known to be committed: the chain never ends before."""

    def is_ours(self, head: Head) -> bool:
        """Whether `head` was written by somebody who has the master key."""
        return compare_digest(self._mac(head.sealed), head.mac)

    async def write(self, tx: Transaction) -> None:
        """Write what was told in `tx`. The last thing in a transaction."""
        told = tx.told.rows
        if not told:
            return
        head = self._kept
        rows, digest = _chained(told, head)
        if not await self._advance(tx, head, head.seq + len(rows), digest):
            # Another process wrote, or our last transaction did not come about.
            head = await self._head(tx)
            rows, digest = _chained(told, head)
            await self._move(tx, head, seq=head.seq + len(rows), digest=digest)
        told.clear()
        await tx.insert_rows("write_events", rows)

    async def _advance(self, tx: Transaction, head: Head, seq: int, digest: bytes) -> bool:
        """Move the head on when it stands where we left it. One statement decides."""
        if head.mac in _NOT_SEALS:
            return False
        mac = self._mac(_sealed(seq, digest, head.after_seq, head.after_digest))
        if not await tx.fetch("advance_chain", seq, digest, mac, head.mac):
            return False
        self._kept = Head(seq, digest, head.after_seq, head.after_digest, mac)
        self._sure_seq = head.seq
        return True

    async def forget(self, tx: Transaction, gone: Sequence[Row]) -> None:
        """These, the oldest events, were deleted: the chain begins behind them.

        Where they do not hold together, something was done to them (to be forgotten, say, an event
        need only look old enough), and the chain is broken from here on.
        """
        first = await tx.fetch("oldest_chained")
        after_seq = max(row[0] for row in gone)
        if first and first[0][0] > after_seq:
            head = await self._head(tx)
            if head.after_seq < after_seq:
                digest = bytes(first[0][1])
                if first[0][0] != after_seq + 1 or not _lead(head, gone, digest):
                    head = self._broken(head)
                await self._move(tx, head, after_seq=after_seq, after_digest=digest)

    async def _move(self, tx: Transaction, head: Head, **to: Any) -> None:
        moved = msgspec.structs.replace(head, **to)
        # What somebody else moved is not made good by moving it on: it stays without a seal.
        mac = self._mac(moved.sealed) if head.mac != _BROKEN_SEAL else _BROKEN_SEAL
        place = (moved.seq, moved.digest, moved.after_seq, moved.after_digest)
        await tx.fetch("move_chain", *place, mac)
        self._kept = Head(*place, mac)

    async def _head(self, tx: Transaction) -> Head:
        """Where the chain stands; with a broken seal when it does not stand as we left it."""
        found = await tx.fetch("chain_head")
        if not found:
            return await self._begin(tx)
        head = head_from_row(found[0])
        if self.is_ours(head) and head.seq >= self._sure_seq:
            return head
        return self._broken(head)

    async def _begin(self, tx: Transaction) -> Head:
        """The chain begins behind the events that are older than it."""
        newest = await tx.fetch("newest_event")
        if not newest:
            head = Head(0, NOTHING_BEFORE, 0, NOTHING_BEFORE, _NO_SEAL_YET)
            return self._broken(head) if self._sure_seq else head
        place = (newest[0][0], event_digest(newest[0]))
        head = Head(*place, *place, _NO_SEAL_YET)
        # Where an event is chained there was a head, and somebody took it away.
        untouched = newest[0][-1] is None and not self._sure_seq
        return head if untouched else self._broken(head)

    def _broken(self, head: Head) -> Head:
        if not self._told_broken:
            self._told_broken = True
            log.error("store.events_chain_broken", advice="run `gatehouse audit verify`")
        return msgspec.structs.replace(head, mac=_BROKEN_SEAL)


def head_from_row(row: Row) -> Head:
    """A row of `chain_head`."""
    seq, digest, after_seq, after_digest, mac = row
    return Head(seq, bytes(digest), after_seq, bytes(after_digest), bytes(mac))
