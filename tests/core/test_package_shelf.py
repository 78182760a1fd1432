"""Packages, kept and assigned by people."""

from __future__ import annotations

import pytest

from gateway.core.model import EventKind, Package, PackageKind

pytestmark = pytest.mark.every_database


@pytest.fixture
async def known(registry, new_fleet):
    fleet = await new_fleet()
    await fleet.waiting("d")
    return await registry.device("d")


async def test_a_package_goes_to_devices_and_profiles(registry, known):
    """A device runs its own assignment, else its profile's; an assigned package stays."""
    kind = PackageKind.FIRMWARE
    url = "https://example.com/v"
    one = await registry.packages.add(Package(kind=kind, title="v", version="1", url=url))
    two = await registry.packages.add(Package(kind=kind, title="v", version="2", url=url))
    assert await registry.packages.add(Package(kind=kind, title="v", version="2", url=url)) is None
    assert {package.id for package in await registry.packages.all()} == {one.id, two.id}
    profile = await registry.profile("fleet")
    await registry.packages.assign(kind, one, profile)
    assert (await registry.packages.for_device(known.device, kind)).id == one.id
    await registry.packages.assign(kind, two, known.device)
    assert (await registry.packages.for_device(known.device, kind)).id == two.id
    assert (await registry.packages.assigned(kind, profile)).id == one.id
    assert not await registry.packages.remove(two)
    await registry.packages.assign(kind, None, known.device)
    [event] = await registry.last_events(limit=1)
    assert (event.kind, event.subject, event.device_id) == (
        EventKind.PACKAGE_ASSIGN,
        "d",
        known.device.id,
    )
    assert await registry.packages.assigned(kind, known.device) is None
    assert await registry.packages.remove(two)
    assert await registry.packages.downloads(known) == []
