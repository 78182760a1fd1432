"""A profile was changed: live connections are given what it says now, read once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from gateway.core.errors import GatehouseError
from gateway.core.model import Device

log = structlog.get_logger()

RETRY_S = 1.0
"""How soon the store is asked again when it could not be read."""

T = TypeVar("T")


class Renewals(Generic[T]):
    """One for a process; `stop` it before the store is closed.

    `read`: what the profile of a device says as it is now, the same for all its devices, and for
    all its gateways. Raises `ValueError` when what it says cannot be applied.
    """

    def __init__(self, read: Callable[[Device], Awaitable[T]]) -> None:
        self._read = read
        self._asked: dict[tuple[int, bool], list[Callable[[T], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, device: Device, apply: Callable[[T], None]) -> None:
        """Call `apply` with what is read after this."""
        key = (device.profile_id, device.gateway)
        asked = self._asked.get(key)
        if asked is not None:
            asked.append(apply)
            return
        self._asked[key] = [apply]
        task = asyncio.get_running_loop().create_task(self._renew(device))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """What is being read is not applied any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _renew(self, device: Device) -> None:
        """Who asks while it is being read gets what is read next."""
        key = (device.profile_id, device.gateway)
        try:
            while asked := self._asked[key]:
                self._asked[key] = []
                now = await self._read_now(device)
                for apply in asked:
                    apply(now)
        except ValueError as exc:
            # The sessions go on as before; who comes next is refused by the same error.
            log.error("profile.not_applied", profile=device.type, reason=str(exc))
        finally:
            del self._asked[key]

    async def _read_now(self, device: Device) -> T:
        while True:
            try:
                return await self._read(device)
            except GatehouseError as exc:
                log.warning("profile.not_read", profile=device.type, reason=str(exc))
            await asyncio.sleep(RETRY_S)
