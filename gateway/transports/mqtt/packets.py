"""MQTT 3.1 (`MQIsdp`), 3.1.1 and 5 as one codec without I/O.

Sources: MQTT 3.1.1 and 5.0 (OASIS), MQTT 3.1 (IBM/Eurotech 2010). `Decoder` turns bytes into
packets, the `encode_*` functions do the reverse. A server reads what clients send; `Decoder(
client=True)` reads what servers send, for simulated devices and tests.

Strict on everything that tells a broken or hostile peer from a real one. Lenient on two points:
MQTT 3.1 client ids longer than 23 characters are taken (real devices send them), and a protocol
level other than 3 or 5 is 3.1.1 (ThingsBoard contract, section 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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

Properties: TypeAlias = Mapping[int, Any]
"""MQTT 5 properties by identifier. 0x26 is a list of pairs, 0x0B a list of numbers."""
NONE: Properties = {}

SESSION_EXPIRY, AUTH_METHOD, AUTH_DATA = 0x11, 0x15, 0x16
ASSIGNED_CLIENT_ID, PROBLEM_INFORMATION, REASON = 0x12, 0x17, 0x1F
RECEIVE_MAXIMUM, TOPIC_ALIAS, MAXIMUM_QOS, RETAIN_AVAILABLE = 0x21, 0x23, 0x24, 0x25
USER_PROPERTY, MAXIMUM_PACKET, SUBSCRIPTION_ID = 0x26, 0x27, 0x0B
SUBSCRIPTION_ID_AVAILABLE, SHARED_SUBSCRIPTION_AVAILABLE = 0x29, 0x2A


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

_PING = Ping()
_BYE = Disconnect()

# ── MQTT 5 properties (section 2.2.2) ─────────────────────────────────────────────────────────

_BYTE = frozenset({0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A})
_TWO = frozenset({0x13, 0x21, 0x22, 0x23})
_FOUR = frozenset({0x02, 0x11, 0x18, 0x27})
_TEXT = frozenset({0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F})
_BINARY = frozenset({0x09, 0x16})
_NOT_ZERO = frozenset({RECEIVE_MAXIMUM, MAXIMUM_PACKET, SUBSCRIPTION_ID})

_OF_WILL = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26})
_OF_CONNECT = frozenset({0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27})
_OF_CONNACK = frozenset(
    {0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27}
    | {0x28, 0x29, 0x2A}
)
_OF_PUBLISH = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26})
_OF_ACK = frozenset({0x1F, 0x26})
_OF_SUBSCRIBE = frozenset({0x0B, 0x26})
_OF_UNSUBSCRIBE = frozenset({0x26})
_OF_DISCONNECT = frozenset({0x11, 0x1C, 0x1F, 0x26})
_OF_AUTH = frozenset({0x15, 0x16, 0x1F, 0x26})


class _Reader:
    """A cursor over the body of one packet. Never reads past `end`."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data = data
        self.at = at
        self.end = end

    def take(self, size: int) -> bytes:
        at = self.at
        if size > self.end - at:
            raise MalformedPacket("packet ends early")
        self.at = at + size
        return self.data[at : at + size]

    def byte(self) -> int:
        at = self.at
        if at >= self.end:
            raise MalformedPacket("packet ends early")
        self.at = at + 1
        return self.data[at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def varint(self) -> int:
        value = shift = 0
        while True:
            digit = self.byte()
            value |= (digit & 0x7F) << shift
            if digit < 0x80:
                return value
            shift += 7
            if shift > 21:
                raise MalformedPacket("variable byte integer is longer than four bytes")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        return _text(self.binary())

    def packet_id(self) -> int:
        number = self.number(2)
        if not number:
            raise MalformedPacket("packet identifier is 0")
        return number

    def properties(self, allowed: frozenset[int]) -> Properties:
        end = self.varint() + self.at
        if end == self.at:
            return NONE
        if end > self.end:
            raise MalformedPacket("properties are longer than their packet")
        outer, self.end = self.end, end
        found: dict[int, Any] = {}
        while self.at < end:
            self._property(found, allowed)
        self.end = outer
        return found

    def _property(self, found: dict[int, Any], allowed: frozenset[int]) -> None:
        name = self.varint()
        if name == USER_PROPERTY and name in allowed:
            found.setdefault(name, []).append((self.text(), self.text()))
            return
        if name not in allowed:
            raise MalformedPacket("property does not belong to this packet", PROTOCOL_ERROR)
        if name in found:
            raise MalformedPacket("property appears twice", PROTOCOL_ERROR)
        value = self._value(name)
        if (name in _NOT_ZERO and not value) or (name in _BYTE and value > 1):
            raise MalformedPacket("property has a value it cannot have", PROTOCOL_ERROR)
        found[name] = [value] if name == SUBSCRIPTION_ID else value

    def _value(self, name: int) -> Any:
        if name in _BYTE:
            return self.byte()
        if name in _TWO:
            return self.number(2)
        if name in _FOUR:
            return self.number(4)
        if name in _TEXT:
            return self.text()
        return self.binary() if name in _BINARY else self.varint()

    def finish(self) -> None:
        if self.at != self.end:
            raise MalformedPacket("bytes after the end of the packet")


def _text(raw: bytes) -> str:
    try:
        text = str(raw, "utf-8")
    except UnicodeDecodeError:
        raise MalformedPacket("text is not UTF-8") from None
    if "\0" in text:
        raise MalformedPacket("text contains U+0000")
    return text


def _topic(raw: bytes) -> str:
    topic = _text(raw)
    if "+" in topic or "#" in topic:
        raise MalformedPacket("topic name contains a wildcard")
    return topic


# ── decoding ──────────────────────────────────────────────────────────────────────────────────

_FLAGS = {0x80: 0x02, 0xA0: 0x02, 0x60: 0x02}
"""Fixed header flags that are not zero: SUBSCRIBE, UNSUBSCRIBE, PUBREL (section 2.1.3)."""


def _decode_publish(head: int, data: bytes, at: int, end: int, version: int) -> Publish:
    """The hot path: no cursor, one slice for the topic and one for the payload."""
    qos = head >> 1 & 3
    if qos == 3 or head & 0x0E == 0x08:
        raise MalformedPacket("PUBLISH flags are impossible")
    start = at + 2
    if start > end:
        raise MalformedPacket("packet ends early")
    at = start + (data[at] << 8 | data[at + 1])
    if at + (2 if qos else 0) > end:
        raise MalformedPacket("packet ends early")
    topic = _topic(data[start:at])
    packet_id = 0
    if qos:
        packet_id = data[at] << 8 | data[at + 1]
        if not packet_id:
            raise MalformedPacket("packet identifier is 0")
        at += 2
    properties = NONE
    if version == 5:
        if at < end and not data[at]:
            at += 1
        else:
            reader = _Reader(data, at, end)
            properties = _publish_properties(reader)
            at = reader.at
    if not topic:
        raise MalformedPacket("topic name is empty", PROTOCOL_ERROR if version == 5 else MALFORMED)
    return Publish(topic, data[at:end], qos, packet_id, head & 1 == 1, head & 8 == 8, properties)


def _publish_properties(reader: _Reader) -> Properties:
    properties = reader.properties(_OF_PUBLISH)
    if properties:
        if TOPIC_ALIAS in properties:
            # Topic Alias Maximum is left out of CONNACK, so it is 0 (section 3.3.2.3.4).
            raise MalformedPacket("topic aliases are not offered", TOPIC_ALIAS_INVALID)
        _topic(properties.get(0x08, "").encode())
    return properties


def _decode_connect(reader: _Reader, _version: int) -> Connect:
    name, level = reader.binary(), reader.byte()
    if name not in (b"MQTT", b"MQIsdp"):
        raise MalformedPacket("protocol name is unknown", UNSUPPORTED_VERSION)
    version = 3 if name == b"MQIsdp" else level if level in (3, 5) else 4
    flags, keep_alive = reader.byte(), reader.number(2)
    if flags & 1:
        raise MalformedPacket("reserved flag of CONNECT is set")
    if flags & 0xC0 == 0x40 and version != 5:
        raise MalformedPacket("password without user name")
    properties = reader.properties(_OF_CONNECT) if version == 5 else NONE
    if AUTH_DATA in properties and AUTH_METHOD not in properties:
        raise MalformedPacket("authentication data without a method", PROTOCOL_ERROR)
    client_id = reader.text()
    will = _decode_will(reader, flags, version)
    username = reader.text() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    return Connect(
        client_id, version, flags & 2 == 2, keep_alive, username, password, will, properties
    )


def _decode_will(reader: _Reader, flags: int, version: int) -> Will | None:
    qos = flags >> 3 & 3
    if not flags & 0x04:
        if flags & 0x38:
            raise MalformedPacket("will flags without a will")
        return None
    if qos == 3:
        raise MalformedPacket("will QoS is 3")
    properties = reader.properties(_OF_WILL) if version == 5 else NONE
    topic = _topic(reader.binary())
    if not topic:
        raise MalformedPacket("will topic is empty")
    return Will(topic, reader.binary(), qos, flags & 0x20 == 0x20, properties)


def _decode_subscribe(reader: _Reader, version: int) -> Subscribe:
    packet_id = reader.packet_id()
    properties = reader.properties(_OF_SUBSCRIBE) if version == 5 else NONE
    filters: list[tuple[str, int]] = []
    while reader.at < reader.end or not filters:
        topic_filter, options = _filter(reader), reader.byte()
        # MQTT 5: no-local, retain-as-published and retain handling (0 to 2) above the QoS.
        if options & 3 == 3 or options & (0xC0 if version == 5 else 0xFC) or options & 0x30 == 0x30:
            raise MalformedPacket("subscription options are impossible")
        filters.append((topic_filter, options & 3))
    return Subscribe(packet_id, tuple(filters), properties)


def _decode_unsubscribe(reader: _Reader, version: int) -> Unsubscribe:
    packet_id = reader.packet_id()
    properties = reader.properties(_OF_UNSUBSCRIBE) if version == 5 else NONE
    filters: list[str] = []
    while reader.at < reader.end or not filters:
        filters.append(_filter(reader))
    return Unsubscribe(packet_id, tuple(filters), properties)


def _filter(reader: _Reader) -> str:
    if reader.at == reader.end:
        raise MalformedPacket("no topic filter", PROTOCOL_ERROR)
    topic_filter = reader.text()
    if not topic_filter:
        raise MalformedPacket("topic filter is empty")
    return topic_filter


def _ack_decoder(kind: int) -> Callable[[_Reader, int], Packet]:
    def decode(reader: _Reader, version: int) -> Ack:
        packet_id = reader.packet_id()
        code, properties = _reason(reader, version, _OF_ACK)
        return Ack(kind, packet_id, code, properties)

    return decode


def _reason(reader: _Reader, version: int, allowed: frozenset[int]) -> tuple[int, Properties]:
    """Reason code and properties at a packet's end; both may be left out (sections 3.4.2, 3.14)."""
    if version != 5 or reader.at == reader.end:
        return 0, NONE
    code = reader.byte()
    return code, NONE if reader.at == reader.end else reader.properties(allowed)


def _decode_disconnect(reader: _Reader, version: int) -> Disconnect:
    code, properties = _reason(reader, version, _OF_DISCONNECT)
    return Disconnect(code, properties) if code or properties else _BYE


def _decode_auth(reader: _Reader, version: int) -> Auth:
    if version != 5:
        raise MalformedPacket("packet type is reserved")
    return Auth(*_reason(reader, version, _OF_AUTH))


def _decode_ping(_reader: _Reader, _version: int) -> Ping:
    return _PING


def _decode_connack(reader: _Reader, version: int) -> Connack:
    flags, code = reader.byte(), reader.byte()
    if flags > 1:
        raise MalformedPacket("reserved flags of CONNACK are set")
    properties = reader.properties(_OF_CONNACK) if version == 5 else NONE
    return Connack(code, flags == 1, properties)


def _decode_suback(reader: _Reader, version: int) -> Suback:
    packet_id = reader.packet_id()
    properties = reader.properties(_OF_ACK) if version == 5 else NONE
    return Suback(packet_id, tuple(reader.take(reader.end - reader.at)), properties)


def _decode_unsuback(reader: _Reader, version: int) -> Unsuback:
    packet_id = reader.packet_id()
    if version != 5:
        return Unsuback(packet_id)
    properties = reader.properties(_OF_ACK)
    return Unsuback(packet_id, tuple(reader.take(reader.end - reader.at)), properties)


_Decode: TypeAlias = Callable[[_Reader, int], Packet]
_BOTH_WAYS: dict[int, _Decode] = {
    **{kind & 0xF0: _ack_decoder(kind) for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP)},
    0xE0: _decode_disconnect,
    0xF0: _decode_auth,
}
_AT_SERVER: dict[int, _Decode] = _BOTH_WAYS | {
    0x10: _decode_connect,
    0x80: _decode_subscribe,
    0xA0: _decode_unsubscribe,
    0xC0: _decode_ping,
}
_AT_CLIENT: dict[int, _Decode] = _BOTH_WAYS | {
    0x20: _decode_connack,
    0x90: _decode_suback,
    0xB0: _decode_unsuback,
    0xD0: _decode_ping,
}


class Decoder:
    """Bytes in any pieces in, packets out: `feed`, then `take` (or iterate) until None.

    Pulling lets the caller stop between two packets of one read. At most one unfinished packet
    is kept, no larger than `max_packet` (whole packet, bytes), and each byte of it is copied a
    fixed number of times. `version` follows from CONNECT; a client sets it itself.
    """

    __slots__ = ("_at", "_data", "_decoders", "_max_packet", "_missing", "_part", "version")

    def __init__(
        self, *, max_packet: int = MAX_PACKET, version: int = 4, client: bool = False
    ) -> None:
        self.version = version
        self._max_packet = max_packet
        self._decoders = _AT_CLIENT if client else _AT_SERVER
        self._data = b""
        self._at = 0
        self._part: bytearray | None = None
        self._missing = 0

    def feed(self, data: bytes) -> None:
        """Add what the socket gave."""
        part = self._part
        if part is not None:
            part += data
            self._missing -= len(data)
            if self._missing > 0:
                return
            data, self._part = bytes(part), None
        elif self._at < len(self._data):
            data = self._data[self._at :] + data
        self._data = data
        self._at = 0

    def __iter__(self) -> Iterator[Packet]:
        return iter(self.take, None)

    def take(self) -> Packet | None:
        """The next packet, or None until more is fed. Raises `MalformedPacket`, nothing else.

        After an error the stream has no more packets in it; the connection is to be closed.
        """
        if self._part is not None:
            return None
        data, start = self._data, self._at
        left = len(data) - start
        if left < 2:
            self._wait(2 - left)
            return None
        size, at = data[start + 1], start + 2
        if size > 0x7F:
            size, at = self._long_size(data, at, size)
            if not at:
                self._wait(1)
                return None
        end = at + size
        if end - start > self._max_packet:
            raise MalformedPacket("packet is too large")
        if end > len(data):
            self._wait(end - len(data))
            return None
        self._at = end
        head = data[start]
        if head & 0xF0 == 0x30:
            return _decode_publish(head, data, at, end, self.version)
        return self._decode(head, _Reader(data, at, end))

    def _decode(self, head: int, reader: _Reader) -> Packet:
        decode = self._decoders.get(head & 0xF0)
        if decode is None:
            raise MalformedPacket("packet type is not expected here", PROTOCOL_ERROR)
        if head & 0x0F != _FLAGS.get(head & 0xF0, 0):
            raise MalformedPacket("reserved flags are set")
        packet = decode(reader, self.version)
        reader.finish()
        if type(packet) is Connect:
            self.version = packet.version
        return packet

    def _long_size(self, data: bytes, at: int, first: int) -> tuple[int, int]:
        """Remaining length of two to four bytes and where the body starts; 0 when incomplete."""
        size, shift = first & 0x7F, 7
        for digit in data[at : at + 3]:
            at += 1
            size |= (digit & 0x7F) << shift
            if digit < 0x80:
                return size, at
            shift += 7
        if shift > 21:
            raise MalformedPacket("remaining length is longer than four bytes")
        return 0, 0

    def _wait(self, missing: int) -> None:
        """Keep an unfinished packet until `missing` more bytes are fed; keep nothing of none."""
        if self._at < len(self._data):
            self._part = bytearray(self._data[self._at :])
            self._missing = missing
        self._data = b""
        self._at = 0


# ── encoding ──────────────────────────────────────────────────────────────────────────────────


def _packet(head: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((head, size)) + body
    return bytes((head,)) + _varint(size) + body


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _binary(raw: bytes) -> bytes:
    return len(raw).to_bytes(2, "big") + raw


def _string(text: str) -> bytes:
    return _binary(text.encode())


def _encode_properties(properties: Properties, version: int) -> bytes:
    if version != 5:
        return b""
    if not properties:
        return b"\0"
    body = b"".join(
        bytes((name,)) + _encode_value(name, value)
        for name, several in properties.items()
        for value in (several if name in (USER_PROPERTY, SUBSCRIPTION_ID) else (several,))
    )
    return _varint(len(body)) + body


def _encode_value(name: int, value: Any) -> bytes:
    if name in _BYTE:
        return bytes((value,))
    if name in _TWO:
        return int(value).to_bytes(2, "big")
    if name in _FOUR:
        return int(value).to_bytes(4, "big")
    if name in _TEXT:
        return _string(value)
    if name == USER_PROPERTY:
        return _string(value[0]) + _string(value[1])
    return _binary(value) if name in _BINARY else _varint(value)


def encode_connack(
    code: int, version: int, properties: Properties = NONE, *, session_present: bool = False
) -> bytes:
    """Also up to 3.1.1, where `properties` are left out."""
    return _packet(0x20, bytes((session_present, code)) + _encode_properties(properties, version))


def encode_publish(
    topic: bytes,
    payload: bytes,
    qos: int,
    packet_id: int,
    version: int,
    properties: Properties = NONE,
    *,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """`topic` is UTF-8 of at most 65535 bytes; `packet_id` is left out at QoS 0."""
    size = len(topic)
    body = size.to_bytes(2, "big") + topic
    if qos:
        body += packet_id.to_bytes(2, "big")
    if version == 5:
        body += _encode_properties(properties, 5)
    return _packet(0x30 | dup << 3 | qos << 1 | retain, body + payload)


def encode_ack(
    kind: int, packet_id: int, version: int, code: int = 0, properties: Properties = NONE
) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP, as short as `version` lets it be (section 3.4.2)."""
    if version != 5 or not (code or properties):
        return bytes((kind, 2, packet_id >> 8, packet_id & 0xFF))
    body = packet_id.to_bytes(2, "big") + bytes((code,))
    return _packet(kind, body + _encode_properties(properties, 5) if properties else body)


def encode_suback(
    packet_id: int, codes: Sequence[int], version: int, properties: Properties = NONE
) -> bytes:
    head = packet_id.to_bytes(2, "big")
    return _packet(0x90, head + _encode_properties(properties, version) + bytes(codes))


def encode_unsuback(
    packet_id: int, codes: Sequence[int], version: int, properties: Properties = NONE
) -> bytes:
    """Up to 3.1.1 there are no codes to say."""
    head = packet_id.to_bytes(2, "big")
    if version != 5:
        return _packet(0xB0, head)
    return _packet(0xB0, head + _encode_properties(properties, 5) + bytes(codes))


def encode_disconnect(code: int, version: int, properties: Properties = NONE) -> bytes:
    if version != 5 or not (code or properties):
        return b"\xe0\x00"
    body = bytes((code,))
    return _packet(0xE0, body + _encode_properties(properties, 5) if properties else body)


def encode_connect(packet: Connect) -> bytes:
    """What a client opens with. A level other than 3 or 5 is written as 3.1.1."""
    version, will = packet.version, packet.will
    name = b"\x00\x06MQIsdp" if version == 3 else b"\x00\x04MQTT"
    flags = packet.clean << 1 | (packet.username is not None) << 7
    flags |= (packet.password is not None) << 6
    body = _encode_properties(packet.properties, version) + _string(packet.client_id)
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        body += _encode_properties(will.properties, version)
        body += _string(will.topic) + _binary(will.payload)
    if packet.username is not None:
        body += _string(packet.username)
    if packet.password is not None:
        body += _binary(packet.password)
    head = name + bytes((version, flags)) + packet.keep_alive.to_bytes(2, "big")
    return _packet(0x10, head + body)


def encode_subscribe(packet: Subscribe, version: int) -> bytes:
    body = packet.packet_id.to_bytes(2, "big") + _encode_properties(packet.properties, version)
    for topic_filter, qos in packet.filters:
        body += _string(topic_filter) + bytes((qos,))
    return _packet(0x82, body)


def encode_unsubscribe(packet: Unsubscribe, version: int) -> bytes:
    body = packet.packet_id.to_bytes(2, "big") + _encode_properties(packet.properties, version)
    return _packet(0xA2, body + b"".join(_string(one) for one in packet.filters))
