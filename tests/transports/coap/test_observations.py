"""Observations: registered, notified one at a time, and over in every way they can be."""

from __future__ import annotations

import pytest

from gateway.transports.coap import message as coap
from gateway.transports.coap.blocks import Block
from gateway.transports.coap.message import Message, Option, decode, encode
from gateway.wire.call import Format, Reply, Status

HERE = ("192.0.2.7", 50123)
THERE = ("192.0.2.8", 50123)
REGISTER = (coap.OBSERVE, b"")
CANCEL = (coap.OBSERVE, b"\x01")


def option(message: Message, number: int) -> bytes | None:
    return dict(message.options).get(number)


def body(number: int) -> Reply:
    return Reply(b'{"n":%d}' % number, format=Format.JSON)


def registration(
    desk, token: bytes = b"watch", *, type_: int = coap.CON, path: str = "watch", options=()
) -> bytes:
    return desk.request(coap.GET, path, type_=type_, token=token, options=[REGISTER, *options])


async def observe(desk, token: bytes = b"watch", *, type_: int = coap.CON, addr=HERE, **how):
    """Register, and return the observer the handler was given."""
    answer = await desk.ask(registration(desk, token, type_=type_, **how), addr)
    assert option(answer, coap.OBSERVE) == b""
    return desk.service.observers[-1]


def sent_since(desk, before: int) -> list[Message]:
    return [decode(datagram) for datagram, _ in desk.sent[before:]]


async def settle_with(desk, type_: int, message: Message, addr=HERE) -> list[Message]:
    """Answer a message of ours with an empty ACK or RST; what is sent upon it."""
    reply = encode(Message(type_, coap.EMPTY, message.message_id))
    return [decode(datagram) for datagram in await desk.put(reply, addr)]


# ── registration and notification ─────────────────────────────────────────────────────────────


async def test_a_registration_is_answered_with_observe_0(desk) -> None:
    """The response carries Observe 0 and the body; the observer knows address, port and token."""
    answer = await desk.ask(registration(desk, b"\x0a\x0b"))
    assert (answer.type, answer.code) == (coap.ACK, coap.CONTENT)
    assert answer.options == [REGISTER, (coap.CONTENT_FORMAT, b"\x32")]
    assert answer.payload == b'{"status":"SUCCESS"}'
    (observer,) = desk.service.observers
    assert observer.identity == "192.0.2.7:50123 0a0b"
    assert desk.endpoint.observations == 1


async def test_a_valid_registration(desk) -> None:
    """A route whose OK is 2.03 registers with an empty 2.03; its notifications are 2.05."""
    desk.service.reply = Reply()
    answer = await desk.ask(registration(desk, path="calls"))
    assert (answer.code, answer.options, answer.payload) == (67, [REGISTER], b"")
    assert desk.service.observers[0].notify(body(1))
    assert decode(desk.sent[-1][0]).code == coap.CONTENT


async def test_notifications_are_counted_and_go_one_at_a_time(desk) -> None:
    """CON notifications have Observe 1, 2, 3, the token, and wait for each other's ACK."""
    observer = await observe(desk)
    before, delivered = len(desk.sent), []
    for number in (1, 2, 3):
        assert observer.notify(body(number), lambda number=number: delivered.append(number))
    for number in (1, 2, 3):
        (notification,) = sent_since(desk, before)
        before += 1
        assert (notification.type, notification.code) == (coap.CON, coap.CONTENT)
        assert notification.options == [
            (coap.OBSERVE, bytes((number,))),
            (coap.CONTENT_FORMAT, b"\x32"),
        ]
        assert (notification.token, notification.payload) == (b"watch", b'{"n":%d}' % number)
        assert delivered == list(range(1, number))
        await settle_with(desk, coap.ACK, notification)
    assert delivered == [1, 2, 3]
    assert desk.endpoint.unacknowledged == 0


async def test_notifications_of_a_non_registration(desk) -> None:
    """Who registered with a NON gets NONs, all at once, delivered as they are sent."""
    observer = await observe(desk, type_=coap.NON)
    before, delivered = len(desk.sent), []
    for number in (1, 2, 3):
        assert observer.notify(body(number), lambda number=number: delivered.append(number))
    sent = sent_since(desk, before)
    assert [(m.type, option(m, coap.OBSERVE)) for m in sent] == [
        (coap.NON, bytes((number,))) for number in (1, 2, 3)
    ]
    assert len({m.message_id for m in sent}) == 3
    assert delivered == [1, 2, 3]


async def test_a_silent_peer_is_asked_for_an_acknowledgement(desk) -> None:
    """Who registered with a NON and was not heard of for 12 h gets a CON, and then NONs again."""
    observer = await observe(desk, type_=coap.NON)
    delivered: list[int] = []
    for seconds, type_ in ((43_000, coap.NON), (200, coap.CON), (0, coap.NON), (43_000, coap.NON)):
        await desk.pass_time(seconds)
        observer.notify(body(1), lambda: delivered.append(1))
        notification = decode(desk.sent[-1][0])
        assert notification.type == type_
        if type_ == coap.CON:
            assert delivered == [1]
            await settle_with(desk, coap.ACK, notification)
    assert delivered == [1] * 4
    await desk.pass_time(200)
    observer.notify(body(2))
    for seconds in (2, 4, 8, 16, 32):
        await desk.pass_time(seconds)
    assert desk.service.ended == [observer.identity]


async def test_one_delivery_may_cause_the_next(desk) -> None:
    """Notified again upon each delivery, a thousand times, it neither nests nor fails."""
    observer = await observe(desk, type_=coap.NON)
    left = [1000]

    def again() -> None:
        left[0] -= 1
        if left[0]:
            assert observer.notify(body(left[0]), again)

    observer.notify(body(0), again)
    for _ in range(20):
        if not left[0]:
            break
        desk.endpoint._observations._turn()
    assert left == [0]


async def test_the_number_goes_round(desk) -> None:
    """After 2^24 - 1 comes 0, as in RFC 7641 section 4.4."""
    observer = await observe(desk, type_=coap.NON)
    observer._number = 0xFFFFFE
    before = len(desk.sent)
    observer.notify(body(1))
    observer.notify(body(2))
    numbers = [option(m, coap.OBSERVE) for m in sent_since(desk, before)]
    assert numbers == [b"\xff\xff\xff", b""]


async def test_the_peers_own_format_labels_notifications(desk) -> None:
    """A Content-Format of the registration is that of its answer and its notifications."""
    observer = await observe(desk, options=[(coap.CONTENT_FORMAT, b"\x29")])
    observer.notify(body(1))
    observer_answer, notification = (decode(datagram) for datagram, _ in desk.sent)
    assert option(observer_answer, coap.CONTENT_FORMAT) == b"\x29"
    assert option(notification, coap.CONTENT_FORMAT) == b"\x29"


async def test_a_notification_is_repeated_until_acknowledged(desk) -> None:
    """A lost ACK: the same datagram again after 2 s and 4 s; delivered once, on the ACK."""
    observer = await observe(desk)
    delivered: list[int] = []
    observer.notify(body(1), lambda: delivered.append(1))
    notification = desk.sent[-1][0]
    assert await desk.pass_time(2) == [notification]
    assert await desk.pass_time(4) == [notification]
    for _ in range(2):
        await settle_with(desk, coap.ACK, decode(notification))
    assert delivered == [1]
    assert await desk.pass_time(8) == []


async def test_notifications_wait_for_the_registrations_answer(desk) -> None:
    """What is notified meanwhile follows the response, after its ACK if it was separate."""
    desk.service.gate.clear()
    await desk.put(registration(desk))
    await desk.pass_time(0.6)
    desk.service.gate.set()
    before = len(desk.sent)
    await desk.settle()
    (observer,) = desk.service.observers
    observer.notify(body(1))
    (answer,) = sent_since(desk, before)
    assert (answer.type, option(answer, coap.OBSERVE)) == (coap.CON, b"")
    (notification,) = await settle_with(desk, coap.ACK, answer)
    assert option(notification, coap.OBSERVE) == b"\x01"


async def test_a_handler_may_notify_before_it_answers(desk) -> None:
    """Notifications made while the registration is served are sent after its response, in order."""
    desk.service.first = lambda observer: observer.notify(body(1))
    sent = [decode(datagram) for datagram in await desk.put(registration(desk))]
    assert [option(message, coap.OBSERVE) for message in sent] == [b"", b"\x01"]


async def test_a_plain_get_is_no_observation(desk) -> None:
    """Without Observe, or with a value or method that means nothing, there is no observer."""
    for code, options in (
        (coap.GET, []),
        (coap.GET, [(coap.OBSERVE, b"\x02")]),
        (coap.POST, [REGISTER]),
    ):
        path = "watch" if code == coap.GET else "plain"
        answer = await desk.ask(desk.request(code, path, options=options))
        assert option(answer, coap.OBSERVE) is None
    assert [call.observer for call in desk.service.calls] == [None] * 3
    assert desk.endpoint.observations == 0


@pytest.mark.parametrize("path", ["plain", "nowhere"])
async def test_an_observation_not_accepted(desk, path: str) -> None:
    """A handler without `on_end`, or none at all: the response has no Observe, nothing is kept."""
    answer = await desk.ask(registration(desk, path=path))
    assert option(answer, coap.OBSERVE) is None
    assert desk.endpoint.observations == 0


async def test_a_refused_registration_is_not_kept(desk) -> None:
    """`on_end` on a reply that is not OK begins nothing and is never called."""
    desk.service.reply = Reply(status=Status.UNAUTHENTICATED)
    answer = await desk.ask(registration(desk))
    assert (answer.code, answer.options) == (coap.UNAUTHORIZED, [])
    assert (desk.endpoint.observations, desk.service.ended) == (0, [])
    assert not desk.service.observers[0].notify(body(1))


# ── the ends ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("type_", [coap.CON, coap.NON])
async def test_a_reset_ends_it(desk, type_: int) -> None:
    """RST to a notification, confirmable or not: `on_end` once, and no word to the peer."""
    observer = await observe(desk, type_=type_)
    observer.notify(body(1))
    observer.notify(body(2))
    notification = decode(desk.sent[-1][0])
    for _ in range(2):
        assert await settle_with(desk, coap.RST, notification) == []
    assert desk.service.ended == [observer.identity]
    assert not observer.notify(body(3))
    assert (desk.endpoint.observations, desk.endpoint.unacknowledged) == (0, 0)


async def test_a_reset_from_elsewhere_ends_nothing(desk) -> None:
    """Only the observer's own address can reset its notification."""
    observer = await observe(desk, type_=coap.NON)
    observer.notify(body(1))
    await settle_with(desk, coap.RST, decode(desk.sent[-1][0]), THERE)
    assert desk.service.ended == []


async def test_cancelling(desk) -> None:
    """Observe 1 with the token of an observation is answered 2.02 and ends it, handler unasked."""
    observer = await observe(desk)
    observer.notify(body(1))
    cancel = desk.request(coap.GET, "watch", token=b"watch", options=[CANCEL])
    answer = await desk.ask(cancel)
    assert (answer.type, answer.code, answer.options) == (coap.ACK, coap.DELETED, [])
    assert desk.service.ended == [observer.identity]
    assert len(desk.service.calls) == 1
    assert await desk.pass_time(2) == []  # its notification is not repeated
    assert await desk.put(cancel) == [desk.sent[-1][0]]


async def test_cancelling_what_is_not_observed(desk) -> None:
    """Observe 1 with an unknown token, or from another address, is a plain GET."""
    await observe(desk)
    cancel = desk.request(coap.GET, "watch", token=b"other", options=[CANCEL])
    assert (await desk.ask(cancel)).code == coap.CONTENT
    cancel = desk.request(coap.GET, "watch", token=b"watch", options=[CANCEL])
    assert (await desk.ask(cancel, THERE)).code == coap.CONTENT
    assert desk.service.ended == []
    assert desk.endpoint.observations == 1


async def test_silence_ends_it(desk) -> None:
    """A notification never acknowledged is given up after four repeats, and all with it."""
    observer = await observe(desk)
    observer.notify(body(1))
    for wait in (2, 4, 8, 16):
        assert len(await desk.pass_time(wait)) == 1
    assert desk.service.ended == []
    assert await desk.pass_time(32) == []
    assert desk.service.ended == [observer.identity]
    assert desk.endpoint.observations == 0


@pytest.mark.parametrize("type_", [coap.CON, coap.NON])
async def test_ending_it_from_here(desk, type_: int) -> None:
    """`end` sends a last 2.02 without Observe, CON or NON; `on_end` is not called."""
    observer = await observe(desk, type_=type_)
    observer.notify(body(1))
    observer.notify(body(2))
    before = len(desk.sent)
    observer.end()
    observer.end()
    (last,) = sent_since(desk, before)
    assert (last.type, last.code, last.token) == (type_, coap.DELETED, b"watch")
    assert (last.options, last.payload) == ([], b"")
    assert not observer.notify(body(3))
    repeated = await desk.pass_time(2)
    assert repeated == ([desk.sent[before][0]] if type_ == coap.CON else [])
    await settle_with(desk, coap.ACK, last)
    assert (desk.service.ended, desk.endpoint.observations) == ([], 0)
    assert desk.endpoint.unacknowledged == 0


async def test_ended_before_it_was_answered(desk) -> None:
    """Ended while the registration is served: its response has no Observe, and that is all."""
    desk.service.first = lambda observer: observer.end()
    answer = await desk.ask(registration(desk))
    assert (answer.code, option(answer, coap.OBSERVE)) == (coap.CONTENT, None)
    assert (desk.service.ended, desk.endpoint.observations) == ([], 0)


async def test_cancelled_before_it_was_answered(desk) -> None:
    """Cancelled while the registration is served: `on_end` is called as soon as it is accepted."""
    desk.service.gate.clear()
    await desk.put(registration(desk))
    cancel = desk.request(coap.GET, "watch", token=b"watch", options=[CANCEL])
    assert (await desk.ask(cancel)).code == coap.DELETED
    desk.service.gate.set()
    (answer,) = await desk.pass_time(0)
    assert option(decode(answer), coap.OBSERVE) is None
    assert desk.service.ended == [desk.service.observers[0].identity]
    assert desk.endpoint.observations == 0


# ── the same identity, and bounds ─────────────────────────────────────────────────────────────


async def test_a_repeated_registration_is_answered_once(desk) -> None:
    """The same datagram again gets the same bytes; the observation stands."""
    request = registration(desk)
    assert await desk.put(request) == await desk.put(request)
    assert (len(desk.service.observers), desk.service.ended) == (1, [])


async def test_a_new_registration_takes_the_place_of_the_old(desk) -> None:
    """Same address and token: the former's `on_end` is called, the new one begins at Observe 1."""
    former = await observe(desk)
    former.notify(body(1))
    before = len(desk.sent)
    latter = await observe(desk)
    assert desk.service.ended == [former.identity]
    assert desk.endpoint.observations == 1
    assert len(desk.sent) == before + 1  # its answer, and no farewell
    assert not former.notify(body(2))
    latter.notify(body(3))
    assert option(decode(desk.sent[-1][0]), coap.OBSERVE) == b"\x01"


async def test_observations_do_not_mix(desk) -> None:
    """Two tokens of one peer, and one token of two peers, are four observations."""
    for addr in (HERE, THERE):
        for token in (b"a", b"b"):
            await observe(desk, token, addr=addr)
    assert desk.endpoint.observations == 4
    before = len(desk.sent)
    for number, observer in enumerate(desk.service.observers):
        observer.notify(body(number))
    told = [(decode(datagram).token, addr) for datagram, addr in desk.sent[before:]]
    assert told == [(b"a", HERE), (b"b", HERE), (b"a", THERE), (b"b", THERE)]
    for message in sent_since(desk, before)[:1]:
        await settle_with(desk, coap.RST, message)
    assert desk.service.ended == ["192.0.2.7:50123 61"]


async def test_a_peers_message_ids_never_come_twice(desk) -> None:
    """However many other peers are notified between, one peer's ids run in sequence."""
    observers = [
        await observe(desk, type_=coap.NON, addr=("192.0.2.7", port)) for port in range(1, 9)
    ]
    before = len(desk.sent)
    for number in range(10):
        for observer in observers:
            observer.notify(body(number))
    ids = [decode(datagram).message_id for datagram, addr in desk.sent[before:] if addr[1] == 1]
    assert ids == [ids[0] + step & 0xFFFF for step in range(10)]


async def test_observations_are_bounded(make_desk) -> None:
    """Beyond `max_observations` a registration is 5.03 with Max-Age; a renewal is not."""
    desk = make_desk(max_observations=2)
    await observe(desk, b"a")
    await observe(desk, b"b")
    refused = await desk.ask(registration(desk, b"c"))
    assert (refused.code, refused.options) == (coap.SERVICE_UNAVAILABLE, [(coap.MAX_AGE, b"\x01")])
    await observe(desk, b"b")
    desk.service.observers[0].end()
    await observe(desk, b"c")
    assert desk.endpoint.observations == 2


async def test_waiting_notifications_are_bounded(make_desk) -> None:
    """One under way and `max_waiting` more; the next ends the observation and says False."""
    desk = make_desk(max_waiting=3)
    observer = await observe(desk)
    assert [observer.notify(body(number)) for number in range(6)] == [True] * 4 + [False] * 2
    assert desk.service.ended == [observer.identity]
    assert (desk.endpoint.observations, desk.endpoint.unacknowledged) == (0, 0)


async def test_a_burst_is_paced(make_desk) -> None:
    """Of a thousand notified at once a quarter goes out at once, the rest within 0.1 s."""
    desk = make_desk()
    for port in range(1000):
        await observe(desk, addr=("192.0.2.7", port))
    before = len(desk.sent)
    for observer in desk.service.observers:
        observer.notify(body(1))
    assert len(desk.sent) - before == 256
    for _ in range(3):
        desk.endpoint._observations._turn()
    assert len(desk.sent) - before == 1000
    assert [addr[1] for _, addr in desk.sent[before:]] == list(range(1000))


async def test_nothing_is_sent_into_a_full_socket(make_desk) -> None:
    """While the socket takes nothing, notifications wait in line and are not lost."""
    room = [True]
    desk = make_desk(writable=lambda: room[0])
    observer = await observe(desk)
    room[0] = False
    before = len(desk.sent)
    assert observer.notify(body(1))
    assert await desk.pass_time(3) == []
    room[0] = True
    desk.endpoint._observations._turn()
    assert len(sent_since(desk, before)) == 1


async def test_draining_tells_observers(desk) -> None:
    """At the end each observer hears 5.03 once, without Observe, and `on_end` is called."""
    await observe(desk)
    await observe(desk, addr=THERE)
    before = len(desk.sent)
    await desk.endpoint.drain(1)
    last = sent_since(desk, before)
    assert [(m.type, m.code, option(m, coap.OBSERVE)) for m in last] == [
        (coap.NON, coap.SERVICE_UNAVAILABLE, None)
    ] * 2
    assert len(desk.service.ended) == 2


# ── long notifications ────────────────────────────────────────────────────────────────────────


def block2(number: int, exponent: int) -> Option:
    return (coap.BLOCK2, Block(number, False, exponent).encode())


@pytest.mark.parametrize("exponent", [None, 2])
async def test_a_long_notification_is_begun_and_fetched(desk, exponent: int | None) -> None:
    """The first block comes with Observe and Block2; the others by GET without Observe."""
    asked = [] if exponent is None else [block2(0, exponent)]
    observer = await observe(desk, options=asked)
    whole = bytes(range(256)) * 9
    observer.notify(Reply(whole, format=Format.JSON))
    first = decode(desk.sent[-1][0])
    size = 1024 if exponent is None else 64
    exponent = size.bit_length() - 5
    assert option(first, coap.OBSERVE) == b"\x01"
    assert option(first, coap.BLOCK2) == Block(0, True, exponent).encode()
    assert option(first, coap.SIZE2) == b"\x09\x00"
    await settle_with(desk, coap.ACK, first)
    got, number = first.payload, 1
    while len(got) < len(whole):
        options = [block2(number, exponent)]
        later = await desk.ask(desk.request(coap.GET, "watch", token=b"tail", options=options))
        assert option(later, coap.OBSERVE) is None
        assert option(later, coap.ETAG) == option(first, coap.ETAG)
        got, number = got + later.payload, number + 1
    assert got == whole
    assert len(desk.service.calls) == 1


async def test_a_later_block_is_no_registration(desk) -> None:
    """Observe on a GET for a later block changes nothing: the observation stands as it was."""
    desk.service.reply = Reply(bytes(3000))
    observer = await observe(desk)
    later = await desk.ask(registration(desk, options=[block2(1, 6)]))
    assert (option(later, coap.OBSERVE), len(later.payload)) == (None, 1024)
    assert (desk.service.ended, len(desk.service.calls)) == ([], 1)
    assert observer.notify(body(1))


# ── peers that are gone ───────────────────────────────────────────────────────────────────────


async def test_a_peer_that_is_gone(desk) -> None:
    """All its observations end, nothing is sent it; those of others go on."""
    await observe(desk, b"one")
    await observe(desk, b"two")
    other = await observe(desk, b"one", addr=THERE)
    desk.service.observers[0].notify(body(1))
    before = len(desk.sent)
    desk.endpoint.forget(HERE)
    desk.endpoint.forget(HERE)
    assert desk.service.ended == ["192.0.2.7:50123 6f6e65", "192.0.2.7:50123 74776f"]
    assert (desk.endpoint.observations, desk.endpoint.unacknowledged) == (1, 0)
    assert await desk.pass_time(100) == []
    assert len(desk.sent) == before
    assert other.notify(body(2))
    await observe(desk, b"one")
    assert desk.endpoint.observations == 2
