"""Reading the body of one packet: a cursor, the rules for text, MQTT 5 properties.

Whatever the standard forbids raises `MalformedPacket`.
"""

from __future__ import annotations

from typing import Any

from gateway.transports.mqtt.packets import (
    BINARY,
    BYTE,
    FOUR,
    MAXIMUM_PACKET,
    NONE,
    PROTOCOL_ERROR,
    RECEIVE_MAXIMUM,
    SUBSCRIPTION_ID,
    TEXT,
    TWO,
    USER_PROPERTY,
    MalformedPacket,
    Properties,
)

_NOT_ZERO = frozenset({RECEIVE_MAXIMUM, MAXIMUM_PACKET, SUBSCRIPTION_ID})


class Reader:
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
        if (name in _NOT_ZERO and not value) or (name in BYTE and value > 1):
            raise MalformedPacket("property has a value it cannot have", PROTOCOL_ERROR)
        found[name] = [value] if name == SUBSCRIPTION_ID else value

    def _value(self, name: int) -> Any:
        if name in BYTE:
            return self.byte()
        if name in TWO:
            return self.number(2)
        if name in FOUR:
            return self.number(4)
        if name in TEXT:
            return self.text()
        return self.binary() if name in BINARY else self.varint()

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


def topic_name(raw: bytes) -> str:
    topic = _text(raw)
    if "+" in topic or "#" in topic:
        raise MalformedPacket("topic name contains a wildcard")
    return topic
