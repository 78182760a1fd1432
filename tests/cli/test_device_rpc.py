"""`gatehouse device rpc` and `device calls`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.clock import now_ms
from gateway.core.feed import Feed
from gateway.core.model import AttributesChange, Device, Peer, RpcCall, Wire
from gateway.core.presence import Attendance
from gateway.core.rpc import Rpc
from gateway.core.sessions import Cause, Sessions

RPC = ("device", "rpc", "d1")


class Lamp:
    """A device that answers every call with its parameters, unless it is told to be silent."""

    def __init__(self, rpc: Rpc, device: Device) -> None:
        self._rpc = rpc
        self._device = device
        self.silent = False
        self.called: list[tuple[str, str]] = []
        self.told: list[AttributesChange] = []
        self._answers: set[asyncio.Task[bool]] = set()

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        self.called.append((call.method, call.params))
        delivered()
        if call.two_way and not self.silent:
            answer = f'{{"got":  {call.params}}}'
            task = asyncio.ensure_future(self._rpc.answered(self._device, request_id, answer))
            self._answers.add(task)
        return True

    def attributes_changed(self, change: AttributesChange) -> None:
        self.told.append(change)

    def profile_changed(self) -> None:
        raise AssertionError("nobody changed the profile")

    def end(self, cause: Cause) -> None:
        raise AssertionError(cause)


@asynccontextmanager
async def house(shell: Any, *, listening: bool = True) -> AsyncIterator[Lamp]:
    """A gateway without wires on the shell's store, to which the device `d1` is connected."""
    async with shell.inside() as inside:
        attendance = Attendance(inside.store, now_ms)
        sessions = Sessions(attendance)
        rpc = Rpc(sessions, inside.store, now_ms)
        feed = Feed(inside.store, sessions, rpc)
        await feed.begin()
        await attendance.enter()
        device = await inside.device("d1")
        lamp = Lamp(rpc, device)
        peer = Peer(Wire.MQTT, "192.0.2.7:50123")
        sessions.open(device, peer, lamp, wants_attributes=True, wants_calls=listening)
        await attendance.write(everything=True)
        work = asyncio.create_task(feed.run())
        try:
            yield lamp
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await rpc.stop()


@pytest.fixture
async def lamps(shell: Any) -> Any:
    await asyncio.to_thread(shell.ok, "device", "add", "d1", "d2")
    return shell


async def run(shell: Any, *args: str, **more: Any) -> Any:
    """The command beside the gateway, which has this loop."""
    return await asyncio.to_thread(shell, *args, **more)


async def test_the_answer_is_printed_as_the_device_wrote_it(lamps: Any) -> None:
    """A two-way call reaches the device with its parameters; a pipe gets the exact text."""
    async with house(lamps) as lamp:
        result = await run(lamps, *RPC, "setLamp", '{"on": true}')

    assert result.exit_code == 0, result.output
    assert result.stdout == '{"got":  {"on": true}}\n'
    assert lamp.called == [("setLamp", '{"on": true}')]


async def test_parameters_come_from_standard_input(lamps: Any) -> None:
    """- reads them, and --json tells the whole call."""
    async with house(lamps):
        result = await run(lamps, *RPC, "m", "-", "--json", input="[1, 2]\n")

    told = json.loads(result.stdout)
    assert (told["state"], told["params"]) == ("SUCCESSFUL", [1, 2])
    assert told["response"] == {"got": [1, 2]}


async def test_a_one_way_call_ends_when_it_left(lamps: Any) -> None:
    """--oneway waits for no answer and prints none."""
    async with house(lamps) as lamp:
        result = await run(lamps, *RPC, "reboot", "--oneway")

    assert (result.exit_code, result.stdout) == (0, "")
    assert lamp.called == [("reboot", "{}")]


async def test_a_silent_device_is_waited_for_as_long_as_said(lamps: Any) -> None:
    """Without an answer the status is 1, and the sentence names the time and what to try."""
    async with house(lamps) as lamp:
        lamp.silent = True
        result = await run(lamps, *RPC, "m", "--timeout", "300ms")

    assert result.exit_code == 1
    assert "did not answer within 300ms" in result.stderr
    assert "--oneway" in result.stderr


async def test_a_device_that_is_not_there_is_told_at_once(lamps: Any) -> None:
    """The call of a device without a session fails, with when it was last seen."""
    async with house(lamps):
        result = await run(lamps, "device", "rpc", "d2", "m")

    assert result.exit_code == 1
    assert "`d2` is not connected" in result.stderr
    assert "never connected" in result.stderr


async def test_a_device_that_listens_to_no_calls_is_told_apart(lamps: Any) -> None:
    """One that is connected and did not subscribe gets another advice."""
    async with house(lamps, listening=False):
        result = await run(lamps, *RPC, "m")

    assert result.exit_code == 1
    assert "listens to no calls" in result.stderr


def test_without_a_gateway_nobody_takes_the_call(shell: Any) -> None:
    """The sentence says to start one."""
    shell.ok("device", "add", "d1")
    result = shell(*RPC, "m", "--timeout", "100ms")
    assert result.exit_code == 1
    assert "gatehouse serve" in result.stderr


async def test_a_persistent_call_waits_in_the_store(lamps: Any) -> None:
    """It is stored and told by its number; `calls` lists it, and --wait sees its end."""
    stored = await run(lamps, *RPC, "set", "60", "--persistent", "--expires", "7d")
    assert stored.exit_code == 0
    number, state = stored.stdout.split()
    assert state == "QUEUED"
    listed = json.loads((await run(lamps, "device", "calls", "d1", "--json")).stdout)
    assert [(one["uuid"], one["state"]) for one in listed] == [(number, "QUEUED")]
    assert listed[0]["expires_at"] - listed[0]["created_at"] == 7 * 86_400_000

    async with house(lamps):
        waited = await run(lamps, *RPC, "set", "61", "--persistent", "--wait")

    assert waited.exit_code == 0, waited.output
    assert waited.stdout == '{"got":  61}\n'
    table = (await run(lamps, "device", "calls", "d1")).stdout
    assert "SUCCESSFUL" in table
    assert number in table


async def test_a_change_of_shared_attributes_reaches_the_device(lamps: Any) -> None:
    """What a command sets or deletes is told to the session within moments."""
    async with house(lamps) as lamp:
        await run(lamps, "device", "attributes", "set", "d1", "a=1", "--scope", "server")
        await run(lamps, "device", "attributes", "set", "d1", "b=2")
        await run(lamps, "device", "attributes", "delete", "d1", "b")
        async with asyncio.timeout(5):
            while len(lamp.told) < 2:
                await asyncio.sleep(0.02)

    assert lamp.told == [AttributesChange({"b": 2}), AttributesChange({}, ("b",))]


@pytest.mark.parametrize(
    "args",
    [
        ("m", "{on:true}"),
        ("m", "--wait"),
        ("m", "--expires", "1h"),
        ("m", "--retries", "3"),
        ("m", "--persistent", "--timeout", "5s"),
        ("m", "--timeout", "5"),
        ("m" * 256,),
        ("m", '"' + "x" * 65_536 + '"'),
    ],
)
def test_what_cannot_be_called_is_a_usage_error(shell: Any, args: tuple[str, ...]) -> None:
    """Nothing is stored for a command line that is wrong; parameters get a hint to quote them."""
    shell.ok("device", "add", "d1")
    result = shell(*RPC, *args)
    assert result.exit_code == 2
    assert shell.json("device", "calls", "d1") == []
    if "{on:true}" in args:
        assert "single quotes" in result.stderr


def test_how_long_a_call_lasts_is_configured(shell: Any) -> None:
    """Without --timeout the setting counts."""
    shell.ok("device", "add", "d1")
    result = shell("device", "rpc", "d1", "blink", GATEHOUSE_RPC_TIMEOUT_S="0.1")
    assert result.exit_code == 1
    call = shell.json("device", "calls", "d1")[0]
    assert call["expires_at"] - call["created_at"] == 100
