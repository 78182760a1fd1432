"""Every wire × strategy × kind of credentials × payload: provision, connect, send, read back.

Names of sections are those of the ThingsBoard device contract.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

import pytest
from inside import Gate
from wires import GET as COAP_GET
from wires import POST as COAP_POST
from wires import VERSIONS, WIRES, coap, dotted, http, knows, mqtt, provision, provisioned

NOT_FOUND = b'{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}'
FAILURE = b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'
PEM = "-----BEGIN CERTIFICATE-----\r\nMIIBdGVzdA\nZmFrZQ==\r\n-----END CERTIFICATE-----\n"
CERTIFICATE = "MIIBdGVzdAZmFrZQ=="

SPOKEN = [(wire, form) for wire in WIRES for form in ("json", "protobuf") if wire != "http"]
SPOKEN.insert(0, ("http", "json"))
"""Which wire takes which payload."""


def named(name: str) -> dict[str, Any]:
    """The kinds of credentials a device may ask for (section 2.4); `name` keeps them apart."""
    basic = {"credentialsType": "MQTT_BASIC"}
    return {
        "nothing": {},
        "token": {"credentialsType": "ACCESS_TOKEN", "token": f"tok-{name}"},
        "token-untyped": {"token": f"tok-{name}"},
        "username": {**basic, "username": f"u-{name}"},
        "client-id": {**basic, "clientId": f"c-{name}"},
        "username-password": {**basic, "username": f"u-{name}", "password": f"p-{name}"},
        "client-id-username": {**basic, "clientId": f"c-{name}", "username": f"u-{name}"},
        "triple": {
            **basic,
            "clientId": f"c-{name}",
            "username": f"u-{name}",
            "password": f"p-{name}",
        },
        "basic-nothing": basic,
        "certificate": {"credentialsType": "X509_CERTIFICATE", "hash": PEM},
        "certificate-nothing": {"credentialsType": "X509_CERTIFICATE"},
    }


KINDS = tuple(named(""))
TYPE_NUMBERS = {"ACCESS_TOKEN": 0, "X509_CERTIFICATE": 1, "MQTT_BASIC": 2, "LWM2M_CREDENTIALS": 3}
STATUS_NUMBERS = {"SUCCESS": 1, "NOT_FOUND": 2, "FAILURE": 3}


# ── protobuf, by hand (section 15) ────────────────────────────────────────────────────────────


def field(number: int, value: str | bytes | int) -> bytes:
    """One field; a default value is left out, as proto3 does. All lengths here are below 16384."""
    if not value:
        return b""
    if isinstance(value, int):
        return bytes((number << 3, value))
    raw = value.encode() if isinstance(value, str) else value
    size = bytes((len(raw),)) if len(raw) < 128 else bytes((len(raw) & 127 | 128, len(raw) >> 7))
    return bytes((number << 3 | 2,)) + size + raw


def to_protobuf(asked: dict[str, Any]) -> bytes:
    """A request in JSON's words as a ProvisionDeviceRequestMsg."""
    pair = field(1, asked["provisionDeviceKey"]) + field(2, asked["provisionDeviceSecret"])
    basic = b"".join(
        field(number, asked.get(name, ""))
        for number, name in enumerate(("clientId", "username", "password"), 1)
    )
    data = (
        field(1, field(1, asked.get("token", "")))
        + field(2, field(1, asked.get("hash", "")))
        + field(3, basic)
    )
    return (
        field(1, asked.get("deviceName", ""))
        + field(2, TYPE_NUMBERS[asked.get("credentialsType", "ACCESS_TOKEN")])
        + field(3, pair)
        + field(4, data)
        + field(5, int(asked.get("gateway", False)))
    )


def answer_in(form: str, answer: bytes) -> bytes:
    """What a JSON answer is in the other form."""
    if form == "json":
        return answer
    told = json.loads(answer)
    value = told.get("credentialsValue", "")
    if isinstance(value, dict):
        value = json.dumps(value, separators=(",", ":"))
    return (
        field(1, STATUS_NUMBERS[told["status"]])
        + field(2, TYPE_NUMBERS[told.get("credentialsType", "ACCESS_TOKEN")])
        + field(3, value)
    )


def token_of(form: str, answer: bytes) -> str:
    """The generated access token of a SUCCESS; everything else of the answer is fixed."""
    if form == "json":
        found = re.fullmatch(
            rb'{"credentialsValue":"([A-Za-z0-9]{20})",'
            rb'"credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}',
            answer,
        )
    else:
        found = re.fullmatch(rb"\x08\x01\x1a\x14([A-Za-z0-9]{20})", answer)
    assert found, answer
    return found[1].decode()


def as_today(answer: bytes) -> tuple[bytes, dict[str, Any]]:
    """The answer to a legacy request without what it tells besides (section 6), and that."""
    begin, comma, _ = answer.partition(b',"deviceId"')
    assert comma, answer
    told = json.loads(answer)
    return begin + b"}", {name: told[name] for name in ("deviceId", "credentialsId")}


def success(asked: dict[str, Any]) -> bytes:
    """The answer to a request that brings its own credentials (section 2.5)."""
    kind = asked.get("credentialsType", "ACCESS_TOKEN")
    if kind == "MQTT_BASIC":
        client_id, username, password = (
            asked.get(name, "") for name in ("clientId", "username", "password")
        )
        value = f'{{"clientId":"{client_id}","userName":"{username}","password":"{password}"}}'
    else:
        value = f'"{asked["token"] if kind == "ACCESS_TOKEN" else CERTIFICATE}"'
    return f'{{"credentialsValue":{value},"credentialsType":"{kind}","status":"SUCCESS"}}'.encode()


def encoded(form: str, asked: dict[str, Any]) -> bytes:
    return json.dumps(asked).encode() if form == "json" else to_protobuf(asked)


# ── provision, connect, send, read back ───────────────────────────────────────────────────────


async def live_over_mqtt(gate: Gate, name: str, version: int, *login: str | None) -> None:
    """Log in, send telemetry and attributes, ask for the attributes."""
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect(*login) == 0
        await session.deliver("v1/devices/me/telemetry", b'{"by":"mqtt","n":41.5}')
        await session.deliver("v1/devices/me/attributes", b'{"a":1,"b":"two"}')
        await session.deliver("v1/devices/me/attributes/request/7", b'{"clientKeys":"a,z"}')
        told = await session.published()
        assert told.topic == "v1/devices/me/attributes/response/7"
        assert told.payload == b'{"client":{"a":1}}'
    assert await gate.readings(name) == {"by": "mqtt", "n": 41.5}


async def live_over_http(gate: Gate, name: str, token: str) -> None:
    async with http(gate.ports.http) as web:
        for feature, body in (("telemetry", b'{"by":"http"}'), ("attributes", b'{"h":[1]}')):
            reply = await web.ask("POST", f"/api/v1/{token}/{feature}", body)
            assert (reply.status, reply.body) == (200, b"")
        reply = await web.ask("GET", f"/api/v1/{token}/attributes?clientKeys=h")
    assert (reply.status, reply.body) == (200, b'{"client":{"h":[1]}}')
    assert (await gate.readings(name))["by"] == "http"


async def live_over_coap(gate: Gate, name: str, token: str) -> None:
    async with coap(gate.ports.coap) as device:
        for feature, body in (("telemetry", b'{"by":"coap"}'), ("attributes", b'{"c":true}')):
            reply = await device.ask(COAP_POST, f"api/v1/{token}/{feature}", body)
            assert (dotted(reply), reply.payload) == ("2.01", b"")
        reply = await device.ask(COAP_GET, f"api/v1/{token}/attributes", query=["clientKeys=c"])
    assert (dotted(reply), reply.payload) == ("2.05", b'{"client":{"c":true}}')
    assert (await gate.readings(name))["by"] == "coap"


async def live_with_token(gate: Gate, name: str, token: str, wire: str) -> None:
    """A token opens every wire, whichever it came by."""
    await live_over_mqtt(gate, name, VERSIONS.get(wire, 4), "anything", token)
    await live_over_http(gate, name, token)
    await live_over_coap(gate, name, token)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("wire", "form"), SPOKEN)
async def test_a_new_device_gets_what_it_asked_for_and_can_use_it(
    gate: Gate, wire: str, form: str, kind: str
) -> None:
    """A new device gets the credentials of its table row, in these bytes, and they let it in."""
    more = named("new")[kind]
    asked = gate.request("new", **more)
    answer = await provision(gate.ports, wire, encoded(form, asked), success=True)
    if not more or kind.endswith("-nothing"):
        await live_with_token(gate, "new", token_of(form, answer), wire)
        return
    assert answer == answer_in(form, success(asked))
    if kind.startswith("token"):
        await live_with_token(gate, "new", more["token"], wire)
    elif kind == "certificate":
        assert not await knows(gate.ports, CERTIFICATE)
        async with mqtt(gate.ports.mqtt) as session:
            assert await session.connect("new", CERTIFICATE) == 5
    else:
        login = [more.get(name) for name in ("clientId", "username", "password")]
        await live_over_mqtt(gate, "new", VERSIONS.get(wire, 4), login[0] or "any", *login[1:])
        await wrong_triples_are_refused(gate, more)


async def wrong_triples_are_refused(gate: Gate, more: dict[str, str]) -> None:
    """Each member that is set must be shown and equal (section 7.1)."""
    fields = ("clientId", "username", "password")
    for wrong in (name for name in fields if name in more):
        login = {name: more.get(name) for name in fields} | {wrong: "wrong"}
        async with mqtt(gate.ports.mqtt) as session:
            code = await session.connect(
                login["clientId"] or "", login["username"], login["password"]
            )
            assert code in (2, 5), (wrong, more)


@pytest.mark.parametrize("profile", ["check", "waiting"])
@pytest.mark.parametrize(("wire", "form"), SPOKEN)
async def test_a_waiting_device_is_claimed_once_with_the_token_it_has(
    gate: Gate, wire: str, form: str, profile: str
) -> None:
    """The first claim gets the existing credentials, whatever it asks for; the second FAILURE."""
    token = await gate.add("meter", profile)
    asked = gate.request(" meter ", profile=profile, **named("meter")["triple"])
    answer = await provision(gate.ports, wire, encoded(form, asked), success=True)
    assert token_of(form, answer) == token
    again = await provision(gate.ports, wire, encoded(form, asked), success=False)
    assert again == answer_in(form, FAILURE)
    await live_with_token(gate, "meter", token, wire)


@pytest.mark.parametrize(("wire", "form"), SPOKEN)
async def test_refusals_are_told_apart_as_the_contract_does(
    gate: Gate, wire: str, form: str
) -> None:
    """Every row of sections 2.3 and 2.4 that ends badly: NOT_FOUND or FAILURE, in these bytes."""
    await gate.add("waiting", "check")
    await gate.add("elsewhere", "waiting")
    taken = gate.request("taken", token="tok-taken")
    assert (await provisioned(gate.ports, "http", taken))["status"] == "SUCCESS"
    basic = {"credentialsType": "MQTT_BASIC"}
    rows: list[tuple[dict[str, Any], bytes]] = [
        (gate.request("n") | {"provisionDeviceKey": "nobody"}, NOT_FOUND),
        (gate.request("n") | {"provisionDeviceSecret": "wrong"}, NOT_FOUND),
        (gate.request("n") | {"provisionDeviceSecret": ""}, NOT_FOUND),
        (gate.request("n") | {"provisionDeviceKey": ""}, NOT_FOUND),
        (gate.request("waiting", profile="check") | {"provisionDeviceSecret": "w"}, NOT_FOUND),
        (gate.request("n", profile="disabled"), NOT_FOUND),
        (gate.request("n", profile="disabled") | {"provisionDeviceSecret": "w"}, NOT_FOUND),
        (gate.request("n", profile="chain"), NOT_FOUND),
        (gate.request("  ") | {"provisionDeviceSecret": "wrong"}, FAILURE),
        (gate.request(" taken"), FAILURE),
        (gate.request("waiting"), FAILURE),
        (gate.request(profile="check"), FAILURE),
        (gate.request("nobody", profile="check"), FAILURE),
        (gate.request("taken", profile="check"), FAILURE),
        (gate.request("elsewhere", profile="check"), FAILURE),
        (gate.request("n", token="tok-taken"), FAILURE),
        (gate.request("n", username="u"), FAILURE),
        (gate.request("n", **basic, clientId="c", password="p"), FAILURE),
        (gate.request("n", **basic, password="p"), FAILURE),
        (gate.request("n", **basic, username="tok-taken"), FAILURE),
        (gate.request("n", **basic, username="a\x01b"), FAILURE),
        (gate.request("n", credentialsType="LWM2M_CREDENTIALS", token="t"), FAILURE),
        (gate.request("x" * 256), FAILURE),
        (gate.request("<b>n</b>"), FAILURE),
    ]
    for asked, expected in rows:
        answer = await provision(gate.ports, wire, encoded(form, asked), success=False)
        assert answer == answer_in(form, expected), asked
    assert await gate.registry.device("n") is None


@pytest.mark.parametrize("wire", WIRES)
async def test_the_legacy_request_is_taken_on_every_wire(gate: Gate, wire: str) -> None:
    """The 2020 form (section 6) gets today's answer; its type and certificate are kept."""
    pair = {
        "provisionProfileKey": "create-key-0001",
        "provisionProfileSecret": "create-secret-0001",
    }
    plain = {**pair, "deviceName": "old", "deviceType": "thermostat"}
    answer, told = as_today(await provision(gate.ports, wire, json.dumps(plain).encode()))
    token = token_of("json", answer)
    await live_with_token(gate, "old", token, wire)
    known = await gate.registry.device("old")
    assert known is not None
    assert told == {"deviceId": known.device.uuid, "credentialsId": token}
    assert known.device.type == "thermostat"
    with_certificate = {**pair, "deviceName": "old-2", "x509CertPubKey": PEM}
    answer, _ = as_today(await provision(gate.ports, wire, json.dumps(with_certificate).encode()))
    assert answer == success({"credentialsType": "X509_CERTIFICATE"})


@pytest.mark.parametrize("wire", WIRES)
async def test_a_request_with_nulls_and_odd_types_is_understood(gate: Gate, wire: str) -> None:
    """What ThingsBoard's own SDK sends, nulls included, is read as it means it (16, item 3)."""
    asked = gate.request(
        "sdk",
        credentialsType="MQTT_BASIC",
        username=12345,
        clientId=None,
        password=None,
        token=None,
        hash=None,
        gateway="TRUE",
        unknown={"x": [1]},
    )
    answer = await provision(gate.ports, wire, json.dumps(asked).encode(), success=True)
    assert answer == success({"credentialsType": "MQTT_BASIC", "username": "12345"})
    known = await gate.registry.device("sdk")
    assert known is not None
    assert known.device.gateway


async def test_a_device_without_a_name_is_given_one(gate: Gate) -> None:
    """Without a name, or with an empty one, a new device gets twenty random alphanumerics."""
    for wire in WIRES:
        for name in (None, ""):
            told = await provisioned(gate.ports, wire, gate.request(name))
            assert told["status"] == "SUCCESS"
    listed = [one.device.name for one in await gate.registry.devices()]
    assert len(set(listed)) == 2 * len(WIRES)
    assert all(re.fullmatch("[A-Za-z0-9]{20}", name) for name in listed)


# ── many at once ──────────────────────────────────────────────────────────────────────────────


async def test_four_hundred_clients_share_the_client_id_provision(gate: Gate) -> None:
    """Devices that all call themselves `provision` are served at once, none throws another out."""
    crowd, everybody = 400, asyncio.Barrier(400)

    async def one(number: int) -> str:
        async with mqtt(gate.ports.mqtt, (3, 4, 5)[number % 3]) as session:
            assert await session.connect("provision") == 0
            await everybody.wait()
            request = json.dumps(gate.request(f"d{number}", token=f"tok-{number}")).encode()
            await session.deliver("/provision/request", request)
            topic, payload, _ = await session.published()
            assert topic == "/provision/response"
            assert payload == success({"token": f"tok-{number}"})
            await everybody.wait()
            assert await session.outcome() == []
            return json.loads(payload)["credentialsValue"]

    tokens = await asyncio.gather(*(one(number) for number in range(crowd)))
    assert len(set(tokens)) == crowd


@pytest.mark.parametrize("profile", ["create", "check", "waiting"])
async def test_of_twenty_claims_of_one_name_one_succeeds(gate: Gate, profile: str) -> None:
    """Twenty requests for one name over all wires at once: one SUCCESS, nineteen FAILUREs."""
    for attempt in range(3):
        name = f"prize-{attempt}"
        if profile != "create":
            await gate.add(name, profile)
        asked = gate.request(name, profile=profile)
        wires = random.sample(WIRES * 4, 20)
        answers = await asyncio.gather(*(provisioned(gate.ports, wire, asked) for wire in wires))
        won = [one for one in answers if one["status"] == "SUCCESS"]
        assert len(won) == 1
        assert [one for one in answers if one["status"] == "FAILURE"] == [json.loads(FAILURE)] * 19
        assert await knows(gate.ports, won[0]["credentialsValue"])
        known = await gate.registry.device(name)
        events = await gate.registry.events(known, limit=1000)
        assert sum(e.kind == "device:provision" and e.outcome == "success" for e in events) == 1
