"""Lists and bounds of profiles: exact, in both databases, whoever comes at the same time."""

from __future__ import annotations

import asyncio

import pytest
from people import make_crowd
from ticket_ground import Ground

from gateway.core.admission_entries import Entry, EntryKind, Marks
from gateway.core.admitting import Listed
from gateway.core.errors import Cause, Conflict
from gateway.core.model import (
    AccessToken,
    DeviceProfile,
    EventKind,
    Outcome,
    Provisioned,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.ports import NewDevice
from gateway.core.registry import ProfileDraft
from gateway.core.terms import Terms
from gateway.store.retention import Retention
from gateway.store.sql_admission import SqlAdmission

FULL, ORGANISATION_FULL = RefusalReason.PROFILE_FULL, RefusalReason.ORGANISATION_FULL
NAME, SERIAL, MAC = EntryKind.NAME, EntryKind.SERIAL, EntryKind.MAC


@pytest.fixture
def lists(store):
    return SqlAdmission(store)


@pytest.fixture
def change(event):
    return event(EventKind.ADMISSION_CHANGE)


# ── lists ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.every_database
async def test_entries_are_kept_once_and_found_by_one_look_up(lists, keep_profile, store, change):
    """Each list and profile has its own; what is added twice is there once."""
    one = await keep_profile(store, "one")
    other = await keep_profile(store, "other")
    entries = [Entry(NAME, "d"), Entry(NAME, "d"), Entry(SERIAL, "s"), Entry(MAC, "m")]
    assert await lists.add_entries(one.id, False, entries, change) == 3
    assert await lists.add_entries(one.id, False, entries, change) == 0
    for marks in (Marks("d"), Marks(None, "s"), Marks("x", "x", "m")):
        for denying in (False, True):
            found = await lists.look_up(one.id, marks, denying=denying)
            assert found == Listed(True, False)
            assert await lists.look_up(other.id, marks, denying=denying) == Listed(False, False)
    for marks in (Marks("s"), Marks(), Marks("m", "d", "s")):
        assert await lists.look_up(one.id, marks, denying=True) == Listed(False, False)
    assert not await lists.has_deny_list(one.id)
    assert await lists.add_entries(one.id, True, [Entry(SERIAL, "s")], change) == 1
    assert await lists.has_deny_list(one.id)
    assert await lists.look_up(one.id, Marks("d", "s"), denying=True) == Listed(True, True)


@pytest.mark.every_database
async def test_many_who_ask_at_once_get_their_own_answers(lists, keep_profile, store, change):
    """More than share one look, at two profiles; who goes away takes no other's answer along."""
    one, other = await keep_profile(store, "one"), await keep_profile(store, "other")
    some = [Entry(NAME, f"d{number}") for number in range(0, 700, 2)]
    await lists.add_entries(one.id, False, some, change)
    gone = asyncio.create_task(lists.look_up(one.id, Marks("d0"), denying=False))
    await asyncio.sleep(0)
    gone.cancel()
    asked = [(place, number) for number in range(700) for place in (one, other)]
    found = await asyncio.gather(
        *(lists.look_up(place.id, Marks(f"d{number}"), denying=False) for place, number in asked)
    )
    allowed = [place is one and number % 2 == 0 for place, number in asked]
    assert [listed.allowed for listed in found] == allowed


@pytest.mark.every_database
async def test_entries_are_paged_searched_counted_and_removed(lists, keep_profile, store, change):
    kept = await keep_profile(store)
    some = [Entry(NAME, f"Meter_{number}") for number in range(5)]
    await lists.add_entries(kept.id, False, [*some, Entry(MAC, "aa")], change)
    page = await lists.entries(kept.id, False, text="", page=1, page_size=4)
    assert [one.entry.value for one in page.data] == ["Meter_3", "Meter_4"]
    assert (page.total, page.has_next) == (6, False)
    page = await lists.entries(kept.id, False, text="TER_", page=0, page_size=2)
    assert (len(page.data), page.total, page.has_next) == (2, 5, True)
    assert (await lists.entries(kept.id, False, text="r%", page=0, page_size=2)).total == 0
    first = await lists.entries_after(kept.id, False, None, 2)
    assert [one.entry.value for one in first] == ["aa", "Meter_0"]
    rest = await lists.entries_after(kept.id, False, first[-1].entry, 10)
    assert [one.entry for one in rest] == some[1:]
    assert await lists.count_entries(kept.id) == {(False, MAC): 1, (False, NAME): 5}
    assert await lists.remove_entries(kept.id, True, some, change) == 0
    assert await lists.remove_entries(kept.id, False, [*some[:2], Entry(MAC, "aa")], change) == 3
    assert await lists.clear_entries(kept.id, False, 2, change) == 2
    assert await lists.clear_entries(kept.id, False, 2, change) == 1
    assert await lists.count_entries(kept.id) == {}


async def test_changes_are_told_with_their_counts(lists, keep_profile, store, change, registrar):
    """What changed nothing is no event, and a profile that is gone gets no entries."""
    kept = await keep_profile(store)
    for _ in range(2):
        await lists.add_entries(kept.id, False, [Entry(NAME, "d"), Entry(NAME, "e")], change)
        await lists.remove_entries(kept.id, False, [Entry(NAME, "d")], change)
    told = await registrar.events(after_seq=0, limit=10, device_id=None)
    details = [dict(one.detail) for one in told if one.kind is EventKind.ADMISSION_CHANGE]
    assert details == [{"added": "2"}, {"removed": "1"}, {"added": "1"}, {"removed": "1"}]
    with pytest.raises(Conflict) as raised:
        await lists.add_entries(4711, False, [Entry(NAME, "d")], change)
    assert raised.value.cause is Cause.GONE


@pytest.mark.every_database
async def test_lists_of_profiles_that_are_gone_are_forgotten(
    lists, keep_profile, store, change, event, clock, registrar
):
    """By and by, and those of others stay."""
    gone, stays = await keep_profile(store, "gone"), await keep_profile(store, "stays")
    for one in (gone, stays):
        await lists.add_entries(one.id, True, [Entry(NAME, f"{n}") for n in range(2100)], change)
    assert await registrar.remove_profile(gone.id, event(EventKind.PROFILE_REMOVE))
    await Retention(store, clock).sweep()
    assert await lists.count_entries(gone.id) == {}
    assert await lists.count_entries(stays.id) == {(True, NAME): 2100}


# ── bounds ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def bear(store, newcomer):
    """Lets a device be born in a profile that has at most `most` devices."""

    async def make(profile, name, most=None, in_organisation=None, **fields):
        terms = Terms(max_devices=most, max_devices_in_organisation=in_organisation)
        token = AccessToken(Secret(f"token-of-{profile.id}-{name}"))
        new: NewDevice = newcomer(profile, name, credentials=token, terms=terms, **fields)
        result = await store.create_device(new)
        return result.reason if isinstance(result, Refused) else result.device

    return make


@pytest.mark.every_database
async def test_of_fifty_at_once_as_many_are_born_as_may(bear, new_fleet, registry, told):
    """Whoever found no room leaves nothing behind, and takes no number."""
    profile = (await new_fleet()).profile
    born = await asyncio.gather(*(bear(profile, f"d{number}", 20) for number in range(50)))
    assert born.count(FULL) == 30
    assert sorted(one.id for one in born if one is not FULL) == list(range(1, 21))
    assert (await registry.devices_per_profile())[profile.id] == 20
    outcomes = [outcome for outcome, *_ in await told(EventKind.DEVICE_PROVISION)]
    assert (outcomes.count(Outcome.SUCCESS), outcomes.count(Outcome.REFUSED)) == (20, 30)


@pytest.mark.every_database
async def test_of_two_gateways_neither_is_one_too_many(stores, keep_profile, newcomer):
    """Both at the same time, on one database."""
    profile = await keep_profile(stores[0], kind=ProvisionType.DISABLED)
    terms = Terms(max_devices=10)

    def born(number):
        token = AccessToken(Secret(f"token-{number}"))
        new = newcomer(profile, f"d{number}", credentials=token, terms=terms)
        return stores[number % 2].create_device(new)

    results = await asyncio.gather(*map(born, range(30)))
    assert sum(isinstance(one, Provisioned) for one in results) == 10
    assert {one.reason for one in results if isinstance(one, Refused)} == {FULL}


@pytest.mark.every_database
async def test_a_place_is_free_again_and_may_be_taken_by_others(bear, new_fleet, registry):
    """Devices that are removed free theirs; those that operators add count; also the eldest."""
    fleet = await new_fleet()
    profile = fleet.profile
    await fleet.waiting("by hand")
    assert (await bear(profile, "a", 2)).name == "a"
    assert await bear(profile, "b", 2) is FULL
    assert await registry.remove_device(await registry.device("by hand"))
    assert (await bear(profile, "b", 2)).name == "b"
    await fleet.waiting("one more by hand")
    assert await bear(profile, "c", 3) is FULL
    for name in ("b", "one more by hand"):
        assert await registry.remove_device(await registry.device(name))
    assert (await bear(profile, "c", 2)).name == "c"
    assert await bear(profile, "d", 2) is FULL
    assert (await bear(profile, "d", None)).name == "d"
    assert await bear(profile, "e", 3) is FULL


@pytest.mark.every_database
async def test_a_device_that_moves_takes_its_place_along(bear, new_fleet, store):
    """Into a profile, and out of it, whenever it was counted."""
    here, there = (await new_fleet()).profile, (await new_fleet(name="there")).profile
    moving = await bear(here, "a", 2)
    await bear(there, "x", 2)

    async def move(profile):
        placed = (moving.name, profile.organisation_id, profile.id, "t", "", "{}", 0, None, None)
        change = ("change_device", moving.id, *placed)
        assert await store.driver.transact(lambda tx: tx.fetch(*change))

    await move(there)
    assert await bear(there, "y", 2) is FULL
    assert (await bear(here, "b", 2)).name == "b"
    await move(here)
    assert await bear(here, "c", 2) is FULL
    assert (await bear(there, "y", 2)).name == "y"


@pytest.mark.every_database
async def test_an_organisation_is_bounded_over_its_profiles(bear, new_fleet):
    """Whichever the profile; the profile's own bound comes first."""
    one, other = (await new_fleet()).profile, (await new_fleet(name="other")).profile
    assert (await bear(one, "a", None, 3)).name == "a"
    assert (await bear(other, "b", 1, 3)).name == "b"
    assert await bear(other, "c", 1, 3) is FULL
    assert (await bear(one, "c", 9, 3)).name == "c"
    assert await bear(one, "d", 9, 3) is ORGANISATION_FULL
    assert await bear(other, "d", None, 3) is ORGANISATION_FULL
    assert (await bear(other, "d", None, 4)).name == "d"


@pytest.mark.every_database
async def test_a_device_with_a_number_of_old_counts(bear, store, registry, clock):
    """A ticket had reserved it before others were born and counted."""
    crowd = await make_crowd(store, clock)
    await registry.save_profile(ProfileDraft(profile=DeviceProfile(id=0, name="meter")))
    profile = await registry.profile("meter")
    ground = Ground(store, registry, clock, crowd.operator, open_to_all=True)
    issued = await ground.issue()
    assert (await bear(profile, "a", 2, 2)).id > issued.ticket.device_id
    assert isinstance(await ground.claim(issued.token), Provisioned)
    assert await bear(profile, "b", 2) is FULL
    assert await bear(profile, "b", None, 2) is ORGANISATION_FULL
    assert (await bear(profile, "b", 3, 3)).name == "b"
    crowd.close()


@pytest.mark.every_database
async def test_who_was_there_before_needs_no_room(bear, new_fleet):
    """A device that waits is claimed also where there are as many as may be, and more."""
    fleet = await new_fleet()
    for number in range(3):
        await fleet.waiting(f"w{number}")
    claimed = await bear(fleet.profile, "w1", 1, 1, claim_existing=True)
    assert claimed.name == "w1"
    assert await bear(fleet.profile, "new", 1, claim_existing=True) is FULL


async def test_a_birth_reads_no_more_than_came_since_the_last(schema):
    """The count of a profile is by its index from the last number on, that of an organisation by
    the numbers themselves."""
    from gateway.store.queries import QUERIES

    for name in ("devices_in_profile", "devices_in_organisation"):
        plan = " ".join(
            row[3] for row in schema.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", (1,))
        )
        assert "SCAN" not in plan, plan
        assert "id>?" in plan or "rowid>?" in plan, plan


async def test_a_look_up_reads_its_entries_alone(schema):
    """By the primary key, all of it."""
    from gateway.store.queries import QUERIES

    one_device = (1, "a", "b", "c")
    for name, values in (
        ("allows", one_device),
        ("look_up_entries", one_device),
        ("allowed_names", (1, '["a","b"]')),
    ):
        plan = [row[3] for row in schema.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", values)]
        searches = [one for one in plan if "admission_entry" in one]
        assert searches
        assert all("profile_id=? AND denied=? AND kind=? AND value=?" in one for one in searches)
