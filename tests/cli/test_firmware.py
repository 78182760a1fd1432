"""`gatehouse firmware`."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Reading

CONTENT = bytes(range(256)) * 40
ADD = ("firmware", "add")
V1 = ("--title", "valve", "--version", "1")


@pytest.fixture
def shelf(shell: Any) -> Any:
    """A shell with two devices and a file `v.bin`."""
    (shell.folder / "v.bin").write_bytes(CONTENT)
    shell.ok("device", "add", "d1", "d2")
    return shell


def contents(shell: Any) -> list[Path]:
    return sorted((shell.folder / "data" / "packages").glob("*"))


def shared(shell: Any, name: str) -> dict[str, Any]:
    found = shell.json("device", "attributes", "show", name, "--scope", "shared")
    return {one["key"]: one["value"] for one in found}


def test_a_file_is_kept_with_its_checksum(shelf: Any) -> None:
    """The copy is the file, for this user alone, and `show` tells what devices check."""
    added = shelf.json(*ADD, "v.bin", *V1)

    assert (added["size"], added["file_name"]) == (len(CONTENT), "v.bin")
    assert added["checksum"] == hashlib.sha256(CONTENT).hexdigest()
    (kept,) = contents(shelf)
    assert kept.read_bytes() == CONTENT
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert shelf.json("firmware", "show", "valve", "1") == added | {"profiles": []}
    assert "valve" in shelf.ok("firmware", "list")


def test_a_title_and_version_exist_once(shelf: Any) -> None:
    """The second of the same kind is refused and leaves no copy; software is another kind."""
    shelf.ok(*ADD, "v.bin", *V1)
    (shelf.folder / "v.bin").write_bytes(b"other")

    again = shelf(*ADD, "v.bin", *V1)
    assert again.exit_code == 1
    assert "another version" in again.stderr
    assert len(contents(shelf)) == 1
    shelf.ok(*ADD, "v.bin", *V1, "--software", "--checksum-algorithm", "md5")
    kinds = [(one["kind"], one["checksum"]) for one in shelf.json("firmware", "list")]
    assert ("software", hashlib.md5(b"other").hexdigest()) in kinds


def test_a_url_stands_for_a_file(shelf: Any) -> None:
    """Nothing is copied, and devices are told the address."""
    url = "https://cdn.example.com/v.bin"
    shelf.ok(*ADD, *V1, "--url", url)
    assert contents(shelf) == []
    shelf.ok("firmware", "assign", "valve", "1", "--device", "d1")
    assert shared(shelf, "d1") == {
        "fw_title": "valve",
        "fw_version": "1",
        "fw_tag": "valve 1",
        "fw_url": url,
    }


def test_an_assignment_is_told_by_attributes(shelf: Any) -> None:
    """A device has its profile's package unless it has its own, and again when that is gone."""
    shelf.ok(*ADD, "v.bin", *V1)
    shelf.ok(*ADD, "v.bin", "--title", "valve", "--version", "2")
    shelf.ok("firmware", "assign", "valve", "1", "--profile", "demo")
    shelf.ok("firmware", "assign", "valve", "2", "--device", "d1")

    assert [shared(shelf, name)["fw_version"] for name in ("d1", "d2")] == ["2", "1"]
    assert shelf.json("firmware", "show", "valve", "1")["profiles"] == ["demo"]
    assert "`valve 2`" in shelf.ok("firmware", "unassign", "--device", "d1")
    assert shared(shelf, "d1")["fw_version"] == "1"
    assert shelf("firmware", "unassign", "--device", "d1").exit_code == 1


def test_what_is_assigned_stays(shelf: Any) -> None:
    """A package is removed when nobody is to run it, and its content with the last that has it."""
    shelf.ok(*ADD, "v.bin", *V1)
    shelf.ok(*ADD, "v.bin", "--title", "valve", "--version", "2")
    shelf.ok("firmware", "assign", "valve", "1", "--profile", "demo")

    refused = shelf("firmware", "remove", "valve", "1")
    assert refused.exit_code == 1
    assert "firmware unassign" in refused.stderr
    shelf.ok("firmware", "remove", "valve", "2")
    assert len(contents(shelf)) == 1
    shelf.ok("firmware", "unassign", "--profile", "demo")
    shelf.ok("firmware", "remove", "valve", "1")
    assert contents(shelf) == []
    assert shelf.json("firmware", "list") == []


async def test_a_rollout_is_counted_by_what_devices_say(shelf: Any) -> None:
    """`status` groups devices by what is assigned, what they run and how far they came."""
    await asyncio.to_thread(shelf.ok, *ADD, "v.bin", *V1)
    await asyncio.to_thread(shelf.ok, "firmware", "assign", "valve", "1", "--profile", "demo")
    async with shelf.inside() as inside:
        said = {"current_fw_title": "valve", "current_fw_version": "1", "fw_state": "UPDATED"}
        readings = [Reading(1, *one) for one in said.items()]
        await inside.store.save_readings(await inside.device("d1"), readings)

    rows = await asyncio.to_thread(shelf.json, "firmware", "status", "--profile", "demo")
    assert sorted(rows, key=lambda one: one["state"]) == [
        {"assigned": "valve 1", "current": "-", "state": "-", "devices": 1},
        {"assigned": "valve 1", "current": "valve 1", "state": "UPDATED", "devices": 1},
    ]
    assert "UPDATED" in await asyncio.to_thread(shelf.ok, "firmware", "status")


def test_a_wrong_name_gets_the_nearest(shelf: Any) -> None:
    """The sentence asks whether another was meant."""
    shelf.ok(*ADD, "v.bin", *V1)
    result = shelf("firmware", "assign", "valve", "11", "--device", "d1")
    assert result.exit_code == 1
    assert "Did you mean `valve 1`?" in result.stderr


@pytest.mark.parametrize(
    ("args", "status"),
    [
        ((*ADD, *V1), 2),
        ((*ADD, "v.bin", *V1, "--url", "https://example.com/v"), 2),
        ((*ADD, *V1, "--url", "example.com/v"), 2),
        ((*ADD, "v.bin", "--title", " ", "--version", "1"), 2),
        ((*ADD, "v.bin", "--title", "a\x1bb", "--version", "1"), 2),
        ((*ADD, "missing.bin", *V1), 1),
        ((*ADD, "empty.bin", *V1), 1),
        (("firmware", "assign", "valve", "1"), 2),
        (("firmware", "assign", "valve", "1", "--device", "d1", "--profile", "demo"), 2),
    ],
)
def test_what_cannot_be_done_is_told(shelf: Any, args: tuple[str, ...], status: int) -> None:
    """Nothing is added by a command that is refused."""
    (shelf.folder / "empty.bin").touch()
    result = shelf(*args)
    assert result.exit_code == status, result.output
    assert result.stderr
    assert shelf.json("firmware", "list") == []
    assert contents(shelf) == []


def test_a_store_without_a_folder_says_where_to_name_one(shelf: Any) -> None:
    """A database in memory has nothing beside it."""
    result = shelf(*ADD, "v.bin", *V1, GATEHOUSE_STORE_URL="sqlite::memory:")
    assert result.exit_code == 1
    assert "GATEHOUSE_PACKAGES_DIR" in result.stderr


async def test_ctrl_c_ends_a_copy_and_leaves_nothing(tmp_path: Path) -> None:
    """A copy that is cancelled stops with its next piece, and its draft is gone."""
    from gateway.cli.package_files import take_in
    from gateway.config import load_config
    from gateway.core.model import Package, PackageKind

    source, folder = tmp_path / "large.bin", tmp_path / "packages"
    with source.open("wb") as file:
        file.truncate(2**30)
    config = load_config(None, {"GATEHOUSE_PACKAGES_DIR": str(folder)})
    package = Package(kind=PackageKind.FIRMWARE, title="v", version="1")
    work = asyncio.create_task(take_in(config, package, source))
    async with asyncio.timeout(10):
        while not list(folder.glob("*")):
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        while list(folder.glob("*")):
            await asyncio.sleep(0.01)
