"""Records under keys: as OpenSSL reads and writes them, each once, and nobody else's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transports.coap import dtls_psk
from gateway.transports.coap.dtls_reports import Refusals
from gateway.transports.coap.dtls_seal import KEY_SUITES, SUITES, Seal, Secrets

MASTER, CLIENT, SERVER = b"m" * 48, b"c" * 32, b"s" * 32
FINISHED = b"\x16\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x28" + b"\xff" * 7 + b"\xfe" + b"f" * 32


def pair(suite: str = "PSK-AES128-CCM8") -> tuple[Seal, Seal]:
    """Both ends: the second reads what the first writes, and the other way round."""
    near = Seal(Secrets(suite, MASTER, CLIENT, SERVER), FINISHED)
    far = Seal(Secrets(suite, MASTER, CLIENT, SERVER), FINISHED)
    far._in, far._out = far._out, far._in
    far._in_iv, far._out_iv = far._out_iv, far._in_iv
    return near, far


def read(seal: Seal, record: bytes) -> bytes | None:
    return seal.open(record, 0, len(record))


@pytest.mark.parametrize("suite", SUITES)
@given(plains=st.lists(st.binary(max_size=300), min_size=1, max_size=5))
@settings(deadline=None, max_examples=15)
def test_there_and_back(suite: str, plains: list[bytes]) -> None:
    """What one end seals the other opens, whatever it holds, once."""
    near, far = pair(suite)
    for plain in plains:
        record = near.seal(23, plain)
        assert plain not in record or len(plain) < 4
        assert read(far, record) == plain
        assert read(far, record) is None


@pytest.mark.parametrize("suite", SUITES)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(deadline=None, max_examples=40)
def test_a_changed_byte(suite: str, at: int, flip: int) -> None:
    """One byte changed anywhere, head or body, and the record is nobody's; the true one still is
    good afterwards."""
    near, far = pair(suite)
    record = near.seal(23, b"the level is 7")
    spoilt = bytearray(record)
    spoilt[at % len(record)] ^= flip
    # Its length is read by whoever cut the record out; all else is tied to the tag.
    if at % len(record) not in (11, 12):
        assert read(far, bytes(spoilt)) is None
    assert read(far, record) == b"the level is 7"


@given(noise=st.binary(max_size=80))
@settings(deadline=None, max_examples=80)
def test_any_bytes(noise: bytes) -> None:
    """Bytes of no origin are opened by nobody, and nothing is raised."""
    for suite in ("PSK-AES128-CCM8", "ECDHE-ECDSA-CHACHA20-POLY1305"):
        near, _ = pair(suite)
        assert read(near, noise) is None
        assert read(near, b"\x17\xfe\xfd\x00\x01" + noise) is None


@given(order=st.permutations(range(100)), again=st.lists(st.integers(0, 99), max_size=30))
@settings(deadline=None, max_examples=60)
def test_the_window(order: list[int], again: list[int]) -> None:
    """In any order: each at most once, and each that is within 64 of the newest (RFC 6347,
    section 4.1.2.6)."""
    near, far = pair()
    records = [near.seal(23, b"%d" % number) for number in range(100)]
    newest, seen = -1, set[int]()
    for number in [*order, *again]:
        opened = read(far, records[number])
        expected = number not in seen and newest - number < 64
        assert opened == (b"%d" % number if expected else None)
        if expected:
            seen.add(number)
            newest = max(newest, number)


def test_no_nonce_twice() -> None:
    """Explicit nonces go on from that of our Finished, over the end of 64 bits."""
    near, _ = pair("PSK-AES128-GCM-SHA256")
    nonces = [near.seal(23, b"")[13:21] for _ in range(5)]
    first = int.from_bytes(FINISHED[13:21], "big")
    assert [int.from_bytes(nonce, "big") for nonce in nonces] == [
        (first + number) % 2**64 for number in range(1, 6)
    ]


def test_numbers_go_on_from_our_finished() -> None:
    """The first record has the number after that of our Finished, so none is sealed twice."""
    later = FINISHED[:10] + b"\x05" + FINISHED[11:]
    near = Seal(Secrets("PSK-AES128-CCM8", MASTER, CLIENT, SERVER), b"\x14" + bytes(12) + later)
    assert near.seal(23, b"")[3:11] == (1 << 48 | 6).to_bytes(8, "big")


@pytest.mark.parametrize("flight", [b"", FINISHED[:20], b"\x16\xfe\xfd" + bytes(10)])
def test_a_flight_without_finished(flight: bytes) -> None:
    """Keys without knowing where OpenSSL left off are refused: a nonce might come twice."""
    with pytest.raises(ValueError, match="sealed"):
        Seal(Secrets("PSK-AES128-CCM8", MASTER, CLIENT, SERVER), flight)


def test_no_secret_is_shown() -> None:
    """What was agreed upon is not in a repr."""
    shown = repr(Secrets("PSK-AES128-CCM8", MASTER, CLIENT, SERVER))
    assert shown == "Secrets(PSK-AES128-CCM8)"


def test_suites_with_a_key_have_their_numbers() -> None:
    """As many numbers as names: one forgotten would never ask for its key."""
    assert len(KEY_SUITES) == sum("PSK" in name for name in SUITES)


def test_private_names_are_where_they_were() -> None:
    """What `dtls_psk` reaches for behind pyOpenSSL is there."""
    from OpenSSL import SSL

    assert callable(dtls_psk._lib.SSL_CTX_set_psk_server_callback)
    assert callable(dtls_psk._ffi.callback)
    assert callable(dtls_psk._ffi.memmove)
    context = SSL.Context(SSL.DTLS_SERVER_METHOD)
    assert dtls_psk._ffi.typeof(context._context).cname == "SSL_CTX *"
    dtls_psk.KeyAtHand().offer(context)
    dtls_psk.allow_no_weak_signatures(context)


def test_reports() -> None:
    """Each reason at most every ten seconds, counted; hellos that came back are no flood."""
    told: list[tuple[str, str, int]] = []
    refusals = Refusals(
        lambda reason, peer, count: told.append((reason, peer.address, count)), lambda: 0.0
    )
    for _ in range(3):
        refusals.count("half_handshake_flood", ("192.0.2.7", 5))
    refusals.tick(9.9)
    assert told == []
    refusals.tick(10)
    assert told == [("half_handshake_flood", "192.0.2.7:5", 3)]
    for _ in range(1000):
        refusals.asked_back(("192.0.2.7", 6))
    for _ in range(600):
        refusals.came_back()
    refusals.tick(20)
    assert len(told) == 1
    for _ in range(101):
        refusals.asked_back(("192.0.2.7", 6))
    refusals.tick(29)
    refusals.tick(30)
    assert told[1:] == [("spoofed_client_hello", "192.0.2.7:6", 101)]
