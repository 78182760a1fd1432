"""Follows the chain of events from its beginning to its end, a page at a time."""

from __future__ import annotations

from msgspec import structs

from gateway.core.audit import Break, BrokenLink, Progress, Verdict
from gateway.store.chain import Chain, Head, event_digest, head_from_row
from gateway.store.driver import Driver, Row

_PAGE = 2000
_BEFORE_ALL = -(2**63)


class Verification:
    """One walk along the chain, while others may write to its end and forget its beginning."""

    def __init__(self, driver: Driver, chain: Chain, progress: Progress | None) -> None:
        self._driver = driver
        self._chain = chain
        self._progress = progress
        self._events = 0
        self._seq = 0
        self._digest = b""
        self._before = b""
        """The digest of the event before the last."""

    async def run(self) -> Verdict:
        head = await self._head()
        if head is None:
            return await self._without_head()
        # Looked at before the others are counted: they are forgotten before it is.
        last = await self._driver.rows("chained_events", head.after_seq - 1, 1)
        older = int((await self._driver.rows("older_events", head.after_seq))[0][0])
        verdict = Verdict(older=older, newest=head.seq, digest=head.digest.hex())
        broken = await self._before_it(head, last, older) or await self._proven(head)
        return structs.replace(verdict, events=self._whole(broken), broken=broken)

    def _whole(self, broken: BrokenLink | None) -> int:
        """How many of the events we passed hold: not the broken one, which is found late when only
        the next, or the seal, tells of it."""
        if broken is None or broken.how is Break.HEAD or broken.seq > self._seq:
            return self._events
        return max(self._events - (self._seq - broken.seq + 1), 0)

    async def _before_it(self, head: Head, last: list[Row], older: int) -> BrokenLink | None:
        """The last event that is older than the chain is tied to it, and those before it are
        forgotten first: without it there are none."""
        if not self._chain.is_ours(head):
            return None  # it says nothing about the events, and is found by itself
        if last and last[0][0] == head.after_seq:
            if event_digest(last[0]) != head.after_digest:
                return BrokenLink(Break.CHANGED, head.after_seq)
        elif older:
            first = await self._driver.rows("chained_events", _BEFORE_ALL, 1)
            if first and first[0][0] <= head.after_seq:
                return BrokenLink(Break.INSERTED, first[0][0])
        return None

    async def _head(self) -> Head | None:
        rows = await self._driver.rows("chain_head")
        return head_from_row(rows[0]) if rows else None

    async def _without_head(self) -> Verdict:
        """Good where nothing was ever chained."""
        newest = await self._driver.rows("last_events", 1)
        last = newest[0][0] if newest else 0
        chained = await self._driver.rows("unchained_in_chain", last)
        if await self._head() is not None:
            return await self.run()  # the first event was written meanwhile
        older = int((await self._driver.rows("older_events", last))[0][0])
        broken = BrokenLink(Break.HEAD, chained[0][0]) if chained else None
        return Verdict(older=older, newest=last, broken=broken)

    async def _proven(self, head: Head) -> BrokenLink | None:
        """The links first: a head that was moved tells less than the place where one is broken."""
        stray = await self._driver.rows("unchained_in_chain", head.after_seq)
        if stray:
            return BrokenLink(Break.INSERTED, stray[0][0])
        self._seq, self._digest = head.after_seq, head.after_digest
        broken = await self._links(head)
        if broken is not None:
            return broken
        newest = await self._driver.rows("last_events", 1)
        now = await self._head()
        if now is None or not self._chain.is_ours(now) or not self._chain.is_ours(head):
            return BrokenLink(Break.HEAD, head.seq)
        if newest and newest[0][0] > now.seq:
            return BrokenLink(Break.INSERTED, now.seq + 1, newest[0][0])
        return None

    async def _links(self, head: Head) -> BrokenLink | None:
        """From where we stand to the event that was the newest when we began."""
        begun = head.after_seq
        while self._seq < head.seq:
            rows = await self._driver.rows("chained_events", self._seq, _PAGE)
            rows = [row for row in rows if row[0] <= head.seq]
            if not rows or rows[0][0] != self._seq + 1:
                if await self._swept():
                    continue
                to_seq = rows[0][0] - 1 if rows else head.seq
                how = Break.REMOVED if rows else Break.CUT
                return BrokenLink(how, self._seq + 1, to_seq)
            for index, row in enumerate(rows):
                if row[0] != self._seq + 1:
                    return BrokenLink(Break.REMOVED, self._seq + 1, row[0] - 1)
                if row[-1] is None or bytes(row[-1]) != self._digest:
                    return self._which(rows[index : index + 3], rows)
                self._before, self._digest = self._digest, event_digest(row)
                self._seq = row[0]
                self._events += 1
            if self._progress is not None:
                self._progress(self._seq - begun, head.seq - begun)
        if self._digest != head.digest:
            return BrokenLink(Break.CHANGED, head.seq)
        return None

    async def _swept(self) -> bool:
        """Whether old events were forgotten meanwhile, beyond where we stand: go on from there."""
        now = await self._head()
        if now is None or now.after_seq <= self._seq or not self._chain.is_ours(now):
            return False
        self._seq, self._digest = now.after_seq, now.after_digest
        return True

    def _which(self, near: list[Row], page: list[Row]) -> BrokenLink:
        """What is wrong where the first of `near` does not carry the digest of the one before."""
        row = near[0]
        if self._events and _carries(row, self._before):
            return BrokenLink(Break.INSERTED, self._seq)
        if any(_carries(other, self._digest) for other in page if other[0] > row[0]):
            return BrokenLink(Break.REORDERED, row[0])
        follows = len(near) > 1 and _carries(near[1], event_digest(row))
        # Where the next one holds to this one, this one is whole: the one before was changed.
        return BrokenLink(Break.CHANGED, self._seq if follows and self._events else row[0])


def _carries(row: Row, digest: bytes) -> bool:
    return row[-1] is not None and bytes(row[-1]) == digest
