"""Tickets as lines, JSON, and what to do with their tokens."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.cli.options import shown
from gateway.cli.tables import when
from gateway.cli.templates import templates_for
from gateway.config import Config
from gateway.core.model import (
    DeviceProfile,
    Organisation,
    Ticket,
    TicketKind,
    TicketRecord,
    User,
)
from gateway.core.tickets import Issued

COLUMNS: Final = ("ticket", "device", "for", "organisation", "owner", "until", "by")
CSV_COLUMNS: Final = ("ticket", "device_id", "token", "until")
_CLAIM: Final = "/external/api/provision"
_MOST_TEMPLATES: Final = 5


def until(ticket: Ticket) -> str:
    return "it is used or revoked" if ticket.expires_at is None else when(ticket.expires_at)


def row(record: TicketRecord, now: int) -> tuple[str, ...]:
    """A line of the list, in the order of `COLUMNS`."""
    ticket = record.ticket
    is_new = ticket.kind is TicketKind.SINGLE
    return (
        str(ticket.id),
        str(ticket.device_id),
        "a new device" if is_new else f"a new token of {record.device_name}",
        record.organisation_name,
        record.owner_email,
        until(ticket) + (" (expired)" if ticket.expired(now) else ""),
        ticket.issuer,
    )


def plain_ticket(record: TicketRecord) -> dict[str, Any]:
    """For JSON. The token is known to nobody any more."""
    ticket = record.ticket
    return {
        "ticket": ticket.id,
        "kind": ticket.kind.value,
        "device_id": ticket.device_id,
        "device": record.device_name or None,
        "organisation": record.organisation_name,
        "owner": record.owner_email or None,
        "issuer": ticket.issuer,
        "created_at": ticket.created_at,
        "expires_at": ticket.expires_at,
    }


def plain_issued(made: Issued, organisation: Organisation, owner: User | None) -> dict[str, Any]:
    """For JSON, with the token."""
    ticket = made.ticket
    return {
        "ticket": ticket.id,
        "device_id": ticket.device_id,
        "token": made.token.reveal(),
        "organisation": organisation.name,
        "owner": None if owner is None else owner.email,
        "expires_at": ticket.expires_at,
    }


def csv_line(made: Issued) -> str:
    """A line of `CSV_COLUMNS`; none of them needs quotes."""
    ticket = made.ticket
    return f"{ticket.id},{ticket.device_id},{made.token.reveal()},{until(ticket)}"


def issued_line(made: Issued, organisation: Organisation, owner: User | None) -> str:
    """What was reserved, before the token."""
    ticket = made.ticket
    whose = shown(organisation.name) + (f", owner {shown(owner.email)}" if owner else "")
    return (
        f"ticket {ticket.id} reserves device {ticket.device_id} for {whose}, until "
        f"{until(ticket)}; its token is shown this once:"
    )


def how_to_claim(
    config: Config, profiles: Sequence[DeviceProfile], path: str, file: Path | None = None
) -> Iterator[str]:
    """What to put where. The token stays out of histories and process lists: a pipe brings it."""
    names = [one.id for one in templates_for(profiles, path)]
    yield ""
    if not names:
        yield (
            "No profile is a template for it yet, so it cannot be claimed: give one a [blynk] "
            "table with a template_id."
        )
        return
    shown_names = ", ".join(names[:_MOST_TEMPLATES]) + (", …" if names[_MOST_TEMPLATES:] else "")
    yield "Put the token and this gateway's address into the device (an app does it by access"
    yield f"point, BLE or QR code); its firmware names the template: {shown_names}. By hand:"
    yield ""
    if file is None:
        yield "  read -rs TOKEN                 # paste it here, and it is in no history"
        source = 'printf %s "$TOKEN"'
    else:
        source = f"sed -n 2p {shlex.quote(str(file))} | cut -d, -f3 | tr -d '\\n'"
    yield f"  {source} | curl -sS -w '%{{http_code}}\\n' -G --data-urlencode token@- \\"
    yield f"      -d templateId={names[0]} {_base_url(config)}{_CLAIM}"


def _base_url(config: Config) -> str:
    """Of this gateway, as a shell beside it reaches it."""
    host = config.http.host
    if host in ("0.0.0.0", "::"):  # noqa: S104
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{config.http.port or 'PORT'}"
