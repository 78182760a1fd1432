"""Methods a device may call on us: some are answered here, the rest by a hook."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from gateway.core.model import Device
from gateway.core.ports import Clock

Method: TypeAlias = Callable[[Device, str], Awaitable[bytes]]
"""`(who calls, params as JSON text) → the answer as JSON`."""

Hook: TypeAlias = Callable[[Device, str, str], Awaitable[bytes | None]]
"""`(who calls, method, params as JSON) → the answer as JSON`; None: it knows no such method."""

NO_SUCH_METHOD = b'{"error":"no such method"}'
TIMED_OUT = b'{"error":"timeout"}'


class Methods:
    """The methods by name. `hook` answers the names that are not here; None: nobody does."""

    def __init__(
        self, clock: Clock, *, hook: Hook | None = None, more: Mapping[str, Method] | None = None
    ) -> None:
        self._clock = clock
        self._hook = hook
        self._methods: dict[str, Method] = {"getCurrentTime": self._current_time, **(more or {})}

    async def call(self, device: Device, name: str, params: str, timeout_s: float) -> bytes | None:
        """The answer as JSON; None when none came in `timeout_s`."""
        method = self._methods.get(name)
        try:
            async with asyncio.timeout(timeout_s):
                if method is not None:
                    return await method(device, params)
                if self._hook is None:
                    return NO_SUCH_METHOD
                answer = await self._hook(device, name, params)
        except TimeoutError:
            return None
        return NO_SUCH_METHOD if answer is None else answer

    async def _current_time(self, _device: Device, _params: str) -> bytes:
        """Milliseconds since the epoch, UTC."""
        return b'{"currentTime":%d}' % self._clock()
