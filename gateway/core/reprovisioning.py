"""Devices that were provisioned before, and ask for another credential with a proof."""

from __future__ import annotations

from gateway.core.model import FleetTicket, ProvisionRequest, ProvisionResult
from gateway.core.ports import Terms


class Reprovisioner:
    """Gives a device that exists another credential, as its profile's policy says."""

    async def again(
        self, ticket: FleetTicket, request: ProvisionRequest, name: str, terms: Terms
    ) -> ProvisionResult | None:
        """How it ended; None: there is nothing here for it, and it is refused as ever."""
        return None
