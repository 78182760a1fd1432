"""`gatehouse device`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from typing import Any, cast

import pytest

from gateway.cli.adding import Adding, numbered
from gateway.core.model import DeviceProfile, Wire
from gateway.core.registry import Registry
from gateway.simulator import Credentials, Fleet, parse_credentials


@pytest.fixture
def valves(shell: Any, waits: Any) -> Any:
    """A shell whose store has a profile for added devices, `valve`."""
    waits(shell)
    return shell


def names(shell: Any, *args: str) -> list[str]:
    return [one["name"] for one in shell.json("device", "list", *args)]


def test_added_devices_wait_for_their_claim(valves: Any) -> None:
    """A device that was added exists, waits, and has a token that only --reveal shows."""
    assert "added 2" in valves.ok("device", "add", "--profile", "valve", "v1", "v2")

    shown = valves.json("device", "show", "v1", "--reveal")
    token = shown["credentials"]["token"]

    assert shown["provision_state"] is None
    assert shown["profile"] == "valve"
    assert len(token) == 20
    assert token not in valves("device", "show", "v1").output
    assert token not in json.dumps(valves.json("device", "show", "v1"))
    assert "waiting" in valves.ok("device", "show", shown["uuid"])


def test_what_cannot_be_added_is_told_by_line_and_the_rest_is_kept(valves: Any) -> None:
    """A file's bad lines are refused with number and reason; its good ones are in the store."""
    lines = b"\xef\xbb\xbfv1\n# a comment\n\n  v2  # and one\nv1\nbad<b>\n\xff\xfe\nv3\n"

    result = valves("device", "add", "--profile", "valve", "--from-file", "-", input=lines)

    assert result.exit_code == 1
    refused = re.findall(r"^line (\d+): (?:.*): (.+)$", result.stderr, re.MULTILINE)
    assert [number for number, _ in refused] == ["5", "6", "7"]
    assert refused[0][1] == "a device of that name exists already"
    assert "added 3 to profile `valve`, refused 3" in result.stdout
    assert names(valves) == ["v1", "v2", "v3"]


def test_refusals_come_as_json_too(valves: Any) -> None:
    """--json tells the same: how many were added, and every refusal."""
    result = valves("device", "add", "--profile", "valve", "a", "a", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "added": 1,
        "refused": [{"line": 2, "name": "a", "reason": "name_taken"}],
    }


def test_numbered_devices_sort_as_they_were_made(valves: Any) -> None:
    """--count makes names of equal width, from --first on."""
    add = ("device", "add", "--profile", "valve", "--count", "3")
    valves.ok(*add, "--prefix", "b-", "--first", "9")
    valves.ok(*add)

    assert names(valves) == ["b-09", "b-10", "b-11", "valve-1", "valve-2", "valve-3"]


async def test_many_names_share_their_commits(capsys: Any) -> None:
    """Five hundred names at a time are under way at once, never more, and all are added."""
    now = peak = 0

    class Counting:
        async def add_device(self, profile: DeviceProfile, name: str, *, label: str) -> object:
            nonlocal now, peak
            now += 1
            peak = max(peak, now)
            await asyncio.sleep(0)
            now -= 1
            return name

    adding = Adding(cast("Registry", Counting()), DeviceProfile(id=1, name="valve"))
    await adding.run(numbered("v-", 1, 1200), total=1200)

    assert peak == 500
    assert adding.added == 1200


def test_thousands_of_devices_are_added_and_listed(valves: Any) -> None:
    """--count adds them all, and --all lists every one, page after page."""
    valves.ok("device", "add", "--profile", "valve", "--count", "2000")

    listed = valves.ok("device", "list", "--all").splitlines()
    assert len(listed) == 2001
    assert listed[-1].split("\t")[1] == "valve-2000"


def test_ctrl_c_tells_what_was_added(valves: Any) -> None:
    """After Ctrl-C the number that is told is the number of devices in the store."""
    process = valves.start(
        "device", "add", "--profile", "valve", "--count", "1000000", stdout=-1, stderr=-1
    )
    with process:
        deadline = time.monotonic() + 30
        while not names(valves) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)

    told = re.search(r"stopped: added (\d+)", said)
    assert process.returncode == 130
    assert told is not None
    stored = valves.json("profile", "list")
    assert [one["devices"] for one in stored if one["name"] == "valve"] == [int(told[1])]


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("v1", "--count", "2"),
        ("--prefix", "x", "v1"),
        ("--count", "0"),
        ("v1",),  # two profiles, and none named
    ],
)
def test_adding_wants_one_source_and_a_profile(valves: Any, args: tuple[str, ...]) -> None:
    """What is ambiguous is a usage error, and nothing is added."""
    result = valves("device", "add", *args)

    assert result.exit_code == 2
    assert names(valves) == []


def test_the_only_profile_is_the_default(shell: Any) -> None:
    """With one profile there is nothing to choose; a profile that never claims is pointed out."""
    result = shell("device", "add", "d1")

    assert result.exit_code == 0
    assert "lets no waiting device be claimed" in result.stderr
    assert names(shell) == ["d1"]


def test_lists_are_searched_limited_and_paged(valves: Any) -> None:
    """--profile, --search and --limit narrow; what was left out is mentioned; --all is all."""
    valves.ok("device", "add", "--profile", "valve", "--count", "12")
    valves.ok("device", "add", "--profile", "demo", "kitchen")

    limited = valves("device", "list", "--limit", "5", "--json")
    assert len(json.loads(limited.stdout)) == 5
    assert "the first 5" in limited.stderr
    assert names(valves, "--search", "KITCH") == ["kitchen"]
    assert names(valves, "--profile", "demo") == ["kitchen"]
    assert len(names(valves, "--all")) == 13
    assert names(valves, "--all", "--search", "nobody") == []
    assert "kitchen" in valves.ok("device", "list")


def test_removed_devices_are_gone_and_their_events_stay(valves: Any) -> None:
    """Removal names no wrong device, removes all that are named, and is written down."""
    valves.ok("device", "add", "--profile", "valve", "v1", "v2", "v3")

    wrong = valves("device", "remove", "v1", "v22", "--yes")
    assert wrong.exit_code == 1
    assert "Did you mean `v2`?" in wrong.stderr
    assert names(valves) == ["v1", "v2", "v3"]

    assert "removed 2 devices" in valves.ok("device", "remove", "v1", "v2", "v2", "--yes")
    assert names(valves) == ["v3"]
    kinds = [one["kind"] for one in valves.json("device", "events") if one["subject"] == "v1"]
    assert kinds == ["device:create", "device:remove"]


def test_events_are_the_newest_or_those_after_a_number(valves: Any) -> None:
    """Without --after the newest are shown, with it the next ones; a name narrows to its own."""
    valves.ok("device", "add", "--profile", "valve", "--count", "9")
    everything = valves.json("device", "events")

    newest = valves.json("device", "events", "--limit", "3")
    assert newest == everything[-3:]
    after = everything[2]["seq"]
    assert valves.json("device", "events", "--after", str(after), "--limit", "2") == everything[3:5]
    assert [one["subject"] for one in valves.json("device", "events", "valve-4")] == ["valve-4"]
    assert "device:create" in valves.ok("device", "events", "valve-4")


def test_rearming_where_nothing_is_claimed_is_warned_of(shell: Any) -> None:
    """A profile that only creates will not give a device its credentials again; it says so."""
    shell.ok("device", "add", "--profile", "demo", "v1")
    told = shell("device", "rearm", "v1")
    assert "pre_provision_allowed" in told.stderr


def test_a_claimed_device_can_be_rearmed_while_the_server_runs(server: Any) -> None:
    """The server honours adding, claiming and re-arming from its next request on."""
    shell = server.shell
    shell.ok("profile", "add", "valve", "--type", "CHECK_PRE_PROVISIONED_DEVICES")
    shell.ok("device", "add", "--profile", "valve", "v1")
    ask = ("provision", "--profile", "valve", "--device-name", "v1", "--url", server.url("http"))

    first = shell.json(*ask)
    assert shell(*ask).exit_code == 1
    assert shell.json("device", "show", "v1")["provision_state"] == "provisioned"
    shell.ok("device", "rearm", "v1")
    assert shell.json(*ask)["credentialsValue"] == first["credentialsValue"]


async def test_readings_and_events_are_shown(server: Any) -> None:
    """`device show` tells the latest readings and the last events, strangers' text made safe."""
    shell = server.shell
    body = in_thread(shell.ok, "profile", "request", "demo", "--device-name", "seen")
    async with Fleet("127.0.0.1", server.ports) as fleet:
        device = fleet.device(Wire.HTTP)
        given = parse_credentials(await device.provision((await body).encode()))
        assert isinstance(given, Credentials)
        await device.connect(given)
        await device.telemetry(b'{"t":21.5,"on":true,"name":"\\u001b[31mred","o":{"a":[1]}}')
        await device.close()

    shown = await in_thread(shell.json, "device", "show", "seen")
    text = await in_thread(shell.ok, "device", "show", "seen")

    values = {key: one["value"] for key, one in shown["latest"].items()}
    assert values == {"t": 21.5, "on": True, "name": "\x1b[31mred", "o": {"a": [1]}}
    assert [one["kind"] for one in shown["events"]] == ["device:provision"]
    assert "\x1b" not in text
    assert "device:provision" in text


async def in_thread(work: Any, *args: str) -> Any:
    """Commands bring their own event loop, so they run beside the test's."""
    return await asyncio.to_thread(work, *args)


def test_removing_asks_first(valves: Any) -> None:
    """A script must say --yes: without a terminal there is nobody to ask, and nothing goes."""
    valves.ok("device", "add", "--profile", "valve", "v1")
    refused = valves("device", "remove", "v1")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert names(valves) == ["v1"]


def test_rearming_does_not_promise_what_it_denies(valves: Any) -> None:
    """Where a profile lets nobody claim, the last line does not say that each may be claimed."""
    valves.ok("device", "add", "--profile", "valve", "v1")
    valves.ok("device", "add", "--profile", "demo", "d1")
    assert "each may be claimed once" in valves.ok("device", "rearm", "v1")
    assert "1 cannot be claimed" in valves.ok("device", "rearm", "d1")
    assert "the other 1 may be claimed" in valves.ok("device", "rearm", "v1", "d1")


@pytest.mark.parametrize(
    "words",
    [
        ("device", "list"),
        ("device", "show", "d1"),
        ("device", "events"),
        ("device", "remove", "d1", "--yes"),
        ("device", "data", "d1"),
        ("credential", "list"),
        ("firmware", "list"),
    ],
)
def test_looking_where_nothing_is_makes_nothing(shell: Any, words: tuple[str, ...]) -> None:
    """In a folder without a store a command says so, and leaves the folder as it is."""
    result = shell(*words)
    assert result.exit_code == 1
    assert "there is no store" in result.stderr
    assert [path.name for path in shell.folder.iterdir()] == ["profiles"]


def test_making_a_store_is_said(shell: Any) -> None:
    """A command that fills a store makes it, and tells where, once."""
    first = shell("device", "add", "d1")
    assert first.exit_code == 0
    assert "gatehouse.db is not there yet; it is made now" in first.stderr
    assert "made now" not in shell("device", "add", "d2").stderr
    empty = shell(
        "profile", "list", GATEHOUSE_PROFILES_DIR="elsewhere", GATEHOUSE_STORE_URL="sqlite:x/y.db"
    )
    assert empty.exit_code == 1
    assert "there is no store" in empty.stderr
