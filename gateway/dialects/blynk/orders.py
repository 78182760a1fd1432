"""Orders over CoAP: an observable resource (ours; contract, section 8)."""

from __future__ import annotations

from gateway.core.sessions import Sessions
from gateway.dialects.blynk.callers import Callers
from gateway.wire.route import Route


class OrdersApi:
    def __init__(self, callers: Callers, sessions: Sessions) -> None:
        self._callers = callers
        self._sessions = sessions

    def routes(self) -> tuple[Route, ...]:
        return ()
