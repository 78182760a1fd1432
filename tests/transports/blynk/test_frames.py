"""The codec of Blynk's binary protocol, without a socket."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transports.blynk.frames import (
    MAX_BODY,
    BadFrame,
    Code,
    Command,
    Decoder,
    Frame,
    encode,
    encode_response,
)

MOST = 64

ids = st.integers(1, 0xFFFF)
commands = st.integers(1, 255)
bodies = st.binary(max_size=MOST)
messages = st.builds(Frame, commands, ids, bodies)
responses = st.builds(Frame, st.just(0), ids, st.just(b""), st.integers(0, 0xFFFF))


def written(frame: Frame) -> bytes:
    """By the contract, section 11, and not by what is tested."""
    length = frame.status if frame.command == 0 else len(frame.body)
    return struct.pack("!BHH", frame.command, frame.message_id, length) + frame.body


def taken(decoder: Decoder) -> list[Frame]:
    frames = []
    while (frame := decoder.take()) is not None:
        frames.append(frame)
    return frames


@given(st.lists(messages | responses, max_size=20), st.data())
def test_any_cutting_gives_the_same_frames(frames: list[Frame], data: st.DataObject) -> None:
    """However the bytes arrive, the frames that were sent come out, and nothing is left over."""
    stream = b"".join(map(written, frames))
    places = st.lists(st.integers(0, len(stream)), max_size=10)
    cuts = [0, *sorted(data.draw(places)), len(stream)]
    decoder = Decoder(MOST)
    found = []
    for begin, end in pairwise(cuts):
        decoder.feed(stream[begin:end])
        found += taken(decoder)
    assert found == frames
    assert decoder.waiting == 0


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_only_its_own_error_is_raised(pieces: list[bytes]) -> None:
    """Whatever bytes come: frames, or `BadFrame`, and that again at the next look."""
    decoder = Decoder(MOST)
    try:
        for piece in pieces:
            decoder.feed(piece)
            for frame in taken(decoder):
                assert frame.message_id
                assert len(frame.body) <= MOST
    except BadFrame:
        with pytest.raises(BadFrame):
            decoder.take()


@given(st.sampled_from(list(Command)[1:]), ids, bodies)
def test_what_is_written_is_read_again(command: Command, message_id: int, body: bytes) -> None:
    decoder = Decoder(MOST)
    decoder.feed(encode(command.name, message_id, body))
    frame = decoder.take()
    assert frame == Frame(command, message_id, body)
    assert frame is not None
    assert frame.name == command.name


@given(ids, st.integers(0, 0xFFFF))
def test_a_response_has_a_status_and_no_body(message_id: int, code: int) -> None:
    decoder = Decoder(MOST)
    decoder.feed(encode_response(message_id, code) + b"\x06")
    assert decoder.take() == Frame(0, message_id, status=code)
    assert decoder.waiting == 1


def test_a_message_id_of_0_is_none() -> None:
    """The contract has it so, whatever the command."""
    for command in range(256):
        decoder = Decoder(MOST)
        decoder.feed(bytes((command, 0, 0, 0, 0)))
        with pytest.raises(BadFrame) as raised:
            decoder.take()
        assert raised.value.message_id == 0


def test_too_large_a_body_is_refused_by_its_head() -> None:
    """Before any of it is here."""
    decoder = Decoder(MOST)
    decoder.feed(struct.pack("!BHH", 20, 7, MOST + 1))
    with pytest.raises(BadFrame) as raised:
        decoder.take()
    assert (raised.value.code, raised.value.message_id) == (Code.ILLEGAL_BODY, 7)


@pytest.mark.parametrize(
    ("command", "message_id", "size"),
    [("NONE", 1, 0), ("PING", 0, 0), ("PING", 65_536, 0), ("HARDWARE", 1, MAX_BODY + 1)],
)
def test_what_no_frame_can_say_is_not_written(command: str, message_id: int, size: int) -> None:
    with pytest.raises(ValueError, match="no such message"):
        encode(command, message_id, bytes(size))


def test_a_frame_does_not_show_its_body() -> None:
    """It may be a token."""
    frame = Frame(29, 1, b"secret-token")
    assert repr(frame) == "Frame(HW_LOGIN, 12 bytes)"
    assert repr(Frame(99, 1)) == "Frame(99, 0 bytes)"
