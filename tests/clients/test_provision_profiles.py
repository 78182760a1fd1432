"""Provision profiles of 2020 (contract, section 6): curl, libcoap's and Mosquitto's clients."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Answer, FindProgram, Program, RunningGateway

_EVERY_MEMBER = ("credentials", "customerId", "tenantId", "id", "createdTime")


class Office:
    """An operator's script: curl, logged in."""

    def __init__(self, curl: Program, gate: RunningGateway) -> None:
        self._curl = curl
        self._url = gate.http_url
        username, password = gate.administrator
        body = {"username": username, "password": password}
        told = self.ask("POST", "/api/auth/login", body, header="Accept: */*")
        self._token = told["token"]

    def ask(self, method: str, path: str, body: Any = None, *, header: str = "") -> Any:
        """The JSON of a 200; else the status."""
        given = [] if body is None else ["-H", "Content-Type: application/json", "-d", "@-"]
        who = header or f"X-Authorization: Bearer {self._token}"
        args = ("-sS", "-X", method, "-H", who, "-w", "\n%{http_code}", *given)
        text = "" if body is None else json.dumps(body)
        done = self._curl(*args, self._url + path, given=text)
        answered, _, status = done.out.rpartition("\n")
        if status != "200":
            return int(status)
        return json.loads(answered) if answered else None

    def profile(self, **members: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """A new provision profile, and what a device of it asks with."""
        made = self.ask("POST", "/api/device/provision", members or None)
        pair: dict[str, str] = made["credentials"]
        return made, pair

    def device(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = self.ask("GET", f"/api/tenant/devices?deviceName={name}")
        return told


@pytest.fixture(scope="module")
def office(system_program: FindProgram, gate: RunningGateway) -> Office:
    return Office(system_program("curl", "curl"), gate)


def _over_http(find: FindProgram, gate: RunningGateway, body: dict[str, Any]) -> Answer:
    done = find("curl", "curl")(
        "-sS", "-d", "@-", f"{gate.http_url}/api/v1/provision", given=json.dumps(body)
    )
    told: Answer = json.loads(done.out)
    return told


def _over_coap(find: FindProgram, gate: RunningGateway, body: dict[str, Any]) -> Answer:
    client = find("coap-client-notls", "libcoap3-bin")
    url = f"{gate.coap_url}/api/v1/provision"
    done = client("-m", "post", "-t", "json", "-B", "15", "-e", json.dumps(body), url)
    # A refusal goes to standard error, its code before the payload.
    told: Answer = json.loads(re.sub(r"^[^{]*", "", done.out or done.err))
    return told


def _in_session(version: str, user: str, topic: str) -> Any:
    def ask(find: FindProgram, gate: RunningGateway, body: dict[str, Any]) -> Answer:
        done = find("mosquitto_rr", "mosquitto-clients")(
            *("-h", "127.0.0.1", "-p", str(gate.mqtt), "-V", version, "-u", user, "-W", "10"),
            *("-t", topic, "-e", f"{topic}/response", "-m", json.dumps(body)),
        )
        assert done.status == 0, done
        told: Answer = json.loads(done.out)
        return told

    return ask


_ME, _GATEWAY = "v1/devices/me/provision", "v1/gateway/provision"
WIRES: dict[str, Any] = {
    "http": _over_http,
    "coap": _over_coap,
    "mqtt3": _in_session("mqttv311", "legacy-plain-tok", _ME),
    "mqtt5": _in_session("mqttv5", "legacy-plain-tok", _ME),
    "gateway3": _in_session("mqttv311", "legacy-gateway-tok", _GATEWAY),
    "gateway5": _in_session("mqttv5", "legacy-gateway-tok", _GATEWAY),
}


@pytest.fixture(scope="module")
def sessions(office: Office) -> None:
    """A device and a gateway that are known already."""
    plain = {"name": "legacy-plain"}
    gateway = {"name": "legacy-gateway", "additionalInfo": {"gateway": True}}
    office.ask("POST", "/api/device?accessToken=legacy-plain-tok", plain)
    office.ask("POST", "/api/device?accessToken=legacy-gateway-tok", gateway)


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest, sessions: None) -> str:
    name: str = request.param
    return name


@pytest.fixture
def ask(wire: str, system_program: FindProgram, gate: RunningGateway) -> Any:
    return lambda body: WIRES[wire](system_program, gate, body)


def test_a_new_device_is_the_customers_and_in_the_group(
    wire: str, ask: Any, office: Office, gate: RunningGateway
) -> None:
    """Once: its type is the one it names, and another request for its name fails."""
    customer = office.ask("POST", "/api/customer", {"title": f"Customer of {wire}"})
    made, pair = office.profile(customerId=customer["id"], groupName=f"group of {wire}")
    name = f"legacy-new-{wire}"
    body = {"deviceName": name, "deviceType": "meter", **pair}
    token = gate.succeeded(ask(body))
    assert gate.knows(token)
    assert ask(body)["status"] == "FAILURE"
    assert ask({**body, "provisionProfileSecret": "no"})["status"] == "NOT_FOUND"
    device = office.device(name)
    assert device["type"] == "meter"
    assert device["customerId"] == made["customerId"] == customer["id"]
    assert name in gate.operate("group", "show", f"group of {wire}")


def test_a_device_that_waits_gets_its_credentials_once(
    wire: str, ask: Any, office: Office, gate: RunningGateway
) -> None:
    """With `preProvisionAllowed` alone; it keeps the token that was entered for it."""
    name, token = f"legacy-old-{wire}", f"legacy-old-{wire}-tok"
    office.ask("POST", f"/api/device?accessToken={token}", {"name": name, "type": "entered"})
    _, without = office.profile(preProvisionAllowed=False)
    _, allowed = office.profile(preProvisionAllowed=True)
    assert ask({"deviceName": name, **without})["status"] == "FAILURE"
    assert gate.succeeded(ask({"deviceName": name, "deviceType": "x", **allowed})) == token
    assert ask({"deviceName": name, **allowed})["status"] == "FAILURE"
    assert office.device(name)["type"] == "entered"


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_a_gateway_gets_its_number_back(
    version: str, sessions: None, system_program: FindProgram, gate: RunningGateway, office: Office
) -> None:
    """In what succeeds and in what does not."""
    over = _in_session(version, "legacy-gateway-tok", _GATEWAY)
    _, pair = office.profile()
    body = {"id": 4711, "deviceName": f"numbered-{version}", **pair}
    answers = [over(system_program, gate, body) for _ in range(2)]
    assert [(one["status"], one["id"]) for one in answers] == [("SUCCESS", 4711), ("FAILURE", 4711)]


def test_a_device_that_is_no_gateway_provisions_for_nobody(
    sessions: None, system_program: FindProgram, gate: RunningGateway, office: Office
) -> None:
    """Nothing is answered on the gateway's topic, and nothing is born."""
    _, pair = office.profile()
    done = system_program("mosquitto_rr", "mosquitto-clients")(
        *("-h", "127.0.0.1", "-p", str(gate.mqtt), "-V", "mqttv311", "-u", "legacy-plain-tok"),
        *("-t", _GATEWAY, "-e", f"{_GATEWAY}/response", "-W", "2"),
        *("-m", json.dumps({"id": 1, "deviceName": "never-born", **pair})),
    )
    assert "SUCCESS" not in done.out
    assert office.ask("GET", "/api/tenant/devices?deviceName=never-born") == 404


@pytest.mark.parametrize("allowed", [False, True])
def test_of_fifty_at_once_one_gets_the_credentials(
    allowed: bool, office: Office, system_program: FindProgram, gate: RunningGateway
) -> None:
    """Whether the device is new, or is there and waits."""
    name = f"legacy-race-{allowed}"
    if allowed:
        office.ask("POST", "/api/device", {"name": name})
    _, pair = office.profile(preProvisionAllowed=allowed)
    body = {"deviceName": name, **pair}
    with ThreadPoolExecutor(50) as crowd:
        asked = [crowd.submit(_over_http, system_program, gate, body) for _ in range(50)]
    told = [one.result()["status"] for one in asked]
    assert (told.count("SUCCESS"), told.count("FAILURE")) == (1, 49)


def test_all_of_a_profile_may_be_left_out(office: Office) -> None:
    """The server makes key and secret, 20 letters and digits each, and lists the profile."""
    made, pair = office.profile()
    assert all(len(text) == 20 and text.isalnum() for text in pair.values())
    assert made["preProvisionAllowed"] is False
    for member in _EVERY_MEMBER:
        assert made[member], member
    found = office.ask("GET", f"/api/device/provision/{made['id']['id']}")
    assert found == made
    path = "/api/device/provision?pageSize=1000&page=0"
    assert made in office.ask("GET", path)["data"]


def test_a_removed_profile_admits_nobody(
    office: Office, system_program: FindProgram, gate: RunningGateway
) -> None:
    """At once, and it is not there any more; what it admitted stays."""
    made, pair = office.profile()
    token = gate.succeeded(_over_http(system_program, gate, {"deviceName": "legacy-kept", **pair}))
    path = f"/api/device/provision/{made['id']['id']}"
    assert office.ask("DELETE", path) is None
    told = _over_http(system_program, gate, {"deviceName": "legacy-late", **pair})
    assert told["status"] == "NOT_FOUND"
    assert office.ask("GET", path) == office.ask("DELETE", path) == 404
    assert gate.knows(token)
