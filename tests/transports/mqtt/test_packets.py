"""The codec: against amqtt's packet classes as oracle, and against everything malformed."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from amqtt.adapters import BufferReader
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.packet import MQTTFixedHeader, PacketIdVariableHeader
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket, SubscribePayload
from amqtt.mqtt.unsuback import UnsubackPacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket, UnubscribePayload
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transports.mqtt import encoder, packets
from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.encoder import (
    encode_ack,
    encode_connack,
    encode_connect,
    encode_disconnect,
    encode_publish,
    encode_suback,
    encode_subscribe,
    encode_unsuback,
    encode_unsubscribe,
)
from gateway.transports.mqtt.packets import (
    Ack,
    Connack,
    Connect,
    Disconnect,
    MalformedPacket,
    Packet,
    Ping,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)

quick = settings(deadline=None, max_examples=60)

ids = st.integers(1, 65535)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
topics = texts.map(lambda text: text.replace("+", "").replace("#", "")).filter(bool)
filters = st.one_of(texts.filter(bool), st.sampled_from(["a/+/b", "v1/devices/me/#"]))
payloads = st.binary(max_size=300)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=2)


def decode(data: bytes, version: int = 4, *, client: bool = False) -> list[Packet]:
    decoder = Decoder(version=version, client=client)
    decoder.feed(data)
    return list(decoder)


def one(data: bytes, version: int = 4, *, client: bool = False) -> Packet:
    (packet,) = decode(data, version, client=client)
    return packet


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


def theirs(kind: Any, data: bytes) -> Any:
    return run(kind.from_stream(BufferReader(data)))


@st.composite
def publishes(draw: Any) -> Publish:
    qos = draw(st.integers(0, 2))
    return Publish(
        draw(topics),
        draw(payloads),
        qos,
        draw(ids) if qos else 0,
        draw(st.booleans()),
        draw(st.booleans()) if qos else False,
    )


@st.composite
def connects(draw: Any, versions: tuple[int, ...] = (3, 4)) -> Connect:
    version = draw(st.sampled_from(versions))
    username = draw(st.none() | texts)
    will_properties = {0x18: 5, 0x26: draw(pairs)} if version == 5 else {}
    will = Will(draw(topics), draw(payloads), draw(st.integers(0, 2)), draw(st.booleans()))
    return Connect(
        draw(texts.filter(bool)),
        version,
        draw(st.booleans()),
        draw(st.integers(0, 65535)),
        username,
        draw(st.none() | texts.map(str.encode)) if username is not None or version == 5 else None,
        draw(
            st.none()
            | st.just(Will(will.topic, will.payload, will.qos, will.retain, will_properties))
        ),
        draw(connect_properties) if version == 5 else {},
    )


connect_properties = st.fixed_dictionaries(
    {},
    optional={
        0x11: st.integers(0, 2**32 - 1),
        0x17: st.integers(0, 1),
        0x21: st.integers(1, 65535),
        0x27: st.integers(1, 2**32 - 1),
        0x26: pairs,
    },
)


def encode_any(packet: Publish | Connect, version: int) -> bytes:
    if isinstance(packet, Connect):
        return encode_connect(packet)
    return encode_publish(
        packet.topic.encode(),
        packet.payload,
        packet.qos,
        packet.packet_id,
        version,
        packet.properties,
        retain=packet.retain,
        dup=packet.dup,
    )


# ── amqtt as oracle ───────────────────────────────────────────────────────────────────────────


@quick
@given(publishes())
def test_a_publish_amqtt_writes_is_read_as_it_was_meant(packet: Publish) -> None:
    """What amqtt encodes we decode to the same fields, and encode to the same bytes."""
    built = PublishPacket.build(
        packet.topic,
        packet.payload,
        packet.packet_id if packet.qos else None,
        packet.dup,
        packet.qos,
        packet.retain,
    ).to_bytes()
    assert one(built) == packet
    assert encode_any(packet, 4) == built


@quick
@given(publishes())
def test_a_publish_we_write_is_read_by_amqtt(packet: Publish) -> None:
    """What we encode amqtt decodes to the same fields."""
    read = theirs(PublishPacket, encode_any(packet, 4))
    assert (read.topic_name, read.data, read.qos) == (packet.topic, packet.payload, packet.qos)
    assert (read.packet_id or 0, read.dup_flag, read.retain_flag) == (
        packet.packet_id,
        packet.dup,
        packet.retain,
    )


@quick
@given(connects())
def test_connect_means_the_same_to_amqtt_both_ways(packet: Connect) -> None:
    """CONNECT of 3.1 and 3.1.1 has the same bytes and the same meaning in both codecs."""
    head = ConnectVariableHeader(
        0,
        packet.keep_alive,
        "MQIsdp" if packet.version == 3 else "MQTT",
        packet.version,
    )
    head.clean_session_flag = packet.clean
    head.username_flag = packet.username is not None
    head.password_flag = packet.password is not None
    payload = ConnectPayload(packet.client_id)
    payload.username = packet.username
    payload.password = None if packet.password is None else packet.password.decode()
    if packet.will is not None:
        head.will_flag, head.will_qos = True, packet.will.qos
        head.will_retain_flag = packet.will.retain
        payload.will_topic, payload.will_message = packet.will.topic, packet.will.payload
    built = ConnectPacket(None, head, payload).to_bytes()
    assert one(built) == packet
    assert encode_connect(packet) == built
    read = theirs(ConnectPacket, encode_connect(packet))
    assert (read.client_id, read.username) == (packet.client_id, packet.username)


@quick
@given(ids, st.lists(st.tuples(filters, st.integers(0, 2)), min_size=1, max_size=4))
def test_subscribe_means_the_same_to_amqtt(packet_id: int, wanted: list[tuple[str, int]]) -> None:
    """SUBSCRIBE and UNSUBSCRIBE agree with amqtt, byte for byte."""
    built = SubscribePacket(
        None, PacketIdVariableHeader(packet_id), SubscribePayload(wanted)
    ).to_bytes()
    ours = Subscribe(packet_id, tuple(wanted))
    assert one(built) == ours
    assert encode_subscribe(ours, 4) == built
    names = [name for name, _ in wanted]
    built = UnsubscribePacket(
        None, PacketIdVariableHeader(packet_id), UnubscribePayload(names)
    ).to_bytes()
    assert one(built) == Unsubscribe(packet_id, tuple(names))
    assert encode_unsubscribe(Unsubscribe(packet_id, tuple(names)), 4) == built


@pytest.mark.parametrize(
    ("kind", "oracle"),
    [
        (packets.PUBACK, PubackPacket),
        (packets.PUBREC, PubrecPacket),
        (packets.PUBREL, PubrelPacket),
        (packets.PUBCOMP, PubcompPacket),
    ],
)
@quick
@given(packet_id=ids)
def test_acknowledgements_are_amqtts(kind: int, oracle: Any, packet_id: int) -> None:
    """The four acknowledgements agree with amqtt both ways."""
    built = oracle(None, PacketIdVariableHeader(packet_id)).to_bytes()
    assert encode_ack(kind, packet_id, 4) == built
    assert one(built) == Ack(kind, packet_id)
    assert theirs(oracle, encode_ack(kind, packet_id, 4)).variable_header.packet_id == packet_id


@quick
@given(ids, st.lists(st.sampled_from([0, 1, 0x80]), min_size=1, max_size=5))
def test_what_a_server_says_amqtt_reads(packet_id: int, codes: list[int]) -> None:
    """CONNACK, SUBACK and UNSUBACK mean to amqtt what we mean, and to our client decoder too."""
    connack = encode_connack(codes[0] & 7, 4)
    assert theirs(ConnackPacket, connack).return_code == codes[0] & 7
    assert one(connack, client=True) == Connack(codes[0] & 7)
    suback = encode_suback(packet_id, codes, 4)
    assert theirs(SubackPacket, suback).payload.return_codes == codes
    assert one(suback, client=True) == Suback(packet_id, tuple(codes))
    unsuback = encode_unsuback(packet_id, codes, 4)
    assert theirs(UnsubackPacket, unsuback).variable_header.packet_id == packet_id
    assert one(unsuback, client=True) == Unsuback(packet_id)


@quick
@given(st.integers(0, 268_435_455))
def test_remaining_length_is_amqtts(size: int) -> None:
    """Every length of a fixed header is written as amqtt writes it and read back."""
    head = MQTTFixedHeader(3, 0, size).to_bytes()
    decoder = Decoder(max_packet=1 << 29)
    decoder.feed(head)
    assert encoder._varint(size) == head[1:]
    if size < 2:
        with pytest.raises(MalformedPacket):
            decoder.take() or decoder.feed(b"\0") or decoder.take()
        return
    assert decoder.take() is None
    assert decoder._missing == size


# ── MQTT 5 ────────────────────────────────────────────────────────────────────────────────────


@quick
@given(connects(versions=(5,)))
def test_connect_5_comes_back(packet: Connect) -> None:
    """An MQTT 5 CONNECT with properties and a will decodes to what was encoded."""
    assert one(encode_connect(packet)) == packet


@quick
@given(publishes(), pairs, st.binary(max_size=20))
def test_publish_5_comes_back(packet: Publish, users: list[Any], correlation: bytes) -> None:
    """An MQTT 5 PUBLISH decodes to what was encoded, with properties and without."""
    assert one(encode_any(packet, 5), 5) == packet
    properties = {0x01: 1, 0x02: 70000, 0x03: "t", 0x08: "a/b", 0x09: correlation, 0x26: users}
    data = encode_publish(
        packet.topic.encode(),
        packet.payload,
        packet.qos,
        packet.packet_id,
        5,
        properties,
        retain=packet.retain,
        dup=packet.dup,
    )
    read = one(data, 5)
    assert isinstance(read, Publish)
    assert read.properties == properties
    assert (read.topic, read.payload) == (packet.topic, packet.payload)


@quick
@given(ids, st.integers(0, 255), st.text("ab", max_size=5))
def test_the_rest_of_5_comes_back(packet_id: int, code: int, reason: str) -> None:
    """Acknowledgements, CONNACK, SUBACK, UNSUBACK and DISCONNECT of MQTT 5 come back as sent."""
    says = {0x1F: reason}
    assert one(encode_ack(packets.PUBACK, packet_id, 5, code, says), 5) == Ack(
        packets.PUBACK, packet_id, code, says
    )
    assert one(encode_ack(packets.PUBREL, packet_id, 5, code), 5) == Ack(
        packets.PUBREL, packet_id, code
    )
    assert one(encode_disconnect(code, 5, says), 5) == Disconnect(code, says)
    assert one(encode_disconnect(code, 5), 5) == Disconnect(code)
    offered = {0x21: 100, 0x24: 1, 0x25: 0, 0x27: 65536, 0x12: reason}
    assert one(encode_connack(code, 5, offered), 5, client=True) == Connack(code, False, offered)
    assert one(encode_suback(packet_id, [code], 5, says), 5, client=True) == Suback(
        packet_id, (code,), says
    )
    assert one(encode_unsuback(packet_id, [0x11, 0], 5), 5, client=True) == Unsuback(
        packet_id, (0x11, 0)
    )


def test_success_is_acknowledged_in_four_bytes() -> None:
    """Reason code 0x00 uses the short form in MQTT 5."""
    assert encode_ack(packets.PUBACK, 0x1234, 5) == b"\x40\x02\x12\x34"


# ── streams ───────────────────────────────────────────────────────────────────────────────────


@st.composite
def streams(draw: Any) -> bytes:
    version = draw(st.sampled_from([3, 4, 5]))
    opening = draw(connects(versions=(version,)))
    rest = draw(st.lists(publishes(), max_size=4))
    tail = [packets.PINGREQ, encode_subscribe(Subscribe(7, (("a/+", 1),)), version)]
    return b"".join([encode_connect(opening), *(encode_any(p, version) for p in rest), *tail])


@quick
@given(streams(), st.data())
def test_pieces_do_not_matter(stream: bytes, data: st.DataObject) -> None:
    """However a stream is cut, the same packets come out."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    decoder, found = Decoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        decoder.feed(stream[start:end])
        found += list(decoder)
    assert found == decode(stream)
    assert decoder._data == b""
    assert decoder._part is None


def drain_or_malformed(data: bytes, version: int, *, client: bool = False) -> None:
    with suppress(MalformedPacket):
        decode(data, version, client=client)


@quick
@given(st.binary(max_size=200), st.sampled_from([3, 4, 5]), st.booleans())
def test_noise_is_malformed_at_worst(data: bytes, version: int, client: bool) -> None:
    """Arbitrary bytes raise nothing but `MalformedPacket`."""
    drain_or_malformed(data, version, client=client)


@quick
@given(streams(), st.data())
def test_a_damaged_stream_is_malformed_at_worst(stream: bytes, data: st.DataObject) -> None:
    """Valid packets with bytes changed, added or cut raise nothing but `MalformedPacket`."""
    at = data.draw(st.integers(0, len(stream) - 1))
    change = data.draw(st.binary(max_size=3))
    drain_or_malformed(stream[:at] + change + stream[at + 1 :], 4)
    drain_or_malformed(stream[:at] + change + stream[at:], 5)


@quick
@given(st.sampled_from(list(range(1, 16))), st.binary(max_size=60), st.sampled_from([4, 5]))
def test_a_damaged_body_is_malformed_at_worst(kind: int, body: bytes, version: int) -> None:
    """A right fixed header with an arbitrary body raises nothing but `MalformedPacket`."""
    flags = 2 if kind in (6, 8, 10) else 0
    for client in (False, True):
        drain_or_malformed(bytes((kind << 4 | flags, len(body))) + body, version, client=client)


def test_packets_before_a_malformed_one_come_out_first() -> None:
    """A malformed packet does not swallow the good ones ahead of it."""
    decoder = Decoder()
    decoder.feed(packets.PINGREQ + b"\x00\x00")
    assert decoder.take() == Ping()
    with pytest.raises(MalformedPacket):
        decoder.take()


def test_a_packet_in_single_bytes_is_not_copied_again_and_again() -> None:
    """60 kB fed byte by byte end as one packet, and the decoder touches each byte a few times."""
    data = encode_publish(b"t", b"x" * 60_000, 0, 0, 4)
    decoder = Decoder()
    for at in range(len(data) - 1):
        decoder.feed(data[at : at + 1])
        assert decoder.take() is None
    held = decoder._part
    decoder.feed(data[-1:])
    packet = decoder.take()
    assert held is not None
    assert isinstance(packet, Publish)
    assert len(packet.payload) == 60_000


def test_too_large_is_known_from_the_fixed_header() -> None:
    """A packet over the cap is refused before its body arrives; one of exactly the cap is taken."""
    exact = encode_publish(b"t", b"x" * (65536 - 7), 0, 0, 4)
    assert len(exact) == 65536
    assert isinstance(one(exact), Publish)
    with pytest.raises(MalformedPacket):
        decode(b"\x30\xfd\xff\x03")  # 65533 + 4 bytes, none of the body here yet


CONNECT_4 = "00044d515454 04 02 003c"

MALFORMED = [
    ("type 0", "00 00", 4, 0x82),
    ("a server packet", "20 02 00 00", 4, 0x82),
    ("AUTH before MQTT 5", "f0 00", 4, 0x81),
    ("flags on PINGREQ", "c1 00", 4, 0x81),
    ("flags on SUBSCRIBE", "80 06 0001 000161 00", 4, 0x81),
    ("flags on PUBREL", "60 02 0001", 4, 0x81),
    ("QoS 3", "36 05 000161 0001", 4, 0x81),
    ("DUP at QoS 0", "38 03 000161", 4, 0x81),
    ("five length bytes", "30 ff ff ff ff 01", 4, 0x81),
    ("packet id 0", "32 05 000161 0000", 4, 0x81),
    ("PUBACK of id 0", "40 02 0000", 4, 0x81),
    ("SUBSCRIBE of id 0", "82 06 0000 000161 00", 4, 0x81),
    ("SUBSCRIBE of nothing", "82 02 0001", 4, 0x82),
    ("SUBSCRIBE with QoS 3", "82 06 0001 000161 03", 4, 0x81),
    ("SUBSCRIBE with reserved bits", "82 06 0001 000161 04", 4, 0x81),
    ("SUBSCRIBE with reserved bits of 5", "82 07 0001 00 000161 40", 5, 0x81),
    ("SUBSCRIBE with retain handling 3", "82 07 0001 00 000161 30", 5, 0x81),
    ("an empty filter", "82 05 0001 0000 00", 4, 0x81),
    ("UNSUBSCRIBE of nothing", "a2 02 0001", 4, 0x82),
    ("a topic with +", "30 03 00012b", 4, 0x81),
    ("a topic with #", "30 04 00022361", 4, 0x81),
    ("an empty topic", "30 02 0000", 4, 0x81),
    ("an empty topic in 5", "30 03 0000 00", 5, 0x82),
    ("a topic alias", "30 07 000161 03 23 0001", 5, 0x94),
    ("an alias without a topic", "30 06 0000 03 23 0001", 5, 0x94),
    ("U+0000", "30 03 000100", 4, 0x81),
    ("broken UTF-8", "30 04 0002c328", 4, 0x81),
    ("a surrogate in UTF-8", "30 05 0003eda080", 4, 0x81),
    ("a topic longer than its packet", "30 03 000961", 4, 0x81),
    ("PUBLISH of one byte", "30 01 00", 4, 0x81),
    ("no room for the packet id", "32 04 000161 00", 4, 0x81),
    ("no property length", "30 03 000161", 5, 0x81),
    ("properties past the end", "30 05 000161 05 01", 5, 0x81),
    ("a property twice", "30 08 000161 04 0100 0100", 5, 0x82),
    ("a property of another packet", "30 09 000161 05 11 00000001", 5, 0x82),
    ("an unknown property", "30 06 000161 02 7f00", 5, 0x82),
    ("a flag property of 2", "30 06 000161 02 0102", 5, 0x82),
    ("a response topic with a wildcard", "30 08 000161 04 08 00012b", 5, 0x81),
    ("bytes after PINGREQ", "c0 01 00", 4, 0x81),
    ("bytes after PUBACK", "40 03 0001 00", 4, 0x81),
    ("bytes after PUBACK of 5", "40 05 0001 00 00 00", 5, 0x81),
    ("bytes after CONNECT", f"10 0e {CONNECT_4} 0000 0000", 4, 0x81),
    ("an unknown protocol", "10 0c 00044d515458 04 02 003c 0000", 4, 0x84),
    ("CONNECT's reserved flag", "10 0c 00044d515454 04 03 003c 0000", 4, 0x81),
    ("will QoS without a will", "10 0c 00044d515454 04 0a 003c 0000", 4, 0x81),
    ("will retain without a will", "10 0c 00044d515454 04 22 003c 0000", 4, 0x81),
    ("will QoS 3", "10 11 00044d515454 04 1e 003c 0000 000161 0000", 4, 0x81),
    ("an empty will topic", "10 10 00044d515454 04 06 003c 0000 0000 0000", 4, 0x81),
    ("a password without a user name", "10 0e 00044d515454 04 42 003c 0000 0000", 4, 0x81),
    ("Receive Maximum 0", "10 10 00044d515454 05 02 003c 03 210000 0000", 4, 0x82),
    ("authentication data alone", "10 11 00044d515454 05 02 003c 04 16000161 0000", 4, 0x82),
]


@pytest.mark.parametrize(
    ("what", "data", "version", "code"), MALFORMED, ids=[m[0] for m in MALFORMED]
)
def test_what_is_malformed_is_refused(what: str, data: str, version: int, code: int) -> None:
    """Each broken rule ends in `MalformedPacket` with its reason code."""
    with pytest.raises(MalformedPacket) as caught:
        decode(bytes.fromhex(data), version)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "level", "version"),
    [("MQTT", 4, 4), ("MQTT", 5, 5), ("MQTT", 3, 3), ("MQTT", 0x84, 4), ("MQIsdp", 3, 3)],
)
def test_protocol_levels(name: str, level: int, version: int) -> None:
    """Any level but 3 and 5 is 3.1.1, and later packets are read in the version of CONNECT."""
    raw = name.encode()
    body = len(raw).to_bytes(2, "big") + raw + bytes((level, 2, 0, 0))
    body += (b"\0" if version == 5 else b"") + b"\0\0"
    decoder = Decoder()
    decoder.feed(bytes((0x10, len(body))) + body)
    packet = decoder.take()
    assert isinstance(packet, Connect)
    assert packet.version == decoder.version == version


def test_long_client_ids_of_3_1_are_taken() -> None:
    """MQTT 3.1 allows 23 characters; devices send more, and are served."""
    packet = Connect("x" * 60, 3)
    assert one(encode_connect(packet)) == packet


def test_no_secret_in_a_repr() -> None:
    """Packets that carry credentials or payloads do not show them."""
    will = Will("hush/t", b"hush")
    shown = repr(Connect("hush", 4, username="hush", password=b"hush", will=will))
    shown += repr(will) + repr(Publish("t", b"hush"))
    assert "hush" not in shown
