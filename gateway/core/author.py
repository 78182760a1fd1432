"""Whose word an event is: what people do is written down with their name and the moment."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.model import Event, EventKind, Peer
from gateway.core.ports import Clock


class Author:
    """Writes events as `peer`, at the time of `clock`."""

    __slots__ = ("_clock", "_peer")

    def __init__(self, clock: Clock, peer: Peer) -> None:
        self._clock = clock
        self._peer = peer

    def event(
        self,
        kind: EventKind,
        subject: str,
        detail: Mapping[str, str] | None = None,
        device_id: int | None = None,
    ) -> Event:
        """That it happened just now to `subject`."""
        return Event(
            kind=kind,
            at=self._clock(),
            peer=self._peer,
            subject=subject,
            device_id=device_id,
            detail=detail or {},
        )
