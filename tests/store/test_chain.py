"""The chain of events: it holds while only we write, and tells where it was broken."""

from __future__ import annotations

import asyncio
import hashlib
import struct

import msgspec
import pytest

from gateway.core.audit import Audit, Break, BrokenLink
from gateway.core.errors import CredentialsGone
from gateway.core.model import Event, EventKind, Outcome, Peer, Wire
from gateway.store.audit import SqlAudit
from gateway.store.chain import Chain, event_digest
from gateway.store.events import event_from_row, event_row, tell
from gateway.store.retention import Retention
from gateway.store.sqlite import SqliteDriver
from gateway.store.vault import Vault
from gateway.store.verifying import Verification
from gateway.store.writer import SingleDecision

COLUMNS = (
    "at, kind, outcome, reason, device_id, subject, wire, address, detail, actor, request, object, "
    "previous"
)


@pytest.fixture
def audit(store):
    return Audit(SqlAudit(store))


@pytest.fixture
def written(store, event):
    """Writes so many events, several in a transaction."""

    async def write(count: int, store=store) -> None:
        await asyncio.gather(
            *(store.record(event(EventKind.DEVICE_LOGIN, subject=f"d{n}")) for n in range(count))
        )
        await store.writer.settled()

    return write


@pytest.fixture
def alter(store):
    """Changes the database behind our back."""

    async def run(*statements: str) -> None:
        for statement in statements:
            if isinstance(store.driver, SqliteDriver):
                await store.driver._writer.run(lambda db, text=statement: db.execute(text))
            else:
                await (await store.driver._writer()).execute(statement)

    return run


class Telling(SingleDecision[None]):
    """Tells an event, and a second before it thinks better of it."""

    __slots__ = ("event", "fails")

    def __init__(self, event, fails):
        self.event = event
        self.fails = fails

    async def decide(self, tx):
        tell(tx, [self.event])
        if self.fails:
            raise CredentialsGone


def test_an_event_comes_back_as_it_was_told():
    """A row holds all of an event: who, what about, and which request."""
    told = Event(
        kind=EventKind.DEVICE_ASSIGN,
        at=7,
        peer=Peer(Wire.HTTP, "192.0.2.1:9", actor="ann@example.com", request="r-1"),
        outcome=Outcome.REFUSED,
        reason="blocked",
        device_id=3,
        subject="d",
        detail={"customer": "c"},
        object="o",
    )
    assert event_from_row((9, *event_row(told))) == msgspec.structs.replace(told, seq=9)


@pytest.mark.every_database
async def test_each_event_carries_the_digest_of_the_one_before(store, written):
    """Numbers have no gaps, and anybody can follow the digests with a few lines of code."""
    await written(5)
    await written(2)
    rows = await store.driver.rows("chained_events", 0, 100)
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    digest = bytes(32)
    for row in rows:
        assert bytes(row[-1]) == digest
        digest = hashlib.sha256(msgspec.msgpack.encode(row)).digest()
        assert digest == event_digest(row)
    assert bytes((await store.driver.rows("chain_head"))[0][1]) == digest


@pytest.mark.every_database
async def test_an_untouched_chain_holds(store, audit, written):
    """Nothing, one event, many: all hold, and the progress comes to its end."""
    assert (await audit.verify()).broken is None
    await written(1)
    assert (await audit.verify()).broken is None
    await written(30)
    seen = []
    verdict = await audit.verify(lambda done, of: seen.append((done, of)))
    assert (verdict.broken, verdict.events, verdict.newest, verdict.older) == (None, 31, 31, 0)
    assert seen[-1] == (31, 31)
    assert len(verdict.digest) == 64


@pytest.mark.every_database
async def test_what_is_undone_is_not_told(store, event, registrar):
    """A decision that fails takes its event with it, and the numbers stay without a gap."""
    one = event(EventKind.DEVICE_LOGIN, subject="a")
    results = await asyncio.gather(
        *(store.writer.submit(Telling(one, fails)) for fails in (False, True, False)),
        return_exceptions=True,
    )
    assert isinstance(results[1], CredentialsGone)
    events = await registrar.events(after_seq=0, limit=9, device_id=None)
    assert [one.seq for one in events] == [1, 2]


SWAPPED = (
    "UPDATE event SET seq = -5 WHERE seq = 5",
    "UPDATE event SET seq = 5 WHERE seq = 6",
    "UPDATE event SET seq = 6 WHERE seq = -5",
)
SHIFTED = (
    *(f"UPDATE event SET seq = {n + 1} WHERE seq = {n}" for n in range(12, 4, -1)),
    f"INSERT INTO event (seq, {COLUMNS}) SELECT 5, {COLUMNS} FROM event WHERE seq = 6",
    "UPDATE event_chain SET seq = 13",
)


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        (["UPDATE event SET subject = 'x' WHERE seq = 1"], BrokenLink(Break.CHANGED, 1)),
        (["UPDATE event SET reason = 'x' WHERE seq = 5"], BrokenLink(Break.CHANGED, 5)),
        (["UPDATE event SET actor = 'x' WHERE seq = 5"], BrokenLink(Break.CHANGED, 5)),
        (["UPDATE event SET at = at + 1 WHERE seq = 12"], BrokenLink(Break.CHANGED, 12)),
        (["UPDATE event SET previous = NULL WHERE seq = 5"], BrokenLink(Break.CHANGED, 5)),
        (["DELETE FROM event WHERE seq = 1"], BrokenLink(Break.REMOVED, 1, 1)),
        (["DELETE FROM event WHERE seq BETWEEN 5 AND 7"], BrokenLink(Break.REMOVED, 5, 7)),
        (["DELETE FROM event WHERE seq > 9"], BrokenLink(Break.CUT, 10, 12)),
        (["DELETE FROM event"], BrokenLink(Break.CUT, 1, 12)),
        (SWAPPED, BrokenLink(Break.REORDERED, 5)),
        (SHIFTED, BrokenLink(Break.INSERTED, 5)),
        (
            [f"INSERT INTO event (seq, {COLUMNS}) SELECT 13, {COLUMNS} FROM event WHERE seq = 12"],
            BrokenLink(Break.INSERTED, 13, 13),
        ),
        (["DELETE FROM event_chain"], BrokenLink(Break.HEAD, 1)),
        (["UPDATE event_chain SET mac = digest"], BrokenLink(Break.HEAD, 12)),
    ],
)
async def test_the_first_broken_link_is_found(audit, written, alter, changes, broken):
    """Changed, removed, cut off, put elsewhere, inserted: each is told with its place."""
    await written(12)
    await alter(*changes)
    assert (await audit.verify()).broken == broken


@pytest.mark.every_database
@pytest.mark.parametrize("remembers", [True, False])
async def test_what_is_written_behind_a_cut_does_not_hide_it(
    store, audit, written, alter, remembers
):
    """The end is cut and the head put back to fit: our next event does not vouch for it, whether
    its writer saw the end before or comes new to it."""
    await written(12)
    ninth = (await store.driver.rows("chained_events", 9, 1))[0]
    digest = bytes(ninth[-1]).hex()
    blob = f"x'{digest}'" if isinstance(store.driver, SqliteDriver) else f"'\\x{digest}'::bytea"
    await alter(
        "DELETE FROM event WHERE seq > 9", f"UPDATE event_chain SET seq = 9, digest = {blob}"
    )
    assert (await audit.verify()).broken == BrokenLink(Break.HEAD, 9)
    if remembers:
        await written(3)
        assert (await audit.verify()).broken == BrokenLink(Break.REMOVED, 10, 12)
    else:
        store.writer._write_told = Chain(store.vault).write
        await written(3)
        assert (await audit.verify()).broken == BrokenLink(Break.HEAD, 12)


async def test_a_head_that_was_taken_away_is_not_begun_anew_in_silence(audit, written, alter):
    """Events that carry digests before the place where the chain begins were chained once."""
    await written(4)
    await alter("DELETE FROM event_chain")
    await written(2)
    assert (await audit.verify()).broken == BrokenLink(Break.INSERTED, 1)


async def test_another_master_key_proves_nothing(store, written):
    """Who has the database alone cannot make a head that holds."""
    await written(3)
    await store.driver.transact(_forge)
    verdict = await Verification(store.driver, store.chain, None).run()
    assert verdict.broken == BrokenLink(Break.HEAD, 3)


async def _forge(tx):
    row = (await tx.fetch("chain_head"))[0]
    place = row[:4]
    mac = Vault(b"\1" * 32).chain_mac(struct.pack(">q32sq32s", *place))
    await tx.fetch("move_chain", *place, mac)


@pytest.mark.every_database
async def test_the_chain_outlives_a_sweep(store, audit, written, clock, registrar):
    """Old events go in one piece from the front; what is left still holds, and begins there."""
    day = 86_400_000
    await written(10)
    clock.now += 2 * day
    await written(5)
    retention = Retention(store, clock, events_keep_days=1)
    await retention.sweep()
    await store.writer.settled()
    verdict = await audit.verify()
    assert (verdict.broken, verdict.events, verdict.newest) == (None, 6, 16)
    events = await registrar.events(after_seq=0, limit=99, device_id=None)
    assert [one.seq for one in events] == list(range(11, 17))
    assert events[-1].kind is EventKind.AUDIT_SWEEP
    assert events[-1].detail == {"events": "10"}


async def test_a_hole_in_front_is_no_sweep(store, audit, written, clock, alter):
    """Who deletes the oldest events by hand cannot pass it off as forgetting in time."""
    await written(10)
    await alter("DELETE FROM event WHERE seq <= 4")
    assert (await audit.verify()).broken == BrokenLink(Break.REMOVED, 1, 4)


async def test_an_event_of_a_clock_far_ahead_does_not_stop_the_sweep(
    store, audit, written, clock, registrar
):
    """One wrong time in front would keep all events behind it for ever."""
    day = 86_400_000
    clock.now += 9000 * day
    await written(1)
    clock.now -= 9000 * day
    await written(3)
    clock.now += 2 * day
    await written(1)
    await Retention(store, clock, events_keep_days=1).sweep()
    await store.writer.settled()
    events = await registrar.events(after_seq=0, limit=9, device_id=None)
    assert [one.seq for one in events] == [5, 6]
    assert (await audit.verify()).broken is None


async def test_events_of_before_are_told_apart(store, audit, written, alter, registrar):
    """A store that is older than its chain: its first events are counted as such."""
    for n in (3, 4):
        await alter(
            "INSERT INTO event (seq, at, kind, outcome, reason, subject, wire, address, detail) "
            f"VALUES ({n}, 5, 'device:create', 'success', '', 'd', 'shell', 'x', '')"
        )
    await written(2)
    verdict = await audit.verify()
    assert (verdict.broken, verdict.older, verdict.events) == (None, 2, 2)
    await alter("UPDATE event SET subject = 'e' WHERE seq = 6")
    assert (await audit.verify()).broken == BrokenLink(Break.CHANGED, 6)


@pytest.mark.every_database
async def test_two_gateways_write_one_chain(stores, event):
    """Both write at the same time, and each goes on where the other ended."""

    async def write(store):
        for n in range(10):
            await store.record(event(EventKind.DEVICE_LOGIN, subject=str(n)))
            await store.writer.settled()

    await asyncio.gather(*map(write, stores))
    verdict = await Audit(SqlAudit(stores[0])).verify()
    assert (verdict.broken, verdict.events) == (None, 20)


async def test_a_walk_along_a_chain_that_grows_ends_well(store, audit, written):
    """What is written while it is followed breaks nothing."""
    await written(4500)
    walk = asyncio.create_task(audit.verify())
    while not walk.done():
        await written(20)
    assert walk.result().broken is None


@pytest.mark.every_database
async def test_the_sweep_does_not_launder_what_was_made_to_look_old(
    store, audit, written, clock, alter
):
    """Who gives events an old time, so that they are forgotten for him, breaks the chain."""
    await written(10)
    await alter("UPDATE event SET at = 1 WHERE seq <= 6")
    await Retention(store, clock, events_keep_days=1).sweep()
    await store.writer.settled()
    broken = (await audit.verify()).broken
    assert broken is not None
    assert broken.how is Break.HEAD


async def test_a_hole_is_not_swept_away(store, audit, written, clock, alter):
    """One of the oldest was deleted: that it would be forgotten by now does not heal the chain."""
    await written(10)
    await alter("DELETE FROM event WHERE seq = 4")
    clock.now += 2 * 86_400_000
    await written(2)
    await Retention(store, clock, events_keep_days=1).sweep()
    assert (await audit.verify()).broken is not None


async def test_several_sweeps_hold(store, audit, written, clock):
    """The chain begins anew behind each of them."""
    for _ in range(4):
        clock.now += 86_400_000
        await written(3)
        await Retention(store, clock, events_keep_days=2).sweep()
        await store.writer.settled()
    verdict = await audit.verify()
    assert verdict.broken is None
    assert verdict.events < verdict.newest


@pytest.mark.every_database
async def test_an_older_state_put_back_is_found_by_who_saw_the_newer(store, audit, written, alter):
    """Cut off, with the seal of that time: our next event does not go on from there."""
    await written(3)
    await alter("CREATE TABLE kept AS SELECT * FROM event_chain")
    await written(3)
    await written(3)
    await alter(
        "DELETE FROM event WHERE seq > 3",
        "DELETE FROM event_chain",
        "INSERT INTO event_chain SELECT * FROM kept",
        "DROP TABLE kept",
    )
    await written(1)
    broken = (await audit.verify()).broken
    assert broken is not None
    assert broken.how is Break.HEAD


async def test_all_taken_away_is_found_by_who_saw_it(store, audit, written, alter):
    """No event and no head: whoever wrote some does not begin again as if nothing had been."""
    await written(3)
    await written(3)
    await alter("DELETE FROM event", "DELETE FROM event_chain")
    await written(1)
    assert (await audit.verify()).broken is not None


async def test_nobody_adds_to_what_is_older_than_the_chain(store, audit, written, clock, alter):
    """An event that claims to be of before the chain is found, on a new store and after a sweep."""
    old = (
        "INSERT INTO event (seq, at, kind, outcome, reason, subject, wire, address, detail) "
        "VALUES ({}, 5, 'device:create', 'success', '', 'd', 'shell', 'x', '')"
    )
    await written(3)
    await alter(old.format(0))
    assert (await audit.verify()).broken == BrokenLink(Break.CHANGED, 0)
    await alter("DELETE FROM event WHERE seq = 0", old.format(-7))
    assert (await audit.verify()).broken == BrokenLink(Break.INSERTED, -7)
    await alter("DELETE FROM event WHERE seq < 0")
    clock.now += 2 * 86_400_000
    await written(2)
    await Retention(store, clock, events_keep_days=1).sweep()
    await store.writer.settled()
    assert (await audit.verify()).broken is None
    await alter(old.format(2))
    assert (await audit.verify()).broken == BrokenLink(Break.INSERTED, 2)


async def test_the_last_of_the_older_is_tied_to_the_chain(store, audit, written, alter):
    """What the chain began behind cannot be changed afterwards."""
    await alter(
        "INSERT INTO event (seq, at, kind, outcome, reason, subject, wire, address, detail) "
        "VALUES (4, 5, 'device:create', 'success', '', 'd', 'shell', 'x', '')"
    )
    await written(2)
    await alter("UPDATE event SET subject = 'e' WHERE seq = 4")
    assert (await audit.verify()).broken == BrokenLink(Break.CHANGED, 4)


@pytest.mark.every_database
async def test_events_outside_of_the_writer_are_an_error(store, event):
    """A transaction that would lose an event does not come about."""

    async def work(tx):
        tell(tx, [event(EventKind.DEVICE_LOGIN)])
        await tx.fetch("insert_setting", "strange", b"x")

    with pytest.raises(RuntimeError, match="through the Writer"):
        await store.driver.transact(work)
    assert await store.driver.point("setting", "strange") is None


async def test_an_event_that_nobody_wrote_so_can_be_listed(written, alter, registrar):
    """Whatever somebody put into a row: the others are still shown, and it is shown as strange."""
    await written(4)
    await alter(
        "UPDATE event SET kind = 'x' WHERE seq = 1",
        "UPDATE event SET detail = 'no JSON' WHERE seq = 2",
        "UPDATE event SET at = 'noon' WHERE seq = 3",
    )
    events = await registrar.events(after_seq=0, limit=9, device_id=None)
    kinds = [one.kind for one in events]
    assert kinds[-1] is EventKind.DEVICE_LOGIN
    assert set(kinds[:-1]) == {EventKind.UNREADABLE}
