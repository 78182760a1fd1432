"""Methods a device may call."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.core.methods import NO_SUCH_METHOD, Methods
from gateway.core.model import Device

DEVICE = Device(id=1, uuid="u-1", name="meter", type="water", profile_id=1, credentials_row=1)


async def test_the_time_is_told(clock: Any) -> None:
    """`getCurrentTime` is built in: milliseconds, UTC."""
    answer = await Methods(clock).call(DEVICE, "getCurrentTime", "{}", 1)
    assert answer == b'{"currentTime":%d}' % clock.now


async def test_other_methods_go_to_the_hook_or_are_unknown(clock: Any) -> None:
    """Without a hook, and with one that knows no such method, the device is told so at once."""

    async def hook(device: Device, method: str, params: str) -> bytes | None:
        return None if method == "nothing" else f'["{device.name}","{method}",{params}]'.encode()

    assert await Methods(clock).call(DEVICE, "term", "{}", 1) == NO_SUCH_METHOD
    methods = Methods(clock, hook=hook)
    assert await methods.call(DEVICE, "nothing", "{}", 1) == NO_SUCH_METHOD
    assert await methods.call(DEVICE, "term", "7", 1) == b'["meter","term",7]'


async def test_an_answer_that_does_not_come_is_none(clock: Any) -> None:
    """Neither a slow hook nor a slow method of our own keeps the device longer than its time."""

    async def slow(*_: Any) -> bytes:
        await asyncio.sleep(5)
        return b"1"

    assert await Methods(clock, hook=slow).call(DEVICE, "m", "{}", 0.01) is None
    assert await Methods(clock, more={"m": slow}).call(DEVICE, "m", "{}", 0.01) is None
