"""Bytes to packets, without I/O.

A server reads what clients send; `Decoder(client=True)` reads what servers send, for simulated
devices and tests.

Strict on everything that tells a broken or hostile peer from a real one. Lenient on two points:
MQTT 3.1 client ids longer than 23 characters are taken (real devices send them), and a protocol
level other than 3 or 5 is 3.1.1 (ThingsBoard contract, section 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from gateway.transports.mqtt.packets import (
    AUTH_DATA,
    AUTH_METHOD,
    MALFORMED,
    MAX_PACKET,
    NONE,
    PROTOCOL_ERROR,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    TOPIC_ALIAS,
    TOPIC_ALIAS_INVALID,
    UNSUPPORTED_VERSION,
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    MalformedPacket,
    Packet,
    Ping,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from gateway.transports.mqtt.reading import Reader, topic_name

_PING = Ping()
_BYE = Disconnect()

_FLAGS = {0x80: 0x02, 0xA0: 0x02, 0x60: 0x02}
"""Fixed header flags that are not zero: SUBSCRIBE, UNSUBSCRIBE, PUBREL (section 2.1.3)."""

# The properties each packet may have (MQTT 5, section 2.2.2).
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
    topic = topic_name(data[start:at])
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
            reader = Reader(data, at, end)
            properties = _publish_properties(reader)
            at = reader.at
    if not topic:
        raise MalformedPacket("topic name is empty", PROTOCOL_ERROR if version == 5 else MALFORMED)
    return Publish(topic, data[at:end], qos, packet_id, head & 1 == 1, head & 8 == 8, properties)


def _publish_properties(reader: Reader) -> Properties:
    properties = reader.properties(_OF_PUBLISH)
    if properties:
        if TOPIC_ALIAS in properties:
            # Topic Alias Maximum is left out of CONNACK, so it is 0 (section 3.3.2.3.4).
            raise MalformedPacket("topic aliases are not offered", TOPIC_ALIAS_INVALID)
        topic_name(properties.get(0x08, "").encode())
    return properties


def _decode_connect(reader: Reader, _version: int) -> Connect:
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


def _decode_will(reader: Reader, flags: int, version: int) -> Will | None:
    qos = flags >> 3 & 3
    if not flags & 0x04:
        if flags & 0x38:
            raise MalformedPacket("will flags without a will")
        return None
    if qos == 3:
        raise MalformedPacket("will QoS is 3")
    properties = reader.properties(_OF_WILL) if version == 5 else NONE
    topic = topic_name(reader.binary())
    if not topic:
        raise MalformedPacket("will topic is empty")
    return Will(topic, reader.binary(), qos, flags & 0x20 == 0x20, properties)


def _decode_subscribe(reader: Reader, version: int) -> Subscribe:
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


def _decode_unsubscribe(reader: Reader, version: int) -> Unsubscribe:
    packet_id = reader.packet_id()
    properties = reader.properties(_OF_UNSUBSCRIBE) if version == 5 else NONE
    filters: list[str] = []
    while reader.at < reader.end or not filters:
        filters.append(_filter(reader))
    return Unsubscribe(packet_id, tuple(filters), properties)


def _filter(reader: Reader) -> str:
    if reader.at == reader.end:
        raise MalformedPacket("no topic filter", PROTOCOL_ERROR)
    topic_filter = reader.text()
    if not topic_filter:
        raise MalformedPacket("topic filter is empty")
    return topic_filter


def _ack_decoder(kind: int) -> Callable[[Reader, int], Packet]:
    def decode(reader: Reader, version: int) -> Ack:
        packet_id = reader.packet_id()
        code, properties = _reason(reader, version, _OF_ACK)
        return Ack(kind, packet_id, code, properties)

    return decode


def _reason(reader: Reader, version: int, allowed: frozenset[int]) -> tuple[int, Properties]:
    """Reason code and properties at a packet's end; both may be left out (sections 3.4.2, 3.14)."""
    if version != 5 or reader.at == reader.end:
        return 0, NONE
    code = reader.byte()
    return code, NONE if reader.at == reader.end else reader.properties(allowed)


def _decode_disconnect(reader: Reader, version: int) -> Disconnect:
    code, properties = _reason(reader, version, _OF_DISCONNECT)
    return Disconnect(code, properties) if code or properties else _BYE


def _decode_auth(reader: Reader, version: int) -> Auth:
    if version != 5:
        raise MalformedPacket("packet type is reserved")
    return Auth(*_reason(reader, version, _OF_AUTH))


def _decode_ping(_reader: Reader, _version: int) -> Ping:
    return _PING


def _decode_connack(reader: Reader, version: int) -> Connack:
    flags, code = reader.byte(), reader.byte()
    if flags > 1:
        raise MalformedPacket("reserved flags of CONNACK are set")
    properties = reader.properties(_OF_CONNACK) if version == 5 else NONE
    return Connack(code, flags == 1, properties)


def _decode_suback(reader: Reader, version: int) -> Suback:
    packet_id = reader.packet_id()
    properties = reader.properties(_OF_ACK) if version == 5 else NONE
    return Suback(packet_id, tuple(reader.take(reader.end - reader.at)), properties)


def _decode_unsuback(reader: Reader, version: int) -> Unsuback:
    packet_id = reader.packet_id()
    if version != 5:
        return Unsuback(packet_id)
    properties = reader.properties(_OF_ACK)
    return Unsuback(packet_id, tuple(reader.take(reader.end - reader.at)), properties)


_Decode: TypeAlias = Callable[[Reader, int], Packet]
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
        return self._decode(head, Reader(data, at, end))

    def _decode(self, head: int, reader: Reader) -> Packet:
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
