"""Profiles and devices, changed by people."""

from __future__ import annotations

import pytest

from gateway.core.errors import KeyTaken
from gateway.core.model import (
    DeviceProfile,
    EventKind,
    Provisioned,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.registry import ProfileDraft, sync_profile_files

pytestmark = pytest.mark.every_database


def draft(name="p", **settings):
    key, secret = settings.pop("key", None), settings.pop("secret", None)
    settings.setdefault("provision_type", ProvisionType.ALLOW_CREATE_NEW_DEVICES)
    return ProfileDraft(
        profile=DeviceProfile(id=0, name=name, **settings),
        key=Secret(key) if key else None,
        secret=Secret(secret) if secret else None,
    )


async def ticket_of(registry, name):
    profile = await registry.profile(name)
    return await registry.ticket(profile)


async def test_a_missing_pair_is_made_once(registry):
    """Key and secret a profile leaves out are made at first and kept from then on."""
    assert await registry.save_profile(draft())
    made = await ticket_of(registry, "p")
    assert len(made.key.reveal()) == len(made.secret.reveal()) == 20
    assert not await registry.save_profile(draft())
    assert await registry.save_profile(draft(description="changed"))
    kept = await ticket_of(registry, "p")
    assert (kept.key, kept.secret) == (made.key, made.secret)


async def test_a_changed_pair_replaces_the_old_one(registry, provisioner, new_fleet):
    """A new secret in the file counts, and the old one is refused, from the next request on."""
    fleet = await new_fleet(name="p")
    old = fleet.request("a")
    await registry.save_profile(draft("p", key="fleet-key-2", secret="fleet-secret-2"))
    assert await provisioner.provision(old) == Refused(RefusalReason.UNKNOWN_KEY)
    new = fleet.request("a", key="fleet-key-2", secret="fleet-secret-2")
    assert isinstance(await provisioner.provision(new), Provisioned)


async def test_rotation_refuses_the_old_secret_at_once(registry, provisioner, new_fleet):
    """After a rotation the old secret is wrong and the new one right."""
    fleet = await new_fleet()
    assert isinstance(await provisioner.provision(fleet.request("a")), Provisioned)
    ticket = await registry.rotate_secret(fleet.profile)
    assert await provisioner.provision(fleet.request("b")) == Refused(RefusalReason.WRONG_SECRET)
    fresh = fleet.request("b", secret=ticket.secret.reveal())
    assert isinstance(await provisioner.provision(fresh), Provisioned)


async def test_a_key_belongs_to_one_profile(registry):
    """A key another profile has is refused, and nothing of the second profile is kept."""
    await registry.save_profile(draft("a", key="the-one-key", secret="secret-a"))
    with pytest.raises(KeyTaken):
        await registry.save_profile(draft("b", key="the-one-key", secret="secret-b"))
    assert [profile.name for profile in await registry.profiles()] == ["a"]


async def test_files_with_a_taken_key_are_told_by_file(registry):
    """One bad file does not keep the others from being loaded."""
    drafts = [
        draft("a", key="same-key", secret="s1", source="a.toml"),
        draft("b", key="same-key", secret="s2", source="b.toml"),
        draft("c", source="c.toml"),
    ]
    changed, errors = await sync_profile_files(registry, drafts)
    assert changed == ["a", "c"]
    assert len(errors) == 1
    assert str(errors[0]).startswith("b.toml: provision_key")


async def test_closed_profiles_get_no_pair(registry):
    """A disabled profile without key and secret is stored without."""
    await registry.save_profile(draft("off", provision_type=ProvisionType.DISABLED))
    assert await ticket_of(registry, "off") is None


async def test_a_profile_in_use_stays(registry, new_fleet):
    """A profile with devices cannot be removed; without them it can, once."""
    fleet = await new_fleet()
    await fleet.waiting("d")
    assert not await registry.remove_profile(fleet.profile)
    known = await registry.device("d")
    assert await registry.remove_device(known)
    assert await registry.remove_profile(fleet.profile)
    assert not await registry.remove_profile(fleet.profile)


async def test_devices_are_listed_in_pages(registry, new_fleet):
    """Pages follow each other by number; a search looks into names; a profile narrows."""
    fleet, other = await new_fleet(), await new_fleet(name="other")
    for number in range(5):
        await fleet.waiting(f"pump-{number}")
    await other.waiting("valve")
    first = await registry.devices(limit=4)
    rest = await registry.devices(limit=4, after_id=first[-1].device.id)
    names = [row.device.name for row in (*first, *rest)]
    assert names == ["pump-0", "pump-1", "pump-2", "pump-3", "pump-4", "valve"]
    assert [row.device.name for row in await registry.devices(text="ALV")] == ["valve"]
    assert len(await registry.devices(profile=fleet.profile)) == 5
    assert first[0].profile_name == "fleet"


async def test_a_device_is_found_by_name_and_by_uuid(registry, new_fleet):
    """Both ways lead to the same device; an unknown one is None."""
    fleet = await new_fleet()
    device = await fleet.waiting("d")
    by_name, by_uuid = await registry.device("d"), await registry.device(device.uuid)
    assert by_name == by_uuid
    assert by_name is not None
    assert by_name.device.id == device.id
    assert await registry.device("nobody") is None


async def test_every_change_leaves_an_event(registry, new_fleet):
    """Adding, re-arming and removing are written down with their author."""
    fleet = await new_fleet()
    await fleet.waiting("d")
    known = await registry.device("d")
    await registry.rearm_device(known)
    await registry.rotate_secret(fleet.profile)
    await registry.remove_device(known)
    told = await registry.events()
    assert [event.kind for event in told] == [
        EventKind.PROFILE_CREATE,
        EventKind.DEVICE_CREATE,
        EventKind.DEVICE_REARM,
        EventKind.PROFILE_SECRET_ROTATE,
        EventKind.DEVICE_REMOVE,
    ]
    assert {event.peer.address for event in told} == {"tester"}
    assert [event.seq for event in told] == [1, 2, 3, 4, 5]


async def test_numbers_are_never_used_again(registry, new_fleet):
    """A removed device's number stays its own."""
    fleet = await new_fleet()
    first = await fleet.waiting("a")
    await registry.remove_device(await registry.device("a"))
    second = await fleet.waiting("a")
    assert second.id > first.id
