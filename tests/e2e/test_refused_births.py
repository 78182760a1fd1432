"""What who is refused is told on each wire: in ThingsBoard's words, in detail, and when to come
again."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest
from inside import Gate, NewGate
from wires import GET, POST, PUBACK, HttpReply, Mqtt, coap, dotted, http, http_request, mqtt

from gateway.core.model import DeviceProfile, EventKind, Policy, ProvisionType, Secret
from gateway.core.refusals import REFUSALS
from gateway.core.registry import ProfileDraft
from gateway.dialects.thingsboard.problems import OUR_ENTRY
from gateway.store.sql_registrar import SqlRegistrar
from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.packets import REASON, USER_PROPERTY, Ack

PATH = "/api/v1/provision"
NOT_FOUND = b'{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}'
FAILURE = b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'
ASKS = "Accept: application/problem+json\r\n"
BROWSES = "Accept: text/html, */*;q=0.1\r\n"


def encoded(asked: Any) -> bytes:
    return json.dumps(asked).encode()


async def over_http(gate: Gate, asked: Any, headers: str = "") -> HttpReply:
    sent = http_request("POST", PATH, encoded(asked))
    async with http(gate.ports.http) as web:
        return await web.raw(sent.replace(b"\r\n", b"\r\n" + headers.encode(), 1))


async def over_coap(gate: Gate, asked: Any, **options: Any) -> Any:
    async with coap(gate.ports.coap) as device:
        return await device.ask(POST, PATH, encoded(asked), **options)


async def over_mqtt(gate: Gate, asked: Any, version: int = 5) -> tuple[Ack, bytes]:
    """The acknowledgement, and the body that follows it."""
    async with mqtt(gate.ports.mqtt, version) as session:
        assert await session.connect("", "provision") == 0
        await session.subscribe("/provision/response")
        session.publish("/provision/request", encoded(asked), 1)
        ack = await _ack(session)
        return ack, (await session.published()).payload


async def _ack(session: Mqtt) -> Ack:
    got = await session.expect(PUBACK)
    decoder = Decoder(version=session.version, client=True)
    decoder.feed(bytes((got.kind, len(got.body))) + got.body)
    (ack,) = list(decoder)
    assert isinstance(ack, Ack)
    return ack


async def detailed(gate: Gate, **limits: str) -> None:
    """A profile `open` whose devices are told why they are refused."""
    profile = DeviceProfile(
        id=0,
        name="open",
        provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES,
        policy=Policy(detailed_refusals=True),
        limits=limits,
    )
    pair = {"key": Secret("open-key-0001"), "secret": Secret("open-secret-0001")}
    await gate.registry.save_profile(ProfileDraft(profile=profile, **pair))
    gate.secrets["open"] = "open-secret-0001"


def max_age(message: Any) -> int:
    return int(message.opt.max_age)


@pytest.mark.parametrize("headers", ["", "Accept: */*\r\n", "Accept: application/json\r\n"])
async def test_who_asks_for_nothing_is_refused_as_by_thingsboard(gate: Gate, headers: str) -> None:
    """To the byte, with its numbers, on every wire; nothing more is told beside it."""
    assert (await over_http(gate, gate.request("taken"))).status == 200
    wrong = gate.request("new") | {"provisionDeviceSecret": "no-secret-at-all"}
    for asked, body in ((gate.request("taken"), FAILURE), (wrong, NOT_FOUND)):
        reply = await over_http(gate, asked, headers)
        assert (reply.status, reply.body) == (200, body)
        assert reply.headers["content-type"] == "application/json"
        assert "retry-after" not in reply.headers
        told = await over_coap(gate, asked)
        assert (dotted(told), told.payload, told.opt.content_format) == ("4.00", body, 50)
        for version in (4, 5):
            ack, answer = await over_mqtt(gate, asked, version)
            assert (ack.code, ack.properties, answer) == (0, {}, body)


async def test_a_profile_may_have_its_devices_told_what_is_wrong(gate: Gate) -> None:
    """A problem over HTTP and CoAP, further members over MQTT; each with the table's numbers."""
    await detailed(gate)
    asked = gate.request("taken", profile="open")
    assert (await over_http(gate, asked)).status == 200
    row = next(one for one in REFUSALS.values() if one.code == "name_taken")

    reply = await over_http(gate, asked)
    assert (reply.status, reply.headers["content-type"]) == (409, "application/problem+json")
    assert json.loads(reply.body) == {
        "type": "/refusals#name_taken",
        "title": row.title,
        "status": 409,
        "detail": row.detail,
        "code": "name_taken",
    }
    message = await over_coap(gate, asked)
    assert (dotted(message), message.opt.content_format) == ("4.09", 257)
    assert cbor2.loads(message.payload) == {
        -1: row.title,
        -2: row.detail,
        -4: message.code,
        OUR_ENTRY: {"code": "name_taken"},
    }
    plain = await over_coap(gate, asked, accept=50)
    assert (dotted(plain), json.loads(plain.payload)["code"]) == ("4.00", "name_taken")
    ack, answer = await over_mqtt(gate, asked)
    assert (ack.code, ack.properties) == (row.mqtt, {REASON: row.title})
    assert answer.startswith(FAILURE[:-1])
    assert json.loads(answer)["code"] == "name_taken"
    ack, answer = await over_mqtt(gate, asked, 4)
    assert (ack.code, json.loads(answer)["title"]) == (0, row.title)
    for told in (reply.body, message.payload, answer):
        assert b"taken-name" not in told
        assert b"0001" not in told


async def test_who_asks_for_a_problem_is_told_once_it_has_proven_a_secret(gate: Gate) -> None:
    """And a stranger no more than ThingsBoard tells; which of key and secret is wrong is not."""
    assert (await over_http(gate, gate.request("taken"))).status == 200
    reply = await over_http(gate, gate.request("taken"), ASKS)
    assert (reply.status, json.loads(reply.body)["code"]) == (409, "name_taken")
    message = await over_coap(gate, gate.request("taken"), accept=257)
    assert cbor2.loads(message.payload)[OUR_ENTRY] == {"code": "name_taken"}

    bodies = set()
    for wrong in ("provisionDeviceKey", "provisionDeviceSecret"):
        asked = gate.request("new") | {wrong: "no-such-thing"}
        reply = await over_http(gate, asked, ASKS)
        message = await over_coap(gate, asked, accept=257)
        assert (reply.status, dotted(message)) == (404, "4.04")
        bodies |= {reply.body, message.payload}
    assert len(bodies) == 2
    assert json.loads(min(bodies, key=lambda one: one[:1] != b"{")) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "Provision data was not found!",
    }


async def test_who_guesses_is_told_to_wait_on_every_wire_and_then_shut_out(
    standing_clock: None, new_gate: NewGate
) -> None:
    """429, 4.29, 0x97; then even the right secret from there; one event says so. What came in the
    open over UDP is counted apart."""
    gate = await new_gate(provisioning={"wrong_free": 1, "wrong_more": 3})
    guesses = iter(range(100))

    def guess() -> dict[str, Any]:
        return gate.request("x") | {"provisionDeviceSecret": f"guess-{next(guesses)}"}

    assert (await over_http(gate, guess())).status == 200
    reply = await over_http(gate, guess())
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert reply.body == FAILURE[:-1] + b',"retryAfter":1}'
    assert dotted(await over_coap(gate, guess())) == "4.00"
    message = await over_coap(gate, guess())
    assert (dotted(message), max_age(message)) == ("4.29", 1)
    ack, answer = await over_mqtt(gate, guess())
    assert (ack.code, json.loads(answer)["retryAfter"]) == (0x97, 2)
    assert ack.properties[USER_PROPERTY] == [("retry-after", "2")]
    assert ack.properties[REASON] == "come again later"

    reply = await over_http(gate, guess(), ASKS)
    assert json.loads(reply.body) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "Failed to provision device!",
        "retryAfter": 900,
    }
    for _ in range(3):
        assert (await over_http(gate, guess())).headers["retry-after"] == "900"
    assert (await over_http(gate, gate.request("x"))).status == 429
    ack, answer = await over_mqtt(gate, gate.request("x"), 4)
    assert (ack.code, json.loads(answer)["status"]) == (0, "FAILURE")

    events = await SqlRegistrar(gate.gateway.store).events(after_seq=0, limit=1000, device_id=None)
    blocks = [one for one in events if one.kind is EventKind.PROVISION_BLOCK]
    assert [one.detail["blocked"] for one in blocks] == ["key", "address and key, address"]
    assert blocks[1].detail == {
        "blocked": "address and key, address",
        "count": "4",
        "seconds": "900",
        "profile": "create",
    }
    assert blocks[1].peer.address.startswith("127.0.0.1")
    assert "guess" not in repr(events)


async def test_a_wrong_secret_shown_again_and_again_is_answered_as_by_thingsboard(
    gate: Gate,
) -> None:
    """To the byte, on every wire, and devices beside it are served."""
    asked = gate.request("x") | {"provisionDeviceSecret": "of last year"}
    for turn in range(12):
        async with http(gate.ports.http) as web:
            replies = [await web.raw(http_request("POST", PATH, encoded(asked))) for _ in range(9)]
        assert {(one.status, one.body) for one in replies} == {(200, NOT_FOUND)}
        assert (await over_coap(gate, asked)).payload == NOT_FOUND
        assert (await over_mqtt(gate, asked, 4 + turn % 2))[1] == NOT_FOUND
    assert (await over_http(gate, gate.request("x"))).status == 200


async def test_who_tries_a_new_gateway_out_is_never_told_to_wait(gate: Gate) -> None:
    """A dozen wrong secrets, and a dozen wrong keys, before and between right ones, from one
    address: each is told what ThingsBoard tells."""
    for number in range(12):
        for member in ("provisionDeviceSecret", "provisionDeviceKey"):
            wrong = gate.request("x") | {member: f"wrong-{number}"}
            reply = await over_http(gate, wrong)
            assert (reply.status, reply.body) == (200, NOT_FOUND)
            assert (await over_coap(gate, wrong)).payload == NOT_FOUND
        if number >= 6:
            reply = await over_http(gate, gate.request(f"m-{number}"))
            assert json.loads(reply.body)["status"] == "SUCCESS"


async def test_asking_for_problems_changes_nothing_elsewhere(gate: Gate) -> None:
    """CoAP's Accept 257, and HTTP's, with a success and with another resource."""
    message = await over_coap(gate, gate.request("a"), accept=257)
    assert (dotted(message), message.opt.content_format) == ("2.01", 50)
    token = json.loads(message.payload)["credentialsValue"]
    async with coap(gate.ports.coap) as device:
        told = await device.ask(GET, f"/api/v1/{token}/attributes", accept=257)
        plain = await device.ask(GET, f"/api/v1/{token}/attributes")
    assert (told.code, told.payload, told.opt.content_format) == (
        plain.code,
        plain.payload,
        plain.opt.content_format,
    )
    reply = await over_http(gate, gate.request("b"), ASKS)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")


async def test_too_many_are_told_to_wait(standing_clock: None, new_gate: NewGate) -> None:
    """By a rate for all profiles, and by a profile's own; the wait is in every answer."""
    gate = await new_gate(provisioning={"profile": "1:2"})
    await detailed(gate, provisions="1:60")
    assert (await over_http(gate, gate.request("one"))).status == 200
    reply = await over_http(gate, gate.request("two"))
    wait_s = int(reply.headers["retry-after"])
    assert (reply.status, 1 <= wait_s <= 3) == (429, True)
    assert reply.body == FAILURE[:-1] + b',"retryAfter":%d}' % wait_s

    assert (await over_http(gate, gate.request("a", profile="open"))).status == 200
    asked = gate.request("b", profile="open")
    reply = await over_http(gate, asked)
    told = json.loads(reply.body)
    assert (reply.status, told["code"], told["status"]) == (429, "too_many_requests", 429)
    wait_s = told["retryAfter"]
    assert 55 <= wait_s <= 90
    assert reply.headers["retry-after"] == str(wait_s)
    message = await over_coap(gate, asked)
    assert (dotted(message), message.opt.content_format) == ("4.29", 257)
    assert cbor2.loads(message.payload)[OUR_ENTRY]["retryAfter"] == max_age(message)
    ack, answer = await over_mqtt(gate, asked)
    assert ack.code == 0x97
    assert abs(int(ack.properties[USER_PROPERTY][0][1]) - wait_s) <= 2
    assert json.loads(answer)["code"] == "too_many_requests"


async def test_the_table_is_served_where_problems_point(gate: Gate) -> None:
    """JSON, and a page in which each code is a place."""
    async with http(gate.ports.http) as web:
        rows = json.loads((await web.ask("GET", "/refusals")).body)
        page = await web.raw(
            http_request("GET", "/refusals").replace(b"\r\n", b"\r\n" + BROWSES.encode(), 1)
        )
    assert [one["code"] for one in rows] == [row.code for row in REFUSALS.values()]
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert all(f'id="{one["code"]}"'.encode() in page.body for one in rows)
