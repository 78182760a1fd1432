"""Orders over CoAP: an observable resource (ours; contract, section 8).

A device that observes it is told `{"reconfigure":true}`, `{"reboot":true}` or
`{"redirect":"coaps://host:5684"}` as each order is given, and counts as online meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from gateway.core.model import AttributesChange, Order, RpcCall
from gateway.core.sessions import Cause, Sessions, Slot
from gateway.dialects.blynk.callers import Callers
from gateway.dialects.blynk.words import QUIET_HEADERS
from gateway.wire.call import Call, Format, Observer, Reply
from gateway.wire.route import Route

PATH: Final = "/external/api/reconfigure"
_NO_ORDER: Final = b'{"reconfigure":false}'
_ASKED: Final = Reply(_NO_ORDER, format=Format.JSON, headers=QUIET_HEADERS)


class OrdersApi:
    def __init__(self, callers: Callers, sessions: Sessions) -> None:
        self._callers = callers
        self._sessions = sessions

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(name="blynk.orders", handler=self.observe, coap=(f"GET {PATH}",), quiet=True),
        )

    async def observe(self, call: Call) -> Reply:
        """No order waits, ever: those that are given from now on are told."""
        known = await self._callers.known(call)
        if isinstance(known, Reply):
            return known
        limited = await self._callers.limited(known)
        if limited is not None:
            return limited
        if call.observer is None:
            return _ASKED
        outlet = ObservedOrders(call.observer)
        session = self._sessions.open(known.device, call.peer, outlet, slot=Slot.OBSERVED_ORDERS)
        return Reply(_NO_ORDER, format=Format.JSON, on_end=partial(self._sessions.close, session))


class ObservedOrders:
    """The outlet of an observation. What comes before its first answer is sent after it."""

    __slots__ = ("_observer",)

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def obey(self, order: Order, argument: str) -> None:
        body = msgspec.json.encode({order.value: argument or True})
        self._observer.notify(Reply(body, format=Format.JSON))

    def attributes_changed(self, change: AttributesChange) -> None:
        """Nobody asked for them here."""

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        return False

    def profile_changed(self) -> None:
        """Orders are the same for all profiles."""

    def end(self, cause: Cause) -> None:
        self._observer.end()
