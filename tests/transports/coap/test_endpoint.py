"""The message layer: once each, answered in time, within bounds."""

from __future__ import annotations

import asyncio

import pytest

from gateway.transports.coap import message as coap
from gateway.transports.coap.endpoint import describe
from gateway.transports.coap.message import Message, decode, encode
from gateway.wire.call import Reply, Status

THERE = ("192.0.2.8", 50123)


def empty(type_: int, message_id: int) -> bytes:
    return encode(Message(type_, coap.EMPTY, message_id))


# ── answers ───────────────────────────────────────────────────────────────────────────────────


async def test_a_quick_answer_rides_on_the_acknowledgement(desk) -> None:
    """A CON is answered by one ACK with its message id, its token and the response."""
    answer = await desk.ask(desk.request(message_id=77, token=b"\x01\x02", payload=b"{}"))

    assert (answer.type, answer.code, answer.message_id) == (coap.ACK, coap.CREATED, 77)
    assert (answer.token, answer.payload) == (b"\x01\x02", b'{"status":"SUCCESS"}')
    assert desk.service.calls[0].body == b"{}"
    assert desk.service.calls[0].peer.address == "192.0.2.7:50123"


async def test_a_non_is_answered_by_a_non(desk) -> None:
    """A NON gets a NON with the same token and a message id of ours, new each time."""
    first = await desk.ask(desk.request(type_=coap.NON, token=b"a"))
    second = await desk.ask(desk.request(type_=coap.NON, token=b"b"))

    assert (first.type, first.code, first.token) == (coap.NON, coap.CREATED, b"a")
    assert first.message_id != second.message_id


async def test_a_slow_answer_comes_separately(desk) -> None:
    """After 0.5 s the CON is acknowledged, and its answer follows as a CON of its own."""
    desk.service.gate.clear()
    assert await desk.put(desk.request(message_id=5, token=b"slow")) == []
    assert await desk.pass_time(0.4) == []
    assert await desk.pass_time(0.11) == [empty(coap.ACK, 5)]
    assert await desk.pass_time(1.0) == []

    desk.service.gate.set()
    (separate,) = await desk.pass_time(0)
    answer = decode(separate)
    assert (answer.type, answer.code, answer.token) == (coap.CON, coap.CREATED, b"slow")


async def test_a_slow_answer_to_a_non_is_a_non(desk) -> None:
    """A NON is never acknowledged; its late answer is a NON, sent once."""
    desk.service.gate.clear()
    await desk.put(desk.request(type_=coap.NON))
    assert await desk.pass_time(1.0) == []
    desk.service.gate.set()
    (late,) = await desk.pass_time(0)
    assert decode(late).type == coap.NON
    assert await desk.pass_time(10) == []


async def separate_answer(desk) -> bytes:
    desk.service.gate.clear()
    await desk.put(desk.request(message_id=5))
    await desk.pass_time(0.6)
    desk.service.gate.set()
    (separate,) = await desk.pass_time(0)
    return separate


async def test_a_separate_answer_is_repeated_until_given_up(desk) -> None:
    """Unacknowledged, it is sent again after 2, 4, 8 and 16 s, and then no more."""
    separate = await separate_answer(desk)
    for wait in (2, 4, 8, 16):
        assert await desk.pass_time(wait - 0.1) == []
        assert await desk.pass_time(0.1) == [separate]
    assert desk.endpoint.unacknowledged == 1
    assert await desk.pass_time(32) == []
    assert desk.endpoint.unacknowledged == 0


@pytest.mark.parametrize("type_", [coap.ACK, coap.RST])
async def test_acknowledged_or_reset_is_the_end_of_it(desk, type_: int) -> None:
    """An ACK or RST from the same peer stops the repeats; one from elsewhere does not."""
    separate = await separate_answer(desk)
    message_id = decode(separate).message_id
    await desk.put(empty(type_, message_id), THERE)
    assert await desk.pass_time(2) == [separate]
    await desk.put(empty(type_, message_id))
    assert await desk.pass_time(4) == []


async def test_separate_answers_waiting_are_bounded(make_desk) -> None:
    """Of more unacknowledged answers than allowed, the oldest is given up."""
    desk = make_desk(max_unacknowledged=2)
    desk.service.gate.clear()
    for token in (b"a", b"b", b"c"):
        await desk.put(desk.request(token=token))
    await desk.pass_time(0.6)
    desk.service.gate.set()
    assert len(await desk.pass_time(0)) == 3
    assert [decode(again).token for again in await desk.pass_time(2)] == [b"b", b"c"]


@pytest.mark.parametrize(("type_", "sent"), [(coap.CON, 1), (coap.NON, 0)])
async def test_a_call_may_be_ignored(desk, type_: int, sent: int) -> None:
    """IGNORED gets no response at all, also when repeated; a CON is acknowledged and no more."""
    desk.service.reply = Reply(b"unheard", status=Status.IGNORED)
    request = desk.request(type_=type_, message_id=6)
    for _ in range(2):
        assert await desk.put(request) == [empty(coap.ACK, 6)] * sent
    assert await desk.pass_time(5) == []
    assert len(desk.service.calls) == 1


async def test_a_slow_call_may_be_ignored(desk) -> None:
    """After the empty ACK of a slow call nothing more is sent, not even a second ACK."""
    desk.service.reply = Reply(status=Status.IGNORED)
    desk.service.gate.clear()
    await desk.put(desk.request(message_id=6))
    assert await desk.pass_time(0.6) == [empty(coap.ACK, 6)]
    desk.service.gate.set()
    assert await desk.pass_time(10) == []


# ── once each ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("type_", [coap.CON, coap.NON])
async def test_a_repeat_gets_the_same_bytes_and_is_not_served(desk, type_: int) -> None:
    """A device that lost the answer and asks again gets it byte for byte; the handler ran once."""
    request = desk.request(type_=type_)
    first = await desk.put(request)
    desk.service.reply = Reply(b"another")
    assert await desk.put(request) == first
    assert len(first) == len(desk.service.calls) == 1


async def test_a_repeat_of_a_refusal_is_remembered_too(desk) -> None:
    """An error answer is an answer: its repeat is byte for byte and not served again."""
    desk.service.reply = Reply(b'{"status":"NOT_FOUND"}', status=Status.REFUSED)
    request = desk.request()
    first = await desk.put(request)
    assert decode(first[0]).code == coap.BAD_REQUEST
    assert await desk.put(request) == first
    assert len(desk.service.calls) == 1


async def test_a_repeat_while_under_way_is_not_served(desk) -> None:
    """While the first is served, repeats get nothing, or the empty ACK once it was sent."""
    desk.service.gate.clear()
    request = desk.request(message_id=9)
    assert await desk.put(request) == []
    assert await desk.put(request) == []
    assert await desk.pass_time(0.6) == [empty(coap.ACK, 9)]
    assert await desk.put(request) == [empty(coap.ACK, 9)]
    desk.service.gate.set()
    assert len(await desk.pass_time(0)) == 1
    assert len(desk.service.calls) == 1


async def test_a_repeat_after_a_separate_answer(desk) -> None:
    """The repeat is acknowledged and gets the separate answer again, byte for byte."""
    separate = await separate_answer(desk)
    again = await desk.put(desk.request(message_id=5))
    assert again == [empty(coap.ACK, 5), separate]
    assert len(desk.service.calls) == 1


async def test_another_token_is_another_request(desk) -> None:
    """The same peer and message id with another token, even a longer one, is served anew."""
    for token in (b"one", b"two", b"", b"onetwo"):
        answer = await desk.ask(desk.request(message_id=3, token=token))
        assert answer.token == token
    assert len(desk.service.calls) == 4


async def test_another_peer_is_another_request(desk) -> None:
    """The same datagram from another port or address is served anew, and answered there."""
    request = desk.request(message_id=3)
    await desk.put(request)
    await desk.put(request, ("192.0.2.7", 50124))
    await desk.put(request, THERE)
    assert len(desk.service.calls) == 3
    assert [addr for _, addr in desk.sent][1:] == [("192.0.2.7", 50124), THERE]


@pytest.mark.parametrize(("type_", "lifetime"), [(coap.CON, 247), (coap.NON, 145)])
async def test_an_exchange_is_forgotten_after_its_lifetime(desk, type_: int, lifetime: int) -> None:
    """Remembered through its lifetime, forgotten soon after it."""
    request = desk.request(type_=type_)
    await desk.put(request)
    await desk.pass_time(0.1)
    for _ in range(lifetime):
        await desk.pass_time(1)
        if desk.time < 1000 + lifetime:
            await desk.put(request)
    assert len(desk.service.calls) == 1
    await desk.pass_time(1.1)
    assert desk.endpoint.remembered == 0
    await desk.put(request)
    assert len(desk.service.calls) == 2


async def test_exchanges_age_in_the_order_they_came(desk) -> None:
    """Of exchanges made over some time, exactly those past their lifetime are forgotten."""
    for n in range(20):
        await desk.put(desk.request(message_id=n))
        await desk.pass_time(10)
    await desk.pass_time(247 - 100)
    await desk.pass_time(0.1)
    assert desk.endpoint.remembered == 10
    await desk.put(desk.request(message_id=15))
    assert len(desk.service.calls) == 20


async def test_exchanges_are_bounded_by_count(make_desk) -> None:
    """Beyond `max_exchanges` the oldest is forgotten, CON and NON together, and nothing else."""
    desk = make_desk(max_exchanges=4)
    kinds = [coap.NON, coap.CON, coap.CON, coap.NON, coap.CON, coap.CON]
    requests = [desk.request(type_=kind) for kind in kinds]
    for request in requests:
        await desk.put(request)
        await desk.pass_time(2)
    assert desk.endpoint.remembered == 4
    for request in requests[2:]:
        await desk.put(request)
    assert len(desk.service.calls) == 6
    await desk.put(requests[0])
    assert len(desk.service.calls) == 7


async def test_a_burst_of_one_kind_is_bounded_too(make_desk) -> None:
    """The bound holds within one instant, before any clock tick, when all of them are NON."""
    desk = make_desk(max_exchanges=3)
    requests = [desk.request(type_=coap.NON) for _ in range(5)]
    for request in requests + requests[2:]:
        await desk.put(request)
    assert desk.endpoint.remembered == 3
    assert len(desk.service.calls) == 5


async def test_requests_under_way_are_bounded(make_desk) -> None:
    """Beyond `max_under_way` the answer is 5.03 with Max-Age 1, and a repeat may succeed later."""
    desk = make_desk(max_under_way=2)
    desk.service.gate.clear()
    await desk.put(desk.request())
    await desk.put(desk.request())
    third = desk.request()
    busy = await desk.ask(third)
    assert (busy.code, busy.options) == (coap.SERVICE_UNAVAILABLE, [(coap.MAX_AGE, b"\x01")])
    desk.service.gate.set()
    await desk.settle()
    assert (await desk.ask(third)).code == coap.CREATED


# ── what is no request ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("datagram", "answer"),
    [
        (b"\x40\x00\x12\x34", b"\x70\x00\x12\x34"),  # ping
        (b"\x50\x00\x12\x34", None),  # empty NON
        (b"\x60\x00\x12\x34", None),  # ACK of nothing
        (b"\x70\x00\x12\x34", None),  # RST of nothing
        (b"\x40\x45\x12\x34", b"\x70\x00\x12\x34"),  # a response nobody waits for
        (b"\x50\x45\x12\x34", None),
        (b"\x60\x45\x12\x34", None),
        (b"\x40\xe1\x12\x34", b"\x70\x00\x12\x34"),  # signalling, for TCP only
        (b"\x40\x21\x12\x34", b"\x70\x00\x12\x34"),  # reserved class 1
        (b"\x60\x02\x12\x34", None),  # a request on an ACK
        (b"\x70\x02\x12\x34", None),
        (b"\x40\x02\x12\x34\xff", b"\x70\x00\x12\x34"),  # malformed CON
        (b"\x50\x02\x12\x34\xff", None),
        (b"\x60\x02\x12\x34\xff", None),
        (b"\x80\x02\x12\x34", None),  # version 2
        (b"\x40\x02", None),
        (b"", None),
    ],
)
async def test_what_is_no_request(desk, datagram: bytes, answer: bytes | None) -> None:
    """Rejected with a RST if it is confirmable, ignored if not; nothing is ever processed."""
    assert await desk.put(datagram) == ([] if answer is None else [answer])
    assert desk.service.calls == []


async def test_an_unknown_critical_option(desk) -> None:
    """A CON with an option we must understand and do not is 4.02; a NON is rejected."""
    for number in (1, 5, 9, 13, 19, 21, 31, 65001):  # If-Match, If-None-Match, OSCORE …
        options = [(number, b"")]
        assert (await desk.ask(desk.request(options=options))).code == coap.BAD_OPTION
        unanswered = desk.request(type_=coap.NON, message_id=8, options=options)
        assert await desk.put(unanswered) == [empty(coap.RST, 8)]
    assert desk.service.calls == []


async def test_damage_is_answered_by_little(desk) -> None:
    """Each single-byte change of a request is answered by at most one datagram, without a crash."""
    request = desk.request(payload=b"{}")
    for position in range(len(request)):
        for value in (0x00, 0x0F, 0x7F, 0xFF):
            damaged = request[:position] + bytes((value,)) + request[position + 1 :]
            assert len(await desk.put(damaged)) <= 1


# ── the end, and names ────────────────────────────────────────────────────────────────────────


async def test_draining_answers_what_was_taken(desk) -> None:
    """Draining waits for requests under way, ignores new ones, and still repeats old answers."""
    done = desk.request()
    (old_answer,) = await desk.put(done)
    desk.service.gate.clear()
    await desk.put(desk.request(token=b"taken"))
    draining = asyncio.create_task(desk.endpoint.drain(5))
    await desk.settle()
    assert await desk.put(desk.request(token=b"late")) == []
    assert await desk.put(done) == [old_answer]
    assert not draining.done()
    desk.service.gate.set()
    await draining
    assert decode(desk.sent[-1][0]).token == b"taken"


async def test_draining_waits_for_the_acknowledgement(desk) -> None:
    """A separate answer under way holds the end back until the peer has it."""
    separate = await separate_answer(desk)
    draining = asyncio.create_task(desk.endpoint.drain(5))
    await desk.settle()
    assert not draining.done()
    await desk.put(empty(coap.ACK, decode(separate).message_id))
    await asyncio.wait_for(draining, 1)


async def test_draining_gives_up(desk) -> None:
    """What is not done in time is cancelled and answered 5.00, so nothing hangs."""
    desk.service.gate.clear()
    await desk.put(desk.request(token=b"stuck"))
    await desk.endpoint.drain(0.01)
    answer = decode(desk.sent[-1][0])
    assert (answer.code, answer.token) == (coap.INTERNAL_SERVER_ERROR, b"stuck")
    assert desk.endpoint.under_way == 0


@pytest.mark.parametrize(
    ("addr", "text"),
    [
        (("192.0.2.7", 5), "192.0.2.7:5"),
        (("2001:db8::7", 5, 0, 0), "[2001:db8::7]:5"),
        (("::ffff:192.0.2.7", 5, 0, 0), "192.0.2.7:5"),
    ],
)
def test_addresses_as_text(addr: tuple[object, ...], text: str) -> None:
    """Peers are named as everywhere else in the product."""
    assert describe(addr) == text
