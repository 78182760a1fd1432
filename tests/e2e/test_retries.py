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

from gateway.core.model import DeviceProfile, Policy, ProvisionType, Reprovisioning, Secret
from gateway.core.registry import ProfileDraft

NONCE = "0123456789abcdef"
FAILURE = b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'


async def everywhere(gate: Gate, asked: dict[str, Any], wires: Any = WIRES) -> set[bytes]:
    """The answers to one request on each wire."""
    body = json.dumps(asked).encode()
    return {await provision(gate.ports, wire, body) for wire in wires}


def token_in(answer: bytes) -> str:
    token = json.loads(answer)["credentialsValue"]
    assert isinstance(token, str)
    return token


async def with_policy(gate: Gate, name: str, **policy: Any) -> None:
    kind = ProvisionType.ALLOW_CREATE_NEW_DEVICES
    profile = DeviceProfile(id=0, name=name, provision_type=kind, policy=Policy(**policy))
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
