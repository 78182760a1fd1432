"""Drives ThingsBoard's SDK, with the interpreter it is installed for.

The job comes as JSON on standard input, the result goes as JSON to standard output; what the SDK
logs goes to standard error. A job names one of the functions in `JOBS` and holds its arguments.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tb_device_http import TBHTTPDevice, TBProvisionFailure
from tb_device_mqtt import ProvisionClient, TBDeviceMqttClient
from tb_gateway_mqtt import TBGatewayMqttClient

HOST = "127.0.0.1"
WAIT_S = 10


def mqtt_provision(port: int, requests: list[dict[str, Any]]) -> list[Any]:
    """What `TBDeviceMqttClient.provision` gives for each request, all at once; None: refused."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(
            pool.map(lambda one: TBDeviceMqttClient.provision(HOST, port=port, **one), requests)
        )


def tls_provision(port: int, tls: dict[str, str], request: dict[str, Any]) -> Any:
    """What the SDK's provisioning client is given over TLS.

    By itself it speaks TLS on port 8883 alone, and believes any server.
    """
    client = ProvisionClient(HOST, port, request)
    client.tls_set(tls["ca_certs"], tls.get("cert_file"), tls.get("key_file"))
    client.provision(WAIT_S)
    return client.get_credentials()


def mqtt_work(
    port: int,
    login: dict[str, str],
    gateway: bool = False,
    tls: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A device's, or a gateway's, whole session with the SDK's own methods."""
    kind = TBGatewayMqttClient if gateway else TBDeviceMqttClient
    device = kind(HOST, port, **login)
    device.connect(tls=tls is not None, **(tls or {}))
    wait_until(device.is_connected)
    told: dict[str, Any] = {"max_payload_before_limits": device.max_payload_size}
    device.request_service_configuration(device.service_configuration_callback)
    wait_until(lambda: device.rate_limits_received)
    told["max_payload"] = device.max_payload_size
    told["telemetry"] = device.send_telemetry({"temperature": 21.5, "on": True}).get()
    told["attributes"] = device.send_attributes({"model": "tb", "size": 3}).get()
    if gateway:
        wait_until(lambda: not device.get_subscriptions_in_progress())
    read: list[Any] = []
    device.request_attributes(
        client_keys=["model", "size"], callback=lambda answer, error: read.append(answer)
    )
    wait_until(lambda: read)
    told["read"] = read[0]
    device.disconnect()
    device.stop()
    return told


def mqtt_refused(
    port: int, login: dict[str, str], tls: dict[str, str] | None = None
) -> dict[str, Any]:
    """What the SDK's connect callback is told with credentials nobody has."""
    told: list[str] = []
    device = TBDeviceMqttClient(HOST, port, **login)
    device.connect(lambda *given: told.append(str(given[3])), tls=tls is not None, **(tls or {}))
    wait_until(lambda: told)
    connected = device.is_connected()
    device.disconnect()
    device.stop()
    return {"connected": connected, "reason": told[0]}


def http_provision(url: str, requests: list[dict[str, Any]]) -> list[Any]:
    """The token each HTTP device object gets, or the answer in its `TBProvisionFailure`."""

    def provision(request: dict[str, Any]) -> Any:
        try:
            return TBHTTPDevice.provision(url, **request).token
        except TBProvisionFailure as refused:
            return refused.args[0]

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(provision, requests))


def http_work(url: str, token: str) -> dict[str, Any]:
    """A device's traffic with the SDK's HTTP class."""
    device = TBHTTPDevice(url, token)
    connected = device.test_connection()
    device.send_telemetry({"temperature": 21.5}, queued=False)
    device.send_attributes({"model": "tb-http"})
    read = device.request_attributes(client_keys=["model"])
    stranger = TBHTTPDevice(url, "nobody-has-this").test_connection()
    return {"connected": connected, "read": read, "stranger": stranger}


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for what the SDK's threads do. Raises `TimeoutError`."""
    give_up = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError
        time.sleep(0.02)


JOBS = {
    job.__name__: job
    for job in (mqtt_provision, tls_provision, mqtt_work, mqtt_refused, http_provision, http_work)
}


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR)
    job = json.load(sys.stdin)
    json.dump(JOBS[job.pop("do")](**job), sys.stdout)


if __name__ == "__main__":
    main()
