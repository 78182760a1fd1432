"""Every call of `TBGatewayMqttClient`, the gateway of ThingsBoard's SDK, over MQTT 5."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import RunningGateway
    from tests.clients.sdk.conftest import Client

WAIT_S = 10


@pytest.fixture
def connect(gate: RunningGateway, tb_client: Callable[..., Client]) -> Callable[[str], Client]:
    """A new gateway of this name, connected and past its session limits."""

    def make(name: str) -> Client:
        token = gate.token(name, gateway=True)
        client = tb_client("gateway", host="127.0.0.1", port=gate.mqtt, username=token)
        client.do("begin")
        return client

    return make


def in_turn(client: Client, count: int) -> dict[str, list[Any]]:
    """What the next `count` callbacks were given, by name."""
    return {name: given for name, *given in (client.told() for _ in range(count))}


def test_a_gateway_is_a_device_too(gate: RunningGateway, connect: Callable[[str], Client]) -> None:
    """Its own readings and attributes are its own; its session limits are a gateway's."""
    gateway = connect("sdkg-self")
    assert gateway.do("send_telemetry", {"load": 0.5}) == [0]
    assert gateway.do("get_subscriptions_in_progress") is False
    gateway.do("send_rpc_call", "getSessionLimits", {}, "@limits")
    _, _, told, _ = gateway.told()

    assert gate.readings("sdkg-self") == {"load": 0.5}
    assert told["gatewayRateLimits"].keys() == told["rateLimits"].keys()


def test_connecting_makes_the_child(gate: RunningGateway, connect: Callable[[str], Client]) -> None:
    """A child nobody knew becomes a device of the type it is connected with."""
    gateway = connect("sdkg-connect")
    assert gateway.do("gw_connect_device", "sdkg-typed", "thermostat") == [0]
    assert gateway.do("gw_connect_device", "sdkg-untyped") == [0]
    assert gateway.do("gw_connect_device", "sdkg-typed", "thermostat") == [0]
    assert gateway.do("gw_disconnect_device", "sdkg-typed") == [0]

    assert gate.device("sdkg-typed")["type"] == "thermostat"
    assert gate.device("sdkg-untyped")["type"] == "default"
    assert gate.device("sdkg-typed")["gateway"] is False


@pytest.mark.parametrize("quality", [0, 1])
def test_telemetry_of_children(
    gate: RunningGateway, connect: Callable[[str], Client], quality: int
) -> None:
    """A child's telemetry is its own in every form, also of one that was never connected."""
    gateway = connect(f"sdkg-telemetry-{quality}")
    child, other = f"sdkg-child-{quality}", f"sdkg-other-{quality}"
    gateway.do("gw_connect_device", child)
    forms: list[Any] = [
        {"plain": 21.5},
        [{"listed": 1}, {"ts": 1_790_000_000_000.5, "values": {"timed": 2}}],
        {
            "ts": 1_790_000_000_000,
            "values": {"traced": 3},
            "metadata": {"connector": "c", "receivedTs": 1, "publishedTs": 2},
        },
    ]
    for form in forms:
        assert gateway.do("gw_send_telemetry", child, form, quality) == [0]
    assert gateway.do("gw_send_telemetry", other, {"plain": 7}, quality) == [0]

    told = {"plain": 21.5, "listed": 1, "timed": 2, "traced": 3}
    assert gate.wait_for_readings(child, *told) == told
    assert gate.wait_for_readings(other, "plain") == {"plain": 7}
    assert gate.readings(f"sdkg-telemetry-{quality}") == {}


def test_attributes_of_children_are_given_back(connect: Callable[[str], Client]) -> None:
    """One key asked for is answered by `value`, several by `values`, an unknown one by neither."""
    gateway = connect("sdkg-attributes")
    gateway.do("gw_connect_device", "sdkg-known")
    sent = {"model": "tb", "size": 3}
    assert gateway.do("gw_send_attributes", "sdkg-known", sent) == [0]
    for name, keys in {"one": ["model"], "two": ["model", "size"], "none": ["unknown"]}.items():
        gateway.do("gw_request_client_attributes", "sdkg-known", keys, f"@{name}")
    told = in_turn(gateway, 3)

    assert {error for _, error in told.values()} == {None}
    assert {answer["device"] for answer, _ in told.values()} == {"sdkg-known"}
    assert told["one"][0]["value"] == "tb"
    assert told["two"][0]["values"] == sent
    assert told["none"][0].keys() == {"id", "device"}


def test_shared_attributes_of_children_are_read(
    gate: RunningGateway, connect: Callable[[str], Client]
) -> None:
    """What an operator sets for a child is what the gateway is told, and not the client's own."""
    gateway = connect("sdkg-shared")
    gateway.do("gw_connect_device", "sdkg-shared-child")
    gateway.do("gw_send_attributes", "sdkg-shared-child", {"target": 1})
    gate.share("sdkg-shared-child", target=21, eco=True)
    for name, keys in {"one": ["target"], "two": ["target", "eco"]}.items():
        gateway.do("gw_request_shared_attributes", "sdkg-shared-child", keys, f"@{name}")
    told = in_turn(gateway, 2)

    assert told["one"][0]["value"] == 21
    assert told["two"][0]["values"] == {"target": 21, "eco": True}


def test_updates_of_children(gate: RunningGateway, connect: Callable[[str], Client]) -> None:
    """An operator's change of a child reaches the callbacks of its key, its child, and of all."""
    gateway = connect("sdkg-updates")
    for child in ("sdkg-first", "sdkg-second"):
        gateway.do("gw_connect_device", child)
    gateway.do("gw_subscribe_to_all_attributes", "@every")
    gateway.do("gw_subscribe_to_all_device_attributes", "sdkg-first", "@child")
    gateway.do("gw_subscribe_to_attribute", "sdkg-first", "target", "@key")
    assert gateway.do("gw_subscribe_to_attribute", "sdkg-unknown", "target", "@no") is False

    gate.share("sdkg-first", target=21)
    update = [{"device": "sdkg-first", "data": {"target": 21}}]
    assert in_turn(gateway, 3) == {"every": update, "child": update, "key": update}
    gate.share("sdkg-second", target=22)
    assert gateway.told() == ["every", {"device": "sdkg-second", "data": {"target": 22}}]

    gateway.do("gw_unsubscribe", "*")
    gateway.do("gw_subscribe_to_all_device_attributes", "sdkg-second", "@second")
    gate.share("sdkg-first", target=23)
    gate.share("sdkg-second", target=24)
    assert gateway.told() == ["second", {"device": "sdkg-second", "data": {"target": 24}}]


def test_a_disconnected_child_is_told_nothing(
    gate: RunningGateway, connect: Callable[[str], Client]
) -> None:
    """Changes of a child that was disconnected are not for its gateway any more."""
    gateway = connect("sdkg-leaves")
    for child in ("sdkg-gone", "sdkg-here"):
        gateway.do("gw_connect_device", child)
    gateway.do("gw_subscribe_to_all_attributes", "@every")
    gateway.do("gw_disconnect_device", "sdkg-gone")

    gate.share("sdkg-gone", target=1)
    gate.share("sdkg-here", target=2)
    assert gateway.told() == ["every", {"device": "sdkg-here", "data": {"target": 2}}]


@pytest.mark.parametrize("quality", [0, 1])
def test_a_childs_calls_are_answered(
    gate: RunningGateway, connect: Callable[[str], Client], quality: int
) -> None:
    """A call of a child names it, and the answer the gateway gives is the operator's."""
    gateway = connect(f"sdkg-called-{quality}")
    child = f"sdkg-called-child-{quality}"
    gateway.do("gw_connect_device", child)
    gateway.do("gw_set_server_side_rpc_request_handler", "@call")
    asked = gate.rpc(child, "setPin", {"pin": 7})
    called, content = gateway.told(WAIT_S)
    number = content["data"]["id"]
    gateway.do("gw_send_rpc_reply", child, number, {"done": True}, quality)

    assert called == "call"
    assert isinstance(number, int)
    assert content == {
        "device": child,
        "data": {"id": number, "method": "setPin", "params": {"pin": 7}},
    }
    assert asked.result(WAIT_S) == {"done": True}


def test_a_gateways_own_calls_are_answered(
    gate: RunningGateway, connect: Callable[[str], Client]
) -> None:
    """A call of the gateway itself comes as to any device."""
    gateway = connect("sdkg-own-call")
    gateway.do("set_server_side_rpc_request_handler", "@call")
    asked = gate.rpc("sdkg-own-call", "ping", {})
    _, number, content = gateway.told(WAIT_S)
    gateway.do("send_rpc_reply", number, {"pong": content["method"]})

    assert asked.result(WAIT_S) == {"pong": "ping"}


def test_claims_of_children(connect: Callable[[str], Client]) -> None:
    """Claims of a child, and of several in one request, are acknowledged."""
    gateway = connect("sdkg-claim")
    gateway.do("gw_connect_device", "sdkg-claimed")
    assert gateway.do("gw_claim", "sdkg-claimed", "secret-of-the-owner", 60_000) == [0]
    several = {"sdkg-claimed": {}, "sdkg-claimed-too": {"secretKey": "another", "durationMs": 1000}}
    assert gateway.do("gw_claim", "sdkg-claimed", "", 0, claiming_request=several) == [0]
