"""DTLS as bytes: every decoder takes anything, and what is written is what is read."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transports.coap import dtls_wire as wire
from gateway.transports.coap.dtls_cookies import Cookies

HERE = ("192.0.2.7", 50123)
SUITES = b"\xc0\x2b\xc0\xac"


def hello(
    cookie: bytes = b"", random: bytes = b"r" * 32, session: bytes = b"", sequence: int = 3
) -> bytes:
    body = b"\xfe\xfd" + random + bytes((len(session),)) + session + bytes((len(cookie),)) + cookie
    body += len(SUITES).to_bytes(2, "big") + SUITES + b"\x01\x00" + b"\x00\x00"
    return record(message(1, body), sequence=sequence)


def message(kind: int, body: bytes) -> bytes:
    size = len(body).to_bytes(3, "big")
    return bytes((kind,)) + size + b"\x00\x01" + b"\x00\x00\x00" + size + body


def record(body: bytes, kind: int = 22, epoch: int = 0, sequence: int = 0) -> bytes:
    number = epoch.to_bytes(2, "big") + sequence.to_bytes(6, "big")
    return bytes((kind,)) + b"\xfe\xfd" + number + len(body).to_bytes(2, "big") + body


def test_a_hello() -> None:
    """Random, cookie, parameters and number are found where they are."""
    found = wire.read_hello(hello(b"cookie", session=b"s" * 32))
    assert found is not None
    assert (found.random, found.cookie) == (b"r" * 32, b"cookie")
    assert found.parameters == b"\xfe\xfd" + b"r" * 32 + b"\x20" + b"s" * 32 + b"\x00\x04" + SUITES
    assert found.sequence == (3).to_bytes(8, "big")


def test_what_is_no_hello() -> None:
    """Another message, epoch, protocol, a fragment, a short one: None."""
    whole = hello()
    fragment = bytearray(whole)
    fragment[21] = 1
    shorter = bytearray(whole)
    shorter[24] -= 1
    tls = b"\x16\x03\x03" + whole[3:]
    later = record(whole[13:], epoch=1)
    for other in (b"", whole[:-1], whole[:40], bytes(fragment), bytes(shorter), tls, later):
        assert wire.read_hello(other) is None
    assert wire.read_hello(record(message(2, whole[25:]))) is None


@given(st.binary(max_size=200), st.integers(0, 120), st.binary(max_size=4))
@settings(deadline=None, max_examples=120)
def test_any_bytes(noise: bytes, at: int, patch: bytes) -> None:
    """No decoder raises, whatever comes, nor when something is nearly right."""
    whole = hello(b"c" * 16)
    for data in (noise, whole[:at] + patch + whole[at + len(patch) :], whole + noise):
        wire.read_hello(data)
        wire.is_hello(data)
        wire.psk_identity(data)
        wire.chosen_suite(data)
        wire.is_sealed(data)
        found = list(wire.records(data))
        assert all(end - start >= wire.HEADER for start, end in found)
        assert b"".join(wire.datagrams(data, 100)) == data[: found[-1][1] if found else 0]


@given(
    st.lists(st.binary(max_size=120), max_size=12),
    st.integers(min_value=64, max_value=300),
)
@settings(deadline=None, max_examples=80)
def test_flights_are_cut_between_records(bodies: list[bytes], mtu: int) -> None:
    """Nothing is lost, no record is cut, none waits that had room, none over the bound joins."""
    whole = [record(body) for body in bodies]
    cut = wire.datagrams(b"".join(whole), mtu)
    assert b"".join(cut) == b"".join(whole)
    for datagram in cut:
        parts = list(wire.records(datagram))
        assert parts[-1][1] == len(datagram)
        assert len(datagram) <= mtu or len(parts) == 1
    for one, following in itertools.pairwise(cut):
        first = next(wire.records(following))[1]
        assert len(one) + first > mtu


def test_a_verify_request() -> None:
    """It says 1.0, has the number of the hello's record, and is message 0 (RFC 6347, 4.2.1)."""
    found = wire.read_hello(hello(sequence=7))
    assert found is not None
    asked = wire.verify_request(found, b"0123456789abcdef")
    assert asked[:13] == b"\x16\xfe\xff" + (7).to_bytes(8, "big") + (31).to_bytes(2, "big")
    assert asked[13:25] == bytes.fromhex("030000130000000000000013")
    assert asked[25:] == b"\xfe\xff\x10" + b"0123456789abcdef"


def test_an_identity() -> None:
    """A ClientKeyExchange gives its identity, alone or among others; sealed or cut it does not."""
    exchange = message(16, b"\x00\x07meter-7")
    assert wire.psk_identity(record(exchange)) == b"meter-7"
    assert wire.psk_identity(record(message(11, b"\x00\x00\x00") + exchange)) == b"meter-7"
    assert wire.psk_identity(record(b"\x01", kind=20) + record(exchange)) == b"meter-7"
    assert wire.psk_identity(record(exchange + b"\x20" + b"p" * 32)) == b"meter-7"
    assert wire.psk_identity(record(message(16, b"\x00\x00"))) == b""
    assert wire.psk_identity(record(message(16, b"\x00\x09meter-7"))) is None
    assert wire.psk_identity(record(exchange, epoch=1)) is None


def test_a_chosen_suite() -> None:
    """The suite of a ServerHello, with or without a session id."""
    for session in (b"", b"s" * 32):
        body = b"\xfe\xfd" + b"r" * 32 + bytes((len(session),)) + session + b"\xc0\xa8\x00"
        assert wire.chosen_suite(record(message(2, body))) == 0xC0A8
    assert wire.chosen_suite(record(message(14, b""))) is None


def test_alerts() -> None:
    """A fatal alert or a close_notify ends an association, a warning does not."""
    assert wire.alert(48, bytes(8)) == bytes.fromhex("15fefd000000000000000000020230")
    assert wire.is_farewell(wire.farewell())
    assert wire.is_farewell(wire.farewell(wire.ACCESS_DENIED))
    assert not wire.is_farewell(b"\x01\x64")
    assert not wire.is_farewell(b"")


def test_cookies() -> None:
    """A cookie is one address's and one hello's, and outlives one change of the secret."""
    time = [0.0]
    cookies = Cookies(lambda: time[0], rotate_s=100)
    bare = wire.read_hello(hello())
    assert bare is not None
    made = cookies.make(bare, HERE)

    def known(cookie: bytes = made, addr: tuple[str, int] = HERE, **more: bytes) -> bool:
        brought = wire.read_hello(hello(cookie, **more))
        return brought is not None and cookies.knows(brought, addr)

    assert known()
    assert not known(addr=("192.0.2.7", 50124))
    assert not known(addr=("192.0.2.8", 50123))
    assert not known(random=b"q" * 32)
    assert not known(session=b"s")
    assert not known(made[:-1])
    assert not known(made[:-1] + bytes((made[-1] ^ 1,)))
    time[0] = 99
    cookies.rotate()
    assert known()
    time[0] = 100
    cookies.rotate()
    assert known()
    time[0] = 200
    cookies.rotate()
    assert not known()
