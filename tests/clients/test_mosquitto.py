"""Mosquitto's clients, over MQTT 3.1, 3.1.1 and 5. Their exit status is the CONNACK code."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Answer, FindProgram, Finished, Program, RunningGateway

TIMED_OUT = 27
"""What mosquitto_sub and mosquitto_rr exit with after their -W seconds."""


class Mosquitto:
    """The three programs in one protocol version, aimed at the gateway."""

    def __init__(self, find: FindProgram, gate: RunningGateway, version: str) -> None:
        self.version = version
        self._gate = gate
        self._pub, self._sub, self._rr = (
            find(f"mosquitto_{name}", "mosquitto-clients") for name in ("pub", "sub", "rr")
        )

    def _run(self, program: Program, *args: str) -> Finished:
        where = ("-h", "127.0.0.1", "-p", str(self._gate.mqtt), "-V", self.version)
        return program(*where, *args)

    def publish(self, user: str, topic: str, body: str, *more: str) -> Finished:
        return self._run(self._pub, "-u", user, "-t", topic, "-m", body, *more)

    def subscribe(self, user: str, topic: str, *more: str) -> Finished:
        return self._run(self._sub, "-u", user, "-t", topic, *more)

    def ask(self, user: tuple[str, str], topic: str, reply: str, body: Answer) -> Finished:
        """Publish and wait for the answer, as mosquitto_rr does."""
        given = ("-t", topic, "-e", reply, "-m", json.dumps(body), "-W", "10")
        return self._run(self._rr, *user, *given)

    def provision(self, body: Answer, user: tuple[str, str] = ("-u", "provision")) -> Answer:
        done = self.ask(user, "/provision/request", "/provision/response", body)
        assert done.status == 0, done
        return done.answer()


@pytest.fixture(scope="module", params=["mqttv31", "mqttv311", "mqttv5"])
def mosquitto(
    request: pytest.FixtureRequest, system_program: FindProgram, gate: RunningGateway
) -> Mosquitto:
    return Mosquitto(system_program, gate, request.param)


def test_a_device_provisions_and_sends(mosquitto: Mosquitto, gate: RunningGateway) -> None:
    """The token mosquitto is given opens a session that sends telemetry and attributes."""
    name = f"{mosquitto.version}-1"
    token = gate.succeeded(mosquitto.provision(gate.request(name)))

    for quality in ("0", "1"):
        body = json.dumps({f"q{quality}": 21.5})
        sent = mosquitto.publish(token, "v1/devices/me/telemetry", body, "-q", quality)
        assert sent.status == 0, sent
    kept = mosquitto.publish(token, "v1/devices/me/attributes", '{"model":"m1"}', "-q", "1")

    assert kept.status == 0, kept
    assert gate.wait_for_readings(name, "q0", "q1") == {"q0": 21.5, "q1": 21.5}
    assert gate.client_attributes(token) == {"model": "m1"}


def test_a_wrong_secret_is_not_found(
    mosquitto: Mosquitto, gate: RunningGateway, not_found: Answer
) -> None:
    """A wrong secret is answered NOT_FOUND on the response topic."""
    assert mosquitto.provision(gate.wrong_request(f"{mosquitto.version}-2")) == not_found


def test_a_name_is_given_once(mosquitto: Mosquitto, gate: RunningGateway, failure: Answer) -> None:
    """The second request for a name is a FAILURE and the first one's token stays good."""
    asked = gate.request(f"{mosquitto.version}-3")
    token = gate.succeeded(mosquitto.provision(asked))

    assert mosquitto.provision(asked) == failure
    assert gate.knows(token)


def test_of_twenty_one_gets_the_name(
    mosquitto: Mosquitto, gate: RunningGateway, all_at_once: Any
) -> None:
    """Twenty clients at once for one name: one SUCCESS, nineteen FAILURE."""
    asked = gate.request(f"{mosquitto.version}-4")
    gate.gave_to_one(all_at_once(lambda: mosquitto.provision(asked)))


def test_devices_may_share_the_client_id_provision(
    mosquitto: Mosquitto, gate: RunningGateway, all_at_once: Any
) -> None:
    """Twenty devices at once with one client id, as ThingsBoard's C++ SDK has it: all succeed."""
    told = all_at_once(lambda: mosquitto.provision(gate.request(), ("-i", "provision")))
    assert len({gate.succeeded(answer) for answer in told}) == len(told)


def test_nobody_hears_anothers_answer(mosquitto: Mosquitto, gate: RunningGateway) -> None:
    """Who listens on the response topic in a session of its own hears nothing of others."""
    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(
            mosquitto.subscribe, "provision", "/provision/response", "-W", "2", "-d"
        )
        for number in range(5):
            gate.succeeded(mosquitto.provision(gate.request(f"{mosquitto.version}-5-{number}")))
        heard = listening.result()
    assert heard.status == TIMED_OUT
    assert "Subscribed" in heard.out
    assert "credentialsValue" not in heard.out


def test_wildcards_are_refused(mosquitto: Mosquitto, gate: RunningGateway) -> None:
    """A subscription outside the contract is refused, in a provisioning session too."""
    token = gate.succeeded(mosquitto.provision(gate.request(f"{mosquitto.version}-6")))
    for user, topic in ((token, "#"), (token, "v1/devices/me/#"), ("provision", "#")):
        denied = mosquitto.subscribe(user, topic, "-W", "5")
        assert "denied" in denied.err, denied


def test_an_unknown_token_is_refused(mosquitto: Mosquitto) -> None:
    """CONNECT with a token nobody has is answered 5, or 0x86 in MQTT 5 (contract, section 7.3)."""
    refused = mosquitto.publish("nobody-has-this", "v1/devices/me/telemetry", '{"a":1}', "-q", "1")
    wanted = "Bad User Name or Password" if mosquitto.version == "mqttv5" else "not authorised"
    assert wanted in refused.err
    assert refused.status != 0


def test_quality_two_is_served_once_or_ruled_out(
    mosquitto: Mosquitto, gate: RunningGateway
) -> None:
    """QoS 2 gets its whole exchange before MQTT 5, which is told that 1 is the most there is."""
    name = f"{mosquitto.version}-8"
    token = gate.succeeded(mosquitto.provision(gate.request(name)))
    sent = mosquitto.publish(token, "v1/devices/me/telemetry", '{"q2":1}', "-q", "2")

    if mosquitto.version == "mqttv5":
        assert "QoS" in sent.err
        assert gate.readings(name) == {}
    else:
        assert sent.status == 0, sent
        assert gate.readings(name) == {"q2": 1}
