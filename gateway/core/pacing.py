"""How many may be provisioned in how long, by whom."""

from __future__ import annotations

from gateway.core.model import FleetTicket


class Pacer:
    """Rates of provisioning: per fleet secret, profile, address and organisation."""

    def take(self, ticket: FleetTicket, address: str, name: str, now: int) -> int:
        """Count one request, or say how long it has to wait in seconds; 0 for now.

        The wait differs by the device's `name`, so that those told to wait do not come back at
        once.
        """
        return 0
