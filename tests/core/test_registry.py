"""Profiles and devices, changed by people."""

from __future__ import annotations

import certs
import pytest

from gateway.core.errors import KeyTaken
from gateway.core.model import (
    AccessToken,
    AttributesChange,
    AttributeScope,
    ClaimResult,
    DeviceProfile,
    EventKind,
    Peer,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionType,
    RefusalReason,
    Refused,
    Secret,
    Wire,
    sha3_id,
)
from gateway.core.pki.model import ChainRule
from gateway.core.ports import PresenceUpdate
from gateway.core.profile_files import sync_profile_files
from gateway.core.registry import ProfileDraft

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


CHAIN = ProvisionType.X509_CERTIFICATE_CHAIN


def by_chain(name, authority, **settings):
    rule = ChainRule(certificate=authority.pem, pattern="(.+)", **settings)
    return draft(name, provision_type=CHAIN, chain=rule, source=f"{name}.toml")


async def test_a_chain_profile_has_its_certificate_for_a_pair(registry):
    """ThingsBoard's: the key is the certificate's SHA3-256, the secret its text (section 2.8)."""
    root = certs.Authority("Factory")
    assert await registry.save_profile(by_chain("p", root))
    ticket = await ticket_of(registry, "p")
    assert (ticket.key, ticket.secret) == (Secret(sha3_id(root.text)), Secret(root.pem))
    assert not await registry.save_profile(by_chain("p", root))
    other = certs.Authority("Factory")
    assert await registry.save_profile(by_chain("p", other))
    assert (await ticket_of(registry, "p")).key == Secret(sha3_id(other.text))


async def test_no_two_profiles_share_a_certificate(registry):
    """Whose device it is would be a matter of luck; ThingsBoard's words refuse it."""
    root = certs.Authority("Factory")
    drafts = [by_chain("a", root), by_chain("b", root, create=True)]
    changed, errors = await sync_profile_files(registry, drafts)
    assert changed == ["a"]
    assert [str(error).partition("!")[0] for error in errors] == [
        "b.toml: Device profile with such certificate already exists"
    ]
    assert [profile.name for profile in await registry.profiles()] == ["a"]


@pytest.mark.parametrize("between", [[], [ProvisionType.DISABLED], [CHAIN]])
async def test_a_certificate_is_no_secret(registry, provisioner, between):
    """A profile that believed a chain, and takes key and secret now, has new ones made."""
    root = certs.Authority("Factory")
    await registry.save_profile(by_chain("p", root))
    for kind in between:
        await registry.save_profile(draft("p", provision_type=kind))
    await registry.save_profile(draft("p"))
    ticket = await ticket_of(registry, "p")
    assert len(ticket.key.reveal()) == len(ticket.secret.reveal()) == 20
    shown = ProvisionKey(Secret(sha3_id(root.text)), Secret(root.pem))
    request = ProvisionRequest(proof=shown, peer=Peer(Wire.HTTP, "192.0.2.7:50123"))
    assert await provisioner.provision(request) == Refused(RefusalReason.UNKNOWN_KEY)


async def test_a_certificate_is_not_rotated(registry):
    """The file that names it says which one counts."""
    root = certs.Authority("Factory")
    await registry.save_profile(by_chain("p", root))
    assert await registry.rotate_secret(await registry.profile("p"), key_too=True) is None
    assert (await ticket_of(registry, "p")).secret == Secret(root.pem)


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


# ── one device, for people ────────────────────────────────────────────────────────────────────


@pytest.fixture
async def known(registry, new_fleet):
    fleet = await new_fleet()
    await fleet.waiting("d")
    return await registry.device("d")


async def last_event(registry):
    return (await registry.last_events(limit=1))[0]


async def test_a_profile_that_was_saved_again_is_still_the_same(registry):
    """The number of its changes does not make a stored profile differ from its file."""
    await registry.save_profile(draft())
    assert await registry.save_profile(draft(description="changed"))
    assert (await registry.profile("p")).revision > 1
    assert not await registry.save_profile(draft(description="changed"))


async def test_attributes_are_changed_with_an_event_of_their_keys(registry, known):
    """What changed is given back, and written down without the values."""
    change = AttributesChange({"a": 1, "b": "secret"})
    assert await registry.change_attributes(known, AttributeScope.SHARED, change) == change
    gone = AttributesChange(deleted=("a", "nope"))
    done = await registry.change_attributes(known, AttributeScope.SHARED, gone)
    assert done == AttributesChange(deleted=("a",))
    left = [(one.scope, one.key, one.value) for one in await registry.attributes(known)]
    assert left == [(AttributeScope.SHARED, "b", "secret")]
    events = (await registry.events(known))[-2:]
    assert [event.detail for event in events] == [
        {"scope": "SHARED_SCOPE", "set": "a, b"},
        {"scope": "SHARED_SCOPE", "deleted": "a, nope"},
    ]


async def test_a_profile_changes_all_its_devices(registry, new_fleet):
    """The number of devices is told, and each has the attribute."""
    fleet, other = await new_fleet(), await new_fleet(name="other")
    for name in ("a", "b"):
        await fleet.waiting(name)
    await other.waiting("c")
    change = AttributesChange({"k": True})
    count = await registry.change_profile_attributes(fleet.profile, AttributeScope.SERVER, change)
    assert count == 2
    found = [await registry.attributes(await registry.device(name)) for name in "abc"]
    assert [[one.key for one in attributes] for attributes in found] == [["k"], ["k"], []]
    assert (await last_event(registry)).subject == "fleet"


async def test_what_was_removed_takes_nothing(registry, known):
    """Changes of a device that is no more are told to have failed."""
    await registry.remove_device(known)
    change = AttributesChange({"a": 1})
    assert await registry.change_attributes(known, AttributeScope.SHARED, change) is None
    assert await registry.calls.save(known, "m", lasts_s=1) is None
    assert await registry.replace_credentials(known) is None
    assert not await registry.unclaim(known)


async def test_new_credentials_end_the_old_login(registry, access, store, known):
    """The old token opens nothing, the new one the device; a taken one is refused."""
    fresh = await registry.replace_credentials(known)
    assert isinstance(fresh, AccessToken)
    assert await store.find_credentials(known.credentials.id) is None
    assert (await store.find_credentials(fresh.id)).device.id == known.device.id
    other = await registry.profile("fleet")
    await registry.add_device(other, "e", token=Secret("taken-token"))
    assert await registry.replace_credentials(known, AccessToken(Secret("taken-token"))) is None
    assert (await store.find_credentials(fresh.id)).device.id == known.device.id


async def test_an_operator_claims_once_and_takes_back(registry, known):
    """A device has one customer, whose name is told, until it is taken back."""
    assert await registry.claim(known, "Acme", None) is ClaimResult.SUCCESS
    assert await registry.claim(known, "Other", None) is ClaimResult.CLAIMED
    claimed = await registry.device("d")
    assert await registry.customer_of(claimed.device) == "Acme"
    assert await registry.unclaim(claimed)
    assert await registry.customer_of((await registry.device("d")).device) is None
    assert await registry.claim(known, "Acme", Secret("wrong")) is ClaimResult.FAILURE


async def test_presence_is_asked_for_many(registry, store, clock, known, new_fleet):
    """A device that is connected is online and listed so; one that never came has no presence."""
    node = await store.enter_node(clock())
    here = PresenceUpdate(active_at=clock(), online=True, connected_at=clock())
    await store.save_presence(node, {known.device.id: here}, clock())
    await registry.add_device(await registry.profile("fleet"), "never")
    never = (await registry.device("never")).device
    found = await registry.presence([known.device, never])
    assert found[known.device.id].online
    assert never.id not in found
    assert [one.device.name for one in await registry.devices(online=True)] == ["d"]
    assert await registry.presence([]) == {}


async def test_a_device_is_found_by_its_number(registry, known):
    """The number is that device's alone."""
    assert (await registry.device_numbered(known.device.id)).name == "d"
    assert await registry.device_numbered(known.device.id + 1) is None
