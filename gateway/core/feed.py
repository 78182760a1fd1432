"""What was changed in the store, told to the sessions of this process within moments.

A change may come from this process, from a command in a shell, or from another gateway on the same
database: all leave a notice in their transaction. The notices are asked for twenty times a second,
which costs one look-up each, and at once after a change of our own.
"""

from __future__ import annotations

import asyncio

import structlog

from gateway.core.errors import GatehouseError
from gateway.core.model import Notice, NoticeKind
from gateway.core.ports import Store
from gateway.core.rpc import Rpc
from gateway.core.sessions import Cause, Sessions

log = structlog.get_logger()

LOOK_EVERY_S = 0.05
"""How late a notice of another process may be heard."""
MOST_AT_ONCE = 500


class Feed:
    """Reads notices in their order and acts on each. One for a process."""

    def __init__(self, store: Store, sessions: Sessions, rpc: Rpc) -> None:
        self._store = store
        self._sessions = sessions
        self._rpc = rpc
        self._seen = 0
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Something was changed just now: look at once."""
        self._nudged.set()

    async def begin(self) -> None:
        """From here on notices count; what is older found no session to tell."""
        self._seen = await self._store.last_notice()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._nudged.wait()
            except TimeoutError:
                pass
            self._nudged.clear()
            try:
                while len(await self.look()) == MOST_AT_ONCE:
                    pass
            except GatehouseError as exc:
                log.debug("feed.not_read", reason=str(exc))

    async def look(self) -> list[Notice]:
        """Act on the notices there are; give them back."""
        notices = await self._store.notices(self._seen, MOST_AT_ONCE)
        for notice in notices:
            self._seen = notice.seq
            try:
                await self._heed(notice)
            except GatehouseError as exc:
                log.warning("feed.not_heeded", kind=notice.kind.value, reason=str(exc))
        return notices

    async def _heed(self, notice: Notice) -> None:
        sessions = self._sessions
        match notice.kind:
            case NoticeKind.ATTRIBUTES | NoticeKind.PACKAGE:
                if notice.change is not None:
                    sessions.attributes_changed(
                        notice.change, device_id=notice.device_id, profile_id=notice.profile_id
                    )
            case NoticeKind.RPC:
                await self._rpc.take(notice.call_id)
            case NoticeKind.LOGIN:
                assert notice.device_id is not None
                sessions.end(
                    notice.device_id,
                    Cause.CREDENTIALS_CHANGED,
                    but_generation=notice.generation,
                )
            case NoticeKind.REMOVED:
                assert notice.device_id is not None
                sessions.end(notice.device_id, Cause.REMOVED)
            case NoticeKind.PROFILE:
                assert notice.profile_id is not None
                sessions.profile_changed(notice.profile_id)
