"""Devices behind gateways."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import (
    PROVISIONED,
    DeviceProfile,
    EventKind,
    Outcome,
    Peer,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
    Wire,
)
from gateway.core.ports import NewChild

pytestmark = pytest.mark.every_database


@pytest.fixture
def mention(store, clock):
    """Has a gateway mention a device."""

    def make(gateway, name, kind="sensor", token=None):
        new = NewChild(
            gateway=gateway,
            name=name,
            type=kind,
            token=Secret(token or f"token-of-{name}-{gateway.id}"),
            peer=Peer(Wire.MQTT, "192.0.2.1:1"),
            at=clock.now,
        )
        return store.child(new)

    return make


async def test_a_child_is_born_when_first_mentioned(store, registrar, device, mention, told):
    """It has its type's profile, a token of its own, its creator, and events; then it is found."""
    child = await mention(device, "c", "sensor")
    assert (child.name, child.type, child.provision_state) == ("c", "sensor", PROVISIONED)
    assert child.creator_id == device.id
    known = await store.find_credentials(Secret(f"token-of-c-{device.id}"))
    assert known.device == child
    profile = await store.profile(child.profile_id)
    assert (profile.name, profile.provision_type) == ("sensor", ProvisionType.DISABLED)
    assert await registrar.profile_ticket(profile.id) is None
    assert (Outcome.SUCCESS, "", child.id) in await told(EventKind.DEVICE_CREATE)
    assert len(await told(EventKind.PROFILE_CREATE)) == 2
    assert await mention(device, "c", "other type") == child
    assert len(await told(EventKind.PROFILE_CREATE)) == 2


async def test_a_hundred_children_mentioned_at_once_by_two(store, registrar, new_fleet, mention):
    """Each name becomes one device, whoever was first; both are given the same."""
    fleet = await new_fleet()
    first, second = await fleet.waiting("g1"), await fleet.waiting("g2")
    names = [f"c{n}" for n in range(100)]
    children = await asyncio.gather(
        *(
            mention(gateway, name, f"t{n % 3}")
            for n, name in enumerate(names)
            for gateway in (first, second)
        )
    )
    assert len({child.id for child in children}) == 100
    assert children[::2] == children[1::2]
    assert len(await registrar.profiles()) == 4


async def test_a_profile_may_forbid_adoption(store, registrar, new_fleet, mention):
    """Of a device it did not create a gateway may speak only where the profile lets it."""
    closed = await new_fleet(name="closed", gateway_may_adopt=False)
    opened = await new_fleet(name="open")
    gateway, other = await opened.waiting("g"), await opened.waiting("h")
    own, free = await closed.waiting("own"), await opened.waiting("free")
    assert await mention(gateway, "own") == Refused(RefusalReason.NOT_ITS_GATEWAY)
    assert (await mention(gateway, "free")).id == free.id
    born = await mention(gateway, "born", "closed")
    assert born.profile_id == own.profile_id
    assert await mention(gateway, "born") == born
    assert await mention(other, "born") == Refused(RefusalReason.NOT_ITS_GATEWAY)


async def test_a_gateway_that_names_itself_is_itself(new_fleet, mention):
    """Even where its profile forbids adoption."""
    fleet = await new_fleet(gateway_may_adopt=False)
    gateway = await fleet.waiting("g")
    assert (await mention(gateway, "g")).id == gateway.id


async def test_a_child_whose_token_is_taken_is_not_born(store, registrar, device, mention):
    """And its neighbours in the same decision are."""
    await mention(device, "a", token="the-one-token")
    lost, born = await asyncio.gather(
        mention(device, "b", token="the-one-token"), mention(device, "c")
    )
    assert lost == Refused(RefusalReason.CREDENTIALS_TAKEN)
    assert born.name == "c"
    assert await registrar.find_device("b") is None


async def test_a_child_has_its_gateways_customer(store, registrar, device, mention, event):
    """ThingsBoard contract, section 9."""
    await registrar.claim_for(device.id, "Smith", None, event(EventKind.DEVICE_CLAIM))
    gateway = (await registrar.find_device("d")).device
    child = await mention(gateway, "c")
    assert child.customer_id == gateway.customer_id is not None


async def test_profiles_keep_all_their_settings(store, registry, registrar, new_fleet):
    """What a profile says comes back as it was, and its revision grows with each change."""
    settings = {
        "claiming_allowed": False,
        "gateway_may_adopt": False,
        "readings_keep_days": 3,
        "limits": {"messages": "10:1,300:60"},
    }
    fleet = await new_fleet(name="full", **settings)
    stored = await store.profile(fleet.profile.id)
    assert {name: getattr(stored, name) for name in settings} == settings
    before = await fleet.waiting("x")
    await new_fleet(name="full", **settings | {"readings_keep_days": 4})
    after = await store.profile(fleet.profile.id)
    assert (after.readings_keep_days, after.revision) == (4, stored.revision + 1)
    known = await registrar.find_device("x")
    assert known.device.profile_revision == after.revision > before.profile_revision
    assert await store.profile(99) is None
    assert isinstance(after, DeviceProfile)
