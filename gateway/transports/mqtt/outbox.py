"""The publishes on their way to one client: their packet ids, and which waits for which. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from gateway.transports.mqtt.encoder import encode_publish, encode_publish_head
from gateway.transports.mqtt.steps import NOTHING, Body, Step, Terms
from gateway.wire.call import Source

Delivered: TypeAlias = Callable[[], None] | None
"""Called once the client has acknowledged a publish; None when nobody waits for that."""

_Held: TypeAlias = tuple[bytes, bytes | Source, Delivered]


class Outbox:
    """Numbers, holds back and remembers what one client has yet to acknowledge.

    An MQTT 5 client said how many unacknowledged publishes it takes (`takes`) and is held to that
    number (MQTT 5, section 3.3.4). An older client said nothing: of its acknowledgements only
    those are remembered that somebody waits for. Nothing is ever sent twice.
    """

    __slots__ = ("_held", "_held_bytes", "_last_id", "_takes", "_terms", "_unacked", "_version")

    def __init__(self, version: int, terms: Terms, takes: int = 65535) -> None:
        self._version = version
        self._terms = terms
        self._takes = min(takes, terms.max_unacked, 65534)  # an id is always left
        self._last_id = 0
        self._held_bytes = 0
        # Made when first needed, and let go: most clients acknowledge at once.
        self._unacked: dict[int, Delivered] | None = None
        self._held: deque[_Held] | None = None

    def add(
        self, topic: bytes, body: bytes | Source, qos: int, delivered: Delivered
    ) -> Step | None:
        """What to send now for one more publish, or nothing yet; None when a bound is reached."""
        if not qos:
            return self._packet(topic, body, 0, 0, delivered)
        if self._version != 5 and delivered is None:
            return self._packet(topic, body, 1, self._next_id(), None)
        if self._held is None and len(self._unacked or ()) < self._takes:
            return self._numbered(topic, body, delivered)
        return self._hold(topic, body, delivered) if self._version == 5 else None

    def acknowledged(self, packet_id: int) -> Step:
        """A PUBACK came: what may be sent now, and who waited for it."""
        unacked = self._unacked
        if unacked is None or packet_id not in unacked:
            return NOTHING
        delivered = unacked.pop(packet_id)
        if not unacked:
            self._unacked = None
        if self._held is None:
            return NOTHING if delivered is None else Step(delivered=delivered)
        step = self._numbered(*self._release(self._held))
        return Step(step.data, body=step.body, delivered=delivered)

    def _hold(self, topic: bytes, body: bytes | Source, delivered: Delivered) -> Step | None:
        if self._held is None:
            self._held = deque()
        size = _in_memory(topic, body)
        if len(self._held) >= self._terms.max_inflight:
            return None
        if self._held and self._held_bytes + size > self._terms.max_held:
            return None
        self._held.append((topic, body, delivered))
        self._held_bytes += size
        return NOTHING

    def _release(self, held: deque[_Held]) -> _Held:
        first = held.popleft()
        self._held_bytes -= _in_memory(first[0], first[1])
        if not held:
            self._held = None
        return first

    def _numbered(self, topic: bytes, body: bytes | Source, delivered: Delivered) -> Step:
        packet_id = self._next_id()
        if self._unacked is None:
            self._unacked = {}
        self._unacked[packet_id] = delivered
        return self._packet(topic, body, 1, packet_id, None)

    def _packet(
        self, topic: bytes, body: bytes | Source, qos: int, packet_id: int, delivered: Delivered
    ) -> Step:
        if isinstance(body, bytes):
            data = encode_publish(topic, body, qos, packet_id, self._version)
            return Step(data, delivered=delivered)
        head = encode_publish_head(topic, body.size, qos, packet_id, self._version)
        return Step(body=Body(head, body), delivered=delivered)

    def _next_id(self) -> int:
        """Ids go round and pass over those that are waited for."""
        packet_id = self._last_id % 65535 + 1
        if self._unacked is not None:
            while packet_id in self._unacked:
                packet_id = packet_id % 65535 + 1
        self._last_id = packet_id
        return packet_id


def _in_memory(topic: bytes, body: bytes | Source) -> int:
    """How much a held publish occupies; a source is read later."""
    return len(topic) + (len(body) if isinstance(body, bytes) else 0)
