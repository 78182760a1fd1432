"""DTLS associations on loopback: cookies, handshakes, refusals, time, and who is whose."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import certs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from structlog.testing import capture_logs
from transports.coap.dtls_device import (
    DEVICE,
    FACTORY,
    KEY,
    Contexts,
    Core,
    Device,
    Gate,
    Pipe,
    until,
)

from gateway.core.errors import StoreUnavailable
from gateway.core.model import RefusalReason, Refused, Wire
from gateway.transports.coap import dtls_wire as wire
from gateway.transports.coap import message as coap
from gateway.transports.coap.dtls import Dtls
from gateway.wire.call import Format, Reply

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
async def make_gate(service) -> AsyncIterator[Callable[..., Any]]:
    gates: list[Gate] = []

    async def make(**bounds: Any) -> Gate:
        gate = Gate(service, **bounds)
        gates.append(gate)
        await gate.listener.start()
        return gate

    yield make
    for gate in gates:
        await gate.listener.stop(1)


@pytest.fixture
async def gate(make_gate) -> Gate:
    return await make_gate()


@pytest.fixture
def make_device() -> Iterator[Callable[..., Device]]:
    devices: list[Device] = []

    def make(gate: Gate, **options: Any) -> Device:
        devices.append(Device(gate.port, **options))
        return devices[-1]

    yield make
    for device in devices:
        device.close()


@pytest.fixture
def device(gate, make_device) -> Device:
    return make_device(gate)


# ── who it is ─────────────────────────────────────────────────────────────────────────────────


async def test_anonymous(gate, device, service) -> None:
    """A client that shows nothing is served, as nobody, by this wire's name."""
    await device.shake()
    answer = await device.ask(payload=b"hi")
    assert answer.code == coap.CHANGED
    (call,) = service.calls
    assert (call.body, call.identity) == (b"hi", None)
    assert (call.peer.wire, call.peer.address) == (Wire.COAPS, device.name)
    assert gate.core.chains == []


@pytest.mark.parametrize("sent", [False, True])
async def test_certificate(gate, make_device, service, sent: bool) -> None:
    """The core is shown the chain, leaf first and once; each call carries whom it vouched for."""
    device = make_device(gate, issued=DEVICE, chain=sent)
    await device.shake()
    await device.ask()
    await device.ask()
    assert gate.core.chains == [DEVICE.chain if sent else (DEVICE.der,)]
    assert [call.identity.device_id for call in service.calls] == [8, 8]
    assert gate.core.peers[0].address == device.name


@pytest.mark.parametrize("kind", ["P-384", "Ed25519", "RSA-2048"])
async def test_keys_of_other_kinds(gate, make_device, kind: str) -> None:
    """A device's key may be any that the core may take."""
    device = make_device(gate, issued=FACTORY.issue("other", key=kind))
    await device.shake()
    assert (await device.ask()).code == coap.CHANGED
    assert len(gate.core.chains) == 1


@pytest.mark.parametrize(
    "suite",
    [
        "PSK-AES128-CCM8",
        "PSK-AES128-CCM",
        "PSK-AES128-GCM-SHA256",
        "ECDHE-PSK-CHACHA20-POLY1305",
    ],
)
async def test_preshared_key(gate, make_device, service, suite: str) -> None:
    """A key the core knows makes its device known, by each suite for keys."""
    ciphers = f"{suite}:@SECLEVEL=0".encode()
    device = make_device(gate, psk=("meter-7", KEY), ciphers=ciphers)
    await device.shake()
    assert device.connection.get_cipher_name() == suite
    assert (await device.ask(payload=b"x" * 1000)).code == coap.CHANGED
    assert gate.core.named == ["meter-7"]
    assert service.calls[0].identity.device_id == 7


@pytest.mark.parametrize(
    "suite",
    [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-CCM",
        "ECDHE-ECDSA-AES128-CCM8",
    ],
)
async def test_every_suite(gate, make_device, service, suite: str) -> None:
    """Each suite that is offered carries requests and answers, long ones too."""
    device = make_device(gate, ciphers=f"{suite}:@SECLEVEL=0".encode())
    await device.shake()
    assert device.connection.get_cipher_name() == suite
    service.reply = Reply(b"y" * 1000, format=Format.JSON)
    for size in (0, 1, 15, 16, 17, 1000):
        assert (await device.ask(payload=b"x" * size)).payload == b"y" * 1000
    assert [len(call.body) for call in service.calls] == [0, 1, 15, 16, 17, 1000]


async def test_no_suite_in_common(gate, make_device) -> None:
    """A client that wants CBC hears handshake_failure, and leaves nothing."""
    device = make_device(gate, ciphers=b"ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    with pytest.raises(SSL.Error, match="handshake failure"):
        await device.shake()
    assert (gate.dtls.handshakes, gate.dtls.sessions) == (0, 0)


@pytest.mark.parametrize("identity", ["meter-8", "meter-7", "\udcff\udcfe", "é" * 100, ""])
async def test_a_wrong_key(gate, make_device, identity: str) -> None:
    """Who has another key hears decrypt_error, whether the identity is known or not."""
    device = make_device(gate, psk=(identity, b"z" * 32), ciphers=b"PSK:@SECLEVEL=0")
    with pytest.raises(SSL.Error, match="decrypt error"):
        await device.shake()
    assert (gate.dtls.handshakes, gate.dtls.sessions) == (0, 0)
    gate.pass_time(10)
    known = identity == "meter-7"
    assert gate.core.reports == [("wrong_psk" if known else "unknown_psk_identity", 1)]


@pytest.mark.parametrize(
    ("reason", "alert"),
    [
        (RefusalReason.EXPIRED_LEAF, "certificate expired"),
        (RefusalReason.UNKNOWN_CA, "unknown ca"),
        (RefusalReason.BAD_SIGNATURE, "bad certificate"),
        (RefusalReason.BAD_CHAIN, "bad certificate"),
        (RefusalReason.CREDENTIALS_REVOKED, "certificate revoked"),
        (RefusalReason.CN_MISMATCH, "certificate unknown"),
    ],
)
async def test_a_refusal(gate, make_device, reason: RefusalReason, alert: str) -> None:
    """Whom the core refuses never sees the handshake done, but an alert that says why."""
    gate.core.judgement = Refused(reason)
    device = make_device(gate, issued=DEVICE)
    with pytest.raises(SSL.Error, match=alert):
        await device.shake()
    assert (gate.dtls.handshakes, gate.dtls.sessions) == (0, 0)
    assert len(device.heard) == 3  # cookie, flight, alert
    assert gate.core.released == 0


async def test_oversized_chain(make_gate, make_device) -> None:
    """A chain over the bound is refused before the core sees it, and reported."""
    gate = await make_gate(max_chain_bytes=600)
    device = make_device(gate, issued=DEVICE, chain=True)
    with pytest.raises(SSL.Error, match="bad certificate"):
        await device.shake()
    assert gate.core.chains == []
    gate.pass_time(10)
    assert gate.core.reports == [("oversized_chain", 1)]


async def test_a_key_that_is_not_its_own(gate, make_device) -> None:
    """A stolen certificate without its key ends in an alert, and the core never hears of it."""
    device = make_device(gate, issued=DEVICE)
    last = bytearray(await device.last_words())
    for start, _ in wire.records(bytes(last)):
        if last[start + wire.HEADER] == 15 and last[start] == wire.HANDSHAKE:
            last[start + 60] ^= 1  # within the signature of CertificateVerify
            break
    else:
        pytest.fail("no CertificateVerify")
    device.transmit(bytes(last))
    device.connection.bio_write(await device.hear())
    with pytest.raises(SSL.Error):
        device.step()
    assert gate.core.chains == []
    assert gate.dtls.handshakes == 0


async def test_a_core_that_fails(gate, make_device, monkeypatch) -> None:
    """A core that raises while it decides leads to internal_error, not to a session."""

    async def broken(self: Core, *_: object) -> None:
        raise RuntimeError("no store")

    gate.dtls._handshakes._vouch = broken.__get__(gate.core)
    with pytest.raises(SSL.Error, match="internal error"):
        await make_device(gate, issued=DEVICE).shake()
    assert (gate.dtls.handshakes, gate.dtls.sessions) == (0, 0)


async def test_a_store_that_is_away(gate, make_device) -> None:
    """A store that cannot be asked is counted, not logged for each handshake."""

    async def away(*_: object) -> None:
        raise StoreUnavailable

    gate.dtls._handshakes._vouch = away
    with capture_logs() as lines, pytest.raises(SSL.Error, match="internal error"):
        await make_device(gate, issued=DEVICE).shake()
    assert (gate.dtls.handshakes, gate.dtls.sessions) == (0, 0)
    assert [line for line in lines if line["log_level"] != "debug"] == []
    gate.pass_time(10)
    assert gate.core.reports == [("undecided", 1)]


async def test_a_fault_of_ours(gate, make_device, monkeypatch) -> None:
    """What breaks in one handshake ends that one, and the next goes its way."""
    monkeypatch.setattr("gateway.transports.coap.dtls.Seal", None)
    for options in ({}, {"issued": DEVICE}):
        device = make_device(gate, **options)
        device.transmit(await device.last_words())
        await until(lambda: gate.dtls.handshakes == 0)
        assert gate.dtls.sessions == 0
    assert gate.core.released == 1
    monkeypatch.undo()
    device = make_device(gate)
    await device.shake()
    assert (await device.ask()).code == coap.CHANGED


async def test_nothing_is_served_while_the_core_decides(gate, make_device) -> None:
    """Our Finished waits for the core; the client's repetitions meanwhile change nothing."""
    gate.core.gate.clear()
    device = make_device(gate, issued=DEVICE)
    last = await device.last_words()
    device.transmit(last)
    await until(lambda: gate.core.chains)
    device.transmit(last)
    await device.silence()
    assert gate.dtls.sessions == 0
    gate.core.gate.set()
    await device.shake()
    assert (await device.ask()).code == coap.CHANGED
    assert len(gate.core.chains) == 1


# ── cuts and ends ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [{"issued": DEVICE}, {"psk": ("meter-7", KEY)}])
async def test_cut(gate, make_device, service, options) -> None:
    """A cut ends the association at once: an alert, no observation, nothing served any more."""
    device = make_device(gate, **options)
    await device.shake()
    assert (await device.ask(coap.GET, "watch", options=[(coap.OBSERVE, b"")])).code == coap.CONTENT
    gate.core.cuts[0]()
    with pytest.raises(SSL.Error, match="access denied"):
        await device.read()
    assert len(service.ended) == 1
    assert (gate.dtls.sessions, gate.core.released) == (0, 1)
    assert not service.observers[0].notify(Reply(b"late"))
    gate.core.cuts[0]()
    assert gate.core.released == 1


async def test_cut_while_the_core_decides(gate, make_device) -> None:
    """An identity that is gone before it was vouched for gets no session, and is let go of."""
    gate.core.gate.clear()
    device = make_device(gate, issued=DEVICE)
    device.transmit(await device.last_words())
    await until(lambda: gate.core.cuts)
    gate.core.cuts[0]()
    device.connection.bio_write(await device.hear())
    with pytest.raises(SSL.Error, match="access denied"):
        device.step()
    gate.core.gate.set()
    await asyncio.sleep(0.02)
    assert (gate.dtls.handshakes, gate.dtls.sessions) == (0, 0)


async def test_close_notify(gate, make_device, service) -> None:
    """A client that takes leave is answered in kind; its observations end, its identity is free."""
    device = make_device(gate, issued=DEVICE)
    await device.shake()
    await device.ask(coap.GET, "watch", options=[(coap.OBSERVE, b"")])
    device.connection.shutdown()
    device.flush()
    with pytest.raises(SSL.ZeroReturnError):
        await device.read()
    assert (gate.dtls.sessions, gate.core.released, len(service.ended)) == (0, 1, 1)


async def test_idle(make_gate, make_device) -> None:
    """A session silent for too long is closed, another that spoke is not."""
    gate = await make_gate(session_idle_s=60)
    silent, lively = make_device(gate), make_device(gate)
    await silent.shake()
    await lively.shake()
    gate.pass_time(40)
    await lively.ask()
    gate.pass_time(40)
    assert gate.dtls.sessions == 1
    with pytest.raises(SSL.ZeroReturnError):
        await silent.read()
    assert (await lively.ask()).code == coap.CHANGED


async def test_most_sessions(make_gate, make_device) -> None:
    """With no room for one more, the one that was silent longest goes."""
    gate = await make_gate(max_sessions=2)
    first, second, third = (make_device(gate) for _ in range(3))
    await first.shake()
    await second.shake()
    await first.ask()
    await third.shake()
    with pytest.raises(SSL.ZeroReturnError):
        await second.read()
    assert (await first.ask()).code == (await third.ask()).code == coap.CHANGED
    assert gate.dtls.sessions == 2


async def test_stopping(gate, make_device, service) -> None:
    """What was taken is answered, then everybody is taken leave of; hellos meet silence."""
    device, late = make_device(gate, issued=DEVICE), make_device(gate)
    await device.shake()
    service.gate.clear()
    device.post(device.request())
    await until(lambda: service.calls)
    stopping = asyncio.create_task(gate.listener.stop(5))
    await asyncio.sleep(0.02)
    late.step()
    await late.silence()
    service.gate.set()
    await stopping
    assert coap.decode(await device.read()).code == coap.CHANGED
    with pytest.raises(SSL.ZeroReturnError):
        await device.read()
    assert gate.core.released == 1


# ── one peer is not another ───────────────────────────────────────────────────────────────────


async def test_rebinding(gate, make_device, service) -> None:
    """A new handshake from an old address: the old association serves until the new one stands."""
    device = make_device(gate, issued=DEVICE)
    await device.shake()
    await device.ask(coap.GET, "watch", options=[(coap.OBSERVE, b"")])
    old = device.connection
    device.again(issued=None)
    await device.half_shake()
    assert (gate.dtls.sessions, gate.dtls.handshakes) == (1, 1)
    new, device.connection = device.connection, old
    assert (await device.ask()).code == coap.CHANGED
    assert service.calls[-1].identity.device_id == 8
    assert service.ended == []
    device.connection = new
    device.again()
    await device.shake()
    assert (gate.dtls.sessions, gate.dtls.handshakes) == (1, 0)
    assert (len(service.ended), gate.core.released) == (1, 1)
    assert (await device.ask()).code == coap.CHANGED
    assert service.calls[-1].identity is None


async def test_answers_of_old_are_not_the_new_ones(gate, device, service) -> None:
    """The same message id and token in a newer association is a new request."""
    await device.shake()
    service.reply = Reply(b"for the first", format=Format.JSON)
    first = await device.ask(message_id=9)
    service.reply = Reply(b"for the second", format=Format.JSON)
    assert (await device.ask(message_id=9)).payload == first.payload == b"for the first"
    device.again()
    await device.shake()
    assert (await device.ask(message_id=9)).payload == b"for the second"


async def test_half_a_body_is_not_the_new_ones(gate, device, service) -> None:
    """A newer association cannot end the body an older one began."""
    await device.shake()
    block = [(coap.BLOCK1, b"\x08")]
    assert (await device.ask(payload=b"a" * 16, options=block)).code == coap.CONTINUE
    device.again()
    await device.shake()
    answer = await device.ask(payload=b"b", options=[(coap.BLOCK1, b"\x10")])
    assert answer.code == coap.REQUEST_ENTITY_INCOMPLETE
    assert service.calls == []


async def test_an_answer_after_the_end(gate, device, service) -> None:
    """An answer that comes when its association is over goes nowhere, and breaks nothing."""
    await device.shake()
    service.gate.clear()
    device.post(device.request())
    await until(lambda: service.calls)
    device.again()
    await device.shake()
    service.gate.set()
    assert (await device.ask()).code == coap.CHANGED
    assert gate.listener.endpoint.under_way == 0


# ── cookies, floods ───────────────────────────────────────────────────────────────────────────


async def test_no_state_before_the_cookie(gate, make_device) -> None:
    """A hello without a cookie leaves nothing, and what it gets is smaller than itself."""
    device = make_device(gate)
    device.step()
    asked = await device.hear()
    assert len(asked) < len(device.sent[0])
    assert (asked[0], asked[wire.HEADER]) == (wire.HANDSHAKE, 3)
    assert (gate.dtls.handshakes, gate.dtls.sessions) == (0, 0)


async def test_spoofed_client_hello(gate, make_device) -> None:
    """A cookie taken along to another address is worth nothing there; floods are reported."""
    device, other = make_device(gate), make_device(gate)
    device.step()
    device.connection.bio_write(await device.hear())
    device.lose = lambda datagram: True
    device.step()
    other.transmit(device.sent[-1])
    asked = await other.hear()
    assert asked[wire.HEADER] == 3
    assert gate.dtls.handshakes == 0
    for _ in range(300):
        other.transmit(device.sent[0])
        await other.hear()
    assert (gate.dtls.handshakes, gate.dtls.sessions) == (0, 0)
    gate.pass_time(10)
    ((reason, count),) = gate.core.reports
    assert (reason, count) == ("spoofed_client_hello", 1 + 1 + 300)


async def test_an_old_cookie(gate, make_device) -> None:
    """A cookie is good for an hour at least, and not for three."""
    fresh, stale = make_device(gate), make_device(gate)
    for device in (fresh, stale):
        device.step()
        device.connection.bio_write(await device.hear())
    gate.pass_time(3600)
    await fresh.shake()
    gate.pass_time(3600)
    stale.step()
    assert (await stale.hear())[wire.HEADER] == 3
    assert gate.dtls.handshakes == 0


async def test_half_handshake_flood(make_gate, make_device) -> None:
    """Handshakes nobody finishes are bounded, make room after a while, and are reported."""
    gate = await make_gate(max_handshakes=5, handshake_timeout_s=8)
    halves = [make_device(gate) for _ in range(5)]
    for device in halves:
        await device.half_shake()
    assert gate.dtls.handshakes == 5
    real = make_device(gate)
    real.step()
    real.connection.bio_write(await real.hear())
    real.step()
    await real.silence()
    gate.pass_time(3)
    real.again()
    await real.shake()
    assert (await real.ask()).code == coap.CHANGED
    assert gate.dtls.handshakes == 4
    gate.pass_time(8)
    assert gate.dtls.handshakes == 0
    assert gate.core.reports == [("half_handshake_flood", 6)]


async def test_the_deadline_counts_the_core(make_gate, make_device) -> None:
    """A core that does not answer in time ends the handshake; what it says later is let go of."""
    gate = await make_gate(handshake_timeout_s=5)
    gate.core.gate.clear()
    device = make_device(gate, issued=DEVICE)
    device.transmit(await device.last_words())
    await until(lambda: gate.core.chains)
    gate.pass_time(5)
    assert (gate.dtls.handshakes, gate.dtls.sessions) == (0, 0)
    gate.pass_time(10)
    assert gate.core.reports == []


# ── what networks do ──────────────────────────────────────────────────────────────────────────


async def test_our_flight_lost(gate, device) -> None:
    """The server's first flight comes again after a second, when it was lost."""
    device.step()
    device.connection.bio_write(await device.hear())
    device.step()
    lost = await device.hear()
    again = await device.hear(2.5)
    assert again[wire.HEADER] == lost[wire.HEADER] == 2
    device.connection.bio_write(again)
    await device.shake()
    assert (await device.ask()).code == coap.CHANGED


@pytest.mark.parametrize("options", [{}, {"issued": DEVICE}, {"psk": ("meter-7", KEY)}])
async def test_our_finished_lost(gate, make_device, options) -> None:
    """When our Finished was lost the client says its own again, and gets the same one."""
    device = make_device(gate, **options)
    device.transmit(await device.last_words())
    lost = await device.hear()
    await device._hear_or_repeat()
    assert device.heard[-1:] == [lost] or (await device.hear()) == lost
    device.connection.bio_write(lost)
    await device.shake()
    assert (await device.ask()).code == coap.CHANGED
    assert len(gate.core.cuts) == bool(options)


@pytest.mark.parametrize("options", [{"issued": DEVICE}, {"psk": ("meter-7", KEY)}])
async def test_every_flight_lost_once(gate, make_device, options) -> None:
    """A client whose every datagram is lost the first time gets through by repeating."""
    device = make_device(gate, **options)
    device.lose = lambda datagram: len(device.sent) % 2 == 1
    await device.shake(15)
    device.lose = lambda datagram: False
    assert (await device.ask()).code == coap.CHANGED


@pytest.mark.parametrize("options", [{"issued": DEVICE}, {"psk": ("meter-7", KEY)}])
async def test_one_record_a_datagram(gate, make_device, options) -> None:
    """A flight that comes record by record is as good as one that comes in one piece."""
    device = make_device(gate, **options)
    last = await device.last_words()
    for start, end in wire.records(last):
        device.transmit(last[start:end])
    await device.shake()
    assert (await device.ask()).code == coap.CHANGED


async def test_a_hello_that_comes_again(gate, device) -> None:
    """A hello the network repeats, during the handshake or long after, begins nothing."""
    await device.shake()
    second = device.sent[1]
    for _ in range(3):
        device.transmit(second)
    await device.silence()
    assert (gate.dtls.sessions, gate.dtls.handshakes) == (1, 0)
    device.again()
    await device.half_shake()
    device.transmit(device.sent[-1])
    await device.silence()
    assert (gate.dtls.sessions, gate.dtls.handshakes) == (1, 1)


async def test_the_same_random_after_a_reset(gate, device) -> None:
    """A device that begins with the random numbers of last time is let in, beside what stands."""
    await device.shake()
    await device.ask()
    device.transmit(device.sent[1])
    await until(lambda: gate.dtls.handshakes)
    assert (await device.ask()).code == coap.CHANGED
    assert (gate.dtls.sessions, gate.dtls.handshakes) == (1, 1)


async def test_a_finished_before_its_key(gate, make_device) -> None:
    """A Finished that overtakes the message that names the key is no wrong key, however often."""
    device = make_device(gate, psk=("meter-7", KEY), ciphers=b"PSK:@SECLEVEL=0")
    flight = await device.last_words()
    named, *rest = (flight[start:end] for start, end in wire.records(flight))
    for _ in range(3):
        for record in rest:
            device.transmit(record)
    await device.silence()
    device.transmit(named)
    await device.shake()
    assert (await device.ask()).code == coap.CHANGED


async def test_one_that_talks_too_much(make_gate, make_device) -> None:
    """What one peer sends in its handshake is bounded, and stands in nobody else's way."""
    gate = await make_gate(max_handshakes=2)
    loud, other = make_device(gate), make_device(gate)
    await loud.half_shake()
    addr = loud.udp.getsockname()
    noise = b"\x16\xfe\xfd\x00\x01" + bytes(6) + (1400).to_bytes(2, "big") + bytes(1400)
    for _ in range(5000):
        gate.dtls.received(noise, addr)
    assert gate.dtls._handshakes.get(addr).inbox_bytes <= 49_152
    await other.shake(0.9)  # before anything is repeated
    assert (await other.ask()).code == coap.CHANGED


async def test_a_message_that_claims_too_much(gate, make_device) -> None:
    """No room is made for a message longer than any chain may be, were it but a byte of it."""
    device = make_device(gate)
    await device.half_shake()
    claim = b"\x0b" + (60_000).to_bytes(3, "big") + b"\0\x02" + b"\0\0\0" + b"\0\0\x01" + b"x"
    device.transmit(b"\x16\xfe\xfd" + bytes(7) + b"\x09" + len(claim).to_bytes(2, "big") + claim)
    await until(lambda: not gate.dtls.handshakes)
    gate.pass_time(10)
    assert gate.core.reports == [("oversized_chain", 1)]


async def test_one_network_keeps_nobody_out(make_gate, make_device) -> None:
    """When one address has taken all the room, its own make room for the others'."""
    gate = await make_gate(max_handshakes=4)
    for _ in range(4):
        await make_device(gate).half_shake()
    other = make_device(gate, source="127.0.0.2")
    await other.shake(0.9)
    assert (await other.ask()).code == coap.CHANGED
    assert gate.dtls.handshakes == 3


async def test_records_repeated_and_mixed(gate, device, service) -> None:
    """A record that comes again is dropped; several in one datagram, in any order, are all read."""
    await device.shake()
    records = []
    for number in range(4):
        device.connection.send(device.request(type_=coap.NON, message_id=100 + number))
        records.append(device.output())
    device.transmit(b"".join(reversed(records)))
    await until(lambda: len(service.calls) == 4)
    device.transmit(records[0])
    device.transmit(b"".join(records))
    await device.ask(token=b"last")
    assert len(service.calls) == 5
    assert gate.listener.endpoint.remembered == 5


async def test_mtu(make_gate, make_device) -> None:
    """No datagram of a handshake is longer than the bound, however long our certificate is."""
    gate = await make_gate(mtu=512)
    intermediate = certs.Authority("intermediate", parent=FACTORY, key="RSA-2048")
    long = intermediate.server(*(f"host-{n}.example" for n in range(40)), key="RSA-2048")
    gate.contexts.renew(long)
    device = make_device(gate)
    await device.shake()
    sizes = [len(datagram) for datagram in device.heard]
    assert max(sizes) <= 512
    assert sum(sizes) > 1500
    assert (await device.ask()).code == coap.CHANGED


async def test_rubbish_stops_nothing(gate, make_device) -> None:
    """Nonsense of every sort, before, within and after a handshake, disturbs nobody."""
    device = make_device(gate, issued=DEVICE)
    device.step()
    device.connection.bio_write(await device.hear())
    device.step()
    for length in range(48):
        device.transmit(os.urandom(length))
        for kind in (20, 21, 22, 23):
            device.transmit(bytes((kind,)) + b"\xfe\xfd" + os.urandom(length))
    device.connection.bio_write(await device.hear())
    await device.shake()
    for kind in (20, 21, 22, 23):
        for epoch in (0, 1, 2):
            body = os.urandom(40)
            head = bytes((kind,)) + b"\xfe\xfd" + epoch.to_bytes(2, "big") + bytes(6)
            device.transmit(head + len(body).to_bytes(2, "big") + body)
    device.transmit(wire.alert(wire.CLOSE_NOTIFY, bytes(8)))
    assert (await device.ask()).code == coap.CHANGED
    assert gate.dtls.sessions == 1


async def test_a_plain_client(gate, make_device) -> None:
    """CoAP without DTLS gets no answer."""
    device = make_device(gate)
    device.transmit(device.request())
    await device.silence()


async def test_a_client_that_gives_up(gate, make_device) -> None:
    """A client's alert in the middle of the handshake ends it at once."""
    device = make_device(gate)
    await device.half_shake()
    device.transmit(wire.alert(wire.UNKNOWN_CA, (9).to_bytes(8, "big")))
    await until(lambda: gate.dtls.handshakes == 0)


async def test_renegotiation(gate, device) -> None:
    """A client that wants to renegotiate is told that nobody does; its association stands."""
    await device.shake()
    await device.ask()
    device.connection.renegotiate()
    device.step()
    device.connection.bio_write(await device.hear())
    with pytest.raises(SSL.Error, match="no renegotiation"):
        device.step()
    assert (gate.dtls.sessions, gate.dtls.handshakes) == (1, 0)


async def test_hot_reload(gate, make_device) -> None:
    """After a change of certificate newcomers see the new one; old sessions go on."""
    old, new = make_device(gate), make_device(gate)
    await old.shake()
    renewed = FACTORY.server("renewed.example")
    gate.contexts.renew(renewed)
    await new.shake()
    shown = [one.connection.get_peer_certificate(as_cryptography=True) for one in (old, new)]
    assert shown[1] == renewed.certificate != shown[0]
    assert (await old.ask()).code == (await new.ask()).code == coap.CHANGED


async def test_many_at_once(gate, make_device) -> None:
    """Fifty handshakes at once all come to their end, and the loop is never held for long."""
    devices = [make_device(gate) for _ in range(50)]
    await asyncio.gather(*(device.shake(20) for device in devices))
    answers = await asyncio.gather(*(device.ask() for device in devices))
    assert {answer.code for answer in answers} == {coap.CHANGED}
    assert gate.dtls.sessions == 50


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["hello", "cookie", "last", "data"]),
            st.integers(0, 1200),
            st.binary(max_size=6),
        ),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=60)
def test_damaged_datagrams(damages: list[tuple[str, int, bytes]]) -> None:
    """Datagrams of a true client, damaged anywhere and sent in any order before the true ones,
    break nothing; the client gets through all the same."""
    asyncio.run(_through(damages))


async def _through(damages: list[tuple[str, int, bytes]]) -> None:
    sent: list[bytes] = []
    heard: list[bytes] = []
    core = Core()
    dtls = Dtls(Contexts(), vouch=core.vouch, keys=core)
    dtls.attach(
        lambda datagram, _: sent.append(datagram),
        lambda plain, _: heard.append(plain),
        lambda _: None,
    )
    client = Pipe(dtls, sent)
    with capture_logs() as logged:
        for stage in ("hello", "cookie", "last", "data"):
            datagram = client.next()
            for wanted, at, patch in damages:
                if wanted == stage:
                    dtls.received(datagram[:at] + patch + datagram[at + len(patch) :], client.addr)
                    await asyncio.sleep(0)
            await client.send(datagram)
    assert [entry for entry in logged if entry["log_level"] == "error"] == []
    # A damaged alert or ClientKeyExchange may end the handshake, as in any DTLS.
    assert heard in ([b"hi"], [])
    assert heard == [b"hi"] or damages
    dtls.close()
