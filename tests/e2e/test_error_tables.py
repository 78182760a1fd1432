"""What each wire answers when something is wrong: the contract's tables, row by row.

Where `gateway.dialects.thingsboard` lists a difference from ThingsBoard, the difference is tested.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from inside import Gate, NewGate
from wires import (
    DELETE,
    DISCONNECT,
    GET,
    POST,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUT,
    Packet,
    coap,
    connect_packet,
    dotted,
    http,
    mqtt,
    packet,
    provisioned,
    publish_packet,
)

from gateway.core.model import DeviceProfile, ProfileTransport, ProvisionType, Secret
from gateway.core.registry import ProfileDraft

CLOSED = (0, 0)
JUNK = b"\xff\xfe\xfd junk"


def lacking(gate: Gate, *names: str, **more: Any) -> bytes:
    """A request without some of its fields."""
    asked = gate.request("n", **more)
    return json.dumps({k: v for k, v in asked.items() if k not in names}).encode()


def misunderstood(gate: Gate) -> list[bytes]:
    """Requests that can be read, but not be understood."""
    return [
        lacking(gate, "provisionDeviceKey"),
        lacking(gate, "provisionDeviceSecret"),
        lacking(gate) .replace(b'"create-key-0001"', b"null"),
        lacking(gate, credentialsType="access_token"),
        lacking(gate, credentialsType="WHATEVER"),
        lacking(gate, token=[1]),
    ]  # fmt: skip


# ── HTTP (sections 3 and 11) ──────────────────────────────────────────────────────────────────


async def test_http_tells_what_is_wrong_with_a_request_and_repeats_none_of_it(gate: Gate) -> None:
    """A bad provisioning request is 400 with an error body in ThingsBoard's shape, no secret."""
    bad = [b"", b"{", b"[]", b"1", JUNK, b"{'a':1}", *misunderstood(gate)]
    async with http(gate.ports.http) as web:
        for body in bad:
            reply = await web.ask("POST", "/api/v1/provision", body)
            told = json.loads(reply.body)
            assert (reply.status, told["status"], told["errorCode"]) == (400, 400, 31), body
            assert list(told) == ["status", "message", "errorCode", "timestamp"]
            assert reply.headers["content-type"] == "application/json"
            assert b"0001" not in reply.body
        reply = await web.ask("POST", "/api/v1/provision", lacking(gate, "provisionDeviceKey"))
        assert "provisionDeviceKey" in json.loads(reply.body)["message"]


async def test_http_refuses_other_methods_and_places(gate: Gate) -> None:
    """A wrong method is 405 and names the right one, an unknown place 404."""
    async with http(gate.ports.http) as web:
        for method in ("GET", "PUT", "DELETE"):
            reply = await web.ask(method, "/api/v1/provision")
            assert (reply.status, reply.headers["allow"]) == (405, "POST")
            assert json.loads(reply.body)["status"] == 405
        for path in ("/", "/api/v1", "/api/v2/provision", "/api/v1/t/nothing", "/%ff%00"):
            reply = await web.ask("POST", path, b"{}")
            assert (reply.status, json.loads(reply.body)["errorCode"]) == (404, 32), path


async def test_http_bounds_the_body(new_gate: NewGate) -> None:
    """A body over the limit is 413 with the contract's own text, announced or in chunks."""
    gate = await new_gate(http={"max_body_bytes": 1000})
    too_large = b'"Payload size exceeds the limit of 1000 bytes"'
    head = b"POST /api/v1/provision HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"400\r\n" + bytes(1024) + b"\r\n"
    async with http(gate.ports.http) as web:
        reply = await web.ask("POST", "/api/v1/provision", bytes(1001))
        assert (reply.status, reply.body) == (413, too_large)
    async with http(gate.ports.http) as web:
        reply = await web.raw(head + chunk + chunk + b"0\r\n\r\n")
        assert (reply.status, reply.body) == (413, too_large)
    async with http(gate.ports.http) as web:
        padded = json.dumps(gate.request("fits")).encode().ljust(1000)
        assert (await web.ask("POST", "/api/v1/provision", padded)).status == 200


async def test_http_device_api_errors(gate: Gate) -> None:
    """A wrong token is 401 and empty; bad telemetry and attributes are 400."""
    token = await gate.add("d")
    async with http(gate.ports.http) as web:
        for method, feature in (
            ("POST", "telemetry"),
            ("POST", "attributes"),
            ("GET", "attributes"),
        ):
            reply = await web.ask(method, f"/api/v1/wrong/{feature}", b"{}")
            assert (reply.status, reply.body) == (401, b"")
        for feature in ("telemetry", "attributes"):
            for body in (b"", b"{", b'"text"', b"1", JUNK):
                reply = await web.ask("POST", f"/api/v1/{token}/{feature}", body)
                assert reply.status == 400, (feature, body)
        reply = await web.ask("GET", f"/api/v1/{token}/attributes")
        assert (reply.status, reply.body) == (200, b"{}")


# ── MQTT, a session that may only provision (sections 4.2 and 4.3) ────────────────────────────


def expected(version: int, qos: int, ack: int, close: int | None, v3: tuple[bool, bool]) -> Any:
    """The packets of a table row: `ack`, `close` for MQTT 5; whether older ones get PUBACK, close.

    With QoS 0 there is nothing to acknowledge: MQTT 5 then always gets the DISCONNECT.
    """
    if version != 5:
        return [(PUBACK, 0)] * (qos and v3[0]) + [CLOSED] * v3[1]
    if not qos:
        return [(DISCONNECT, close or ack), CLOSED]
    return [(PUBACK, ack)] + ([(DISCONNECT, close), CLOSED] if close else [])


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_provisioning_errors(gate: Gate, version: int, qos: int) -> None:
    """Each row of the error table of section 4.3, and a foreign topic (4.2)."""
    undecodable = expected(version, qos, 0x99, None, (False, True))
    malformed = expected(version, qos, 0x83, 0x83, (True, True))
    foreign = expected(version, qos, 0x90, 0x90, (True, True))
    rows = [("/provision/request", JUNK, undecodable)]
    rows += [("/provision/request", body, malformed) for body in misunderstood(gate)]
    for topic in ("v1/devices/me/telemetry", "provision/request", "/provision/response"):
        rows.append((topic, b"{}", foreign))
    for topic, body, outcome in rows:
        async with mqtt(gate.ports.mqtt, version) as session:
            assert await session.connect("provision", "somebody") == 0
            session.publish(topic, body, qos)
            assert await session.outcome() == outcome, (topic, body)


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_provisioning_subscriptions(gate: Gate, version: int) -> None:
    """Only the response topic is granted; answers come at its QoS, or 1 without a subscription."""
    refused = 0x8F if version == 5 else 0x80
    body = json.dumps(gate.request("n", profile="disabled")).encode()
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect(username="provision", password="ignored") == 0
        assert await session.unsubscribe("/provision/response") == (b"\x11" * (version == 5))
        for asked, granted in ((0, 0), (1, 1), (2, 1)):
            assert await session.subscribe("/provision/response", qos=asked) == [granted]
            await session.deliver("/provision/request", body)
            assert (await session.published()).qos == granted
        assert await session.subscribe("#", "/provision/+", "v1/devices/me/attributes") == (
            [refused] * 3
        )
        assert await session.unsubscribe("/provision/response") == (b"\0" * (version == 5))
        await session.deliver("/provision/request", body)
        assert (await session.published()).qos == 1
        session.publish("/provision/request", b"", 0)
        assert await session.published() == ("/provision/response", b"\x08\x02", 1)
        assert await session.outcome() == []


# ── MQTT, logging in (section 7.3) ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_connack_codes(gate: Gate, version: int) -> None:
    """Each row of the table of section 7.3; after a refusal the connection is closed."""
    await gate.add("d", token="token-of-d")
    for_coap = DeviceProfile(
        id=0,
        name="for-coap",
        provision_type=ProvisionType.CHECK_PRE_PROVISIONED_DEVICES,
        transport=ProfileTransport.COAP,
    )
    pair = {"key": Secret("for-coap-key"), "secret": Secret("for-coap-secret")}
    await gate.registry.save_profile(ProfileDraft(profile=for_coap, **pair))
    await gate.add("c", "for-coap", token="token-of-c")
    rows: list[tuple[tuple[str, str | None, str | None], int, int]] = [
        (("any", "token-of-d", None), 0, 0x00),
        (("any", "token-of-d", "ignored"), 0, 0x00),
        (("", "token-of-d", None), 0, 0x00),
        (("provision", None, None), 0, 0x00),
        (("any", "wrong", "wrong"), 5, 0x86),
        (("any", "wrong", None), 5, 0x86),
        (("", "wrong", None), 5, 0x86),
        (("any", "Provision", None), 5, 0x86),
        (("token-of-d", None, None), 2, 0x85),
        (("", "wrong", "wrong"), 5, 0x87),
        (("", None, None), 5, 0x87),
        (("any", "token-of-c", None), 3, 0x88),
    ]
    if version == 5:
        rows.append((("any", None, "only a password"), 5, 0x86))
    for login, code_v3, code_v5 in rows:
        async with mqtt(gate.ports.mqtt, version) as session:
            session.send(connect_packet(version, *login))
            told = await session.next()
            assert told is not None
            assert told.body[:2] == bytes((0, code_v5 if version == 5 else code_v3)), login
            if code_v3:
                assert await session.next() is None


# ── MQTT, a device's session (section 7.4) ────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_packets_sent_before_connack_are_served(gate: Gate, version: int) -> None:
    """A device that does not wait for its CONNACK loses nothing."""
    token = await gate.add("d")
    async with mqtt(gate.ports.mqtt, version) as session:
        early = publish_packet(version, "v1/devices/me/telemetry", b'{"n":1}', 1, 9)
        session.send(connect_packet(version, "c", token) + early + b"\xc0\x00")
        assert [(await session.next() or Packet(0, 0, b"")).kind for _ in range(3)] == [
            0x20,
            0xD0,
            PUBACK,
        ]
    assert await gate.readings("d") == {"n": 1}


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_device_subscriptions(gate: Gate, version: int) -> None:
    """Only the exact filters are granted, and never QoS 2; the connection stays."""
    refused = 0x8F if version == 5 else 0x80
    token = await gate.add("d")
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect("c", token) == 0
        good = ["v1/devices/me/attributes", "v1/devices/me/rpc/request/+"]
        assert await session.subscribe(*good, qos=2) == [1, 1]
        bad = ["#", "+", "v1/devices/me/#", "v1/devices/+/telemetry", "/provision/response"]
        assert await session.subscribe(*bad) == [refused] * 5
        assert await session.unsubscribe("v1/devices/me/rpc/response/+") == (
            b"\x11" * (version == 5)
        )
        assert await session.outcome() == []


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_device_errors(gate: Gate, version: int, qos: int) -> None:
    """Unknown topics are acknowledged and forgotten; bad payloads end as section 7.4 says."""
    token = await gate.add("d")
    unknown = [(PUBACK, 0x90 if version == 5 else 0)] * qos
    bad = expected(version, qos, 0x99, None, (False, True))
    rows: list[tuple[str, bytes, Any]] = [
        ("v1/devices/me/nothing", b"{}", unknown),
        ("/provision/request", json.dumps(gate.request("n")).encode(), unknown),
        *(("v1/devices/me/telemetry", body, bad) for body in (b"", b"{", b"1", JUNK)),
        *(("v1/devices/me/attributes", body, bad) for body in (b"[]", b"{", JUNK)),
        ("v1/devices/me/attributes/request/x", b"{}", bad),
        ("v1/devices/me/rpc/request/1", b"{}", bad),
    ]
    for topic, body, outcome in rows:
        async with mqtt(gate.ports.mqtt, version) as session:
            assert await session.connect("c", token) == 0
            session.publish(topic, body, qos)
            assert await session.outcome() == outcome, (topic, body)
    assert await gate.registry.device("n") is None


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_bad_packets_close(gate: Gate, version: int) -> None:
    """A packet that is too large or makes no sense ends the session, MQTT 5 is told 0x81."""
    token = await gate.add("d")
    too_large = packet(0x30, bytes(65_537))
    no_sense = [b"\x36\x02\x00\x00", b"\x30\xff\xff\xff\xff\x01", b"\x82\x02\x00\x01"]
    for data in [too_large, *no_sense]:
        async with mqtt(gate.ports.mqtt, version) as session:
            assert await session.connect("c", token) == 0
            session.send(data)
            told = await session.outcome()
            assert told[-1] == CLOSED
            if version == 5:
                assert told[0][0] == DISCONNECT
                assert told[0][1] in (0x81, 0x82), data[:8]


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_one_session_for_each_device(gate: Gate, version: int) -> None:
    """The newer session of a device wins, whatever the client ids; other devices stay."""
    first, second = await gate.add("one"), await gate.add("two")
    taken_over = [(DISCONNECT, 0x8E), CLOSED] if version == 5 else [CLOSED]
    async with (
        mqtt(gate.ports.mqtt, version) as older,
        mqtt(gate.ports.mqtt, version) as other,
        mqtt(gate.ports.mqtt) as newer,
    ):
        assert await older.connect("same", first) == 0
        assert await other.connect("same", second) == 0
        assert await other.outcome() == []
        assert await older.outcome() == []
        assert await newer.connect("different", first) == 0
        assert await older.outcome() == taken_over
        await newer.deliver("v1/devices/me/telemetry", b'{"n":1}')
        assert await other.outcome() == []


@pytest.mark.parametrize("version", [3, 4])
async def test_mqtt_qos_2_of_older_clients_is_served_once(gate: Gate, version: int) -> None:
    """A QoS 2 provisioning, repeated before its PUBREL, makes one device and one answer."""
    asked = publish_packet(
        version, "/provision/request", json.dumps(gate.request("once")).encode(), 2, 5
    )
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect(username="provision") == 0
        session.send(asked)
        assert await session.expect(PUBREC) == Packet(PUBREC, 0, b"\0\x05")
        assert json.loads((await session.published()).payload)["status"] == "SUCCESS"
        session.send(bytes((asked[0] | 8,)) + asked[1:])
        assert await session.expect(PUBREC) == Packet(PUBREC, 0, b"\0\x05")
        session.send(packet(0x62, b"\0\x05"))
        assert await session.expect(PUBCOMP) == Packet(PUBCOMP, 0, b"\0\x05")
        assert await session.outcome() == []


async def test_mqtt_5_is_told_that_there_is_no_qos_2(gate: Gate) -> None:
    """MQTT 5 learns Maximum QoS 1 in its CONNACK, and is closed with 0x9B when it sends 2."""
    async with mqtt(gate.ports.mqtt, 5) as session:
        session.send(connect_packet(5, "", "provision"))
        told = await session.next()
        assert told is not None
        assert b"\x24\x01" in told.body
        session.publish("/provision/request", b"{}", 2)
        assert await session.outcome() == [(DISCONNECT, 0x9B), CLOSED]


# ── attributes and session limits (section 8) ─────────────────────────────────────────────────


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_attribute_requests(gate: Gate, version: int) -> None:
    """Attributes are answered by scope, on the topic with the request's own number."""
    token = await gate.add("d")
    rows = [
        (b"{}", b'{"client":{"a":1,"b":2.5,"c":"x"}}'),
        (b'{"clientKeys":"c,a"}', b'{"client":{"a":1,"c":"x"}}'),
        (b'{"clientKeys":"z"}', b"{}"),
        (b'{"sharedKeys":"a"}', b"{}"),
    ]
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect("c", token) == 0
        await session.subscribe("v1/devices/me/attributes/response/+", qos=0)
        await session.deliver("v1/devices/me/attributes", b'{"c":"x","a":"1","b":2.5,"n":null}')
        for number, (asked, told) in enumerate(rows):
            await session.deliver(f"v1/devices/me/attributes/request/{number}", asked)
            topic, payload, _ = await session.published()
            assert topic == f"v1/devices/me/attributes/response/{number}"
            assert json.loads(payload) == json.loads(told)


@pytest.mark.parametrize("gateway", [False, True])
@pytest.mark.parametrize("version", [3, 4, 5])
async def test_mqtt_session_limits(gate: Gate, version: int, gateway: bool) -> None:
    """`getSessionLimits` is answered at once, with a second set of rates for a gateway."""
    rates = b'{"messages":null,"telemetryMessages":null,"telemetryDataPoints":null}'
    told = b'{"maxPayloadSize":65536,"maxInflightMessages":100,"rateLimits":' + rates
    told += b',"gatewayRateLimits":' + rates if gateway else b""
    answer = await provisioned(gate.ports, "http", gate.request("g", gateway=gateway))
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect("c", answer["credentialsValue"]) == 0
        asked = b'{"method":"getSessionLimits","params":{}}'
        session.publish("v1/devices/me/rpc/request/1", asked)
        topic, payload, _ = await session.published()
        assert (topic, payload) == ("v1/devices/me/rpc/response/1", told + b"}")


# ── CoAP (sections 5 and 10) ──────────────────────────────────────────────────────────────────


async def test_coap_provisioning_errors(gate: Gate) -> None:
    """A request nobody can make sense of is 4.00 and empty; other methods 4.00 or 4.05."""
    async with coap(gate.ports.coap) as device:
        for body in (JUNK, b"[1]", *misunderstood(gate)):
            reply = await device.ask(POST, "api/v1/provision", body)
            assert (dotted(reply), reply.payload) == ("4.00", b""), body
        for method, code in ((GET, "4.00"), (PUT, "4.05"), (DELETE, "4.05")):
            reply = await device.ask(method, "api/v1/provision")
            assert (dotted(reply), reply.payload) == (code, b""), method


async def test_coap_finds_provisioning_by_any_spelling(gate: Gate) -> None:
    """The path's case does not matter, a token in between either, nor slashes in one option."""
    paths = ["API/V1/Provision", "api/v1/whatever/provision", "api/v1/t/PROVISION/more"]
    async with coap(gate.ports.coap) as device:
        for number, path in enumerate(paths):
            body = json.dumps(gate.request(f"d{number}")).encode()
            reply = await device.ask(POST, path, body)
            assert dotted(reply) == "2.01", path
            assert reply.opt.content_format == 50
        datagram, token = device.datagram(POST, "x", json.dumps(gate.request("one")).encode())
        option = b"\xbd\x04" + b"/api/v1/provision"
        reply = await device.send(datagram.replace(b"\xb1x", option), token)
        assert dotted(reply) == "2.01"


async def test_coap_answers_a_repeated_request_with_the_first_answer(gate: Gate) -> None:
    """The datagram sent again gets the same bytes again: the device keeps its token."""
    async with coap(gate.ports.coap) as device:
        asked = device.datagram(POST, "api/v1/provision", json.dumps(gate.request("d")).encode())
        first = await device.send(*asked)
        await device.send(*asked)
        assert dotted(first) == "2.01"
        assert len(device.raw) == 2
        assert device.raw[0] == device.raw[1]


async def test_coap_device_api_errors(gate: Gate) -> None:
    """Each row of the errors of section 10."""
    token = await gate.add("d")
    rows = [
        (POST, "api/v1/wrong/telemetry", b"{}", "4.01"),
        (POST, "api/v1/telemetry", b"{}", "4.01"),
        (GET, "api/v1/wrong/attributes", b"", "4.01"),
        (POST, f"api/v1/{token}/telemetry", b"{", "4.00"),
        (POST, f"api/v1/{token}/attributes", b"[]", "4.00"),
        (POST, f"api/v1/{token}/nothing", b"{}", "4.00"),
        (GET, f"api/v1/{token}/telemetry", b"", "4.00"),
        (GET, f"api/v1/{token}/rpc", b"", "4.00"),
        (GET, f"api/v1/{token}/attributes", b"", "4.04"),
        (PUT, f"api/v1/{token}/attributes", b"{}", "4.05"),
        (DELETE, f"api/v1/{token}/attributes", b"", "4.05"),
        (POST, f"API/v1/{token}/Telemetry", b'{"n":1}', "2.01"),
    ]
    async with coap(gate.ports.coap) as device:
        for method, path, body, code in rows:
            reply = await device.ask(method, path, body)
            assert (dotted(reply), reply.payload) == (code, b""), (method, path)
