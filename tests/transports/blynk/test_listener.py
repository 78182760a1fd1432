"""The listener on loopback: rules of the wire, and peers that are slow, silent or too loud."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from blynk_binary import (
    HARDWARE,
    HW_LOGIN,
    INTERNAL,
    LOGIN,
    PING,
    RESPONSE,
    Board,
    Said,
    board,
    frame,
)
from transports.stream_ground import Gates, started, until

from gateway.core.model import Wire
from gateway.transports.blynk import BlynkListener
from gateway.wire.call import Admitted, BadPayload, Call, Hello, Link, Rejected, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

OK, NOT_AUTHENTICATED, INVALID_TOKEN, ILLEGAL_BODY, SERVER_ERROR = 200, 5, 9, 11, 19


class Visitor:
    """A guest that notes what it is told."""

    link: Link

    def __init__(self) -> None:
        self.told: list[str] = []

    def opened(self, link: Link) -> None:
        self.link = link
        self.told.append("opened")

    def subscribed(self, topic_filter: str) -> None: ...

    def unsubscribed(self, topic_filter: str) -> None: ...

    def heard(self) -> None:
        self.told.append("heard")

    def closed(self) -> None:
        self.told.append("closed")


class House(Gates):
    """What the listener is plugged into here: admits all but `nobody`; HARDWARE waits at `gate`."""

    def __init__(self) -> None:
        super().__init__()
        self.hellos: list[Hello] = []
        self.visitors: list[Visitor] = []
        self.bodies: list[bytes] = []
        self.reply = Reply()
        self.options: dict[str, Any] = {}
        self.last: Admitted
        self.router = Router(
            [
                Route(name="hardware", handler=self.hardware, blynk=("HARDWARE",), quiet=True),
                Route(
                    name="internal",
                    handler=self.internal,
                    blynk=("INTERNAL",),
                    blynk_codes={Status.REFUSED: 21},
                ),
            ],
            Wire.BLYNK,
            Gauge(1000),
        )

    async def greet(self, hello: Hello) -> Admitted | Rejected:
        self.hellos.append(hello)
        await self.greeting.wait()
        if hello.password == b"broken":
            raise RuntimeError("no")
        if hello.password == b"nobody":
            return Rejected(INVALID_TOKEN, INVALID_TOKEN)
        self.visitors.append(Visitor())
        options = {"guest": self.visitors[-1], **self.options}
        self.last = Admitted("test", self.router, (), {}, **options)
        return self.last

    async def hardware(self, call: Call) -> Reply:
        await self.pass_gate()
        self.bodies.append(call.body)
        if call.body == b"?":
            raise BadPayload("unreadable")
        if call.body == b"!":
            raise RuntimeError("broken")
        return Reply()

    async def internal(self, call: Call) -> Reply:
        return self.reply


Start = Callable[..., Awaitable[BlynkListener]]


@pytest.fixture
async def house() -> House:
    return House()


@pytest.fixture
async def start(house: House) -> AsyncIterator[Start]:
    async with started(BlynkListener, house.greet) as start:
        yield start
        house.open_gates()


# ── the rules ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", [LOGIN, HW_LOGIN])
async def test_a_login(start: Start, house: House, command: int) -> None:
    """Its body is the password; it is answered with its own id, then all the rest is."""
    listener = await start()
    async with board(listener.port) as device:
        device.writer.write(frame(command, 77, "token"))
        assert await device.read() == Said(RESPONSE, 77, OK)
        assert await device.ask(PING) == OK
        assert await device.ask(HARDWARE, "vw", 1, 2) == OK
    (hello,) = house.hellos
    assert (hello.username, hello.password, hello.client_id) == ("device", b"token", "")
    assert hello.peer.wire is Wire.BLYNK
    assert house.bodies == [b"vw\x001\x002"]
    await until(lambda: house.visitors[0].told == ["opened", "heard", "closed"])


@pytest.mark.parametrize(("token", "status"), [("nobody", INVALID_TOKEN), ("broken", SERVER_ERROR)])
async def test_a_login_that_fails(start: Start, token: str, status: int) -> None:
    """The status of the RESPONSE says why, and the connection ends."""
    listener = await start()
    async with board(listener.port) as device:
        assert await device.login(token) == status
        assert await device.is_closed()


@pytest.mark.parametrize("command", [PING, HARDWARE, INTERNAL, 99])
async def test_a_login_comes_first(start: Start, house: House, command: int) -> None:
    listener = await start()
    async with board(listener.port) as device:
        assert await device.ask(command, "x") == NOT_AUTHENTICATED
        assert await device.is_closed()
    assert house.hellos == []


@pytest.mark.parametrize(
    ("body", "status"), [("?", ILLEGAL_BODY), ("!", SERVER_ERROR), ("fine", OK)]
)
async def test_how_a_call_ended_is_told(start: Start, body: str, status: int) -> None:
    listener = await start()
    async with board(listener.port) as device:
        await device.login("token")
        assert await device.ask(HARDWARE, body) == status
        assert await device.ask(99) == 2


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.OK, 200),
        (Status.REFUSED, 21),
        (Status.FORBIDDEN, 6),
        (Status.LIMITED, 1),
        (Status.OVERLOADED, 1),
        (Status.TIMEOUT, 16),
        (Status.INTERNAL, 19),
        (Status.NOT_FOUND, 2),
        (Status.UNAUTHENTICATED, 9),
    ],
)
async def test_statuses(start: Start, house: House, status: Status, code: int) -> None:
    """A route's own number stands above the table's."""
    listener = await start()
    house.reply = Reply(status=status)
    async with board(listener.port) as device:
        await device.login("token")
        assert await device.ask(INTERNAL) == code


async def test_every_status_has_a_number(start: Start, house: House) -> None:
    """Or is never answered."""
    listener = await start()
    async with board(listener.port) as device:
        await device.login("token")
        for status in set(Status) - {Status.IGNORED, Status.GONE}:
            house.reply = Reply(status=status)
            assert await device.ask(INTERNAL) > 0
        house.reply = Reply(status=Status.IGNORED)
        device.send(INTERNAL)
        assert await device.ask(PING) == OK


async def test_gone_credentials_end_the_session(start: Start, house: House) -> None:
    listener = await start()
    house.reply = Reply(status=Status.GONE)
    async with board(listener.port) as device:
        await device.login("token")
        assert await device.ask(INTERNAL) == INVALID_TOKEN
        assert await device.is_closed()


async def test_an_answer_may_be_a_command(start: Start, house: House) -> None:
    """It has the id of what asked for it."""
    listener = await start()
    house.reply = Reply(b"rtc\x0017", topic="INTERNAL")
    async with board(listener.port) as device:
        await device.login("token")
        number = device.send(INTERNAL, "rtc", "sync")
        assert await device.read() == Said(INTERNAL, number, ("rtc", "17"))


async def test_what_is_said_unasked(start: Start, house: House) -> None:
    """Ids of our own go round and are never 0; what no frame can hold is not sent."""
    listener = await start()
    async with board(listener.port) as device:
        await device.login("token")
        link = house.visitors[0].link
        link._last_id = 0xFFFE
        delivered: list[int] = []
        assert link.push("HARDWARE", b"vw\x001\x00a", lambda: delivered.append(1))
        assert link.push("HARDWARE", b"vw\x001\x00b")
        assert delivered == [1]
        assert not link.push("NONSENSE", b"")
        assert not link.push("HARDWARE", bytes(65_536))
        said = [await device.read() for _ in range(2)]
        assert [one.message_id for one in said] == [0xFFFF, 1]
        assert [one.body for one in said] == [("vw", "1", "a"), ("vw", "1", "b")]
        link.close(INVALID_TOKEN)
        assert (await device.read()).body == INVALID_TOKEN
        assert await device.is_closed()
        assert not link.push("HARDWARE", b"x")


async def test_a_response_of_the_device_is_a_sign_of_life_alone(start: Start) -> None:
    listener = await start()
    async with board(listener.port) as device:
        await device.login("token")
        device.writer.write(struct.pack("!BHH", RESPONSE, 1, 60_000))
        assert await device.ask(PING) == OK


async def test_calls_of_one_device_keep_their_order(start: Start, house: House) -> None:
    """One is under way at a time; what came meanwhile is served in turn, pings too."""
    listener = await start()
    async with board(listener.port) as device:
        await device.login("token")
        house.gate.clear()
        sent = [device.send(*one) for one in ((HARDWARE, "a"), (PING,), (HARDWARE, "b"))]
        await until(lambda: house.now == 1)
        house.gate.set()
        answers = [await device.read() for _ in sent]
        assert answers == [Said(RESPONSE, number, OK) for number in sent]
    assert house.bodies == [b"a", b"b"]
    assert house.most == 1


async def test_another_router_serves_from_the_next_frame_on(start: Start, house: House) -> None:
    """A dialect may replace it, and the device, while the session lasts."""
    listener = await start()
    async with board(listener.port) as device:
        await device.login("token")
        assert await device.ask(HARDWARE, "a") == OK
        house.last.router = Router([], Wire.BLYNK, Gauge(1))
        assert await device.ask(HARDWARE, "b") == 2


async def test_what_was_sent_before_hanging_up_is_served(start: Start, house: House) -> None:
    """A device may send and close its half at once."""
    listener = await start()
    async with board(listener.port) as device:
        device.send(HW_LOGIN, "token")
        for body in ("a", "b", "c"):
            device.send(HARDWARE, body)
        device.writer.write_eof()
        assert [(await device.read()).body for _ in range(4)] == [OK] * 4
        assert await device.is_closed()
    assert house.bodies == [b"a", b"b", b"c"]


# ── bad peers ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("logged_in", [True, False])
async def test_a_body_that_is_too_large(start: Start, logged_in: bool) -> None:
    """Is refused by its head alone: told 11, and the connection ends."""
    listener = await start(max_body=100)
    async with board(listener.port) as device:
        if logged_in:
            await device.login("token")
        device.writer.write(struct.pack("!BHH", HARDWARE, 9, 101))
        assert await device.read() == Said(RESPONSE, 9, ILLEGAL_BODY)
        assert await device.is_closed()


@pytest.mark.parametrize("bytes_", [struct.pack("!BHH", PING, 0, 0), struct.pack("!BHH", 0, 0, 0)])
async def test_a_message_id_of_0(start: Start, bytes_: bytes) -> None:
    """Cannot be answered: the connection ends."""
    listener = await start()
    async with board(listener.port) as device:
        await device.login("token")
        device.writer.write(bytes_)
        assert await device.is_closed()


async def test_another_protocol(start: Start) -> None:
    """A browser that comes by gets a few bytes and an end."""
    listener = await start()
    async with board(listener.port) as device:
        device.writer.write(b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n")
        assert (await device.read()).command == RESPONSE
        assert await device.is_closed()


async def test_no_login_in_time(start: Start) -> None:
    """Neither silence nor a byte now and then holds a place for long."""
    listener = await start(login_timeout_s=0.3)
    async with board(listener.port) as silent, board(listener.port) as slow:
        for byte in frame(HW_LOGIN, 1, "token-token-token")[:8]:
            if not slow.writer.is_closing():
                slow.writer.write(bytes((byte,)))
            await asyncio.sleep(0.1)
        assert await silent.is_closed()
        assert await slow.is_closed()
    await until(lambda: not listener._connections)


async def test_a_greeting_that_takes_too_long(start: Start, house: House) -> None:
    """Is given up: the device is told 19."""
    listener = await start(greet_timeout_s=0.2)
    house.greeting.clear()
    async with board(listener.port) as device:
        assert await device.login("token") == SERVER_ERROR
        assert await device.is_closed()
    assert house.visitors == []
    assert not listener.tasks


async def test_a_session_ends_when_it_is_silent(start: Start, house: House) -> None:
    """By the listener's time, or the dialect's, which it may change while the session lasts. Bytes
    that are no frame yet are no sign of life."""
    listener = await start(idle_s=0.4)
    async with board(listener.port) as first, board(listener.port) as second:
        await first.login("token")
        first.writer.write(b"\x14")
        house.options = {"idle_s": 60.0}
        await second.login("token")
        assert await first.is_closed()
        assert await second.ask(PING) == OK
        house.last.idle_s = 0.2
        assert await second.ask(HARDWARE, "x") == OK
        assert await second.is_closed()


async def test_a_session_that_speaks_is_kept(start: Start) -> None:
    listener = await start(idle_s=0.4)
    async with board(listener.port) as device:
        await device.login("token")
        for _ in range(10):
            await asyncio.sleep(0.1)
            assert await device.ask(PING) == OK


async def test_a_session_whose_call_is_under_way_is_not_silent(start: Start, house: House) -> None:
    """It waits for us."""
    listener = await start(idle_s=0.2)
    async with board(listener.port) as device:
        await device.login("token")
        house.gate.clear()
        device.send(HARDWARE, "x")
        await asyncio.sleep(0.6)
        house.gate.set()
        assert (await device.read()).body == OK


async def test_a_session_with_an_end(start: Start, house: House) -> None:
    """It comes whatever arrives, a flood of calls too."""
    listener = await start()
    house.options = {"lasts_s": 0.3}
    async with board(listener.port) as device:
        await device.login("token")
        async with asyncio.timeout(3):
            while house.visitors[0].told[-1] != "closed":
                if not device.writer.is_closing():
                    device.writer.write(frame(HARDWARE, 5, "x") * 100)
                await asyncio.sleep(0)
    assert len(house.bodies) > 100


async def test_there_is_room_for_so_many(start: Start) -> None:
    """One more is closed at once; when one has gone there is room again."""
    listener = await start(max_connections=2)
    async with board(listener.port) as first, board(listener.port) as second:
        assert await first.login("token") == OK
        assert await second.login("token") == OK
        async with board(listener.port) as third:
            assert await third.is_closed()
    await until(lambda: not listener._connections)
    async with board(listener.port) as again:
        assert await again.login("token") == OK


async def test_a_peer_that_reads_nothing_is_cut(start: Start, house: House) -> None:
    """When more waits for it than may."""
    listener = await start(max_write_buffer=16_384)
    async with board(listener.port) as device:
        await device.login("token")
        device.writer.transport.pause_reading()
        link = house.visitors[0].link
        for _ in range(2000):
            if not link.push("HARDWARE", bytes(60_000)):
                break
            await asyncio.sleep(0)
        assert house.visitors[0].told[-1] == "closed"


async def test_a_flood_is_left_in_the_peers_own_buffers(start: Start, house: House) -> None:
    """While a call is under way little more than a body is read; others are served meanwhile."""
    listener = await start(max_body=1000)
    house.gate.clear()
    async with board(listener.port) as loud, board(listener.port) as other:
        await loud.login("token")
        await other.login("token")
        loud.writer.transport.set_write_buffer_limits(high=0)
        sending = asyncio.create_task(_send_all(loud, frame(HARDWARE, 1, "x" * 900) * 20_000))
        await until(lambda: house.now == 1)
        await asyncio.sleep(0.2)
        (busy,) = (one for one in listener._connections if one._worker is not None)
        assert busy._decoder.waiting < 600_000
        assert not sending.done()
        assert await other.ask(PING) == OK
        sending.cancel()
        loud.writer.transport.abort()
        house.gate.set()


async def _send_all(device: Board, data: bytes) -> None:
    device.writer.write(data)
    await device.writer.drain()


async def test_a_flood_of_pings_leaves_others_their_turn(start: Start, house: House) -> None:
    """What came in one read is not served in one go."""
    listener = await start()
    async with board(listener.port) as loud, board(listener.port) as other:
        await loud.login("token")
        await other.login("token")
        loud.writer.write(frame(PING, 3) * 20_000)
        assert await other.ask(PING) == OK
        assert house.visitors[0].told.count("heard") < 2000
        got = 0
        while got < 20_000 * 5:
            got += len(await loud.reader.read(65_536))


def reset(device: Board) -> None:
    """Break the connection off, where closing would end it."""
    opened: socket.socket = device.writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    device.writer.transport.abort()


async def test_a_peer_that_resets(start: Start, house: House) -> None:
    """While its call is under way: the call is brought to its end, and nothing is left behind."""
    listener = await start()
    house.gate.clear()
    async with board(listener.port) as device:
        await device.login("token")
        device.send(HARDWARE, "x")
        await until(lambda: house.now == 1)
        reset(device)
    await until(lambda: not listener._connections)
    assert house.visitors[0].told[-1] == "closed"
    house.gate.set()
    await until(lambda: house.bodies == [b"x"] and not listener.tasks)


async def test_a_peer_that_leaves_while_it_is_greeted(start: Start, house: House) -> None:
    listener = await start()
    house.greeting.clear()
    async with board(listener.port) as device:
        device.send(HW_LOGIN, "token")
        await until(lambda: len(house.hellos) == 1)
        reset(device)
        await until(lambda: not listener._connections)
    assert not listener.tasks
    assert house.visitors == []


async def test_a_stop_answers_what_was_taken(start: Start, house: House) -> None:
    """What is under way is answered, what waits behind it is not begun, and all are closed."""
    listener = await start()
    async with board(listener.port) as device, board(listener.port) as idle:
        await device.login("token")
        await idle.login("token")
        house.gate.clear()
        first = device.send(HARDWARE, "a")
        device.send(HARDWARE, "b")
        await until(lambda: house.now == 1)
        stopping = asyncio.create_task(listener.stop(5.0))
        await asyncio.sleep(0.05)
        house.gate.set()
        assert await device.read() == Said(RESPONSE, first, OK)
        assert await device.is_closed()
        assert await idle.is_closed()
        await stopping
    assert house.bodies == [b"a"]
