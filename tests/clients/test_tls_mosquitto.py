"""Mosquitto's clients over MQTTS with certificates. Their exit status is the CONNACK code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from clients.lab import CUT_S

if TYPE_CHECKING:
    from clients.lab import Lab, Papers, Watched

    from tests.clients.conftest import FindProgram, Finished, Program, RunningGateway

TELEMETRY = "v1/devices/me/telemetry"
REFUSED = {"mqttv31": 5, "mqttv311": 5, "mqttv5": 0x87}


class Mosquitto:
    """The programs in one protocol version, aimed at the secure wire."""

    def __init__(self, find: FindProgram, gate: RunningGateway, version: str) -> None:
        self.version = version
        self._find = find
        self._where = ("-h", "127.0.0.1", "-p", str(gate.mqtts), "-V", version)
        self._where += ("--cafile", gate.ca)

    def program(self, name: str) -> Program:
        return self._find(f"mosquitto_{name}", "mosquitto-clients")

    def told(self, papers: Papers | None, *args: str) -> tuple[str, ...]:
        shown = () if papers is None else ("--cert", papers.certificate, "--key", papers.key)
        return (*self._where, *shown, *args)

    def publish(self, papers: Papers | None, topic: str, body: str, *more: str) -> Finished:
        given = ("-q", "1", "-t", topic, "-m", body)
        return self.program("pub")(*self.told(papers, *given, *more))

    def ask(self, papers: Papers | None, topic: str, reply: str, body: str, *more: str) -> Finished:
        given = ("-q", "1", "-t", topic, "-e", reply, "-m", body, "-W", "10")
        return self.program("rr")(*self.told(papers, *given, *more))


@pytest.fixture(scope="module", params=list(REFUSED))
def mosquitto(
    request: pytest.FixtureRequest, system_program: FindProgram, gate: RunningGateway
) -> Mosquitto:
    return Mosquitto(system_program, gate, request.param)


def test_a_token_works_over_mqtts(mosquitto: Mosquitto, gate: RunningGateway) -> None:
    """Without a client certificate it is what it is over MQTT, provisioning included."""
    name = f"tls-{mosquitto.version}"
    asked = json.dumps(gate.request(name))
    told = mosquitto.ask(
        None, "/provision/request", "/provision/response", asked, "-u", "provision"
    )
    token = gate.succeeded(told.answer())
    assert mosquitto.publish(None, TELEMETRY, '{"a":1}', "-u", token).status == 0
    assert gate.readings(name) == {"a": 1}


@pytest.mark.parametrize("plant", [False, True], ids=["root", "plant"])
def test_a_device_is_born_from_a_factory_certificate(
    mosquitto: Mosquitto, gate: RunningGateway, lab: Lab, plant: bool
) -> None:
    """Connecting is enough; user name and password are not looked at (contract, section 7.2)."""
    name = f"f-{mosquitto.version}-{plant}"
    papers = lab.from_factory(name, plant=plant)
    assert mosquitto.publish(papers, TELEMETRY, '{"a":1}').status == 0
    assert mosquitto.publish(papers, TELEMETRY, '{"b":2}', "-u", "nobody-has-this").status == 0
    assert gate.readings(name) == {"a": 1, "b": 2}


@pytest.mark.parametrize("kind", ["stranger", "expired"])
def test_a_certificate_nobody_believes_is_refused(
    mosquitto: Mosquitto, gate: RunningGateway, lab: Lab, kind: str
) -> None:
    """CONNACK 5 or 0x87 (contract, section 7.3); a good token does not help."""
    papers = getattr(lab, kind)()
    token = gate.token(f"{mosquitto.version}-beside-{kind}")
    for user in ((), ("-u", token)):
        refused = mosquitto.publish(papers, TELEMETRY, '{"a":1}', *user)
        assert refused.status == REFUSED[mosquitto.version], refused


def test_a_signing_request_is_answered_with_a_certificate(
    mosquitto: Mosquitto, gate: RunningGateway, lab: Lab
) -> None:
    """Asked with mosquitto_rr and user `provision`; what comes back logs in."""
    name = f"csr-{mosquitto.version}"
    asked = lab.asks("born")
    body = json.dumps(gate.request(name, csr=asked.text))
    told = mosquitto.ask(None, "/provision/request", "/provision/response", body, "-u", "provision")
    papers = lab.given(asked, told.answer())
    assert lab.verify(papers)
    assert mosquitto.publish(papers, TELEMETRY, '{"a":1}').status == 0
    assert gate.readings(name) == {"a": 1}


def test_a_device_renews_in_one_line(mosquitto: Mosquitto, gate: RunningGateway, lab: Lab) -> None:
    """mosquitto_rr takes no wildcards: the topics without a number are for it."""
    name = f"renews-{mosquitto.version}"
    old, asked = lab.certified(name), lab.asks("renewed")
    topic = "v1/devices/me/certificate"
    body = json.dumps({"csr": asked.text})
    told = mosquitto.ask(old, f"{topic}/request", f"{topic}/response", body)
    new = lab.given(asked, told.answer())
    assert mosquitto.publish(new, TELEMETRY, '{"a":1}').status == 0
    assert gate.readings(name) == {"a": 1}
    assert mosquitto.publish(old, TELEMETRY, '{"a":2}').status == REFUSED[mosquitto.version]


def test_a_live_session_is_cut(
    mosquitto: Mosquitto, lab: Lab, watch: Callable[..., Watched]
) -> None:
    """mosquitto_sub is cut within a second of the revocation: it says so, or comes back in vain."""
    name = f"cut-{mosquitto.version}"
    told = mosquitto.told(lab.certified(name), "-t", "v1/devices/me/attributes", "-d")
    seen = watch(mosquitto.program("sub"), *told)
    seen.until("Subscribed")
    lab.revoke(name)
    if mosquitto.version == "mqttv5":
        seen.until(r"Received DISCONNECT \(152\)", CUT_S)
        assert seen.status() == 0
    else:
        # It waits a second by itself before it comes back.
        seen.until(r"received CONNACK \(5\)", CUT_S + 1.5)
        assert seen.status() == REFUSED[mosquitto.version]
