"""Tickets in SQL: two gateways on one database, and what claiming costs it."""

from __future__ import annotations

import asyncio

import pytest
from people import SHELL, make_crowd
from ticket_ground import Ground

from gateway.core.model import (
    Device,
    DeviceProfile,
    EventKind,
    MqttBasic,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
    Ticket,
)
from gateway.core.registry import ProfileDraft, Registry
from gateway.core.tokens import new_url_token
from gateway.store.queries import QUERIES
from gateway.store.sql_registrar import SqlRegistrar

every_database = pytest.mark.every_database


@pytest.fixture(params=[True, False], ids=["open", "restricted"])
async def grounds(stores, clock, request):
    """Two processes on one database."""
    crowd = await make_crowd(stores[0], clock)
    opened = []
    for store in stores:
        registrar = SqlRegistrar(store)
        registry = Registry(store, registrar, clock=clock, new_token=new_url_token, peer=SHELL)
        await registry.save_profile(ProfileDraft(profile=DeviceProfile(id=0, name="meter")))
        opened.append(Ground(store, registry, clock, crowd.operator, open_to_all=request.param))
    yield opened
    crowd.close()


@every_database
async def test_two_gateways_claim_one_ticket(grounds):
    """One gives birth, whichever it is; all are told the same device, and it is told of once."""
    here, there = grounds
    for _ in range(5):
        issued = await here.issue()
        tries = (one.claim(issued.token) for _ in range(20) for one in (here, there))
        results = await asyncio.gather(*tries)
        assert {one.device.id for one in results} == {issued.ticket.device_id}
        assert [one.again for one in results].count(False) == 1
        story = await here.story(issued.ticket.device_id)
        assert [kind for kind, _ in story] == [EventKind.TICKET_ISSUE, EventKind.DEVICE_PROVISION]


@every_database
async def test_two_gateways_take_up_one_new_token(grounds):
    """It counts once, and the older one opens nothing at either."""
    here, there = grounds
    old, record = await here.born()
    for _ in range(3):
        issued = await there.tickets.reprovision(there.actor, record)
        tries = (one.claim(issued.token) for _ in range(10) for one in (here, there))
        results = await asyncio.gather(*tries)
        assert {one.device.id for one in results} == {record.device.id}
        assert [one.again for one in results].count(False) == 1
        assert await here.store.find_credentials(old) is None
        old = issued.token


@every_database
async def test_one_that_is_suspended_takes_up_no_new_token(grounds):
    """A fleet secret in quarantine bore it; with the release the token that waits counts."""
    here, _ = grounds
    _, record = await here.born()
    issued = await here.tickets.reprovision(here.actor, record)
    kind = ProvisionType.ALLOW_CREATE_NEW_DEVICES
    profile = DeviceProfile(id=0, name="leaked", provision_type=kind)
    await here.registry.save_profile(ProfileDraft(profile=profile))
    ticket = await here.registry.ticket(await here.registry.profile("leaked"))

    async def order(name, *values):
        await here.store.driver.transact(lambda tx: tx.fetch(name, *values))

    await order("mark_reprovisioned", record.device.id, ticket.id, 1)
    await order("quarantine_fleet_ticket", ticket.id, 1)
    assert await here.claim(issued.token) == Refused(RefusalReason.SECRET_QUARANTINED)
    await order("release_fleet_ticket", ticket.id)
    assert (await here.claim(issued.token)).device.id == record.device.id


@every_database
async def test_two_gateways_reserve_different_numbers(grounds):
    """However many ask both at once."""
    tries = (one.issue() for _ in range(50) for one in grounds)
    numbers = [one.ticket.device_id for one in await asyncio.gather(*tries)]
    assert len(set(numbers)) == 100


@every_database
async def test_a_ticket_is_claimed_or_revoked(grounds):
    """Whichever comes first; never both."""
    here, there = grounds
    for _ in range(10):
        issued = await here.issue()
        waiting = await there.tickets.find(there.actor, issued.ticket.id)
        results = await asyncio.gather(
            here.claim(issued.token),
            there.tickets.revoke(there.actor, waiting),
            return_exceptions=True,
        )
        born = await there.store.known_device(issued.ticket.device_id) is not None
        assert born == (results[1] is not None)
        last, _ = (await here.story(issued.ticket.device_id))[1]
        assert last is (EventKind.DEVICE_PROVISION if born else EventKind.TICKET_REVOKE)


@every_database
async def test_whose_a_token_is(grounds):
    """A ticket's until it is claimed, a device's from then on; nobody's when there is none."""
    here, there = grounds
    issued = await here.issue()
    assert await there.store.find_token(issued.token) == issued.ticket
    device = (await here.claim(issued.token)).device
    for store in (here.store, there.store):
        known = await store.find_credentials(issued.token)
        assert await store.find_token(issued.token) == known.device
        assert known.device.id == device.id
        assert await store.find_token(Secret("x" * 32)) is None


@every_database
async def test_a_token_that_is_being_claimed_is_somebodys(grounds):
    """However the look and the claim fall together."""
    here, there = grounds
    for _ in range(10):
        issued, found = await here.issue(), []

        async def look(token=issued.token, found=found):
            while not found or isinstance(found[-1], Ticket):
                found.append(await there.store.find_token(token))
                await asyncio.sleep(0)

        await asyncio.gather(look(), here.claim(issued.token))
        assert isinstance(found[-1], Device)


@every_database
async def test_only_a_token_is_a_token(grounds, newcomer):
    """What other credentials are looked up by opens nothing: it is no secret."""
    here, _ = grounds
    profile = await here.registry.profile("meter")
    basic = MqttBasic("", "meter-1", Secret("secret"))
    await here.store.create_device(newcomer(profile, credentials=basic))
    assert await here.store.find_credentials(Secret("meter-1")) is not None
    assert await here.store.find_token(Secret("meter-1")) is None


@pytest.mark.parametrize(
    ("name", "values", "index"),
    [
        ("take_tickets", (bytes(64), 5, 1), "sqlite_autoindex_ticket_1 (digest=?)"),
        ("find_ticket", (bytes(32),), "sqlite_autoindex_ticket_1 (digest=?)"),
        ("find_token", (bytes(32),), "sqlite_autoindex_ticket_1 (digest=?)"),
        ("take_rotation", (1, 5, 1), "INTEGER PRIMARY KEY (rowid=?)"),
        ("expire_tickets", (5, 10), "ticket_ends (expires_at<?)"),
        ("count_tickets", (1,), "ticket_of_organisation (organisation_id=?)"),
        ("revoke_tickets_of_organisation", (1,), "ticket_of_organisation (organisation_id=?)"),
        ("revoke_rotations", (1,), "ticket_of_device (device_id=?)"),
    ],
)
def test_a_statement_goes_by_its_index(schema, name, values, index):
    """A million tickets that wait must not be looked through for one."""
    plan = [row[3] for row in schema.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", values)]
    assert any(index in step for step in plan), plan
    assert not any(step.startswith("SCAN ticket") for step in plan), plan
