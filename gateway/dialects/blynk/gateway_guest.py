"""A gateway's MQTT session: its own, and a place for each device it speaks for (section 7.4).

Devices are named by their tokens, in topics: `dev/{token}/ds/Switch`.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from gateway.core.errors import GatehouseError
from gateway.core.limits import parse_rate
from gateway.core.model import Device, Peer, Secret
from gateway.core.oauth_store import OAuthClient
from gateway.core.sessions import Cause
from gateway.core.throttle import Throttle
from gateway.dialects.blynk.callers import Callers, Known
from gateway.dialects.blynk.guests import DeviceGuest, Household, Place
from gateway.dialects.blynk.line import Line
from gateway.dialects.blynk.topics import (
    DEVICES,
    DIAG,
    MOST_FILTERS,
    Subscriptions,
    child_of,
)
from gateway.dialects.blynk.words import INVALID_TOKEN_TEXT
from gateway.wire.call import Link, Reply, Status

log = structlog.get_logger()

FULL_TEXT: Final = "This gateway speaks for as many devices as it may."
ELSEWHERE_TEXT: Final = "The device is connected elsewhere."
_WRONG_TOKENS: Final = parse_rate("100:60")
"""How often one gateway may name a device that is out of its reach, or none."""
_FILTERS_OF_CHILD: Final = 4
"""How many subscriptions a gateway may have for each device, on average."""

_UNKNOWN: Final = Reply(status=Status.BAD_REQUEST, reason=INVALID_TOKEN_TEXT)
_FULL: Final = Reply(status=Status.FULL, reason=FULL_TEXT)
_LATER: Final = Reply(status=Status.LIMITED, reason="too many wrong tokens", retry_after_s=1)


class Errands:
    """Work that is begun on behalf of sessions, and ended with the process."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, guest: GatewayGuest) -> None:
        task = asyncio.get_running_loop().create_task(guest.enter_wanted())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Child(Place):
    """A device behind a gateway: spoken to under its own topics, by its token."""

    __slots__ = ("_guest", "gateway", "prefix")

    def __init__(
        self,
        guest: GatewayGuest,
        house: Household,
        known: Known,
        token: Secret,
        subscriptions: Subscriptions,
    ) -> None:
        super().__init__(house, guest.line, known, token, guest.peer, subscriptions)
        self._guest = guest
        self.gateway = guest.device
        self.prefix = f"{DEVICES}{token.reveal()}/"

    def enter(self) -> None:
        """A gateway that names itself is there already."""
        gateway = self.gateway
        if gateway is None or gateway.id != self.known.device.id:
            self._enter(None if gateway is None else gateway.id)

    def gone(self) -> Reply:
        self._guest.forget(self)
        self.note(INVALID_TOKEN_TEXT)
        return _UNKNOWN

    def end(self, cause: Cause) -> None:
        self._guest.forget(self)
        self.note(ELSEWHERE_TEXT if cause is Cause.TAKEN_OVER else INVALID_TOKEN_TEXT)


class GatewayGuest:
    """The gateway is a device, with a place of its `own`, or a `client` of an organisation. At most
    `most` devices have a place at a time."""

    __slots__ = (
        "_children",
        "_errands",
        "_house",
        "_most",
        "_to_enter",
        "_wanted",
        "_wrong",
        "callers",
        "client",
        "line",
        "own",
        "peer",
        "subscriptions",
    )

    def __init__(
        self,
        house: Household,
        errands: Errands,
        callers: Callers,
        peer: Peer,
        *,
        line: Line,
        own: DeviceGuest | None,
        client: OAuthClient | None,
        most: int,
    ) -> None:
        assert _WRONG_TOKENS is not None
        self._house = house
        self._errands = errands
        self._most = most
        self._children: dict[str, Child] = {}
        self._wanted: dict[str, Subscriptions] = {}
        """Of devices that something was subscribed to, by their tokens."""
        self._to_enter: dict[str, None] = {}
        """Of those that have no place yet, in the order they came."""
        self._wrong = Throttle(_WRONG_TOKENS, most=1)
        self.callers = callers
        self.client = client
        self.peer = peer
        self.line = line
        self.own = own
        self.subscriptions = Subscriptions(MOST_FILTERS + _FILTERS_OF_CHILD * most)

    @property
    def device(self) -> Device | None:
        return None if self.own is None else self.own.known.device

    # ── what the transport tells ────────────────────────────────────────────────────────────

    def opened(self, link: Link) -> None:
        self.line.open(link)
        if self.client is not None:
            self._house.programs.enter(self.client.id, self.line)
        if self.own is not None:
            self.own.opened(link)

    def subscribed(self, topic_filter: str) -> None:
        """A device is spoken for from its first subscription on, or its first message."""
        self.subscriptions.add(topic_filter)
        token = child_of(topic_filter)
        if not token:
            if self.own is not None:
                self.own.subscribed(topic_filter)
            return
        wanted = self._wanted.setdefault(token, Subscriptions())
        child = self._children.get(token)
        if child is not None:
            child.listens_to(_within(topic_filter, token))
            return
        wanted.add(_within(topic_filter, token))
        self._to_enter[token] = None
        if len(self._to_enter) == 1:
            self._errands.begin(self)

    def unsubscribed(self, topic_filter: str) -> None:
        self.subscriptions.discard(topic_filter)
        token = child_of(topic_filter)
        if not token:
            if self.own is not None:
                self.own.unsubscribed(topic_filter)
            return
        own = _within(topic_filter, token)
        child, wanted = self._children.get(token), self._wanted.get(token)
        if child is not None:
            child.ignores(own)
        elif wanted is not None:
            wanted.discard(own)
            if not len(wanted):
                del self._wanted[token]
                self._to_enter.pop(token, None)

    def heard(self) -> None:
        if self.own is not None:
            self.own.heard()

    def closed(self) -> None:
        self._to_enter.clear()
        if self.client is not None:
            self._house.programs.leave(self.client.id, self.line)
        if self.own is not None:
            self.own.closed()
        self.line.close()
        children, self._children = self._children, {}
        for child in children.values():
            child.leave()

    # ── devices ─────────────────────────────────────────────────────────────────────────────

    async def enter_wanted(self) -> None:
        """Give places to devices that were subscribed to, one after the other."""
        while self._to_enter:
            token = next(iter(self._to_enter))
            try:
                await self._may_ask_again()
                await self.place(token)
            except GatehouseError as exc:
                log.warning("gateway.device_not_entered", reason=str(exc))
            except Exception:
                log.exception("gateway.entering_failed")
            await asyncio.sleep(0)  # a look-up need not wait for anything: others have their turn
            self._to_enter.pop(token, None)

    async def _may_ask_again(self) -> None:
        """Wait while too many tokens were wrong: those behind them may be right."""
        while wait_ms := self._wrong.wait("", self._house.clock()):
            await asyncio.sleep(wait_ms / 1000)

    async def place(self, token: str) -> Child | Reply:
        """The place of the device with that token; made when it has none, and is within reach."""
        child = self._children.get(token)
        if child is not None:
            return child
        if len(self._children) >= self._most:
            return self._refused(token, _FULL)
        if self._wrong.wait("", self._house.clock()):
            return _LATER
        known = await self._known(Secret(token))
        if known is None:
            self._wrong.spend("", self._house.clock())
            return self._refused(token, _UNKNOWN)
        return self._entered(token, known)

    def _entered(self, token: str, known: Known) -> Child | Reply:
        child = self._children.get(token)  # others may have entered meanwhile
        if child is not None:
            return child
        if len(self._children) >= self._most:
            return self._refused(token, _FULL)
        wanted = self._wanted.setdefault(token, Subscriptions())
        child = Child(self, self._house, known, Secret(token), wanted)
        if self.line.link is not None:
            self._children[token] = child
            child.enter()
        return child

    async def _known(self, token: Secret) -> Known | None:
        """A device that is claimed, and at or below the gateway's organisation."""
        found = await self.callers.by_token(token)
        if not isinstance(found, Device):
            return None
        reach, path = await self._reach(), await self.callers.path(found)
        if not reach or not path.startswith(reach):
            return None
        return await self.callers.with_template(found)

    async def _reach(self) -> str:
        """The path of the organisation whose devices it may speak for; "" for none."""
        if self.client is not None:
            return self.client.organisation.path
        return "" if self.device is None else await self.callers.path(self.device)

    def _refused(self, token: str, reply: Reply) -> Reply:
        self.line.note(reply.reason, topic=f"{DEVICES}{token}/{DIAG}")
        return reply

    def forget(self, child: Child) -> None:
        """It has no place any more, until it is named again."""
        token = child.token.reveal()
        if self._children.get(token) is child:
            del self._children[token]
        if not len(child.subscriptions):
            self._wanted.pop(token, None)
        child.leave()


def _within(topic_filter: str, token: str) -> str:
    """A filter of a device as the device itself would have it."""
    return topic_filter.removeprefix(f"{DEVICES}{token}/")
