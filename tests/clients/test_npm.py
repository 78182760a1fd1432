"""MQTT.js over MQTT 3.1, 3.1.1 and 5, and node-coap over CoAP, both from npm."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Answer, Program, RunningGateway

CROWD = 20


# ── MQTT.js ───────────────────────────────────────────────────────────────────────────────────


class MqttJs:
    """MQTT.js in one protocol version (3, 4 or 5), aimed at the gateway."""

    def __init__(self, driver: Program, gate: RunningGateway, version: int) -> None:
        self.version = version
        self._driver = driver
        self._where = {"port": gate.mqtt, "version": version}

    def provision(self, *requests: Answer) -> list[Answer]:
        """One session for each request, all at once; their answers in order."""
        told: list[Answer] = self._driver.job(do="provision", requests=requests, **self._where)
        return told

    def work(self, token: str, telemetry: Any, attributes: Any) -> Any:
        """A device's session: telemetry, attributes, and all attributes read back."""
        return self._driver.job(
            do="work", username=token, telemetry=telemetry, attributes=attributes, **self._where
        )

    def refusal(self, token: str) -> Any:
        return self._driver.job(do="refused", username=token, **self._where)


@pytest.fixture(scope="module", params=[3, 4, 5])
def mqttjs(
    request: pytest.FixtureRequest, node_driver: Callable[[str], Program], gate: RunningGateway
) -> MqttJs:
    return MqttJs(node_driver("mqttjs.js"), gate, request.param)


def test_mqttjs_provisions_and_sends(mqttjs: MqttJs, gate: RunningGateway) -> None:
    """The token MQTT.js is given opens a session that sends, stores and reads."""
    name = f"mqttjs-{mqttjs.version}-1"
    (told,) = mqttjs.provision(gate.request(name))

    worked = mqttjs.work(gate.succeeded(told), {"temperature": 21.5}, {"model": "j1"})

    assert gate.readings(name) == {"temperature": 21.5}
    assert worked == {
        "topic": "v1/devices/me/attributes/response/1",
        "attributes": {"client": {"model": "j1"}},
    }


def test_mqttjs_is_refused_and_given_once(
    mqttjs: MqttJs, gate: RunningGateway, not_found: Answer, failure: Answer
) -> None:
    """A wrong secret is NOT_FOUND, and the second request for a name is a FAILURE."""
    name = f"mqttjs-{mqttjs.version}-2"
    wrong, right = mqttjs.provision(gate.wrong_request(name), gate.request(name))

    assert wrong == not_found
    token = gate.succeeded(right)
    assert mqttjs.provision(gate.request(name)) == [failure]
    assert gate.knows(token)


def test_of_twenty_mqttjs_one_gets_the_name(mqttjs: MqttJs, gate: RunningGateway) -> None:
    """Twenty sessions at once for one name: one SUCCESS, nineteen FAILURE."""
    asked = gate.request(f"mqttjs-{mqttjs.version}-3")
    gate.gave_to_one(mqttjs.provision(*[asked] * CROWD))


def test_mqttjs_learns_why_it_may_not_connect(mqttjs: MqttJs) -> None:
    """A token nobody has is refused with 5, in MQTT 5 with 0x86."""
    assert mqttjs.refusal("nobody-has-this") == {"code": 0x86 if mqttjs.version == 5 else 5}


# ── node-coap ─────────────────────────────────────────────────────────────────────────────────


class NodeCoap:
    """node-coap, aimed at the gateway."""

    def __init__(self, driver: Program, gate: RunningGateway) -> None:
        self._driver = driver
        self._port = gate.coap

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """One request; its code and payload."""
        return self._driver.job(requests=[self._request(method, path, body, **more)])[0]

    def provision(self, *requests: Answer, confirmable: bool = True) -> list[Answer]:
        """All requests at once; their answers in order, checked to have the contract's code."""
        asked = [
            self._request("POST", "/api/v1/provision", request, confirmable=confirmable)
            for request in requests
        ]
        answers = []
        for told in self._driver.job(requests=asked):
            answers.append(json.loads(told["payload"]))
            assert told["code"] == ("2.01" if answers[-1]["status"] == "SUCCESS" else "4.00")
        return answers

    def _request(
        self, method: str, path: str, body: Any, *, query: str = "", confirmable: bool = True
    ) -> Any:
        return {
            "port": self._port,
            "method": method,
            "pathname": path,
            "query": query,
            "body": body,
            "confirmable": confirmable,
        }


@pytest.fixture(scope="module")
def nodecoap(node_driver: Callable[[str], Program], gate: RunningGateway) -> NodeCoap:
    return NodeCoap(node_driver("nodecoap.js"), gate)


def test_nodecoap_provisions_and_sends(nodecoap: NodeCoap, gate: RunningGateway) -> None:
    """The token node-coap is given opens telemetry and attributes."""
    (told,) = nodecoap.provision(gate.request("nodecoap-1"))
    device = f"/api/v1/{gate.succeeded(told)}"

    sent = nodecoap.ask("POST", f"{device}/telemetry", {"temperature": 21.5})
    nodecoap.ask("POST", f"{device}/attributes", {"model": "n1"})
    read = nodecoap.ask("GET", f"{device}/attributes", query="clientKeys=model")

    assert sent == {"code": "2.01", "payload": ""}
    assert gate.readings("nodecoap-1") == {"temperature": 21.5}
    assert read == {"code": "2.05", "payload": '{"client":{"model":"n1"}}'}


def test_nodecoap_is_refused_and_given_once(
    nodecoap: NodeCoap, gate: RunningGateway, not_found: Answer, failure: Answer
) -> None:
    """A wrong secret is NOT_FOUND, and the second request for a name is a FAILURE."""
    wrong, right = nodecoap.provision(gate.wrong_request("nodecoap-2"), gate.request("nodecoap-2"))

    assert wrong == not_found
    token = gate.succeeded(right)
    assert nodecoap.provision(gate.request("nodecoap-2")) == [failure]
    assert gate.knows(token)


def test_of_twenty_nodecoap_one_gets_the_name(nodecoap: NodeCoap, gate: RunningGateway) -> None:
    """Twenty requests at once for one name: one SUCCESS, nineteen FAILURE."""
    gate.gave_to_one(nodecoap.provision(*[gate.request("nodecoap-3")] * CROWD))


def test_nodecoap_may_ask_without_confirmation(nodecoap: NodeCoap, gate: RunningGateway) -> None:
    """NON requests provision like CON ones."""
    (told,) = nodecoap.provision(gate.request("nodecoap-4"), confirmable=False)
    gate.succeeded(told)
