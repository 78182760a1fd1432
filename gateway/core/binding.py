"""Whom an answer is bound to, so that a retry is safe and a second asker gets nothing."""

from __future__ import annotations

from gateway.core.model import Binding, FleetTicket, ProvisionRequest


def binding_of(ticket: FleetTicket, request: ProvisionRequest, now: int) -> Binding | None:
    """What this request is bound to; None: to nothing, so that it is answered once."""
    return None
