"""Section 16 of the contract, and what was seen of real clients: their habits, packet by packet."""

from __future__ import annotations

import json
from typing import Any

import pytest
from contract import add_gateway
from inside import Gate
from wires import (
    CONNACK,
    POST,
    PUBLISH,
    SUBACK,
    coap,
    connect_packet,
    dotted,
    http,
    mqtt,
    packet,
    publish_packet,
)

VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])
LIMITS = b'{"method":"getSessionLimits","params":{"timeout":5000}}'


def subscribe_packet(version: int, *filters: str) -> bytes:
    body = b"\0\x07" + (b"\0" if version == 5 else b"")
    for one in filters:
        body += len(one).to_bytes(2) + one.encode() + b"\0"
    return packet(0x82, body)


async def provisioned_by_sdk(gate: Gate, version: int, request: dict[str, Any]) -> dict[str, Any]:
    """As the SDK does it: no client id, quality 0, and nothing is waited for."""
    async with mqtt(gate.ports.mqtt, version) as session:
        session.send(
            connect_packet(version, "", "provision")
            + subscribe_packet(version, "/provision/response")
            + publish_packet(version, "/provision/request", json.dumps(request).encode())
        )
        kinds = [(await session.expect(kind)).kind for kind in (CONNACK, SUBACK)]
        assert kinds == [CONNACK, SUBACK]
        topic, payload, qos = await session.published()
        assert (topic, qos) == ("/provision/response", 0)
        answer: dict[str, Any] = json.loads(payload)
        return answer


@VERSIONS
async def test_the_sdk_provisions(gate: Gate, version: int) -> None:
    """Nulls are absent, a failure names its reason, and the credentials open a session."""
    basic = {"credentialsType": "MQTT_BASIC", "clientId": "C", "username": "U", "password": None}
    nulls = dict.fromkeys(("token", "hash", "gateway"))
    answer = await provisioned_by_sdk(gate, version, gate.request("d", **basic, **nulls))
    value = answer["credentialsValue"]
    assert (value["clientId"], value["userName"], value["password"]) == ("C", "U", "")
    other = {**basic, "username": "V"}
    again = await provisioned_by_sdk(gate, version, gate.request("d", **other))
    assert (again["status"], again["errorMsg"]) == ("FAILURE", "Failed to provision device!")
    async with mqtt(gate.ports.mqtt, 5) as session:  # it works in another version
        assert await session.connect("C", "U", "") == 0


@VERSIONS
async def test_the_gateway_connects(gate: Gate, version: int) -> None:
    """All in one write, as it may come: subscriptions, the question for limits, its devices."""
    token = await add_gateway(gate)
    topics = [
        *("v1/devices/me/attributes", "v1/devices/me/attributes/response/+"),
        *("v1/devices/me/rpc/request/+", "v1/devices/me/rpc/response/+"),
        *("v1/gateway/attributes", "v1/gateway/attributes/response", "v1/gateway/rpc"),
    ]
    async with mqtt(gate.ports.mqtt, version) as session:
        session.send(
            connect_packet(version, "any", token)
            + subscribe_packet(version, *topics)
            + publish_packet(version, "v1/devices/me/rpc/request/1", LIMITS)
        )
        await session.expect(CONNACK)
        granted = (await session.expect(SUBACK)).body[3 if version == 5 else 2 :]
        assert granted == bytes(len(topics))
        told = json.loads(session.opened(await session.expect(PUBLISH)).payload)
        assert isinstance(told["rateLimits"], dict)
        assert isinstance(told["gatewayRateLimits"], dict)


@VERSIONS
async def test_client_ids(gate: Gate, version: int) -> None:
    """Of any length: ThingsBoard refuses more than 23 characters to MQTT 3.1 alone."""
    token = await gate.add("d")
    for client_id in ("x" * 23, "x" * 24, "x" * 500, "ü"):
        async with mqtt(gate.ports.mqtt, version) as session:
            assert await session.connect(client_id, token) == 0


async def test_refusals_are_200_and_4_00(gate: Gate) -> None:
    """HTTP clients raise on any other status before they read; CoAP ones print what 4.00 holds."""
    wrong = json.dumps({**gate.request("d"), "provisionDeviceSecret": "wrong"}).encode()
    told = {"errorMsg": "Provision data was not found!", "status": "NOT_FOUND"}
    async with http(gate.ports.http) as web, coap(gate.ports.coap) as device:
        reply = await web.ask("POST", "/api/v1/provision", wrong)
        assert (reply.status, json.loads(reply.body)) == (200, told)
        answer = await device.ask(POST, "api/v1/provision", wrong)
        assert (dotted(answer), json.loads(answer.payload)) == ("4.00", told)
