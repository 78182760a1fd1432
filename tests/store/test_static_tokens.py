"""Pairs of static tokens in SQL: what other changes do to them, races, and what looking costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pair_ground import METER, PairGround
from people import SHELL, make_crowd

from gateway.core.errors import Cause, Conflict
from gateway.core.model import (
    AccessToken,
    DeviceDraft,
    EventKind,
    Outcome,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.registry import Registry
from gateway.core.static_token_store import NewPair, NewPairs, StaticClaim, StaticToken
from gateway.store.queries import QUERIES
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_static_tokens import SqlStaticTokens

every_database = pytest.mark.every_database


@pytest.fixture
async def ground(store, registry, clock) -> AsyncIterator[PairGround]:
    crowd = await make_crowd(store, clock)
    yield await PairGround(store, registry, clock, crowd).begin()
    crowd.close()


@pytest.fixture
async def grounds(stores, clock) -> AsyncIterator[list[PairGround]]:
    """Two processes on one database."""
    crowd = await make_crowd(stores[0], clock)
    opened = []
    for store in stores:
        registry = Registry(
            store, SqlRegistrar(store), clock=clock, new_token=lambda: "t" * 20, peer=SHELL
        )
        opened.append(await PairGround(store, registry, clock, crowd).begin())
    yield opened
    crowd.close()


async def tickets(ground):
    rows = await ground.store.driver.read(
        "SELECT device_id, organisation_id, owner_id, profile_id, expires_at FROM ticket "
        "WHERE kind = 'single' ORDER BY device_id"
    )
    return [tuple(row) for row in rows]


# ── a device goes ─────────────────────────────────────────────────────────────────────────────


@every_database
async def test_removing_the_device_frees_its_pair(ground, told):
    """The hardware comes back with its token as another device, in the maker's organisation."""
    crowd = ground.crowd
    issued = await ground.issue()
    device = await ground.born(issued)
    await ground.claim(issued, crowd.acme, crowd.users["user@acme"])
    await ground.remove(device)
    again = await ground.pairs.pair(crowd.operator, issued.pair.id)
    assert again.pair.device_id > device.id
    assert (again.pair.holder_id, again.pair.owner_id, again.pair.claimed_at) == (None,) * 3
    assert await tickets(ground) == [
        (again.pair.device_id, crowd.root.id, None, ground.meter.id, None)
    ]
    reborn = await ground.born(issued)
    assert (reborn.id, reborn.uuid != device.uuid) == (again.pair.device_id, True)
    assert await ground.place(reborn) == (None, None)
    unclaimed = (Outcome.SUCCESS, "", again.pair.device_id)
    assert await told(EventKind.STATIC_TOKEN_UNCLAIM) == [unclaimed]
    assert isinstance(await ground.claim(issued, crowd.globex), StaticToken)


@every_database
async def test_numbers_are_never_used_again(ground):
    """However often the hardware comes back."""
    issued = await ground.issue()
    numbers = []
    for _ in range(3):
        device = await ground.born(issued)
        numbers.append(device.id)
        await ground.remove(device)
    assert numbers == sorted(set(numbers))


@every_database
async def test_removing_other_devices_frees_nothing(ground):
    """One that was not made with a pair leaves all pairs as they are."""
    kept = await ground.issue()
    other = await ground.born(await ground.issue())
    record = await ground.pairs.pair(ground.crowd.operator, kept.pair.id)
    await ground.remove(other)
    assert await ground.pairs.pair(ground.crowd.operator, kept.pair.id) == record


@every_database
async def test_a_device_with_a_new_token_is_still_of_its_pair(ground, store):
    """The token it was made with opens nothing while it is there, and is good once it is gone."""
    crowd = ground.crowd
    issued = await ground.issue()
    device = await ground.born(issued)
    assert await ground.registry.replace_credentials(
        await store.find_credentials(issued.token), AccessToken(Secret("another-token-of-it"))
    )
    assert await ground.come(issued.token) == Refused(RefusalReason.UNKNOWN_TOKEN)
    assert isinstance(await ground.claim(issued, crowd.acme), StaticToken)
    assert await ground.place(device) == (crowd.acme.id, None)
    await ground.remove(device)
    assert (await ground.born(issued)).id > device.id


# ── organisations, people and profiles go ─────────────────────────────────────────────────────


@every_database
@pytest.mark.parametrize("there", [True, False])
async def test_an_organisation_goes_with_what_it_claimed(ground, told, there):
    """Its devices are the maker's again, born or not, and can be claimed by others."""
    crowd = ground.crowd
    issued, other = await ground.issue(crowd.acme), await ground.issue(crowd.acme)
    if there:
        await ground.born(issued)
    for one in (issued, other):
        await ground.claim(one, crowd.north)
    await crowd.people.remove_user(crowd.operator, crowd.users["user@north"])
    if there:
        with pytest.raises(Conflict) as refused:
            await crowd.people.remove_organisation(crowd.operator, crowd.north)
        assert refused.value.cause is Cause.IN_USE
        held = await ground.pairs.held(crowd.operator, claim=other.claim)
        assert held.pair.holder_id == crowd.north.id  # nothing of it happened
    await crowd.people.remove_organisation(crowd.operator, crowd.north, unassign=there)
    for one in (issued, other):
        device = await ground.born(one)
        assert device.id == one.pair.device_id
        assert await ground.place(device) == (crowd.acme.id, None)
    assert len(await told(EventKind.STATIC_TOKEN_UNCLAIM)) == 2


@every_database
async def test_an_organisation_goes_with_what_it_made(ground):
    """What nobody claimed is worth nothing; what others claimed may still come, and stays."""
    crowd = ground.crowd
    free, held = await ground.issue(crowd.globex), await ground.issue(crowd.globex)
    there = await ground.issue(crowd.globex)
    device = await ground.born(there)
    for one in (held, there):
        await ground.claim(one, crowd.acme)
    await crowd.people.remove_user(crowd.operator, crowd.users["user@globex"])
    await crowd.people.remove_organisation(crowd.operator, crowd.globex)
    assert await ground.come(free.token) == Refused(RefusalReason.UNKNOWN_TOKEN)
    assert (await ground.born(held)).customer_id == crowd.acme.id
    assert await ground.place(device) == (crowd.acme.id, None)
    refused = await ground.claim(free, crowd.acme)
    assert refused == Refused(RefusalReason.UNKNOWN_TOKEN)


@every_database
async def test_the_owner_goes(ground):
    """Then the device is nobody's own, born or not; its holder keeps it."""
    crowd = ground.crowd
    person = crowd.users["user@acme"]
    early, late = await ground.issue(), await ground.issue()
    device = await ground.born(early)
    for one in (early, late):
        await ground.claim(one, crowd.acme, person)
    await crowd.people.remove_user(crowd.operator, person)
    assert await ground.place(device) == (crowd.acme.id, None)
    assert await ground.place(await ground.born(late)) == (crowd.acme.id, None)
    record = await ground.pairs.pair(crowd.operator, late.pair.id)
    assert (record.pair.holder_id, record.pair.owner_id) == (crowd.acme.id, None)


@every_database
async def test_a_profile_goes_with_its_pairs(ground):
    """No device can be of it any more."""
    issued = await ground.issue()
    assert await ground.registry.remove_profile(ground.meter)
    assert await ground.pairs.pair(ground.crowd.operator, issued.pair.id) is None
    assert await tickets(ground) == []


# ── races ─────────────────────────────────────────────────────────────────────────────────────


@every_database
async def test_what_went_between_look_and_claim(ground, event):
    """The statement sees that the organisation or the person is no more: nothing is claimed."""
    crowd = ground.crowd
    issued = await ground.issue()
    kept = SqlStaticTokens(ground.store)
    told = event(EventKind.STATIC_TOKEN_CLAIM)
    for place, person in ((999, None), (crowd.acme.id, 999)):
        claim = StaticClaim(claim=issued.claim, organisation_id=place, owner_id=person, event=told)
        with pytest.raises(Conflict) as gone:
            await kept.claim_pair(claim)
        assert gone.value.cause is Cause.GONE
    assert isinstance(await ground.claim(issued, crowd.acme), StaticToken)


@every_database
async def test_pairs_for_what_is_gone(ground, event):
    """Neither for an organisation nor for a profile that was removed meanwhile."""
    for place, profile in ((999, ground.meter.id), (ground.crowd.root.id, 999)):
        new = NewPairs(
            pairs=(NewPair(Secret("a"), Secret("b")),),
            organisation_id=place,
            profile_id=profile,
            event=event(EventKind.STATIC_TOKEN_CREATE),
        )
        with pytest.raises(Conflict):
            await ground.kept.issue_pairs(new)


@every_database
async def test_two_gateways_claim_one_pair(grounds):
    """Of claims by two processes on one database one wins; its device is born by the other."""
    here, there = grounds
    crowd = here.crowd
    for _ in range(5):
        issued = await here.issue()
        results = await asyncio.gather(
            here.claim(issued, crowd.acme), there.claim(issued, crowd.globex)
        )
        [won] = [one for one in results if isinstance(one, StaticToken)]
        device = await there.born(issued)
        assert (await here.place(device))[0] == won.holder_id


@every_database
async def test_a_gateway_that_is_given_away_logs_in_anew(ground, store):
    """Its sessions would bear children for the customer it had."""
    issued = await ground.issue()
    device = await ground.born(issued)
    record = await ground.record(device)
    draft = DeviceDraft(name=device.name, gateway=True)
    await ground.inventory.update(ground.crowd.operator, record, draft)
    before = (await store.find_credentials(issued.token)).device.credentials_row
    await ground.claim(issued, ground.crowd.acme)
    assert (await store.find_credentials(issued.token)).device.credentials_row > before


# ── at rest ───────────────────────────────────────────────────────────────────────────────────


async def test_a_stolen_database_tells_no_token(grounds, tmp_path):
    """Neither token stands in its files in clear, nor in an event, nor in what is printed."""
    issued = await grounds[0].issue()
    await grounds[0].claim(issued, grounds[0].crowd.acme)
    files = b"".join(one.read_bytes() for one in tmp_path.glob("g.db*"))
    assert METER.encode() in files
    for secret in (issued.claim, issued.token):
        assert secret.reveal().encode() not in files
        assert secret.reveal() not in repr(issued)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("claim_static_token", (bytes(32), 1, 1, 5)),
        ("static_token_claimed_by", (bytes(32),)),
        ("static_token_for_device", (1,)),
        ("static_token_of_device", (1,)),
        ("static_tokens_held", (1, 0)),
        ("give_ticket_of_pair", (1, 1, 1)),
        ("revoke_ticket_of_pair", (1,)),
        ("revoke_static_tokens_of_organisation", (1,)),
    ],
)
def test_a_statement_goes_by_its_index(schema, name, values):
    """A million pairs must not be looked through for one."""
    plan = [row[3] for row in schema.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", values)]
    assert not any(step.startswith("SCAN") and "CONSTANT" not in step for step in plan), plan
