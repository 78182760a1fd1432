"""Whatever the sizes and pauses: every byte arrives once, in order, both ways."""

from __future__ import annotations

import asyncio
import itertools
import ssl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.model import Wire
from gateway.transports.tls import TlsServer

SIZES = st.lists(
    st.one_of(st.integers(1, 300), st.integers(16_300, 16_500), st.integers(30_000, 300_000)),
    min_size=1,
    max_size=8,
)
PAUSES = st.lists(st.booleans(), min_size=1, max_size=6)


class Wavering(asyncio.Protocol):
    """Collects; pauses after what `pauses` says, and goes on a few turns of the loop later."""

    def __init__(self, pauses):
        self.pauses = itertools.cycle(pauses)
        self.received = bytearray()
        self.paused = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        assert data
        assert not self.paused
        self.received += data
        if next(self.pauses):
            self.paused = True
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0, self.go_on)

    def go_on(self):
        self.paused = False
        self.transport.resume_reading()


class Pipe(asyncio.Transport):
    """A socket's transport without a socket: what is written is collected."""

    def __init__(self):
        super().__init__()
        self.written = bytearray()
        self.reading = True

    def write(self, data):
        self.written += data

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_write_buffer_size(self):
        return 0

    def close(self):
        pass

    def abort(self):
        pass


def bodies(sizes):
    return [bytes([number % 251]) * size for number, size in enumerate(sizes)]


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


class Exchange:
    """A client, and a stream whose socket is in the test's hands."""

    def __init__(self, contexts, context, pauses):
        self.protocol = Wavering(pauses)
        self.tls = TlsServer(contexts, handshake_timeout_s=60)
        self.stream = self.tls.under(lambda: self.protocol, wire=Wire.HTTPS)()
        self.pipe = Pipe()
        self.inward, self.outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self.inward, self.outward, server_hostname="localhost")
        self.stream.connection_made(self.pipe)

    def take(self):
        """Give the client what the server sent."""
        self.inward.write(bytes(self.pipe.written))
        self.pipe.written.clear()

    async def give(self, cuts):
        """Give the server what the client sent, in pieces of these sizes, when it reads."""
        data = self.outward.read()
        sizes = itertools.cycle(cuts)
        while data:
            size = next(sizes)
            while not self.pipe.reading:
                await asyncio.sleep(0)
            self.stream.data_received(data[:size])
            data = data[size:]
        await settle()

    async def shake(self, cuts):
        while True:
            try:
                self.client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self.give(cuts)
                self.take()
        await self.give(cuts)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    sizes=SIZES,
    pauses=PAUSES,
    cuts=st.lists(st.integers(1, 70_000), min_size=1, max_size=5),
)
async def test_nothing_is_lost_on_the_way_in(contexts, client, version, sizes, pauses, cuts):
    """However TCP cuts the bytes and the protocol pauses, it gets all of them in order."""
    exchange = Exchange(contexts, client(version), pauses)
    await exchange.shake([max(cut, 10) for cut in cuts])

    sent = bodies(sizes)
    for body in sent:
        exchange.client.write(body)
    await exchange.give([max(cut, 50) for cut in cuts])
    async with asyncio.timeout(10):
        while len(exchange.protocol.received) < sum(sizes):
            await asyncio.sleep(0)

    assert exchange.protocol.received == b"".join(sent)
    exchange.tls.stop()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sizes=SIZES, kinds=st.lists(st.sampled_from([bytes, bytearray, memoryview]), min_size=1))
async def test_nothing_is_lost_on_the_way_out(contexts, client, version, sizes, kinds):
    """Writes of any size and kind leave whole and in order."""
    exchange = Exchange(contexts, client(version), [False])
    await exchange.shake([70_000])

    sent = bodies(sizes)
    for body, kind in zip(sent, itertools.cycle(kinds), strict=False):
        exchange.stream.write(kind(body))
    exchange.stream.write(b"")
    exchange.stream.writelines(sent)
    exchange.stream.close()
    exchange.take()
    received = bytearray()
    while True:
        try:
            data = exchange.client.read(65_536)
        except ssl.SSLWantReadError:
            break
        if not data:
            break
        received += data

    assert received == b"".join(sent) * 2
    exchange.tls.stop()


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sizes=SIZES)
async def test_an_echo_is_what_was_said(serve, client, sizes):
    """Over real sockets, both ways at once, everything comes back."""
    served = await serve()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", served.port, ssl=client(), server_hostname="localhost"
    )
    sent = b"".join(bodies(sizes))
    writer.write(sent)
    async with asyncio.timeout(10):
        assert await reader.readexactly(len(sent)) == sent
    writer.transport.abort()
