"""ThingsBoard's own SDK (`tb-mqtt-client`): it provisions as MQTT 3.1.1 and works as MQTT 5."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Answer, Program, RunningGateway

CROWD = 20
CERTIFICATE = "MIIBszCCAVmgAwIBAgIUTm90QVJlYWxDZXJ0aWZpY2F0ZQ=="


class Sdk:
    """The SDK's classes, each job in a process of its own."""

    def __init__(self, driver: Program, gate: RunningGateway) -> None:
        self._driver = driver
        self._gate = gate

    def _pair(self, secret: str | None) -> tuple[str, str]:
        key, right = self._gate.pairs["create"]
        return key, right if secret is None else secret

    def provision(self, *wanted: Any, secret: str | None = None) -> list[Any]:
        """`TBDeviceMqttClient.provision` with each of `wanted`, all at once; None: refused."""
        key, secret = self._pair(secret)
        pair = {"provision_device_key": key, "provision_device_secret": secret}
        told: list[Any] = self._driver.job(
            do="mqtt_provision", port=self._gate.mqtt, requests=[{**pair, **one} for one in wanted]
        )
        return told

    def work(self, *, gateway: bool = False, **login: str) -> Any:
        return self._driver.job(do="mqtt_work", port=self._gate.mqtt, login=login, gateway=gateway)

    def refusal(self, **login: str) -> Any:
        return self._driver.job(do="mqtt_refused", port=self._gate.mqtt, login=login)

    def http_provision(self, *names: str, secret: str | None = None) -> list[Any]:
        """`TBHTTPDevice.provision` for each name, all at once: a token, or the refusal."""
        key, secret = self._pair(secret)
        pair = {"device_key": key, "device_secret": secret}
        told: list[Any] = self._driver.job(
            do="http_provision",
            url=self._gate.http_url,
            requests=[{"device_name": name, **pair} for name in names],
        )
        return told

    def http_work(self, token: str) -> Any:
        return self._driver.job(do="http_work", url=self._gate.http_url, token=token)


@pytest.fixture(scope="module")
def sdk(python_driver: Callable[[str], Program], gate: RunningGateway) -> Sdk:
    return Sdk(python_driver("tb_sdk.py"), gate)


# ── MQTT ──────────────────────────────────────────────────────────────────────────────────────


def test_a_device_provisions_and_works(sdk: Sdk, gate: RunningGateway) -> None:
    """The SDK's device gets a token, its session limits, and has all it sends acknowledged."""
    (told,) = sdk.provision({"device_name": "tb-1"})
    worked = sdk.work(username=gate.succeeded(told))

    assert worked == {
        "max_payload_before_limits": 8196,
        "max_payload": int(65536 * 0.8),  # the SDK takes 80 % of what it is told
        "telemetry": 0,
        "attributes": 0,
        "read": {"client": {"model": "tb", "size": 3}},
    }
    assert gate.readings("tb-1") == {"temperature": 21.5, "on": 1}


def test_a_gateway_provisions_and_works(sdk: Sdk, gate: RunningGateway) -> None:
    """A device provisioned as a gateway gets a gateway's limits and its subscriptions."""
    (told,) = sdk.provision({"device_name": "tb-gateway", "gateway": True})
    worked = sdk.work(gateway=True, username=gate.succeeded(told))

    assert worked["read"] == {"client": {"model": "tb", "size": 3}}
    assert gate.readings("tb-gateway") == {"temperature": 21.5, "on": 1}


def test_a_device_may_choose_its_token(sdk: Sdk, gate: RunningGateway) -> None:
    """An access token the device brings is the one it gets."""
    (told,) = sdk.provision({"device_name": "tb-token", "access_token": "my-own-token-7f3a"})
    assert gate.succeeded(told) == "my-own-token-7f3a"


def test_basic_credentials_with_nulls(sdk: Sdk, gate: RunningGateway) -> None:
    """The SDK sends null for what it was not given; what it was given opens a session."""
    whole = {"client_id": "tb-client", "username": "tb-user", "password": "tb-password"}
    told = sdk.provision(
        {"device_name": "tb-basic", **whole},
        {"device_name": "tb-user-only", "username": "tb-user-only"},
        {"device_name": "tb-client-only", "client_id": "tb-client-only"},
    )

    assert [answer["status"] for answer in told] == ["SUCCESS"] * 3
    assert {answer["credentialsType"] for answer in told} == {"MQTT_BASIC"}
    given = {"clientId": "tb-client", "userName": "tb-user", "password": "tb-password"}
    assert told[0]["credentialsValue"] == given
    assert told[1]["credentialsValue"]["userName"] == "tb-user-only"
    assert sdk.work(**whole)["telemetry"] == 0
    assert gate.readings("tb-basic") == {"temperature": 21.5, "on": 1}


def test_a_certificate_is_given_back(sdk: Sdk) -> None:
    """The certificate in `hash` becomes the credentials, without markers and line breaks."""
    pem = f"-----BEGIN CERTIFICATE-----\n{CERTIFICATE}\n-----END CERTIFICATE-----\n"
    (told,) = sdk.provision({"device_name": "tb-x509", "hash": pem})
    assert told == {
        "credentialsValue": CERTIFICATE,
        "credentialsType": "X509_CERTIFICATE",
        "status": "SUCCESS",
    }


def test_refusals_leave_the_sdk_without_credentials(sdk: Sdk, gate: RunningGateway) -> None:
    """A wrong secret and a second request bring nothing, and the first token stays good."""
    assert sdk.provision({"device_name": "tb-2"}, secret="not-the-secret") == [None]
    token = gate.succeeded(sdk.provision({"device_name": "tb-2"})[0])

    assert sdk.provision({"device_name": "tb-2"}) == [None]
    assert gate.knows(token)


def test_of_twenty_one_gets_the_name(sdk: Sdk, gate: RunningGateway) -> None:
    """Twenty SDK clients at once for one name: one gets credentials."""
    told = sdk.provision(*[{"device_name": "tb-3"}] * CROWD)

    won = [answer for answer in told if answer is not None]
    assert len(told) == CROWD
    assert len(won) == 1
    gate.succeeded(won[0])


def test_an_unknown_token_is_refused(sdk: Sdk) -> None:
    """The SDK is told why a token nobody has opens nothing."""
    told = sdk.refusal(username="nobody-has-this")
    assert told == {"connected": False, "reason": "Bad user name or password"}


# ── HTTP ──────────────────────────────────────────────────────────────────────────────────────


def test_an_http_device_provisions_and_works(sdk: Sdk, gate: RunningGateway) -> None:
    """The SDK's HTTP device gets a token, passes its connection test, sends and reads."""
    (token,) = sdk.http_provision("tb-http-1")
    worked = sdk.http_work(token)

    read = {"client": {"model": "tb-http"}}
    assert worked == {"connected": True, "read": read, "stranger": False}
    assert gate.readings("tb-http-1") == {"temperature": 21.5}


def test_http_refusals_are_read(sdk: Sdk, not_found: Answer, failure: Answer) -> None:
    """A refusal is HTTP 200, so that the SDK reads it instead of raising a transport error."""
    assert sdk.http_provision("tb-http-2", secret="not-the-secret") == [not_found]
    (token,) = sdk.http_provision("tb-http-2")

    assert isinstance(token, str)
    assert sdk.http_provision("tb-http-2") == [failure]


def test_of_twenty_http_devices_one_gets_the_name(
    sdk: Sdk, gate: RunningGateway, failure: Answer
) -> None:
    """Twenty HTTP devices at once for one name: one gets a token, nineteen a FAILURE."""
    told = sdk.http_provision(*["tb-http-3"] * CROWD)

    (token,) = [answer for answer in told if answer != failure]
    assert len(told) == CROWD
    assert gate.knows(token)
