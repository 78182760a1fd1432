"""How many tickets of an organisation wait: counted seldom, and never too few."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from people import Crowd, make_crowd

from gateway.core.errors import Overloaded
from gateway.core.tickets import Issued, Tickets
from gateway.core.tokens import new_url_token
from gateway.store.sql_store import SqlStore
from gateway.store.sql_tickets import SqlTickets


class Counting(SqlTickets):
    """The store's own, which says how often it was asked, and answers when it is let."""

    def __init__(self, store: SqlStore) -> None:
        super().__init__(store)
        self.counts = 0
        self.let = asyncio.Event()
        self.let.set()

    async def waiting(self, organisation_id: int) -> int:
        self.counts += 1
        found = await super().waiting(organisation_id)
        await self.let.wait()
        return found


@pytest.fixture
async def crowd(store: SqlStore, clock: Any) -> Any:
    made = await make_crowd(store, clock)
    yield made
    made.close()


@pytest.fixture
def counting(store: SqlStore) -> Counting:
    return Counting(store)


@pytest.fixture
def new_tickets(counting: Counting, clock: Any) -> Callable[[int], Tickets]:
    async def away(device_id: int) -> bool:
        return False

    return lambda most: Tickets(
        counting, clock=clock, new_token=new_url_token, is_online=away, most_waiting=most
    )


async def issue_many(tickets: Tickets, crowd: Crowd, many: int) -> int:
    """How many of so many at once were issued; the others were too many."""
    tries = (tickets.issue(crowd.operator, crowd.acme, None) for _ in range(many))
    made = await asyncio.gather(*tries, return_exceptions=True)
    assert all(isinstance(one, Issued | Overloaded) for one in made), made
    return sum(isinstance(one, Issued) for one in made)


async def test_a_crowd_is_counted_once(
    counting: Counting, new_tickets: Any, crowd: Crowd, clock: Any
) -> None:
    """At the first of all, and when the last count is old; with room and without."""
    tickets = new_tickets(150)
    for done, counts in ((100, 1), (50, 2), (0, 3)):
        assert await issue_many(tickets, crowd, 100) == done
        assert counting.counts == counts
        clock.now += 5000


async def test_what_is_issued_while_they_are_counted_counts(
    counting: Counting, new_tickets: Any, crowd: Crowd, clock: Any
) -> None:
    """Those who come meanwhile do not wait, and none of theirs is forgotten."""
    tickets = new_tickets(20)
    assert await issue_many(tickets, crowd, 5) == 5
    clock.now += 5000
    counting.let.clear()
    first = asyncio.create_task(issue_many(tickets, crowd, 1))
    while counting.counts == 1:
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await issue_many(tickets, crowd, 10) == 10
    counting.let.set()
    assert await first == 1
    assert await issue_many(tickets, crowd, 10) == 4
    assert len(await tickets.waiting(crowd.operator)) == 20


async def test_a_clock_set_back_makes_no_count_last(
    counting: Counting, new_tickets: Any, crowd: Crowd, clock: Any
) -> None:
    """What was revoked since is room again, whatever the time was when it was counted."""
    tickets = new_tickets(1)
    assert await issue_many(tickets, crowd, 2) == 1
    (record,) = await tickets.waiting(crowd.operator)
    await tickets.revoke(crowd.operator, record)
    clock.now -= 3_600_000
    assert await issue_many(tickets, crowd, 1) == 1
