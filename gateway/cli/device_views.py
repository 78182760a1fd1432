"""Devices and events as rows, fields and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from gateway.cli.tables import masked, print_fields, print_table, value_text, when
from gateway.core.model import (
    PROVISIONED,
    AccessToken,
    Certificate,
    Device,
    DeviceCredentials,
    Event,
    Json,
    MqttBasic,
    Reading,
)
from gateway.core.ports import DeviceListing

COLUMNS = ("id", "name", "profile", "state", "credentials", "gateway", "created", "uuid")


def row(listing: DeviceListing) -> tuple[str, ...]:
    """A line of the list, in the order of `COLUMNS`."""
    device = listing.device
    return (
        str(device.id),
        device.name,
        listing.profile_name,
        state(device),
        listing.credentials_type,
        "yes" if device.gateway else "",
        when(device.created_at),
        device.uuid,
    )


def state(device: Device) -> str:
    """Waiting for its claim, provisioned, or blocked by anything else (contract, section 2.6)."""
    match device.provision_state:
        case None:
            return "waiting"
        case said if said == PROVISIONED:
            return said
        case said:
            return f"blocked ({said})"


def plain_listing(listing: DeviceListing) -> dict[str, Any]:
    return plain_device(listing.device) | {
        "profile": listing.profile_name,
        "credentials_type": listing.credentials_type,
    }


def plain_device(device: Device) -> dict[str, Any]:
    return {
        "id": device.id,
        "uuid": device.uuid,
        "name": device.name,
        "type": device.type,
        "provision_state": device.provision_state,
        "gateway": device.gateway,
        "created_at": device.created_at,
    }


def plain_credentials(credentials: DeviceCredentials, *, reveal: bool) -> dict[str, str]:
    kind = {"type": credentials.type.value}
    match credentials:
        case AccessToken(token):
            return kind | {"token": masked(token, reveal=reveal)}
        case MqttBasic(client_id, username, password):
            return kind | {
                "client_id": client_id,
                "username": username,
                "password": masked(password, reveal=reveal),
            }
        case Certificate(text):
            return kind | {"certificate": text}  # public, as certificates are


def print_device(
    device: Device, fields: dict[str, Any], readings: Sequence[Reading], events: list[Event]
) -> None:
    told = fields | {
        "provision_state": state(device),
        "gateway": "yes" if device.gateway else "no",
        "created_at": when(device.created_at),
        "credentials": ", ".join(f"{key} {value}" for key, value in fields["credentials"].items()),
    }
    print_fields([(key.replace("_", " "), str(value)) for key, value in told.items()])
    if readings:
        click.echo("\nlatest readings")
        rows = [(one.key, value_text(one.value), when(one.ts)) for one in readings]
        print_table(("key", "value", "at"), rows)
    if events:
        click.echo("\nlast events")
        print_events(events)


def json_value(reading: Reading) -> Any:
    """A reading's value as it goes into JSON, objects and arrays unfolded."""
    value = reading.value
    return json.loads(value.text) if isinstance(value, Json) else value


def plain_event(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind.value,
        "outcome": event.outcome.value,
        "reason": event.reason,
        "device_id": event.device_id,
        "subject": event.subject,
        "wire": event.peer.wire.value,
        "address": event.peer.address,
        "detail": dict(event.detail),
    }


def print_events(events: list[Event]) -> None:
    print_table(
        ("seq", "at", "event", "outcome", "subject", "from"),
        [
            (
                str(one.seq),
                when(one.at),
                one.kind.value,
                one.outcome.value + (f" ({one.reason})" if one.reason else ""),
                one.subject,
                f"{one.peer.wire} {one.peer.address}",
            )
            for one in events
        ],
    )
