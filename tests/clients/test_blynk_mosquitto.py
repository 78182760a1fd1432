"""Mosquitto's clients as Blynk devices, over MQTT 3.1.1 and 5, and once over TLS."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from clients.lab import Watched, until
from clients.office import PROVISION, Office, Reply
from clients.running import CROWD, TEMPLATE

if TYPE_CHECKING:
    from tests.clients.conftest import FindProgram, Finished, RunningGateway

SUCCESS = 0
MCU = json.dumps({"tmpl": TEMPLATE, "ver": "0.1.2", "type": TEMPLATE, "rxbuff": 1024})


class Mosquitto:
    """The three programs in one protocol version, logged in as the device with a token."""

    def __init__(
        self, find: FindProgram, gate: RunningGateway, version: str, *, tls: bool = False
    ) -> None:
        self.version = version
        port = str(gate.mqtts if tls else gate.mqtt)
        self._where: tuple[str, ...] = ("-h", "127.0.0.1", "-p", port, "-V", version)
        if tls:
            self._where += ("--cafile", gate.ca)
        self._pub, self._sub, self._rr = (
            find(f"mosquitto_{name}", "mosquitto-clients") for name in ("pub", "sub", "rr")
        )

    def _who(self, token: str) -> tuple[str, ...]:
        return (*self._where, "-u", "device", "-P", token)

    def publish(self, token: str, topic: str, text: str) -> Finished:
        body = ("-m", text) if text else ("-n",)
        return self._pub(*self._who(token), "-q", "1", "-t", topic, *body)

    def subscribe(self, token: str, topic: str) -> Finished:
        return self._sub(*self._who(token), "-t", topic, "-W", "3")

    def ask(self, token: str, topic: str, text: str, reply: str) -> Finished:
        """Publish, and wait for one message on `reply`."""
        given = ("-t", topic, "-m", text, "-e", reply, "-W", "10")
        return self._rr(*self._who(token), *given)

    def listening(self, watch: Callable[..., Watched], token: str) -> Watched:
        """Stays, and prints what it is told with its topic."""
        return watch(self._sub, *self._who(token), "-q", "1", "-t", "downlink/#", "-v", "-d")

    def claim(self, token: str) -> None:
        done = self.publish(token, "info/mcu", MCU)
        assert done.status == SUCCESS, done


@pytest.fixture(params=["mqttv311", "mqttv5", "mqttv5 over TLS"])
def mosquitto(
    request: pytest.FixtureRequest, system_program: FindProgram, gate: RunningGateway
) -> Mosquitto:
    version, _, over = request.param.partition(" ")
    return Mosquitto(system_program, gate, version, tls=bool(over))


def test_it_claims_its_token_and_sends(
    mosquitto: Mosquitto, office: Office, gate: RunningGateway
) -> None:
    """A login is no claim; `info/mcu` is. From then on values are stored."""
    token, number = office.issue()
    assert mosquitto.publish(token, "ds/temperature", "1").status == SUCCESS
    assert not office.is_claimed(token)

    mosquitto.claim(token)
    assert mosquitto.publish(token, "ds/temperature", "21.5").status == SUCCESS
    batch = json.dumps({"Switch": 1, "Note": "warm"})
    assert mosquitto.publish(token, "batch_ds", batch).status == SUCCESS

    readings = gate.wait_for_readings(f"Meter {number}", "temperature", "Switch", "note")
    assert readings == {"temperature": 21.5, "Switch": 1, "note": "warm"}


def test_a_wrong_template_is_told_and_claims_nothing(mosquitto: Mosquitto, office: Office) -> None:
    """On `downlink/diag`, as are values before the claim."""
    token, _ = office.issue()
    wrong = json.dumps({"tmpl": "TMPLnobody000"})
    for topic, text in (("info/mcu", wrong), ("info/mcu", "{}"), ("ds/temperature", "1")):
        told = mosquitto.ask(token, topic, text, "downlink/diag")
        assert told.status == SUCCESS, told
        assert told.out.strip()
    assert not office.is_claimed(token)
    mosquitto.claim(token)
    assert office.is_claimed(token)


def test_a_token_that_nobody_was_given(mosquitto: Mosquitto) -> None:
    """The login is answered 4, in MQTT 5 with 0x86."""
    refused = mosquitto.publish("nobody-was-ever-given-this-token", "ds/temperature", "1")
    assert refused.status == (0x86 if mosquitto.version == "mqttv5" else 4), refused
    assert "bad user name or password" in refused.err.lower()


def test_it_is_asked_and_told(
    mosquitto: Mosquitto, office: Office, gate: RunningGateway, watch: Callable[..., Watched]
) -> None:
    """What others write arrives, and an operator's orders do; meanwhile the device is online."""
    token, number = office.issue()
    mosquitto.claim(token)
    assert not office.is_online(number)
    listening = mosquitto.listening(watch, token)
    listening.until("Subscribed")
    assert office.is_online(number)

    assert office.device("update", token, v0="1").status == 200
    listening.until(r"(?m)^downlink/ds/Switch 1$")
    reply = office.ask("POST", f"{PROVISION}/reconfigure", {"deviceId": number})
    assert reply == Reply(200, {"deviceIsOffline": False})
    listening.until(r"(?m)^downlink/reconfigure \(null\)$")
    gate.operate("device", "reboot", f"Meter {number}")
    listening.until(r"(?m)^downlink/reboot \(null\)$")
    listening.kill()
    until(lambda: not office.is_online(number))


def test_an_operator_calls_it_back(
    mosquitto: Mosquitto, office: Office, gate: RunningGateway, watch: Callable[..., Watched]
) -> None:
    """`gatehouse device reconfigure` reaches it from another process."""
    token, number = office.issue()
    mosquitto.claim(token)
    listening = mosquitto.listening(watch, token)
    listening.until("Subscribed")
    gate.operate("device", "reconfigure", f"Meter {number}")
    listening.until(r"(?m)^downlink/reconfigure \(null\)$")


def test_it_asks_for_values_and_metadata(mosquitto: Mosquitto, office: Office) -> None:
    token, _ = office.issue()
    mosquitto.claim(token)
    mosquitto.publish(token, "ds/temperature", "21.5")
    told = mosquitto.ask(token, "get/ds", "temperature", "downlink/ds/temperature")
    assert float(told.out) == 21.5, told
    told = mosquitto.ask(token, "get/meta", "Location", "downlink/meta/Location")
    assert told.out.strip() == "cellar", told


@pytest.mark.parametrize("topic", ["#", "downlink/+", "downlink/+/x", "v1/devices/me/attributes"])
def test_it_may_listen_to_nothing_else(mosquitto: Mosquitto, office: Office, topic: str) -> None:
    token, _ = office.issue()
    mosquitto.claim(token)
    assert "denied" in mosquitto.subscribe(token, topic).err


def test_of_twenty_claims_one_device_comes(
    mosquitto: Mosquitto, office: Office, gate: RunningGateway, all_at_once: Callable[..., Any]
) -> None:
    """A newer connection ends an older one, which may cost that its answer; no token is lost."""
    token, number = office.issue()
    done = all_at_once(lambda: mosquitto.publish(token, "info/mcu", MCU))
    assert len(done) == CROWD
    assert SUCCESS in [one.status for one in done]
    assert office.is_claimed(token)
    listed = gate.operate("device", "list", "--json", "--search", f"Meter {number}")
    assert [one["name"] for one in json.loads(listed)].count(f"Meter {number}") == 1
