"""Connections of tokens that are not claimed: one for each, the newest (contract, section 7.1)."""

from __future__ import annotations

from typing import Protocol

from gateway.core.model import Device, Secret, Ticket


class Waiter(Protocol):
    """A connection that waits for the claim of its token."""

    @property
    def ticket(self) -> Ticket: ...

    @property
    def token(self) -> Secret: ...

    def displaced(self) -> None:
        """Another connection stands in its place: it ends."""


class Waiting:
    """All of a process, by the number that each device will have."""

    def __init__(self) -> None:
        self._by_device: dict[int, Waiter] = {}

    def __len__(self) -> int:
        return len(self._by_device)

    def enter(self, waiter: Waiter) -> None:
        older = self._by_device.get(waiter.ticket.device_id)
        self._by_device[waiter.ticket.device_id] = waiter
        if older is not None:
            older.displaced()

    def leave(self, waiter: Waiter) -> bool:
        """Whether it was there still, and not another in its place."""
        if self._by_device.get(waiter.ticket.device_id) is not waiter:
            return False
        del self._by_device[waiter.ticket.device_id]
        return True

    def overtaken(self, device: Device, token: Secret) -> None:
        """Another connection has claimed the token, or came when it was claimed."""
        older = self._by_device.get(device.id)
        if older is not None and older.token == token:
            self.leave(older)
            older.displaced()
