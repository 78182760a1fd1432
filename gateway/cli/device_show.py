"""`gatehouse device show`: all there is to know of one device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from gateway.cli.device_views import (
    credentials_text,
    plain_certificate,
    plain_credentials,
    plain_device,
    plain_event,
    plain_latest,
    print_events,
    seen,
    state,
)
from gateway.cli.options import (
    config_option,
    json_option,
    open_desk,
    print_json,
    read_config,
    reveal_option,
    run,
    the_device,
)
from gateway.cli.package_views import NAMES, Progress, progress
from gateway.cli.tables import print_fields, print_table, value_text, when
from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.model import (
    Device,
    DeviceCredentials,
    Event,
    Lineage,
    PackageKind,
    Presence,
    Reading,
)
from gateway.core.ports import KnownCredentials
from gateway.core.registry import Registry

_LAST_EVENTS = 10


class _Sight(Struct, frozen=True, kw_only=True):
    """One device as the store knows it. `through` is the gateway it last came through.

    `pending` is what a renewal gave it and it has not used yet. `lineage`: the fleet secret that
    bore it. `expires_at`: it goes by itself.
    """

    known: KnownCredentials
    label: str
    pending: DeviceCredentials | None
    lineage: Lineage | None
    profile: str
    presence: Presence
    through: str | None
    creator: str | None
    customer: str | None
    expires_at: int | None
    packages: dict[PackageKind, Progress]
    readings: Sequence[Reading]
    events: Sequence[Event]


@click.command()
@click.argument("name_or_uuid")
@reveal_option
@config_option
@json_option
def show(name_or_uuid: str, reveal: bool, config_path: Path | None, as_json: bool) -> None:
    """Show one device: what it is, whether it is here, its latest readings and last events.

    Its credentials are shown in clear with --reveal. Whether it is online is as a gateway wrote
    it down last, some seconds ago at most.
    """
    sight = run(_look(read_config(config_path), name_or_uuid))
    credentials = plain_credentials(sight.known.credentials, reveal=reveal)
    if as_json:
        print_json(_plain(sight, credentials))
    else:
        _print(sight, credentials)


async def _look(config: Config, name: str) -> _Sight:
    async with open_desk(config) as (_, registry, custody):
        known = await the_device(registry, name)
        device = known.device
        profiles = {one.id: one.name for one in await registry.profiles()}
        presence = (await registry.presence([device])).get(device.id, Presence())
        readings = await registry.latest(known)
        return _Sight(
            known=known,
            label=await registry.label(known),
            pending=await custody.pending(known),
            lineage=await registry.lineage(known),
            profile=profiles.get(device.profile_id, "?"),
            presence=presence,
            through=await _name_of(registry, presence.gateway_id),
            creator=await _name_of(registry, device.creator_id),
            customer=await registry.customer_of(device),
            expires_at=await registry.expires_at(known),
            packages=await progress(registry, known, readings),
            readings=readings,
            events=await registry.last_events(known, limit=_LAST_EVENTS),
        )


async def _name_of(registry: Registry, device_id: int | None) -> str | None:
    """The name of another device; its number when it is no more."""
    if device_id is None:
        return None
    device = await registry.device_numbered(device_id)
    return device.name if device else f"device {device_id}, removed"


def _plain(sight: _Sight, credentials: dict[str, str]) -> dict[str, Any]:
    presence = sight.presence
    return plain_device(sight.known.device) | {
        "label": sight.label or None,
        "profile": sight.profile,
        "credentials": credentials,
        "certificate": plain_certificate(sight.known.credentials, now_ms()),
        "pending_certificate": plain_certificate(sight.pending, now_ms()),
        "secret": sight.lineage and sight.lineage.secret,
        "suspended": bool(sight.lineage and sight.lineage.suspended),
        "online": presence.online,
        "connected_at": presence.connected_at or None,
        "disconnected_at": presence.disconnected_at or None,
        "active_at": presence.active_at or None,
        "wire": presence.wire and presence.wire.value,
        "address": presence.address or None,
        "through": sight.through,
        "creator": sight.creator,
        "customer": sight.customer,
        "expires_at": sight.expires_at,
        **{NAMES[kind]: one.plain() if one else None for kind, one in sight.packages.items()},
        "latest": plain_latest(sight.readings),
        "events": [plain_event(one) for one in sight.events],
    }


def _print(sight: _Sight, credentials: dict[str, str]) -> None:
    print_fields([*_fields(sight.known.device, sight, credentials)])
    if sight.readings:
        click.echo("\nlatest readings")
        rows = [(one.key, value_text(one.value), when(one.ts)) for one in sight.readings]
        print_table(("key", "value", "at"), rows)
    if sight.events:
        click.echo("\nlast events")
        print_events(sight.events)


def _fields(
    device: Device, sight: _Sight, credentials: dict[str, str]
) -> Sequence[tuple[str, str]]:
    """What has something to tell; fields that would be empty are left out."""
    fields = {
        "id": str(device.id),
        "uuid": device.uuid,
        "name": device.name,
        "label": sight.label,
        "type": device.type,
        "profile": sight.profile,
        "provision state": state(device),
        "credentials": credentials_text(sight.known.credentials, credentials, now_ms()),
        "renewed": _pending(sight.pending),
        "fleet secret": _lineage(sight.lineage),
        "presence": _presence(sight.presence),
        "through": sight.through or "",
        "gateway": "yes" if device.gateway else "no",
        "customer": sight.customer or "",
        "creator": sight.creator or "",
        **{NAMES[kind]: one.sentence() for kind, one in sight.packages.items() if one},
        "created at": when(device.created_at),
        "expires at": "" if sight.expires_at is None else when(sight.expires_at),
    }
    return [(name, text) for name, text in fields.items() if text]


def _pending(pending: DeviceCredentials | None) -> str:
    if pending is None:
        return ""
    told = credentials_text(pending, plain_credentials(pending, reveal=False), now_ms())
    return f"{told}; not used yet, so those above still count"


def _lineage(lineage: Lineage | None) -> str:
    if lineage is None:
        return ""
    if not lineage.suspended:
        return lineage.secret
    return f"{lineage.secret}, which is in quarantine: the device's credentials are refused"


def _presence(presence: Presence) -> str:
    told = f"online since {when(presence.connected_at)}" if presence.online else seen(presence)
    where = " ".join(filter(None, (presence.wire and presence.wire.value, presence.address)))
    return f"{told}, {where}" if where else told
