"""The codec, held against the standard and against aiocoap's."""

from __future__ import annotations

import time

import aiocoap
import pytest
from aiocoap.message import Direction
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transports.coap import message as coap
from gateway.transports.coap.message import MalformedMessage, Message, decode, encode

codes = st.sampled_from([*range(1, 8), 65, 68, 69, 95, 128, 132, 141, 160, 163])
# Opaque to aiocoap, so that it returns the bytes it got: ETag, If-Match, Echo, Request-Tag, and
# numbers that reach each form of extended delta.
opaque_options = st.lists(
    st.tuples(
        st.sampled_from([1, 4, 252, 292, 2049, 3000, 65000]),
        st.binary(max_size=20) | st.binary(min_size=250, max_size=300),
    ),
    max_size=6,
)
text_options = st.lists(
    st.tuples(st.sampled_from([8, 11, 15]), st.text(max_size=12).map(str.encode)), max_size=6
)
messages = st.builds(
    Message,
    st.integers(0, 3),
    codes,
    st.integers(0, 0xFFFF),
    st.binary(max_size=8),
    st.tuples(opaque_options, text_options).map(
        lambda both: sorted(both[0] + both[1], key=lambda option: option[0])
    ),
    st.binary(max_size=40),
)


@given(messages)
@settings(deadline=None, max_examples=60)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    """Decoding an encoded message gives the same message."""
    assert decode(encode(message)) == message


@given(messages)
@settings(deadline=None, max_examples=60)
def test_aiocoap_reads_what_we_write(message: Message) -> None:
    """aiocoap finds in our datagram what we put in, and writes the same bytes."""
    theirs = aiocoap.Message.decode(encode(message))
    assert (int(theirs.mtype), int(theirs.code), theirs.mid) == (
        message.type,
        message.code,
        message.message_id,
    )
    assert (theirs.token, theirs.payload) == (message.token, message.payload)
    found = [(int(option.number), option.encode()) for option in theirs.opt.option_list()]
    assert found == list(message.options)
    theirs.direction = Direction.OUTGOING
    assert theirs.encode() == encode(message)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"\x44\x02\x00\x01" + tail))
@settings(deadline=None, max_examples=400)
def test_any_bytes_are_a_message_or_malformed(datagram: bytes) -> None:
    """Whatever arrives, decoding returns or raises MalformedMessage; what returns can be resent."""
    try:
        message = decode(datagram)
    except MalformedMessage:
        return
    assert decode(encode(message)) == message


@given(messages, st.data())
@settings(deadline=None, max_examples=80)
def test_a_damaged_message_breaks_nothing(message: Message, data: st.DataObject) -> None:
    """A flipped or missing byte gives another message or MalformedMessage; aiocoap agrees which."""
    damaged = bytearray(encode(message))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] = data.draw(st.integers(0, 255))
    datagram = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        ours = decode(datagram)
    except MalformedMessage:
        return
    try:
        theirs = aiocoap.Message.decode(datagram)
    except (aiocoap.error.UnparsableMessage, UnicodeDecodeError, ValueError):
        return
    assert (ours.code, ours.message_id, ours.token) == (theirs.code, theirs.mid, theirs.token)
    assert ours.payload == theirs.payload


@pytest.mark.parametrize(
    ("datagram", "type_", "message_id"),
    [
        (b"", None, None),
        (b"\x40\x01\x12", None, None),
        (b"\x00\x01\x12\x34", None, None),  # version 0
        (b"\xc0\x01\x12\x34", None, None),  # version 3
        (b"\x49\x01\x12\x34" + bytes(9), coap.CON, 0x1234),  # token length 9
        (b"\x5f\x01\x12\x34" + bytes(15), coap.NON, 0x1234),
        (b"\x44\x01\x12\x34abc", coap.CON, 0x1234),  # token cut short
        (b"\x40\x00\x12\x34\x00", coap.CON, 0x1234),  # empty, yet more
        (b"\x41\x00\x12\x34t", coap.CON, 0x1234),  # empty, yet a token
        (b"\x40\x01\x12\x34\xff", coap.CON, 0x1234),  # marker without payload
        (b"\x40\x01\x12\x34\xf0", coap.CON, 0x1234),  # delta 15
        (b"\x40\x01\x12\x34\x0f", coap.CON, 0x1234),  # length 15
        (b"\x40\x01\x12\x34\xd0", coap.CON, 0x1234),  # extension missing
        (b"\x40\x01\x12\x34\xe0\x01", coap.CON, 0x1234),
        (b"\x40\x01\x12\x34\xb3ap", coap.CON, 0x1234),  # value cut short
    ],
)
def test_malformed(datagram: bytes, type_: int | None, message_id: int | None) -> None:
    """Each format error of RFC 7252 section 3 is found, with what is needed to reject it."""
    with pytest.raises(MalformedMessage) as raised:
        decode(datagram)
    assert (raised.value.type, raised.value.message_id) == (type_, message_id)


@pytest.mark.parametrize("value", [0, 12, 13, 268, 269, 65535 + 269])
def test_the_edges_of_extended_fields(value: int) -> None:
    """Deltas and lengths on both sides of each form's limit survive."""
    message = Message(coap.CON, coap.GET, 1, b"", [(value, bytes(min(value, 1000)))])
    assert decode(encode(message)) == message


def test_what_cannot_be_written_is_refused() -> None:
    """A token or option beyond the format raises ValueError instead of going out wrong."""
    with pytest.raises(ValueError):
        encode(Message(coap.CON, coap.GET, 1, bytes(9)))
    with pytest.raises(ValueError):
        encode(Message(coap.CON, coap.GET, 1, b"", [(70000, b"")]))


def test_representations_hold_no_secret() -> None:
    """Neither a message nor an answer shows path, query, token or payload."""
    message = Message(coap.CON, coap.POST, 1, b"secret", [(coap.URI_PATH, b"secret")], b"secret")
    assert "secret" not in repr(message)
    assert "secret" not in repr(coap.Answer(coap.CREATED, b"", b"secret"))


def test_numbers_are_the_registry() -> None:
    """The plain integers are aiocoap's numbers."""
    assert coap.REQUEST_ENTITY_INCOMPLETE == Code.REQUEST_ENTITY_INCOMPLETE == 4 << 5 | 8
    assert coap.BLOCK1 == OptionNumber.BLOCK1 == 27
    assert type(coap.BLOCK1) is int


def test_decoding_is_quick() -> None:
    """A provisioning request is decoded in microseconds, not in tens of them."""
    datagram = (
        bytes.fromhex("48021234") + b"abcdefgh\xb3api\x02v1\x09provision\x11\x32\xff" + bytes(120)
    )
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(2000):
            decode(datagram)
        best = min(best, (time.perf_counter() - start) / 2000)
    assert best < 15e-6  # measured 1.6 µs; the margin is for a busy machine
