"""Bodies in pieces, on loopback: whole, in order, in little memory, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from transports.mqtt.raw_client import Client
from transports.stream_ground import started, until

from gateway.core.model import Wire
from gateway.transports.mqtt import packets
from gateway.transports.mqtt.encoder import encode_ack
from gateway.transports.mqtt.listener import MqttListener
from gateway.transports.mqtt.packets import Ack, Disconnect, Ping, Publish
from gateway.wire.call import Admitted, Call, Hello, Link, Reply, Source, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

SIZE = 3_000_001
PIECE = 32 * 1024


def content(offset: int, size: int) -> bytes:
    """Bytes that tell where they are from."""
    first, last = offset // 4, (offset + size + 3) // 4
    words = b"".join(number.to_bytes(4, "big") for number in range(first, last + 1))
    return words[offset - first * 4 :][:size]


class Image:
    """A body of any size that is made as it is read, and may break off."""

    def __init__(self, size: int = SIZE, *, good_until: int | None = None) -> None:
        self.size = size
        self.read_until = 0
        self.largest = 0
        self.good_until = size if good_until is None else good_until
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, offset: int, size: int) -> bytes:
        assert offset == self.read_until
        await self.gate.wait()
        self.read_until = min(offset + size, self.good_until)
        self.largest = max(self.largest, size)
        return content(offset, self.read_until - offset)


class Broken(Image):
    async def read(self, offset: int, size: int) -> bytes:
        raise RuntimeError("the disk is gone")


class House:
    """Answers `get` with the next of `images`, and anything on `in` with an acknowledgement."""

    def __init__(self) -> None:
        self.images: list[Source] = []
        self.close: int | None = None
        self.calls = 0
        self.links: list[Link] = []
        self.ends = 0
        routes = [
            Route(name="get", handler=self.get, mqtt=("get",), mqtt_reply="image", quiet=True),
            Route(name="in", handler=self.take, mqtt=("in",), quiet=True),
        ]
        self.router = Router(routes, Wire.MQTT, Gauge(1000))

    async def greet(self, _hello: Hello) -> Admitted:
        return Admitted("device", self.router, frozenset(), {}, guest=self)

    async def get(self, _call: Call) -> Reply:
        self.calls += 1
        return Reply(source=self.images.pop(0), close=self.close)

    async def take(self, _call: Call) -> Reply:
        self.calls += 1
        return Reply(status=Status.OK)

    def opened(self, link: Link) -> None:
        self.links.append(link)

    def subscribed(self, topic_filter: str) -> None: ...

    def unsubscribed(self, topic_filter: str) -> None: ...

    def heard(self) -> None: ...

    def closed(self) -> None:
        self.ends += 1


Start = Callable[..., Awaitable[MqttListener]]


@pytest.fixture
async def house() -> House:
    return House()


@pytest.fixture
async def start(house: House) -> AsyncIterator[Start]:
    async with started(MqttListener, house.greet) as start:
        yield start


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_a_body_arrives_as_one_publish(start: Start, house: House, version: int) -> None:
    """3 MB read in pieces are one PUBLISH; its PUBACK comes before it, and pings go on after it."""
    image = Image()
    house.images = [image]
    listener = await start()
    async with Client(listener.port, version) as client:
        await client.connect()
        client.publish(b"", topic="get")
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert await client.read() == Publish("image", content(0, SIZE), 1, 1)
        client.send(packets.PINGREQ)
        assert await client.read() == Ping()
        await until(lambda: not listener.tasks)
    assert image.largest == PIECE


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
async def test_bodies_of_odd_sizes(start: Start, house: House, size: int) -> None:
    """Nothing, a byte, and sizes about a piece arrive whole."""
    house.images = [Image(size)]
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect()
        client.publish(b"", qos=0, topic="get")
        assert await client.read() == Publish("image", content(0, size), 1, 1)


async def test_a_slow_reader_costs_little_memory_and_nobody_else_time(
    start: Start, house: House
) -> None:
    """A body is read only as its peer takes it; what else is for that peer waits behind it."""
    image = Image()
    house.images = [image]
    listener = await start()
    async with (
        Client(listener.port, receive_buffer=4096) as slow,
        Client(listener.port) as other,
    ):
        await slow.connect()
        await other.connect()
        port = slow.writer.get_extra_info("sockname")[1]
        (ours,) = [c for c in listener._connections if c._peer.address.endswith(f":{port}")]
        slow.publish(b"", topic="get")
        assert await slow.read() == Ack(packets.PUBACK, 7)
        await until(lambda: ours._outflow is not None and ours._outflow._paused)
        for packet_id in range(1, 21):
            slow.publish(b"1", topic="in", packet_id=packet_id)
            other.publish(b"1", topic="in", packet_id=packet_id)
            assert await other.read() == Ack(packets.PUBACK, packet_id)
        await until(lambda: house.calls == 41)
        assert house.links[0].push("x", b"waits", lambda: None)
        assert image.read_until < 500_000  # what the kernel and the client's own buffer hold
        assert ours._transport.get_write_buffer_size() <= 3 * PIECE
        answer = await slow.read()
        assert isinstance(answer, Publish)
        assert answer.payload == content(0, SIZE)
        acks = [await slow.read() for _ in range(20)]
        assert acks == [Ack(packets.PUBACK, packet_id) for packet_id in range(1, 21)]
        assert await slow.read() == Publish("x", b"waits", 1, 2)
        assert ours._outflow is None


async def test_bodies_keep_their_order(start: Start, house: House) -> None:
    """Requests sent at once are answered one after the other, however few may be under way."""
    sizes = [100_000 + number for number in range(30)]
    house.images = [Image(size) for size in sizes]
    listener = await start(max_inflight=4)
    async with Client(listener.port, receive_buffer=4096) as client:
        await client.connect()
        for number in range(30):
            client.publish(b"", topic="get", packet_id=number + 1)
        bodies = []
        while len(bodies) < 30:
            packet = await client.read()
            assert packet is not None
            if isinstance(packet, Publish):
                bodies.append(len(packet.payload))
    assert bodies == sizes


async def test_a_body_waits_for_a_client_that_takes_one(start: Start, house: House) -> None:
    """Receive Maximum 1: the second body begins with the first one's PUBACK."""
    first, second = Image(100_000), Image(100_001)
    house.images = [first, second]
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect(properties={0x21: 1})
        client.publish(b"", qos=0, topic="get")
        client.publish(b"", qos=0, topic="get")
        assert await client.read() == Publish("image", content(0, 100_000), 1, 1)
        client.send(packets.PINGREQ)
        assert await client.read() == Ping()
        assert second.read_until == 0
        client.send(encode_ack(packets.PUBACK, 1, 5))
        assert await client.read() == Publish("image", content(0, 100_001), 1, 2)


async def test_a_peer_that_takes_nothing_is_cut(start: Start, house: House) -> None:
    """After `stall_s` without a byte taken the connection is gone, and the image let go."""
    house.images = [Image()]
    listener = await start(stall_s=0.2)
    async with Client(listener.port, receive_buffer=4096) as client:
        await client.connect()
        client.publish(b"", topic="get")
        await until(lambda: not listener._connections)
        assert house.ends == 1


async def test_a_peer_that_takes_little_is_not_cut(start: Start, house: House) -> None:
    """Slowness is not stalling: many times `stall_s` in all, and the body still arrives."""
    house.images = [Image(600_000)]
    listener = await start(stall_s=0.3)
    async with Client(listener.port, receive_buffer=4096) as client:
        await client.connect()
        client.publish(b"", topic="get")
        received = bytearray()
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(10):
            while bytes(received[-4:]) != content(599_996, 4):
                received += await client.reader.read(20_000)
                await asyncio.sleep(0.04)
        assert asyncio.get_running_loop().time() - began > 0.9
    assert bytes(received[-600_000:]) == content(0, 600_000)


@pytest.mark.parametrize("image", [Image(good_until=1_000_000), Broken()])
async def test_a_body_that_breaks_off_ends_the_connection(
    start: Start, house: House, image: Image
) -> None:
    """Too short, or its reading fails: nothing else can follow, so the connection is cut."""
    house.images = [image]
    listener = await start()
    async with Client(listener.port, 5) as client:
        await client.connect()
        client.publish(b"", topic="get")
        with suppress(ConnectionError):
            while await client.reader.read(65536):
                pass
    await until(lambda: not listener._connections)
    assert house.ends == 1


async def test_a_source_that_gives_nothing_stalls_too(start: Start, house: House) -> None:
    """A source that does not answer within `stall_s` ends the connection."""
    image = Image()
    image.gate.clear()
    house.images = [image]
    listener = await start(stall_s=0.1)
    async with Client(listener.port) as client:
        await client.connect()
        client.publish(b"", topic="get")
        await until(lambda: house.ends == 1)


async def test_what_waits_behind_a_body_is_bounded(start: Start, house: House) -> None:
    """Pushes to a client that takes nothing of its body: refused and cut past the bound."""
    house.images = [Image()]
    listener = await start(max_write_buffer=100_000)
    async with Client(listener.port, receive_buffer=4096) as client:
        await client.connect()
        client.publish(b"", topic="get")
        await until(lambda: any(one._outflow is not None for one in listener._connections))
        taken = [house.links[0].push("x", bytes(10_000)) for _ in range(12)]
        assert taken == [True] * 9 + [False] * 3
        assert house.ends == 1
        await until(lambda: not listener._connections)


async def test_a_body_may_be_the_last(start: Start, house: House) -> None:
    """`Reply.close` beside a source: all of it, then DISCONNECT, however long that takes."""
    house.images, house.close = [Image(1_000_000)], 0x98
    listener = await start(close_timeout_s=0.2)
    async with Client(listener.port, 5, receive_buffer=4096) as client:
        await client.connect()
        client.publish(b"", topic="get")
        await asyncio.sleep(0.3)
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert await client.read() == Publish("image", content(0, 1_000_000), 1, 1)
        assert await client.read() == Disconnect(0x98)
        assert await client.closed()
    assert house.ends == 1


async def test_a_session_that_ends_amid_a_body_has_a_little_time_for_it(
    start: Start, house: House
) -> None:
    """Displaced while it streams: cut after `close_timeout_s`, and nothing is left behind."""
    house.images = [Image()]
    listener = await start(close_timeout_s=0.1)
    async with Client(listener.port, 5, receive_buffer=4096) as client:
        await client.connect()
        client.publish(b"", topic="get")
        await until(lambda: any(one._outflow is not None for one in listener._connections))
        house.links[0].close(0x8E)
        assert house.ends == 1
        await until(lambda: not listener._connections)
        assert not listener.tasks


async def test_a_client_gone_amid_a_body_leaves_nothing(start: Start, house: House) -> None:
    """The connection is lost: no task, no connection, no further reading of the image."""
    image = Image()
    house.images = [image]
    listener = await start()
    async with Client(listener.port, receive_buffer=4096) as client:
        await client.connect()
        client.publish(b"", topic="get")
        await until(lambda: any(one._outflow is not None for one in listener._connections))
        client.writer.transport.abort()
        await until(lambda: not listener._connections and not listener.tasks)
    assert image.read_until < SIZE


async def test_stop_lets_a_body_arrive(start: Start, house: House) -> None:
    """On stop a body under way is finished within the grace time, then MQTT 5 gets 0x8B."""
    image = Image()
    house.images = [image]
    listener = await start()
    async with Client(listener.port, 5, receive_buffer=4096) as client:
        await client.connect()
        client.publish(b"", topic="get")
        assert await client.read() == Ack(packets.PUBACK, 7)
        await until(lambda: image.read_until > 0)
        stopping = asyncio.create_task(listener.stop(5.0))
        assert await client.read() == Publish("image", content(0, SIZE), 1, 1)
        assert await client.read() == Disconnect(0x8B)
        await stopping


async def test_after_a_body_a_deaf_client_is_cut_again(start: Start, house: House) -> None:
    """The write buffer's bound is back once a body has been taken."""
    house.images = [Image(500_000)]
    listener = await start(max_write_buffer=50_000)
    async with Client(listener.port, receive_buffer=4096) as client:
        await client.connect()
        client.publish(b"", topic="get")
        assert await client.read() == Ack(packets.PUBACK, 7)
        assert isinstance(await client.read(), Publish)
        await until(lambda: not listener.tasks)
        for _ in range(200):
            if not house.links[0].push("x", bytes(40_000)):
                break
            await asyncio.sleep(0)
        assert house.ends == 1
