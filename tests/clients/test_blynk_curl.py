"""curl, as Blynk's documentation has it: the Platform API, the claim, and the device API."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from clients.lab import until
from clients.office import INVALID, PROVISION, Office, Reply
from clients.running import CROWD, TEMPLATE

if TYPE_CHECKING:
    from tests.clients.conftest import FindProgram, Program, RunningGateway

NO_TEMPLATE = {"error": {"message": "Template is not found."}}
TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")


class Answer(NamedTuple):
    """Header names in lower case; the body as sent."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def told(self) -> Any:
        return json.loads(self.body)


class Curl:
    """curl, aimed at the gateway. What is secret comes by standard input, as a file of options."""

    def __init__(self, program: Program, gate: RunningGateway, office: Office) -> None:
        self._program = program
        self._url = gate.http_url
        self._office = office

    def __call__(self, path: str, *more: str, options: str = "") -> Answer:
        given = f'url = "{self._url}{path}"\n{options}'
        done = self._program("-sS", "-i", *more, "--config", "-", given=given)
        assert done.status == 0, done.err
        head, _, body = done.out.partition("\n\n")
        first, *lines = head.splitlines()
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return Answer(int(first.split()[1]), headers, body)

    def login(self, grant: str, *more: str, secret: str = "") -> Answer:
        """Of the office's OAuth client, or with another secret."""
        name, right = self._office.client
        user = f'user = "{name}:{secret or right}"\n'
        answer = self(f"/oauth2/token?{grant}", "-X", "POST", *more, options=user)
        told = answer.told
        self._office.secrets += [told[k] for k in ("access_token", "refresh_token") if k in told]
        return answer

    def post(self, path: str, body: Any, *more: str, bearer: str = "") -> Answer:
        """To the Platform API, by default with the office's bearer token."""
        header = f'header = "Authorization: Bearer {bearer or self._office.bearer}"\n'
        text = body if isinstance(body, str) else json.dumps(body)
        answer = self(path, "-X", "POST", "-d", text, *more, options=header)
        if answer.status == 200 and "token" in answer.told:
            self._office.secrets.append(answer.told["token"])
        return answer

    def issue(self) -> tuple[str, int]:
        asked = {"orgId": self._office.organisation, "ownerId": self._office.owner}
        answer = self.post(f"{PROVISION}/token", asked)
        assert answer.status == 200, answer
        return answer.told["token"], answer.told["deviceId"]

    def device(self, call: str, token: str, query: str = "", *more: str) -> Answer:
        return self(f"/external/api/{call}?token={token}{query}", *more)

    def claim(self, token: str, query: str = f"&templateId={TEMPLATE}") -> Answer:
        return self.device("provision", token, query)

    def born(self) -> tuple[str, int]:
        """A device that claimed its token."""
        token, number = self.issue()
        assert self.claim(token).status == 200
        return token, number


@pytest.fixture(scope="module")
def curl(system_program: FindProgram, gate: RunningGateway, office: Office) -> Curl:
    return Curl(system_program("curl", "curl"), gate, office)


# ── OAuth ─────────────────────────────────────────────────────────────────────────────────────


def test_a_client_logs_in_and_renews_once(curl: Curl) -> None:
    """Each refresh token is good once; the second try is `invalid_grant`, with status 400."""
    first = curl.login("grant_type=client_credentials")
    assert first.status == 200, first
    assert first.told["token_type"] == "Bearer"
    assert first.told["expires_in"] == 86_400
    assert first.headers["cache-control"] == "no-store"

    renew = "grant_type=refresh_token&refresh_token=" + first.told["refresh_token"]
    second, third = curl.login(renew), curl.login(renew)

    assert second.told["access_token"] != first.told["access_token"]
    assert (third.status, third.told["error"]) == (400, "invalid_grant")


def test_a_wrong_client_secret_is_400(curl: Curl) -> None:
    """In the flat shape of RFC 6749, with Blynk's text."""
    answer = curl.login("grant_type=client_credentials", secret="x" * 40)
    assert (answer.status, answer.told["error"]) == (400, "invalid_client")
    assert answer.told["error_description"] == "Client ID is not found or password is wrong."


# ── the Platform API ──────────────────────────────────────────────────────────────────────────


def test_a_token_is_issued(curl: Curl, office: Office) -> None:
    """32 characters and a number, both new each time; there is no device yet."""
    issued = [curl.issue() for _ in range(3)]
    assert len({token for token, _ in issued}) == len({number for _, number in issued}) == 3
    for token, _ in issued:
        assert TOKEN.fullmatch(token)
        assert not office.is_claimed(token)


def test_the_body_needs_no_content_type(curl: Curl, office: Office) -> None:
    asked = {"orgId": office.organisation, "ownerId": office.owner}
    for label in ("Content-Type: application/json", "Content-Type:"):
        assert curl.post(f"{PROVISION}/token", asked, "-H", label).status == 200


@pytest.mark.parametrize("call", ["token", "reconfigure", "reprovision/token"])
def test_who_has_no_bearer_token_is_401(curl: Curl, call: str) -> None:
    answer = curl.post(f"{PROVISION}/{call}", {}, bearer="nobody-was-given-this")
    assert (answer.status, answer.headers["www-authenticate"].split()[0]) == (401, "Bearer")
    assert answer.told["error"]["message"]


@pytest.mark.parametrize("call", ["token", "reconfigure", "reprovision/token"])
def test_mistakes_have_their_status(curl: Curl, call: str) -> None:
    """No JSON is 400, a device or organisation that is not there 404, another method 405."""
    path = f"{PROVISION}/{call}"
    assert curl.post(path, "not json").status == 400
    nobody = {"orgId": 999_999, "ownerId": 999_999, "deviceId": 999_999}
    assert curl.post(path, nobody).status == 404
    got = curl.post(path, "", "-X", "GET")
    assert (got.status, got.headers["allow"]) == (405, "POST")


# ── the claim ─────────────────────────────────────────────────────────────────────────────────


def test_a_claim_is_200_without_a_body(curl: Curl, gate: RunningGateway) -> None:
    """As often as it is asked; the device has the number that was reserved."""
    token, number = curl.issue()
    query = f"&templateId={TEMPLATE}&ver=1.0&build=Oct+1&type=MCU&fwType={TEMPLATE}&boType=ESP32"
    for _ in range(2):
        answer = curl.claim(token, query)
        assert (answer.status, answer.body) == (200, "")
        assert answer.headers["content-length"] == "0"
        assert answer.headers["cache-control"] == "no-store"
    assert gate.device(f"Meter {number}")["name"] == f"Meter {number}"


def test_what_is_not_a_claim(curl: Curl, office: Office) -> None:
    """An unknown token, a template that is not there, HEAD and POST; none uses the token up."""
    token, _ = curl.issue()
    unknown = curl.claim("nobody-was-ever-given-this-token")
    assert (unknown.status, unknown.body) == (400, json.dumps(INVALID, separators=(",", ":")))
    for query in ("", "&templateId=", "&templateId=TMPLnobody000"):
        answer = curl.claim(token, query)
        assert (answer.status, answer.told) == (400, NO_TEMPLATE)
    right = f"&templateId={TEMPLATE}"
    assert curl.device("provision", token, right, "--head").status == 200
    assert curl.device("provision", token, right, "-X", "POST").status == 405
    assert not office.is_claimed(token)
    assert curl.claim(token).status == 200


def test_of_twenty_claims_all_succeed_and_one_device_comes(
    curl: Curl, gate: RunningGateway, all_at_once: Any
) -> None:
    token, number = curl.issue()
    answers = all_at_once(lambda: curl.claim(token))
    assert [answer.status for answer in answers] == [200] * CROWD
    named = [one for one in _names(gate) if one == f"Meter {number}"]
    assert len(named) == 1


def _names(gate: RunningGateway) -> list[str]:
    listed = gate.operate("device", "list", "--json", "--limit", "1000")
    return [one["name"] for one in json.loads(listed)]


# ── the device API ────────────────────────────────────────────────────────────────────────────


def test_values_are_written_and_read(curl: Curl, gate: RunningGateway) -> None:
    """By pin, several at once, and as a batch with times of its own."""
    token, number = curl.born()
    assert curl.device("update", token, "&v1=21.5").status == 200
    assert curl.device("batch/update", token, "&v0=1&v2=warm").status == 200
    assert float(curl.device("get", token, "&v1").body) == 21.5
    assert curl.device("getAll", token).told.items() >= {"v0": 1, "v1": 21.5, "v2": "warm"}.items()
    points = json.dumps([[1_760_000_000_000, 4.5], [1_760_000_001_000, 5.5]])
    batch = ("-X", "POST", "-H", "Content-Type: application/json", "-d", points)
    assert curl.device("batch/update", token, "&pin=v1", *batch).status == 200
    expected = {"temperature": 21.5, "Switch": 1, "note": "warm"}
    assert gate.readings(f"Meter {number}") == expected


def test_metadata_and_events_are_told(curl: Curl, gate: RunningGateway) -> None:
    token, number = curl.born()
    fields = "&metaFieldName=Location&value=first%20floor"
    assert curl.device("device/meta/update", token, fields).status == 200
    told = curl.device("device/meta", token, "&metaFieldId=1").told
    assert told == {"type": "Text", "value": "first floor"}
    assert curl.device("logEvent", token, "&code=overheated&description=hot").status == 200
    assert gate.readings(f"Meter {number}")["event.overheated"] == "hot"


def test_a_wrong_pin_has_its_text(curl: Curl) -> None:
    token, _ = curl.born()
    answer = curl.device("update", token, "&v77=1")
    assert answer.status == 400
    assert answer.told["error"]["message"] == "No datastream setup for that pin."


def test_a_pending_token_opens_nothing(curl: Curl) -> None:
    """But `isHardwareConnected`, which a phone may ask until its device is there."""
    token, _ = curl.issue()
    asked = curl.device("isHardwareConnected", token)
    assert (asked.status, asked.body) == (200, "false")
    for call, query in (("get", "&v1"), ("update", "&v1=2"), ("getAll", "")):
        answer = curl.device(call, token, query)
        assert (answer.status, answer.told) == (400, INVALID)


def test_a_device_gets_a_new_token(curl: Curl, office: Office) -> None:
    """The old one is good until the new one is claimed; number and values stay."""
    old, number = curl.born()
    assert curl.device("update", old, "&v1=21.5").status == 200
    told = curl.post(f"{PROVISION}/reprovision/token", {"deviceId": number}).told
    assert told["deviceId"] == number
    assert office.is_claimed(old)

    assert curl.claim(told["token"]).status == 200

    until(lambda: office.device("getAll", old) == Reply(400, INVALID), within_s=1)
    assert float(curl.device("get", told["token"], "&v1").body) == 21.5


def test_a_device_over_http_alone_cannot_be_told(curl: Curl) -> None:
    _, number = curl.born()
    answer = curl.post(f"{PROVISION}/reconfigure", {"deviceId": number})
    assert (answer.status, answer.told) == (200, {"deviceIsOffline": True})
