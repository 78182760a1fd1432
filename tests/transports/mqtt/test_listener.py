"""The listener on loopback: raw sockets for the rules, other people's clients for the proof."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from transports.mqtt.raw_client import REQUEST, Client
from transports.stream_ground import Gates, started, until

from gateway.core.model import Wire
from gateway.transports.listening import peer_name
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
from gateway.wire.call import Admitted, BadPayload, Call, Conduct, Hello, Rejected, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

RESPONSE = "/provision/response"
ATTRIBUTES = "v1/devices/me/attributes/response/+"
CONDUCT = {
    Status.UNDECODABLE: Conduct(0x99, None, ack_v3=False, close_v3=True, close_qos0=0x99),
    Status.BAD_REQUEST: Conduct(0x83, 0x83, ack_v3=True, close_v3=True),
    Status.NOT_FOUND: Conduct(0x90, None, ack_v3=True, close_v3=False),
}


class House(Gates):
    """What the listener is plugged into here: routes that echo, wait, fail, and count."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.hellos: list[Hello] = []
        self.admitted: dict[str, Any] = {}
        self.router = Router(
            [
                Route(name="echo", handler=self.echo, mqtt=(REQUEST,), mqtt_reply=RESPONSE),
                Route(
                    name="attributes",
                    handler=self.echo,
                    mqtt=("v1/devices/me/attributes/request/{id}",),
                    mqtt_reply="v1/devices/me/attributes/response/{id}",
                ),
                Route(name="in", handler=self.echo, mqtt=("in",), quiet=True),
                Route(name="large", handler=self.large, mqtt=("large",), mqtt_reply=RESPONSE),
            ],
            Wire.MQTT,
            Gauge(1000),
        )

    async def greet(self, hello: Hello) -> Admitted | Rejected:
        self.hellos.append(hello)
        await self.greeting.wait()
        if hello.username == "broken":
            raise RuntimeError("no")
        if hello.username == "nobody":
            return Rejected(5, 0x86)
        return Admitted(
            "test",
            self.router,
            frozenset({RESPONSE, ATTRIBUTES}),
            CONDUCT,
            **self.admitted,
        )

    async def echo(self, call: Call) -> Reply:
        self.calls.append(call)
        await self.pass_gate()
        if call.body == b"?":
            raise BadPayload("unreadable", undecodable=True)
        if call.body == b"!":
            raise BadPayload("a field is missing")
        return Reply(call.body)

    async def large(self, call: Call) -> Reply:
        return Reply(b"x" * 60_000)


Start = Callable[..., Awaitable[MqttListener]]


@pytest.fixture
async def house() -> House:
    return House()


@pytest.fixture
async def start(house: House) -> AsyncIterator[Start]:
    async with started(MqttListener, house.greet) as start:
        yield start
        house.open_gates()


# ── sessions ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_a_request_is_answered(start: Start, house: House, version: int) -> None:
    """Connect, subscribe, publish at QoS 1: SUBACK, then PUBACK, then the answer."""
    listener = await start()
    async with Client(listener.port, version) as client:
        connack = await client.connect(client_id="provision")
        assert isinstance(connack, Connack)
        assert (connack.code, connack.session_present) == (0, False)
        client.send(encode_subscribe(Subscribe(1, ((RESPONSE, 0), ("#", 0))), version))
        assert await client.read() == Suback(1, (0, 0x8F if version == 5 else 0x80))
        client.publish(b"{}")
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert await client.read() == Publish(RESPONSE, b"{}")
        client.send(encode_unsubscribe(Unsubscribe(2, (RESPONSE,)), version))
        assert isinstance(await client.read(), Unsuback)
        client.send(packets.PINGREQ)
        assert await client.read() == Ping()
        client.send(encode_disconnect(0, version))
        assert await client.closed()
    assert house.hellos[0].version == version
    assert house.calls[0].peer.wire is Wire.MQTT
    assert house.calls[0].peer.address.startswith("127.0.0.1:")


async def test_the_answer_comes_without_subscription_and_unacknowledged_at_qos_0(
    start: Start,
) -> None:
    """Nobody subscribed: the answer comes at QoS 1 all the same."""
    listener = await start()
    async with Client(listener.port) as client:
        await client.connect()
        client.publish(b"a", qos=0)
        assert await client.read() == Publish(RESPONSE, b"a", 1, 1)


async def test_the_answers_topic_is_filled_from_the_requests(start: Start) -> None:
    """`{id}` of the request's topic is in the answer's, at the QoS of the filter it matches."""
    listener = await start()
    async with Client(listener.port) as client:
        await client.connect()
        client.send(encode_subscribe(Subscribe(1, ((ATTRIBUTES, 0),)), 4))
        await client.read()
        client.publish(b"{}", topic="v1/devices/me/attributes/request/42")
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert await client.read() == Publish("v1/devices/me/attributes/response/42", b"{}")


async def test_the_session_keeps_what_a_dialect_puts_there(start: Start, house: House) -> None:
    """Every call of one connection gets the same `session`, another connection another."""
    listener = await start()
    for _ in range(2):
        async with Client(listener.port) as client:
            await client.connect()
            client.publish(b"1", topic="in")
            client.publish(b"2", topic="in", packet_id=8)
            assert await client.read() == Ack(packets.PUBACK, 7)
            assert await client.read() == Ack(packets.PUBACK, 8)
    first, second, third, _ = (call.session for call in house.calls)
    assert first is second
    assert first is not third


async def test_qos_2_in_3_1_1_is_served_once(start: Start, house: House) -> None:
    """PUBREC after the call, the duplicate is not served, PUBCOMP ends it."""
    listener = await start()
    async with Client(listener.port) as client:
        await client.connect()
        for _ in range(2):
            client.publish(b"x", qos=2, topic="in")
            assert await client.read() == Ack(packets.PUBREC, 7)
        client.send(encode_ack(packets.PUBREL, 7, 4))
        assert await client.read() == Ack(packets.PUBCOMP & 0xF0, 7)
    assert len(house.calls) == 1


@pytest.mark.parametrize(
    ("version", "body", "topic", "answers", "closes"),
    [
        (5, b"?", REQUEST, [Ack(0x40, 7, 0x99, {0x1F: "unreadable"})], False),
        (4, b"?", REQUEST, [], True),
        (4, b"!", REQUEST, [Ack(0x40, 7)], True),
        (4, b"", "nowhere", [Ack(0x40, 7)], False),
    ],
)
async def test_conduct_reaches_the_wire(
    start: Start, version: int, body: bytes, topic: str, answers: list[Packet], closes: bool
) -> None:
    """What the dialect's conduct says is sent, flushed before the connection closes or not."""
    listener = await start()
    async with Client(listener.port, version) as client:
        await client.connect()
        client.publish(body, topic=topic)
        for answer in answers:
            assert await client.read() == answer
        if not closes:
            client.send(packets.PINGREQ)
        assert await client.read() == (None if closes else Ping())


async def test_bad_request_in_mqtt_5_is_acknowledged_then_disconnected(start: Start) -> None:
    """PUBACK 0x83, DISCONNECT 0x83, close: in this order."""
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect(properties={0x17: 0})
        client.publish(b"!")
        assert await client.read() == Ack(0x40, 7, 0x83)
        assert await client.read() == Disconnect(0x83)
        assert await client.closed()


async def test_an_empty_client_id_is_taken(start: Start, house: House) -> None:
    """In every version, clean session or not; MQTT 5 is told the id it was given."""
    listener = await start()
    for version in (3, 4, 5):
        async with Client(listener.port, version) as client:
            connack = await client.connect(client_id="", clean=False)
            assert isinstance(connack, Connack)
            assert connack.code == 0
            assert connack.properties.get(0x12, "") == ("auto-3" if version == 5 else "")
    assert [hello.client_id for hello in house.hellos] == ["", "", ""]


async def test_a_will_and_retain_are_taken_and_nothing_comes_of_them(start: Start) -> None:
    """A CONNECT with a will and a PUBLISH with RETAIN are served like any other."""
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect(will=packets.Will("a", b"b", 1, True))
        client.send(encode_publish(b"in", b"x", 1, 3, 5, retain=True))
        assert await client.read() == Ack(packets.PUBACK, 3)


# ── CONNECT ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("username", "v3", "v5"), [("nobody", 5, 0x86), ("broken", 3, 0x88)])
@pytest.mark.parametrize("version", [4, 5])
async def test_no_session(start: Start, version: int, username: str, v3: int, v5: int) -> None:
    """Rejected, or a greeting that broke: CONNACK with the code of the version, then closed."""
    listener = await start()
    async with Client(listener.port, version) as client:
        assert await client.connect(username=username) == Connack(v5 if version == 5 else v3)
        assert await client.closed()


@pytest.mark.parametrize(
    "data",
    [
        packets.PINGREQ,
        encode_publish(b"in", b"", 0, 0, 4),
        bytes.fromhex("100c00044d515458 04 02 003c 0000"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
async def test_anything_but_connect_first_is_closed(start: Start, data: bytes) -> None:
    """Another packet, another protocol: closed without a word."""
    listener = await start(connect_timeout_s=0.1)
    async with Client(listener.port) as client:
        client.send(data)
        assert await client.closed()


@pytest.mark.parametrize("data", [b"", encode_connect(Connect("c"))[:-1], b"\x10\xff"])
async def test_connect_must_be_complete_in_time(start: Start, data: bytes) -> None:
    """Silence or half a CONNECT is closed after the connect timeout, not before."""
    listener = await start(connect_timeout_s=0.2)
    async with Client(listener.port) as client:
        client.send(data)
        started = asyncio.get_running_loop().time()
        assert await client.closed()
        assert 0.15 < asyncio.get_running_loop().time() - started < 2


async def test_a_connect_in_pieces_is_a_connect(start: Start) -> None:
    """CONNECT and what follows may arrive byte by byte."""
    listener = await start()
    async with Client(listener.port) as client:
        data = encode_connect(Connect("c")) + encode_publish(b"in", b"x", 1, 3, 4)
        for at in range(len(data)):
            client.send(data[at : at + 1])
            await asyncio.sleep(0)
        assert await client.read() == Connack(0)
        assert await client.read() == Ack(packets.PUBACK, 3)


async def test_a_greeting_that_takes_too_long_ends(start: Start, house: House) -> None:
    """No answer from the core in time: CONNACK 0x88, and the greeting is given up."""
    house.greeting.clear()
    listener = await start(greet_timeout_s=0.1)
    async with Client(listener.port, 5) as client:
        assert await client.connect() == Connack(0x88)
        assert await client.closed()
    assert not listener.tasks


async def test_a_client_gone_while_greeted_leaves_nothing(start: Start, house: House) -> None:
    """The greeting of a lost connection is cancelled, and the connection forgotten."""
    house.greeting.clear()
    listener = await start()
    async with Client(listener.port) as client:
        client.send(encode_connect(Connect("c")))
        await until(lambda: bool(house.hellos))
    await until(lambda: not listener._connections and not listener.tasks)


@pytest.mark.parametrize("version", [4, 5])
async def test_a_second_connect_is_a_protocol_error(start: Start, version: int) -> None:
    """MQTT 5 gets DISCONNECT 0x82, others see the connection close."""
    listener = await start()
    async with Client(listener.port, version) as client:
        await client.connect()
        answer = await client.connect()
        assert answer == (Disconnect(0x82) if version == 5 else None)
        assert await client.closed()


async def test_enhanced_authentication_is_refused(start: Start) -> None:
    """CONNECT with an authentication method: CONNACK 0x8C; AUTH later: DISCONNECT 0x8C."""
    listener = await start()
    async with Client(listener.port, 5) as client:
        assert await client.connect(properties={0x15: "SCRAM"}) == Connack(0x8C)
        assert await client.closed()
    async with Client(listener.port, 5) as client:
        await client.connect()
        client.send(b"\xf0\x00")
        assert await client.read() == Disconnect(0x8C)


async def test_packets_before_connack_wait(start: Start, house: House) -> None:
    """What came with CONNECT is served after CONNACK, in order."""
    house.greeting.clear()
    listener = await start(max_inflight=3)
    async with Client(listener.port) as client:
        client.send(encode_connect(Connect("c")), packets.PINGREQ)
        for packet_id in range(1, 51):
            client.publish(b"x", packet_id=packet_id, topic="in")
        await until(lambda: bool(house.hellos))
        await asyncio.sleep(0.02)
        assert not house.calls
        house.greeting.set()
        assert await client.read() == Connack(0)
        assert await client.read() == Ping()
        acks = [await client.read() for _ in range(50)]
        assert acks == [Ack(packets.PUBACK, packet_id) for packet_id in range(1, 51)]


async def test_too_many_packets_before_connack_are_too_many(start: Start, house: House) -> None:
    """The 101st early packet ends it, for MQTT 5 with 0x97."""
    house.greeting.clear()
    listener = await start()
    async with Client(listener.port, 5) as client:
        client.send(encode_connect(Connect("c", 5)), packets.PINGREQ * 101)
        assert await client.read() == Connack(0x97)
        assert await client.closed()


async def test_early_bytes_are_bounded_too(start: Start, house: House) -> None:
    """Before CONNACK a client is not read beyond about one packet's cap, and served after it."""
    house.greeting.clear()
    listener = await start()
    async with Client(listener.port) as client:
        client.send(encode_connect(Connect("c")))
        for packet_id in range(1, 91):
            client.publish(b"x" * 60_000, packet_id=packet_id, topic="in")
        await until(lambda: any(c._paused for c in listener._connections))
        house.greeting.set()
        assert await client.read() == Connack(0)
        for packet_id in range(1, 91):
            assert await client.read() == Ack(packets.PUBACK, packet_id)


# ── times ─────────────────────────────────────────────────────────────────────────────────────


async def test_keep_alive_is_enforced(start: Start) -> None:
    """Keep-alive 1 s: closed after 1.5 s of silence, MQTT 5 with 0x8D; a ping postpones it."""
    listener = await start()
    loop = asyncio.get_running_loop()

    async def falls_silent(version: int) -> None:
        async with Client(listener.port, version) as client:
            await client.connect(keep_alive=1)
            await asyncio.sleep(0.3)
            client.send(packets.PINGREQ)
            assert await client.read() == Ping()
            heard = loop.time()
            assert await client.read() == (Disconnect(0x8D) if version == 5 else None)
            assert 1.4 < loop.time() - heard < 2.5
            assert await client.closed()

    await asyncio.gather(falls_silent(4), falls_silent(5))


async def test_a_call_under_way_is_not_silence(start: Start, house: House) -> None:
    """While a call waits for the core, its connection is not closed for being quiet."""
    house.gate.clear()
    house.admitted = {"idle_s": 0.1}
    listener = await start()
    async with Client(listener.port) as client:
        await client.connect()
        client.publish(b"x", topic="in")
        await asyncio.sleep(0.3)
        house.gate.set()
        assert await client.read() == Ack(packets.PUBACK, 7)


async def test_idle_and_linger_are_enforced(start: Start, house: House) -> None:
    """Idle: DISCONNECT 0xA0. Linger: so long after the last answer, closed without a packet."""
    house.admitted = {"idle_s": 0.2}
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect()
        assert await client.read() == Disconnect(0xA0)
    house.admitted = {"linger_s": 0.3}
    async with Client(listener.port, 5) as client:
        await client.connect()
        for packet_id in (1, 2):
            await asyncio.sleep(0.2)
            client.publish(b"x", packet_id=packet_id)
            assert await client.read() == Ack(packets.PUBACK, packet_id)
            assert isinstance(await client.read(), Publish)
        answered = asyncio.get_running_loop().time()
        assert await client.closed()
        assert asyncio.get_running_loop().time() - answered > 0.25


# ── bounds ────────────────────────────────────────────────────────────────────────────────────


async def test_too_large_is_refused_from_its_header(start: Start) -> None:
    """A packet over the cap: DISCONNECT 0x81 before its body is sent."""
    listener = await start(max_packet=1000)
    async with Client(listener.port, 5) as client:
        await client.connect()
        client.send(b"\x32\xe6\x07")
        assert await client.read() == Disconnect(0x81)
        assert await client.closed()


async def test_a_malformed_packet_closes_after_the_good_ones(start: Start) -> None:
    """What came before a malformed packet is answered, then DISCONNECT with its reason."""
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect()
        client.send(packets.PINGREQ, b"\x30\x07\x00\x01a\x03\x23\x00\x01")
        assert await client.read() == Ping()
        assert await client.read() == Disconnect(0x94)


async def test_no_more_than_max_inflight_calls(start: Start, house: House) -> None:
    """Of many publishes, so many are under way as allowed; all are acknowledged, in order."""
    house.gate.clear()
    listener = await start(max_inflight=5)
    async with Client(listener.port) as client:
        await client.connect()
        for packet_id in range(1, 201):
            client.publish(b"x" * 2000, packet_id=packet_id, topic="in")
        await until(lambda: len(house.calls) == 5)
        (connection,) = listener._connections
        assert connection._paused
        house.gate.set()
        acks = [await client.read() for _ in range(200)]
        assert acks == [Ack(packets.PUBACK, packet_id) for packet_id in range(1, 201)]
        assert not connection._paused
    assert house.most == 5


async def test_a_client_that_does_not_read_is_cut(start: Start) -> None:
    """Answers that nobody reads pile up to the bound, then the connection is gone."""
    listener = await start(max_write_buffer=100_000, max_inflight=20)
    async with Client(listener.port) as client:
        await client.connect()
        with suppress(OSError):
            for packet_id in range(1, 1001):
                client.publish(b"", qos=0, packet_id=packet_id, topic="large")
                await client.writer.drain()
        await until(lambda: not listener._connections)


async def test_a_closed_connection_that_does_not_drain_is_cut(start: Start) -> None:
    """Last bytes get a little time to leave, not for ever."""
    listener = await start(close_timeout_s=0.1, max_inflight=1000, max_write_buffer=1 << 30)
    async with Client(listener.port) as client:
        await client.connect()
        for packet_id in range(1, 301):
            client.publish(b"", qos=0, packet_id=packet_id, topic="large")
        await until(lambda: not listener.tasks)
        client.send(packets.PINGREQ, encode_disconnect(0, 4))
        await until(lambda: not listener._connections)


async def test_connections_are_counted(start: Start) -> None:
    """One connection too many is closed at once; when one leaves, there is room again."""
    listener = await start(max_connections=2)
    async with Client(listener.port) as first, Client(listener.port) as second:
        await first.connect()
        await second.connect()
        async with Client(listener.port) as third:
            assert await third.connect() is None
    await until(lambda: not listener._connections)
    async with Client(listener.port) as client:
        assert await client.connect() == Connack(0)


async def test_four_hundred_devices_called_provision(start: Start, house: House) -> None:
    """400 connections with one client id live side by side, each with its own answer."""
    listener = await start()
    alive = asyncio.Barrier(400)

    async def device(number: int) -> None:
        async with Client(listener.port, (3, 4, 5)[number % 3]) as client:
            await client.connect(client_id="provision")
            async with asyncio.timeout(10):
                await alive.wait()
            client.publish(str(number).encode())
            assert await client.read() == Ack(packets.PUBACK, 7)
            assert await client.read() == Publish(RESPONSE, str(number).encode(), 1, 1)

    await asyncio.gather(*(device(number) for number in range(400)))
    assert len(house.calls) == 400


# ── the end ───────────────────────────────────────────────────────────────────────────────────


async def test_stop_lets_calls_answer_first(start: Start, house: House) -> None:
    """On stop, a call under way is answered, then MQTT 5 gets 0x8B, and nobody new gets in."""
    house.gate.clear()
    listener = await start()
    port = listener.port
    async with Client(port, 5) as client, Client(port, 4) as idle:
        await client.connect()
        await idle.connect()
        client.publish(b"x", topic="in")
        await until(lambda: bool(house.calls))
        stopping = asyncio.create_task(listener.stop(3.0))
        await asyncio.sleep(0.05)
        client.publish(b"late", packet_id=8, topic="in")
        house.gate.set()
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert await client.read() == Disconnect(0x8B)
        assert await client.closed()
        assert await idle.closed()
        await stopping
    assert len(house.calls) == 1
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_stop_does_not_wait_for_ever(start: Start, house: House) -> None:
    """A call that does not end is cancelled after the grace time."""
    house.gate.clear()
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect()
        client.publish(b"x", topic="in")
        await until(lambda: bool(house.calls))
        async with asyncio.timeout(2):
            await listener.stop(0.1)
    assert not listener.tasks
    assert not listener._connections
    assert house.now == 0


async def test_answers_to_a_client_gone_are_dropped(start: Start, house: House) -> None:
    """A call whose client left runs to its end, and nothing breaks."""
    house.gate.clear()
    listener = await start()
    async with Client(listener.port) as client:
        await client.connect()
        client.publish(b"x")
        await until(lambda: bool(house.calls))
    await until(lambda: not listener._connections)
    house.gate.set()
    await until(lambda: not listener.tasks)
    assert house.now == 0


def test_addresses() -> None:
    """IPv6 goes in brackets, and a socket without a peer has no address."""
    assert peer_name(("192.0.2.7", 5)) == "192.0.2.7:5"
    assert peer_name(("2001:db8::1", 5, 0, 0)) == "[2001:db8::1]:5"
    assert peer_name(None) == "unknown"


# ── other people's clients ────────────────────────────────────────────────────────────────────


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        if os.environ.get("GATEHOUSE_REQUIRE_CLIENTS") == "1":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return path


async def output(*command: str) -> tuple[int | None, bytes]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(8):
        said, _ = await process.communicate()
    return process.returncode, said


@pytest.mark.clients
@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
async def test_mosquitto_gets_its_answer(start: Start, version: str) -> None:
    """mosquitto_rr asks and prints the answer, in all three versions."""
    listener = await start()
    code, said = await output(
        program("mosquitto_rr"), "-h", "127.0.0.1", "-p", str(listener.port), "-V", version,
        "-i", "provision", "-t", REQUEST, "-e", RESPONSE, "-m", '{"a":1}', "-q", "1", "-W", "5",
    )  # fmt: skip
    assert (code, said.strip()) == (0, b'{"a":1}')


@pytest.mark.clients
@pytest.mark.parametrize(
    ("version", "qos"), [("mqttv31", 2), ("mqttv311", 0), ("mqttv311", 2), ("mqttv5", 1)]
)
async def test_mosquitto_publishes(start: Start, house: House, version: str, qos: int) -> None:
    """mosquitto_pub gets its acknowledgements at every QoS it may use, and exits with 0."""
    listener = await start()
    code, said = await output(
        program("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(listener.port), "-V", version,
        "-t", "in", "-m", "hello", "-q", str(qos),
    )  # fmt: skip
    assert (code, said) == (0, b"")
    await until(lambda: [call.body for call in house.calls] == [b"hello"])


@pytest.mark.clients
async def test_mosquitto_is_told_it_is_refused(start: Start) -> None:
    """mosquitto_pub exits with the CONNACK code."""
    listener = await start()
    code, _ = await output(
        program("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(listener.port),
        "-u", "nobody", "-t", "in", "-m", "hello",
    )  # fmt: skip
    assert code == 5


@pytest.mark.clients
@pytest.mark.parametrize("version", [paho.MQTTv31, paho.MQTTv311, paho.MQTTv5])
async def test_paho_gets_its_answer(start: Start, version: int) -> None:
    """paho subscribes, publishes without waiting, and has its answer and its PUBACK."""
    listener = await start()
    answers: list[bytes] = []
    acknowledged: list[int] = []

    def on_connect(client: paho.Client, *_: Any) -> None:
        client.subscribe(RESPONSE, 1)
        client.publish(REQUEST, b"from paho", 1)

    client = paho.Client(CallbackAPIVersion.VERSION2, "provision", protocol=version)
    client.on_connect = on_connect
    client.on_message = lambda _client, _data, message: answers.append(message.payload)
    client.on_publish = lambda _client, _data, packet_id, *_: acknowledged.append(packet_id)
    await asyncio.to_thread(client.connect, "127.0.0.1", listener.port)
    client.loop_start()
    try:
        await until(lambda: answers == [b"from paho"] and len(acknowledged) == 1)
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)
