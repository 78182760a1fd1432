"""Pages of devices: every order, text, filter and scope, by each way to find them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory_ground import Ground
from msgspec import structs

from gateway.core.inventory_store import Sight
from gateway.core.model import (
    AccessToken,
    ClaimResult,
    DeviceDraft,
    DeviceOrder,
    DeviceQuery,
    Permission,
    Secret,
)
from gateway.store import search, sql_inventory
from gateway.store.listing import pattern_of
from gateway.store.search import SearchIndexer, can_occur, match_of
from gateway.store.sql_inventory import SqlInventory

pytestmark = pytest.mark.every_database

NAMES = ["meter", "Meter", "pump_1", "a%b", "valve\\x", 'say "hi"', "Ärger", "x'y", "zz"]
LABELS = ["", "", "Hall", "hall 2", "meter room"]
TEXTS = ["", "m", "ME", "meter", "pump_", "%", "_", "\\", '"hi"', "hall", "x'", "nothing", "er 1"]


@pytest.fixture
async def ground(store, clock, tokens):
    return await Ground(store, clock, tokens).begin()


@pytest.fixture
async def fleet(ground):
    """Sixty devices of all kinds, in an order that is none."""
    dice = random.Random(7)
    made = []
    for number in range(60):
        actor = ground.north if number % 10 == 0 else ground.root
        customers = [None, None, ground.north, ground.south, ground.mill]
        customer = None if actor is ground.north else dice.choice(customers)
        made.append(
            await ground.add(
                f"{dice.choice(NAMES)} {dice.randrange(100)} {number}",
                actor,
                label=dice.choice(LABELS),
                profile_name=dice.choice(["pump", "meter type", "a"]),
                customer_id=customer.organisation.id if customer else None,
                groups=("g",) if number % 3 == 0 else (),
            )
        )
    return [await ground.inventory.find(ground.root, one.device.uuid) for one in made]


def key_of(order):
    def key(record):
        device = record.device
        return {
            DeviceOrder.CREATED: (device.id,),
            DeviceOrder.NAME: (device.name.encode(), device.id),
            DeviceOrder.LABEL: (record.label.encode(), device.id),
            DeviceOrder.PROFILE: (record.profile_name.encode(), device.profile_id, device.id),
            DeviceOrder.CUSTOMER: (record.customer_name, device.customer_id or 0, device.id),
        }[order]

    return key


def matches(record, text):
    folded = text.lower()
    names = (record.device.name, record.label, record.profile_name)
    return any(folded in name.lower() for name in names)


def visible(records, actor, ground):
    paths = {
        one.organisation.id: one.organisation.path
        for one in (ground.root, ground.north, ground.south, ground.mill)
    }
    return [
        one
        for one in records
        if paths[one.device.customer_id or one.device.organisation_id].startswith(
            actor.organisation.path
        )
    ]


WAYS = {
    "few": {},
    "many": {"candidates": 0},
    "far": {"candidates": 0, "parts": 0},
    "indexed": {"index": True},
    "indexed, many": {"index": True, "candidates": 3},
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_page_is_what_a_person_would_pick(store, ground, fleet, monkeypatch, way):
    """Whichever way is taken: the same devices, in the same order, page by page to the end."""
    how = WAYS[way]
    if "candidates" in how:
        monkeypatch.setattr(search, "MOST_CANDIDATES", how["candidates"])
        monkeypatch.setattr(sql_inventory, "MOST_CANDIDATES", how["candidates"])
    if "parts" in how:
        monkeypatch.setattr(sql_inventory, "MOST_PARTS", how["parts"])
    if how.get("index"):
        monkeypatch.setattr(search, "_MOST_IN_SAMPLE", 1000)
        if store.driver.database == "sqlite":
            await SearchIndexer(store).catch_up(everything=True)
    for order in DeviceOrder:
        for actor in (ground.root, ground.north, ground.south, ground.mill):
            for text in TEXTS:
                descending = len(text) % 2 == 1
                wanted = [one for one in visible(fleet, actor, ground) if matches(one, text)]
                wanted.sort(key=key_of(order), reverse=descending)
                query = DeviceQuery(text=text, order=order, descending=descending, page_size=25)
                page = await ground.inventory.page(actor, query)
                told = (order, actor.organisation.name, text)
                assert page.data == wanted[:25], told
                assert page.has_next == (len(wanted) > 25), told
                assert page.total >= len(wanted) if page.has_next else page.total == len(wanted)


async def test_pages_lead_to_the_end(ground, fleet, monkeypatch):
    """Whoever reads on while there is a next page has seen each once, however little is counted."""
    monkeypatch.setattr(sql_inventory, "MOST_COUNTED", 5)
    for text in ("", "meter"):
        seen, number = [], 0
        while True:
            query = DeviceQuery(page=number, page_size=7, text=text, order=DeviceOrder.NAME)
            page = await ground.inventory.page(ground.root, query)
            seen += page.data
            if not page.has_next:
                break
            assert page.total > len(seen)
            number += 1
        assert page.total == len(seen)
        wanted = [one for one in fleet if matches(one, text)]
        assert sorted(one.device.id for one in seen) == [one.device.id for one in wanted]


@pytest.mark.parametrize("most", [0, 20_000])
async def test_filters_narrow_a_page(ground, fleet, monkeypatch, most):
    """By profile, customer, group and UUIDs, each in any order, and all at once."""
    monkeypatch.setattr(sql_inventory, "MOST_CANDIDATES", most)
    one = fleet[3]
    group = await ground.inventory.group_named(ground.root, "g")
    filters = {
        "profile_id": (one.device.profile_id, lambda r: r.device.profile_id),
        "customer_id": (ground.south.organisation.id, lambda r: r.device.customer_id),
    }
    for order in DeviceOrder:
        for field, (value, of) in filters.items():
            query = structs.replace(DeviceQuery(order=order), **{field: value})
            page = await ground.inventory.page(ground.root, query)
            wanted = sorted((r for r in fleet if of(r) == value), key=key_of(order))
            assert page.data == wanted
            assert page.total == len(wanted)
        query = DeviceQuery(order=order, group_id=group.id)
        page = await ground.inventory.page(ground.root, query)
        in_group = [r for n, r in enumerate(fleet) if n % 3 == 0 and n % 10 != 0]
        assert page.data == sorted(in_group, key=key_of(order))
        uuids = (one.device.uuid, fleet[8].device.uuid, "no uuid", fleet[9].device.uuid.upper())
        page = await ground.inventory.page(ground.root, DeviceQuery(order=order, ids=uuids))
        assert page.data == sorted((one, fleet[8], fleet[9]), key=key_of(order))
    nothing = DeviceQuery(ids=())
    assert (await ground.inventory.page(ground.root, nothing)).total == 0


async def test_a_page_beyond_the_end_is_empty(ground, fleet):
    """And tells how many there are all the same."""
    for text in ("", "meter"):
        wanted = [one for one in fleet if matches(one, text)]
        page = await ground.inventory.page(ground.root, DeviceQuery(page=9, text=text))
        assert (page.data, page.total, page.has_next) == ([], len(wanted), False)


async def test_ones_own_are_on_the_page_once(ground, fleet, store, clock):
    """Those of the organisation and one's own elsewhere, each once, in every order."""
    person = ground.admin(ground.mill.organisation, 77)
    key, record = Secret("the-claim-key"), await ground.add("own")
    await ground.offer(record, key)
    result, own = await ground.inventory.claim(person, "own", key)
    assert result is ClaimResult.SUCCESS
    wanted = [own, *visible(fleet, ground.mill, ground)]
    elsewhere = structs.replace(person, permissions=frozenset({Permission.OWN_DEVICES_VIEW}))
    for order in DeviceOrder:
        page = await ground.inventory.page(person, DeviceQuery(order=order))
        assert page.data == sorted(wanted, key=key_of(order))
        page = await ground.inventory.page(elsewhere, DeviceQuery(order=order))
        assert page.data == [own]
    blind = structs.replace(person, permissions=frozenset())
    assert (await ground.inventory.page(blind, DeviceQuery())).total == 0
    # An owner's sight reaches into another organisation too.
    store_side = SqlInventory(store)
    south = Sight(path=ground.south.organisation.path, owner_id=77)
    for order in DeviceOrder:
        page = await store_side.device_page(DeviceQuery(order=order), south)
        both = [own, *visible(fleet, ground.south, ground)]
        assert page.data == sorted(both, key=key_of(order))


async def test_a_renamed_device_is_found_by_its_new_name(store, ground):
    """Indexed or not, by name and by label; by the old ones no longer; nor one that was removed."""
    inventory = ground.inventory
    one, two = await ground.add("alpha-1", label="Old hall"), await ground.add("alpha-2")

    async def found(text):
        page = await inventory.page(ground.root, DeviceQuery(text=text))
        return [record.device.name for record in page.data]

    if store.driver.database == "sqlite":
        await SearchIndexer(store).catch_up(everything=True)
    new = await inventory.update(ground.root, one, DeviceDraft(name="omega", label="New hall"))
    await inventory.update(ground.root, new, DeviceDraft(name="omega", label="Third hall"))
    assert await found("omeg") == await found("third") == await found("ird") == ["omega"]
    assert await found("alpha-1") == await found("old hall") == await found("new h") == []
    await inventory.remove(ground.root, two)
    assert await found("alpha") == []
    await ground.add("alpha-3")
    assert await found("alpha") == await found("ALPHA-") == ["alpha-3"]


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "x" * 256, "\ud800", "\udfffabc"])
async def test_what_no_name_can_hold_is_not_found(ground, text):
    """And breaks nothing."""
    await ground.add("d")
    page = await ground.inventory.page(ground.root, DeviceQuery(text=text))
    assert (page.data, page.total, page.has_next) == ([], 0, False)


async def test_another_owner_of_the_credentials_breaks_no_page(ground):
    """A device whose credentials were replaced stands once on its page."""
    record = await ground.add("d")
    await ground.inventory.change_credentials(ground.root, record, AccessToken(Secret("n" * 20)))
    page = await ground.inventory.page(ground.root, DeviceQuery())
    assert [one.device.name for one in page.data] == ["d"]


# ── the index ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sqlite_only(store):
    if store.driver.database != "sqlite":
        pytest.skip("PostgreSQL has no such index")


@pytest.mark.usefixtures("sqlite_only")
async def test_the_indexer_works_in_whole_steps(store, ground, monkeypatch):
    """What is less than a step waits; a run goes on until nothing more than that is left."""
    monkeypatch.setattr(search, "_STEP", 4)
    for number in range(10):
        await ground.add(f"device {number}")
    indexer = SearchIndexer(store)
    await indexer.catch_up()
    assert (await store.driver.rows("next_to_index", 100))[0][1] == 2
    await indexer.catch_up(everything=True)
    assert (await store.driver.rows("next_to_index", 100))[0][1] == 0
    assert (await store.driver.rows("devices_found", match_of("vice 9"), 9)) == [(10,)]
    assert await store.driver.integrity() == ["ok"]


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@pytest.mark.usefixtures("sqlite_only")
async def test_no_text_breaks_the_index(store, ground):
    """Whatever is looked for is looked for; what a name has in it is among the candidates."""
    name = "Straße \"7\" OR NOT 'x' (AND) * ^ - {a} : NEAR"
    await ground.add(name.replace("{a}", "a"))
    await SearchIndexer(store).catch_up(everything=True)
    name = name.replace("{a}", "a")
    for start in range(len(name)):
        for end in range(start + 1, min(start + 12, len(name) + 1)):
            part = name[start:end]
            found = await search.candidates(store.driver, part, [])
            assert found == [1] or (found is None and not part.isascii()), part
            if part.isascii():
                assert await search.candidates(store.driver, part.swapcase(), []) == [1]
    for absent in ("%", "q", "qq", "qqq", '""', "S_"):
        assert await search.candidates(store.driver, absent, []) == []


@settings(max_examples=60, deadline=None)
@given(text=TEXT)
def test_patterns_and_matches_are_well_formed(text):
    """Every sign of a pattern that has a meaning is escaped, every quote of a match is doubled."""
    assert can_occur(text)
    inner = pattern_of(text)[1:-1]
    assert inner.replace("\\\\", "").replace("\\%", "").replace("\\_", "").count("%") == 0
    match = match_of(text)
    assert match.count('"') % 2 == 0
    assert bool(match) == (len(text) > 2)
