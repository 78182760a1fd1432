"""`gatehouse group`."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def fleet(shell: Any) -> Any:
    """A shell whose store has three devices."""
    shell.ok("device", "add", "a", "b", "c")
    return shell


def groups(shell: Any) -> dict[str, int]:
    return {one["name"]: one["devices"] for one in shell.json("group", "list")}


def test_a_group_is_made_by_its_first_device(fleet: Any) -> None:
    """Named by name or by UUID, and twice is once; a device may be in several."""
    uuid = fleet.json("device", "show", "b")["uuid"]
    fleet.ok("group", "add", "cellar", "a", uuid, "a")
    fleet.ok("group", "add", "roof", "a")
    assert groups(fleet) == {"cellar": 2, "roof": 1}
    assert fleet.json("group", "show", "cellar")["members"] == ["a", "b"]
    assert "cellar" in fleet.ok("group", "list")
    assert "demo" in fleet.ok("group", "show", "cellar")


def test_a_wrong_device_leaves_everything_as_it_is(fleet: Any) -> None:
    """The others are not put into the group, and the nearest name is told."""
    result = fleet("group", "add", "cellar", "a", "nobody")
    assert result.exit_code == 1
    assert "there is no device" in result.output
    assert groups(fleet) == {}


def test_a_group_without_a_name_is_refused(fleet: Any) -> None:
    """A name of spaces or with control characters makes no group."""
    for name in (" ", "a\nb"):
        assert fleet("group", "add", name, "a").exit_code == 2
    assert groups(fleet) == {}


def test_devices_are_taken_out(fleet: Any) -> None:
    """Those that are in it; when none is, that is said."""
    fleet.ok("group", "add", "cellar", "a", "b")
    assert "`a`" in fleet.ok("group", "remove", "cellar", "a", "c")
    assert groups(fleet) == {"cellar": 1}
    assert fleet("group", "remove", "cellar", "a").exit_code == 1


def test_a_group_is_removed_when_confirmed(fleet: Any) -> None:
    """One with devices wants --yes where nobody can answer; the devices stay."""
    fleet.ok("group", "add", "cellar", "a")
    assert fleet("group", "remove", "cellar").exit_code == 2
    fleet.ok("group", "remove", "cellar", "--yes")
    assert groups(fleet) == {}
    assert fleet.json("device", "show", "a")["name"] == "a"


def test_a_group_that_is_not_there_has_a_near_one(fleet: Any) -> None:
    """The nearest name is asked for, or where the names are."""
    fleet.ok("group", "add", "cellar", "a")
    result = fleet("group", "show", "celar")
    assert result.exit_code == 1
    assert "Did you mean `cellar`?" in result.output
    assert "group list" in fleet("group", "show", "zzzz").output
