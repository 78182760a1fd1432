"""Who may come, of those who know the secret: lists, patterns, networks, hours."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Protocol

from gateway.core.model import DeviceProfile, ProvisionRequest, RefusalReason


class ListStore(Protocol):
    """What is asked of the store."""

    async def listed(
        self, profile_id: int, denied: bool, entries: Sequence[tuple[str, str]]
    ) -> bool:
        """Whether one of `entries`, each a kind (`name`, `serial`, `mac`) and its normal form, is
        in the profile's allow-list, or (`denied`) deny-list."""

    async def has_deny_list(self, profile_id: int) -> bool:
        """Whether the profile has any denied entry; known for a second."""


class Admitting:
    """Holds a request against the profile's `Admission`, and against its lists."""

    def __init__(self, store: ListStore | None = None) -> None:
        self._store = store

    async def why_not(
        self, profile: DeviceProfile, request: ProvisionRequest, now: int
    ) -> RefusalReason | None:
        """Why this device may not come now; None: it may."""
        return None


def check_pattern(text: str) -> None:
    """Raises `ValueError` for a pattern of names that is too long or cannot be read."""


def check_network(text: str) -> None:
    """Raises `ValueError` for what is no network prefix."""
    ip_network(text)


def check_hours(text: str) -> None:
    """Raises `ValueError` for what is no `Mon-Fri 07:00-19:00 Europe/Berlin`."""
