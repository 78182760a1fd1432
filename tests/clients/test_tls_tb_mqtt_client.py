"""ThingsBoard's own SDK (`tb-mqtt-client`) over TLS: tokens, and certificates of three origins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import certs
import pytest

if TYPE_CHECKING:
    from clients.lab import Lab, Papers

    from tests.clients.conftest import Program, RunningGateway

SENT = {"temperature": 21.5, "on": 1}


class SdkTls:
    """The SDK's device and gateway classes on the secure wire, each job in a process."""

    def __init__(self, driver: Program, gate: RunningGateway) -> None:
        self._driver = driver
        self._gate = gate

    def work(self, papers: Papers | None = None, *, gateway: bool = False, **login: str) -> Any:
        """A whole session; what the SDK was told."""
        return self._job("mqtt_work", papers, login=login, gateway=gateway)

    def refusal(self, papers: Papers | None = None, **login: str) -> Any:
        return self._job("mqtt_refused", papers, login=login)

    def provision(self, name: str, papers: Papers | None = None, **wanted: Any) -> Any:
        """What its provisioning client is given, over TLS with or without a certificate."""
        key, secret = self._gate.pairs["create"]
        pair = {"provisionDeviceKey": key, "provisionDeviceSecret": secret}
        return self._job("tls_provision", papers, request={"deviceName": name, **pair, **wanted})

    def _job(self, job: str, papers: Papers | None, **more: Any) -> Any:
        tls = {"ca_certs": self._gate.ca}
        if papers is not None:
            tls |= {"cert_file": papers.certificate, "key_file": papers.key}
        return self._driver.job(do=job, port=self._gate.mqtts, tls=tls, **more)


@pytest.fixture(scope="module")
def sdk(python_driver: Callable[[str], Program], gate: RunningGateway) -> SdkTls:
    return SdkTls(python_driver("tb_sdk.py"), gate)


def test_a_token_works_over_mqtts(sdk: SdkTls, gate: RunningGateway) -> None:
    """Provisioned and used over TLS, without a client certificate."""
    token = gate.succeeded(sdk.provision("tb-tls"))
    assert sdk.work(username=token)["telemetry"] == 0
    assert gate.readings("tb-tls") == SENT


def test_a_device_brings_its_certificate(sdk: SdkTls, gate: RunningGateway, lab: Lab) -> None:
    """X509_CERTIFICATE with a self-signed certificate in `hash`, which then logs in."""
    own = certs.self_signed("whoever")
    papers = lab.papers(own, "own")
    told = sdk.provision("tb-tls-x509", hash=own.pem, credentialsType="X509_CERTIFICATE")
    assert told["credentialsValue"] == own.text
    assert sdk.work(papers)["telemetry"] == 0
    assert gate.readings("tb-tls-x509") == SENT


@pytest.mark.parametrize("gateway", [False, True], ids=["device", "gateway"])
def test_a_device_is_born_from_a_factory_certificate(
    sdk: SdkTls, gate: RunningGateway, lab: Lab, gateway: bool
) -> None:
    """X509_CERTIFICATE_CHAIN: connecting is enough, for both classes of the SDK."""
    name = f"f-tb-{gateway}"
    worked = sdk.work(lab.from_factory(name, plant=True), gateway=gateway)
    assert worked["read"] == {"client": {"model": "tb", "size": 3}}
    assert gate.readings(name) == SENT


def test_a_signing_request_beside_the_sdks_fields(
    sdk: SdkTls, gate: RunningGateway, lab: Lab
) -> None:
    """The SDK's provisioning client with `csr` in its request; what it is given logs in."""
    asked = lab.asks("tb-csr")
    papers = lab.given(asked, sdk.provision("tb-csr", csr=asked.text))
    assert sdk.work(papers)["attributes"] == 0
    assert gate.readings("tb-csr") == SENT


@pytest.mark.parametrize("kind", ["stranger", "expired"])
def test_a_certificate_nobody_believes_is_refused(sdk: SdkTls, lab: Lab, kind: str) -> None:
    """The SDK is told that it is not authorised."""
    told = sdk.refusal(getattr(lab, kind)())
    assert told == {"connected": False, "reason": "Not authorized"}
