"""Devices' credentials over HTTP."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import sha3_id
from gateway.dialects.thingsboard.admin.credentials import CredentialsBody, credentials_of
from gateway.dialects.thingsboard.admin.desk import Trouble
from gateway.wire.call import Status

UNKNOWN = "5d0c1a6e-0000-4000-8000-00000000dead"
DER = base64.b64encode(bytes(range(150))).decode()
PEM = (
    "-----BEGIN CERTIFICATE-----\n"
    + "\n".join(DER[at : at + 64] for at in range(0, len(DER), 64))
    + "\n-----END CERTIFICATE-----\n"
)


@pytest.fixture
async def device(case):
    return (await case.device("one")).device.uuid


async def shown(case, device):
    answer = await case.get(f"/api/device/{device}/credentials")
    assert answer.status == 200, answer.text
    return answer.json


async def change(case, device, **members):
    return await case.post("/api/device/credentials", {**await shown(case, device), **members})


async def test_credentials_are_answered_whole(case, device):
    """All members of section 17.3."""
    got = await shown(case, device)
    assert got.pop("credentialsId")
    assert got == {
        "id": {"entityType": "DEVICE_CREDENTIALS", "id": device},
        "createdTime": case.clock(),
        "deviceId": {"entityType": "DEVICE", "id": device},
        "credentialsType": "ACCESS_TOKEN",
        "credentialsValue": None,
        "version": got["version"],
    }


async def test_a_token_is_replaced(case, device):
    """The new one is answered, under a greater version; the old one is nobody's."""
    before = await shown(case, device)
    answer = await change(case, device, credentialsId="another-token")
    assert answer.status == 200, answer.text
    assert answer.json["credentialsId"] == "another-token"
    assert answer.json["version"] > before["version"]
    assert await shown(case, device) == answer.json


async def test_mqtt_basic_has_its_id_made(case, device):
    """The value is text that holds JSON; the id is made of client id and user name."""
    value = json.dumps({"clientId": "c", "userName": "u", "password": "p"})
    answer = await change(
        case, device, credentialsType="MQTT_BASIC", credentialsId="ignored", credentialsValue=value
    )
    assert answer.status == 200, answer.text
    assert answer.json["credentialsId"] == sha3_id("c|u")
    assert json.loads(answer.json["credentialsValue"]) == json.loads(value)


async def test_a_certificate_is_given_and_shown_as_pem(case, device):
    """With or without the marks around it; the id is that of its base64 text."""
    for value in (PEM, DER, PEM.replace("\n", "\r\n")):
        answer = await change(
            case, device, credentialsType="X509_CERTIFICATE", credentialsValue=value
        )
        assert answer.status == 200, answer.text
        assert answer.json["credentialsId"] == sha3_id(DER)
        assert answer.json["credentialsValue"] == PEM


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"credentialsType": None}, "Device credentials type should be specified!"),
        ({"credentialsId": None}, "Device credentials id should be specified!"),
        ({"credentialsId": " "}, "Device credentials id should be specified!"),
        ({"credentialsId": "a\nb"}, "credentialsId must not contain control characters!"),
        ({"credentialsId": "a\x00b"}, "credentialsId must not contain control characters!"),
        ({"id": None}, "Unable to update non-existent device credentials!"),
        ({"id": {"id": UNKNOWN}}, "Unable to update non-existent device credentials!"),
        (
            {"credentialsType": "MQTT_BASIC", "credentialsValue": "{}"},
            "Both mqtt client id and user name are empty!",
        ),
        (
            {
                "credentialsType": "MQTT_BASIC",
                "credentialsValue": '{"clientId":"c","password":"p"}',
            },
            "Password cannot be specified along with client id",
        ),
        (
            {"credentialsType": "MQTT_BASIC", "credentialsValue": "no json"},
            "Invalid credentials body for simple mqtt credentials!",
        ),
        (
            {"credentialsType": "MQTT_BASIC", "credentialsValue": None},
            "Invalid credentials body for simple mqtt credentials!",
        ),
        (
            {"credentialsType": "MQTT_BASIC", "credentialsValue": '{"userName":"a\\u0007"}'},
            "userName must not contain control characters!",
        ),
    ],
)
async def test_what_is_refused_is_told_in_the_contracts_words(case, device, members, message):
    """400, and the credentials stay as they were."""
    before = await shown(case, device)
    answer = await change(case, device, **members)
    assert (answer.status, answer.message) == (400, message)
    assert await shown(case, device) == before


async def test_another_devices_token_is_400(case, device):
    """ThingsBoard's words."""
    other = (await case.device("two")).device.uuid
    token = (await shown(case, other))["credentialsId"]
    answer = await change(case, device, credentialsId=token)
    assert answer.status == 400
    assert answer.message == "Device credentials are already assigned to another device!"


async def test_a_stale_version_is_409(case, device):
    """Code 35, and nothing is changed."""
    before = await shown(case, device)
    await change(case, device, credentialsId="another-token")
    body = {**before, "credentialsId": "a-third-token"}
    answer = await case.post("/api/device/credentials", body)
    assert (answer.status, answer.json["errorCode"]) == (409, 35)
    assert (await shown(case, device))["credentialsId"] == "another-token"


async def test_credentials_of_a_device_that_is_not_there_are_404(case, device):
    """ThingsBoard's words, with the id."""
    answer = await change(case, device, deviceId={"entityType": "DEVICE", "id": UNKNOWN})
    assert answer.status == 404
    assert answer.message == f"Device with id [{UNKNOWN}] is not found"


@pytest.mark.parametrize("kind", ["LWM2M_CREDENTIALS", "REVOKED", "DTLS_PSK", "x"])
async def test_other_kinds_are_not_given_here(case, device, kind):
    """400, whatever the value."""
    answer = await change(case, device, credentialsType=kind, credentialsValue="{}")
    assert answer.status == 400


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(["ACCESS_TOKEN", "MQTT_BASIC", "X509_CERTIFICATE", "", None]),
    st.none() | st.text(max_size=100),
    st.none()
    | st.text(max_size=100)
    | st.dictionaries(
        st.sampled_from(["clientId", "userName", "password", "x"]),
        st.none() | st.text(max_size=20) | st.integers(),
    ).map(json.dumps),
)
def test_any_body_makes_credentials_or_trouble(kind, shown_id, value):
    """What comes out can be stored: no control characters, and valid by itself."""
    body = CredentialsBody(credentials_type=kind, credentials_id=shown_id, credentials_value=value)
    try:
        made = credentials_of(body)
    except Trouble as trouble:
        told = trouble
    else:
        assert made.type.value == kind
        assert not set(made.id.reveal()) & set(map(chr, range(32)))
        return
    assert told.status is Status.BAD_REQUEST
