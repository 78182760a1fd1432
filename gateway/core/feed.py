"""What was changed in the store, told to the sessions of this process within moments.

A change may come from this process, from a command in a shell, or from another gateway on the same
database: all leave a notice in their transaction. The notices are asked for twenty times a second,
which costs one look-up each, and at once after a change of our own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

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
MOST_ASKED = 500
"""Devices of which is asked at once whether they are suspended."""
ONCE_MORE_S = 2.0
"""After a quarantine sessions are looked through a second time: of those that began meanwhile, some
were let in before it."""
AFTER_FAILURE_S = 1.0
"""How long a failure that is nobody's outage is left alone, so that it does not fill the log."""


class Feed:
    """Reads notices in their order and acts on each. One for a process.

    `forget` is called when what is known of a device, its login or its profile is out of date,
    `client_revoked` with the number of each program of an organisation that was revoked, `missed`
    when any may have been that nobody hears of.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        rpc: Rpc,
        *,
        forget: Callable[[], None] = lambda: None,
        client_revoked: Callable[[int], None] = lambda _: None,
        missed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._rpc = rpc
        self._forget = forget
        self._client_revoked = client_revoked
        self._missed = missed
        self._seen = 0
        self._once_more: dict[int, float] = {}
        """Fleet secrets in quarantine, and when (loop time) to look through the sessions again."""
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
                if self._once_more:
                    await self._look_once_more()
            except GatehouseError as exc:
                log.debug("feed.not_read", reason=str(exc))
            except Exception:
                log.exception("feed.failed")
                await asyncio.sleep(AFTER_FAILURE_S)

    async def look(self) -> list[Notice]:
        """Act on the notices there are; give them back.

        Raises what the store raises: the notice that needed it is heeded when it is back.
        """
        notices = await self._store.notices(self._seen, MOST_AT_ONCE)
        if notices and notices[0].seq > self._seen + 1:
            self._begin_anew(notices[0].seq)
        for notice in notices:
            try:
                await self._heed(notice)
            except GatehouseError:
                raise
            except Exception:
                log.exception("feed.not_heeded", kind=notice.kind.value)
            self._seen = notice.seq
        return notices

    def _begin_anew(self, first: int) -> None:
        """Notices before `first` were forgotten before they were read here: this process, or its
        way to the store, stood still for minutes. Whoever is connected logs in again, if it still
        may."""
        log.error("feed.missed", notices=first - self._seen - 1, done="all sessions end")
        self._seen = first - 1
        self._forget()
        self._missed()
        for device_id in self._sessions.devices:
            self._sessions.cut(device_id, Cause.CREDENTIALS_CHANGED)

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
                self._forget()
                sessions.end(
                    notice.device_id,
                    Cause.CREDENTIALS_CHANGED,
                    but_generation=notice.generation,
                )
            case NoticeKind.REMOVED:
                assert notice.device_id is not None
                self._forget()
                sessions.end(notice.device_id, Cause.REMOVED)
            case NoticeKind.ORDER:
                assert notice.device_id is not None
                if notice.order is not None:
                    self._rpc.order(notice.device_id, notice.order, notice.argument)
            case NoticeKind.PROFILE:
                assert notice.profile_id is not None
                self._forget()
                sessions.profile_changed(notice.profile_id)
            case NoticeKind.CLIENT:
                self._client_revoked(notice.client_id)
            case NoticeKind.QUARANTINE:
                self._forget()
                await self._cut_suspended(notice.ticket_id)
                loop = asyncio.get_running_loop()
                self._once_more[notice.ticket_id] = loop.time() + ONCE_MORE_S

    async def _cut_suspended(self, ticket_id: int) -> None:
        """End the sessions of the devices here that a fleet secret in quarantine bore."""
        here = self._sessions.devices
        for first in range(0, len(here), MOST_ASKED):
            some = here[first : first + MOST_ASKED]
            for device_id in await self._store.suspended(ticket_id, some):
                self._sessions.cut(device_id, Cause.CREDENTIALS_CHANGED)

    async def _look_once_more(self) -> None:
        now = asyncio.get_running_loop().time()
        for ticket_id in [one for one, at in self._once_more.items() if at <= now]:
            await self._cut_suspended(ticket_id)
            del self._once_more[ticket_id]
