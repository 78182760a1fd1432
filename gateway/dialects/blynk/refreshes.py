"""A profile was changed: the live connections of its devices are given its template as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import structlog
from msgspec import structs

from gateway.core.errors import GatehouseError
from gateway.dialects.blynk.callers import Known
from gateway.dialects.blynk.profile import BlynkTemplate, Templates

log = structlog.get_logger()

RETRY_S = 1.0
"""How soon the store is asked again when it could not be read."""

Apply: TypeAlias = Callable[[BlynkTemplate | None], None]


class Refreshes:
    """Reads changed templates, each once for all who ask. `stop` it before the store is closed."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._asked: dict[int, list[Apply]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, known: Known, apply: Apply) -> None:
        """Call `apply` with a template read after this."""
        profile_id = known.device.profile_id
        asked = self._asked.get(profile_id)
        if asked is not None:
            asked.append(apply)
            return
        self._asked[profile_id] = [apply]
        task = asyncio.get_running_loop().create_task(self._refresh(known))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _refresh(self, known: Known) -> None:
        """Who asks while it is being read gets what is read next."""
        profile_id = known.device.profile_id
        try:
            while asked := self._asked[profile_id]:
                self._asked[profile_id] = []
                template = await self._read(known)
                known = Known(known.device, template)
                for apply in asked:
                    apply(template)
        finally:
            del self._asked[profile_id]

    async def _read(self, known: Known) -> BlynkTemplate | None:
        device = known.device
        if known.template is not None:
            newer = known.template.profile.revision + 1
            device = structs.replace(device, profile_revision=newer)
        while True:
            try:
                return await self._templates.of(device)
            except GatehouseError as exc:
                log.warning("profile.not_read", profile=device.type, reason=str(exc))
            await asyncio.sleep(RETRY_S)
