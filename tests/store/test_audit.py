"""Pages of events, on each database: filters, sight, order, and totals."""

from __future__ import annotations

import pytest
from msgspec import structs

from gateway.core.audit import Audit, AuditQuery, word_of
from gateway.core.errors import Forbidden
from gateway.core.inventory import Inventory
from gateway.core.model import (
    Actor,
    DeviceDraft,
    EventKind,
    Organisation,
    Outcome,
    Peer,
    Permission,
    Wire,
)
from gateway.core.people import People
from gateway.core.tokens import new_token
from gateway.store.audit import SqlAudit
from gateway.store.sql_inventory import SqlInventory
from gateway.store.sql_people import SqlPeople

pytestmark = pytest.mark.every_database
PEER = Peer(Wire.HTTP, "192.0.2.1:1", actor="ann@example.com")


@pytest.fixture
def audit(store):
    return Audit(SqlAudit(store))


@pytest.fixture
async def people(store, clock):
    from people import cheap_passwords

    hasher = cheap_passwords()
    yield People(SqlPeople(store), clock=clock, new_token=new_token, hasher=hasher)
    hasher.close()


@pytest.fixture
async def operator(people):
    return await people.operator(Peer(Wire.SHELL, "tester"))


@pytest.fixture
def read(audit, operator):
    """Numbers of the events that a query finds."""

    async def page(reader: Actor | None = None, /, **query: object) -> list[int]:
        found = await audit.page(reader or operator, AuditQuery(**query))
        assert found.total == len(found.data)
        return [one.event.seq for one in found.data]

    return page


@pytest.fixture
async def told(store, event):
    """Six events of several kinds, from number 1."""
    login, assign = EventKind.DEVICE_LOGIN, EventKind.DEVICE_ASSIGN
    for one in (
        event(login, subject="Meter-1", outcome=Outcome.REFUSED, reason="blocked"),
        event(login, subject="Meter-2"),
        event(assign, subject="d", detail={"customer": "Acme"}),
        event(assign, subject="d", detail={"customer": ""}),
        structs.replace(event(EventKind.ROLE_CREATE, object="o-1"), peer=PEER),
        event(EventKind.ROLE_REMOVE, subject="50%_", object="o-1"),
    ):
        await store.record(one)
        await store.writer.settled()


async def test_each_filter_finds_its_own(told, read):
    """By kind and outcome, by text as it stands, by who did it and what it is about."""
    assert await read() == [6, 5, 4, 3, 2, 1]
    assert await read(descending=False) == [1, 2, 3, 4, 5, 6]
    assert await read(after_seq=4) == [6, 5]
    assert await read(words=(word_of(EventKind.DEVICE_LOGIN, Outcome.REFUSED),)) == [1]
    assert await read(words=(word_of(EventKind.DEVICE_ASSIGN, Outcome.SUCCESS),)) == [4]
    to = word_of(EventKind.DEVICE_ASSIGN, Outcome.SUCCESS, customer=True)
    assert await read(words=(to,)) == [3]
    assert await read(text="mEtEr") == [2, 1]
    assert await read(text="%_") == [6]
    assert await read(text="\\") == []
    assert await read(text="block") == [1]
    assert await read(actor="ann@example.com") == [5]
    assert await read(object="o-1") == [6, 5]
    assert await read(object="o-1", descending=False) == [5, 6]
    assert await read(object="o-1", text="50") == [6]


async def test_times_are_from_and_before(told, read, clock):
    """The beginning is included, the end is not."""
    assert len(await read(since=clock.now)) == 6
    assert await read(since=clock.now + 1) == []
    assert await read(until=clock.now) == []


async def test_pages_are_told_their_total(told, audit, operator):
    """So that every client comes to the end, and no further."""
    pages = [await audit.page(operator, AuditQuery(page=n, page_size=4)) for n in range(3)]
    assert [[one.event.seq for one in page.data] for page in pages] == [[6, 5, 4, 3], [2, 1], []]
    assert [(page.total, page.has_next) for page in pages] == [(6, True), (6, False), (6, False)]


async def test_who_lacks_the_permission_reads_nothing(audit, operator):
    """AUDIT_VIEW is needed, whatever else is allowed."""
    blind = structs.replace(operator, permissions=frozenset(Permission) - {Permission.AUDIT_VIEW})
    with pytest.raises(Forbidden):
        await audit.page(blind, AuditQuery())
    with pytest.raises(Forbidden):
        await audit.named(blind, "d")


async def test_below_the_root_one_sees_devices_in_sight(store, people, operator, clock, read):
    """Events of its devices, wherever they came from; a device that goes takes them along."""
    inventory = Inventory(store, SqlInventory(store), clock=clock, new_token=new_token)
    acme = await people.save_organisation(operator, name="Acme")
    globex = await people.save_organisation(operator, name="Globex")
    device = await inventory.create(operator, DeviceDraft(name="d"))
    uuid = device.device.uuid

    def of(place: Organisation) -> Actor:
        return structs.replace(operator, organisation=place)

    assert await read(of(acme)) == []
    device = await inventory.assign(operator, device, acme)
    seen = await read(of(acme))
    assert seen == await read(device=uuid)
    assert len(seen) == 2
    assert await read(of(globex)) == await read(of(globex), device=uuid) == []
    assert await read(customer=acme.uuid) == await read(of(acme), customer=acme.uuid) == seen
    assert await read(of(globex), customer=acme.uuid) == []
    await inventory.assign(operator, device, None)
    assert await read(of(acme)) == []


async def test_a_name_is_told_of_whether_or_not_it_is_a_device(told, audit, operator):
    """Oldest first, for those who see all; nobody else learns which names were tried."""
    assert [one.seq for one in await audit.named(operator, "d")] == [3, 4]
    assert [one.seq for one in await audit.named(operator, "d", limit=1)] == [4]
    assert "Meter-1" in await audit.subjects(operator)
    place = Organisation(id=9, uuid="", name="x", path="/1/9/", parent_id=1)
    customer = structs.replace(operator, organisation=place)
    assert await audit.subjects(customer) == []
    with pytest.raises(Forbidden):
        await audit.named(customer, "d")
