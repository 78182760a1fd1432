"""Every call of `TBHTTPDevice`, the HTTP device of ThingsBoard's SDK.

`provision` and `test_connection` with a stranger's token are in `test_tb_mqtt_client.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import RunningGateway
    from tests.clients.sdk.conftest import Client

WAIT_S = 10


@pytest.fixture
def device(gate: RunningGateway, tb_client: Callable[..., Client]) -> Callable[..., Client]:
    """The HTTP object of a new device of this name."""

    def make(name: str, chunk_size: int = 0) -> Client:
        token = gate.token(name)
        return tb_client("http", host=gate.http_url, token=token, name=name, chunk_size=chunk_size)

    return make


def wait_for_poll() -> None:
    """The SDK does not tell when its poll is under way: its thread has just been started."""
    time.sleep(0.5)


def test_telemetry_at_once_and_queued(gate: RunningGateway, device: Callable[..., Client]) -> None:
    """Readings sent at once and those its worker sends later all arrive."""
    client = device("sdkh-telemetry")
    assert client.do("connect") is True  # tests the connection and starts the worker
    client.do("send_telemetry", {"at_once": 1}, queued=False)
    client.do("send_telemetry", {"queued": 2})

    told = gate.wait_for_readings("sdkh-telemetry", "at_once", "queued")
    assert told == {"at_once": 1, "queued": 2}
    client.do("stop_publish_worker")


def test_attributes_of_both_scopes(gate: RunningGateway, device: Callable[..., Client]) -> None:
    """Its own attributes and the operator's are given back, each under its scope.

    The SDK misspells the parameters that name keys, so all of them are.
    """
    client = device("sdkh-attributes")
    assert client.do("request_attributes") == {}
    client.do("send_attributes", {"model": "tb", "nested": {"a": [1]}})
    gate.share("sdkh-attributes", target=21)

    told = client.do("request_attributes", client_keys=["model"], shared_keys=["target"])
    assert told == {"client": {"model": "tb", "nested": {"a": [1]}}, "shared": {"target": 21}}


def test_updates_are_polled(gate: RunningGateway, device: Callable[..., Client]) -> None:
    """A change the operator makes ends the poll, and the SDK's next poll waits for the next."""
    client = device("sdkh-updates")
    client.do("subscribe", "attributes", "@update")
    for target in (21, 22):
        wait_for_poll()
        gate.share("sdkh-updates", target=target)
        assert client.told() == ["update", {"target": target}]
    client.do("unsubscribe", "attributes")


def test_an_operators_call_is_polled_and_answered(
    gate: RunningGateway, device: Callable[..., Client]
) -> None:
    """A call ends the poll for calls; what is posted under its number is the operator's answer.

    The SDK can post an answer only in the form of a call, and only under a number that is not 0.
    """
    client = device("sdkh-called")
    client.do("subscribe", "rpc", "@call")
    for params in ({"pin": 7}, [1, 2]):
        wait_for_poll()
        asked = gate.rpc("sdkh-called", "setPin", params)
        called, content = client.told()
        client.do("send_rpc", "done", {"ok": True}, rpc_id=content["id"])

        assert called == "call"
        assert content == {"id": content["id"], "method": "setPin", "params": params}
        assert content["id"] > 0
        assert asked.result(WAIT_S) == {"method": "done", "params": {"ok": True}}
    client.do("unsubscribe", "rpc")


def test_a_devices_calls_are_answered(device: Callable[..., Client]) -> None:
    """A device may ask for the time; a call of a method nobody serves is answered by an error."""
    client = device("sdkh-calls")
    told = client.do("send_rpc", "getCurrentTime")

    assert abs(told["currentTime"] - time.time() * 1000) < 60_000
    assert "error" in client.do("send_rpc", "paintItBlack", {"it": "door"})


@pytest.mark.parametrize("chunk_size", [0, 4096])
def test_firmware_is_downloaded(
    gate: RunningGateway,
    device: Callable[..., Client],
    tmp_path: Path,
    chunk_size: int,
) -> None:
    """A firmware comes whole or in chunks, one of them behind its end, and is reported UPDATED."""
    name = f"sdkh-firmware-{chunk_size}"
    client = device(name, chunk_size)
    body = random.Random(7).randbytes(10_000)
    (tmp_path / "firmware.bin").write_bytes(body)
    gate.offer_firmware(tmp_path / "firmware.bin", f"sdk-{chunk_size}", "v3", name)
    assert client.do("connect") is True
    client.do("get_firmware_update")

    assert client.file(f"sdk-{chunk_size}").read_bytes() == body
    give_up = time.monotonic() + WAIT_S
    while gate.readings(name).get("fw_state") != "UPDATED":
        assert time.monotonic() < give_up, gate.readings(name)
        time.sleep(0.1)
    assert gate.readings(name)["current_fw_version"] == "v3"


def test_firmware_is_not_downloaded_when_there_is_none(
    gate: RunningGateway, device: Callable[..., Client]
) -> None:
    """Without an assigned firmware the SDK finds nothing to do."""
    client = device("sdkh-no-firmware")
    assert client.do("get_firmware_update") is None
    assert gate.readings("sdkh-no-firmware") == {}
