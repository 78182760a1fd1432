"""Fleet secrets: what one proves, and whether it admits anybody now."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from functools import lru_cache
from typing import Final

from gateway.core.model import FleetTicket, RefusalReason, Secret
from gateway.core.networks import Network, is_within, network_of

LEAST_GROUP_BYTES: Final = 16
"""Of a group secret, once its base64 is decoded."""


def proves(ticket: FleetTicket, shown: Secret, name: str | None) -> bool:
    """Whether `shown` is the secret of the ticket, or with a group secret the key of the device
    called `name`. Takes the same time for a wrong one."""
    if not shown:
        return False
    if not ticket.derived:
        return ticket.secret == shown
    named = (name or "").strip()
    return bool(named) and derived_key(ticket.secret, named) == shown


def derived_key(group: Secret, name: str) -> Secret:
    """The key of one device: base64 of HMAC-SHA-256(group secret, name), as Azure's Device
    Provisioning Service makes them for the enrolments of a group ("symmetric key attestation").

    Raises `ValueError` for a group secret that is no base64 of at least 16 bytes.
    """
    mac = hmac.digest(group_bytes(group), name.encode("utf-8", "surrogatepass"), "sha256")
    return Secret(b64encode(mac).decode("ascii"))


def group_bytes(group: Secret) -> bytes:
    """A group secret as it keys the HMAC. Raises `ValueError`, which never shows it."""
    try:
        decoded = b64decode(group.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a group secret is base64") from None
    if len(decoded) < LEAST_GROUP_BYTES:
        raise ValueError(f"a group secret is base64 of at least {LEAST_GROUP_BYTES} bytes")
    return decoded


def why_closed(ticket: FleetTicket, address: str, now: int) -> RefusalReason | None:
    """Why a secret that was shown rightly admits nobody from `address` at `now`."""
    if ticket.revoked_at is not None:
        return RefusalReason.SECRET_REVOKED
    if ticket.quarantined_since is not None:
        return RefusalReason.SECRET_QUARANTINED
    if ticket.not_before is not None and now < ticket.not_before:
        return RefusalReason.SECRET_NOT_YET_VALID
    if ticket.expires_at is not None and now >= ticket.expires_at:
        return RefusalReason.SECRET_EXPIRED
    if ticket.networks and not is_within(address, networks_of(ticket.networks)):
        return RefusalReason.NETWORK_NOT_ALLOWED
    return None


@lru_cache(maxsize=1024)
def networks_of(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Networks as they are written. Raises `ValueError` with a remedy."""
    return tuple(map(network_of, texts))
