"""The Python REST client of ThingsBoard, 4.3 and 4.4: scripts of operators run unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clients.conftest import HERE, PROGRAMS, Conversation, Program, missing

if TYPE_CHECKING:
    from tests.clients.running import RunningGateway

TAKEN = "Device credentials are already assigned to another device!"


class Operator:
    """One version of the client."""

    def __init__(self, version: str, gate: RunningGateway, folder: Path) -> None:
        python = PROGRAMS / f"rest-{version}" / "bin" / "python"
        if not python.exists():
            missing(f"tb-rest-client {version}", "make clients")
        self.name = f"rest-{version.replace('.', '')}"
        script = str(HERE / "drivers" / "tb_rest.py")
        self._driver = Conversation(Program(str(python), (script,)), folder)
        self._gate = gate

    def does(self, job: str, **more: Any) -> Any:
        user, password = self._gate.administrator
        admin = {"user": user, "password": password}
        told = self._driver.say(do=job, url=self._gate.http_url, admin=admin, **more)
        assert "raised" not in told, told["raised"]
        return told

    def leave(self) -> None:
        self._driver.close()


@pytest.fixture(scope="module", params=["4.3", "4.4"])
def operator(
    request: pytest.FixtureRequest, gate: RunningGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    made = Operator(request.param, gate, tmp_path_factory.mktemp("rest"))
    yield made
    made.leave()


@pytest.fixture
def customer(gate: RunningGateway) -> Callable[[str], dict[str, str]]:
    """Makes a customer with one user; how that user logs in."""

    def make(name: str) -> dict[str, str]:
        email = f"{name}@customer.example"
        gate.operate("org", "add", name)
        told = gate.operate("user", "add", email, "--org", name, "--generate", "--json")
        return {"user": email, "password": json.loads(told)["password"]}

    return make


def test_it_logs_in_and_out(operator: Operator) -> None:
    """A wrong password is refused, and after the logout its token is of no more use."""
    told = operator.does("login")
    assert told.pop("wrong") in (401, "KeyError", "ApiException")
    assert told == {"email": "admin@localhost", "authority": "TENANT_ADMIN", "after": 401}


def test_it_manages_profiles(operator: Operator) -> None:
    """Profiles are saved, read, listed, changed once per version, and removed."""
    name = operator.name + "-profile"
    told = operator.does("profiles", name=name)
    assert told.pop("made_key")
    first, second = told.pop("versions")
    assert second > first
    status, error = told.pop("twice")
    assert (status, error["message"]) == (400, "Device profile with such name already exists!")
    assert told == {
        "name": name,
        "key": name + "-key",
        "description": "changed",
        "listed": [name, name + "-made"],
        "total": 2,
        "default": "default",
        "conflict": 409,
        "gone": 404,
    }


def test_what_it_saved_provisions_devices(operator: Operator, gate: RunningGateway) -> None:
    """A profile saved by the client lets devices in with its key and secret."""
    name = operator.name + "-profile"
    answer = gate.post(
        "/api/v1/provision",
        {
            "deviceName": name + "-1",
            "provisionDeviceKey": name + "-key",
            "provisionDeviceSecret": name + "-secret",
        },
    )
    gate.succeeded(answer)


def test_it_manages_devices(operator: Operator, gate: RunningGateway) -> None:
    """Devices and their credentials are saved, found, listed, assigned, changed and removed."""
    name, kind = operator.name + "-device", operator.name + "-kind"
    token, fresh = name + "-token-000", name + "-token-111"
    told = operator.does("devices", name=name, type=kind, token=token, new_token=fresh)
    assert told.pop("id")
    for refused, message in (("taken", TAKEN), ("twice", "Device with such name already exists!")):
        status, error = told.pop(refused)
        assert (status, error["message"]) == (400, message)
    assert told == {
        "found": True,
        "type": kind,
        "token_length": 20,
        "given": "ACCESS_TOKEN",
        "changed": fresh,
        "label": "attic",
        "page": [name, name + "-m"],
        "more": True,
        "total": 3,
        "customer": True,
        "free": True,
        "basic": ["MQTT_BASIC", name + "-u"],
        "gone": 404,
    }
    assert gate.knows(fresh)
    assert not gate.knows(token)


def test_it_imports(operator: Operator) -> None:
    """New names are created, known ones updated, and a bad line is named by its number."""
    told = operator.does("imports", name=operator.name + "-row", type=operator.name + "-kind")
    first, second = told["first"], told["second"]
    if first["counts"] != [None, None, None]:
        assert (first["counts"], second["counts"]) == ([2, 0, 1], [0, 2, 1])
    assert first["said"][0].startswith("Line 4: ")
    [attribute] = told["attributes"]
    assert (attribute["key"], attribute["value"]) == ("DATA", 2)


def test_it_reads_what_devices_sent(operator: Operator, gate: RunningGateway) -> None:
    """Attributes are set, read and deleted; the newest values are texts; nobody answers a call."""
    name = operator.name + "-talker"
    token = gate.token(name)
    gate.post(f"/api/v1/{token}/telemetry", {"temperature": 21.5})
    told = operator.does("traffic", name=name)
    assert {one["key"]: one["value"] for one in told["shared"]} == {"interval": 30, "on": True}
    assert "interval" in told["left"]
    assert "on" not in told["left"]
    assert "temperature" in told["keys"]
    assert told["latest"]["temperature"][0]["value"] == "21.5"
    assert told["away"] in (408, 409, 504)


def test_a_customer_claims(
    operator: Operator, gate: RunningGateway, customer: Callable[[str], dict[str, str]]
) -> None:
    """A user of a customer takes a device that offers itself, sees it alone, and gives it back."""
    name = operator.name + "-claimed"
    token = gate.token(name)
    gate.token(name + "-other")
    gate.post(f"/api/v1/{token}/claim", {"secretKey": "claim-" + name, "durationMs": 60_000})
    told = operator.does(
        "claims",
        customer=customer(operator.name),
        name=name,
        key="claim-" + name,
        id=gate.device(name)["uuid"],
        other=gate.device(name + "-other")["uuid"],
    )
    assert told.pop("claimed")
    assert told.pop("nothing")[0] == 400
    assert told == {"seen": 200, "other": 404, "saved": 403, "reclaimed": 200, "gone": 404}


def test_it_reads_the_audit_log(operator: Operator) -> None:
    """Who did what is found as ThingsBoard tells it: in order, by kind and by user."""
    name = operator.name + "-watched"
    assert operator.does("audit", name=name) == {
        "actions": ["ADDED", "DELETED"],
        "statuses": ["SUCCESS"],
        "users": ["admin@localhost"],
        "name": name,
        "kind": "DEVICE",
        "tenant": True,
        "user": True,
        "more": False,
        "total": 2,
        "deleted": [name],
        "mine": 2,
        "of_it": [True],
    }
