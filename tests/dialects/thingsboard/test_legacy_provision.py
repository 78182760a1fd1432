"""The requests of 2020 on every wire (contract, section 6), against a provision profile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.model import (
    BirthRule,
    DeviceCredentialsType,
    Peer,
    ProvisionType,
    Wire,
)
from gateway.core.model.credentials import sha3_id
from gateway.dialects.thingsboard.payloads import decode_gateway_provision
from gateway.wire.call import BadPayload, Reply, Status

if TYPE_CHECKING:
    from conftest import Client, House

REQUEST, RESPONSE = "v1/devices/me/provision", "v1/devices/me/provision/response"
GATEWAY_REQUEST, GATEWAY_RESPONSE = "v1/gateway/provision", "v1/gateway/provision/response"
OPEN = ProvisionType.ALLOW_CREATE_NEW_DEVICES


@pytest.fixture
async def gate(house: House) -> dict[str, str]:
    """A provision profile's key and secret, as a request of 2020 has them."""
    await house.profile("gate", provision_type=OPEN, birth=BirthRule(profile_by_type=True))
    return {
        "provisionProfileKey": "gate-key-0001",
        "provisionProfileSecret": "gate-secret-0001",
    }


def asked(gate: dict[str, str], name: str = "new", **more: Any) -> str:
    return json.dumps({"deviceName": name, "deviceType": "valve", **gate, **more})


def told(reply: Reply) -> dict[str, Any]:
    body = json.loads(reply.body)
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize("wire", [Wire.HTTP, Wire.COAP])
async def test_a_request_of_2020_stands_alone(house: House, gate: Any, wire: Wire) -> None:
    """HTTP and CoAP: the current answer, with the device's id and that of its credentials."""
    _, reply = await house.ask(wire, "POST /api/v1/provision", asked(gate))
    device = await house.device("new")
    body = told(reply)
    assert list(body) == [
        *("credentialsValue", "credentialsType", "status"),
        *("deviceId", "credentialsId"),
    ]
    assert (body["status"], body["credentialsType"]) == ("SUCCESS", "ACCESS_TOKEN")
    assert (body["deviceId"], body["credentialsId"]) == (device.uuid, body["credentialsValue"])
    assert device.type == "valve"
    again = (await house.ask(wire, "POST /api/v1/provision", asked(gate)))[1]
    assert told(again) == {"errorMsg": "Failed to provision device!", "status": "FAILURE"}


async def test_a_certificate_of_2020_is_kept(house: House, gate: Any) -> None:
    """`x509CertPubKey` becomes X.509 credentials; their id is the certificate's digest."""
    body = asked(gate, x509CertPubKey="-----BEGIN CERTIFICATE-----\nMIIB\n")
    _, reply = await house.ask(Wire.HTTP, "POST /api/v1/provision", body)
    answer = told(reply)
    assert answer["credentialsType"] == DeviceCredentialsType.X509_CERTIFICATE
    assert answer["credentialsValue"] == "MIIB"
    assert answer["credentialsId"] == sha3_id("MIIB")


async def test_a_request_of_today_is_answered_as_today(house: House) -> None:
    """Byte for byte, without the device's id (section 2.5)."""
    await house.profile("meters", provision_type=OPEN)
    body = json.dumps(
        {
            "provisionDeviceKey": "meters-key-0001",
            "provisionDeviceSecret": "meters-secret-0001",
            "token": "my-token",
        }
    )
    _, reply = await house.ask(Wire.HTTP, "POST /api/v1/provision", body)
    assert reply.body == (
        b'{"credentialsValue":"my-token","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}'
    )


async def test_a_device_provisions_in_its_session(house: House, gate: Any) -> None:
    """`v1/devices/me/provision`, answered on its own topic, whatever the answer is."""
    client = await house.connect(await house.add())
    client.subscribe(RESPONSE)
    reply = await client.publish(REQUEST, asked(gate))
    assert (reply.topic, reply.status) == (RESPONSE, Status.OK)
    assert told(reply)["deviceId"] == (await house.device("new")).uuid
    reply = await client.publish(REQUEST, asked(gate | {"provisionProfileSecret": "wrong"}))
    assert (reply.topic, reply.status) == (RESPONSE, Status.REFUSED)
    assert told(reply)["status"] == "NOT_FOUND"
    reply = await client.publish(REQUEST, "no JSON")
    assert (reply.status, reply.body) == (Status.UNDECODABLE, b"")


async def _gateway(house: House) -> Client:
    await house.profile("gateways")
    return await house.connect(await house.add_gateway("gw", "gateways"))


@pytest.mark.parametrize("number", [0, 7, -1, 2**31 - 1])
async def test_a_gateway_provisions_for_others(house: House, gate: Any, number: int) -> None:
    """The answer repeats the whole number of the request, also when it is a refusal."""
    client = await _gateway(house)
    client.subscribe(GATEWAY_RESPONSE)
    reply = await client.publish(GATEWAY_REQUEST, asked(gate, id=number))
    assert (reply.topic, reply.status) == (GATEWAY_RESPONSE, Status.OK)
    body = told(reply)
    assert (body["id"], body["status"]) == (number, "SUCCESS")
    assert body["deviceId"] == (await house.device("new")).uuid
    reply = await client.publish(GATEWAY_REQUEST, asked(gate, id=number))
    assert told(reply) == {
        "errorMsg": "Failed to provision device!",
        "status": "FAILURE",
        "id": number,
    }


async def test_a_number_that_is_none_is_a_bad_payload(house: House, gate: Any) -> None:
    """Before anything is born; without a number none is repeated."""
    client = await _gateway(house)
    for wrong in ("seven", 1.5, [], "1e3", " 1", "9" * 30):
        reply = await client.publish(GATEWAY_REQUEST, asked(gate, id=wrong))
        assert reply.status is Status.BAD_REQUEST, wrong
    assert await house.registry.device("new") is None
    assert "id" not in told(await client.publish(GATEWAY_REQUEST, asked(gate)))


async def test_a_device_that_is_no_gateway_is_not_heard(house: House, gate: Any) -> None:
    """As with all gateway topics (section 9)."""
    client = await house.connect(await house.add())
    reply = await client.publish(GATEWAY_REQUEST, asked(gate, id=1))
    assert reply.status is Status.IGNORED
    assert GATEWAY_RESPONSE not in client.admitted.filters
    assert await house.registry.device("new") is None


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=60), st.from_regex(rb'\{"id":.{0,20}\}', fullmatch=True)))
def test_whatever_a_gateway_sends(body: bytes) -> None:
    """Nothing but `BadPayload` comes out, since no such body has a key."""
    with pytest.raises(BadPayload):
        decode_gateway_provision(body, Peer(Wire.MQTT, "192.0.2.7:1"))
