"""What a profile gives its newborns, what its answers tell besides, and trials, over real wires."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from inside import Gate, NewGate
from wires import GET, WIRES, coap, dotted, http, mqtt, provision

from gateway.core.model import (
    Admission,
    AnswerMembers,
    AttributeScope,
    BirthSettings,
    DeviceProfile,
    Policy,
    ProvisionType,
    Secret,
)
from gateway.core.registry import ProfileDraft
from gateway.settings import StoreSettings

CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
SERVERS = {"mqtts": "mqtts://gate.example:8883", "coap": "coap://gate.example"}
PLAIN = re.compile(
    rb'{"credentialsValue":"[A-Za-z0-9]{20}","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}'
)


async def with_policy(gate: Gate, name: str, policy: Policy) -> None:
    """A profile of that name, open to new and waiting devices."""
    profile = DeviceProfile(
        id=0,
        name=name,
        provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES,
        pre_provision_allowed=True,
        policy=policy,
    )
    key, secret = Secret(f"{name}-key-0001"), Secret(f"{name}-secret-0001")
    await gate.registry.save_profile(ProfileDraft(profile=profile, key=key, secret=secret))
    gate.secrets[name] = f"{name}-secret-0001"


def asked(gate: Gate, name: str, profile: str, **more: Any) -> bytes:
    return json.dumps(gate.request(name, profile=profile, **more)).encode()


async def attributes(gate: Gate, name: str) -> dict[tuple[AttributeScope, str], object]:
    known = await gate.registry.device(name)
    assert known is not None
    return {(one.scope, one.key): one.value for one in await gate.registry.attributes(known)}


async def test_a_newborn_finds_its_settings_when_it_first_asks(gate: Gate) -> None:
    """Shared attributes over each wire, filled in; server ones for people alone; and a hardware
    object becomes the client attribute, also where a profile gives nothing."""
    newborn = BirthSettings(
        shared={"site": "hall-3", "id": "{name}/{hardware.radio.band}", "mqtt_keep_alive_s": 300},
        server={"batch": "{hardware.batch}"},
        customer="Acme {hardware.country}",
        groups=("meters", "{hardware.line}"),
        label="{serial}",
    )
    await with_policy(gate, "born", Policy(newborn=newborn))
    hardware = {"serial": "S-1", "radio": {"band": 868}, "batch": 7, "country": "DE", "line": "L2"}
    told = json.loads(
        await provision(gate.ports, "http", asked(gate, "b1", "born", hardware=hardware))
    )
    token = told["credentialsValue"]
    expected = {"site": "hall-3", "id": "b1/868", "mqtt_keep_alive_s": 300}
    async with http(gate.ports.http) as web:
        reply = await web.ask("GET", f"/api/v1/{token}/attributes?sharedKeys=site,id,batch")
    assert json.loads(reply.body) == {"shared": {"site": "hall-3", "id": "b1/868"}}
    async with coap(gate.ports.coap) as device:
        answer = await device.ask(GET, f"/api/v1/{token}/attributes")
    assert dotted(answer) == "2.05"
    assert json.loads(answer.payload)["shared"] == expected
    async with mqtt(gate.ports.mqtt) as session:
        assert await session.connect(username=token) == 0
        await session.subscribe("v1/devices/me/attributes/response/+")
        await session.deliver("v1/devices/me/attributes/request/1", b'{"sharedKeys":"id"}')
        assert json.loads((await session.published()).payload) == {"shared": {"id": "b1/868"}}
    seen = await attributes(gate, "b1")
    assert seen[AttributeScope.SERVER, "batch"] == "7"
    known = await gate.registry.device("b1")
    assert known is not None
    assert await gate.registry.customer_of(known.device) == "Acme DE"
    assert await gate.registry.label(known) == "S-1"
    await provision(gate.ports, "coap", asked(gate, "plain", "create", hardware={"a": 1}))
    kept = (await attributes(gate, "plain"))[AttributeScope.CLIENT, "hardwareInfo"]
    assert json.loads(kept.text) == {"a": 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize("wire", WIRES)
async def test_an_answer_tells_what_its_profile_lets_it(gate: Gate, wire: str) -> None:
    """After ThingsBoard's members, in one order; none of them where nothing is switched on."""
    every = AnswerMembers(
        device_id=True, device_name=True, server_time=True, servers=SERVERS, ca_certificate=CA
    )
    await with_policy(gate, "all", Policy(answer=every))
    await with_policy(gate, "name", Policy(answer=AnswerMembers(device_name=True)))
    body = await provision(gate.ports, wire, asked(gate, f"a-{wire}", "all"))
    begin, comma, _ = body.partition(b',"deviceId"')
    assert comma
    assert PLAIN.fullmatch(begin + b"}")
    told = json.loads(body)
    known = await gate.registry.device(f"a-{wire}")
    assert known is not None
    assert abs(told.pop("serverTime") - known.device.created_at) < 60_000
    assert {name: told[name] for name in list(told)[3:]} == {
        "deviceId": known.device.uuid,
        "deviceName": f"a-{wire}",
        "servers": SERVERS,
        "caCertificate": CA,
    }
    if wire != "http":
        await in_protobuf_too(gate, wire)
    named = await provision(gate.ports, wire, asked(gate, f"n-{wire}", "name"))
    assert named.endswith(b'"status":"SUCCESS","deviceName":"n-%b"}' % wire.encode())
    assert PLAIN.fullmatch(await provision(gate.ports, wire, asked(gate, f"p-{wire}", "create")))


def text(number: int, value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return bytes((number << 3 | 2, len(raw))) + raw


async def in_protobuf_too(gate: Gate, wire: str) -> None:
    """In a field of ours, 1004, behind what ThingsBoard's message has."""
    pair = text(1, "all-key-0001") + text(2, "all-secret-0001")
    body = text(1, f"b-{wire}") + text(3, pair)
    told, _, members = (await provision(gate.ports, wire, body)).partition(b"\xe2\x3e")
    assert told.startswith(b"\x08\x01\x1a\x14")
    assert json.loads(members[members.index(b"{") :])["deviceName"] == f"b-{wire}"


def dumped(path: Path) -> dict[str, list[str]]:
    """All that is stored, but for the gateway's own heartbeat."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        names = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' "
            "AND name NOT IN ('node', 'device_search')"  # an index whose rows stand in others
        ).fetchall()
        return {
            name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}")))
            for (name,) in names
        }
    finally:
        connection.close()


async def test_a_dry_run_tells_the_future_and_leaves_no_trace(
    new_gate: NewGate, tmp_path: Path
) -> None:
    """On each wire: what would become of new, waiting, taken and unwelcome devices; the database
    stays as it was, to the last value. To a stranger nothing is told."""
    path = tmp_path / "gate.db"
    gate = await new_gate(store=StoreSettings(url=f"sqlite:{path}"))
    newborn = BirthSettings(customer="Acme", groups=("g",), shared={"a": 1})
    await with_policy(gate, "tried", Policy(newborn=newborn, admission=Admission(allow=("t-*",))))
    await gate.add("t-waits", "tried")
    await provision(gate.ports, "http", asked(gate, "t-taken", "tried"))
    await gate.gateway.store.writer.settled()
    before = dumped(path)
    for wire in WIRES:
        for name, status, extra in (
            ("t-new", "SUCCESS", {"claims": False, "credentialsType": "ACCESS_TOKEN"}),
            ("t-waits", "SUCCESS", {"claims": True, "credentialsType": "ACCESS_TOKEN"}),
            ("t-taken", "FAILURE", {"code": "already_provisioned"}),
            ("other", "FAILURE", {"code": "not_on_allow_list"}),
        ):
            request = asked(gate, name, "tried", dryRun=True)
            told = json.loads(await provision(gate.ports, wire, request))
            steps, _ = told.pop("steps"), told.pop("errorMsg", None)
            assert len(steps) > 1
            assert told == {
                "status": status, "dryRun": True, "profile": "tried", "deviceName": name, **extra
            }  # fmt: skip
    await asyncio.sleep(0.1)
    assert dumped(path) == before

    stranger = json.loads(asked(gate, "t-new", "tried", dryRun="true"))
    stranger["provisionDeviceSecret"] = "wrong-secret"
    told = json.loads(await provision(gate.ports, "http", json.dumps(stranger).encode()))
    assert told == {
        "errorMsg": "Provision data was not found!", "status": "NOT_FOUND", "dryRun": True
    }  # fmt: skip
    born = await provision(gate.ports, "mqtt5", asked(gate, "t-new", "tried", dryRun=False))
    assert PLAIN.fullmatch(born)
