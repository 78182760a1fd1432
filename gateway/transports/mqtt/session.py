"""What one MQTT connection may do next. Pure: packets and times in, bytes out.

ThingsBoard contract, sections 4 and 7. The session begins with a CONNECT; `admit` or `reject`
answers it, and from then on a PUBLISH goes through `publish` and, once its call is answered,
`settle`; SUBSCRIBE and UNSUBSCRIBE have methods of their own, any other packet goes through
`receive`. What the client is to be told unasked goes through `push`. What is to be sent and whether
to hang up is a `Step`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from gateway.core.model import Peer
from gateway.transports.mqtt import packets
from gateway.transports.mqtt.encoder import (
    encode_ack,
    encode_connack,
    encode_disconnect,
    encode_suback,
    encode_unsuback,
)
from gateway.transports.mqtt.filters import filters_over, matches
from gateway.transports.mqtt.outbox import Delivered, Outbox
from gateway.transports.mqtt.packets import (
    MAX_REMAINING,
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
from gateway.transports.mqtt.steps import CLOSE, NOTHING, Step, Terms
from gateway.wire.call import Admitted, Conduct, Hello, Rejected, Reply, Source, Status

IMPLEMENTATION_SPECIFIC = 0x83
SERVER_UNAVAILABLE, SERVER_UNAVAILABLE_V3 = 0x88, 3
SHUTTING_DOWN = 0x8B
BAD_AUTHENTICATION_METHOD = 0x8C
NOT_AUTHORIZED = 0x87
KEEP_ALIVE_TIMEOUT = 0x8D
FILTER_INVALID, FILTER_INVALID_V3 = 0x8F, 0x80
ID_NOT_FOUND = 0x92
QUOTA_EXCEEDED = 0x97
QOS_NOT_SUPPORTED = 0x9B
MAXIMUM_CONNECT_TIME = 0xA0
SUBSCRIPTION_ID_UNSUPPORTED = 0xA1
NO_SUBSCRIPTION_EXISTED = 0x11

_BUSY = Conduct(ack=QUOTA_EXCEEDED, close=None, ack_v3=False, close_v3=True)
_LATER = (Status.OVERLOADED, Status.LIMITED, Status.PENDING)
_BROKEN = Conduct(ack=None, close=IMPLEMENTATION_SPECIFIC, ack_v3=False, close_v3=True)

_LARGEST = MAX_REMAINING + 5
_PONG = Step(packets.PINGRESP)
_TOO_LARGE = Reply(status=Status.INTERNAL)


class Session:
    """One connection's protocol state, from its CONNECT on. Times are seconds on any one clock."""

    __slots__ = (
        "_granted",
        "_has_patterns",
        "_keep_alive_s",
        "_may_explain",
        "_open",
        "_opened_at",
        "_outbox",
        "_peer_takes",
        "_peer_takes_bytes",
        "_terms",
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
        self._opened_at = self.heard_at = now
        self.answered_at: float | None = None
        self.admitted: Admitted | None = None
        self._terms = terms
        self._keep_alive_s = 1.5 * connect.keep_alive
        self.has_client_id = bool(connect.client_id)
        self._wants_expiry = asked.get(packets.SESSION_EXPIRY, 0) > 0
        self._may_explain = asked.get(packets.PROBLEM_INFORMATION, 1) == 1
        self._peer_takes: int = asked.get(packets.RECEIVE_MAXIMUM, 65535)
        self._peer_takes_bytes: int = min(asked.get(packets.MAXIMUM_PACKET, _LARGEST), _LARGEST)
        # Made when first needed: most sessions idle without any of them.
        self._granted: dict[str, int] | None = None
        self._has_patterns = False
        self._open: dict[int, bool] | None = None
        self._outbox: Outbox | None = None

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
        if admitted.lasts_s is not None:
            due = min(due, self._opened_at + admitted.lasts_s)
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
        if admitted.lasts_s is not None and now - self._opened_at >= admitted.lasts_s:
            return Step(self.farewell(NOT_AUTHORIZED), close=True)
        # Contract, section 4.3: some time after its answer a session ends without a DISCONNECT.
        return CLOSE

    # ── packets other than PUBLISH ────────────────────────────────────────────────────────────

    def receive(self, packet: Packet) -> Step:
        """What to do about any packet but PUBLISH, SUBSCRIBE and UNSUBSCRIBE."""
        kind = type(packet)
        if kind is packets.Ping:
            return _PONG
        if kind is packets.Disconnect:
            return CLOSE
        if isinstance(packet, Ack):
            return self._acknowledged(packet)
        code = BAD_AUTHENTICATION_METHOD if kind is packets.Auth else PROTOCOL_ERROR
        return Step(self.farewell(code), close=True)

    def subscribe(self, packet: Subscribe) -> tuple[Step, tuple[str, ...]]:
        """The SUBACK, and the filters it grants."""
        if packets.SUBSCRIPTION_ID in packet.properties:
            return Step(self.farewell(SUBSCRIPTION_ID_UNSUPPORTED), close=True), ()
        codes = [self._grant(topic_filter, qos) for topic_filter, qos in packet.filters]
        granted = dict.fromkeys(
            wanted for (wanted, _), code in zip(packet.filters, codes, strict=True) if code < 0x80
        )
        return Step(encode_suback(packet.packet_id, codes, self.version)), tuple(granted)

    def _grant(self, topic_filter: str, qos: int) -> int:
        assert self.admitted is not None
        if topic_filter not in self.admitted.filters:
            return FILTER_INVALID if self.version == 5 else FILTER_INVALID_V3
        if self._granted is None:
            self._granted = {}
        self._granted[topic_filter] = min(qos, 1)
        self._has_patterns = self._has_patterns or "+" in topic_filter
        return min(qos, 1)

    def unsubscribe(self, packet: Unsubscribe) -> tuple[Step, tuple[str, ...]]:
        """The UNSUBACK, and the filters that were subscribed to until now."""
        codes = [self._revoke(topic_filter) for topic_filter in packet.filters]
        revoked = tuple(left for left, code in zip(packet.filters, codes, strict=True) if not code)
        return Step(encode_unsuback(packet.packet_id, codes, self.version)), revoked

    def _revoke(self, topic_filter: str) -> int:
        if self._granted is None or self._granted.pop(topic_filter, None) is None:
            return NO_SUBSCRIPTION_EXISTED
        return 0

    def _acknowledged(self, packet: Ack) -> Step:
        if packet.kind & 0xF0 == PUBREL & 0xF0:
            return self._release(packet.packet_id)
        # We send no QoS 2, so a PUBREC or PUBCOMP answers nothing of ours.
        if packet.kind != PUBACK or self._outbox is None:
            return NOTHING
        return self._outbox.acknowledged(packet.packet_id)

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
                return CLOSE
            self._open[packet.packet_id] = False
            return None
        return Step(encode_ack(PUBREC, packet.packet_id, self.version)) if served else NOTHING

    def take(self, packet: Publish) -> Step:
        """Acknowledge a publish whose answer comes later; then `settle` it as unacknowledged."""
        return Step(self._acknowledge(packet))

    def settle(
        self,
        packet: Publish,
        reply: Reply,
        topic: str | None,
        now: float,
        conduct: Mapping[Status, Conduct] = {},
    ) -> Step:
        """What to send once the call of `packet` is answered; `topic` is where the body goes.

        The acknowledgement comes first, then the body (contract, section 4.3), then the end if
        the reply is the last. `conduct` is the route's and stands above the session's.
        """
        status = reply.status
        if status is not Status.OK and status is not Status.REFUSED and reply.ack is None:
            return self._misconduct(packet, reply, conduct)
        source = reply.source
        if source is not None and topic and _size(topic.encode(), source) > _LARGEST:
            return self._misconduct(packet, _TOO_LARGE, conduct)
        data = self._acknowledge(packet, reply) if packet.qos else b""
        if topic is None:
            step = Step(data)
        else:
            self.answered_at = now
            answer = self.push(topic, reply.body if source is None else source) or NOTHING
            step = Step(data + answer.data, answer.close, answer.body)
        return step if reply.close is None or step.close else self._last(step, reply)

    def _last(self, step: Step, reply: Reply) -> Step:
        """The same, and then the end of the session, for the reason the reply gives."""
        assert reply.close is not None
        farewell = self.farewell(reply.close, reply.reason)
        return Step(step.data, close=True, body=step.body, tail=farewell)

    def _acknowledge(self, packet: Publish, reply: Reply | None = None) -> bytes:
        """The acknowledgement of a success, or of what is answered all the same."""
        if reply is not None and reply.ack is not None and self.version == 5:
            return self._refusal(packet.packet_id, reply.ack, reply.reason, reply.retry_after_s)
        if packet.qos == 1:
            return encode_ack(PUBACK, packet.packet_id, self.version)
        assert self._open is not None
        if packet.packet_id in self._open:
            self._open[packet.packet_id] = True
        return encode_ack(PUBREC, packet.packet_id, self.version)

    def _misconduct(
        self, packet: Publish, reply: Reply, of_route: Mapping[Status, Conduct]
    ) -> Step:
        assert self.admitted is not None
        if reply.status is Status.IGNORED:
            if packet.qos == 2 and self._open is not None:
                self._open.pop(packet.packet_id, None)
            return NOTHING
        conduct = of_route.get(reply.status) or self.admitted.conduct.get(reply.status)
        if conduct is None:
            conduct = _BUSY if reply.status in _LATER else _BROKEN
        if self.version == 5:
            return self._misconduct_v5(packet, reply, conduct)
        close = conduct.close_v3 or reply.close is not None
        if not packet.qos:
            return Step(close=close)
        if conduct.ack_v3:
            return Step(self._acknowledge(packet), close=close)
        # An exchange of QoS 2 that gets no PUBREC would stay open for ever.
        return Step(close=close or packet.qos == 2)

    def _misconduct_v5(self, packet: Publish, reply: Reply, conduct: Conduct) -> Step:
        data, close = b"", conduct.close
        if packet.qos:
            if conduct.ack is not None:
                data = self._refusal(packet.packet_id, conduct.ack, reply.reason)
        elif conduct.close_qos0 is not None:
            close = conduct.close_qos0
        if reply.close is not None:
            close = reply.close
        if close is None:
            return Step(data)
        return Step(data + self.farewell(close, reply.reason), close=True)

    def _refusal(self, packet_id: int, code: int, reason: str, retry_after_s: int = 0) -> bytes:
        wait: Properties = {}
        if retry_after_s and self._may_explain:
            wait = {packets.USER_PROPERTY: (("retry-after", str(retry_after_s)),)}
        # To a client that takes small packets the wait is told rather than the reason.
        for told in ({**self._explain(reason), **wait}, wait):
            packet = encode_ack(PUBACK, packet_id, 5, code, told)
            if len(packet) <= self._peer_takes_bytes:
                return packet
        return encode_ack(PUBACK, packet_id, 5, code)

    # ── publishes going out ───────────────────────────────────────────────────────────────────

    def push(
        self, topic: str, body: bytes | Source, delivered: Delivered = None, unasked: int = 1
    ) -> Step | None:
        """How to publish to the client; None when it cannot be sent, because it is too large.

        A client that said how large a packet it takes gets none that is larger (MQTT 5, section
        3.1.2.11.4). One that leaves too much unacknowledged is told so, and its session ends.
        """
        name = topic.encode()
        if len(name) > MAX_TEXT or _size(name, body) > self._peer_takes_bytes:
            return None
        if self._outbox is None:
            self._outbox = Outbox(self.version, self._terms, self._peer_takes)
        step = self._outbox.add(name, body, self._quality(topic, unasked), delivered)
        if step is None:
            return Step(self.farewell(QUOTA_EXCEEDED), close=True)
        return step

    def _quality(self, topic: str, unasked: int) -> int:
        """QoS of the matching subscription, the exact one first; `unasked` without any."""
        granted = self._granted
        if granted is None:
            return unasked
        exact = granted.get(topic)
        if exact is not None:
            return exact
        # Looked up, not tried one by one: a gateway has thousands. Of those with `+` there are few.
        found = [granted[wanted] for wanted in filters_over(topic) if wanted in granted]
        if self._has_patterns:
            patterns = (wanted for wanted in granted if "+" in wanted)
            found += [granted[wanted] for wanted in patterns if matches(wanted, topic)]
        return max(found, default=unasked)


def _size(topic: bytes, body: bytes | Source) -> int:
    """Bytes of a PUBLISH at most: fixed header, topic and its length, packet id, properties."""
    return 10 + len(topic) + (len(body) if isinstance(body, bytes) else body.size)


def hello(connect: Connect, peer: Peer, chain: tuple[bytes, ...] = ()) -> Hello:
    """What the composition root is asked about. An empty client id stays empty."""
    return Hello(
        connect.client_id, connect.username, connect.password, peer, connect.version, chain
    )
