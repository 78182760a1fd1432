"""What one MQTT connection may do next. Pure: packets and times in, bytes out.

ThingsBoard contract, sections 4 and 7. The session begins with a CONNECT; `admit` or `reject`
answers it, and from then on every packet goes through `receive`, a PUBLISH through `publish` and,
once its call is answered, `settle`. What is to be sent and whether to hang up is a `Step`.
"""

from __future__ import annotations

from collections import deque
from math import inf

from msgspec import Struct

from gateway.core.model import Peer
from gateway.transports.mqtt import packets
from gateway.transports.mqtt.encoder import (
    encode_ack,
    encode_connack,
    encode_disconnect,
    encode_publish,
    encode_suback,
    encode_unsuback,
)
from gateway.transports.mqtt.packets import (
    MAX_TEXT,
    NONE,
    PROTOCOL_ERROR,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    REASON,
    Ack,
    Connect,
    Packet,
    Properties,
    Publish,
    Subscribe,
    Unsubscribe,
)
from gateway.wire.call import Admitted, Conduct, Hello, Rejected, Reply, Status

IMPLEMENTATION_SPECIFIC = 0x83
SERVER_UNAVAILABLE, SERVER_UNAVAILABLE_V3 = 0x88, 3
SHUTTING_DOWN = 0x8B
BAD_AUTHENTICATION_METHOD = 0x8C
KEEP_ALIVE_TIMEOUT = 0x8D
TAKEN_OVER = 0x8E
FILTER_INVALID, FILTER_INVALID_V3 = 0x8F, 0x80
ID_NOT_FOUND = 0x92
QUOTA_EXCEEDED = 0x97
QOS_NOT_SUPPORTED = 0x9B
MAXIMUM_CONNECT_TIME = 0xA0
SUBSCRIPTION_ID_UNSUPPORTED = 0xA1
NO_SUBSCRIPTION_EXISTED = 0x11

_BUSY = Conduct(ack=QUOTA_EXCEEDED, close=None, ack_v3=False, close_v3=True)
_BROKEN = Conduct(ack=None, close=IMPLEMENTATION_SPECIFIC, ack_v3=False, close_v3=True)


class Step(Struct, frozen=True, gc=False):
    """Bytes to send, in this order, and whether to close once they are sent."""

    data: bytes = b""
    close: bool = False


_NOTHING = Step()
_CLOSE = Step(close=True)
_PONG = Step(packets.PINGRESP)


class Terms(Struct, frozen=True, kw_only=True):
    """What a server offers every session. `max_packet` in bytes, both ways.

    `max_inflight` publishes are under way at once (announced as Receive Maximum), and as many
    answers wait for an MQTT 5 client that takes few at a time. `max_open` QoS 2 exchanges of an
    older client may await their PUBREL; `max_unacked` answers an MQTT 5 client's PUBACK.
    """

    max_packet: int = packets.MAX_PACKET
    max_inflight: int = 100
    max_open: int = 100
    max_unacked: int = 1000


class Session:
    """One connection's protocol state, from its CONNECT on. Times are seconds on any one clock."""

    __slots__ = (
        "_granted",
        "_held",
        "_keep_alive_s",
        "_last_id",
        "_may_explain",
        "_open",
        "_peer_takes",
        "_peer_takes_bytes",
        "_terms",
        "_unacked",
        "_wants_expiry",
        "admitted",
        "answered_at",
        "has_client_id",
        "heard_at",
        "version",
    )

    def __init__(self, connect: Connect, terms: Terms, now: float) -> None:
        asked = connect.properties
        self.version = connect.version
        self.heard_at = now
        self.answered_at: float | None = None
        self.admitted: Admitted | None = None
        self._terms = terms
        self._keep_alive_s = 1.5 * connect.keep_alive
        self.has_client_id = bool(connect.client_id)
        self._wants_expiry = asked.get(packets.SESSION_EXPIRY, 0) > 0
        self._may_explain = asked.get(packets.PROBLEM_INFORMATION, 1) == 1
        self._peer_takes = min(asked.get(packets.RECEIVE_MAXIMUM, 65535), terms.max_unacked)
        self._peer_takes_bytes: int = asked.get(packets.MAXIMUM_PACKET, 1 << 28)
        self._last_id = 0
        # Made when first needed: most sessions idle without any of them.
        self._granted: dict[str, int] | None = None
        self._open: dict[int, bool] | None = None
        self._unacked: set[int] | None = None
        self._held: deque[tuple[bytes, bytes]] | None = None

    # ── opening and closing ───────────────────────────────────────────────────────────────────

    def admit(self, admitted: Admitted, assigned_client_id: str = "") -> bytes:
        """The session is open; its CONNACK. The assigned id is told to MQTT 5 clients without."""
        self.admitted = admitted
        if self.version != 5:
            return encode_connack(0, self.version)
        offered = {
            packets.RECEIVE_MAXIMUM: self._terms.max_inflight,
            packets.MAXIMUM_QOS: 1,
            packets.RETAIN_AVAILABLE: 0,
            packets.MAXIMUM_PACKET: self._terms.max_packet,
            packets.SUBSCRIPTION_ID_AVAILABLE: 0,
            packets.SHARED_SUBSCRIPTION_AVAILABLE: 0,
        }
        if self._wants_expiry:
            offered[packets.SESSION_EXPIRY] = 0
        extra = {packets.ASSIGNED_CLIENT_ID: assigned_client_id} if assigned_client_id else {}
        return encode_connack(0, 5, {**offered, **extra})

    def reject(self, rejected: Rejected) -> bytes:
        """The CONNACK that says no; close after it."""
        code = rejected.code_v5 if self.version == 5 else rejected.code_v3
        return encode_connack(code, self.version)

    def farewell(self, code: int, reason: str = "") -> bytes:
        """DISCONNECT with an MQTT 5 reason code, nothing for an older client. Close after it.

        Before the CONNACK there is no DISCONNECT; an MQTT 5 client is then told in a CONNACK.
        """
        if self.version != 5:
            return b""
        if self.admitted is None:
            return encode_connack(code, 5)
        packet = encode_disconnect(code, 5, self._explain(reason))
        if len(packet) > self._peer_takes_bytes:
            return encode_disconnect(code, 5)
        return packet

    def _explain(self, reason: str) -> Properties:
        return {REASON: reason[:256]} if reason and self._may_explain else NONE

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    def deadline(self) -> float:
        """When `expire` is next worth asking; infinity when never."""
        admitted = self.admitted
        if admitted is None:
            return inf
        quiet_s = self._keep_alive_s or inf
        if admitted.idle_s is not None and admitted.idle_s < quiet_s:
            quiet_s = admitted.idle_s
        due = self.heard_at + quiet_s
        if admitted.linger_s is not None and self.answered_at is not None:
            return min(due, self.answered_at + admitted.linger_s)
        return due

    def expire(self, now: float) -> Step | None:
        """How to end the session if a time of it has run out, else None."""
        admitted = self.admitted
        if admitted is None or now < self.deadline():
            return None
        silent_s = now - self.heard_at
        if self._keep_alive_s and silent_s >= self._keep_alive_s:
            return Step(self.farewell(KEEP_ALIVE_TIMEOUT), close=True)
        if admitted.idle_s is not None and silent_s >= admitted.idle_s:
            return Step(self.farewell(MAXIMUM_CONNECT_TIME), close=True)
        # Contract, section 4.3: some time after its answer a session ends without a DISCONNECT.
        return _CLOSE

    # ── packets other than PUBLISH ────────────────────────────────────────────────────────────

    def receive(self, packet: Packet) -> Step:
        """What to do about any packet but PUBLISH."""
        kind = type(packet)
        if kind is packets.Ping:
            return _PONG
        if kind is packets.Disconnect:
            return _CLOSE
        if isinstance(packet, Ack):
            return self._acknowledged(packet)
        if isinstance(packet, Subscribe):
            return self._subscribe(packet)
        if isinstance(packet, Unsubscribe):
            return self._unsubscribe(packet)
        code = BAD_AUTHENTICATION_METHOD if kind is packets.Auth else PROTOCOL_ERROR
        return Step(self.farewell(code), close=True)

    def _subscribe(self, packet: Subscribe) -> Step:
        if packets.SUBSCRIPTION_ID in packet.properties:
            return Step(self.farewell(SUBSCRIPTION_ID_UNSUPPORTED), close=True)
        codes = [self._grant(topic_filter, qos) for topic_filter, qos in packet.filters]
        return Step(encode_suback(packet.packet_id, codes, self.version))

    def _grant(self, topic_filter: str, qos: int) -> int:
        assert self.admitted is not None
        if topic_filter not in self.admitted.filters:
            return FILTER_INVALID if self.version == 5 else FILTER_INVALID_V3
        if self._granted is None:
            self._granted = {}
        self._granted[topic_filter] = min(qos, 1)
        return min(qos, 1)

    def _unsubscribe(self, packet: Unsubscribe) -> Step:
        codes = [self._revoke(topic_filter) for topic_filter in packet.filters]
        return Step(encode_unsuback(packet.packet_id, codes, self.version))

    def _revoke(self, topic_filter: str) -> int:
        if self._granted is None or self._granted.pop(topic_filter, None) is None:
            return NO_SUBSCRIPTION_EXISTED
        return 0

    def _acknowledged(self, packet: Ack) -> Step:
        if packet.kind & 0xF0 == PUBREL & 0xF0:
            return self._release(packet.packet_id)
        # We send no QoS 2, so a PUBREC or PUBCOMP answers nothing of ours.
        unacked = self._unacked
        if packet.kind != PUBACK or unacked is None or packet.packet_id not in unacked:
            return _NOTHING
        unacked.discard(packet.packet_id)
        if not self._held:
            return _NOTHING
        topic, body = self._held.popleft()
        return Step(self._send(topic, body, 1))

    def _release(self, packet_id: int) -> Step:
        known = self._open is not None and self._open.pop(packet_id, None) is not None
        code = 0 if known else ID_NOT_FOUND
        return Step(encode_ack(PUBCOMP, packet_id, self.version, code))

    # ── PUBLISH ───────────────────────────────────────────────────────────────────────────────

    def publish(self, packet: Publish) -> Step | None:
        """None: serve it, then `settle`. A step: there is nothing to serve."""
        if packet.qos != 2:
            return None
        if self.version == 5:
            # CONNACK announced Maximum QoS 1 (MQTT 5, section 3.2.2.3.4).
            return Step(self.farewell(QOS_NOT_SUPPORTED), close=True)
        if self._open is None:
            self._open = {}
        served = self._open.get(packet.packet_id)
        if served is None:
            if len(self._open) >= self._terms.max_open:
                return _CLOSE
            self._open[packet.packet_id] = False
            return None
        return Step(encode_ack(PUBREC, packet.packet_id, self.version)) if served else _NOTHING

    def settle(self, packet: Publish, reply: Reply, topic: str | None, now: float) -> Step:
        """What to send once the call of `packet` is answered; `topic` is where the body goes.

        The acknowledgement comes first, then the body (contract, section 4.3).
        """
        status = reply.status
        if status is not Status.OK and status is not Status.REFUSED:
            return self._misconduct(packet, reply)
        data = self._acknowledge(packet) if packet.qos else b""
        if topic is None:
            return Step(data)
        self.answered_at = now
        body = self._answer(topic, reply.body)
        if body is None:
            return Step(data + self.farewell(QUOTA_EXCEEDED), close=True)
        return Step(data + body)

    def _acknowledge(self, packet: Publish) -> bytes:
        """The acknowledgement of a success."""
        if packet.qos == 1:
            return encode_ack(PUBACK, packet.packet_id, self.version)
        assert self._open is not None
        if packet.packet_id in self._open:
            self._open[packet.packet_id] = True
        return encode_ack(PUBREC, packet.packet_id, self.version)

    def _misconduct(self, packet: Publish, reply: Reply) -> Step:
        assert self.admitted is not None
        conduct = self.admitted.conduct.get(reply.status)
        if conduct is None:
            conduct = _BUSY if reply.status is Status.OVERLOADED else _BROKEN
        if self.version == 5:
            return self._misconduct_v5(packet, reply, conduct)
        if not packet.qos:
            return Step(close=conduct.close_v3)
        if conduct.ack_v3:
            return Step(self._acknowledge(packet), close=conduct.close_v3)
        # An exchange of QoS 2 that gets no PUBREC would stay open for ever.
        return Step(close=conduct.close_v3 or packet.qos == 2)

    def _misconduct_v5(self, packet: Publish, reply: Reply, conduct: Conduct) -> Step:
        data, close = b"", conduct.close
        if packet.qos:
            if conduct.ack is not None:
                data = self._refusal(packet.packet_id, conduct.ack, reply.reason)
        elif conduct.close_qos0 is not None:
            close = conduct.close_qos0
        if close is None:
            return Step(data)
        return Step(data + self.farewell(close, reply.reason), close=True)

    def _refusal(self, packet_id: int, code: int, reason: str) -> bytes:
        packet = encode_ack(PUBACK, packet_id, 5, code, self._explain(reason))
        if len(packet) > self._peer_takes_bytes:
            return encode_ack(PUBACK, packet_id, 5, code)
        return packet

    # ── answers going out ─────────────────────────────────────────────────────────────────────

    def _answer(self, topic: str, body: bytes) -> bytes | None:
        """The PUBLISH of an answer; empty when it must wait or cannot go, None past the bound.

        A client that said how many unacknowledged publishes it takes is held to that number
        (MQTT 5, section 3.3.4), and one that said how large they may be, to that size: what is
        larger is dropped (section 3.1.2.11.4).
        """
        name = topic.encode()
        qos = self._reply_qos(topic)
        # Fixed header, topic length, packet id and property length: 10 bytes at most.
        if len(name) > MAX_TEXT or len(name) + len(body) + 10 > self._peer_takes_bytes:
            return b""
        if not qos or self.version != 5:
            return self._send(name, body, qos)
        if self._unacked is None:
            self._unacked = set()
        if len(self._unacked) < self._peer_takes and not self._held:
            return self._send(name, body, qos)
        if self._held is None:
            self._held = deque()
        if len(self._held) >= self._terms.max_inflight:
            return None
        self._held.append((name, body))
        return b""

    def _send(self, topic: bytes, body: bytes, qos: int) -> bytes:
        packet_id = self._next_id() if qos else 0
        return encode_publish(topic, body, qos, packet_id, self.version)

    def _next_id(self) -> int:
        """Up to 3.1.1 ids simply go round: nothing is sent twice, and 65535 answers lie between."""
        packet_id = self._last_id % 65535 + 1
        unacked = self._unacked
        if unacked is not None:
            # It ends: `_answer` lets far fewer than 65535 be unacknowledged.
            while packet_id in unacked:
                packet_id = packet_id % 65535 + 1
            unacked.add(packet_id)
        self._last_id = packet_id
        return packet_id

    def _reply_qos(self, topic: str) -> int:
        """QoS of the matching subscription, the exact one first; 1 without any (section 4.3)."""
        granted = self._granted
        if granted is None:
            return 1
        exact = granted.get(topic)
        if exact is not None:
            return exact
        found = [qos for wanted, qos in granted.items() if matches(wanted, topic)]
        return max(found, default=1)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether `topic` is under `topic_filter`, which may hold `+` and end in `#` (section 4.7)."""
    if "+" not in topic_filter and "#" not in topic_filter:
        return topic_filter == topic
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, given = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(
        want in ("+", have) for want, have in zip(wanted, given, strict=True)
    )


def hello(connect: Connect, peer: Peer) -> Hello:
    """What the composition root is asked about. An empty client id stays empty."""
    return Hello(connect.client_id, connect.username, connect.password, peer, connect.version)
