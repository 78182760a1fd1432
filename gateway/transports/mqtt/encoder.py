"""Packets to bytes, without I/O: one `encode_*` function for each kind of packet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.transports.mqtt.packets import (
    BINARY,
    BYTE,
    FOUR,
    NONE,
    SUBSCRIPTION_ID,
    TEXT,
    TWO,
    USER_PROPERTY,
    Connect,
    Properties,
    Subscribe,
    Unsubscribe,
)


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
    if name in BYTE:
        return bytes((value,))
    if name in TWO:
        return int(value).to_bytes(2, "big")
    if name in FOUR:
        return int(value).to_bytes(4, "big")
    if name in TEXT:
        return _string(value)
    if name == USER_PROPERTY:
        return _string(value[0]) + _string(value[1])
    return _binary(value) if name in BINARY else _varint(value)


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


def encode_publish_head(topic: bytes, size: int, qos: int, packet_id: int, version: int) -> bytes:
    """All of a PUBLISH without properties that comes before its payload of `size` bytes."""
    body = _binary(topic)
    if qos:
        body += packet_id.to_bytes(2, "big")
    if version == 5:
        body += b"\0"
    return bytes((0x30 | qos << 1,)) + _varint(len(body) + size) + body


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
