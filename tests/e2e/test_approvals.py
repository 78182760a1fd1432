"""A newcomer waits for an operator's word, on every wire, and is born once it comes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from inside import Gate
from wires import POST, VERSIONS, WIRES, coap, dotted, http, knows, mqtt

from gateway.core.approvals import ApprovalQuery, Approvals
from gateway.core.model import (
    Actor,
    Admission,
    DeviceProfile,
    Organisation,
    Peer,
    Permission,
    Policy,
    ProvisionType,
    Secret,
    Wire,
)
from gateway.core.registry import ProfileDraft
from gateway.store.sql_approvals import SqlApprovals

OPERATOR = Actor(
    peer=Peer(Wire.SHELL, "ann", actor="ann"),
    organisation=Organisation(id=1, uuid="root", name="root", path="/1/"),
    permissions=frozenset(Permission),
)
WAITS = ProvisionType.CHECK_PRE_PROVISIONED_DEVICES
NONCE = "n" * 16


@pytest.fixture
async def gated(gate: Gate) -> Gate:
    """With the profiles `gated`, open to all an operator approves, and `listed`, for devices that
    were entered before."""
    policy = Policy(admission=Admission(approval=True, approval_backoff_s=2))
    for name, kind in (("gated", ProvisionType.ALLOW_CREATE_NEW_DEVICES), ("listed", WAITS)):
        profile = DeviceProfile(id=0, name=name, provision_type=kind, policy=policy)
        gate.secrets[name] = f"{name}-secret-0001"
        pair = {"key": Secret(f"{name}-key-0001"), "secret": Secret(gate.secrets[name])}
        await gate.registry.save_profile(ProfileDraft(profile=profile, **pair))
    return gate


def queue(gate: Gate) -> Approvals:
    return Approvals(SqlApprovals(gate.gateway.store), clock=lambda: 1_795_219_296_308)


async def waiting(gate: Gate) -> dict[str, int]:
    page = await queue(gate).page(OPERATOR, ApprovalQuery())
    return {one.name: one.id for one in page.data}


async def ask(gate: Gate, wire: str, name: str, **more: Any) -> dict[str, Any]:
    """The answer; one that says to wait says it in the wire's own numbers as well."""
    asked = json.dumps(gate.request(name, **{"profile": "gated", **more})).encode()
    if wire == "http":
        async with http(gate.ports.http) as web:
            reply = await web.ask("POST", "/api/v1/provision", asked)
        body, waits = reply.body, (reply.status, reply.headers.get("retry-after"))
    elif wire == "coap":
        async with coap(gate.ports.coap) as device:
            answer = await device.ask(POST, "/api/v1/provision", asked)
        body, waits = answer.payload, (dotted(answer), str(answer.opt.max_age))
    else:
        async with mqtt(gate.ports.mqtt, VERSIONS[wire]) as session:
            assert await session.connect(username="provision") == 0
            session.publish("/provision/request", asked)
            body, waits = (await session.published()).payload, ()
    told: dict[str, Any] = json.loads(body)
    if waits and "retryAfter" in told:
        assert waits == ({"http": 202, "coap": "5.03"}[wire], str(told["retryAfter"]))
    return told


async def test_a_newcomer_waits_and_is_born_on_every_wire(gated: Gate) -> None:
    """Told to come again, with the wait; approved it is born, denied it is refused."""
    for wire in WIRES:
        told = await ask(gated, wire, f"m-{wire}", nonce=NONCE)
        assert told["status"] == "PENDING"
        assert 2 <= told["retryAfter"] <= 3
        assert "credentialsValue" not in told
        await ask(gated, wire, f"no-{wire}")
    numbers = await waiting(gated)
    assert len(numbers) == 2 * len(WIRES)
    await queue(gated).approve(OPERATOR, [numbers[f"m-{wire}"] for wire in WIRES])
    await queue(gated).deny(OPERATOR, [numbers[f"no-{wire}"] for wire in WIRES])
    for wire in WIRES:
        born = await ask(gated, wire, f"m-{wire}", nonce=NONCE)
        assert born["status"] == "SUCCESS"
        assert await knows(gated.ports, born["credentialsValue"])
        denied = await ask(gated, wire, f"no-{wire}")
        assert (denied["status"], "retryAfter" in denied) == ("FAILURE", False)
        assert (await ask(gated, wire, f"m-{wire}"))["status"] == "FAILURE"
    assert set(await waiting(gated)) == {f"no-{wire}" for wire in WIRES}


async def test_a_yes_is_for_who_asked(gated: Gate) -> None:
    """Another nonce, or none, is told to wait; who asked first is born, over another wire too."""
    await ask(gated, "coap", "m", nonce=NONCE)
    await queue(gated).approve(OPERATOR, list((await waiting(gated)).values()))
    for other in ({}, {"nonce": "x" * 16}):
        assert (await ask(gated, "http", "m", **other))["status"] == "PENDING"
    assert (await ask(gated, "mqtt5", "m", nonce=NONCE))["status"] == "SUCCESS"


async def test_a_device_that_was_entered_waits_too(gated: Gate) -> None:
    """One that was not is refused at once; of many that come together on one yes one is born."""
    await gated.add("entered", "listed")
    assert (await ask(gated, "http", "stranger", profile="listed"))["status"] == "FAILURE"
    assert (await ask(gated, "http", "entered", profile="listed"))["status"] == "PENDING"
    await queue(gated).approve(OPERATOR, list((await waiting(gated)).values()))
    told = await asyncio.gather(
        *(ask(gated, wire, "entered", profile="listed") for wire in ("http", "coap", "mqtt311") * 3)
    )
    statuses = [one["status"] for one in told]
    assert statuses.count("SUCCESS") == 1
    assert await waiting(gated) == {}


async def test_a_no_without_a_profile_that_asks_is_not_heard(gated: Gate) -> None:
    """Devices of a profile that switches nothing on are born as ever."""
    assert (await ask(gated, "http", "m", profile="create"))["status"] == "SUCCESS"
    async with http(gated.ports.http) as web:
        assert (await web.ask("GET", "/api/gatehouse/approvals?pageSize=1&page=0")).status == 401
