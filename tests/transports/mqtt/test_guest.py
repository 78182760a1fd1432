"""A session with a guest, on loopback: what it is told, what it may say, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from transports.mqtt.raw_client import Client
from transports.stream_ground import Gates, started, until

from gateway.core.model import Wire
from gateway.transports.mqtt import packets
from gateway.transports.mqtt.encoder import (
    encode_ack,
    encode_connect,
    encode_disconnect,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
)
from gateway.transports.mqtt.listener import MqttListener
from gateway.transports.mqtt.packets import (
    Ack,
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
from gateway.wire.call import Admitted, Call, Conduct, Hello, Link, Rejected, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

UPDATES, CALLS = "v1/devices/me/attributes", "v1/devices/me/rpc/request/+"


class Visitor:
    """A guest that notes what it is told, and may say something in return."""

    link: Link

    def __init__(self) -> None:
        self.told: list[str] = []
        self.then: dict[str, Callable[[Link], Any]] = {}

    def _note(self, what: str) -> None:
        self.told.append(what)
        if what in self.then:
            self.then[what](self.link)

    def opened(self, link: Link) -> None:
        self.link = link
        self._note("opened")

    def subscribed(self, topic_filter: str) -> None:
        self._note(f"subscribed {topic_filter}")

    def unsubscribed(self, topic_filter: str) -> None:
        self._note(f"unsubscribed {topic_filter}")

    def heard(self) -> None:
        self._note("heard")

    def closed(self) -> None:
        self._note("closed")


class House(Gates):
    """Admits everybody with the next of `visitors`; one route answers with what `reply` says."""

    def __init__(self) -> None:
        super().__init__()
        self.visitors: list[Visitor] = []
        self.then: dict[str, Callable[[Link], Any]] = {}
        self.reply = Reply(b"answer")
        self.calls: list[Call] = []
        self.takes = False
        self.last: Admitted
        self.options: dict[str, Any] = {}

    def router(self, name: str = "ask", **route: Any) -> Router:
        asked = Route(name=name, handler=self.answer, mqtt=(name, f"{name}/{{id}}"), **route)
        return Router([asked], Wire.MQTT, Gauge(1000))

    async def greet(self, _hello: Hello) -> Admitted | Rejected:
        visitor = Visitor()
        visitor.then = self.then
        self.visitors.append(visitor)
        await self.greeting.wait()
        options = {"router": self.router(mqtt_reply="reply"), "guest": visitor, **self.options}
        self.last = Admitted("device", filters=frozenset({UPDATES, CALLS}), conduct={}, **options)
        return self.last

    async def answer(self, call: Call) -> Reply:
        self.calls.append(call)
        if self.takes and call.taken is not None:
            call.taken()
        await self.gate.wait()
        return self.reply


Start = Callable[..., Awaitable[MqttListener]]


@pytest.fixture
async def house() -> House:
    return House()


@pytest.fixture
async def start(house: House) -> AsyncIterator[Start]:
    async with started(MqttListener, house.greet) as start:
        yield start
        house.open_gates()


# ── what a guest is told ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_a_guest_is_told_what_happens(start: Start, house: House, version: int) -> None:
    """Opened, granted filters, filters left, pings, the end: each once, in order."""
    listener = await start()
    async with Client(listener.port, version) as client:
        await client.connect()
        asked = ((UPDATES, 1), ("#", 1), (CALLS, 0), (UPDATES, 0))
        client.send(encode_subscribe(Subscribe(1, asked), version))
        client.send(packets.PINGREQ)
        client.send(encode_unsubscribe(Unsubscribe(2, (UPDATES, UPDATES, "#")), version))
        client.send(encode_subscribe(Subscribe(3, ((CALLS, 1),)), version))
        client.send(encode_disconnect(0, version))
        while await client.read() is not None:
            pass
    (visitor,) = house.visitors
    assert visitor.told == [
        "opened",
        f"subscribed {UPDATES}",
        f"subscribed {CALLS}",
        "heard",
        f"unsubscribed {UPDATES}",
        f"subscribed {CALLS}",
        "closed",
    ]
    assert visitor.link.version == version


async def test_what_a_guest_says_comes_after_what_it_answers(start: Start, house: House) -> None:
    """CONNACK, then what is pushed on `opened`; SUBACK, then on `subscribed`; and so on."""
    says = {
        "opened": b"hello",
        f"subscribed {UPDATES}": b"state",
        "heard": b"alive",
        f"unsubscribed {UPDATES}": b"gone",
    }
    for what, body in says.items():
        house.then[what] = lambda link, body=body: link.push("x", body)
    listener = await start()
    async with Client(listener.port, 5) as client:
        assert isinstance(await client.connect(), Connack)
        client.send(encode_subscribe(Subscribe(1, ((UPDATES, 1),)), 5), packets.PINGREQ)
        client.send(encode_unsubscribe(Unsubscribe(2, (UPDATES,)), 5))
        assert [await client.read() for _ in range(7)] == [
            Publish("x", b"hello", 1, 1),
            Suback(1, (1,)),
            Publish("x", b"state", 1, 2),
            Ping(),
            Publish("x", b"alive", 1, 3),
            Unsuback(2, (0,)),
            Publish("x", b"gone", 1, 4),
        ]


async def _says_goodbye(client: Client, _listener: MqttListener, _visitor: Visitor) -> None:
    client.send(encode_disconnect(0, 5))


async def _vanishes(client: Client, _listener: MqttListener, _visitor: Visitor) -> None:
    client.writer.transport.abort()


async def _breaks_the_protocol(client: Client, _listener: MqttListener, _v: Visitor) -> None:
    client.send(b"\x30\x01\x00")


async def _is_displaced(_client: Client, _listener: MqttListener, visitor: Visitor) -> None:
    visitor.link.close(0x8E)
    visitor.link.close(0x98)


async def _is_idle(_client: Client, _listener: MqttListener, _visitor: Visitor) -> None:
    pass


async def _sees_the_server_stop(_c: Client, listener: MqttListener, _visitor: Visitor) -> None:
    await listener.stop(1.0)


async def _is_cut(_client: Client, listener: MqttListener, _visitor: Visitor) -> None:
    for connection in listener._connections:
        connection.cut()


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (_says_goodbye, None),
        (_vanishes, None),
        (_breaks_the_protocol, Disconnect(0x81)),
        (_is_displaced, Disconnect(0x8E)),
        (_is_idle, Disconnect(0xA0)),
        (_sees_the_server_stop, Disconnect(0x8B)),
        (_is_cut, None),
    ],
)
async def test_a_session_ends_once(
    start: Start, house: House, ends: Callable[..., Awaitable[None]], told: Packet | None
) -> None:
    """However a session ends, `closed` is called once, and the link takes nothing more."""
    house.options = {"idle_s": 0.3}
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect()
        (visitor,) = house.visitors
        await ends(client, listener, visitor)
        await until(lambda: visitor.told[-1] == "closed")
        assert visitor.link.push("x", b"late") is False
        if ends is not _vanishes:
            assert await client.read() == told
            if told is not None:
                assert await client.closed()
        await until(lambda: not listener._connections)
        visitor.link.close(0x98)
        assert visitor.link.push("x", b"late") is False
    assert visitor.told == ["opened", "closed"]


async def test_displacement_is_told_before_close_returns(start: Start, house: House) -> None:
    """`closed` has been called when `Link.close` returns, so the seat is free at once."""
    listener = await start()
    async with Client(listener.port) as client:
        await client.connect()
        (visitor,) = house.visitors
        visitor.link.close(0x8E)
        assert visitor.told == ["opened", "closed"]
        assert await client.closed()


async def test_a_guest_that_never_came_does_not_leave(start: Start, house: House) -> None:
    """A client gone before CONNACK: neither `opened` nor `closed`."""
    house.greeting.clear()
    listener = await start()
    async with Client(listener.port) as client:
        connecting = asyncio.create_task(client.connect())
        await until(lambda: bool(house.visitors))
        connecting.cancel()
    await until(lambda: not listener._connections)
    house.greeting.set()
    await asyncio.sleep(0)
    assert house.visitors[0].told == []


async def test_a_guest_may_leave_as_soon_as_it_came(start: Start, house: House) -> None:
    """Closed from within `opened`: CONNACK, DISCONNECT, and what the client sent is not served."""
    house.then["opened"] = lambda link: link.close(0x98, "administrative")
    listener = await start()
    async with Client(listener.port, 5) as client:
        client.send(encode_connect(Connect("c", 5)), encode_publish(b"ask", b"x", 1, 7, 5))
        assert isinstance(await client.read(), Connack)
        assert await client.read() == Disconnect(0x98, {0x1F: "administrative"})
        assert await client.closed()
    assert house.visitors[-1].told == ["opened", "closed"]
    assert house.calls == []


async def test_calls_know_the_guest(start: Start, house: House) -> None:
    """Each call of the session carries the guest the dialect gave it."""
    listener = await start()
    async with Client(listener.port) as client:
        await client.connect()
        client.publish(b"x", topic="ask")
        assert await client.read() == Ack(packets.PUBACK, 7)
    assert house.calls[0].guest is house.visitors[0]


async def test_pings_keep_an_idle_session(start: Start, house: House) -> None:
    """PINGREQ counts as heard: no 0xA0 while they come, and 0xA0 once they do not."""
    house.options = {"idle_s": 0.4}
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect()
        for _ in range(4):
            await asyncio.sleep(0.2)
            client.send(packets.PINGREQ)
            assert await client.read() == Ping()
        assert await client.read() == Disconnect(0xA0)
    assert house.visitors[0].told == ["opened", *["heard"] * 4, "closed"]


# ── what a guest may say ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_a_push_goes_out_as_it_was_subscribed(
    start: Start, house: House, version: int
) -> None:
    """QoS 0 is delivered at once, QoS 1 when the PUBACK came; without a subscription it is 1."""
    listener = await start()
    told: list[str] = []
    async with Client(listener.port, version) as client:
        await client.connect()
        asked = ((UPDATES, 0), (CALLS, 1))
        client.send(encode_subscribe(Subscribe(1, asked), version))
        await client.read()
        link = house.visitors[0].link
        assert link.push(UPDATES, b"{}", lambda: told.append("update"))
        assert told == ["update"]
        assert link.push("v1/devices/me/rpc/request/0", b"0", lambda: told.append("call"))
        assert link.push("nobody/asked", b"1", lambda: told.append("stray"))
        assert await client.read() == Publish(UPDATES, b"{}")
        first, second = await client.read(), await client.read()
        assert first == Publish("v1/devices/me/rpc/request/0", b"0", 1, 1)
        assert second == Publish("nobody/asked", b"1", 1, 2)
        assert told == ["update"]
        for packet_id in (2, 2, 1):
            client.send(encode_ack(packets.PUBACK, packet_id, version))
        await until(lambda: told == ["update", "stray", "call"])


async def test_a_push_waits_for_a_client_that_takes_one(start: Start, house: House) -> None:
    """Receive Maximum 1: the second push leaves with the first one's PUBACK."""
    listener = await start()
    told: list[int] = []
    async with Client(listener.port, 5) as client:
        await client.connect(properties={0x21: 1})
        link = house.visitors[0].link
        for number in range(3):
            assert link.push("x", str(number).encode(), lambda number=number: told.append(number))
        for number in range(3):
            packet = await client.read()
            assert isinstance(packet, Publish)
            assert packet.payload == str(number).encode()
            assert told == list(range(number))
            client.send(encode_ack(packets.PUBACK, packet.packet_id, 5))
            await until(lambda number=number: len(told) == number + 1)


@pytest.mark.parametrize("version", [4, 5])
async def test_a_client_that_acknowledges_nothing_is_let_go(
    start: Start, house: House, version: int
) -> None:
    """The push over the bound is refused, and the session closed (MQTT 5: 0x97)."""
    listener = await start(max_unacked=3, max_inflight=2)
    async with Client(listener.port, version) as client:
        await client.connect()
        visitor = house.visitors[0]
        taken = [visitor.link.push("x", b"x", lambda: None) for _ in range(7)]
        assert taken == [True] * (5 if version == 5 else 3) + [False] * (2 if version == 5 else 4)
        assert visitor.told == ["opened", "closed"]
        for _ in range(3):
            assert isinstance(await client.read(), Publish)
        assert await client.read() == (Disconnect(0x97) if version == 5 else None)
        assert await client.closed()


async def test_a_push_too_large_for_the_peer_is_not_sent(start: Start, house: House) -> None:
    """False, `delivered` is not called, and the session goes on."""
    listener = await start()
    told: list[int] = []
    async with Client(listener.port, 5) as client:
        await client.connect(properties={0x27: 100})
        link = house.visitors[0].link
        assert link.push("x", b"x" * 200, lambda: told.append(1)) is False
        assert link.push("x", b"y") is True
        assert await client.read() == Publish("x", b"y", 1, 1)
    assert told == []


async def test_a_client_that_stops_reading_is_cut_and_nobody_else_notices(
    start: Start, house: House
) -> None:
    """Pushes go on to all; the deaf one is cut past its write buffer, the others get them all."""
    listener = await start(max_write_buffer=50_000)
    async with (
        Client(listener.port, receive_buffer=4096) as deaf,
        Client(listener.port) as well,
        Client(listener.port, 5) as other,
    ):
        for client in (deaf, well, other):
            await client.connect()
        slow, *quick = house.visitors
        sent = 0
        async with asyncio.timeout(20):
            while slow.told == ["opened"]:
                for visitor in house.visitors:
                    visitor.link.push("x", bytes(8000))
                sent += 1
                for client in (well, other):
                    packet = await client.read()
                    assert isinstance(packet, Publish)
                    client.send(encode_ack(packets.PUBACK, packet.packet_id, client.version))
        assert sent > 5
        assert slow.told == ["opened", "closed"]
        assert slow.link.push("x", b"") is False
        for visitor, client in zip(quick, (well, other), strict=True):
            assert visitor.told == ["opened"]
            client.send(packets.PINGREQ)
            assert await client.read() == Ping()
        assert len(listener._connections) == 2
        with suppress(ConnectionError):
            await deaf.reader.read(-1)


# ── what a reply may ask for ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [4, 5])
async def test_a_reply_may_name_its_topic(start: Start, house: House, version: int) -> None:
    """`Reply.topic` stands above the route's, and stands in when the route has none."""
    listener = await start()
    house.reply = Reply(b"no", Status.REFUSED, topic="v2/fw/error")
    async with Client(listener.port, version) as client:
        await client.connect()
        client.publish(b"x", topic="ask")
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert await client.read() == Publish("v2/fw/error", b"no", 1, 1)
        house.last.router = house.router()
        client.publish(b"x", topic="ask")
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert await client.read() == Publish("v2/fw/error", b"no", 1, 2)
        house.reply = Reply(b"unsaid")
        client.publish(b"x", topic="ask")
        assert await client.read() == Ack(packets.PUBACK, 7)
        client.send(packets.PINGREQ)
        assert await client.read() == Ping()


@pytest.mark.parametrize(("version", "qos"), [(4, 0), (4, 1), (4, 2), (5, 0), (5, 1)])
async def test_a_call_that_waits_is_acknowledged_before_its_answer(
    start: Start, house: House, version: int, qos: int
) -> None:
    """The acknowledgement comes at once and only once, the answer when it is there."""
    listener = await start()
    house.takes = True
    house.gate.clear()
    async with Client(listener.port, version) as client:
        await client.connect()
        client.publish(b"x", qos, 7 if qos else 0, topic="ask")
        if qos:
            assert await client.read() == Ack(packets.PUBACK if qos == 1 else packets.PUBREC, 7)
        client.send(packets.PINGREQ)
        assert await client.read() == Ping()
        house.gate.set()
        assert await client.read() == Publish("reply", b"answer", 1, 1)
        client.send(packets.PINGREQ)
        assert await client.read() == Ping()


@pytest.mark.parametrize("version", [4, 5])
async def test_a_reply_may_end_the_session(start: Start, house: House, version: int) -> None:
    """PUBACK, the answer, then for MQTT 5 a DISCONNECT with the reply's code; closed."""
    listener = await start()
    house.reply = Reply(b"bye", reason="enough", close=0x98)
    async with Client(listener.port, version) as client:
        await client.connect()
        client.publish(b"x", topic="ask")
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert await client.read() == Publish("reply", b"bye", 1, 1)
        if version == 5:
            assert await client.read() == Disconnect(0x98, {0x1F: "enough"})
        assert await client.closed()
    assert house.visitors[0].told == ["opened", "closed"]


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_an_ignored_publish_gets_silence(start: Start, house: House, version: int) -> None:
    """No PUBACK and no close; what comes after it is served."""
    listener = await start()
    house.reply = Reply(status=Status.IGNORED)
    async with Client(listener.port, version) as client:
        await client.connect()
        for qos in (0, 1) if version == 5 else (0, 1, 2):
            client.publish(b"x", qos=qos, topic="ask")
        await until(lambda: len(house.calls) == (2 if version == 5 else 3))
        await until(lambda: not listener.tasks)
        client.send(packets.PINGREQ)
        assert await client.read() == Ping()


async def test_a_route_has_conduct_of_its_own(start: Start, house: House) -> None:
    """What the route says of a status stands above what the session says of it."""
    said = {Status.FAILED: Conduct(0x80, None, ack_v3=True, close_v3=False)}
    house.options = {
        "router": house.router(conduct=said),
    }
    listener = await start()
    for version in (4, 5):
        async with Client(listener.port, version) as client:
            await client.connect()
            house.last.conduct = {Status.FAILED: Conduct(0x83, 0x83, True, True)}
            house.reply = Reply(status=Status.FAILED)
            client.publish(b"x", topic="ask")
            assert await client.read() == Ack(packets.PUBACK, 7, 0x80 if version == 5 else 0)
            house.reply = Reply(status=Status.LIMITED)
            client.publish(b"x", topic="ask")
            if version == 5:
                assert await client.read() == Ack(packets.PUBACK, 7, 0x97)
            else:
                assert await client.closed()


async def test_what_a_session_may_do_can_change(start: Start, house: House) -> None:
    """Router, filters and conduct are looked up at each packet, also while a call is under way."""
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect()
        house.gate.clear()
        client.publish(b"x", topic="ask/1")
        await until(lambda: bool(house.calls))
        house.last.router = house.router("other", mqtt_reply="other/reply/{id}")
        house.last.filters = frozenset({"new"})
        house.last.conduct = {Status.NOT_FOUND: Conduct(0x90, None, True, False)}
        house.gate.set()
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert await client.read() == Publish("reply", b"answer", 1, 1)
        client.publish(b"x", topic="other/5")
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert await client.read() == Publish("other/reply/5", b"answer", 1, 2)
        client.publish(b"x", topic="ask")
        answer = await client.read()
        assert isinstance(answer, Ack)
        assert answer.code == 0x90
        client.send(encode_subscribe(Subscribe(1, (("new", 1), (UPDATES, 1))), 5))
        assert await client.read() == Suback(1, (1, 0x8F))


# ── other people's clients ────────────────────────────────────────────────────────────────────


@pytest.mark.clients
@pytest.mark.parametrize("version", [paho.MQTTv31, paho.MQTTv311, paho.MQTTv5])
async def test_paho_is_called_and_answers(start: Start, house: House, version: int) -> None:
    """paho gets what is pushed on its subscription, acknowledges it, and sees the end."""
    listener = await start()
    told: list[str] = []
    got: list[tuple[str, bytes, int]] = []
    ended: list[int] = []
    house.then[f"subscribed {CALLS}"] = lambda link: link.push(
        "v1/devices/me/rpc/request/0", b'{"method":"on"}', lambda: told.append("delivered")
    )
    client = paho.Client(CallbackAPIVersion.VERSION2, "device", protocol=version)
    client.on_connect = lambda *_: client.subscribe(CALLS, 1)
    client.on_message = lambda _c, _d, message: got.append(
        (message.topic, message.payload, message.qos)
    )
    client.on_disconnect = lambda *said: ended.append(said[3].value)
    await asyncio.to_thread(client.connect, "127.0.0.1", listener.port)
    client.loop_start()
    try:
        await until(lambda: told == ["delivered"])
        assert got == [("v1/devices/me/rpc/request/0", b'{"method":"on"}', 1)]
        house.then.clear()
        house.visitors[0].link.close(0x98)
        await until(lambda: bool(ended))
        if version == paho.MQTTv5:
            assert ended[0] == 0x98
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)
