"""What is said over the binary protocol: bodies of commands to texts and back (section 11). Pure.

Parameters are texts, separated by NUL. `BadPayload` where a body cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from gateway.core.model import Order, Value
from gateway.dialects.blynk.hardware import BINARY_NAMES
from gateway.dialects.blynk.profile import BlynkTemplate, Datastream
from gateway.dialects.blynk.values import texts_of
from gateway.wire.call import BadPayload

# Names of commands, as the transport has them.
HARDWARE: Final = "HARDWARE"
HARDWARE_SYNC: Final = "HARDWARE_SYNC"
INTERNAL: Final = "INTERNAL"
PROPERTY: Final = "PROPERTY"
EVENT_LOG: Final = "EVENT_LOG"
REDIRECT: Final = "REDIRECT"

LOGINS: Final = ("LOGIN", "HW_LOGIN")
UNSERVED: Final = (
    "TWEET",
    "EMAIL",
    "NOTIFY",
    "SMS",
    "BRIDGE",
    "GROUP",
    REDIRECT,
    "DEBUG_PRINT",
    "EVENT_CLEAR",
)
"""Commands with a name that nothing is done for; they are told so."""

# What a RESPONSE may say, beyond what the transport's table makes of a status.
QUOTA_LIMIT: Final = 1
NOT_REGISTERED: Final = 3
INVALID_TOKEN: Final = 9
SERVER_ERROR: Final = 19

MOST_PARTS: Final = 256
"""Parameters of one body."""
LEAST_HEARTBEAT_S, MOST_HEARTBEAT_S = 1, 3600
SILENT_BEATS: Final = 1.5
"""Heartbeats a device may miss before it counts as gone (contract, section 11)."""
HARDWARE_NAMES: Final = {**BINARY_NAMES, "type": "type"}
"""`type` is which of `mcu` and `ncp` was used (contract, section 5.3)."""
_KINDS: Final = {"mcu": "MCU", "ncp": "NCP"}
_SCHEMES: Final = ("", "tcp", "blynk")
_PIN = re.compile(r"[0-9]{1,3}").fullmatch


# ── in ────────────────────────────────────────────────────────────────────────────────────────


def parts_of(body: bytes) -> list[str]:
    """The parameters; none of an empty body."""
    if body.count(0) >= MOST_PARTS:
        raise BadPayload("too many parameters")
    try:
        return body.decode().split("\0") if body else []
    except UnicodeDecodeError:
        raise BadPayload("not UTF-8", undecodable=True) from None


def values_in(parts: Sequence[str]) -> Sequence[str]:
    """The values after command and pin. One that ends with a NUL has an empty text behind it, which
    is none; alone it is an empty value."""
    values = parts[2:]
    if not values:
        raise BadPayload("there is no value")
    return values[:-1] if len(values) > 1 and not values[-1] else values


def stream_at(template: BlynkTemplate | None, pin: str) -> Datastream:
    """The datastream of a virtual pin, `1` for v1."""
    stream = None if template is None or not _PIN(pin) else template.by_pin.get(int(pin))
    if stream is None:
        raise BadPayload("no datastream has that pin")
    return stream


def info_in(parts: Sequence[str]) -> dict[str, str] | None:
    """What a device says of itself, by its names; None when it is something else."""
    said = dict(zip(parts[::2], parts[1::2], strict=False))
    if not any(name in BINARY_NAMES for name in said):
        return None
    said.pop("type", None)
    kind = next((kind for name, kind in _KINDS.items() if name in said), None)
    return said if kind is None else {**said, "type": kind}


def number_in(said: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """A number a device says of itself, within its bounds; None when it is none."""
    text = said.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    return min(max(int(text), least), most)


# ── out ───────────────────────────────────────────────────────────────────────────────────────


def joined(*parts: str) -> bytes:
    """A body of these parameters; lone surrogates, which no device can read, become `?`."""
    return "\0".join(parts).encode(errors="replace")


def written_body(stream: Datastream, value: Value) -> bytes:
    """Of the HARDWARE command that writes a value to a datastream with a pin."""
    return joined("vw", str(stream.pin), *texts_of(value))


def clock_body(parts: Sequence[str], now: int) -> bytes:
    """The time (ms since the epoch), as `rtc` or `utc` asked for it. Devices live in UTC here."""
    match parts:
        case ["rtc", *_]:
            return joined("rtc", str(now // 1000))
        case ["utc", "time"]:
            return joined("utc", "time", str(now))
        case ["utc", "iso"]:
            at = datetime.fromtimestamp(now / 1000, UTC)
            return joined("utc", "iso", at.isoformat(timespec="seconds"))
        case ["utc", "tz"]:
            return joined("utc", "tz", "0", "0")
        case ["utc", "tz_name"]:
            return joined("utc", "tz_name", "UTC")
        case ["utc", "tz_rule"]:
            return joined("utc", "tz_rule", "UTC0")
        case ["utc", "dst_next"]:
            return joined("utc", "dst_next")
        case _:
            raise BadPayload("no such time")


def order_body(order: Order, argument: str) -> tuple[str, bytes] | None:
    """The command for an order, and its body; None where this protocol has none for it."""
    match order:
        case Order.RECONFIGURE:
            return INTERNAL, joined("dbg", "config")
        case Order.REBOOT:
            return INTERNAL, joined("dbg", "reboot")
        case Order.REDIRECT:
            place = _place_in(argument)
            return None if place is None else (REDIRECT, joined(*place))


def _place_in(address: str) -> tuple[str, ...] | None:
    """Host and port of `host:port` or `tcp://host:port`. An address of another protocol would
    send the device where nobody understands it."""
    try:
        found = urlsplit(address if "://" in address else f"//{address}")
        host, port = found.hostname, found.port
    except ValueError:
        return None
    if not host or "\0" in host or found.scheme not in _SCHEMES:
        return None
    return (host,) if port is None else (host, str(port))
