"""A profile was changed: its sessions are told the new settings, which are read once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import structlog

from gateway.core.errors import GatehouseError
from gateway.core.model import Device
from gateway.dialects.thingsboard.callers import Callers, Settings

log = structlog.get_logger()

RETRY_S = 1.0
"""How soon the store is asked again when it could not be read."""

Apply: TypeAlias = Callable[[Settings], None]


class Renewals:
    """Reads changed settings. One for a process; `stop` it before the store is closed."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._asked: dict[tuple[int, bool], list[Apply]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, device: Device, apply: Apply) -> None:
        """Call `apply` with settings read after this."""
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _renew(self, device: Device) -> None:
        """Who asks while settings are being read gets those that are read next."""
        key = (device.profile_id, device.gateway)
        try:
            while asked := self._asked[key]:
                self._asked[key] = []
                settings = await self._read(device)
                for apply in asked:
                    apply(settings)
        except ValueError as exc:
            # The sessions go on as before; who comes next is refused by the same error.
            log.error("profile.not_applied", profile=device.type, reason=str(exc))
        finally:
            del self._asked[key]

    async def _read(self, device: Device) -> Settings:
        while True:
            try:
                return await self._callers.fresh_settings(device)
            except GatehouseError as exc:
                log.warning("profile.not_read", profile=device.type, reason=str(exc))
            await asyncio.sleep(RETRY_S)
