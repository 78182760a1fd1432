"""Pairs of static tokens: made, claimed, given back, revoked, and by whom; on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from inventory_ground import caused
from msgspec import structs
from pair_ground import FENCED, METER, PairGround
from people import make_crowd

from gateway.core.errors import Cause, Forbidden, Invalid
from gateway.core.model import (
    DeviceProfile,
    EventKind,
    Outcome,
    Permission,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.static_token_store import PairQuery, StaticState, StaticToken

pytestmark = pytest.mark.every_database


@pytest.fixture
async def ground(store, registry, clock) -> AsyncIterator[PairGround]:
    crowd = await make_crowd(store, clock)
    yield await PairGround(store, registry, clock, crowd).begin()
    crowd.close()


# ── making ────────────────────────────────────────────────────────────────────────────────────


async def test_a_pair_is_made(ground, events):
    """A claim token `sqr_` with 32 characters, a device token of 32, a reserved number, and no
    device yet."""
    issued = await ground.issue()
    assert issued.claim.reveal() == "sqr_" + "1".zfill(32)
    assert issued.token.reveal() == "2".zfill(32)
    assert issued.pair.state is StaticState.UNCLAIMED
    assert await ground.store.driver.rows("count_devices") == [(0,)]
    (told,) = await events(EventKind.STATIC_TOKEN_CREATE)
    assert told.device_id == issued.pair.device_id
    assert told.detail == {"organisation": "root", "profile": METER, "static_token": "1"}
    assert told.peer.actor == "tester"


async def test_many_pairs_are_made_at_once(ground):
    """Each has its own number and its own tokens; more than a transaction takes are refused."""
    made = await ground.pairs.issue(ground.crowd.operator, ground.meter, ground.crowd.root, 1000)
    assert len({one.pair.device_id for one in made}) == 1000
    assert len({one.claim for one in made} | {one.token for one in made}) == 2000
    for count in (0, 1001):
        with pytest.raises(Invalid):
            await ground.pairs.issue(ground.crowd.operator, ground.meter, ground.crowd.root, count)


async def test_pairs_are_made_by_who_may(ground):
    """MANAGE_STATIC_TOKENS, at or below one's own organisation, for a template of it."""
    crowd = ground.crowd
    admin = await crowd.actor("admin@acme")
    await ground.pairs.issue(admin, ground.meter, crowd.north)
    with pytest.raises(Forbidden):
        await ground.pairs.issue(
            await crowd.actor("admin@acme", Permission.MANAGE_STATIC_TOKENS),
            ground.meter,
            crowd.acme,
        )
    for place in (crowd.root, crowd.globex):
        with caused(Cause.GONE):
            await ground.pairs.issue(admin, ground.meter, place)
    with pytest.raises(Invalid):
        await ground.pairs.issue(admin, ground.fenced, crowd.acme)
    plain = DeviceProfile(id=ground.meter.id, name="no template")
    with pytest.raises(Invalid):
        await ground.pairs.issue(admin, plain, crowd.acme)


# ── the device ────────────────────────────────────────────────────────────────────────────────


async def test_the_device_comes_before_anybody_claims_it(ground):
    """It is born with the token it was made with, in the organisation that made the pair."""
    issued = await ground.issue(ground.crowd.acme)
    device = await ground.born(issued)
    assert device.id == issued.pair.device_id
    assert await ground.place(device) == (ground.crowd.acme.id, None)
    found = await ground.store.find_credentials(issued.token)
    assert found.device.id == device.id


async def test_the_device_names_its_own_template(ground):
    """Another one is refused, and uses nothing up."""
    issued = await ground.issue()
    ground.templates.allowed = ("/1/",)
    refused = await ground.come(issued.token, FENCED)
    assert refused == Refused(RefusalReason.OTHER_TEMPLATE)
    await ground.born(issued)


async def test_a_claim_token_lets_no_device_in(ground):
    """What is printed on a label is no credential."""
    issued = await ground.issue()
    assert await ground.come(issued.claim) == Refused(RefusalReason.UNKNOWN_TOKEN)


async def test_its_ticket_stands_and_is_nobody_elses_business(ground, clock):
    """Ten years later the device may come."""
    issued = await ground.issue()
    clock.now += 10 * 365 * 86_400_000
    await ground.born(issued)


# ── claiming ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("early", [True, False])
async def test_a_claim_gives_the_device(ground, events, early):
    """Before its birth as after it, the device is the holder's, and its owner's."""
    crowd = ground.crowd
    issued, owner = await ground.issue(), crowd.users["user@acme"]
    if early:
        claimed = await ground.claim(issued, crowd.acme, owner)
        device = await ground.born(issued)
    else:
        device = await ground.born(issued)
        claimed = await ground.claim(issued, crowd.acme, owner)
    assert claimed.state is StaticState.CLAIMED
    assert claimed.device_id == device.id
    assert await ground.place(device) == (crowd.acme.id, owner.id)
    (told,) = await events(EventKind.STATIC_TOKEN_CLAIM)
    assert (told.device_id, told.outcome) == (device.id, Outcome.SUCCESS)
    assert told.subject == ("" if early else device.name)
    assert told.detail == {
        "organisation": "Acme",
        "owner": "user@acme.test",
        "static_token": str(claimed.id),
    }


async def test_claim_and_birth_at_once(ground):
    """Whichever is first: the device is there once, and the holder's."""
    crowd = ground.crowd
    for _ in range(10):
        issued = await ground.issue()
        owner = crowd.users["user@acme"]
        device, claimed = await asyncio.gather(
            ground.born(issued), ground.claim(issued, crowd.acme, owner)
        )
        assert isinstance(claimed, StaticToken)
        assert await ground.place(device) == (crowd.acme.id, owner.id)


async def test_of_many_claims_one_wins(ground, events):
    """The others hear that somebody has it."""
    crowd = ground.crowd
    issued = await ground.issue()
    places = [crowd.acme, crowd.north, crowd.globex] * 5
    results = await asyncio.gather(*(ground.claim(issued, place) for place in places))
    won = [
        place for place, one in zip(places, results, strict=True) if isinstance(one, StaticToken)
    ]
    assert len(won) == 5
    assert len({place.id for place in won}) == 1
    refused = [one for one in results if isinstance(one, Refused)]
    assert set(refused) == {Refused(RefusalReason.CUSTOMER_HAS_IT)}
    told = await events(EventKind.STATIC_TOKEN_CLAIM)
    assert [one.outcome for one in told].count(Outcome.SUCCESS) == 1


async def test_a_claim_may_be_repeated(ground):
    """The same gives the same; for another person, or nobody, it is somebody's already."""
    crowd = ground.crowd
    issued, owner = await ground.issue(), crowd.users["user@acme"]
    first = await ground.claim(issued, crowd.acme, owner)
    assert await ground.claim(issued, crowd.acme, owner) == first
    for place, person in (
        (crowd.acme, None),
        (crowd.acme, crowd.users["admin@acme"]),
        (crowd.north, owner),
    ):
        refused = await ground.claim(issued, place, person)
        assert refused == Refused(RefusalReason.CUSTOMER_HAS_IT)


async def test_an_unknown_token_is_refused(ground, events):
    """A token that is nobody's, and the device's own, claim nothing; the refusal is told."""
    issued = await ground.issue()
    for token in (Secret("sqr_nobody"), Secret(""), issued.token):
        result = await ground.pairs.claim(ground.crowd.operator, token, ground.crowd.acme, None)
        assert result == Refused(RefusalReason.UNKNOWN_TOKEN)
    await ground.store.writer.settled()
    told = await events(EventKind.STATIC_TOKEN_CLAIM)
    assert {(one.outcome, one.reason) for one in told} == {(Outcome.REFUSED, "unknown_token")}
    assert "sqr_" not in repr(told)


async def test_the_template_must_be_one_of_the_holder(ground):
    """Where its device could not be born, nobody claims it."""
    crowd = ground.crowd
    ground.templates.allowed = (crowd.acme.path,)
    issued = await ground.issue(crowd.acme, ground.fenced)
    refused = await ground.claim(issued, crowd.globex)
    assert refused == Refused(RefusalReason.UNKNOWN_TEMPLATE)
    assert isinstance(await ground.claim(issued, crowd.north), StaticToken)
    assert (await ground.born(issued, FENCED)).customer_id == crowd.north.id


async def test_a_device_that_was_given_away_is_not_claimed(ground):
    """Somebody in authority gave it to a customer; a label does not take it from there."""
    crowd = ground.crowd
    issued = await ground.issue()
    device = await ground.born(issued)
    await ground.inventory.assign(crowd.operator, await ground.record(device), crowd.globex)
    refused = await ground.claim(issued, crowd.acme)
    assert refused == Refused(RefusalReason.CUSTOMER_HAS_IT)
    assert await ground.place(device) == (crowd.globex.id, None)


async def test_who_may_claim(ground):
    """ORG_DEVICES_CREATE, a permission to view devices, ORG_VIEW_USERS for somebody else."""
    crowd = ground.crowd
    create, view = Permission.ORG_DEVICES_CREATE, Permission.ORG_DEVICES_VIEW
    own, users = Permission.OWN_DEVICES_VIEW, Permission.ORG_VIEW_USERS
    user = crowd.users["user@acme"]
    admin = await crowd.actor("user@acme")

    async def attempt(*permissions, owner):
        issued = await ground.issue()
        actor = structs.replace(admin, permissions=frozenset(permissions))
        return await ground.claim(issued, crowd.acme, owner, actor)

    for allowed, owner in (
        ((create, view), None),
        ((create, own), user),
        ((create, own, users), crowd.users["admin@acme"]),
    ):
        assert isinstance(await attempt(*allowed, owner=owner), StaticToken)
    for lacking, owner in (
        ((view, users), None),
        ((create, users), None),
        ((create, view), crowd.users["admin@acme"]),
    ):
        with pytest.raises(Forbidden):
            await attempt(*lacking, owner=owner)


async def test_what_is_out_of_sight_is_not_there(ground):
    """An organisation beside or above, and users of them."""
    crowd = ground.crowd
    admin, issued = await crowd.actor("admin@acme"), await ground.issue()
    for place in (crowd.root, crowd.globex):
        assert await ground.pairs.organisation(admin, place.id) is None
        with caused(Cause.GONE):
            await ground.claim(issued, place, actor=admin)
    for name in ("user@globex", "admin@root", "user@north"):
        person = crowd.users[name]
        assert await ground.pairs.owner(admin, crowd.acme, person.id) is None
        with caused(Cause.GONE):
            await ground.claim(issued, crowd.acme, person, admin)
    assert await ground.pairs.owner(admin, crowd.acme, 999) is None
    assert await ground.pairs.organisation(admin, 999) is None
    # Of an organisation above, up to one's own, a person may be the owner.
    above = crowd.users["user@acme"]
    assert await ground.pairs.owner(admin, crowd.north, above.id) is not None


# ── giving back ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("there", [True, False])
async def test_a_device_is_given_back(ground, events, there):
    """It is the maker's again, nobody's own, with its number; and the label claims it anew."""
    crowd = ground.crowd
    issued = await ground.issue()
    if there:
        await ground.born(issued)
    await ground.claim(issued, crowd.acme, crowd.users["user@acme"])
    await ground.unclaim(issued)
    device = await ground.born(issued)
    assert device.id == issued.pair.device_id
    assert await ground.place(device) == (None, None)
    assert isinstance(await ground.claim(issued, crowd.globex), StaticToken)
    assert await ground.place(device) == (crowd.globex.id, None)
    (told,) = await events(EventKind.STATIC_TOKEN_UNCLAIM)
    assert (told.device_id, told.detail["organisation"]) == (device.id, "Acme")


async def test_it_goes_back_to_who_made_it(ground):
    """Also where that is a customer."""
    crowd = ground.crowd
    issued = await ground.issue(crowd.acme)
    device = await ground.born(issued)
    await ground.claim(issued, crowd.north)
    await ground.unclaim(issued)
    assert await ground.place(device) == (crowd.acme.id, None)


async def test_what_was_moved_elsewhere_stays_there(ground):
    """The label is free again, but its device is another customer's by now."""
    crowd = ground.crowd
    issued = await ground.issue()
    device = await ground.born(issued)
    await ground.claim(issued, crowd.acme)
    await ground.inventory.assign(crowd.operator, await ground.record(device), crowd.globex)
    await ground.unclaim(issued)
    assert await ground.place(device) == (crowd.globex.id, None)


async def test_who_may_give_back(ground):
    """Who may remove devices, or manage static tokens, where the holder is; and the owner."""
    crowd = ground.crowd
    issued, owner = await ground.issue(), crowd.users["user@acme"]
    claimed = await ground.claim(issued, crowd.acme, owner)
    someone = await crowd.actor("user@acme")

    async def held(actor, *permissions):
        actor = structs.replace(actor, permissions=frozenset(permissions))
        by_claim = await ground.pairs.held(actor, claim=issued.claim)
        assert by_claim == await ground.pairs.held(actor, device_id=claimed.device_id)
        return by_claim is not None

    assert await held(someone, Permission.ORG_DEVICES_DELETE)
    assert await held(someone, Permission.MANAGE_STATIC_TOKENS)
    assert await held(someone, Permission.OWN_DEVICES_DELETE)
    assert not await held(someone, Permission.ORG_DEVICES_CREATE)
    other = await crowd.actor("admin@acme")
    assert not await held(other, Permission.OWN_DEVICES_DELETE)
    for name in ("user@north", "user@globex"):
        stranger = await crowd.actor(name)
        assert not await held(stranger, Permission.ORG_DEVICES_DELETE)
        record = await ground.pairs.held(crowd.operator, claim=issued.claim)
        with caused(Cause.GONE):
            await ground.pairs.unclaim(stranger, record)


async def test_giving_back_twice(ground):
    """The second who saw it claimed hears that it is not; what is not claimed is not held."""
    crowd = ground.crowd
    issued = await ground.issue()
    assert await ground.pairs.held(crowd.operator, claim=issued.claim) is None
    await ground.claim(issued, crowd.acme)
    record = await ground.pairs.held(crowd.operator, claim=issued.claim)
    await ground.pairs.unclaim(crowd.operator, record)
    with caused(Cause.GONE):
        await ground.pairs.unclaim(crowd.operator, record)
    ground.clock.now += 1
    await ground.claim(issued, crowd.acme)
    with caused(Cause.GONE):  # another claim than the one that was seen
        await ground.pairs.unclaim(crowd.operator, record)


# ── the end ───────────────────────────────────────────────────────────────────────────────────


async def test_a_revoked_pair_opens_nothing(ground, events):
    """Neither token is good for anything any more."""
    crowd = ground.crowd
    issued = await ground.issue()
    record = await ground.pairs.pair(crowd.operator, issued.pair.id)
    await ground.pairs.revoke(crowd.operator, record)
    assert await ground.come(issued.token) == Refused(RefusalReason.UNKNOWN_TOKEN)
    assert await ground.claim(issued, crowd.acme) == Refused(RefusalReason.UNKNOWN_TOKEN)
    with caused(Cause.GONE):
        await ground.pairs.revoke(crowd.operator, record)
    (told,) = await events(EventKind.STATIC_TOKEN_REVOKE)
    assert told.detail == {"static_token": str(record.pair.id), "device": "never born"}


async def test_revoking_leaves_the_device(ground):
    """It stays whose it is, with its token; only its label is worth nothing."""
    crowd = ground.crowd
    issued = await ground.issue()
    device = await ground.born(issued)
    await ground.claim(issued, crowd.acme)
    record = await ground.pairs.pair(crowd.operator, issued.pair.id)
    await ground.pairs.revoke(crowd.operator, record)
    assert await ground.place(device) == (crowd.acme.id, None)
    assert (await ground.born(issued)).id == device.id
    await ground.remove(device)
    assert await ground.come(issued.token) == Refused(RefusalReason.UNKNOWN_TOKEN)


async def test_pairs_are_revoked_by_who_may(ground):
    """MANAGE_STATIC_TOKENS where the pair was made; its holder's is not enough."""
    crowd = ground.crowd
    issued = await ground.issue()
    await ground.claim(issued, crowd.acme)
    record = await ground.pairs.pair(crowd.operator, issued.pair.id)
    with caused(Cause.GONE):
        await ground.pairs.revoke(await crowd.actor("admin@acme"), record)
    root = await crowd.actor("admin@root", Permission.MANAGE_STATIC_TOKENS)
    with pytest.raises(Forbidden):
        await ground.pairs.revoke(root, record)


# ── looking ───────────────────────────────────────────────────────────────────────────────────


async def test_pages_of_pairs(ground):
    """Of one organisation, template and state, in the order they were made."""
    crowd, operator = ground.crowd, ground.crowd.operator
    ground.templates.allowed = ("/1/",)
    made = [await ground.issue() for _ in range(5)]
    other = await ground.issue(profile=ground.fenced)
    await ground.issue(crowd.acme)
    await ground.claim(made[1], crowd.acme, crowd.users["user@acme"])

    async def page(**query):
        found = await ground.pairs.page(operator, crowd.root, **query)
        return [record.pair.id for record, _ in found.pairs], found.total

    numbers = [one.pair.id for one in made]
    assert await page() == ([*numbers, other.pair.id], 6)
    assert await page(template=METER) == (numbers, 5)
    assert await page(template=METER, page=1, size=2) == (numbers[2:4], 5)
    assert await page(template="TMPLnobody") == ([], 0)
    assert await page(page=7) == ([], 6)
    assert await page(state=StaticState.CLAIMED) == ([numbers[1]], 1)
    free = await page(state=StaticState.UNCLAIMED, template=METER)
    assert free == ([numbers[0], *numbers[2:]], 4)
    found = await ground.pairs.page(operator, crowd.root, state=StaticState.CLAIMED)
    [(record, name)] = found.pairs
    assert (record.claim, name, record.holder_name) == (made[1].claim, METER, "Acme")
    assert (record.owner_email, record.organisation_name) == ("user@acme.test", "root")


async def test_pairs_are_listed_by_who_may(ground):
    """MANAGE_STATIC_TOKENS for pages, SET_AUTH_TOKEN also for labels; only one's own and below."""
    crowd = ground.crowd
    issued = await ground.issue(crowd.north)
    admin = await crowd.actor("admin@acme")
    assert (await ground.pairs.page(admin, crowd.north)).total == 1
    below = PairQuery(path=crowd.acme.path, below=True)
    assert [one.pair for one in await ground.pairs.pairs(admin, below)] == [issued.pair]
    assert await ground.pairs.pair(admin, issued.pair.id) is not None
    assert await ground.pairs.pair(await crowd.actor("user@globex"), issued.pair.id) is None
    with caused(Cause.GONE):
        await ground.pairs.page(admin, crowd.globex)
    with caused(Cause.GONE):
        await ground.pairs.pairs(admin, PairQuery(path=crowd.root.path))
    printer = structs.replace(admin, permissions=frozenset({Permission.SET_AUTH_TOKEN}))
    assert len(await ground.pairs.pairs(printer, below)) == 1
    with pytest.raises(Forbidden):
        await ground.pairs.page(printer, crowd.north)
    nobody = await crowd.actor("nobody@acme")
    with pytest.raises(Forbidden):
        await ground.pairs.pairs(nobody, below)
    with pytest.raises(Invalid):
        await ground.pairs.page(admin, crowd.north, size=1001)
