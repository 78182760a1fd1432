"""Tickets of single devices: what admits one device once, or gives one that exists a new token."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

HARDWARE_INFO = "hardwareInfo"
"""The client attribute that holds what a device said of its hardware when it was provisioned."""


class TicketKind(StrEnum):
    SINGLE = "single"
    """A reservation: a device of that number is born when its token is first used."""
    ROTATE = "rotate"
    """A new token for a device that exists, which counts from its first use on."""


class Ticket(Struct, frozen=True, kw_only=True):
    """A number and a token kept aside until a device claims them; not yet a device.

    `device_id` is the number it is reserved for, and is never used for another. `path` is that of
    the organisation the device will be in, as `Organisation.path`. `profile_id` None: the device
    names its template. `issuer` is who asked for it, as the audit log names people and clients.
    `expires_at` None: it stands until it is used or revoked.
    """

    id: int
    kind: TicketKind
    organisation_id: int
    device_id: int
    path: str
    owner_id: int | None = None
    profile_id: int | None = None
    issuer: str = ""
    created_at: int = 0
    expires_at: int | None = None

    def expired(self, now: int) -> bool:
        return self.expires_at is not None and self.expires_at <= now


class TicketRecord(Struct, frozen=True, kw_only=True):
    """A ticket as people see it: never the token."""

    ticket: Ticket
    organisation_name: str
    owner_email: str = ""
    device_name: str = ""


class Order(StrEnum):
    """What an operator may tell a device to do at once. Nothing is kept for one that is away."""

    RECONFIGURE = "reconfigure"
    """Go to set-up mode, so that it can be provisioned anew."""
    REBOOT = "reboot"
    REDIRECT = "redirect"
    """Connect elsewhere from now on; its argument is the address, `mqtts://host:8883`."""
