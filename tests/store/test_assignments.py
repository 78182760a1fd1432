"""Packages and the attributes that announce them; attributes set by people."""

from __future__ import annotations

import pytest

from gateway.core.errors import ConfigError
from gateway.core.model import (
    PROVISIONED,
    AttributesChange,
    AttributeScope,
    AttributesSelection,
    ChecksumAlgorithm,
    Download,
    EventKind,
    NoticeKind,
    Package,
    PackageKind,
    Provisioned,
    ProvisionType,
)

pytestmark = pytest.mark.every_database

FW, SW = PackageKind.FIRMWARE, PackageKind.SOFTWARE
SHARED, SERVER = AttributeScope.SHARED, AttributeScope.SERVER
ALL = AttributesSelection(client=())


@pytest.fixture
def save(registrar, event):
    def make(version, kind=FW, **fields):
        given = {"size": 5, "checksum": "ab", "file": "0" * 64, "created_at": 3} | fields
        package = Package(kind=kind, title="app", version=version, **given)
        return registrar.save_package(package, event(EventKind.PACKAGE_CREATE))

    return make


@pytest.fixture
def assign(registrar, event):
    def make(package, kind=FW, **target):
        number = None if package is None else package.id
        told = event(EventKind.PACKAGE_ASSIGN)
        return registrar.assign_package(kind, number, told, **target)

    return make


async def test_packages_are_unique_and_kept_while_assigned(registrar, device, save, assign, event):
    """Kind, title and version name a package; what somebody runs is not removed."""
    one = await save("1", tag="t", url="", algorithm=ChecksumAlgorithm.MURMUR3_128)
    assert await save("1") is None
    other = await save("1", SW)
    assert await registrar.packages() == [one, other]
    await assign(one, device_id=device.id)
    gone = event(EventKind.PACKAGE_REMOVE)
    assert not await registrar.remove_package(one.id, gone)
    assert await registrar.remove_package(other.id, gone)
    await assign(None, device_id=device.id)
    assert await registrar.remove_package(one.id, gone)
    assert await registrar.packages() == []
    with pytest.raises(ConfigError):
        await assign(one, device_id=device.id)
    with pytest.raises(ConfigError):
        await assign(await save("2", SW), kind=FW, profile_id=device.profile_id)


async def test_a_devices_own_package_stands_above_its_profiles(
    store, registrar, device, save, assign
):
    """And what is taken back falls to the profile's again."""
    one, two = await save("1"), await save("2")
    assert await store.package_for(device, FW) is None
    await assign(one, profile_id=device.profile_id)
    assert await store.package_for(device, FW) == one
    await assign(two, device_id=device.id)
    assert await store.package_for(device, FW) == two
    assert await store.package_for(device, SW) is None
    assert await registrar.assigned(FW, profile_id=device.profile_id) == one
    assert await registrar.assigned(FW, device_id=device.id) == two
    found = await store.attributes(device, ALL)
    assert found.shared == two.attributes()
    await assign(None, device_id=device.id)
    assert await store.package_for(device, FW) == one
    assert await registrar.assigned(FW, device_id=device.id) is None


async def test_packages_announce_themselves_as_attributes(
    store, registrar, device, save, assign, event, clock
):
    """A stored attribute gives way to the package's of the same name; others stand beside them."""
    stored = AttributesChange({"fw_title": "stored", "rate": 1, "fw_url": "stored"})
    await registrar.change_attributes(device.id, SHARED, stored, event())
    package = await save("1")
    await assign(package, device_id=device.id)
    expected = {**stored.values, **package.attributes()}
    assert (await store.attributes(device, ALL)).shared == expected
    some = AttributesSelection(client=(), shared=("fw_title", "fw_size", "rate", "sw_title"))
    assert (await store.attributes(device, some)).shared == {
        "fw_title": "app",
        "fw_size": 5,
        "rate": 1,
    }
    listed = await registrar.device_attributes(device.id)
    shown = {one.key: one.value for one in listed if one.scope is SHARED}
    assert shown == expected
    assert {one.updated_at for one in listed if one.key == "fw_title"} == {clock.now}


async def test_devices_are_told_what_they_are_to_run(store, device, save, assign):
    """The notice has the attributes that are new, and the names of those that are no more."""
    begin = await store.last_notice()
    file, url = await save("1"), await save("2", url="http://example.net/fw")
    await assign(file, device_id=device.id)
    await assign(url, device_id=device.id)
    await assign(None, device_id=device.id)
    await assign(None, device_id=device.id)
    first, second, third = await store.notices(begin, 10)
    assert (first.kind, first.device_id) == (NoticeKind.PACKAGE, device.id)
    assert first.change == AttributesChange(file.attributes())
    assert second.change.values == url.attributes()
    assert set(second.change.deleted) == {"fw_size", "fw_checksum", "fw_checksum_algorithm"}
    assert third.change.values == {}
    assert set(third.change.deleted) == {"fw_title", "fw_version", "fw_tag", "fw_url"}


async def test_what_a_package_hid_is_seen_again(store, registrar, device, save, assign, event):
    """A stored attribute changes unseen under a package, and is told when the package goes."""
    await assign(await save("1"), device_id=device.id)
    begin = await store.last_notice()
    change = AttributesChange({"fw_title": "stored"})
    await registrar.change_attributes(device.id, SHARED, change, event())
    assert await store.last_notice() == begin
    await assign(None, device_id=device.id)
    told = (await store.notices(begin, 10))[0].change
    assert told.values == {"fw_title": "stored"}
    assert "fw_title" not in told.deleted


async def test_a_profiles_package_is_not_told_to_who_has_its_own(
    store, new_fleet, registrar, save, assign
):
    """One notice for the whole profile; one for each other device as soon as some differ."""
    fleet = await new_fleet()
    own, others = await fleet.waiting("own"), [await fleet.waiting(f"d{n}") for n in range(3)]
    one, two = await save("1"), await save("2")
    begin = await store.last_notice()
    await assign(one, profile_id=fleet.profile.id)
    await assign(two, device_id=own.id)
    await assign(two, profile_id=fleet.profile.id)
    whole, canary, *rest = await store.notices(begin, 10)
    assert (whole.profile_id, whole.device_id) == (fleet.profile.id, None)
    assert canary.device_id == own.id
    assert [notice.device_id for notice in rest] == [device.id for device in others]
    assert {notice.kind for notice in rest} == {NoticeKind.PACKAGE}
    assert all(notice.change.values == two.attributes() for notice in rest)
    assert await store.last_notice() == rest[-1].seq


async def test_downloads_are_kept_by_kind(store, registrar, device, save):
    """Of one kind the newest stands, whatever order they come in."""
    package = await save("1")
    first = Download(kind=FW, package_id=package.id, sent=1, at=1)
    later = Download(kind=FW, package_id=package.id, sent=9, at=2)
    other = Download(kind=SW, package_id=7, sent=3, at=1)
    await store.save_downloads({device.id: [later]})
    await store.writer.settled()
    await store.save_downloads({device.id: [first, other], 99: [first]})
    await store.writer.settled()
    assert await registrar.downloads(device.id) == [later, other]
    assert await registrar.downloads(99) == []


# ── attributes set by people ──────────────────────────────────────────────────────────────────


async def test_the_provision_state_is_a_server_attribute(store, registrar, new_fleet, event):
    """It is shown when set, blocks or arms the device when written, and re-arms when deleted."""
    fleet = await new_fleet(ProvisionType.CHECK_PRE_PROVISIONED_DEVICES, name="check")
    device = await fleet.waiting("m")

    async def shown():
        listed = await registrar.device_attributes(device.id)
        return [(one.scope, one.key, one.value) for one in listed]

    async def change(**fields):
        return await registrar.change_attributes(
            device.id, SERVER, AttributesChange(**fields), event()
        )

    async def claim():
        return await store.claim_device(fleet.profile, "m", event(EventKind.DEVICE_PROVISION))

    assert await shown() == []
    assert isinstance(await claim(), Provisioned)
    assert await shown() == [(SERVER, "provisionState", PROVISIONED)]
    assert await change(deleted=("provisionState",)) == AttributesChange({}, ("provisionState",))
    assert await change(deleted=("provisionState",)) == AttributesChange()
    assert isinstance(await claim(), Provisioned)
    await change(values={"provisionState": "blocked", "k": 1})
    assert await shown() == [(SERVER, "k", 1), (SERVER, "provisionState", "blocked")]
    assert not isinstance(await claim(), Provisioned)
    await change(values={"provisionState": ""})
    assert isinstance(await claim(), Provisioned)


async def test_all_devices_of_a_profile_at_once(store, registrar, new_fleet, event, told):
    """Set and deleted for each, with one notice and one event; other profiles are left alone."""
    fleet, other = await new_fleet(), await new_fleet(name="other")
    devices = [await fleet.waiting(f"d{n}") for n in range(5)]
    stranger = await other.waiting("s")
    begin, number = await store.last_notice(), fleet.profile.id

    async def change(scope, **fields):
        return await registrar.change_profile_attributes(
            number, scope, AttributesChange(**fields), event()
        )

    assert await change(SHARED, values={"a": 1, "b": "x"}) == 5
    assert await change(SHARED, values={"a": 2.5}, deleted=("b", "never")) == 5
    for device in devices:
        assert (await store.attributes(device, ALL)).shared == {"a": 2.5}
    assert (await store.attributes(stranger, ALL)).shared == {}
    first, second = await store.notices(begin, 10)
    assert (first.profile_id, first.device_id) == (number, None)
    assert second.change == AttributesChange({"a": 2.5}, ("b", "never"))
    assert len(await told(EventKind.DEVICE_ATTRIBUTES)) == 2
    assert await change(SERVER, values={"provisionState": "blocked"}) == 5
    states = [
        one.device.provision_state
        for one in await registrar.devices(after_id=0, limit=9, profile_id=number, text="")
    ]
    assert states == ["blocked"] * 5
    assert (await registrar.find_device("s")).device.provision_state is None
    assert await registrar.change_profile_attributes(99, SHARED, AttributesChange(), event()) == 0
