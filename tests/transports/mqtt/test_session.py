"""What one connection may do, without a socket."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from gateway.transports.mqtt import packets
from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.outbox import Outbox
from gateway.transports.mqtt.packets import (
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Ping,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from gateway.transports.mqtt.session import Session
from gateway.transports.mqtt.steps import Step, Terms
from gateway.wire.call import Admitted, Conduct, Rejected, Reply, Status

REPLY = "/provision/response"
ATTRIBUTES = "v1/devices/me/attributes/response/+"
CONDUCT = {
    Status.UNDECODABLE: Conduct(0x99, None, ack_v3=False, close_v3=True, close_qos0=0x99),
    Status.BAD_REQUEST: Conduct(0x83, 0x83, ack_v3=True, close_v3=True),
    Status.NOT_FOUND: Conduct(0x90, None, ack_v3=True, close_v3=False),
    Status.GONE: Conduct(None, 0x98, ack_v3=False, close_v3=True),
    Status.UNAUTHENTICATED: Conduct(None, None, ack_v3=False, close_v3=False),
}
OK = Reply(b"{}")


def opened(
    version: int = 4,
    *,
    properties: dict[int, Any] | None = None,
    keep_alive: int = 0,
    terms: Terms | None = None,
    **admitted: Any,
) -> Session:
    connect = Connect("c", version, keep_alive=keep_alive, properties=properties or {})
    session = Session(connect, terms or Terms(), 0.0)
    session.admit(Admitted("test", None, frozenset({REPLY, ATTRIBUTES}), CONDUCT, **admitted))
    return session


def said(step: Step | bytes, version: int) -> list[Packet]:
    decoder = Decoder(version=version, client=True)
    decoder.feed(step if isinstance(step, bytes) else step.data)
    return list(decoder)


def outbox(session: Session) -> Outbox:
    assert session._outbox is not None
    return session._outbox


def publish(qos: int = 1, packet_id: int = 7) -> Publish:
    return Publish("/provision/request", b"", qos, packet_id if qos else 0)


def settled(session: Session, qos: int, reply: Reply, topic: str | None = None) -> Step:
    packet = publish(qos)
    assert session.publish(packet) is None
    return session.settle(packet, reply, topic, 1.0)


# ── opening ───────────────────────────────────────────────────────────────────────────────────


def test_connack_5_says_what_is_offered() -> None:
    """The MQTT 5 CONNACK carries the server's caps, a made-up client id, and session expiry 0."""
    session = Session(Connect("", 5, properties={0x11: 300}), Terms(max_inflight=9), 0.0)
    data = session.admit(Admitted("test", None, frozenset(), {}), "auto-1")
    assert said(data, 5) == [
        Connack(
            0,
            False,
            {0x21: 9, 0x24: 1, 0x25: 0, 0x27: 65536, 0x29: 0, 0x2A: 0, 0x11: 0, 0x12: "auto-1"},
        )
    ]


@pytest.mark.parametrize(("version", "code"), [(3, 5), (4, 5), (5, 0x86)])
def test_a_rejection_speaks_the_clients_version(version: int, code: int) -> None:
    """CONNACK carries the 3.1.1 code up to 3.1.1 and the reason code in 5."""
    session = Session(Connect("c", version), Terms(), 0.0)
    assert said(session.reject(Rejected(5, 0x86)), version) == [Connack(code)]


def test_before_connack_mqtt_5_is_told_in_a_connack() -> None:
    """A reason to close before the session is open travels in CONNACK, not in DISCONNECT."""
    session = Session(Connect("c", 5), Terms(), 0.0)
    assert said(session.farewell(0x97), 5) == [Connack(0x97)]


# ── subscriptions ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("version", "refused"), [(3, 0x80), (4, 0x80), (5, 0x8F)])
def test_only_allowed_filters_are_granted(version: int, refused: int) -> None:
    """Allowed filters get at most QoS 1, anything else is refused and the session goes on."""
    session = opened(version)
    asked = ((REPLY, 2), (ATTRIBUTES, 1), (REPLY, 0), ("#", 1), ("v1/devices/me/#", 0))
    step, granted = session.subscribe(Subscribe(3, asked))
    assert said(step, version) == [Suback(3, (1, 1, 0, refused, refused))]
    assert not step.close
    assert granted == (REPLY, ATTRIBUTES)


def test_unsubscribe_says_whether_there_was_a_subscription() -> None:
    """MQTT 5 gets 0x00 or 0x11 for each filter, older clients a bare UNSUBACK."""
    session = opened(5)
    session.subscribe(Subscribe(1, ((REPLY, 1),)))
    leave = Unsubscribe(2, (REPLY, REPLY, "nothing"))
    step, revoked = session.unsubscribe(leave)
    assert said(step, 5) == [Unsuback(2, (0, 0x11, 0x11))]
    assert revoked == (REPLY,)
    assert said(opened(4).unsubscribe(leave)[0], 4) == [Unsuback(2)]


def test_a_subscription_identifier_is_refused() -> None:
    """They were announced as not available: DISCONNECT 0xA1."""
    step, _ = opened(5).subscribe(Subscribe(1, ((REPLY, 1),), {0x0B: [4]}))
    assert said(step, 5) == [Disconnect(0xA1)]
    assert step.close


@pytest.mark.parametrize(
    ("subscribed", "topic", "qos"),
    [
        ((), REPLY, 1),
        (((REPLY, 0),), REPLY, 0),
        (((REPLY, 2),), REPLY, 1),
        (((ATTRIBUTES, 0),), "v1/devices/me/attributes/response/12", 0),
        (((ATTRIBUTES, 0),), REPLY, 1),
        (((f"{REPLY}/#", 0),), REPLY, 0),
        ((("/provision/#", 0), ("/#", 1)), REPLY, 1),
        ((("#", 0), ("/other/#", 1)), REPLY, 0),
        ((("/+/+", 1), ("/provision/#", 0)), REPLY, 1),
        ((("/provision/#", 1), (REPLY, 0)), REPLY, 0),
    ],
)
def test_an_answer_goes_out_at_the_granted_qos(
    subscribed: tuple[tuple[str, int], ...], topic: str, qos: int
) -> None:
    """The QoS of an answer is that of the subscription to just this, else the highest of those that
    match, and 1 without any."""
    session = opened()
    assert session.admitted is not None
    session.admitted.filters = {wanted for wanted, _ in subscribed}
    if subscribed:
        session.subscribe(Subscribe(1, subscribed))
    (answer,) = said(settled(session, 0, OK, topic), 4)
    assert isinstance(answer, Publish)
    assert (answer.topic, answer.qos, answer.payload) == (topic, qos, b"{}")


# ── outcomes ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("status", [Status.OK, Status.REFUSED])
def test_the_acknowledgement_comes_before_the_answer(version: int, status: Status) -> None:
    """QoS 1: PUBACK 0x00, then the body; a refusal is answered like a success."""
    step = settled(opened(version), 1, Reply(b"no", status), REPLY)
    assert said(step, version) == [Ack(packets.PUBACK, 7), Publish(REPLY, b"no", 1, 1)]
    assert not step.close


@pytest.mark.parametrize(
    ("version", "qos", "status", "packets_out", "close"),
    [
        (5, 1, Status.UNDECODABLE, [Ack(0x40, 7, 0x99)], False),
        (5, 0, Status.UNDECODABLE, [Disconnect(0x99)], True),
        (5, 1, Status.BAD_REQUEST, [Ack(0x40, 7, 0x83), Disconnect(0x83)], True),
        (5, 0, Status.BAD_REQUEST, [Disconnect(0x83)], True),
        (5, 1, Status.NOT_FOUND, [Ack(0x40, 7, 0x90)], False),
        (5, 0, Status.NOT_FOUND, [], False),
        (5, 1, Status.GONE, [Disconnect(0x98)], True),
        (5, 1, Status.OVERLOADED, [Ack(0x40, 7, 0x97)], False),
        (5, 0, Status.OVERLOADED, [], False),
        (5, 1, Status.INTERNAL, [Disconnect(0x83)], True),
        (4, 1, Status.UNDECODABLE, [], True),
        (4, 1, Status.BAD_REQUEST, [Ack(0x40, 7)], True),
        (4, 0, Status.BAD_REQUEST, [], True),
        (4, 1, Status.NOT_FOUND, [Ack(0x40, 7)], False),
        (4, 0, Status.NOT_FOUND, [], False),
        (4, 1, Status.OVERLOADED, [], True),
        (4, 1, Status.INTERNAL, [], True),
        (4, 1, Status.UNAUTHENTICATED, [], False),
        (4, 2, Status.NOT_FOUND, [Ack(0x50, 7)], False),
        (4, 2, Status.BAD_REQUEST, [Ack(0x50, 7)], True),
        (4, 2, Status.UNDECODABLE, [], True),
        (4, 2, Status.UNAUTHENTICATED, [], True),
    ],
)
def test_conduct_is_obeyed(
    version: int, qos: int, status: Status, packets_out: list[Packet], close: bool
) -> None:
    """Each status ends as the dialect's conduct says, or as the default for what it left out."""
    step = settled(opened(version), qos, Reply(b"unsent", status), None)
    assert said(step, version) == packets_out
    assert step.close is close


def test_a_reason_goes_to_mqtt_5_unless_it_asked_for_none() -> None:
    """Reason String is in PUBACK and DISCONNECT, and absent when problem information is 0."""
    reply = Reply(status=Status.BAD_REQUEST, reason="deviceName is missing")
    says = {0x1F: "deviceName is missing"}
    assert said(settled(opened(5), 1, reply), 5) == [
        Ack(0x40, 7, 0x83, says),
        Disconnect(0x83, says),
    ]
    silent = opened(5, properties={0x17: 0})
    assert said(settled(silent, 1, reply), 5) == [Ack(0x40, 7, 0x83), Disconnect(0x83)]


def test_a_small_peer_gets_no_packet_over_its_size() -> None:
    """Maximum Packet Size: a reason is left out, an answer too large is dropped."""
    session = opened(5, properties={0x27: 30})
    reply = Reply(status=Status.BAD_REQUEST, reason="x" * 40)
    assert said(settled(session, 1, reply), 5) == [Ack(0x40, 7, 0x83), Disconnect(0x83)]
    session = opened(5, properties={0x27: 30})
    assert said(settled(session, 1, Reply(b"x" * 40), REPLY), 5) == [Ack(0x40, 7)]


def test_a_peer_that_takes_one_at_a_time_gets_one_at_a_time() -> None:
    """Receive Maximum 1: the second answer waits for the first's PUBACK; few may wait."""
    session = opened(5, properties={0x21: 1}, terms=Terms(max_inflight=1))
    (_, first) = said(settled(session, 1, Reply(b"1"), REPLY), 5)
    assert isinstance(first, Publish)
    assert len(said(settled(session, 1, Reply(b"2"), REPLY), 5)) == 1
    assert said(session.receive(Ack(0x40, 999)), 5) == []
    (second,) = said(session.receive(Ack(0x40, first.packet_id)), 5)
    assert isinstance(second, Publish)
    assert second.payload == b"2"
    settled(session, 1, Reply(b"3"), REPLY)
    step = settled(session, 1, Reply(b"4"), REPLY)
    assert said(step, 5)[-1] == Disconnect(0x97)
    assert step.close


def test_packet_ids_go_round_and_pass_over_those_in_use() -> None:
    """Ids of answers run from 1 to 65535, never 0, never one still unacknowledged."""
    session = opened(4)
    settled(session, 0, OK, REPLY)
    outbox(session)._last_id = 65534
    numbers = [said(settled(session, 0, OK, REPLY), 4)[0] for _ in range(2)]
    assert [one.packet_id for one in numbers if isinstance(one, Publish)] == [65535, 1]
    session = opened(5)
    settled(session, 0, OK, REPLY)
    outbox(session)._last_id = 65535
    (answer,) = said(settled(session, 0, OK, REPLY), 5)
    assert isinstance(answer, Publish)
    assert answer.packet_id == 2


# ── QoS 2 ─────────────────────────────────────────────────────────────────────────────────────


def test_qos_2_is_processed_once() -> None:
    """A repeated PUBLISH is not served again; after PUBREL the id is free."""
    session, packet = opened(4), publish(2)
    assert session.publish(packet) is None
    assert session.publish(packet) == Step()
    step = session.settle(packet, OK, None, 1.0)
    assert said(step, 4) == [Ack(packets.PUBREC, 7)]
    again = session.publish(packet)
    assert again is not None
    assert said(again, 4) == [Ack(packets.PUBREC, 7)]
    assert said(session.receive(Ack(packets.PUBREL & 0xF0, 7)), 4) == [Ack(packets.PUBCOMP, 7)]
    assert session.publish(packet) is None


def test_open_exchanges_are_bounded() -> None:
    """One exchange more than allowed closes the session."""
    session = opened(4, terms=Terms(max_open=2))
    assert session.publish(publish(2, 1)) is None
    assert session.publish(publish(2, 2)) is None
    assert session.publish(publish(2, 3)) == Step(close=True)


def test_qos_2_was_not_offered_in_mqtt_5() -> None:
    """Maximum QoS 1 was announced: DISCONNECT 0x9B. A stray PUBREL is answered with 0x92."""
    session = opened(5)
    stray = session.receive(Ack(packets.PUBREL & 0xF0, 9))
    assert said(stray, 5) == [Ack(packets.PUBCOMP, 9, 0x92)]
    step = session.publish(publish(2))
    assert step is not None
    assert said(step, 5) == [Disconnect(0x9B)]
    assert step.close


# ── the rest ──────────────────────────────────────────────────────────────────────────────────


def test_small_packets() -> None:
    """PINGREQ is answered, DISCONNECT closes, what must not come is a protocol error."""
    session = opened(5)
    assert said(session.receive(Ping()), 5) == [Ping()]
    assert session.receive(Disconnect()) == Step(close=True)
    assert said(session.receive(Connect("c", 5)), 5) == [Disconnect(0x82)]
    assert said(session.receive(Auth()), 5) == [Disconnect(0x8C)]
    assert opened(4).receive(Connect("c")) == Step(close=True)
    assert session.receive(Ack(packets.PUBREC, 1)) == Step()


def test_keep_alive_runs_out_at_one_and_a_half_times() -> None:
    """Keep-alive 10 s: alive at 14.9 s of silence, DISCONNECT 0x8D at 15 s."""
    session = opened(5, keep_alive=10)
    assert session.deadline() == 15.0
    assert session.expire(14.9) is None
    step = session.expire(15.0)
    assert step is not None
    assert said(step, 5) == [Disconnect(0x8D)]
    session.heard_at = 10.0
    assert session.expire(15.0) is None


def test_idle_and_linger() -> None:
    """Idle ends with DISCONNECT 0xA0; some time after the last answer it ends without a packet."""
    session = opened(5, idle_s=600.0, linger_s=60.0, keep_alive=1000)
    assert session.deadline() == 600.0
    step = session.expire(600.0)
    assert step is not None
    assert said(step, 5) == [Disconnect(0xA0)]
    settled(session, 1, OK, REPLY)
    assert session.deadline() == 61.0
    assert session.expire(61.0) == Step(close=True)


def test_a_session_may_last_so_long_and_no_longer() -> None:
    """Whatever is heard, it ends with DISCONNECT 0x87 when what admitted it does."""
    session = opened(5, idle_s=600.0, lasts_s=100.0)
    assert session.deadline() == 100.0
    session.heard_at = 99.0
    assert session.expire(99.9) is None
    step = session.expire(100.0)
    assert step is not None
    assert said(step, 5) == [Disconnect(0x87)]


def test_without_times_nothing_ever_runs_out() -> None:
    """Keep-alive 0 and no other time: no deadline."""
    session = opened(4)
    assert session.deadline() == inf
    assert session.expire(1e9) is None


# ── what a reply may ask for ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_an_ignored_publish_is_not_answered_in_any_way(version: int, qos: int) -> None:
    """IGNORED: no PUBACK, no close, whatever the conduct says."""
    session = opened(version)
    session.admitted.conduct = {Status.IGNORED: Conduct(0x83, 0x83, True, True)}  # type: ignore[union-attr]
    assert settled(session, qos, Reply(status=Status.IGNORED, close=0x83)) == Step()


def test_an_ignored_exchange_of_qos_2_is_forgotten() -> None:
    """It takes no place among the open exchanges, and its repetition is served again."""
    session = opened(4, terms=Terms(max_open=1))
    assert settled(session, 2, Reply(status=Status.IGNORED)) == Step()
    assert session.publish(publish(2)) is None


@pytest.mark.parametrize(
    ("version", "status", "packets_out", "close"),
    [
        (5, Status.LIMITED, [Ack(0x40, 7, 0x97)], False),
        (4, Status.LIMITED, [], True),
        (5, Status.FAILED, [Disconnect(0x83)], True),
        (5, Status.TIMEOUT, [Disconnect(0x83)], True),
        (5, Status.DELETED, [Disconnect(0x83)], True),
        (4, Status.FAILED, [], True),
    ],
)
def test_statuses_without_conduct_have_one(
    version: int, status: Status, packets_out: list[Packet], close: bool
) -> None:
    """LIMITED ends like OVERLOADED, the others like INTERNAL, when nobody said otherwise."""
    step = settled(opened(version), 1, Reply(status=status))
    assert said(step, version) == packets_out
    assert step.close is close


def test_the_conduct_of_the_route_stands_above_the_sessions() -> None:
    """A status the route names is treated as it says; the others as the session's conduct says."""
    own = {Status.BAD_REQUEST: Conduct(0x99, None, ack_v3=True, close_v3=False)}
    session, packet = opened(5), publish()
    step = session.settle(packet, Reply(status=Status.BAD_REQUEST), None, 1.0, own)
    assert (said(step, 5), step.close) == ([Ack(0x40, 7, 0x99)], False)
    step = session.settle(packet, Reply(status=Status.NOT_FOUND), None, 1.0, own)
    assert said(step, 5) == [Ack(0x40, 7, 0x90)]
    older = opened(4)
    assert older.settle(packet, Reply(status=Status.BAD_REQUEST), None, 1.0, own).close is False


@pytest.mark.parametrize("status", [Status.OK, Status.NOT_FOUND])
def test_a_reply_may_be_the_last(status: Status) -> None:
    """`close` ends the session after the answer, for MQTT 5 with that code and the reason."""
    reply = Reply(b"bye", status, reason="done", close=0x98)
    code = 0 if status is Status.OK else 0x90
    topic = REPLY if status is Status.OK else None
    step = settled(opened(5), 1, reply, topic)
    sent = [*said(step, 5), *said(step.tail, 5)]
    assert step.close
    assert (sent[0].code, sent[-1]) == (code, Disconnect(0x98, {0x1F: "done"}))  # type: ignore[union-attr]
    assert len(sent) == (3 if topic else 2)
    assert settled(opened(4), 1, reply, topic).close
    assert settled(opened(4), 1, Reply(close=0x98), None).close


# ── bodies in pieces ──────────────────────────────────────────────────────────────────────────


class Sized:
    def __init__(self, size: int) -> None:
        self.size = size

    async def read(self, offset: int, size: int) -> bytes:
        return bytes(size)


@pytest.mark.parametrize("version", [4, 5])
def test_a_body_in_pieces_has_the_head_of_one_publish(version: int) -> None:
    """The head and as many bytes as the source has are exactly one PUBLISH at the granted QoS."""
    for size in (0, 1, 100, 127, 128, 20_000):
        step = settled(opened(version), 1, Reply(source=Sized(size)), REPLY)
        assert said(step, version) == [Ack(packets.PUBACK, 7)]
        assert step.body is not None
        assert said(step.body.head + bytes(size), version) == [Publish(REPLY, bytes(size), 1, 1)]


def test_a_body_no_packet_can_hold_is_an_error() -> None:
    """Over 268435455 bytes: as a call that broke, not as a success without its body."""
    step = settled(opened(5), 1, Reply(source=Sized(packets.MAX_REMAINING)), REPLY)
    assert said(step, 5) == [Disconnect(0x83)]
    assert step.body is None


def test_a_body_too_large_for_the_peer_is_dropped() -> None:
    """Maximum Packet Size holds for a source: acknowledged, and never sent."""
    step = settled(opened(5, properties={0x27: 1000}), 1, Reply(source=Sized(1000)), REPLY)
    assert (said(step, 5), step.body) == ([Ack(0x40, 7)], None)


# ── pushes ────────────────────────────────────────────────────────────────────────────────────


def test_what_the_peer_cannot_take_is_not_pushed() -> None:
    """Too large for the peer, or a topic too long for MQTT: None, and the session goes on."""
    session = opened(5, properties={0x27: 100})
    assert session.push(REPLY, b"x" * 100) is None
    assert session.push("x" * 65536, b"") is None
    assert opened(4).push("x" * 65536, b"") is None
    step = session.push(REPLY, b"x")
    assert step is not None
    assert said(step, 5) == [Publish(REPLY, b"x", 1, 1)]


def test_a_peer_that_acknowledges_nothing_is_disconnected() -> None:
    """One push more than may wait for its acknowledgement: DISCONNECT 0x97."""
    session = opened(5, terms=Terms(max_unacked=1, max_inflight=1))
    steps = [session.push(REPLY, b"x") for _ in range(3)]
    assert steps[2] is not None
    assert said(steps[2], 5) == [Disconnect(0x97)]
    assert [step and step.close for step in steps] == [False, False, True]
