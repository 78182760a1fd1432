"""Fleet secrets as rows, and back."""

from __future__ import annotations

import msgspec

from gateway.core.model import FleetTicket, Secret
from gateway.store.driver import Row
from gateway.store.records import profile_from_row
from gateway.store.vault import Vault

_networks = msgspec.json.Decoder(tuple[str, ...])


def fleet_ticket_from_row(vault: Vault, row: Row) -> FleetTicket:
    """A row of `fleet_ticket`, opened."""
    number, sealed_key, sealed_secret, label, created_at, not_before, expires_at = row[:7]
    max_uses, uses, networks, derived, quarantined_since, revoked_at, last_used_at = row[7:14]
    return FleetTicket(
        id=number,
        profile=profile_from_row(row[14:]),
        key=Secret(vault.open(sealed_key, b"key").decode()),
        secret=Secret(vault.open(sealed_secret, b"secret").decode()),
        label=label,
        created_at=created_at,
        not_before=not_before,
        expires_at=expires_at,
        max_uses=max_uses,
        uses=uses,
        networks=_networks.decode(networks),
        derived=bool(derived),
        quarantined_since=quarantined_since,
        revoked_at=revoked_at,
        last_used_at=last_used_at,
    )
