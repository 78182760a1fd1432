"""Fleet secrets as lines and JSON."""

from __future__ import annotations

import shlex
from typing import Any, Final

from gateway.cli.tables import masked, when
from gateway.core.fleet_secret_store import Borne
from gateway.core.model import FleetTicket

COLUMNS: Final = ("profile", "label", "state", "until", "uses", "networks", "last used")
BORNE_COLUMNS: Final = ("device", "number", "provisioned", "last seen", "state")
_KEY_HEAD: Final = 4
_NEVER: Final = "-"


def state_of(ticket: FleetTicket, now: int) -> str:
    """Whether it admits, in a word or two."""
    if ticket.revoked_at is not None:
        return "revoked"
    if ticket.quarantined_since is not None:
        return "in quarantine"
    if ticket.not_before is not None and now < ticket.not_before:
        return "not yet valid"
    if ticket.expires_at is not None and now >= ticket.expires_at:
        return "expired"
    if ticket.max_uses is not None and ticket.uses >= ticket.max_uses:
        return "used up"
    return "open"


def row(ticket: FleetTicket, now: int) -> tuple[str, ...]:
    """A line of the list, in the order of `COLUMNS`."""
    return (
        ticket.profile.name,
        ticket.label + (" (derived)" if ticket.derived else ""),
        state_of(ticket, now),
        _moment(ticket.expires_at),
        _uses(ticket),
        " ".join(ticket.networks) or _NEVER,
        _moment(ticket.last_used_at),
    )


def plain_secret(ticket: FleetTicket, now: int, *, reveal: bool = False) -> dict[str, Any]:
    """For JSON; key and secret only when they are to be shown."""
    told = {
        "number": ticket.id,
        "profile": ticket.profile.name,
        "label": ticket.label,
        "state": state_of(ticket, now),
        "created_at": ticket.created_at,
        "not_before": ticket.not_before,
        "expires_at": ticket.expires_at,
        "max_uses": ticket.max_uses,
        "uses": ticket.uses if ticket.max_uses is not None else None,
        "networks": list(ticket.networks),
        "derived": ticket.derived,
        "quarantined_since": ticket.quarantined_since,
        "revoked_at": ticket.revoked_at,
        "last_used_at": ticket.last_used_at,
    }
    if reveal:
        told |= {"key": ticket.key.reveal(), "secret": ticket.secret.reveal()}
    return told


def print_secret(ticket: FleetTicket, now: int, *, reveal: bool) -> None:
    """Its lines, and how to see the pair."""
    import click

    from gateway.cli.tables import print_fields

    since = ticket.quarantined_since
    quarantine = "of all it bore" if since == 0 else _moment(since)
    print_fields(
        [
            ("profile", ticket.profile.name),
            ("label", ticket.label),
            ("state", state_of(ticket, now)),
            ("made", when(ticket.created_at)),
            ("not before", _moment(ticket.not_before)),
            ("until", _moment(ticket.expires_at)),
            ("uses", _uses(ticket)),
            ("networks", " ".join(ticket.networks) or _NEVER),
            ("derived keys", "yes" if ticket.derived else "no"),
            ("quarantine since", quarantine),
            ("revoked", _moment(ticket.revoked_at)),
            ("last used", _moment(ticket.last_used_at)),
            ("key", masked(ticket.key, reveal=reveal, head=_KEY_HEAD)),
            ("group secret" if ticket.derived else "secret", masked(ticket.secret, reveal=reveal)),
        ]
    )
    if not reveal:
        click.echo(f"\n--reveal shows the pair: `{how_to_reveal(ticket)}`", err=True)


def how_to_reveal(ticket: FleetTicket) -> str:
    """The command that shows a pair."""
    where = f"--profile {shlex.quote(ticket.profile.name)}"
    return f"gatehouse secret show {ticket.label} {where} --reveal"


def borne_row(device: Borne) -> tuple[str, ...]:
    """A line of the devices that a secret bore, in the order of `BORNE_COLUMNS`."""
    return (
        device.name,
        str(device.id),
        when(device.provisioned_at),
        _moment(device.seen_at),
        "suspended" if device.suspended else "let in",
    )


def plain_borne(device: Borne) -> dict[str, Any]:
    """A device that a secret bore, for --json."""
    return {
        "device": device.name,
        "device_id": device.id,
        "uuid": device.uuid,
        "provisioned_at": device.provisioned_at,
        "seen_at": device.seen_at,
        "suspended": device.suspended,
    }


def _moment(at: int | None) -> str:
    return _NEVER if at is None else when(at)


def _uses(ticket: FleetTicket) -> str:
    return _NEVER if ticket.max_uses is None else f"{ticket.uses} of {ticket.max_uses}"
