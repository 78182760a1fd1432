"""`gatehouse device reprovision`, `reconfigure`, `reboot` and `redirect`."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.clock import now_ms
from gateway.core.feed import Feed
from gateway.core.model import AttributesChange, Order, Peer, RpcCall, Wire
from gateway.core.presence import Attendance
from gateway.core.rpc import Rpc
from gateway.core.sessions import Cause, Sessions

TEMPLATE = "TMPLwater0001"
PROFILE = f"""
name = "Water Meter"
provision_type = "DISABLED"

[blynk]
template_id = "{TEMPLATE}"
"""
TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")


@pytest.fixture
def meter(shell: Any) -> Any:
    """A shell with `meter-7` of a profile that is a template, and `plain` of one that is none."""
    (shell.folder / "profiles" / "water.toml").write_text(PROFILE)
    for profile, device in (("Water Meter", "meter-7"), ("demo", "plain")):
        shell.ok("device", "add", "--profile", profile, device)
    return shell


class Obeying:
    """A connection with words for orders."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[Order, str]] = asyncio.Queue()

    def obey(self, order: Order, argument: str) -> None:
        self.told.put_nowait((order, argument))

    def call(self, request_id: int, call: RpcCall, delivered: Any) -> bool:
        raise AssertionError("it has words for orders")

    def attributes_changed(self, change: AttributesChange) -> None:
        raise AssertionError("nobody changed an attribute")

    def profile_changed(self) -> None:
        raise AssertionError("nobody changed the profile")

    def end(self, cause: Cause) -> None:
        raise AssertionError(cause)


@asynccontextmanager
async def connected(shell: Any, name: str) -> AsyncIterator[Obeying]:
    """A gateway without wires on the shell's store, to which the device is connected."""
    async with shell.inside() as inside:
        attendance = Attendance(inside.store, now_ms)
        sessions = Sessions(attendance)
        rpc = Rpc(sessions, inside.store, now_ms)
        feed = Feed(inside.store, sessions, rpc)
        await feed.begin()
        await attendance.enter()
        obeying = Obeying()
        peer = Peer(Wire.MQTT, "192.0.2.7:50123")
        sessions.open(await inside.device(name), peer, obeying)
        await attendance.write(everything=True)
        work = asyncio.create_task(feed.run())
        try:
            yield obeying
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await rpc.stop()


# ── a new token ───────────────────────────────────────────────────────────────────────────────


def credentials(shell: Any, name: str) -> dict[str, str]:
    found: dict[str, str] = shell.json("device", "show", name, "--reveal")["credentials"]
    return found


def test_a_new_token_is_printed_once_and_the_old_one_stays(meter: Any) -> None:
    """Standard output is the token; what the device has is as it was until the new one is used."""
    before = credentials(meter, "meter-7")
    result = meter("device", "reprovision", "meter-7")
    assert result.exit_code == 0, result.output
    token = result.stdout.strip()
    assert TOKEN.fullmatch(token)
    assert token not in result.stderr
    assert "the old token works until the new one is first used" in result.stderr
    assert TEMPLATE in result.stderr
    assert credentials(meter, "meter-7") == before
    (ticket,) = meter.json("ticket", "list", "--device", "meter-7")
    assert (ticket["kind"], ticket["device"]) == ("rotate", "meter-7")
    story = meter.ok("explain", "meter-7")
    assert f"Ticket {ticket['ticket']} has a new token for it" in story
    for told in (story, meter.ok("audit"), json.dumps(meter.json("device", "events"))):
        assert token not in told


def test_only_the_newest_new_token_counts(meter: Any) -> None:
    """A second one replaces the first, and the story tells so."""
    first, second = (meter.json("device", "reprovision", "meter-7") for _ in range(2))
    assert first["device_id"] == second["device_id"]
    assert [one["ticket"] for one in meter.json("ticket", "list")] == [second["ticket"]]
    assert f"replaces {first['ticket']}" in meter.ok("explain", "meter-7")


def test_the_old_token_may_end_at_once(meter: Any) -> None:
    """With `revoke_on_issue` the new token is what the device has from then on."""
    result = meter("device", "reprovision", "meter-7", GATEHOUSE_BLYNK_REVOKE_ON_ISSUE="true")
    assert result.exit_code == 0, result.output
    assert "the old token ended" in result.stderr
    assert credentials(meter, "meter-7")["token"] == result.stdout.strip()
    assert meter.json("ticket", "list") == []
    assert "the old one ended at once" in meter.ok("explain", "meter-7")


def test_a_new_token_may_go_to_a_file(meter: Any) -> None:
    """That only its owner reads; the screen has none of it, nor has JSON."""
    told = meter.json("device", "reprovision", "meter-7", "--output", "meter.token", "--days", "1")
    path = meter.folder / "meter.token"
    assert TOKEN.fullmatch(path.read_text().strip())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "token" not in told
    assert told["old_token"] == "until_used"
    assert 0 < told["expires_at"] - now_ms() <= 86_400_000
    assert meter("device", "reprovision", "meter-7", "--output", "meter.token").exit_code == 1


def test_a_device_without_a_template_is_warned_of(meter: Any) -> None:
    """Its token can be used by nobody, which is told."""
    result = meter("device", "reprovision", "plain")
    assert result.exit_code == 0
    assert "is no template" in result.stderr


@pytest.mark.parametrize("command", ["reprovision", "reconfigure", "reboot"])
def test_a_device_that_is_not_there(meter: Any, command: str) -> None:
    """The nearest name is asked for."""
    result = meter("device", command, "meter-8")
    assert result.exit_code == 1
    assert "Did you mean `meter-7`?" in result.stderr


# ── orders ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("args", "order"),
    [
        (("reconfigure", "meter-7"), (Order.RECONFIGURE, "")),
        (("reboot", "meter-7"), (Order.REBOOT, "")),
        (("redirect", "meter-7", "mqtts://b.test:8883"), (Order.REDIRECT, "mqtts://b.test:8883")),
        (("redirect", "meter-7", "tcp://b.test:8442"), (Order.REDIRECT, "tcp://b.test:8442")),
    ],
)
async def test_a_device_that_is_online_hears_it(
    meter: Any, args: tuple[str, ...], order: tuple[Order, str]
) -> None:
    """The connection is told within a moment, and the command says that somebody was."""
    async with connected(meter, "meter-7") as device:
        told = await asyncio.to_thread(meter.json, "device", *args)
        assert (told["order"], told["online"]) == (args[0], True)
        assert await asyncio.wait_for(device.told.get(), 5) == order
        assert "is online, and is told to" in await asyncio.to_thread(meter.ok, "device", *args)
    story = await asyncio.to_thread(meter.ok, "explain", "meter-7")
    assert f"It was told to {args[0]}" in story


def test_a_device_that_is_away_is_no_failure(meter: Any) -> None:
    """Exit status 0, and a sentence that says so."""
    result = meter("device", "reconfigure", "meter-7")
    assert result.exit_code == 0
    assert "is offline, so nobody was told" in result.stdout
    assert meter.json("device", "reboot", "meter-7") == {
        "device": "meter-7",
        "device_id": 1,
        "order": "reboot",
        "online": False,
    }
    assert "but it was away and did not hear of it" in meter.ok("explain", "meter-7")


async def test_nothing_is_kept_for_a_device_that_is_away(meter: Any) -> None:
    """One that comes back hears only what is said from then on."""
    await asyncio.to_thread(meter.ok, "device", "reconfigure", "meter-7")
    async with connected(meter, "meter-7") as device:
        await asyncio.to_thread(meter.ok, "device", "reboot", "meter-7")
        assert await asyncio.wait_for(device.told.get(), 5) == (Order.REBOOT, "")
        assert device.told.empty()


@pytest.mark.parametrize(
    "address",
    [
        "http://b.test",
        "b.test:8883",
        "mqtts://",
        "mqtts://b.test:99999",
        "mqtts://b.test:0",
        "mqtts://user:secret@b.test",
        "mqtts://b.test/" + "x" * 300,
        "mqtt://b.test/\n",
        "mqtt://[::1",
    ],
)
def test_a_device_is_sent_to_addresses_alone(meter: Any, address: str) -> None:
    """What no device can connect to is a usage error, and no order."""
    result = meter("device", "redirect", "meter-7", address)
    assert result.exit_code == 2, result.output
    kinds = [one["kind"] for one in meter.json("device", "events", "meter-7")]
    assert "device:order" not in kinds


def test_secrets_of_an_address_are_not_repeated(meter: Any) -> None:
    """A password in an address is refused without showing it, and is in no event."""
    result = meter("device", "redirect", "meter-7", "mqtts://user:hunter2@b.test")
    assert "hunter2" not in result.output
    assert "hunter2" not in json.dumps(meter.json("device", "events"))
