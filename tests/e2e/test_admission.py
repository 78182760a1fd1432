"""Who may come is decided alike on every wire, and ThingsBoard's answer tells nobody why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from inside import Gate
from wires import WIRES, knows, provisioned

from gateway.clock import now_ms
from gateway.core.admission_entries import EntryKind, entry_of
from gateway.core.admission_lists import AdmissionLists
from gateway.core.model import (
    Actor,
    Admission,
    DeviceProfile,
    EventKind,
    Organisation,
    Peer,
    Permission,
    Policy,
    ProvisionType,
    Secret,
    Wire,
)
from gateway.core.registry import ProfileDraft
from gateway.store.sql_admission import SqlAdmission

OPERATOR = Actor(
    peer=Peer(Wire.SHELL, "ann", actor="ann"),
    organisation=Organisation(id=1, uuid="root", name="root", path="/1/"),
    permissions=frozenset(Permission),
)
REFUSED = {"status": "FAILURE", "errorMsg": "Failed to provision device!"}


async def add_profile(gate: Gate, name: str, **rules: Any) -> None:
    policy = Policy(admission=Admission(**rules))
    kind = ProvisionType.ALLOW_CREATE_NEW_DEVICES
    profile = DeviceProfile(id=0, name=name, provision_type=kind, policy=policy)
    gate.secrets[name] = f"{name}-secret-0001"
    pair = {"key": Secret(f"{name}-key-0001"), "secret": Secret(gate.secrets[name])}
    await gate.registry.save_profile(ProfileDraft(profile=profile, **pair))


async def put(gate: Gate, profile: str, kind: str, *values: str, denied: bool = False) -> None:
    lists = AdmissionLists(SqlAdmission(gate.gateway.store), clock=now_ms)
    entries = [entry_of(EntryKind(kind), value) for value in values]
    await lists.add(OPERATOR, await gate.profile(profile), entries, denied=denied)


async def reasons(gate: Gate) -> list[str]:
    await gate.gateway.store.writer.settled()
    events = await gate.registry.last_events(limit=1000)
    return [one.reason for one in events if one.kind is EventKind.DEVICE_PROVISION and one.reason]


async def test_lists_and_patterns_decide_on_every_wire(gate: Gate) -> None:
    """Who is listed is born, by name, serial or MAC; who is not, or is denied, is refused."""
    await add_profile(
        gate, "listed", allow_list=True, deny=("*-test",), networks=("127.0.0.0/8", "::1/128")
    )
    for wire in WIRES:
        await put(gate, "listed", "name", f"WM-{wire}", f"{wire}-test", f"out-{wire}")
        await put(gate, "listed", "serial", f"SN-{wire}")
        await put(gate, "listed", "name", f"out-{wire}", denied=True)

        async def ask(name: str, wire: str = wire, **more: Any) -> dict[str, Any]:
            asked = gate.request(name, profile="listed", **more)
            return await provisioned(gate.ports, wire, asked)

        born = await ask(f"WM-{wire}")
        assert born["status"] == "SUCCESS"
        assert await knows(gate.ports, born["credentialsValue"])
        by_serial = await ask(f"any-{wire}", hardware={"serial": f"sn-{wire}", "mac": None})
        assert by_serial["status"] == "SUCCESS"
        for name in (f"stranger-{wire}", f"{wire}-test", f"out-{wire}"):
            assert await ask(name) == REFUSED
    expected = ["not_on_allow_list", "on_deny_list", "on_deny_list"] * len(WIRES)
    assert await reasons(gate) == expected


async def test_a_running_gateway_follows_a_deny_list_within_a_second(gate: Gate) -> None:
    """Also of a profile that has no rules at all."""
    first = await provisioned(gate.ports, "http", gate.request("d0"))
    assert first["status"] == "SUCCESS"
    await put(gate, "create", "mac", "aa:bb:cc:dd:ee:ff", denied=True)
    await asyncio.sleep(1.1)
    hardware = {"mac": "AABBCCDDEEFF"}
    asked = gate.request("d1", hardware=hardware)
    assert await provisioned(gate.ports, "http", asked) == REFUSED
    assert (await provisioned(gate.ports, "coap", gate.request("d2")))["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"networks": ("192.0.2.0/24",)}, "network_not_allowed"),
        ({"closes_at": 1}, "outside_hours"),
        ({"allow": ("WM-*",)}, "not_on_allow_list"),
    ],
)
async def test_a_rule_that_does_not_hold_refuses(
    gate: Gate, rules: dict[str, Any], reason: str
) -> None:
    """And the operator finds out why."""
    await add_profile(gate, "ruled", **rules)
    asked = gate.request("d", profile="ruled")
    assert await provisioned(gate.ports, "http", asked) == REFUSED
    assert await reasons(gate) == [reason]


async def test_of_fifty_that_come_at_once_no_more_are_born_than_may(gate: Gate) -> None:
    """Over all wires together; a place that is given up is taken by the next."""
    await add_profile(gate, "small", max_devices=20)

    async def ask(number: int) -> str:
        asked = gate.request(f"d{number}", profile="small")
        wire = WIRES[number % len(WIRES)]
        return str((await provisioned(gate.ports, wire, asked))["status"])

    told = await asyncio.gather(*map(ask, range(50)))
    assert (told.count("SUCCESS"), told.count("FAILURE")) == (20, 30)
    counts = await gate.registry.devices_per_profile()
    assert counts[(await gate.profile("small")).id] == 20
    assert await reasons(gate) == ["profile_full"] * 30
    gone = await gate.registry.device(f"d{told.index('SUCCESS')}")
    assert gone is not None
    assert await gate.registry.remove_device(gone)
    assert sorted([await ask(100), await ask(101)]) == ["FAILURE", "SUCCESS"]
