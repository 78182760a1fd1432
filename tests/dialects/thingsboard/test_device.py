"""What a device may send, as its limits say it, and what its requests must look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from gateway.core.model import Device, Peer, Reading, Value, Wire
from gateway.dialects.thingsboard.device import DeviceApi, DeviceLimits
from gateway.wire.call import BadPayload, Call, Status

NOW = 1_795_219_296_308
PEER = Peer(Wire.MQTT, "192.0.2.7:50123")
DEVICE = Device(id=1, uuid="u", name="meter-1", type="meter", profile_id=1, credentials_row=1)


class Kept:
    """Keeps what devices send."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.attributes: dict[str, Value] = {}

    async def save_readings(self, device: Device, readings: Sequence[Reading]) -> None:
        self.readings += readings

    async def save_client_attributes(self, device: Device, values: Mapping[str, Value]) -> None:
        self.attributes.update(values)


def api(kept: Kept, limits: DeviceLimits) -> DeviceApi:
    """Devices that are known already, and what they send in `kept`."""
    unasked: Any = None
    traffic: Any = kept
    return DeviceApi(unasked, traffic, lambda: NOW, limits)


def call(body: bytes, **params: str) -> Call:
    return Call(body, PEER, params, device=DEVICE)


async def test_the_limit_of_values_holds_for_telemetry_and_attributes() -> None:
    """What is within it is kept, and of a message beyond it nothing is."""
    kept = Kept()
    devices = api(kept, DeviceLimits(max_values=2))
    for handler in (devices.telemetry, devices.post_attributes):
        assert (await handler(call(b'{"a":1,"b":2}'))).status is Status.OK
        with pytest.raises(BadPayload, match="at most 2 values in one message"):
            await handler(call(b'{"c":1,"d":2,"e":3}'))
    assert kept.readings == [Reading(NOW, "a", 1), Reading(NOW, "b", 2)]
    assert kept.attributes == {"a": 1, "b": 2}


@pytest.mark.parametrize("number", ["", "x", "-1", "1.5", "²", "12345678901"])
async def test_a_request_is_numbered(number: str) -> None:
    """A topic that ends in no whole number is a bad payload, and no answer could go out."""
    devices = api(Kept(), DeviceLimits())
    for handler in (devices.request_attributes, devices.client_rpc):
        with pytest.raises(BadPayload, match="the request id in the topic"):
            await handler(call(b"{}", id=number))
