"""SIGTERM while devices wait, watch, download and are called: all is ended well, and in time."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from beside import CALLS, beside, born, online, session_of, until
from house import MIB, Gatehouse, NewGatehouse
from wires import DISCONNECT, GET, HOST, PUBLISH, Mqtt, coap, http, http_request

POLLS = 20
FIRMWARE = bytes(range(256)) * 4096 * 8


@asynccontextmanager
async def hook_without_an_answer() -> AsyncIterator[tuple[int, list[bytes]]]:
    """Somebody who takes calls and never answers: the port, and what was asked."""
    asked: list[bytes] = []
    ends = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        await ends.wait()
        writer.close()

    server = await asyncio.start_server(take, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        ends.set()
        server.close()


async def gone_within(house: Gatehouse, seconds: float) -> None:
    """SIGTERM, and the process is gone with status 0 in time."""
    began = time.monotonic()
    house.signal(signal.SIGTERM)
    assert await asyncio.to_thread(house.wait, seconds) == 0
    assert time.monotonic() - began < seconds
    assert "Traceback" not in house.log()


async def test_whoever_waits_is_told(new_gatehouse: NewGatehouse) -> None:
    """Polls and calls over HTTP are answered with 503, observers and sessions told goodbye."""
    async with AsyncExitStack() as stack:
        port, asked = await stack.enter_async_context(hook_without_an_answer())
        house = new_gatehouse(GATEHOUSE_RPC_HOOK=f"http://{HOST}:{port}/")
        house.start()
        token, observed, called = await born(house, "polled", "observed", "called")
        people = await stack.enter_async_context(beside(house))
        webs = [await stack.enter_async_context(http(house.ports.http)) for _ in range(POLLS + 1)]
        for number, web in enumerate(webs[:POLLS]):
            path = ("rpc", "attributes/updates")[number % 2]
            web.writer.write(http_request("GET", f"/api/v1/{token}/{path}"))
        body = b'{"method":"m","params":{}}'
        webs[-1].writer.write(http_request("POST", f"/api/v1/{token}/rpc", body))
        device = await stack.enter_async_context(coap(house.ports.coap))
        for path in ("attributes", "rpc"):
            first = await device.ask(GET, f"api/v1/{observed}/{path}", observe=0)
            assert first.opt.observe == 0
        session = await stack.enter_async_context(session_of(house, called, 5))
        await session.subscribe(CALLS)
        await people.call("called", "m", persistent=False, lasts_s=60)
        assert (await session.published()).topic.endswith("/0")
        await until(lambda: len(asked) == 1, 5, "the hook was not asked")
        device.raw.clear()
        await gone_within(house, 10)
        for web in webs:
            reply = await web.read()
            assert reply.status == 503
            assert int(reply.headers["retry-after"]) > 0
            assert await web.reader.read() == b""
        assert await session.outcome() == [(DISCONNECT, 0x8B), (0, 0)]
        assert len(device.raw) == 2
        assert online(house, "observed", "called") == set()


async def test_a_poll_that_just_got_its_answer_keeps_it(house: Gatehouse) -> None:
    """Changes while the gateway stops: each poll is answered once, with the change or with 503."""
    async with AsyncExitStack() as stack:
        token = (await born(house, "polled"))[0]
        people = await stack.enter_async_context(beside(house))
        webs = [await stack.enter_async_context(http(house.ports.http)) for _ in range(POLLS)]
        for web in webs:
            web.writer.write(http_request("GET", f"/api/v1/{token}/attributes/updates"))
        await asyncio.sleep(0.3)
        changing = asyncio.create_task(people.share("polled", n=1))
        await gone_within(house, 10)
        await changing
        for web in webs:
            reply = await web.read()
            assert (reply.status, reply.body) == (200, b'{"n":1}') or reply.status == 503


@pytest.mark.parametrize("reads", [True, False])
async def test_a_stop_amid_downloads(house: Gatehouse, tmp_path: Path, reads: bool) -> None:
    """Whoever reads gets the file whole over HTTP and MQTT; whoever does not delays nothing."""
    token = (await born(house, "d"))[0]
    async with AsyncExitStack() as stack:
        people = await stack.enter_async_context(beside(house))
        await people.assign("d", "fw", FIRMWARE, tmp_path / "fw.bin")
        session = await stack.enter_async_context(session_of(house, token))
        web = stack.enter_context(_half_read(house, token))
        session.publish("v2/fw/request/1/chunk/0", b"", 0)
        begun = await session.reader.readexactly(1)
        assert begun[0] & 0xF0 == PUBLISH
        stopping = asyncio.create_task(gone_within(house, 10))
        if reads:
            received, _ = await asyncio.gather(asyncio.to_thread(_rest, web), _skip(session))
            assert received == len(FIRMWARE)
        await stopping


def _half_read(house: Gatehouse, token: str) -> socket.socket:
    """A download over HTTP of which the first bytes were read."""
    sock = socket.create_connection((HOST, house.ports.http), 10)
    sock.sendall(http_request("GET", f"/api/v1/{token}/firmware?title=fw&version=1"))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 200")
    return sock


def _rest(sock: socket.socket) -> int:
    """How many bytes follow."""
    size = 0
    while part := sock.recv(MIB):
        size += len(part)
    return size


async def _skip(session: Mqtt) -> None:
    """Read what is left of a PUBLISH whose first byte was read."""
    size = shift = 0
    while True:
        digit = (await session.reader.readexactly(1))[0]
        size |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            break
    assert size > len(FIRMWARE)
    await session.reader.readexactly(size)
