"""Bodies sent in pieces, whole or a range of them."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
import structlog
from aiohttp import web
from http_ground import make_listener
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import StoreUnavailable
from gateway.transports.http_connection import Connection
from gateway.transports.http_pieces import PIECE, asked_range
from gateway.wire.call import Reply
from gateway.wire.route import Route

MIB = 1024 * 1024
ASK = b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n"


class File:
    """Bytes that are made as they are read; it fails from `broken_at` on."""

    def __init__(self, size, broken_at=None) -> None:
        self.size = size
        self.reads: list[tuple[int, int]] = []
        self._broken_at = size if broken_at is None else broken_at

    def part(self, offset, size):
        period = bytes(range(251))
        begin = offset % 251
        return (period * (size // 251 + 2))[begin : begin + size]

    async def read(self, offset, size):
        self.reads.append((offset, size))
        await asyncio.sleep(0)
        if offset >= self._broken_at:
            raise StoreUnavailable("gone")
        return self.part(offset, min(size, self.size - offset))


@pytest.fixture
async def serve():
    """Serves one source at `/file`, with a listener's options."""
    opened = []

    async def start(source, **options):
        async def handler(call):
            return Reply(source=source, headers={"x-filename": "fw.bin"})

        served = make_listener([Route(name="f", handler=handler, http=("GET /file",))], **options)
        await served.start()
        opened.append(served)
        return served

    yield start
    for served in opened:
        await served.stop(0.2)


async def fetch(served, method="GET", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{served.port}/file", headers=named) as answer,
    ):
        return answer.status, await answer.read(), answer.headers


async def test_a_large_file_is_sent_in_small_pieces(serve):
    """20 MB arrive whole, and no read is larger than a piece or out of order."""
    file = File(20_000_003)
    code, body, headers = await fetch(await serve(file))
    assert code == 200
    assert body == file.part(0, file.size)
    assert headers["Content-Length"] == "20000003"
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["x-filename"] == "fw.bin"
    assert "Transfer-Encoding" not in headers
    assert max(size for _, size in file.reads) == PIECE
    assert [offset for offset, _ in file.reads] == list(range(0, file.size, PIECE))


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1])
async def test_every_size_is_exact(serve, size, connect):
    """Nothing, a byte, a piece and a piece and a byte arrive, one after the other."""
    file = File(size)
    served = await serve(file)
    reader, writer = await connect(served)
    for _ in range(2):
        writer.write(ASK)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nContent-Length: %d\r\n" % size in head
        assert await reader.readexactly(size) == file.part(0, size)


async def test_head_reads_nothing(serve):
    """HEAD has the head of GET's answer, and the file is not touched."""
    file = File(MIB)
    code, body, headers = await fetch(await serve(file), "HEAD", Range="bytes=0-1")
    assert (code, body, headers["Content-Length"]) == (200, b"", str(MIB))
    assert headers["x-filename"] == "fw.bin"
    assert file.reads == []


async def test_who_does_not_take_it_is_not_read_for(serve, connect):
    """The file is read no faster than the client takes it."""
    file = File(64 * MIB)
    served = await serve(file)
    reader, _ = await connect(served, ASK, narrow=True)
    await reader.read(1)
    await asyncio.sleep(0.2)
    read = len(file.reads)
    assert read * PIECE < 2 * MIB  # what the sockets of both sides may hold
    await asyncio.sleep(0.1)
    assert len(file.reads) == read
    assert all(
        connection._stream.get_write_buffer_size() < 2 * PIECE for connection in served._connections
    )


async def test_a_client_that_takes_nothing_is_cut(serve, logged, connect):
    """After the write time-out its connection is closed, and the file read no more."""
    file = File(64 * MIB)
    served = await serve(file, write_timeout_s=0.3)
    reader, _ = await connect(served, ASK, narrow=True)
    await reader.read(1)
    began = time.monotonic()
    async with asyncio.timeout(3):
        while served._connections:
            await asyncio.sleep(0.02)
    assert time.monotonic() - began > 0.25
    await asyncio.sleep(0.02)
    assert served._in_flight == 0
    assert len(file.reads) * PIECE < 2 * MIB
    assert len(logged()) <= 1


async def test_a_client_that_takes_a_little_is_served(serve, connect):
    """A slow reader lives longer than the write time-out, as long as it goes on reading."""
    file = File(8 * MIB)
    served = await serve(file, write_timeout_s=0.3)
    reader, _ = await connect(served, ASK, narrow=True)
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(10):
        await reader.readexactly(256 * 1024)
        await asyncio.sleep(0.08)
    assert served._connections
    assert len(await reader.readexactly(8 * MIB - 10 * 256 * 1024)) > 0


class Buffer:
    """What a transport tells of the bytes that wait in it."""

    def __init__(self, size) -> None:
        self.size = size
        self.aborted = False

    def get_write_buffer_size(self):
        return self.size

    def abort(self):
        self.aborted = True


async def test_any_progress_is_enough_to_stay():
    """Each time fewer bytes wait than before, the time a client has begins anew."""

    async def nothing(request):
        return web.Response()

    connection = Connection(web.Server(nothing), forget=print, unreadable=web.Response)
    connection._stream = buffer = Buffer(1000)
    connection.pause_writing()
    began = time.monotonic()
    for second, size, aborted in (
        (9, 1000, False),
        (19, 999, False),
        (28, 999, False),
        (30, 999, True),
    ):
        buffer.size = size
        connection.cut_if_stuck(began + second, 10)
        assert buffer.aborted is aborted


async def test_a_client_that_leaves_ends_the_reading(serve, logged, connect):
    """A dropped download is no event; the file is not read to its end."""
    file = File(64 * MIB)
    served = await serve(file)
    reader, writer = await connect(served, ASK, narrow=True)
    await reader.read(1)
    writer.transport.abort()
    async with asyncio.timeout(2):
        while served._in_flight:
            await asyncio.sleep(0.01)
    assert len(file.reads) * PIECE < 2 * MIB
    assert len(logged()) <= 1


@pytest.mark.parametrize("shorter", [False, True])
async def test_a_file_that_fails_midway_ends_the_connection(serve, shorter, connect):
    """The client sees that bytes are missing: the connection ends before the length is reached."""
    file = File(10 * PIECE, broken_at=None if shorter else 3 * PIECE)
    if shorter:
        file.part = lambda offset, size: bytes(size) if offset < 3 * PIECE else b""
    served = await serve(file)
    with structlog.testing.capture_logs() as events:
        reader, _ = await connect(served, ASK)
        answer = await asyncio.wait_for(reader.read(), 2)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: %d\r\n" % (10 * PIECE) in head + b"\r\n"
    assert len(body) == 3 * PIECE
    failed = [event for event in events if event["event"] == "http.source_failed"]
    assert [type(event["exc_info"]) for event in failed] == [StoreUnavailable]


async def test_a_file_that_cannot_be_read_is_an_empty_500(serve):
    """What fails before anything was sent is an answer."""
    with structlog.testing.capture_logs():
        code, body, _ = await fetch(await serve(File(MIB, broken_at=0)))
    assert (code, body) == (500, b"")


async def test_a_stop_waits_for_a_download_as_long_as_its_grace(serve, connect):
    """A download under way is finished when it can be, and cut when the grace is over."""
    quick, stuck = await serve(File(4 * MIB)), await serve(File(64 * MIB))
    reader, _ = await connect(quick, ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    stopping = asyncio.create_task(quick.stop(5.0))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(await asyncio.wait_for(reader.read(), 3)) == 4 * MIB
    await stopping
    narrow_reader, _ = await connect(stuck, ASK, narrow=True)
    await narrow_reader.read(1)
    began = time.monotonic()
    await stuck.stop(0.3)
    assert 0.25 < time.monotonic() - began < 1.5


# ── ranges ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-99999", 10, 99_999),
        ("BYTES=200000-", 200_000, 299_999),
        ("bytes=-5", 299_995, 299_999),
        ("bytes=299999-99999999999999999999999", 299_999, 299_999),
    ],
)
async def test_a_range_is_sent_alone(serve, asked, first, last):
    """206 with the bytes that were asked for, and no more is read."""
    file = File(300_000)
    code, body, headers = await fetch(await serve(file), Range=asked)
    assert code == 206
    assert body == file.part(first, last - first + 1)
    assert headers["Content-Range"] == f"bytes {first}-{last}/300000"
    assert headers["Content-Length"] == str(len(body))
    assert sum(size for _, size in file.reads) == len(body)


@pytest.mark.parametrize(
    ("asked", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-5", 0), ("bytes=-5", 0)]
)
async def test_bytes_that_are_not_there(serve, asked, size):
    """A range behind the end is 416, says how many bytes there are, and reads none."""
    file = File(size)
    code, body, headers = await fetch(await serve(file), Range=asked)
    assert code == 416
    assert headers["Content-Range"] == f"bytes */{size}"
    assert b"message" in body
    assert file.reads == []


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=0-1,4-5", "bytes=-", "items=0-1", "bytes=a-b", "bytes 0-1", ""]
)
async def test_what_is_no_range_gets_the_whole(serve, asked):
    """Several ranges, other units and nonsense are answered 200 with everything."""
    code, body, headers = await fetch(await serve(File(100)), Range=asked)
    assert (code, len(body)) == (200, 100)
    assert "Content-Range" not in headers


async def test_a_condition_we_cannot_meet_gets_the_whole(serve):
    """If-Range names a version we know nothing of, so all of it is sent."""
    served = await serve(File(100))
    code, body, _ = await fetch(served, Range="bytes=0-1", If_Range='"v1"')
    assert (code, len(body)) == (200, 100)


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 1000),
    st.text(max_size=20) | st.from_regex(r"bytes=[0-9]{0,5}-[0-9]{0,5}", fullmatch=True),
)
def test_any_range_lies_within_the_body(size, text):
    """Whatever is asked for, what is sent are bytes that exist."""
    span = asked_range(text, size)
    assert span is None or not span or 0 <= span.start < span.stop <= size
    if text == f"bytes=0-{size}" and size:
        assert span == range(size)
