"""The device API over HTTP (contract, section 10), and the same over CoAP (ours)."""

from __future__ import annotations

from gateway.core.sessions import Sessions
from gateway.dialects.blynk.callers import Callers
from gateway.dialects.blynk.data import DeviceData
from gateway.wire.route import Route


class DeviceApi:
    def __init__(self, callers: Callers, data: DeviceData, sessions: Sessions) -> None:
        self._callers = callers
        self._data = data
        self._sessions = sessions

    def routes(self) -> tuple[Route, ...]:
        return ()
