"""A request that is sent again, over any wire and after a restart; and devices that come back."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import certs
import pytest
from inside import Gate, serving
from lines import identity_in
from plant import Plant
from wires import POST as COAP_POST
from wires import WIRES, coap, dotted, http, knows, mqtt, provision

from gateway.core.model import (
    Actor,
    DeviceProfile,
    Organisation,
    Peer,
    Permission,
    Policy,
    ProvisionType,
    Reprovisioning,
    Secret,
    Wire,
)
from gateway.core.registry import ProfileDraft
from gateway.services import open_services

NONCE = "0123456789abcdef"
OPERATOR = Actor(
    peer=Peer(Wire.SHELL, "tester", actor="tester"),
    organisation=Organisation(id=1, uuid="", name="root", path="/1/"),
    permissions=frozenset(Permission),
)
FAILURE = b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'


async def everywhere(gate: Gate, asked: dict[str, Any], wires: Any = WIRES) -> set[bytes]:
    """The answers to one request on each wire."""
    body = json.dumps(asked).encode()
    return {await provision(gate.ports, wire, body) for wire in wires}


def token_in(answer: bytes) -> str:
    token = json.loads(answer)["credentialsValue"]
    assert isinstance(token, str)
    return token


async def with_policy(
    gate: Gate, name: str, *, pre_provision_allowed: bool = False, **policy: Any
) -> None:
    profile = DeviceProfile(
        id=0,
        name=name,
        provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES,
        pre_provision_allowed=pre_provision_allowed,
        policy=Policy(**policy),
    )
    gate.secrets[name] = f"{name}-secret-0001"
    pair = {"key": Secret(f"{name}-key-0001"), "secret": Secret(gate.secrets[name])}
    assert await gate.registry.save_profile(ProfileDraft(profile=profile, **pair))


async def test_a_retry_is_answered_alike_on_every_wire_and_after_a_restart(tmp_path: Path) -> None:
    """Byte for byte: a new device with a name and without, one that waited, the form of 2020, one
    that brings its own token; from the first use on it is refused."""
    async with serving(tmp_path) as gate:
        await gate.add("waits")
        legacy = {"deviceName": "old", "deviceType": "kind", "nonce": NONCE}
        legacy |= {"provisionProfileKey": "create-key-0001"}
        legacy |= {"provisionProfileSecret": "create-secret-0001"}
        requests = [
            gate.request("named", nonce=NONCE),
            gate.request(nonce=NONCE),
            gate.request("waits", profile="check", nonce=NONCE),
            legacy,
            gate.request("own", token="brought-by-itself"),
        ]
        answers = [await everywhere(gate, asked) for asked in requests]
        assert [len(one) for one in answers] == [1] * 5, answers
        assert all(b"SUCCESS" in one for (one,) in answers)
        assert await everywhere(gate, gate.request("named", nonce=NONCE[::-1])) == {FAILURE}
        assert await everywhere(gate, gate.request("named")) == {FAILURE}
    async with serving(tmp_path) as gate:
        assert [await everywhere(gate, asked) for asked in requests] == answers
        assert len(await gate.registry.devices()) == 5
        users = (over_http, over_mqtt, over_coap, over_http, over_mqtt)
        for asked, answer, use in zip(requests, answers, users, strict=True):
            await use(gate, token_in(*answer))
            assert await everywhere(gate, asked, ("http", "coap", "mqtt5")) == {FAILURE}
        assert len(await gate.registry.devices()) == 5


async def test_a_use_is_seen_though_the_token_was_known(gate: Gate) -> None:
    """A device that is claimed once more, with a token it used a moment ago: the next use of that
    ends the window, on each wire."""
    for number, use in enumerate((over_http, over_mqtt, over_coap)):
        name = f"waits-{number}"
        await gate.add(name)
        asked = gate.request(name, profile="check", nonce=NONCE)
        (first,) = await everywhere(gate, asked, ("http",))
        for _ in range(2):
            await use(gate, token_in(first))
        known = await gate.registry.device(name)
        assert known is not None
        assert await gate.registry.rearm_device(known)
        assert await everywhere(gate, asked) == {first}
        await use(gate, token_in(first))
        assert await everywhere(gate, asked) == {FAILURE}


async def test_a_wrong_password_is_no_use(gate: Gate) -> None:
    """Nor is a user name alone; a CONNECT with all of it is, and ends the window."""
    own = {"credentialsType": "MQTT_BASIC", "username": "u", "password": "right", "clientId": "c"}
    asked = gate.request("meter", **own)
    (answer,) = await everywhere(gate, asked)
    for shown in (("c", "u", "wrong"), ("c", "u"), ("other", "u", "right"), ("c",)):
        for version in (3, 4, 5):
            async with mqtt(gate.ports.mqtt, version) as session:
                assert await session.connect(*shown) != 0
    for wrong in ("u", "right", "c"):
        assert not await knows(gate.ports, wrong)
    assert await everywhere(gate, asked) == {answer}
    async with mqtt(gate.ports.mqtt) as session:
        assert await session.connect("c", "u", "right") == 0
    assert await everywhere(gate, asked) == {FAILURE}


STRANGERS: tuple[dict[str, Any], ...] = (
    {"nonce": NONCE[::-1]},
    {"nonce": NONCE.upper()},
    {"nonce": f"{NONCE}0"},
    {},
    {"nonce": NONCE, "token": "mine"},
    {"nonce": NONCE, "credentialsType": "MQTT_BASIC"},
    {"nonce": NONCE, "profile": "other"},
    {"nonce": NONCE, "profile": "adopting"},
    {"nonce": NONCE, "profile": "second"},
    {"deviceName": "METER", "nonce": NONCE, "profile": "check"},
)


async def test_no_second_asker_is_given_it(gate: Gate) -> None:
    """Whatever of the request differs, on every wire and in the form of 2020: another nonce, none,
    a credential, another secret of the profile, another profile. Outer spaces are no difference."""
    await with_policy(gate, "other")
    await with_policy(gate, "adopting", pre_provision_allowed=True)
    services = open_services(gate.gateway.store)
    services.close()  # no password is proven here
    profile = await gate.profile("create")
    ticket = await services.secrets.add(OPERATOR, profile, "second")
    pair = {"key": ticket.key.reveal(), "secret": ticket.secret.reveal()}
    asked = gate.request("meter", nonce=NONCE)
    (answer,) = await everywhere(gate, asked)
    for stranger in STRANGERS:
        fields = {"deviceName": "meter"} | stranger
        of = fields.pop("profile", "create")
        if of == "second":
            keys = {"provisionDeviceKey": pair["key"], "provisionDeviceSecret": pair["secret"]}
            body = fields | keys
        else:
            body = gate.request(profile=of, **fields)
        assert await everywhere(gate, body) == {FAILURE}, stranger
    key, secret = asked["provisionDeviceKey"], asked["provisionDeviceSecret"]
    old = {"provisionProfileKey": key, "provisionProfileSecret": secret}
    for more in ({}, {"nonce": NONCE[::-1]}):
        legacy = {"deviceName": "meter", "deviceType": "t"} | old | more
        assert await everywhere(gate, legacy) == {FAILURE}
    assert await everywhere(gate, asked | {"deviceName": " meter\u2003"}) == {answer}
    assert len(await gate.registry.devices()) == 1


async def over_http(gate: Gate, token: str) -> None:
    assert await knows(gate.ports, token)


async def over_mqtt(gate: Gate, token: str) -> None:
    async with mqtt(gate.ports.mqtt) as session:
        assert await session.connect("c", token) == 0


async def over_coap(gate: Gate, token: str) -> None:
    async with coap(gate.ports.coap) as device:
        reply = await device.ask(COAP_POST, f"/api/v1/{token}/telemetry", b"{}")
        assert dotted(reply) == "2.01"


async def test_of_many_copies_at_once_one_gives_birth(gate: Gate) -> None:
    """What a lossy network makes of one request: over all wires together, one device."""
    asked = json.dumps(gate.request(nonce=NONCE)).encode()
    wires = itertools.islice(itertools.cycle(WIRES), 20)
    answers = await asyncio.gather(*(provision(gate.ports, wire, asked) for wire in wires))
    assert len(set(answers)) == 1
    assert len(await gate.registry.devices()) == 1


@pytest.fixture
async def plant(new_plant: Any) -> AsyncIterator[Plant]:
    async with new_plant() as running:
        yield running


def openssl_request(folder: Path, name: str) -> tuple[str, Any]:
    """A P-256 key and a signing request, as firmware people make them."""
    key, csr = folder / "key.pem", folder / "csr.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    command = ("openssl", "req", "-new", *curve, "-subj", f"/CN={name}")
    subprocess.run((*command, "-keyout", key, "-out", csr), check=True, capture_output=True)
    loaded = certs.serialization.load_pem_private_key(key.read_bytes(), None)
    return csr.read_text(), loaded


async def test_a_signing_request_that_is_sent_again_gets_the_same_certificate(
    plant: Plant, tmp_path: Path
) -> None:
    """Byte for byte with its chain, and nothing more is signed; until it is used. Then the
    connection made with it is the proof by which the device gets another."""
    gate = plant.gate
    csr, key = openssl_request(tmp_path, "signed")
    asked = gate.request("signed", csr=csr)
    (answer,) = await everywhere(gate, asked, ("http", "mqtt311", "mqtt5", "http"))
    identity = identity_in(json.loads(answer), key)
    rows = await gate.gateway.store.driver.read("SELECT state FROM certificate")
    assert rows == [("issued",)]
    assert await plant.answer("https", identity) == "200"
    assert await everywhere(gate, asked, ("http",)) == {FAILURE}

    await with_policy(gate, "again", reprovisioning=Reprovisioning.SAME_IDENTITY)
    old = await plant.signed("comes-back", profile="again")
    assert await plant.answer("https", old) == "200"
    request = gate.request("comes-back", profile="again", csr=certs.csr(fresh := certs.new_key()))
    assert await everywhere(gate, request, ("http",)) == {FAILURE}
    async with plant.line("https", old) as device:
        new = identity_in(await device.provision(request), fresh)
    assert await plant.answer("mqtts", new) == "CONNACK 0"
    assert await plant.answer("https", old) != "200"
    for wire in ("mqtts", "coaps"):
        request = gate.request("comes-back", profile="again", csr=certs.csr(key := certs.new_key()))
        async with plant.line(wire, new) as device:
            new = identity_in(await device.provision(request), key)
        assert await plant.answer("https", new) == "200"
    async with plant.line("coaps", new) as device:
        body = in_protobuf(gate.request("comes-back", profile="again"))
        assert dotted(await device.device.ask(COAP_POST, "/api/v1/provision", body)) == "4.29"
    await with_policy(gate, "often", reprovisioning=Reprovisioning.SAME_IDENTITY)
    new = await plant.signed("speaks-protobuf", profile="often")
    async with plant.line("coaps", new) as device:
        body = in_protobuf(gate.request("speaks-protobuf", profile="often"))
        assert dotted(await device.device.ask(COAP_POST, "/api/v1/provision", body)) == "2.01"


def in_protobuf(asked: dict[str, Any]) -> bytes:
    """A ProvisionDeviceRequestMsg that asks for a token (contract, section 15)."""
    pair = text(1, asked["provisionDeviceKey"]) + text(2, asked["provisionDeviceSecret"])
    return text(1, asked["deviceName"]) + text(3, pair)


def text(number: int, value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return bytes((number << 3 | 2, len(raw))) + raw


async def test_protobuf_has_a_place_for_a_nonce_and_a_trial(gate: Gate) -> None:
    """One request on each wire that speaks it, and in JSON: one credential, until it is used. The
    numbers are 1001 for the nonce, 1004 for the trial."""
    asked = gate.request("speaks-protobuf")
    again = in_protobuf(asked) + b"\xca\x3e" + text(0, NONCE)[1:]
    binary = ("coap", "mqtt31", "mqtt311", "mqtt5")
    trial = {await provision(gate.ports, wire, again + b"\xe0\x3e\x01") for wire in binary}
    assert len(trial) == 1
    assert b'"dryRun":true' in trial.pop()
    assert await gate.registry.device("speaks-protobuf") is None
    (answer,) = {await provision(gate.ports, wire, again) for wire in binary}
    token = token_in(*await everywhere(gate, asked | {"nonce": NONCE}))
    assert answer == b"\x08\x01" + text(3, token)
    refused = b"\x08\x03"
    for other in (in_protobuf(asked), again.replace(NONCE.encode(), NONCE[::-1].encode())):
        assert {await provision(gate.ports, wire, other) for wire in binary} == {refused}
    await over_mqtt(gate, token)
    assert await provision(gate.ports, "coap", again) == refused


@pytest.mark.parametrize("use", [over_http, over_mqtt, over_coap])
async def test_a_device_that_lost_its_credential_comes_back(gate: Gate, use: Any) -> None:
    """With an operator's claim code: the old token ends at the first use of the new one."""
    await with_policy(gate, "again", reprovisioning=Reprovisioning.SAME_IDENTITY)
    (first,) = await everywhere(gate, gate.request("meter", profile="again"), ("http",))
    await use(gate, token_in(first))
    known = await gate.registry.device("meter")
    assert known is not None
    code = Secret("7KPM-Q3XD-9RTW")
    assert await gate.registry.arm_device(known, 60_000, code)
    asked = gate.request("meter", profile="again", nonce=NONCE, claimCode=code.reveal())
    (second,) = await everywhere(gate, asked)
    assert await knows(gate.ports, token_in(first))
    await use(gate, token_in(second))
    gate.gateway.access.forget()
    assert not await knows(gate.ports, token_in(first))
    assert await knows(gate.ports, token_in(second))
    assert len(await gate.registry.devices()) == 1


async def test_blynks_wires_are_a_use_too(gate: Gate) -> None:
    """Also of a token that a device was given anew."""
    await with_policy(gate, "again", reprovisioning=Reprovisioning.SAME_IDENTITY)
    asked = gate.request("board", profile="again", nonce=NONCE)
    (first,) = await everywhere(gate, asked, ("http",))
    assert await connected(gate, token_in(first)) == 200
    assert await everywhere(gate, asked, ("http",)) == {FAILURE}
    proof = {"oldCredential": token_in(first), "nonce": NONCE[::-1]}
    (second,) = await everywhere(gate, gate.request("board", profile="again", **proof), ("http",))
    assert await connected(gate, token_in(second)) == 200
    gate.gateway.access.forget()
    assert await connected(gate, token_in(first)) == 400


async def connected(gate: Gate, token: str) -> int:
    async with http(gate.ports.http) as web:
        path = f"/external/api/isHardwareConnected?token={token}"
        return (await web.ask("GET", path)).status
