"""curl, over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Answer, FindProgram, Program, RunningGateway


@pytest.fixture(scope="module")
def curl(system_program: FindProgram) -> Program:
    return system_program("curl", "curl")


def post(curl: Program, url: str, body: Any, *more: str) -> tuple[int, str]:
    """Post `body` as JSON; the HTTP status and the body of the answer."""
    text = body if isinstance(body, str) else json.dumps(body)
    done = curl("-sS", "-w", "\n%{http_code}", "-d", "@-", *more, url, given=text)
    assert done.status == 0, done.err
    answered, _, status = done.out.rpartition("\n")
    return int(status), answered


def provision(curl: Program, gate: RunningGateway, body: Answer, *more: str) -> Answer:
    """The provisioning answer, which is always HTTP 200 (contract, section 3)."""
    status, answered = post(curl, f"{gate.http_url}/api/v1/provision", body, *more)
    assert status == 200, answered
    told: Answer = json.loads(answered)
    return told


def test_a_device_provisions_and_sends(curl: Program, gate: RunningGateway) -> None:
    """The token curl is given opens telemetry and attributes."""
    token = gate.succeeded(provision(curl, gate, gate.request("curl-1")))
    device = f"{gate.http_url}/api/v1/{token}"

    assert post(curl, f"{device}/telemetry", {"temperature": 21.5}) == (200, "")
    assert post(curl, f"{device}/attributes", {"model": "c1"}) == (200, "")
    read = curl("-sS", f"{device}/attributes?clientKeys=model")

    assert gate.readings("curl-1") == {"temperature": 21.5}
    assert json.loads(read.out) == {"client": {"model": "c1"}}


def test_the_operator_sees_what_was_sent(curl: Program, gate: RunningGateway) -> None:
    """`gatehouse device show` tells the readings while the gateway runs, and masks the token."""
    token = gate.succeeded(provision(curl, gate, gate.request("curl-shown")))
    post(curl, f"{gate.http_url}/api/v1/{token}/telemetry", {"temperature": 21.5, "on": True})

    printed = gate.operate("device", "show", "curl-shown", "--json")

    latest = json.loads(printed)["latest"]
    assert {key: one["value"] for key, one in latest.items()} == {"temperature": 21.5, "on": True}
    assert token not in printed


def test_any_content_type_will_do(curl: Program, gate: RunningGateway) -> None:
    """The body is read as JSON whatever the Content-Type calls it, and without one."""
    for number, label in enumerate(("application/json", "text/plain", "x/y", "")):
        asked = gate.request(f"curl-type-{number}")
        gate.succeeded(provision(curl, gate, asked, "-H", f"Content-Type: {label}"))


def test_a_chunked_body_is_read(curl: Program, gate: RunningGateway) -> None:
    """A body sent in chunks, without Content-Length, provisions as well."""
    asked = gate.request("curl-chunked")
    gate.succeeded(provision(curl, gate, asked, "-H", "Transfer-Encoding: chunked"))


def test_a_wrong_secret_is_not_found(
    curl: Program, gate: RunningGateway, not_found: Answer
) -> None:
    """A wrong secret is answered NOT_FOUND, and no device comes of it."""
    assert provision(curl, gate, gate.wrong_request("curl-2")) == not_found
    gate.succeeded(provision(curl, gate, gate.request("curl-2")))


def test_a_disabled_profile_is_not_found(
    curl: Program, gate: RunningGateway, not_found: Answer
) -> None:
    """The right pair of a disabled profile is answered like a wrong one."""
    asked = gate.request("curl-3", profile="disabled")
    assert provision(curl, gate, asked) == not_found


def test_a_name_is_given_once(curl: Program, gate: RunningGateway, failure: Answer) -> None:
    """The second request for a name is a FAILURE and the first one's token stays good."""
    token = gate.succeeded(provision(curl, gate, gate.request("curl-4")))

    assert provision(curl, gate, gate.request("curl-4")) == failure
    assert gate.knows(token)


def test_of_twenty_one_gets_the_name(curl: Program, gate: RunningGateway, all_at_once: Any) -> None:
    """Twenty curls at once for one name: one SUCCESS, nineteen FAILURE."""
    gate.gave_to_one(all_at_once(lambda: provision(curl, gate, gate.request("curl-5"))))


def test_of_twenty_one_claims_a_waiting_device(
    curl: Program, gate: RunningGateway, all_at_once: Any
) -> None:
    """Twenty curls at once for one pre-provisioned device: one SUCCESS, nineteen FAILURE."""
    gate.pre_provision("curl-6")
    asked = gate.request("curl-6", profile="pre-provisioned")

    gate.gave_to_one(all_at_once(lambda: provision(curl, gate, asked)))


def test_a_name_nobody_added_cannot_be_claimed(
    curl: Program, gate: RunningGateway, failure: Answer
) -> None:
    """A pre-provisioned profile gives nothing to a name the operator did not add."""
    asked = gate.request("curl-nobody", profile="pre-provisioned")
    assert provision(curl, gate, asked) == failure


def test_malformed_requests_do_not_repeat_the_secret(curl: Program, gate: RunningGateway) -> None:
    """A body without its key is 400 with an error that names the field, never the payload."""
    asked = gate.request("curl-7")
    del asked["provisionDeviceKey"]
    status, answered = post(curl, f"{gate.http_url}/api/v1/provision", asked)

    assert status == 400
    assert "provisionDeviceKey" in json.loads(answered)["message"]
    assert asked["provisionDeviceSecret"] not in answered


def test_an_unknown_token_is_unauthorised(curl: Program, gate: RunningGateway) -> None:
    """Telemetry with a token nobody has is 401 without a body (contract, section 11)."""
    device = f"{gate.http_url}/api/v1/nobody-has-this"
    assert post(curl, f"{device}/telemetry", {"a": 1}) == (401, "")
