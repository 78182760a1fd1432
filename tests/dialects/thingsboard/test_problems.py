"""What is wrong, in bytes: RFC 9457, RFC 9290, and ThingsBoard's own shapes."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import Peer, RefusalReason, Refused, Wire
from gateway.core.refusals import REFUSALS
from gateway.dialects.thingsboard.problems import (
    OUR_ENTRY,
    http_problem,
    plain_reply,
    refusal_reply,
)
from gateway.transports.coap import message as coap_codes
from gateway.transports.coap.resources import _CODES as COAP
from gateway.transports.http_answers import CODES as HTTP
from gateway.wire.call import Call, Format, Reply, Status

R = RefusalReason
NOT_FOUND = b'{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}'
FAILURE = b'{"errorMsg":"Failed to provision device!","status":"FAILURE"}'
SECRETIVE = (R.UNKNOWN_KEY, R.WRONG_SECRET, R.PROVISIONING_DISABLED, R.CERTIFICATE_CHAIN_ONLY)


def call(wire: Wire, accept: str | int | None = None) -> Call:
    peer = Peer(wire, "192.0.2.7:5000")
    if isinstance(accept, str):
        return Call(b"", peer, headers={"Accept": accept})
    return Call(b"", peer, accept=accept)


HTTP_ASKS = call(Wire.HTTPS, "application/problem+json")
IN_CBOR = "application/concise-problem-details+cbor"
COAP_ASKS = call(Wire.COAPS, 257)
PLAIN = (call(Wire.HTTP), call(Wire.COAP), call(Wire.COAP, 50), call(Wire.MQTT), call(Wire.MQTTS))


@pytest.mark.parametrize("reason", sorted(set(R) - {R.APPROVAL_PENDING}))
def test_who_does_not_ask_gets_thingsboards_bytes(reason: R) -> None:
    """One of two bodies, with the status of a refusal and no code of MQTT 5."""
    body = NOT_FOUND if reason in SECRETIVE else FAILURE
    for one in PLAIN:
        reply = refusal_reply(Refused(reason), one)
        assert reply == Reply(body, Status.REFUSED, Format.JSON, reason.value)


@pytest.mark.parametrize("reason", list(R))
def test_a_problem_has_the_numbers_of_the_table(reason: R) -> None:
    """Those that the listeners make of its status; and nothing of it for who proved nothing."""
    row = REFUSALS[reason]
    web = refusal_reply(Refused(reason), HTTP_ASKS)
    told = json.loads(web.body)
    assert (web.format, HTTP[web.status]) == (Format.PROBLEM_JSON, told["status"])
    message = refusal_reply(Refused(reason), COAP_ASKS)
    problem = cbor2.loads(message.body)
    assert (message.format, COAP[message.status]) == (Format.PROBLEM_CBOR, problem[-4])
    if row.proven:
        assert list(told) == ["type", "title", "status", "detail", "code"]
        assert told["type"] == f"/refusals#{row.code}"
        assert (told["title"], told["detail"], told["status"]) == (row.title, row.detail, row.http)
        assert (problem[-1], problem[-2]) == (row.title, row.detail)
        assert problem[-4] == row.coap // 100 << 5 | row.coap % 100
        assert problem[OUR_ENTRY] == {"code": row.code}
    else:
        assert told["type"] == "about:blank"
        assert told["status"] in (400, 404)
        assert row.code not in web.body.decode()
        assert set(problem) == {-1, -2, -4}
        assert problem[-2] == told["detail"] in (NOT_FOUND + FAILURE).decode()


@pytest.mark.parametrize("reason", [R.TOO_MANY_REQUESTS, R.OUTSIDE_HOURS, R.NAME_TAKEN])
def test_who_has_to_wait_is_told_so_on_each_wire(reason: R) -> None:
    """By number and by seconds, whatever else is wrong; ThingsBoard's members come first."""
    refused = Refused(reason, 7)
    for one in PLAIN:
        reply = refusal_reply(refused, one)
        assert reply.body == FAILURE[:-1] + b',"retryAfter":7}'
        assert (reply.status, reply.retry_after_s, reply.ack) == (Status.LIMITED, 7, 0x97)
    web = refusal_reply(refused, HTTP_ASKS)
    told = json.loads(web.body)
    assert (web.status, web.retry_after_s) == (Status.LIMITED, 7)
    assert (told["status"], told["retryAfter"], told["code"]) == (429, 7, reason.value)
    problem = cbor2.loads(refusal_reply(refused, COAP_ASKS).body)
    assert problem[-4] == coap_codes.TOO_MANY_REQUESTS
    assert problem[OUR_ENTRY] == {"code": reason.value, "retryAfter": 7}


def test_who_waits_for_approval_is_told_pending() -> None:
    """202 in HTTP, which no client takes for an error; 5.03 in CoAP, 0x97 in MQTT 5."""
    for one in PLAIN:
        reply = refusal_reply(Refused(R.APPROVAL_PENDING, 60), one)
        told = json.loads(reply.body)
        assert list(told) == ["errorMsg", "status", "retryAfter"]
        assert (told["status"], told["retryAfter"]) == ("PENDING", 60)
        assert (reply.status, reply.ack, reply.retry_after_s) == (Status.PENDING, 0x97, 60)
    assert (HTTP[Status.PENDING], COAP[Status.PENDING]) == (202, coap_codes.SERVICE_UNAVAILABLE)
    problem = json.loads(refusal_reply(Refused(R.APPROVAL_PENDING, 60), HTTP_ASKS).body)
    assert (problem["status"], problem["code"]) == (202, "approval_pending")


def test_a_stranger_who_has_to_wait_learns_nothing_else() -> None:
    """Neither that secrets were wrong, nor whose."""
    refused = Refused(R.TOO_MANY_WRONG_SECRETS, 4, detailed=True)
    for one in (*PLAIN, HTTP_ASKS, COAP_ASKS):
        reply = refusal_reply(refused, one)
        assert b"wrong" not in reply.body
        assert b"secret" not in reply.body
        if reply.ack is not None:
            assert reply.reason == "come again later"


def test_a_detailed_profile_tells_in_the_form_of_each_wire() -> None:
    """A problem where no other form is asked for; members beside ThingsBoard's in JSON."""
    refused = Refused(R.NAME_TAKEN, detailed=True)
    row = REFUSALS[R.NAME_TAKEN]
    forms = [refusal_reply(refused, one).format for one in PLAIN]
    assert forms == [
        *(Format.PROBLEM_JSON, Format.PROBLEM_CBOR, Format.JSON, Format.JSON, Format.JSON),
    ]
    for one in PLAIN[2:]:
        reply = refusal_reply(refused, one)
        assert reply.body.startswith(FAILURE[:-1] + b',"code":"name_taken","title":')
        assert json.loads(reply.body)["detail"] == row.detail
        assert (reply.status, reply.ack, reply.reason) == (Status.REFUSED, row.mqtt, row.title)


def test_what_a_hook_said_stands_for_what_to_do() -> None:
    """It knows best why."""
    refused = Refused(R.DENIED_BY_HOOK, said="not paid for")
    assert json.loads(refusal_reply(refused, HTTP_ASKS).body)["detail"] == "not paid for"
    assert b"not paid" not in plain_reply(refused).body


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/problem+json", True),
        ("Application/Problem+JSON; q=0.5, text/html", True),
        ("text/html,application/problem+json;charset=utf-8", True),
        ("application/json, application/problem+json", True),
        ("application/json;q=0.8, application/problem+json;q=0.9", True),
        ("application/json, application/problem+json;q=0.9", False),
        ("*/*, application/problem+json ; q = 0.1", True),
        ("application/problem+json;q=all", False),
        ("application/problem+json;q=0", False),
        ("application/problem+json; q=0.000", False),
        ("application/problem+jsonp", False),
        ("*/*", False),
        ("application/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_a_problem_is_asked_for_by_name(accept: str, *, wanted: bool) -> None:
    """A range does not name it: nearly every client sends one."""
    asked = call(Wire.HTTP, accept)
    assert http_problem(asked, detailed=False) is (Format.PROBLEM_JSON if wanted else None)


@pytest.mark.parametrize(
    ("accept", "body_of", "form", "asked_for"),
    [
        ("application/concise-problem-details+cbor", "", Format.PROBLEM_CBOR, True),
        ("Application/Concise-Problem-Details+CBOR;q=.5", "", Format.PROBLEM_JSON, False),
        (f"{IN_CBOR}, application/problem+json;q=0.9", "", Format.PROBLEM_CBOR, True),
        (f"{IN_CBOR};q=0.9, application/problem+json", "", Format.PROBLEM_JSON, True),
        (f"application/cbor, {IN_CBOR}", "", Format.PROBLEM_CBOR, True),
        (f"application/cbor, {IN_CBOR};q=0.5", "", None, False),
        ("*/*", "application/cbor", Format.PROBLEM_CBOR, False),
        ("", "Application/CBOR; x=y", Format.PROBLEM_CBOR, False),
        ("", "application/json", Format.PROBLEM_JSON, False),
        ("application/cbor", "application/cbor", None, False),
        ("application/json, text/plain, */*", "", None, False),
        ("application/json;q=0, */*", "", Format.PROBLEM_JSON, False),
        ("application/problem+json;q=0, */*", "", None, False),
        (f"{IN_CBOR};q=0.0", "application/cbor", None, False),
    ],
)
def test_who_is_told_in_detail_can_read_it(
    accept: str, body_of: str, form: Format | None, *, asked_for: bool
) -> None:
    """A problem in what the device speaks; ThingsBoard's members to who asks for JSON or CBOR."""
    headers = {"Accept": accept, "Content-Type": body_of}
    asked = Call(b"", Peer(Wire.HTTP, "192.0.2.7:5000"), headers=headers)
    assert http_problem(asked, detailed=True) is form
    assert http_problem(asked, detailed=False) is (form if asked_for else None)
    reply = refusal_reply(Refused(R.NAME_TAKEN, detailed=True), asked)
    if form is None:
        assert reply.body.startswith(FAILURE[:-1] + b',"code":"name_taken","title":')
        assert (reply.status, reply.format) == (Status.REFUSED, Format.JSON)
    else:
        assert (reply.status, reply.format) == (Status.CONFLICT, form)


def test_a_problem_in_cbor_has_no_code_of_coap_over_http() -> None:
    """RFC 9290, section 2: -4 is what the origin server answered in CoAP."""
    asked = call(Wire.HTTP, IN_CBOR)
    row = REFUSALS[R.NAME_TAKEN]
    problem = cbor2.loads(refusal_reply(Refused(R.NAME_TAKEN), asked).body)
    assert problem == {-1: row.title, -2: row.detail, OUR_ENTRY: {"code": "name_taken"}}
    problem = cbor2.loads(refusal_reply(Refused(R.WRONG_SECRET), asked).body)
    assert problem == {-1: "Not Found", -2: "Provision data was not found!"}


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_accept_header_can_be_read(accept: str) -> None:
    """Whatever stands in it."""
    named = f"{accept}, application/problem+json;q=0.1"
    for one in (accept, named):
        form = http_problem(call(Wire.HTTP, one), detailed=True)
        assert form in (None, Format.PROBLEM_JSON, Format.PROBLEM_CBOR)


@settings(max_examples=60, deadline=None)
@given(
    reason=st.sampled_from(list(R)),
    wait_s=st.integers(0, 10**6),
    detailed=st.booleans(),
    said=st.text(max_size=80),
    asked=st.sampled_from((*PLAIN, HTTP_ASKS, COAP_ASKS)),
)
def test_every_refusal_can_be_said_on_every_wire(
    reason: R, wait_s: int, said: str, asked: Call, *, detailed: bool
) -> None:
    """In bytes that its format can be read from, with a status its listener has a number for."""
    reply = refusal_reply(Refused(reason, wait_s, detailed, said), asked)
    assert reply.status in HTTP
    assert reply.status in COAP
    told: dict[Any, Any]
    if reply.format is Format.PROBLEM_CBOR:
        told = cbor2.loads(reply.body)
        assert all(isinstance(key, int) or key == OUR_ENTRY for key in told)
    else:
        told = json.loads(reply.body)
        assert told.get("retryAfter", 0) == wait_s
    if wait_s:
        assert reply.status in (Status.LIMITED, Status.PENDING, Status.OVERLOADED)
