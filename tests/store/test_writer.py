"""Group commit: together, but each for itself."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

import pytest

from gateway.core.errors import CredentialsGone, Overloaded, StoreUnavailable
from gateway.store.sqlite import SqliteDriver
from gateway.store.writer import SingleDecision, Writer


class Note(SingleDecision[int]):
    """Writes a number; refuses negative ones after having written."""

    __slots__ = ("number",)

    def __init__(self, number):
        self.number = number

    async def decide(self, tx):
        await tx.fetch("next_ids", "note", self.number)
        if self.number < 0:
            raise CredentialsGone
        if self.number == 13:
            raise ZeroDivisionError
        return self.number


SLOW_S = 0.005


class Slow(SingleDecision[None]):
    """Takes as long as some round trips to a server."""

    __slots__ = ()
    together: ClassVar[list[int]] = []

    async def decide(self, tx):
        time.sleep(SLOW_S)

    @classmethod
    async def decide_all(cls, tx, decisions):
        cls.together.append(len(decisions))
        return await super().decide_all(tx, decisions)


@pytest.fixture
async def driver():
    opened = SqliteDriver(None)
    await opened.open()
    script = "CREATE TABLE sequence (name TEXT PRIMARY KEY, last INTEGER NOT NULL);"
    await opened.migrate([(1, script + "INSERT INTO sequence VALUES ('note', 0);")])
    yield opened
    await opened.close()


@pytest.fixture
async def writer(driver):
    running = Writer(driver, max_pending=1000)
    running.start()
    yield running
    await running.close()


async def total(driver):
    return (await driver.rows("next_ids", "note", 0))[0][0]


async def test_each_caller_gets_its_own_result(writer, driver):
    """A hundred decisions at once come back in order, and all are written."""
    results = await asyncio.gather(*(writer.submit(Note(n)) for n in range(100) if n != 13))
    assert results == [n for n in range(100) if n != 13]
    assert await total(driver) == sum(results)


async def test_a_refused_decision_leaves_no_trace(writer, driver):
    """One that raises an expected error is undone alone; its neighbours stand."""
    results = await asyncio.gather(
        *(writer.submit(Note(n)) for n in (1, -50, 2)), return_exceptions=True
    )
    assert results[0] == 1
    assert isinstance(results[1], CredentialsGone)
    assert results[2] == 2
    assert await total(driver) == 3


async def test_a_broken_decision_fails_alone(writer, driver):
    """One that breaks the batch is found out, and the others are committed without it."""
    results = await asyncio.gather(
        *(writer.submit(Note(n)) for n in (1, 13, 2)), return_exceptions=True
    )
    assert results[0] == 1
    assert isinstance(results[1], StoreUnavailable)
    assert results[2] == 2
    assert await total(driver) == 3
    assert writer.healthy


async def test_too_many_are_told_later(driver):
    """Beyond the bound a decision is refused at once, and unawaited ones give way before that."""
    idle = Writer(driver, max_pending=4)
    waiting = [asyncio.create_task(idle.submit(Note(n))) for n in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await idle.submit(Note(9))
    assert not idle.submit_unawaited(Note(9))
    idle.start()
    assert await asyncio.gather(*waiting) == [0, 1, 2, 3]
    await idle.close()


async def test_closing_commits_what_waits(driver):
    """A stop loses nothing that was taken, and takes nothing more."""
    closing = Writer(driver)
    waiting = [asyncio.create_task(closing.submit(Note(n))) for n in (1, 2)]
    await asyncio.sleep(0)
    closing.start()
    await closing.close()
    assert await asyncio.gather(*waiting) == [1, 2]
    with pytest.raises(Overloaded):
        await closing.submit(Note(3))


async def test_a_failing_database_is_told_to_all_and_recovers(writer, driver):
    """While the database cannot write, every caller hears so; afterwards it is healthy again."""
    await driver._writer.run(lambda db: db.execute("PRAGMA query_only = ON"))
    results = await asyncio.gather(
        *(writer.submit(Note(n)) for n in (1, 2)), return_exceptions=True
    )
    assert [type(result) for result in results] == [StoreUnavailable] * 2
    assert not writer.healthy
    await driver._writer.run(lambda db: db.execute("PRAGMA query_only = OFF"))
    assert await writer.submit(Note(3)) == 3
    assert writer.healthy
    assert await total(driver) == 3


async def test_settled_waits_for_what_came_before(writer):
    """After `settled` everything submitted earlier has its result."""
    task = asyncio.create_task(writer.submit(Note(5)))
    await asyncio.sleep(0)
    await writer.settled()
    assert task.done()
    await writer.settled()


async def test_settled_does_not_mind_what_failed(writer, driver):
    """Whoever only reads is not told that somebody else's decision could not be written."""
    await driver._writer.run(lambda db: db.execute("PRAGMA query_only = ON"))
    failed, settled = await asyncio.gather(
        writer.submit(Note(1)), writer.settled(), return_exceptions=True
    )
    assert isinstance(failed, StoreUnavailable)
    assert settled is None


async def test_heavy_decisions_do_not_share_a_transaction(driver):
    """A batch is bounded by what its decisions weigh, and none is too heavy to be decided."""
    sizes = []

    class Heavy(Note):
        __slots__ = ()
        weight = 600

        @classmethod
        async def decide_all(cls, tx, decisions):
            sizes.append(len(decisions))
            return await super().decide_all(tx, decisions)

    class TooHeavy(Heavy):
        __slots__ = ()
        weight = 10**6

    writer = Writer(driver)
    writer.start()
    waiting = [writer.submit(kind(1)) for kind in (Heavy,) * 5 + (TooHeavy,) * 2]
    assert await asyncio.gather(*waiting) == [1] * 7
    await writer.close()
    assert sizes == [2, 2, 1, 1, 1]


async def test_a_transaction_is_short_however_long_its_decisions_take(writer, monkeypatch):
    """Others on the database wait for their turn, and those in it for its end: what takes long each
    is shared among several transactions."""
    monkeypatch.setattr("gateway.store.writer._LONGEST_S", 0.05)
    monkeypatch.setattr("gateway.store.writer._UNKNOWN_S", 0.006)
    Slow.together.clear()
    await asyncio.gather(*(writer.submit(Slow()) for _ in range(40)))
    assert sum(Slow.together) == 40
    assert max(Slow.together) <= 0.05 / SLOW_S
