"""Eclipse Paho's Python client over MQTTS, with certificates."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
import pytest
from clients.lab import CUT_S, WAIT_S

if TYPE_CHECKING:
    from clients.lab import Lab, Papers

    from tests.clients.conftest import RunningGateway

VERSIONS = {"3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}
TELEMETRY = "v1/devices/me/telemetry"


class PahoTls:
    """Opens sessions of one protocol version on the secure wire."""

    def __init__(self, gate: RunningGateway, version: str) -> None:
        self.version = version
        self._gate = gate

    @contextmanager
    def session(self, papers: Papers | None) -> Iterator[PahoTlsSession]:
        opened = PahoTlsSession(VERSIONS[self.version])
        certificate, key = papers or (None, None)
        opened.client.tls_set(self._gate.ca, certificate, key)
        opened.client.connect("127.0.0.1", self._gate.mqtts)
        opened.client.loop_start()
        try:
            yield opened
        finally:
            opened.client.disconnect()
            opened.client.loop_stop()


class PahoTlsSession:
    """One connection. `connected` tells what CONNACK said, `closed` when it ended."""

    def __init__(self, version: int) -> None:
        self.connected: Queue[str] = Queue()
        self.closed: Queue[tuple[float, str]] = Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "", protocol=version)
        self.received: Queue[bytes] = Queue()
        self.client.on_message = lambda *given: self.received.put(given[2].payload)
        self.client.on_connect = lambda *given: self.connected.put(str(given[3]))
        self.client.on_disconnect = lambda *given: self.closed.put(
            (time.monotonic(), str(given[3]))
        )

    def answer(self) -> str:
        return self.connected.get(timeout=WAIT_S)

    def publish(self, **values: int) -> None:
        """Publish telemetry and wait until it is acknowledged."""
        self.client.publish(TELEMETRY, json.dumps(values), 1).wait_for_publish(WAIT_S)

    def renewed(self, csr: str) -> Any:
        """The answer to a signing request under this session."""
        self.client.subscribe("v1/devices/me/certificate/response/+", 1)
        self.client.publish("v1/devices/me/certificate/request/7", json.dumps({"csr": csr}), 1)
        return json.loads(self.received.get(timeout=WAIT_S))


@pytest.fixture(scope="module", params=list(VERSIONS))
def paho(request: pytest.FixtureRequest, gate: RunningGateway) -> PahoTls:
    return PahoTls(gate, request.param)


def test_a_device_is_born_from_a_factory_certificate(
    paho: PahoTls, gate: RunningGateway, lab: Lab
) -> None:
    """A session without user name, in which every message is acknowledged."""
    name = f"f-paho-{paho.version}"
    with paho.session(lab.from_factory(name, plant=True)) as session:
        assert session.answer() == "Success"
        session.publish(a=1)
        session.publish(b=2)
    assert gate.readings(name) == {"a": 1, "b": 2}


@pytest.mark.parametrize("kind", ["stranger", "expired"])
def test_a_certificate_nobody_believes_is_refused(paho: PahoTls, lab: Lab, kind: str) -> None:
    """CONNACK 5, which paho calls as 0x87 of MQTT 5 (contract, section 7.3); then it is closed."""
    with paho.session(getattr(lab, kind)()) as session:
        assert session.answer() == "Not authorized"
        session.closed.get(timeout=WAIT_S)


def test_without_a_certificate_the_password_modes_hold(paho: PahoTls) -> None:
    """The handshake succeeds, and CONNECT without anything is refused as on the plain wire."""
    with paho.session(None) as session:
        assert session.answer() == "Not authorized"


def test_a_live_session_is_cut(paho: PahoTls, lab: Lab) -> None:
    """Within a second of the revocation; MQTT 5 is told why, and coming back is refused."""
    name = f"paho-cut-{paho.version}"
    with paho.session(lab.certified(name)) as session:
        assert session.answer() == "Success"
        session.publish(a=1)
        revoked = lab.revoke(name)
        ended, reason = session.closed.get(timeout=WAIT_S)
        assert ended - revoked < CUT_S
        if paho.version == "5":
            assert reason == "Administrative action"
        assert session.answer() == "Not authorized"


def test_renewal_leaves_the_old_one_until_the_new_one_is_used(
    paho: PahoTls, gate: RunningGateway, lab: Lab
) -> None:
    """Asked and answered in the session; once the new one was used, the old one is refused."""
    name = f"paho-renews-{paho.version}"
    old, asked = lab.certified(name), lab.asks("renewed")
    with paho.session(old) as session:
        assert session.answer() == "Success"
        told = session.renewed(asked.text)
        session.publish(old=1)
    new = lab.given(asked, told)
    for papers, answer in ((old, "Success"), (new, "Success"), (old, "Not authorized")):
        with paho.session(papers) as session:
            assert session.answer() == answer
