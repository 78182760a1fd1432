"""A connection whose token waits for its claim, which `info/mcu` makes (contract, section 7.2).

What it publishes while its claim is under way waits for how that ends: firmware sends it without
waiting itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, TypeAlias

from msgspec import structs

from gateway.core.errors import GatehouseError
from gateway.core.model import Peer, Refused, Secret, Ticket
from gateway.dialects.blynk.callers import Callers, Known
from gateway.dialects.blynk.claim import refusal
from gateway.dialects.blynk.guests import (
    NOT_HERE_TEXT,
    DeviceGuest,
    Household,
    may_connect,
)
from gateway.dialects.blynk.line import ADMINISTRATIVE, NOT_AUTHORIZED, TAKEN_OVER, Line
from gateway.dialects.blynk.topics import Subscriptions
from gateway.dialects.blynk.uplink import Uplink, read_info
from gateway.dialects.blynk.values import Mistake
from gateway.dialects.blynk.words import DONE, INVALID_TOKEN
from gateway.wire.call import Admitted, Call, Link, Reply, Status
from gateway.wire.route import Handler, Route

UNCLAIMED_TEXT: Final = "The token is not claimed yet: publish info/mcu with tmpl first."
_UNCLAIMED: Final = Reply(status=Status.FORBIDDEN, reason="the token is not claimed yet")

Claimed: TypeAlias = Callable[[Admitted, DeviceGuest], None]
"""The connection may do from now on what the device may."""


class PendingGuest:
    """Says nothing but notes, and gives its connection to the device's own guest with the claim."""

    __slots__ = (
        "_admitted",
        "_claiming",
        "_house",
        "line",
        "own",
        "peer",
        "subscriptions",
        "ticket",
        "token",
    )

    def __init__(self, house: Household, ticket: Ticket, token: Secret, peer: Peer) -> None:
        self._house = house
        self._admitted: Admitted | None = None
        self._claiming: asyncio.Event | None = None
        self.ticket = ticket
        self.token = token
        self.peer = peer
        self.line = Line(house.clock)
        self.subscriptions = Subscriptions()
        self.own: DeviceGuest | None = None

    def admit(self, admitted: Admitted) -> None:
        """What is replaced with the claim."""
        self._admitted = admitted

    # ── what the transport tells ────────────────────────────────────────────────────────────

    def opened(self, link: Link) -> None:
        self.line.open(link)
        self._house.waiting.enter(self)

    def subscribed(self, topic_filter: str) -> None:
        if self.own is not None:
            self.own.subscribed(topic_filter)
        else:
            self.subscriptions.add(topic_filter)

    def unsubscribed(self, topic_filter: str) -> None:
        if self.own is not None:
            self.own.unsubscribed(topic_filter)
        else:
            self.subscriptions.discard(topic_filter)

    def heard(self) -> None:
        if self.own is not None:
            self.own.heard()

    def closed(self) -> None:
        self._admitted = None
        self._house.waiting.leave(self)
        own, self.own = self.own, None
        if own is not None:
            own.closed()
        self.line.close()

    # ── the claim ───────────────────────────────────────────────────────────────────────────

    async def settled(self) -> DeviceGuest | None:
        """The device's own guest, if there is one by now; a claim under way is waited for."""
        while self._claiming is not None:
            await self._claiming.wait()
        return self.own

    async def claim(self, call: Call, claim: Handler) -> Reply:
        """Make a claim while no other is under way; those who wait for it go on then."""
        self._claiming = done = asyncio.Event()
        try:
            with self.line:
                return await claim(call)
        finally:
            self._claiming = None
            done.set()

    def become(self, known: Known, claimed: Claimed) -> None:
        """The token is this device's: so is the connection, unless it ends."""
        stands = self._house.waiting.leave(self)
        link, admitted = self.line.link, self._admitted
        if not stands or link is None or admitted is None:
            return
        self.own = own = DeviceGuest(
            self._house, self.line, known, self.token, self.peer, self.subscriptions
        )
        claimed(admitted, own)
        own.opened(link)

    def displaced(self) -> None:
        """A newer connection stands in its place."""
        self.line.shut(TAKEN_OVER)


class PendingApi:
    """What is served before the claim."""

    def __init__(self, uplink: Uplink, callers: Callers, claimed: Claimed) -> None:
        self._uplink = uplink
        self._callers = callers
        self._claimed = claimed

    def routes(self, device_routes: Iterable[Route]) -> tuple[Route, ...]:
        """Those of a device: `info/mcu` makes the claim, the others need it."""
        return tuple(
            structs.replace(route, handler=self._handler(route)) for route in device_routes
        )

    def _handler(self, route: Route) -> Handler:
        is_info = "info/mcu" in route.mqtt

        async def handler(call: Call) -> Reply:
            guest: PendingGuest = call.guest
            own = await guest.settled()
            if own is not None:
                device = own.known.device
                return await route.handler(structs.replace(call, guest=own, device=device))
            if is_info:
                return await guest.claim(call, self._claim)
            guest.line.note(UNCLAIMED_TEXT)
            return _UNCLAIMED

        return handler

    async def _claim(self, call: Call) -> Reply:
        """A wrong template leaves all as it was; a token that is nobody's any more ends it."""
        guest: PendingGuest = call.guest
        try:
            said = read_info(call.body)
        except Mistake as exc:
            guest.line.note(str(exc))
            return Reply(status=Status.BAD_REQUEST, reason=str(exc))
        result = await self._uplink.provision(guest.token, said, call.peer)
        if isinstance(result, Refused):
            refused = refusal(result)
            guest.line.note(refused.reason)
            gone = NOT_AUTHORIZED if refused is INVALID_TOKEN else None
            return structs.replace(refused, close=gone)
        known = await self._callers.with_template(result.device)
        if not may_connect(known):
            return Reply(close=ADMINISTRATIVE, reason=NOT_HERE_TEXT)
        guest.become(known, self._claimed)
        if guest.own is not None:
            with suppress(GatehouseError):  # it is claimed: that is not undone by this
                await self._uplink.offer_firmware(guest.own, said)
        return DONE
