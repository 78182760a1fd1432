"""Somebody else decides, too: hooks before a birth."""

from __future__ import annotations

from typing import Protocol

from gateway.core.model import DeviceProfile, ProvisionRequest, Refused


class BeforeHooks(Protocol):
    """Asks a profile's before-hook."""

    async def ask(
        self, profile: DeviceProfile, request: ProvisionRequest
    ) -> ProvisionRequest | Refused:
        """The request, perhaps amended (`ProvisionRequest.amended`); or why it is refused."""
