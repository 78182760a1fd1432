"""What MQTT packets hold: their types, the MQTT 5 property identifiers, reason codes, limits.

MQTT 3.1 (`MQIsdp`), 3.1.1 and 5 in one vocabulary. `decoder` makes these of bytes, `encoder` does
the reverse. Sources: MQTT 3.1.1 and 5.0 (OASIS), MQTT 3.1 (IBM/Eurotech 2010).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

MALFORMED = 0x81
PROTOCOL_ERROR = 0x82
UNSUPPORTED_VERSION = 0x84
TOPIC_ALIAS_INVALID = 0x94

PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"

MAX_PACKET = 65536
"""Default cap of a whole packet, bytes (ThingsBoard contract, section 1)."""
MAX_TEXT = 65535
MAX_REMAINING = 268_435_455
"""The most bytes a packet may have after its fixed header (section 1.5.5)."""

Properties: TypeAlias = Mapping[int, Any]
"""MQTT 5 properties by identifier. 0x26 is a list of pairs, 0x0B a list of numbers."""
NONE: Properties = {}

SESSION_EXPIRY, AUTH_METHOD, AUTH_DATA = 0x11, 0x15, 0x16
ASSIGNED_CLIENT_ID, PROBLEM_INFORMATION, REASON = 0x12, 0x17, 0x1F
RECEIVE_MAXIMUM, TOPIC_ALIAS, MAXIMUM_QOS, RETAIN_AVAILABLE = 0x21, 0x23, 0x24, 0x25
USER_PROPERTY, MAXIMUM_PACKET, SUBSCRIPTION_ID = 0x26, 0x27, 0x0B
SUBSCRIPTION_ID_AVAILABLE, SHARED_SUBSCRIPTION_AVAILABLE = 0x29, 0x2A

# Which properties have which form (MQTT 5, section 2.2.2).
BYTE = frozenset({0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A})
TWO = frozenset({0x13, 0x21, 0x22, 0x23})
FOUR = frozenset({0x02, 0x11, 0x18, 0x27})
TEXT = frozenset({0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F})
BINARY = frozenset({0x09, 0x16})


class MalformedPacket(Exception):
    """The peer broke the protocol. `code` is the MQTT 5 reason; the text never quotes the peer."""

    def __init__(self, reason: str, code: int = MALFORMED) -> None:
        super().__init__(reason)
        self.code = code


# ── packets ───────────────────────────────────────────────────────────────────────────────────


class Will(Struct, frozen=True, gc=False):
    """A last will. Understood, so that the packet can be; never published."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NONE

    def __repr__(self) -> str:
        return "Will(***)"


class Connect(Struct, frozen=True):
    """`version` is 3, 4 or 5; `keep_alive` in seconds, 0 for none."""

    client_id: str = ""
    version: int = 4
    clean: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = NONE

    def __repr__(self) -> str:
        return f"Connect(version={self.version}, keep_alive={self.keep_alive})"


class Connack(Struct, frozen=True):
    """`code` is a return code up to MQTT 3.1.1, a reason code in 5."""

    code: int
    session_present: bool = False
    properties: Properties = NONE


class Publish(Struct, frozen=True):
    """`packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    retain: bool = False
    dup: bool = False
    properties: Properties = NONE

    def __repr__(self) -> str:
        return f"Publish(qos={self.qos}, packet_id={self.packet_id}, {len(self.payload)} bytes)"


class Ack(Struct, frozen=True):
    """PUBACK, PUBREC, PUBREL or PUBCOMP; `kind` is its first byte."""

    kind: int
    packet_id: int
    code: int = 0
    properties: Properties = NONE


class Subscribe(Struct, frozen=True):
    """`filters` are (topic filter, asked QoS); MQTT 5's other options are checked and dropped."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]
    properties: Properties = NONE


class Suback(Struct, frozen=True):
    packet_id: int
    codes: tuple[int, ...]
    properties: Properties = NONE


class Unsubscribe(Struct, frozen=True):
    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = NONE


class Unsuback(Struct, frozen=True):
    """`codes` is empty up to MQTT 3.1.1."""

    packet_id: int
    codes: tuple[int, ...] = ()
    properties: Properties = NONE


class Ping(Struct, frozen=True):
    """PINGREQ at a server, PINGRESP at a client."""


class Disconnect(Struct, frozen=True):
    code: int = 0
    properties: Properties = NONE


class Auth(Struct, frozen=True):
    """MQTT 5's enhanced authentication; its data is not shown."""

    code: int = 0
    properties: Properties = NONE

    def __repr__(self) -> str:
        return f"Auth(code={self.code})"


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Ack
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Ping
    | Disconnect
    | Auth
)
