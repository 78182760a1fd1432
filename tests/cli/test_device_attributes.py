"""`gatehouse device attributes`."""

from __future__ import annotations

from typing import Any

import pytest

SET = ("device", "attributes", "set")


@pytest.fixture
def lamps(shell: Any) -> Any:
    """A shell whose store has three devices of the profile `demo`."""
    shell.ok("device", "add", "--profile", "demo", "l1", "l2", "set")
    return shell


def attributes(shell: Any, name: str, *args: str) -> dict[str, Any]:
    found = shell.json("device", "attributes", "show", name, *args)
    return {f"{one['scope']} {one['key']}": one["value"] for one in found}


def test_what_was_set_is_shown_with_its_type(lamps: Any) -> None:
    """Values keep their types through the store; the short form shows the same."""
    told = lamps.ok(*SET, "l1", "interval=30", "place=Kitchen 1", 'o={"a":[1]}', "on=true")

    assert "set 4 shared attributes" in told
    assert attributes(lamps, "l1") == {
        "shared interval": 30,
        "shared o": {"a": [1]},
        "shared on": True,
        "shared place": "Kitchen 1",
    }
    assert lamps.json("device", "attributes", "l1") == lamps.json(
        "device", "attributes", "show", "l1"
    )
    assert "Kitchen 1" in lamps.ok("device", "attributes", "l1")


def test_scopes_are_kept_apart(lamps: Any) -> None:
    """A server attribute is none of the shared ones, and --scope shows one scope."""
    lamps.ok(*SET, "l1", "a=1")
    lamps.ok(*SET, "l1", "--scope", "server", "a=2")

    assert attributes(lamps, "l1") == {"shared a": 1, "server a": 2}
    assert attributes(lamps, "l1", "--scope", "server") == {"server a": 2}
    lamps.ok("device", "attributes", "delete", "l1", "a", "--scope", "server")
    assert attributes(lamps, "l1") == {"shared a": 1}


def test_a_device_may_be_called_like_a_command(lamps: Any) -> None:
    """The long forms reach a device whose name is a command's."""
    lamps.ok(*SET, "set", "a=1")
    assert attributes(lamps, "set") == {"shared a": 1}


def test_many_are_set_from_a_file(lamps: Any) -> None:
    """--json takes an object from a file or standard input; words beside it go before it."""
    (lamps.folder / "s.json").write_text('{"a": 1, "b": "x"}')
    lamps.ok(*SET, "l1", "--json", "s.json", "b=y")
    assert attributes(lamps, "l1") == {"shared a": 1, "shared b": "y"}

    result = lamps(*SET, "l2", "--json", "-", input='{"c": 1.5}')
    assert result.exit_code == 0, result.output
    assert attributes(lamps, "l2") == {"shared c": 1.5}


def test_what_was_not_there_cannot_be_deleted(lamps: Any) -> None:
    """Deleting tells what was missing, and fails when all of it was."""
    lamps.ok(*SET, "l1", "a=1")

    some = lamps("device", "attributes", "delete", "l1", "a", "b")
    assert some.exit_code == 0
    assert "no shared attribute `b`" in some.stderr
    assert lamps("device", "attributes", "delete", "l1", "a").exit_code == 1
    assert attributes(lamps, "l1") == {}


def test_all_devices_of_a_profile_are_changed_at_once(lamps: Any) -> None:
    """--profile stands for the name: each device of the profile has the attribute then."""
    told = lamps.ok(*SET, "--profile", "demo", "night=true", "--yes")

    assert "of 3 devices" in told
    for name in ("l1", "l2", "set"):
        assert attributes(lamps, name) == {"shared night": True}
    lamps.ok("device", "attributes", "delete", "--profile", "demo", "night")
    assert attributes(lamps, "l1") == {}


@pytest.mark.parametrize(
    "args",
    [
        ("set",),
        ("set", "l1"),
        ("set", "l1", "a"),
        ("set", "l1", "a=null"),
        ("set", "l1", "--scope", "client", "a=1"),
        ("delete", "l1"),
        ("l1", "extra"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(lamps: Any, args: tuple[str, ...]) -> None:
    """Nothing is changed by a command line that is wrong."""
    assert lamps("device", "attributes", *args).exit_code == 2
    assert attributes(lamps, "l1") == {}


def test_a_change_leaves_an_event_with_keys_and_without_values(lamps: Any) -> None:
    """Who changed what is written down; the values are not."""
    lamps.ok(*SET, "l1", "wifi=topsecret")
    event = lamps.json("device", "events", "l1")[-1]
    assert event["kind"] == "device:attributes"
    assert event["detail"] == {"scope": "SHARED_SCOPE", "set": "wifi"}


def test_the_provision_state_is_a_server_attribute(lamps: Any) -> None:
    """Setting it blocks a device, deleting it lets the device be claimed again."""
    lamps.ok(*SET, "l1", "--scope", "server", "provisionState=stolen")
    assert lamps.json("device", "show", "l1")["provision_state"] == "stolen"
    lamps.ok("device", "attributes", "delete", "l1", "--scope", "server", "provisionState")
    assert lamps.json("device", "show", "l1")["provision_state"] is None
