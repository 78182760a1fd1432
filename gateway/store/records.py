"""Rows of profiles and events as core types, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from gateway.core.model import (
    DeviceProfile,
    Event,
    EventKind,
    Outcome,
    Peer,
    ProfileTransport,
    ProvisionType,
    Wire,
)


class _Settings(Struct, omit_defaults=True):
    """The `settings` column of `device_profile`. Fields may be added, never renamed."""

    provision_type: ProvisionType
    transport: ProfileTransport
    description: str = ""
    pre_provision_allowed: bool = False
    require_readable_certificate: bool = False
    sections: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None


def settings_of(profile: DeviceProfile) -> str:
    """The `settings` column for `profile`."""
    return msgspec.json.encode(
        _Settings(
            provision_type=profile.provision_type,
            transport=profile.transport,
            description=profile.description,
            pre_provision_allowed=profile.pre_provision_allowed,
            require_readable_certificate=profile.require_readable_certificate,
            sections=profile.sections,
            source=profile.source,
        )
    ).decode()


def profile_from_row(row: Sequence[Any]) -> DeviceProfile:
    """`id, organisation_id, name, settings` as a profile."""
    number, organisation_id, name, text = row
    settings = msgspec.json.decode(text, type=_Settings)
    return DeviceProfile(
        id=number,
        organisation_id=organisation_id,
        name=name,
        provision_type=settings.provision_type,
        transport=settings.transport,
        description=settings.description,
        pre_provision_allowed=settings.pre_provision_allowed,
        require_readable_certificate=settings.require_readable_certificate,
        sections=settings.sections,
        source=settings.source,
    )


def event_from_row(row: Sequence[Any]) -> Event:
    """A row of `events` as an event."""
    seq, at, kind, outcome, reason, device_id, subject, wire, address, detail = row
    return Event(
        seq=seq,
        at=at,
        kind=EventKind(kind),
        outcome=Outcome(outcome),
        reason=reason,
        device_id=device_id,
        subject=subject,
        peer=Peer(Wire(wire), address),
        detail=msgspec.json.decode(detail, type=dict[str, str]) if detail else {},
    )
