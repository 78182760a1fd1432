"""Packages: which one a device runs, its content, and how far each device came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.core import packages as under_test
from gateway.core.errors import Overloaded, StoreUnavailable
from gateway.core.model import ChecksumAlgorithm, Device, Download, Package, PackageKind
from gateway.core.packages import Packages
from gateway.core.registry import Registry
from gateway.store.packages import PackageStore
from gateway.store.sql_store import SqlStore

CONTENT = bytes(range(100))
FW, SW = PackageKind.FIRMWARE, PackageKind.SOFTWARE


class Scene:
    """A profile with devices, and packages on the shelf."""

    def __init__(self, store: SqlStore, registry: Registry, fleet: Any, folder: Path) -> None:
        self.store = store
        self.registry = registry
        self.fleet = fleet
        self.files = PackageStore(folder / "packages")
        self._source = folder / "source.bin"

    async def package(self, version: str = "1", kind: PackageKind = FW) -> Package:
        self._source.write_bytes(CONTENT)
        added = self.files.add(self._source, ChecksumAlgorithm.SHA256)
        package = await self.registry.packages.add(
            Package(kind=kind, title="app", version=version, size=added.size, file=added.file)
        )
        assert package is not None
        return package

    async def device(self, name: str = "d") -> Device:
        device: Device = await self.fleet.waiting(name)
        return device

    async def downloads(self, name: str = "d") -> list[Download]:
        known = await self.registry.device(name)
        assert known is not None
        await self.registry.rearm_device(known)  # a decision behind those not waited for
        return await self.registry.packages.downloads(known)


@pytest.fixture
async def scene(
    store: SqlStore, registry: Registry, new_fleet: Callable[..., Any], tmp_path: Path
) -> Any:
    made = Scene(store, registry, await new_fleet(), tmp_path)
    yield made
    made.files.close()


@pytest.fixture
def packages(scene: Scene, clock: Any) -> Packages:
    return Packages(scene.store, scene.files, clock)


async def test_a_devices_own_package_or_its_profiles(scene: Scene, packages: Packages) -> None:
    """The device's own assignment stands above that of its profile, for each kind apart."""
    device = await scene.device()
    one, two = await scene.package("1"), await scene.package("2")
    assert await packages.for_device(device, FW) is None
    await scene.registry.packages.assign(FW, one, scene.fleet.profile)
    assert await packages.for_device(device, FW) == one
    await scene.registry.packages.assign(FW, two, device)
    assert await packages.for_device(device, FW) == two
    assert await packages.for_device(device, SW) is None


async def test_a_content_is_read_from_where_it_is_asked_for(
    scene: Scene, packages: Packages
) -> None:
    """Fewer bytes at the end, none behind it; two contents have two tags of 8 bytes."""
    package = await scene.package()
    source = packages.open(package)
    assert source is not None
    assert source.size == 100
    assert await source.read(10, 20) == CONTENT[10:30]
    assert await source.read(90, 20) == CONTENT[90:]
    assert await source.read(100, 20) == b""
    assert source.etag == bytes.fromhex(package.file[:16])


async def test_what_is_not_kept_here_is_not_opened(scene: Scene, clock: Any) -> None:
    """A package with a `url`, one without content, and any without a folder."""
    package = await scene.package()
    packages = Packages(scene.store, scene.files, clock)
    elsewhere = Package(kind=FW, title="app", version="9", url="https://example.com/x")
    assert packages.open(elsewhere) is None
    assert packages.open(Package(kind=FW, title="app", version="9")) is None
    assert Packages(scene.store, None, clock).open(package) is None


async def test_progress_is_the_furthest_byte_and_the_latest_time(
    scene: Scene, packages: Packages, clock: Any
) -> None:
    """Chunks may come in any order; what was written once is not written again."""
    device, package = await scene.device(), await scene.package()
    for sent in (10, 30, 20):
        clock.now += 1
        packages.note(device, package, sent)
    await packages.write()
    first = Download(kind=FW, package_id=package.id, sent=30, at=clock.now)
    assert await scene.downloads() == [first]
    clock.now += 1
    packages.note(device, package, 40)
    await packages.write()
    assert [(one.sent, one.at) for one in await scene.downloads()] == [(40, clock.now)]


async def test_of_one_kind_the_package_asked_for_last_stands(
    scene: Scene, packages: Packages
) -> None:
    """And firmware does not stand in the way of software."""
    device = await scene.device()
    one, two = await scene.package("1"), await scene.package("2")
    other = await scene.package("1", SW)
    for package, sent in ((one, 10), (two, 5), (other, 7), (one, 20)):
        packages.note(device, package, sent)
    await packages.write()
    found = {done.kind: (done.package_id, done.sent) for done in await scene.downloads()}
    assert found == {FW: (one.id, 20), SW: (other.id, 7)}


async def test_many_devices_are_written_in_parts(
    scene: Scene, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, and none is left behind."""
    monkeypatch.setattr(under_test, "_MOST_PER_WRITE", 2)
    package = await scene.package()
    for number in range(5):
        packages.note(await scene.device(f"d{number}"), package, number + 1)
    await packages.write()
    for number in range(5):
        assert [one.sent for one in await scene.downloads(f"d{number}")] == [number + 1]


@pytest.mark.parametrize("fault", [StoreUnavailable("x"), Overloaded("x")])
async def test_what_could_not_be_written_is_written_later(
    scene: Scene, packages: Packages, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Nothing noted is lost, and what came meanwhile is not either."""
    device, package = await scene.device(), await scene.package()
    packages.note(device, package, 10)
    save = scene.store.save_downloads

    async def fail(_downloads: Mapping[int, Sequence[Download]]) -> None:
        raise fault

    monkeypatch.setattr(scene.store, "save_downloads", fail)
    with pytest.raises(type(fault)):
        await packages.write()

    async def late(downloads: Mapping[int, Sequence[Download]]) -> None:
        await save(downloads)
        packages.note(device, package, 20)  # noted while the older was being written

    monkeypatch.setattr(scene.store, "save_downloads", late)
    await packages.write()
    assert [one.sent for one in await scene.downloads()] == [10]
    monkeypatch.setattr(scene.store, "save_downloads", save)
    await packages.write()
    assert [one.sent for one in await scene.downloads()] == [20]


async def test_only_so_much_is_noted(
    scene: Scene, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device not heard of for the longest time is forgotten."""
    monkeypatch.setattr(under_test, "MOST_NOTED", 2)
    package = await scene.package()
    devices = [await scene.device(f"d{number}") for number in range(3)]
    for device in (devices[0], devices[1], devices[0], devices[2]):
        packages.note(device, package, 10)
    await packages.write()
    for number, count in enumerate((1, 0, 1)):
        assert len(await scene.downloads(f"d{number}")) == count
