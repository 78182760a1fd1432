"""What an operator changes beside a running gateway holds from the next request on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from inside import Gate
from wires import DISCONNECT, WIRES, knows, mqtt, provisioned

from gateway.core.model import Peer, ProvisionType, Secret, Wire
from gateway.core.ports import KnownCredentials
from gateway.core.registry import ProfileDraft, Registry, root_profile
from gateway.opening import open_registry, open_store

FAILURE = {"errorMsg": "Failed to provision device!", "status": "FAILURE"}
NOT_FOUND = {"errorMsg": "Provision data was not found!", "status": "NOT_FOUND"}


@asynccontextmanager
async def beside(gate: Gate) -> AsyncIterator[Registry]:
    """The same database file opened once more, as a command does in its own process."""
    async with open_store(gate.gateway.config, {}) as store:
        yield open_registry(store, Peer(Wire.SHELL, "operator"))


async def known(registry: Registry, name: str) -> KnownCredentials:
    found = await registry.device(name)
    assert found is not None
    return found


async def shell(gate: Gate, *args: str) -> str:
    """Run a `gatehouse` command in a process of its own; what it printed."""
    folder = gate.gateway.config.profiles_dir.parent
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *args),
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent.parent.parent),
            "GATEHOUSE_STORE_URL": gate.gateway.config.store.url,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def statuses(gate: Gate, request: Any) -> set[str]:
    """The status of one request on every wire."""
    answers = [await provisioned(gate.ports, wire, request) for wire in WIRES]
    return {answer["status"] for answer in answers}


async def test_a_rotated_secret_is_honoured_by_the_next_request(gate_on_disk: Gate) -> None:
    """The old secret is NOT_FOUND on every wire at once, and the new one works."""
    gate = gate_on_disk
    assert await statuses(gate, gate.request()) == {"SUCCESS"}
    async with beside(gate) as registry:
        profile = await registry.profile("create")
        assert profile is not None
        for attempt in range(5):
            secret = f"rotated-secret-{attempt}"
            before = gate.request()
            await registry.rotate_secret(profile, secret=Secret(secret))
            await asyncio.sleep(0.02)
            assert await statuses(gate, before) == {"NOT_FOUND"}
            gate.secrets["create"] = secret
            assert await statuses(gate, gate.request()) == {"SUCCESS"}


async def test_a_rotated_key_and_secret_from_the_shell(gate_on_disk: Gate) -> None:
    """`profile rotate-secret` prints a pair that works once the old one no longer does."""
    gate = gate_on_disk
    args = ("profile", "rotate-secret", "create", "--key-too", "--reveal", "--json")
    told = json.loads(await shell(gate, *args))
    pair = {
        "provisionDeviceKey": told["provision_key"],
        "provisionDeviceSecret": told["provision_secret"],
    }
    assert await statuses(gate, gate.request()) == {"NOT_FOUND"}
    assert await statuses(gate, pair) == {"SUCCESS"}


async def test_devices_added_rearmed_and_removed_from_the_shell(gate_on_disk: Gate) -> None:
    """A device waits, is claimed once, once more after `rearm`, and is nobody after `remove`."""
    gate = gate_on_disk
    request = gate.request("meter", profile="check")
    assert await provisioned(gate.ports, "coap", request) == FAILURE
    await shell(gate, "device", "add", "--profile=check", "meter")
    first = await provisioned(gate.ports, "coap", request)
    assert first["status"] == "SUCCESS"
    assert await provisioned(gate.ports, "http", request) == FAILURE
    await shell(gate, "device", "rearm", "meter")
    assert await provisioned(gate.ports, "mqtt311", request) == first
    assert await provisioned(gate.ports, "coap", request) == FAILURE
    await shell(gate, "device", "remove", "--yes", "meter")
    assert not await knows(gate.ports, first["credentialsValue"])
    assert await provisioned(gate.ports, "http", request) == FAILURE


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_a_removed_device_loses_its_session(gate_on_disk: Gate, version: int) -> None:
    """The next thing a removed device says ends its session, unacknowledged; MQTT 5 hears 0x98."""
    gate = gate_on_disk
    token = await gate.add("gone")
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect("c", token) == 0
        await session.deliver("v1/devices/me/telemetry", b'{"n":1}')
        async with beside(gate) as registry:
            assert await registry.remove_device(await known(registry, "gone"))
        session.publish("v1/devices/me/telemetry", b'{"n":2}', 1)
        told = await session.outcome()
    assert told == ([(DISCONNECT, 0x98), (0, 0)] if version == 5 else [(0, 0)])
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect("c", token) != 0


async def test_a_device_born_again_is_another_device(gate_on_disk: Gate) -> None:
    """After removal the name is free; what the first device said does not come back."""
    gate = gate_on_disk
    first = await provisioned(gate.ports, "http", gate.request("phoenix"))
    async with mqtt(gate.ports.mqtt) as session:
        assert await session.connect("c", first["credentialsValue"]) == 0
        await session.deliver("v1/devices/me/telemetry", b'{"n":1}')
        await session.deliver("v1/devices/me/attributes", b'{"a":1}')
    async with beside(gate) as registry:
        await registry.remove_device(await known(registry, "phoenix"))
    second = await provisioned(gate.ports, "mqtt5", gate.request("phoenix"))
    assert second["status"] == "SUCCESS"
    assert second["credentialsValue"] != first["credentialsValue"]
    assert not await knows(gate.ports, first["credentialsValue"])
    assert await gate.readings("phoenix") == {}


async def test_a_profile_switched_off_refuses_the_next_request(gate_on_disk: Gate) -> None:
    """A profile set to DISABLED by another process is NOT_FOUND at once, also for its waiting."""
    gate = gate_on_disk
    await gate.add("waiting")
    disabled = root_profile("check", provision_type=ProvisionType.DISABLED)
    async with beside(gate) as registry:
        assert await registry.save_profile(ProfileDraft(profile=disabled))
    await asyncio.sleep(0.02)
    request = gate.request("waiting", profile="check")
    for wire in WIRES:
        assert await provisioned(gate.ports, wire, request) == NOT_FOUND
