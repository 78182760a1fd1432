"""What newborns begin with, and devices whose time is over, on each database."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import (
    HARDWARE_INFO,
    AccessToken,
    AttributeScope,
    AttributesSelection,
    EventKind,
    Json,
    NoticeKind,
    Outcome,
    Package,
    PackageKind,
    Provisioned,
    Reading,
    Secret,
)
from gateway.core.terms import Gifts, Terms
from gateway.store.retention import Retention

pytestmark = pytest.mark.every_database

SHARED, SERVER, CLIENT = AttributeScope.SHARED, AttributeScope.SERVER, AttributeScope.CLIENT
GIFTS = Gifts(
    attributes={SHARED: {"site": "hall-3", "n": 7}, SERVER: {"batch": "B1"}},
    said={CLIENT: {HARDWARE_INFO: Json('{"serial":"S1"}')}, SERVER: {"erp": True}},
    customer="Acme",
    groups=("meters", "east"),
    label="M 2",
    packages={PackageKind.FIRMWARE: ("fw", "2.1"), PackageKind.SOFTWARE: ("app", "9")},
    left_out=("group <b>x</b>: not a name",),
)
_LABEL = "SELECT label FROM device WHERE id = ?1"
_GROUPS = """SELECT g.name FROM device_group g JOIN device_group_member m ON m.group_id = g.id
              WHERE m.device_id = ?1 ORDER BY g.name"""


@pytest.fixture
def born(store, newcomer, tokens):
    """Lets a device of a profile be born with a token, on terms."""

    async def make(fleet, name="n", **terms):
        credentials = AccessToken(Secret(tokens()))
        new = newcomer(fleet.profile, name, credentials=credentials, terms=Terms(**terms))
        result = await store.create_device(new)
        assert isinstance(result, Provisioned), result
        return result.device

    return make


@pytest.fixture
def package(event, registrar):
    """Stores a firmware package of a version."""

    async def make(version: str) -> None:
        made = Package(
            id=0, kind=PackageKind.FIRMWARE, title="fw", version=version, size=1, checksum="0" * 64
        )
        assert await registrar.save_package(made, event(EventKind.PACKAGE_CREATE))

    return make


async def seen(registrar, device_id):
    """The attributes of a device, by scope and key."""
    found = await registrar.device_attributes(device_id)
    return {(one.scope, one.key): one.value for one in found}


async def test_a_newborn_begins_with_all_of_it(store, registrar, new_fleet, born, package):
    """Attributes, customer, groups, label and package are there with the commit of the birth; what
    is not to be had is told in an event that warns."""
    fleet = await new_fleet()
    await package("2.1")
    device = await born(fleet, gifts=GIFTS)
    number = device.id
    attributes = await seen(registrar, number)
    assert attributes[SHARED, "site"] == "hall-3"
    assert attributes[SHARED, "n"] == 7
    assert attributes[SHARED, "fw_version"] == "2.1"
    assert attributes[SERVER, "batch"] == "B1"
    assert attributes[SERVER, "erp"] is True
    assert attributes[CLIENT, HARDWARE_INFO] == Json('{"serial":"S1"}')
    of_its_own = await store.attributes(device, AttributesSelection(client=()))
    assert of_its_own.shared["site"] == "hall-3"
    known = await registrar.find_device("n")
    assert await registrar.customer_name(known.device.customer_id) == "Acme"
    assert await store.driver.read(_LABEL, number) == [("M 2",)]
    assert await store.driver.read(_GROUPS, number) == [("east",), ("meters",)]


async def test_the_same_customer_and_groups_serve_all(registrar, new_fleet, born, told):
    """Of twenty who are born at once one makes the customer and the groups."""
    fleet = await new_fleet()
    devices = await asyncio.gather(*(born(fleet, f"n{n}", gifts=GIFTS) for n in range(20)))
    owners = {(await registrar.find_device(one.uuid)).device.customer_id for one in devices}
    assert len(owners) == 1
    assert len(await told(EventKind.ORGANISATION_CREATE)) == 1


async def test_what_cannot_be_given_is_told_and_the_device_is_born(registrar, new_fleet, born):
    """A package that is not there, and a name that is none, stand in one event of the device."""
    fleet = await new_fleet()
    device = await born(fleet, gifts=GIFTS)
    events = await registrar.events(after_seq=0, limit=100, device_id=device.id)
    warnings = [one for one in events if one.kind is EventKind.DEVICE_BIRTH_SETTINGS]
    assert [(one.outcome, one.detail) for one in warnings] == [
        (
            Outcome.WARNING,
            {
                "left_out": "group <b>x</b>: not a name; fw fw 2.1: there is no such package; "
                "sw app 9: there is no such package"
            },
        )
    ]
    assert (SHARED, "fw_version") not in await seen(registrar, device.id)


async def test_a_waiting_device_keeps_what_it_has(
    store, registrar, new_fleet, event, clock, package
):
    """Defaults stand back behind what an operator gave it; what it says of itself does not."""
    fleet = await new_fleet()
    device = await fleet.waiting("w")
    await package("2.1")
    at = clock.now
    await store.save_attributes(device, SHARED, {"site": "hall-1"}, at)
    await store.save_attributes(device, SERVER, {"erp": False}, at)
    await registrar.claim_for(device.id, "Other", None, event(EventKind.DEVICE_CLAIM))
    told = event(EventKind.DEVICE_PROVISION)
    result = await store.claim_device(fleet.profile, "w", told, terms=Terms(gifts=GIFTS))
    assert isinstance(result, Provisioned), result
    attributes = await seen(registrar, device.id)
    assert attributes[SHARED, "site"] == "hall-1"
    assert attributes[SHARED, "n"] == 7
    assert attributes[SERVER, "erp"] is True
    assert attributes[SHARED, "fw_version"] == "2.1"
    owner = (await registrar.find_device("w")).device.customer_id
    assert await registrar.customer_name(owner) == "Other"


# ── burn-in ───────────────────────────────────────────────────────────────────────────────────


async def test_devices_whose_time_is_over_go_with_all_they_had(
    store, registrar, new_fleet, born, clock, event, told
):
    """Removed as by a person, with a notice that ends sessions; younger ones and kept ones stay."""
    fleet = await new_fleet()
    over, kept, longer = [
        await born(fleet, name, expires_at=clock.now + 1000) for name in ("over", "kept", "longer")
    ]
    await born(fleet, "young", expires_at=clock.now + 5000)
    forever = await born(fleet, "forever")
    await store.save_readings(over, [Reading(clock.now, "t", 1)])
    keeps = event(EventKind.DEVICE_KEEP)
    assert await registrar.keep_device(kept.id, None, keeps)
    assert await registrar.keep_device(longer.id, clock.now + 9000, keeps)
    assert not await registrar.keep_device(forever.id, None, keeps)
    assert await registrar.expires_at(longer.id) == clock.now + 9000

    clock.now += 2000
    before = await store.last_notice()
    await Retention(store, clock).sweep()

    left = [one.device.name for one in await registrar.devices(
        after_id=0, limit=100, profile_id=None, text=""
    )]  # fmt: skip
    assert left == ["kept", "longer", "young", "forever"]
    assert await registrar.latest(over.id) == []
    assert await told(EventKind.DEVICE_EXPIRE) == [(Outcome.SUCCESS, "", over.id)]
    removed = [
        one.device_id for one in await store.notices(before, 100) if one.kind is NoticeKind.REMOVED
    ]
    assert removed == [over.id]
    clock.now += 10_000
    await Retention(store, clock).sweep()
    assert len(await told(EventKind.DEVICE_EXPIRE)) == 3


async def test_the_time_of_a_device_begins_once(store, registrar, new_fleet, born, clock, event):
    """One that was kept, or is armed again, does not begin its burn-in anew; one that was added
    before it came begins it with its claim."""
    fleet = await new_fleet()
    over = clock.now + 1000

    async def claim(name):
        told = event(EventKind.DEVICE_PROVISION)
        terms = Terms(ticket_id=fleet.ticket.id, expires_at=clock.now + 5000)
        result = await store.claim_device(fleet.profile, name, told, terms=terms)
        assert isinstance(result, Provisioned), result

    kept, again = [
        await born(fleet, name, ticket_id=fleet.ticket.id, expires_at=over)
        for name in ("kept", "again")
    ]
    added = await fleet.waiting("added")
    assert await registrar.keep_device(kept.id, None, event(EventKind.DEVICE_KEEP))
    for device in (kept, again):
        assert await registrar.rearm_device(device.id, event(EventKind.DEVICE_REARM))
    for name in ("kept", "again", "added"):
        await claim(name)
    found = [await registrar.expires_at(one.id) for one in (kept, again, added)]
    assert found == [None, over, clock.now + 5000]


async def test_many_go_in_steps(store, registrar, new_fleet, born, clock, monkeypatch):
    """More than one step takes are all gone after one sweep; their names are free again."""
    from gateway.store import retention

    monkeypatch.setattr(retention, "_DEVICES_PER_STEP", 3)
    monkeypatch.setattr(retention, "_PAUSE_S", 0)
    fleet = await new_fleet()
    for number in range(7):
        await born(fleet, f"n{number}", expires_at=clock.now + 1)
    clock.now += 1
    await Retention(store, clock).sweep()
    assert await registrar.count_devices() == 0
    await born(fleet, "n0")
