"""Devices for people: adding, changing, credentials, and who may."""

from __future__ import annotations

import asyncio

import pytest
from inventory_ground import caused

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid
from gateway.core.model import (
    AccessToken,
    ClaimResult,
    DeviceDraft,
    EventKind,
    MqttBasic,
    NameConflict,
    NoticeKind,
    Permission,
    Secret,
    Suffix,
)

pytestmark = pytest.mark.every_database


# ── adding ────────────────────────────────────────────────────────────────────────────────────


async def test_a_device_is_added_and_waits(ground, inventory, store, events):
    """It has the default profile, a fresh token, what was said of it, an event by its author."""
    record = await ground.add("d", label="Hall", info='{"a":1}', gateway=True)
    assert (record.device.name, record.label, record.info) == ("d", "Hall", '{"a":1}')
    assert (record.device.gateway, record.device.provision_state) == (True, None)
    assert (record.profile_name, record.device.type, record.version) == ("default", "default", 1)
    assert len(record.profile_uuid) == 36
    held = await inventory.credentials(ground.root, record)
    assert (await store.find_credentials(held.credentials.id)).device.id == record.device.id
    assert await inventory.find(ground.root, record.device.uuid) == record
    assert await inventory.find_named(ground.root, "d") == record
    (event,) = await events(EventKind.DEVICE_CREATE)
    assert (event.subject, event.device_id, event.peer.actor) == ("d", record.device.id, "tester")


async def test_a_profile_is_found_or_made_by_name(ground, inventory, events):
    """The second device of a type shares the profile that was made for the first."""
    one, two = (
        await ground.add("a", profile_name="pump"),
        await ground.add("b", profile_name="pump"),
    )
    assert one.device.profile_id == two.device.profile_id
    assert one.profile_name == one.device.type == "pump"
    assert [event.subject for event in await events(EventKind.PROFILE_CREATE)] == ["pump"]
    three = await ground.add("c", profile_id=one.device.profile_id)
    assert three.profile_name == "pump"


async def test_a_profile_is_made_only_by_who_may(ground, inventory):
    """Without PRODUCT_EDIT a new type is refused, an existing one is not."""
    some = ground.admin(ground.root.organisation, 7, Permission.ORG_DEVICES_CREATE)
    with pytest.raises(Invalid, match="may not make one"):
        await ground.add("d", some, profile_name="pump")
    await ground.add("a", profile_name="pump")
    assert (await ground.add("d", some, profile_name="pump")).profile_name == "pump"


async def test_of_many_with_one_name_one_is_added(ground, inventory):
    """The others hear that the name is taken, and leave nothing behind."""
    many = [ground.add("d") for _ in range(10)]
    results = await asyncio.gather(*many, return_exceptions=True)
    refused = [one for one in results if isinstance(one, Conflict)]
    assert [one.cause for one in refused] == [Cause.NAME_TAKEN] * 9


async def test_a_refused_device_makes_no_profile(ground, inventory, events):
    """A conflict undoes all of its transaction, the profile and the groups too."""
    await ground.add("d")
    with caused(Cause.NAME_TAKEN):
        await ground.add("d", profile_name="new", groups=("g",))
    assert "new" not in [event.subject for event in await events(EventKind.PROFILE_CREATE)]
    assert await inventory.groups(ground.root) == []


async def test_credentials_are_one_devices_alone(ground, inventory):
    """A token that another device has is refused, and the name stays free."""
    token = AccessToken(Secret("the-token-of-another"))
    await ground.add("a", credentials=token)
    with caused(Cause.CREDENTIALS_TAKEN):
        await ground.add("b", credentials=token)
    assert await inventory.find_named(ground.root, "b") is None


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "a\nb", "<b>", "x" * 256, "a{{b}}"])
async def test_a_name_that_cannot_be_is_invalid(ground, name):
    """The sentence is for the person; nothing reaches the store."""
    with pytest.raises(Invalid):
        await ground.add(name)


async def test_a_taken_name_is_counted_on(ground, inventory):
    """INCREMENTAL takes the lowest free number; what merely looks like one is passed over."""
    for name in ("d", "d_2", "d_x"):
        await ground.add(name)

    async def again():
        draft = DeviceDraft(name="d")
        unique = NameConflict.UNIQUIFY
        made = await inventory.create(
            ground.root, draft, conflict=unique, suffix=Suffix.INCREMENTAL
        )
        return made.device.name

    assert [await again() for _ in range(3)] == ["d_1", "d_3", "d_4"]


async def test_a_taken_name_gets_a_random_end(ground, inventory, events):
    """RANDOM adds the separator and six signs; a name that is free is taken as it is."""
    draft, unique = DeviceDraft(name="d"), NameConflict.UNIQUIFY
    first = await inventory.create(ground.root, draft, conflict=unique, separator="-")
    second = await inventory.create(ground.root, draft, conflict=unique, separator="-")
    assert first.device.name == "d"
    assert second.device.name.startswith("d-")
    assert len(second.device.name) == 8
    assert second.device.name in [one.subject for one in await events(EventKind.DEVICE_CREATE)]


# ── changing ──────────────────────────────────────────────────────────────────────────────────


async def test_a_draft_changes_what_it_names(ground, inventory, events):
    """What is UNSET stays; the version grows; the event names the fields, not their values."""
    old = await ground.add("d", label="Hall", info='{"a":1}')
    new = await inventory.update(ground.root, old, DeviceDraft(name="d", label="Secret hall"))
    assert (new.label, new.info, new.version) == ("Secret hall", '{"a":1}', 2)
    (event,) = await events(EventKind.DEVICE_UPDATE)
    assert event.detail == {"changed": "label"}


async def test_a_version_admits_one_change(ground, inventory):
    """Of many with the same version one is made; the others hear VERSION."""
    old = await ground.add("d")
    drafts = [DeviceDraft(name="d", label=f"l{n}", version=1) for n in range(8)]
    results = await asyncio.gather(
        *(inventory.update(ground.root, old, draft) for draft in drafts), return_exceptions=True
    )
    causes = [one.cause for one in results if isinstance(one, Conflict)]
    assert causes == [Cause.VERSION] * 7


async def test_a_name_of_another_is_refused(ground, inventory):
    """Renaming to a taken name changes nothing; to a free one it does."""
    old = await ground.add("a")
    await ground.add("b")
    with caused(Cause.NAME_TAKEN):
        await inventory.update(ground.root, old, DeviceDraft(name="b", label="x"))
    assert await inventory.find(ground.root, old.device.uuid) == old
    assert (await inventory.update(ground.root, old, DeviceDraft(name="c"))).device.name == "c"


async def test_another_profile_changes_the_type(ground, inventory, store):
    """Its sessions end by a notice, since they were of another kind; its token stays good."""
    old = await ground.add("d")
    token = (await inventory.credentials(ground.root, old)).credentials.id
    before = await store.last_notice()
    new = await inventory.update(ground.root, old, DeviceDraft(name="d", profile_name="pump"))
    assert (new.device.type, new.profile_name) == ("pump", "pump")
    (notice,) = await store.notices(before, 10)
    known = await store.find_credentials(token)
    assert (notice.kind, notice.generation) == (NoticeKind.LOGIN, known.device.credentials_row)
    assert known.device.credentials_row == old.device.credentials_row + 1


async def test_a_label_disturbs_no_session(ground, inventory, store):
    """Nobody is told, and the same credentials given again are no change."""
    old = await ground.add("d")
    held = await inventory.credentials(ground.root, old)
    before = await store.last_notice()
    draft = DeviceDraft(name="d", label="x", credentials=held.credentials)
    await inventory.update(ground.root, old, draft)
    assert await store.notices(before, 10) == []
    assert await inventory.credentials(ground.root, old) == held


async def test_credentials_change_with_the_device(ground, inventory, store):
    """The older login is gone in the same transaction."""
    old = await ground.add("d")
    before = (await inventory.credentials(ground.root, old)).credentials
    fresh = MqttBasic("c", "u", Secret("p"))
    await inventory.update(ground.root, old, DeviceDraft(name="d", credentials=fresh))
    assert (await inventory.credentials(ground.root, old)).credentials == fresh
    assert await store.find_credentials(before.id) is None


async def test_what_is_gone_cannot_be_changed(ground, inventory):
    """Each change of a removed device raises GONE."""
    old = await ground.add("d")
    await inventory.remove(ground.root, old)
    assert await inventory.find(ground.root, old.device.uuid) is None
    for change in (
        inventory.update(ground.root, old, DeviceDraft(name="d")),
        inventory.remove(ground.root, old),
        inventory.credentials(ground.root, old),
        inventory.change_credentials(ground.root, old, AccessToken(Secret("x" * 20))),
        inventory.assign(ground.root, old, None),
        inventory.put_into(ground.root, old, ["g"]),
    ):
        with caused(Cause.GONE):
            await change


# ── credentials ───────────────────────────────────────────────────────────────────────────────


async def test_credentials_have_a_version(ground, inventory, store):
    """It is their generation: with an older one nothing changes, with a new one sessions end."""
    record = await ground.add("d")
    held = await inventory.credentials(ground.root, record)
    fresh = AccessToken(Secret("a-fresh-token-000001"))
    before = await store.last_notice()
    changed = await inventory.change_credentials(
        ground.root, record, fresh, version=held.generation
    )
    assert changed.generation == held.generation + 1
    assert await inventory.credentials(ground.root, record) == changed
    assert [one.kind for one in await store.notices(before, 9)] == [NoticeKind.LOGIN]
    with caused(Cause.VERSION):
        await inventory.change_credentials(
            ground.root, record, AccessToken(Secret("y" * 20)), version=held.generation
        )
    other = await ground.add("e")
    with caused(Cause.CREDENTIALS_TAKEN):
        await inventory.change_credentials(ground.root, other, fresh)


# ── who sees what ─────────────────────────────────────────────────────────────────────────────


async def test_nobody_sees_but_downwards(ground, inventory):
    """A customer's device is seen by it, its parents and the root; for others it is not there."""
    record = await ground.given("d", ground.mill)
    for actor in (ground.root, ground.north, ground.mill):
        assert await inventory.find(actor, record.device.uuid) == record
        assert await inventory.find_named(actor, "d") == record
        assert await inventory.find_numbered(actor, record.device.id) == record
    assert await inventory.find_numbered(ground.south, record.device.id) is None
    assert await inventory.find_numbered(ground.root, 2**31 - 1) is None
    assert await inventory.find(ground.south, record.device.uuid) is None
    assert await inventory.find_named(ground.south, "d") is None
    await ground.add("of the root")
    assert await inventory.find_named(ground.north, "of the root") is None


async def test_a_name_that_begins_alike_is_another_organisation(ground, inventory):
    """Paths are compared whole: /1/2/ does not reach /1/20/."""
    organisations = [await ground.below(ground.root, f"o{n}") for n in range(20)]
    near = next(
        one for one in organisations if one.path.startswith(ground.north.organisation.path[:-1])
    )
    record = await ground.given("d", ground.admin(near, 9))
    assert await inventory.find(ground.north, record.device.uuid) is None


async def test_one_sees_ones_own_devices(ground, inventory):
    """With OWN_DEVICES_VIEW alone those that are one's own, and no other of the organisation."""
    key = Secret("the-claim-key")
    record = await ground.add("d")
    await ground.given("other", ground.mill)
    person = ground.admin(
        ground.mill.organisation, 50, Permission.OWN_DEVICES_VIEW, Permission.DEVICES_CLAIM
    )
    await ground.offer(record, key)
    assert (await inventory.claim(person, "d", key))[0] is ClaimResult.SUCCESS
    assert (await inventory.find_named(person, "d")).owner_id == 50
    assert (await inventory.find_numbered(person, record.device.id)).owner_id == 50
    assert await inventory.find_named(person, "other") is None
    with pytest.raises(Forbidden):
        await inventory.update(
            person, await inventory.find_named(person, "d"), DeviceDraft(name="d")
        )


async def test_what_went_out_of_sight_is_gone(ground, inventory):
    """A record that was read before it went to another customer admits to nothing."""
    record = await ground.given("d", ground.north)
    await inventory.assign(ground.root, record, ground.south.organisation)
    for change in (
        inventory.update(ground.north, record, DeviceDraft(name="x")),
        inventory.remove(ground.north, record),
        inventory.change_credentials(ground.north, record, AccessToken(Secret("z" * 20))),
        inventory.assign(ground.north, record, ground.mill.organisation),
    ):
        with caused(Cause.GONE):
            await change


async def test_permissions_are_asked_for(ground, inventory):
    """Who may look alone is forbidden every change, by the name of what is lacking."""
    record = await ground.add("d")
    looker = ground.admin(ground.root.organisation, 5, Permission.ORG_DEVICES_VIEW)
    for change, lacking in (
        (ground.add("e", looker), "ORG_DEVICES_CREATE"),
        (inventory.update(looker, record, DeviceDraft(name="d")), "ORG_DEVICES_EDIT"),
        (inventory.remove(looker, record), "ORG_DEVICES_DELETE"),
        (inventory.credentials(looker, record), "SET_AUTH_TOKEN"),
        (
            inventory.change_credentials(looker, record, AccessToken(Secret("t" * 20))),
            "SET_AUTH_TOKEN",
        ),
        (inventory.assign(looker, record, None), "ORG_DEVICES_SHARE"),
        (inventory.claim(looker, "d", Secret("")), "DEVICES_CLAIM"),
        (inventory.reclaim(looker, "d"), "DEVICES_CLAIM"),
        (inventory.put_into(looker, record, ["g"]), "ORG_DEVICES_EDIT"),
        (inventory.take_out(looker, record, "g"), "ORG_DEVICES_EDIT"),
        (inventory.remove_group(looker, "g"), "ORG_DEVICES_EDIT"),
    ):
        with pytest.raises(Forbidden, match=lacking):
            await change


async def test_a_customers_devices_have_its_profiles(ground, inventory):
    """What it adds is its own, under its own profile; the root's profiles are not there for it."""
    of_root = await ground.add("a", profile_name="pump")
    own = await ground.add("a", ground.north, profile_name="pump")
    assert own.device.organisation_id == ground.north.organisation.id
    assert own.device.profile_id != of_root.device.profile_id
    with caused(Cause.GONE):
        await ground.add("b", ground.north, profile_id=of_root.device.profile_id)
    with caused(Cause.GONE):
        await ground.add("b", ground.north, customer_id=ground.south.organisation.id)
    with caused(Cause.GONE):
        await ground.add("b", customer_id=1)


async def test_a_customer_keeps_the_profile_of_its_tenant(ground, inventory):
    """Saving what was read names the root's profile: that is no change, another would be."""
    record = await ground.given("d", ground.north, profile_name="pump")
    other = await ground.add("e", profile_name="valve")
    draft = DeviceDraft(name="d", profile_id=record.device.profile_id, label="x")
    assert (await inventory.update(ground.north, record, draft)).label == "x"
    draft = DeviceDraft(name="d", profile_id=other.device.profile_id)
    with pytest.raises(Forbidden):
        await inventory.update(ground.north, record, draft)


async def test_a_customer_cannot_make_a_device_its_own_by_a_profile(ground, inventory):
    """A profile of the customer's, by id or by name, does not take a device from its tenant."""
    record = await ground.given("d", ground.north, profile_name="pump")
    own = await ground.add("e", ground.north, profile_name="ours")
    for wish in ({"profile_id": own.device.profile_id}, {"profile_name": "ours"}):
        with pytest.raises(Forbidden):
            await inventory.update(ground.north, record, DeviceDraft(name="d", **wish))
    for name in ("pump2", "new"):
        with pytest.raises(Forbidden):
            await inventory.update(ground.north, record, DeviceDraft(name="d", profile_name=name))
    await inventory.assign(ground.root, record, None)
    assert await inventory.find(ground.north, record.device.uuid) is None


async def test_a_profile_by_name_is_one_of_those_whose_device_it_is(ground, inventory):
    """An administrator of the root who names a type leaves a customer's own device with it."""
    record = await ground.add("d", ground.north, profile_name="pump")
    await ground.add("e", profile_name="valve")
    changed = await inventory.update(
        ground.root, record, DeviceDraft(name="d", profile_name="valve")
    )
    assert changed.profile_name == "valve"
    assert changed.device.organisation_id == ground.north.organisation.id


@pytest.mark.parametrize("suffix", list(Suffix))
async def test_a_device_is_renamed_to_the_next_free_name(ground, inventory, suffix):
    """UNIQUIFY holds for a change as for a new device: what is free stays as it was asked."""
    await ground.add("d")
    record = await ground.add("e")
    wish = {"conflict": NameConflict.UNIQUIFY, "separator": "-", "suffix": suffix}
    changed = await inventory.update(ground.root, record, DeviceDraft(name="d"), **wish)
    assert changed.device.name.startswith("d-")
    assert len(changed.device.name) == (3 if suffix is Suffix.INCREMENTAL else 8)
    free = await inventory.update(ground.root, changed, DeviceDraft(name="f"), **wish)
    assert free.device.name == "f"


async def test_what_is_kept_is_not_nested_without_end(ground, inventory):
    """A list must be able to write again what each device brought, however it is added."""
    deep = '{"a":' * 101 + "1" + "}" * 101
    with pytest.raises(Invalid, match="too deep"):
        await ground.add("d", info=deep)
    record = await ground.add("d")
    with pytest.raises(Invalid, match="too deep"):
        await inventory.update(ground.root, record, DeviceDraft(name="d", info=deep))
