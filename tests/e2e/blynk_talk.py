"""A device of Blynk's kind that talks MQTT: what it sends, and what it waits for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from blynk_ground import TEMPLATE, BlynkGate
from wires import DISCONNECT, PUBACK, Mqtt, mqtt

from gateway.core.model import Device
from gateway.core.sessions import Slot

INFO = {
    "tmpl": TEMPLATE,
    "ver": "0.1.2",
    "build": "Jan 19 2024 12:25:30",
    "type": TEMPLATE,
    "rxbuff": 1024,
}


def info(**more: Any) -> bytes:
    return json.dumps({**INFO, **more}).encode()


@asynccontextmanager
async def connected(
    blynk: BlynkGate, token: str, version: int = 4, *filters: str, username: str = "device"
) -> AsyncIterator[Mqtt]:
    """A session that is open, and its subscriptions granted."""
    async with mqtt(blynk.ports.mqtt, version) as session:
        assert await session.connect("", username, token) == 0
        if filters:
            assert await session.subscribe(*filters) == [1] * len(filters)
        yield session


async def noted(session: Mqtt, number: int, code: int = 0) -> bytes:
    """What a publish at QoS 1 brings: a text on downlink/diag at QoS 0, then the PUBACK."""
    topic, payload, qos = await session.published()
    assert (topic, qos) == ("downlink/diag", 0)
    got = await session.expect(PUBACK)
    want = number.to_bytes(2) + (bytes((code, 0)) if session.version == 5 and code else b"")
    assert got.body == want if not got.body[4:] else got.body[:3] == want[:3]
    return payload


async def ended(session: Mqtt, code: int) -> None:
    """The server hangs up; MQTT 5 clients hear why."""
    got = await session.next()
    if session.version == 5:
        assert got is not None
        assert (got.kind, got.body[0]) == (DISCONNECT, code)
        got = await session.next()
    assert got is None


def is_online(blynk: BlynkGate, device: Device) -> bool:
    return any(one.slot is Slot.LIVE for one in blynk.gateway.sessions.of(device.id))


async def until(found: Callable[[], bool], within_s: float = 2.0) -> None:
    async with asyncio.timeout(within_s):
        while not found():
            await asyncio.sleep(0.01)
