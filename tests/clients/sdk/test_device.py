"""Every call of `TBDeviceMqttClient`, the device of ThingsBoard's SDK, over MQTT 5.

`provision` and refused logins are in `test_tb_mqtt_client.py`.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import RunningGateway
    from tests.clients.sdk.conftest import Client

FIRMWARE_BYTES = 10_000
WAIT_S = 10


@pytest.fixture
def connect(gate: RunningGateway, tb_client: Callable[..., Client]) -> Callable[..., Client]:
    """A new device of this name, connected and past its session limits."""

    def make(name: str, **more: Any) -> Client:
        username = more.pop("token", None) or gate.token(name)
        login = {"host": "127.0.0.1", "port": gate.mqtt, "username": username}
        client = tb_client("device", **login, **more)
        client.do("begin")
        return client

    return make


def firmware(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A file of random bytes, and what a callback is told of them."""
    body = random.Random(7).randbytes(FIRMWARE_BYTES)
    file = folder / "firmware.bin"
    file.write_bytes(body)
    return file, {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


# ── what it sends ─────────────────────────────────────────────────────────────────────────────


def test_session_limits(connect: Callable[..., Client]) -> None:
    """Without rate limits the SDK sends as fast as it likes, 80 % of a packet at most."""
    device = connect("sdk-limits")
    assert device.do("is_connected") is True
    assert device.do("limits") == {
        "max_payload": int(65536 * 0.8),
        "max_inflight": 80,  # 80 % of the 100 it is told
        "limited": [False, False, False],
    }


def test_session_limits_may_be_asked_again(connect: Callable[..., Client]) -> None:
    """The answer says what one session may send, with a member for each rate."""
    device = connect("sdk-limits-again")
    device.do("request_service_configuration", "@limits")
    _, _, told, error = device.told()

    assert error is None
    assert told["maxPayloadSize"] == 65536
    assert told["maxInflightMessages"] == 100
    assert told["rateLimits"].keys() == {"messages", "telemetryMessages", "telemetryDataPoints"}
    assert "gatewayRateLimits" not in told


@pytest.mark.parametrize("quality", [0, 1])
def test_send_telemetry(gate: RunningGateway, connect: Callable[..., Client], quality: int) -> None:
    """Every form of telemetry the SDK sends is taken, at both qualities of service."""
    name = f"sdk-telemetry-{quality}"
    device = connect(name)
    forms: list[Any] = [
        {"plain": 21.5, "on": True, "text": "warm"},
        [{"listed": 1}, {"also_listed": 2}],
        {"ts": 1_790_000_000_000, "values": {"timed": 3}},
        [
            {"ts": 1_790_000_000_000, "values": {"a": 4}},
            {"ts": 1_790_000_000_001.5, "values": {"b": 5}},
        ],
        {"ts": 1_790_000_000_000, "values": {"traced": 6}, "metadata": {"connector": "c"}},
    ]
    codes = [device.do("send_telemetry", form, quality_of_service=quality) for form in forms]

    assert {code for of_one in codes for code in of_one} == {0}
    keys = ("plain", "on", "text", "listed", "also_listed", "timed", "a", "b", "traced")
    values = (21.5, 1, "warm", 1, 2, 3, 4, 5, 6)
    assert gate.wait_for_readings(name, *keys) == dict(zip(keys, values, strict=True))


def test_much_telemetry_comes_in_pieces(
    gate: RunningGateway, connect: Callable[..., Client]
) -> None:
    """More than a packet holds is sent in several, and all of it arrives."""
    device = connect("sdk-much")
    much = {f"key{number}": "x" * 100 for number in range(1000)}
    codes = device.do("send_telemetry", much)

    assert len(codes) > 1
    assert set(codes) == {0}
    assert gate.wait_for_readings("sdk-much", *much) == much


def test_client_attributes(connect: Callable[..., Client]) -> None:
    """Attributes a device sends are given back: those asked for, or all of them."""
    device = connect("sdk-attributes")
    sent = {"model": "tb", "size": 3, "on": True, "nested": {"a": [1, 2]}}
    assert set(device.do("send_attributes", sent)) == {0}

    device.do("request_attributes", client_keys=["model", "nested"], callback="@some")
    device.do("request_attributes", callback="@all")
    device.do("request_attributes", client_keys=["unknown"], callback="@none")

    some = {"client": {"model": "tb", "nested": {"a": [1, 2]}}}
    told = {name: given for name, *given in (device.told() for _ in range(3))}
    assert told == {"some": [some, None], "all": [{"client": sent}, None], "none": [{}, None]}


def test_claim(connect: Callable[..., Client]) -> None:
    """A claim is taken: the SDK's call is acknowledged, twice as well."""
    device = connect("sdk-claim")
    assert device.do("claim", "secret-of-the-owner", 60_000) == [0]
    assert device.do("claim", "secret-of-the-owner") == [0]


# ── what it is told ───────────────────────────────────────────────────────────────────────────


def test_shared_attributes_are_read(gate: RunningGateway, connect: Callable[..., Client]) -> None:
    """What an operator sets is answered under `shared`, beside the device's own."""
    device = connect("sdk-shared")
    gate.share("sdk-shared", target=21, eco=True)
    device.do("send_attributes", {"model": "tb"})
    device.do("request_attributes", client_keys=["model"], shared_keys=["target"], callback="@both")
    device.do("request_attributes", shared_keys=["target", "eco"], callback="@shared")

    told = {name: given for name, *given in (device.told() for _ in range(2))}
    assert told == {
        "both": [{"client": {"model": "tb"}, "shared": {"target": 21}}, None],
        "shared": [{"shared": {"target": 21, "eco": True}}, None],
    }


def test_updates_are_told_to_who_subscribed(
    gate: RunningGateway, connect: Callable[..., Client]
) -> None:
    """An operator's change reaches the callbacks of its key and those of every key."""
    device = connect("sdk-updates")
    number = device.do("subscribe_to_attribute", "target", "@target")
    device.do("subscribe_to_all_attributes", "@all")

    gate.share("sdk-updates", target=21)
    assert device.told() == ["all", {"target": 21}, None]
    assert device.told() == ["target", {"target": 21}, None]

    device.do("unsubscribe_from_attribute", number)
    gate.share("sdk-updates", target=22)
    assert device.told() == ["all", {"target": 22}, None]

    device.do("clean_device_sub_dict")
    device.do("subscribe_to_attribute", "eco", "@eco")
    gate.share("sdk-updates", target=23)
    gate.share("sdk-updates", eco=False)
    assert device.told() == ["eco", {"eco": False}, None]


def test_its_own_attributes_do_not_come_back(
    gate: RunningGateway, connect: Callable[..., Client]
) -> None:
    """Of what a device sends itself it is told nothing (contract, section 8)."""
    device = connect("sdk-own")
    device.do("subscribe_to_all_attributes", "@all")
    device.do("send_attributes", {"own": 1})
    gate.share("sdk-own", theirs=2)

    assert device.told() == ["all", {"theirs": 2}, None]


# ── calls ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("quality", [0, 1])
def test_an_operators_call_is_answered(
    gate: RunningGateway, connect: Callable[..., Client], quality: int
) -> None:
    """Method and parameters reach the handler, its reply reaches the operator."""
    name = f"sdk-called-{quality}"
    device = connect(name)
    device.do("set_server_side_rpc_request_handler", "@call")
    for params in ({"pin": 7, "on": True}, [1, 2], "text", 5):
        asked = gate.rpc(name, "setPin", params)
        called, number, content = device.told(WAIT_S)
        device.do("send_rpc_reply", number, {"done": params}, quality_of_service=quality)

        assert called == "call"
        assert content["method"] == "setPin"
        assert content["params"] == params
        assert asked.result(WAIT_S) == {"done": params}


def test_a_reply_may_be_waited_for(gate: RunningGateway, connect: Callable[..., Client]) -> None:
    """`wait_for_publish` returns: the reply was acknowledged."""
    device = connect("sdk-waits")
    device.do("set_server_side_rpc_request_handler", "@call")
    asked = gate.rpc("sdk-waits", "ping", {})
    _, number, _ = device.told(WAIT_S)
    device.do("send_rpc_reply", number, {"pong": 1}, 1, True)

    assert asked.result(WAIT_S) == {"pong": 1}


def test_two_calls_at_once_keep_their_answers(
    gate: RunningGateway, connect: Callable[..., Client]
) -> None:
    """Two calls under way are told apart by their numbers, whichever is answered first."""
    device = connect("sdk-twice")
    device.do("set_server_side_rpc_request_handler", "@call")
    asked = {which: gate.rpc("sdk-twice", "which", which) for which in ("one", "two")}
    calls = [device.told(WAIT_S), device.told(WAIT_S)]
    for _, number, content in reversed(calls):
        device.do("send_rpc_reply", number, {"it was": content["params"]})

    assert {which: asked[which].result(WAIT_S) for which in asked} == {
        "one": {"it was": "one"},
        "two": {"it was": "two"},
    }


def test_a_devices_calls_are_answered(connect: Callable[..., Client]) -> None:
    """A device may ask for the time; a call of a method nobody serves is answered by an error."""
    device = connect("sdk-calls")
    device.do("send_rpc_call", "getCurrentTime", {}, "@time")
    device.do("send_rpc_call", "paintItBlack", {"it": "door"}, "@error")
    told = {name: given for name, *given in (device.told() for _ in range(2))}

    assert abs(told["time"][1]["currentTime"] - time.time() * 1000) < 60_000
    assert "error" in told["error"][1]
    assert told["time"][0] != told["error"][0]  # each has its own number


# ── firmware ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("chunk_size", [0, 4096, FIRMWARE_BYTES // 2])
def test_firmware_assigned_before_is_downloaded(
    gate: RunningGateway,
    connect: Callable[..., Client],
    tmp_path: Path,
    chunk_size: int,
) -> None:
    """A device that asks gets its firmware, whole or in chunks, and its checksum is right."""
    name = f"sdk-firmware-{chunk_size}"
    token = gate.token(name)
    file, told = firmware(tmp_path)
    gate.offer_firmware(file, "sdk-pull", f"1.{chunk_size}", name)
    device = connect(name, token=token, chunk_size=chunk_size)
    device.do("set_on_firmware_received_callback", "@received")
    device.do("get_firmware_update")

    assert device.told(WAIT_S) == ["received", told, f"1.{chunk_size}"]
    found = gate.wait_for_readings(name, fw_state="VERIFIED")
    assert found["fw_state"] == "VERIFIED"
    assert found["current_fw_title"] == "Initial"


def test_firmware_assigned_meanwhile_comes_by_itself(
    gate: RunningGateway, connect: Callable[..., Client], tmp_path: Path
) -> None:
    """A connected device is told of its new firmware and has it without asking."""
    device = connect("sdk-firmware-push", chunk_size=4096)
    file, told = firmware(tmp_path)
    device.do("set_on_firmware_received_callback", "@received")
    gate.offer_firmware(file, "sdk-push", "2.0", "sdk-firmware-push")

    assert device.told(WAIT_S) == ["received", told, "2.0"]


# ── the end ───────────────────────────────────────────────────────────────────────────────────


def test_it_disconnects_and_connects_again(
    gate: RunningGateway, connect: Callable[..., Client]
) -> None:
    """A device that left is served like a new one when it comes back."""
    device = connect("sdk-again")
    device.do("disconnect")
    assert device.do("is_connected") is False

    device.do("begin")
    assert device.do("send_telemetry", {"back": 1}) == [0]
    assert gate.readings("sdk-again") == {"back": 1}
    device.do("disconnect")
    device.do("stop")
