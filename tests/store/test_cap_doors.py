"""Bounds hold whoever comes by itself, by whatever door: behind a gateway, with a ticket, into the
profile of its type."""

from __future__ import annotations

import asyncio

import pytest
from people import make_crowd
from ticket_ground import Ground

from gateway.core.model import (
    PLAIN_POLICY,
    Admission,
    AttributeScope,
    BirthSettings,
    Device,
    DeviceProfile,
    EventKind,
    Outcome,
    Peer,
    Policy,
    Provisioned,
    RefusalReason,
    Refused,
    Secret,
    Wire,
)
from gateway.core.ports import NewChild
from gateway.core.registry import ProfileDraft
from gateway.store.retention import Retention

pytestmark = pytest.mark.every_database

FULL = Refused(RefusalReason.PROFILE_FULL)
ORGANISATION_FULL = Refused(RefusalReason.ORGANISATION_FULL)
LABEL = "SELECT label FROM device WHERE id = ?1"
GROUPS = """SELECT g.name FROM device_group g JOIN device_group_member m ON m.group_id = g.id
             WHERE m.device_id = ?1"""


def bounded(most=None, in_organisation=None):
    admission = Admission(max_devices=most, max_devices_in_organisation=in_organisation)
    return Policy(admission=admission)


@pytest.fixture
def mention(store, clock, tokens):
    """Has a gateway mention a device."""

    def make(gateway, name, kind="sensor"):
        new = NewChild(
            gateway=gateway,
            name=name,
            type=kind,
            token=Secret(tokens()),
            peer=Peer(Wire.MQTT, "192.0.2.1:1"),
            at=clock.now,
        )
        return store.child(new)

    return make


async def test_children_are_held_by_the_bound_of_their_profile(
    registry, registrar, new_fleet, mention
):
    """Of thirty that two gateways mention at once seven are born; those are found ever after, and a
    place that is given up is taken by the next. Children of another type are not held."""
    sensors = await new_fleet(name="sensor", policy=bounded(7))
    gateways = await new_fleet(name="gateways")
    first, second = await gateways.waiting("g1"), await gateways.waiting("g2")
    asked = [(one, f"c{number}") for number in range(30) for one in (first, second)]
    found = await asyncio.gather(*(mention(*one) for one in asked), mention(first, "x", "other"))
    assert isinstance(found.pop(), Device)
    born = {one.name for one in found if isinstance(one, Device)}
    assert len(born) == 7
    assert [one for one in found if isinstance(one, Refused)] == [FULL] * 46
    assert (await registry.devices_per_profile())[sensors.profile.id] == 7
    gone = sorted(born)[0]
    assert isinstance(await mention(second, gone), Device)
    assert await registry.remove_device(await registry.device(gone))
    again = await asyncio.gather(mention(first, "n1"), mention(first, "n2"))
    assert [type(one) for one in again].count(Device) == 1
    await sensors.waiting("by an operator")  # who may exceed it
    assert (await registry.devices_per_profile())[sensors.profile.id] == 8


async def test_what_a_gateway_brings_is_held_by_its_own_profile_on_their_organisation(
    registry, registrar, new_fleet, mention
):
    """Also of types that are new: no profile is made for who is refused. The narrower bound counts,
    and a gateway whose profile says nothing brings as many as it likes."""
    await new_fleet(name="narrow", policy=bounded(in_organisation=3))
    bounding = await new_fleet(name="bounding", policy=bounded(in_organisation=5))
    free = await new_fleet(name="free")
    gateway, other = await bounding.waiting("g"), await free.waiting("f")
    found = await asyncio.gather(*(mention(gateway, f"c{n}", f"t{n}") for n in range(6)))
    assert found.count(ORGANISATION_FULL) == 3
    assert len(await registrar.profiles()) == 3 + 3
    assert await mention(gateway, "n", "narrow") == ORGANISATION_FULL
    assert await mention(other, "n", "narrow") == ORGANISATION_FULL
    assert isinstance(await mention(other, "n", "any"), Device)


async def test_a_child_begins_with_what_its_profile_gives(
    store, registrar, new_fleet, mention, clock, told, event
):
    """Attributes, group and label by its name; its customer is its gateway's, where that has one;
    and one that is there for a time goes by itself."""
    newborn = BirthSettings(
        shared={"id": "{name}/{serial}", "every_s": 60},
        customer="Acme",
        groups=("meters",),
        label="M {name}",
        firmware="fw 9",
        expires_after_s=60,
    )
    await new_fleet(name="sensor", policy=Policy(newborn=newborn))
    gateway = await (await new_fleet(name="gateways")).waiting("g")
    children = await asyncio.gather(mention(gateway, "c"), mention(gateway, "plain", "other"))
    assert [type(one) for one in children] == [Device, Device]
    number = children[0].id
    for child, expected in zip(children, ({"id": "c/", "every_s": 60}, {}), strict=True):
        found = await registrar.device_attributes(child.id)
        shared = {one.key: one.value for one in found if one.scope is AttributeScope.SHARED}
        assert shared == expected
    assert await store.driver.read(LABEL, number) == [("M c",)]
    assert await store.driver.read(GROUPS, number) == [("meters",)]
    record = await registrar.find_device("c")
    assert record.device.customer_id == children[0].customer_id is not None
    warned = await told(EventKind.DEVICE_BIRTH_SETTINGS)
    assert warned == [(Outcome.WARNING, "", record.device.id)]
    own = await registrar.find_device("plain")
    assert own.device.customer_id is None
    await registrar.claim_for(gateway.id, "Smith", None, event(EventKind.DEVICE_CLAIM))
    gateway = (await registrar.find_device("g")).device
    kept = await mention(gateway, "d")
    assert kept.customer_id == gateway.customer_id != record.device.customer_id
    clock.now += 61_000
    await Retention(store, clock).sweep()
    assert await registrar.find_device("c") is None
    assert await registrar.find_device("plain") is not None


@pytest.fixture
async def ground(store, registry, clock):
    crowd = await make_crowd(store, clock)
    yield Ground(store, registry, clock, crowd.operator, open_to_all=True)
    crowd.close()


async def keep_template(registry, policy):
    profile = DeviceProfile(id=0, name="meter", policy=policy)
    await registry.save_profile(ProfileDraft(profile=profile))


async def test_tickets_wait_until_there_is_room(ground, registry, registrar):
    """Of nine that are shown at once, each twice, four give birth; the others stay good, the device
    of one that was claimed is found again, and an expired one is told so all the same."""
    await keep_template(registry, bounded(4))
    issued = [await ground.issue() for _ in range(9)]
    shown = [one.token for one in issued for _ in range(2)]
    found = await asyncio.gather(*map(ground.claim, shown))
    born = [one for one in found[::2] if isinstance(one, Provisioned)]
    assert len(born) == 4
    assert found.count(FULL) == 10
    lost = next(token for token, one in zip(shown, found, strict=True) if one == FULL)
    assert await ground.claim(lost) == FULL
    assert (await ground.claim(born[0].credentials.token)).device.id == born[0].device.id
    refused = [one for one in await registry.events(limit=1000) if one.outcome is Outcome.REFUSED]
    assert {(one.reason, one.device_id is None) for one in refused} == {("profile_full", False)}
    assert await registry.remove_device(await registry.device(born[0].device.name))
    assert isinstance(await ground.claim(lost), Provisioned)


async def test_tickets_of_an_organisation_that_is_full_wait(ground, registry):
    """Over all its profiles; with the bound gone they give birth."""
    await keep_template(registry, bounded(9, 1))
    tokens = [(await ground.issue()).token for _ in range(2)]
    assert isinstance(await ground.claim(tokens[0]), Provisioned)
    assert await ground.claim(tokens[1]) == ORGANISATION_FULL
    await keep_template(registry, PLAIN_POLICY)
    assert isinstance(await ground.claim(tokens[1]), Provisioned)
