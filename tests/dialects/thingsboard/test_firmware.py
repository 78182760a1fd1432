"""Firmware and software over the air, on all three wires (section 14)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from gateway.core.limits import Limits, RateLimiter, parse_rate
from gateway.core.model import ChecksumAlgorithm, Package, PackageKind, Wire
from gateway.core.packages import Packages
from gateway.dialects.thingsboard.firmware import MOST_CHUNK, MOST_REQUESTS
from gateway.store.packages import PackageStore
from gateway.wire.call import Format, Reply, Status

if TYPE_CHECKING:
    from conftest import House

FW, SW = PackageKind.FIRMWARE, PackageKind.SOFTWARE
CONTENT = bytes(range(256)) * 4
LARGE = bytes(range(250)) * 1000
NAMED = {"title": "app", "version": "1"}
FEATURES = {FW: "firmware", SW: "software"}


class Shelf:
    """Packages with their contents, and who is to run them."""

    def __init__(self, house: House, files: PackageStore, folder: Path) -> None:
        self._house = house
        self._files = files
        self._source = folder / "source.bin"

    async def add(self, content: bytes = CONTENT, kind: PackageKind = FW, **more: Any) -> Package:
        self._source.write_bytes(content)
        added = self._files.add(self._source, ChecksumAlgorithm.SHA256)
        given = {"title": "app", "version": "1", "size": added.size, "file": added.file} | more
        package = await self._house.registry.packages.add(Package(kind=kind, **given))
        assert package is not None
        return package

    async def assign(self, package: Package | None, kind: PackageKind = FW, to: str = "d") -> None:
        device = await self._house.device(to)
        await self._house.registry.packages.assign(kind, package, device)

    async def downloads(self, of: str = "d") -> dict[PackageKind, int]:
        packages: Packages = self._house.parts["packages"]
        await packages.write()
        # A write is not waited for; a decision behind it is.
        await self._house.share(to=of, settled=1)
        known = await self._house.known(of)
        return {one.kind: one.sent for one in await self._house.registry.packages.downloads(known)}


@pytest.fixture
async def shelf(house: House, tmp_path: Path, store: Any) -> Any:
    files = PackageStore(tmp_path / "packages")
    house.begin(packages=Packages(store, files, house.clock))
    yield Shelf(house, files, tmp_path)
    files.close()


async def whole(reply: Reply) -> bytes:
    """A body, read in pieces as a transport does."""
    if reply.source is None:
        return reply.body
    read, size = reply.source.read, reply.source.size
    return b"".join([await read(offset, 10_000) for offset in range(0, size, 10_000)])


async def get(
    house: House, wire: Wire, token: str, query: Mapping[str, Any], kind: PackageKind = FW
) -> Reply:
    path = f"/api/v1/{token}/{FEATURES[kind]}" if wire is Wire.HTTP else f"/{kind.value}/{token}"
    asked = {name: str(value) for name, value in query.items()}
    return (await house.ask(wire, f"GET {path}", query=asked))[1]


# ── HTTP and CoAP ─────────────────────────────────────────────────────────────────────────────

both = pytest.mark.parametrize("wire", [Wire.HTTP, Wire.COAP])
kinds = pytest.mark.parametrize("kind", list(PackageKind))


@both
@kinds
@pytest.mark.parametrize("more", [{}, {"size": 0, "chunk": 0}, {"size": ""}])
async def test_a_whole_package(
    house: House, shelf: Shelf, wire: Wire, kind: PackageKind, more: dict[str, Any]
) -> None:
    """Without a size the device gets everything, in pieces, and how far it came is noted."""
    token = await house.add()
    await shelf.assign(await shelf.add(LARGE, kind), kind)
    reply = await get(house, wire, token, NAMED | more, kind)
    assert (reply.status, reply.format) == (Status.OK, Format.BYTES)
    assert reply.source is not None
    assert reply.source.size == len(LARGE)
    await reply.source.read(0, 1000)
    assert await shelf.downloads() == {kind: 1000}
    assert await whole(reply) == LARGE
    assert await shelf.downloads() == {kind: len(LARGE)}


@both
@pytest.mark.parametrize("size", [100, 1000, 1024, 70_000, 120_000, 250_000, 9_999_999_999])
async def test_chunks_put_together_are_the_package(
    house: House, shelf: Shelf, wire: Wire, size: int
) -> None:
    """Of whatever size; the one behind the end, which the SDK asks for, is OK and empty."""
    token = await house.add()
    content = LARGE if size > 1024 else CONTENT
    await shelf.assign(await shelf.add(content))
    got = []
    for number in range(-(-len(content) // size) + 1):
        reply = await get(house, wire, token, NAMED | {"size": size, "chunk": number})
        assert reply.status is Status.OK
        got.append(await whole(reply))
    assert b"".join(got) == content
    assert (got[-1], reply.source) == (b"", None)
    assert {len(one) for one in got[:-2]} <= {size}
    assert await shelf.downloads() == {FW: len(content)}


async def test_no_more_than_one_chunk_is_in_memory(house: House, shelf: Shelf) -> None:
    """What is larger than 64 KiB is a body in pieces, though it is a chunk."""
    token = await house.add()
    await shelf.assign(await shelf.add(LARGE))
    for size, held in ((MOST_CHUNK, True), (MOST_CHUNK + 1, False)):
        reply = await get(house, Wire.HTTP, token, NAMED | {"size": size, "chunk": 1})
        assert (reply.source is None) == held
        assert await whole(reply) == LARGE[size : 2 * size]


@both
@pytest.mark.parametrize(
    ("query", "over_http", "over_coap"),
    [
        ({}, Status.BAD_REQUEST, Status.OK),
        ({"title": "app"}, Status.BAD_REQUEST, Status.OK),
        ({"version": "1"}, Status.BAD_REQUEST, Status.OK),
        ({"title": "app", "version": "2"}, Status.BAD_REQUEST, Status.BAD_REQUEST),
        ({"title": "App", "version": "1"}, Status.BAD_REQUEST, Status.BAD_REQUEST),
        (NAMED | {"size": "x"}, Status.BAD_REQUEST, Status.BAD_REQUEST),
        (NAMED | {"chunk": "-1"}, Status.BAD_REQUEST, Status.BAD_REQUEST),
        (NAMED | {"size": "\N{SUPERSCRIPT TWO}"}, Status.BAD_REQUEST, Status.BAD_REQUEST),
        (NAMED | {"size": "1" * 5000}, Status.BAD_REQUEST, Status.BAD_REQUEST),
    ],
)
async def test_title_and_version_must_be_the_assigned_ones(
    house: House,
    shelf: Shelf,
    wire: Wire,
    query: dict[str, str],
    over_http: Status,
    over_coap: Status,
) -> None:
    """HTTP devices must name both, CoAP devices need not; numbers must be numbers."""
    token = await house.add()
    await shelf.assign(await shelf.add())
    reply = await get(house, wire, token, query)
    assert reply.status is (over_http if wire is Wire.HTTP else over_coap)


async def test_http_wants_the_names_before_it_looks(house: House, shelf: Shelf) -> None:
    """Without them it is 400, also when nothing is assigned."""
    assert (await get(house, Wire.HTTP, await house.add(), {})).status is Status.BAD_REQUEST


@both
@kinds
async def test_nothing_is_assigned(
    house: House, shelf: Shelf, wire: Wire, kind: PackageKind
) -> None:
    """404 and 4.04; the other kind's package is no help."""
    token = await house.add()
    other = SW if kind is FW else FW
    await shelf.assign(await shelf.add(kind=other), other)
    assert (await get(house, wire, token, NAMED, kind)).status is Status.NOT_FOUND


@both
@kinds
async def test_a_package_that_lies_elsewhere(
    house: House, shelf: Shelf, wire: Wire, kind: PackageKind
) -> None:
    """Is not to be had here; the reason names the attribute that says where."""
    token = await house.add()
    package = Package(kind=kind, title="app", version="1", url="https://example.com/app.bin")
    await shelf.assign(await house.registry.packages.add(package), kind)
    reply = await get(house, wire, token, NAMED, kind)
    assert reply.status is Status.NOT_FOUND
    assert f"{kind.value}_url" in reply.reason


@both
async def test_strangers_get_nothing(house: House, shelf: Shelf, wire: Wire) -> None:
    """An unknown token is 401 and 4.01."""
    assert (await get(house, wire, "wrong", NAMED)).status is Status.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("file_name", "disposition"),
    [
        ("app-1.0.bin", "attachment;filename=app-1.0.bin"),
        ("", "attachment;filename=app"),
        ("my app.bin", "attachment;filename=\"my app.bin\";filename*=UTF-8''my%20app.bin"),
        ("ä.bin", "attachment;filename=\"%C3%A4.bin\";filename*=UTF-8''%C3%A4.bin"),
        ('a";x="b', "attachment;filename=\"a%22;x=%22b\";filename*=UTF-8''a%22%3Bx%3D%22b"),
        ("a\\", "attachment;filename=\"a%5C\";filename*=UTF-8''a%5C"),
        ("a\r\nb", "attachment;filename=\"a%0D%0Ab\";filename*=UTF-8''a%0D%0Ab"),
        ("100%", "attachment;filename=\"100%25\";filename*=UTF-8''100%25"),
    ],
)
async def test_the_file_has_its_name(
    house: House, shelf: Shelf, file_name: str, disposition: str
) -> None:
    """As RFC 6266 wants it: no name breaks out of its header."""
    token = await house.add()
    await shelf.assign(await shelf.add(file_name=file_name))
    for more in ({}, {"size": 10}):
        headers = (await get(house, Wire.HTTP, token, NAMED | more)).headers
        assert headers["Content-Disposition"] == disposition
        assert unquote(headers["x-filename"]) == (file_name or "app")
        assert headers["x-filename"].isprintable()
        assert headers["x-filename"].isascii()


# ── MQTT ──────────────────────────────────────────────────────────────────────────────────────


@kinds
async def test_chunks_over_mqtt(house: House, shelf: Shelf, kind: PackageKind) -> None:
    """The size is given once and remembered; the chunk behind the end is empty."""
    client = await house.connect(await house.add())
    await shelf.assign(await shelf.add(kind=kind), kind)
    got = b""
    for number, body in enumerate((b"400", b"", b"400", b"")):
        reply = await client.publish(f"v2/{kind.value}/request/7/chunk/{number}", body)
        assert (reply.status, reply.format) == (Status.OK, Format.BYTES)
        assert reply.topic == f"v2/{kind.value}/response/7/chunk/{number}"
        assert len(reply.body) == (400, 400, 224, 0)[number]
        got += reply.body
    assert got == CONTENT
    assert await shelf.downloads() == {kind: len(CONTENT)}


async def test_the_whole_file_over_mqtt(house: House, shelf: Shelf) -> None:
    """An empty payload, or 0, asks for it; behind it there is nothing."""
    client = await house.connect(await house.add())
    await shelf.assign(await shelf.add(LARGE))
    for body in (b"", b"0"):
        reply = await client.publish("v2/fw/request/1/chunk/0", body)
        assert reply.topic == "v2/fw/response/1/chunk/0"
        assert reply.source is not None
        assert await whole(reply) == LARGE
        reply = await client.publish("v2/fw/request/1/chunk/1", body)
        assert (reply.topic, reply.body, reply.source) == ("v2/fw/response/1/chunk/1", b"", None)


async def test_sizes_are_remembered_for_each_request_and_kind(house: House, shelf: Shelf) -> None:
    """And a new one replaces the old; another session knows nothing of it."""
    token = await house.add()
    client = await house.connect(token)
    for kind in PackageKind:
        await shelf.assign(await shelf.add(kind=kind), kind)
    for topic, size in (("fw/request/1", 10), ("fw/request/2", 20), ("sw/request/1", 30)):
        await client.publish(f"v2/{topic}/chunk/0", str(size))
    for topic, size in (("fw/request/1", 10), ("fw/request/2", 20), ("sw/request/1", 30)):
        assert len((await client.publish(f"v2/{topic}/chunk/1")).body) == size
    assert len((await client.publish("v2/fw/request/1/chunk/1", b"15")).body) == 15
    assert len((await client.publish("v2/fw/request/1/chunk/1")).body) == 15
    other = await house.connect(token)
    assert (await other.publish("v2/fw/request/1/chunk/1")).body == b""


async def test_only_so_many_requests_are_remembered(house: House, shelf: Shelf) -> None:
    """The one not used for the longest time is forgotten."""
    client = await house.connect(await house.add())
    await shelf.assign(await shelf.add())
    for number in range(MOST_REQUESTS):
        await client.publish(f"v2/fw/request/{number}/chunk/0", b"8")
    await client.publish("v2/fw/request/0/chunk/1")
    await client.publish("v2/fw/request/5/chunk/1")  # known: nobody makes room for it
    await client.publish("v2/fw/request/more/chunk/0", b"8")
    await client.publish(f"v2/fw/request/{MOST_REQUESTS}/chunk/0", b"8")
    assert (await client.publish("v2/fw/request/3/chunk/1")).body == CONTENT[8:16]
    [kept] = [one for one in client.admitted.state.values() if isinstance(one, dict)]
    assert len(kept) == MOST_REQUESTS
    assert (await client.publish("v2/fw/request/0/chunk/1")).body == CONTENT[8:16]
    assert (await client.publish("v2/fw/request/1/chunk/1")).body == b""


async def test_chunks_of_two_packages_never_mix(house: House, shelf: Shelf) -> None:
    """A download that began goes on though another package is assigned; the next is of that."""
    client = await house.connect(await house.add())
    one, other = await shelf.add(), await shelf.add(LARGE, version="2")
    await shelf.assign(one)
    await client.publish("v2/fw/request/1/chunk/0", b"500")
    await shelf.assign(other)
    assert (await client.publish("v2/fw/request/1/chunk/1")).body == CONTENT[500:1000]
    assert (await client.publish("v2/fw/request/1/chunk/0")).body == LARGE[:500]
    assert (await client.publish("v2/fw/request/1/chunk/1")).body == LARGE[500:1000]


@kinds
async def test_errors_go_to_the_topic_of_firmware(
    house: House, shelf: Shelf, kind: PackageKind
) -> None:
    """Of software too. Only too large a chunk costs the connection."""
    client = await house.connect(await house.add())
    topic = f"v2/{kind.value}/request/1/chunk/0"
    reply = await client.publish(topic, b"10")
    assert (reply.topic, reply.body, reply.close) == ("v2/fw/error", b"NOT_FOUND", None)
    package = Package(kind=kind, title="app", version="0", url="https://example.com/app.bin")
    await shelf.assign(await house.registry.packages.add(package), kind)
    reply = await client.publish(topic, b"10")
    assert (reply.topic, reply.body, reply.close) == ("v2/fw/error", b"FAILURE", None)
    await shelf.assign(await shelf.add(LARGE, kind), kind)
    assert len((await client.publish(topic, b"65536")).body) == 65_536
    reply = await client.publish(topic, b"65537")
    assert (reply.topic, reply.body, reply.close) == ("v2/fw/error", b"PAYLOAD_TOO_LARGE", 0x83)
    assert reply.status is Status.REFUSED


@pytest.mark.parametrize(
    ("request_id", "number", "body"),
    [
        ("1", "0", b"x"),
        ("1", "0", b"-1"),
        ("1", "0", b"\xff"),
        ("1", "0", "\N{SUPERSCRIPT TWO}".encode()),
        ("1", "0", b"1" * 5000),
        ("1", "x", b"1"),
        ("x", "0", b"1"),
        ("1" * 11, "0", b"1"),
    ],
)
async def test_what_is_no_number_is_a_bad_payload(
    house: House, shelf: Shelf, request_id: str, number: str, body: bytes
) -> None:
    """In the topic as in the payload."""
    client = await house.connect(await house.add())
    await shelf.assign(await shelf.add())
    reply = await client.publish(f"v2/fw/request/{request_id}/chunk/{number}", body)
    assert reply.status is Status.BAD_REQUEST


async def test_every_question_is_counted(house: House, shelf: Shelf) -> None:
    """A device that asks too often is limited, on every wire."""
    house.begin(limiter=RateLimiter(device=Limits(messages=parse_rate("2:60"))))
    token = await house.add()
    await shelf.assign(await shelf.add())
    client = await house.connect(token)  # takes one
    assert (await client.publish("v2/fw/request/1/chunk/0", b"8")).status is Status.OK
    assert (await client.publish("v2/fw/request/1/chunk/1")).status is Status.LIMITED
    for wire in (Wire.HTTP, Wire.COAP):
        reply = await get(house, wire, token, NAMED)
        assert (reply.status, reply.retry_after_s) == (Status.LIMITED, 30)


async def test_a_lost_content_is_no_answer(house: House, shelf: Shelf, tmp_path: Path) -> None:
    """What cannot be read is a fault of ours, and nothing is noted."""
    token = await house.add()
    package = await shelf.add()
    await shelf.assign(package)
    (tmp_path / "packages" / package.file).unlink()
    reply = await get(house, Wire.HTTP, token, NAMED | {"size": 10})
    assert reply.status is Status.INTERNAL
    assert await shelf.downloads() == {}


async def test_many_devices_download_at_once(house: House, shelf: Shelf) -> None:
    """Each gets its bytes, and its own progress."""
    package = await shelf.add(LARGE)
    tokens = [await house.add(f"d{number}") for number in range(8)]
    for number in range(8):
        await shelf.assign(package, to=f"d{number}")
    clients = [await house.connect(token) for token in tokens]
    await asyncio.gather(
        *(client.publish(f"v2/fw/request/1/chunk/{n}", b"5000") for n, client in enumerate(clients))
    )
    for number in range(8):
        assert await shelf.downloads(f"d{number}") == {FW: 5000 * (number + 1)}
