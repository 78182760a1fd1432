"""Eclipse Paho's Python client, over MQTT 3.1, 3.1.1 and 5."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Answer, RunningGateway

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}
WAIT_S = 10


class PahoSession:
    """One connection: what came in is in `received`, how it was refused in `refused`."""

    def __init__(self, version: int, client_id: str = "") -> None:
        self.received: Queue[tuple[str, bytes]] = Queue()
        self.connected: Queue[str] = Queue()
        self.granted: Queue[list[int]] = Queue()
        self.closed: Queue[str] = Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=version)
        self.client.on_connect = lambda *given: self.connected.put(str(given[3]))
        self.client.on_disconnect = lambda *given: self.closed.put(str(given[3]))
        self.client.on_subscribe = lambda *given: self.granted.put([it.value for it in given[3]])
        self.client.on_message = lambda *given: self.received.put(
            (given[2].topic, given[2].payload)
        )

    def subscribe(self, topic: str, quality: int = 1) -> list[int]:
        """Subscribe and wait for what is granted."""
        self.client.subscribe(topic, quality)
        return self.granted.get(timeout=WAIT_S)

    def publish(self, topic: str, body: Any, quality: int = 1) -> None:
        """Publish and wait until it is sent, or acknowledged for QoS 1 and 2."""
        self.client.publish(topic, json.dumps(body), quality).wait_for_publish(WAIT_S)

    def answer(self) -> tuple[str, Any]:
        """The next message: its topic and its JSON."""
        topic, body = self.received.get(timeout=WAIT_S)
        return topic, json.loads(body)


class Paho:
    """Opens sessions of one protocol version on the gateway."""

    def __init__(self, gate: RunningGateway, version: str) -> None:
        self.version = version
        self._gate = gate

    @contextmanager
    def session(
        self, user: str | None, password: str | None = None, client_id: str = ""
    ) -> Iterator[PahoSession]:
        """A session, once CONNACK arrived; `connected` tells what it said."""
        if self.version == "3.1" and not client_id:
            client_id = "paho-of-3.1"  # MQTT 3.1 knows no empty client id
        opened = PahoSession(VERSIONS[self.version], client_id)
        opened.client.username_pw_set(user, password)
        opened.client.connect("127.0.0.1", self._gate.mqtt)
        opened.client.loop_start()
        try:
            yield opened
        finally:
            opened.client.disconnect()
            opened.client.loop_stop()

    def provision(self, asked: Answer, quality: int = 1) -> Answer:
        """Subscribe, ask, and give back the answer."""
        with self.session("provision") as session:
            assert session.connected.get(timeout=WAIT_S) == "Success"
            session.subscribe("/provision/response", quality)
            session.publish("/provision/request", asked, quality)
            topic, told = session.answer()
        assert topic == "/provision/response"
        answer: Answer = told
        return answer


@pytest.fixture(scope="module", params=list(VERSIONS))
def paho(request: pytest.FixtureRequest, gate: RunningGateway) -> Paho:
    return Paho(gate, request.param)


def test_a_device_provisions_and_sends(paho: Paho, gate: RunningGateway) -> None:
    """The token paho is given opens a session in which every message is acknowledged."""
    name = f"paho-{paho.version}-1"
    token = gate.succeeded(paho.provision(gate.request(name)))

    with paho.session(token) as session:
        assert session.connected.get(timeout=WAIT_S) == "Success"
        session.publish("v1/devices/me/telemetry", {"temperature": 21.5})
        assert gate.readings(name) == {"temperature": 21.5}
        session.publish("v1/devices/me/attributes", {"model": "p1", "size": 3})
        assert session.subscribe("v1/devices/me/attributes/response/+") == [1]
        session.publish("v1/devices/me/attributes/request/12", {"clientKeys": "model,size"})
        told = session.answer()

    expected = {"client": {"model": "p1", "size": 3}}
    assert told == ("v1/devices/me/attributes/response/12", expected)


def test_a_wrong_secret_is_not_found(paho: Paho, gate: RunningGateway, not_found: Answer) -> None:
    """A wrong secret is answered NOT_FOUND."""
    assert paho.provision(gate.wrong_request(f"paho-{paho.version}-2")) == not_found


@pytest.mark.parametrize("quality", [0, 1])
def test_a_name_is_given_once(
    paho: Paho, gate: RunningGateway, failure: Answer, quality: int
) -> None:
    """The second request for a name is a FAILURE, in either quality of service."""
    asked = gate.request(f"paho-{paho.version}-3-{quality}")
    token = gate.succeeded(paho.provision(asked, quality))

    assert paho.provision(asked, quality) == failure
    assert gate.knows(token)


def test_of_twenty_one_gets_the_name(paho: Paho, gate: RunningGateway, all_at_once: Any) -> None:
    """Twenty sessions at once for one name: one SUCCESS, nineteen FAILURE."""
    asked = gate.request(f"paho-{paho.version}-4")
    gate.gave_to_one(all_at_once(lambda: paho.provision(asked)))


def test_the_answer_comes_without_a_subscription(paho: Paho, gate: RunningGateway) -> None:
    """A device that never subscribes gets its answer (contract, section 4.3)."""
    with paho.session("provision") as session:
        assert session.connected.get(timeout=WAIT_S) == "Success"
        session.publish("/provision/request", gate.request(f"paho-{paho.version}-5"))
        topic, told = session.answer()
    assert topic == "/provision/response"
    gate.succeeded(told)


def test_several_requests_fit_into_one_session(
    paho: Paho, gate: RunningGateway, failure: Answer
) -> None:
    """A session goes on after an answer, also after a FAILURE."""
    asked = gate.request(f"paho-{paho.version}-6")
    with paho.session("provision") as session:
        session.connected.get(timeout=WAIT_S)
        told = []
        for request in (asked, asked, gate.request(f"paho-{paho.version}-6b")):
            session.publish("/provision/request", request)
            told.append(session.answer()[1])
    gate.succeeded(told[0])
    assert told[1] == failure
    gate.succeeded(told[2])


def test_basic_credentials_open_a_session(paho: Paho, gate: RunningGateway) -> None:
    """A device may choose client id, user and password, and must then show all three."""
    chosen = {
        "clientId": f"paho-{paho.version}",
        "username": f"user-{paho.version}",
        "password": "a-password-of-its-own",
    }
    name = f"paho-{paho.version}-7"
    told = paho.provision(gate.request(name, credentialsType="MQTT_BASIC", **chosen))
    given = told["credentialsValue"]
    assert given == {
        "clientId": chosen["clientId"],
        "userName": chosen["username"],
        "password": chosen["password"],
    }

    with paho.session(given["userName"], given["password"], given["clientId"]) as session:
        assert session.connected.get(timeout=WAIT_S) == "Success"
        session.publish("v1/devices/me/telemetry", {"t": 1})
    with paho.session(given["userName"], "another", given["clientId"]) as session:
        assert session.connected.get(timeout=WAIT_S) != "Success"

    assert gate.readings(name) == {"t": 1}


def test_refusals_have_the_codes_of_the_contract(paho: Paho) -> None:
    """CONNECT without good credentials is answered as section 7.3 says."""
    unknown_user, unknown_client = "Not authorized", "Client identifier not valid"
    if paho.version == "5":
        unknown_user = "Bad user name or password"

    with paho.session("nobody-has-this") as session:
        assert session.connected.get(timeout=WAIT_S) == unknown_user
    with paho.session(None, client_id="nobody-has-this") as session:
        assert session.connected.get(timeout=WAIT_S) == unknown_client


def test_the_newer_session_of_a_device_wins(paho: Paho, gate: RunningGateway) -> None:
    """A second session of one device closes the first; MQTT 5 is told why."""
    token = gate.succeeded(paho.provision(gate.request(f"paho-{paho.version}-8")))
    with paho.session(token, client_id="older") as older:
        older.connected.get(timeout=WAIT_S)
        older.client.on_connect = None
        with paho.session(token, client_id="newer") as newer:
            assert newer.connected.get(timeout=WAIT_S) == "Success"
            reason = older.closed.get(timeout=WAIT_S)
            older.client.disconnect()
    if paho.version == "5":
        assert reason == "Session taken over"
