"""Devices and events as rows, fields and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from gateway.cli.tables import masked, print_table, when
from gateway.core.model import (
    PROVISIONED,
    AccessToken,
    Certificate,
    Device,
    DeviceCredentials,
    Event,
    Json,
    MqttBasic,
    Presence,
    PresharedKey,
    Reading,
    Revoked,
    Value,
)
from gateway.core.ports import DeviceListing

_COLUMNS = "id name profile state presence credentials gateway created uuid"
COLUMNS = tuple(_COLUMNS.split())


def row(listing: DeviceListing, presence: Presence) -> tuple[str, ...]:
    """A line of the list, in the order of `COLUMNS`."""
    device = listing.device
    return (
        str(device.id),
        device.name,
        listing.profile_name,
        state(device),
        "online" if presence.online else seen(presence),
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


def seen(presence: Presence) -> str:
    """When a device that is not here was last heard of."""
    last = max(presence.active_at, presence.disconnected_at, presence.connected_at)
    return f"seen {when(last)}" if last else "never seen"


def plain_listing(listing: DeviceListing, presence: Presence) -> dict[str, Any]:
    return plain_device(listing.device) | {
        "profile": listing.profile_name,
        "credentials_type": listing.credentials_type,
        "online": presence.online,
        "active_at": presence.active_at or None,
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
        case PresharedKey(identity, key):
            return kind | {"identity": identity, "key": masked(key, reveal=reveal)}
        case Revoked():
            return kind
        case unreachable:
            assert_never(unreachable)


def credentials_text(credentials: DeviceCredentials, told: Mapping[str, str], now: int) -> str:
    """Credentials on one line; of a certificate that can be read, what it says and not itself."""
    if isinstance(credentials, Revoked):
        return "REVOKED: nothing lets it in; `gatehouse credential rotate` gives it new ones"
    if isinstance(credentials, Certificate):
        from gateway.cli.certificates import facts_of_text, lasting_until, serial_text

        facts = facts_of_text(credentials.text)
        if facts is not None:
            until = f"{when(facts.not_after)} ({lasting_until(facts.not_after, now)})"
            serial = serial_text(facts.serial)
            return f"{told['type']}, serial {serial}, {facts.subject}, valid until {until}"
    return ", ".join(f"{key} {value}" for key, value in told.items())


def plain_certificate(credentials: DeviceCredentials | None, now: int) -> dict[str, Any] | None:
    """What a device's certificate says, where it has one that can be read."""
    if not isinstance(credentials, Certificate):
        return None
    from gateway.cli.certificates import facts_of_text

    facts = facts_of_text(credentials.text)
    return None if facts is None else facts.plain(now)


def plain_latest(readings: Sequence[Reading]) -> dict[str, Any]:
    """The latest reading of each key, by key."""
    return {one.key: {"ts": one.ts, "value": json_value(one.value)} for one in readings}


def json_value(value: Value) -> Any:
    """A value as it goes into JSON, objects and arrays unfolded."""
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


def subject(event: Event) -> str:
    """What an event is about: a name, or the number of a device that has none yet."""
    return event.subject or (f"device {event.device_id}" if event.device_id else "")


def print_events(events: Sequence[Event]) -> None:
    print_table(
        ("seq", "at", "event", "outcome", "subject", "from"),
        [
            (
                str(one.seq),
                when(one.at),
                one.kind.value,
                one.outcome.value + (f" ({one.reason})" if one.reason else ""),
                subject(one),
                f"{one.peer.wire} {one.peer.address}",
            )
            for one in events
        ],
    )
