"""Section 14 of the contract on sockets, where no other test has its row: packages over the air."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from contract import CLOSED, add_package, assign, session_of, told
from inside import Gate
from wires import DELETE, DISCONNECT, GET, PUBLISH, Coap, Mqtt, coap, dotted, http, observing

from gateway.core.model import Package, PackageKind

KINDS = pytest.mark.parametrize("kind", PackageKind)
VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])
CONTENT = bytes(range(256)) * 400
FEATURES = {PackageKind.FIRMWARE: "firmware", PackageKind.SOFTWARE: "software"}


@pytest.fixture
def gate(gate_on_disk: Gate) -> Gate:
    """One that keeps packages."""
    return gate_on_disk


def announced(package: Package, **more: Any) -> dict[str, Any]:
    """The attributes that say what a device is to run."""
    said = {
        "title": package.title,
        "version": package.version,
        "size": package.size,
        "checksum": package.checksum,
        "checksum_algorithm": "SHA256",
        "tag": f"{package.title} {package.version}",
        **more,
    }
    return {f"{package.kind.value}_{name}": value for name, value in said.items()}


@KINDS
async def test_a_package_is_announced(gate: Gate, tmp_path: Path, kind: PackageKind) -> None:
    """By shared attributes, on every wire; its withdrawal by their names."""
    token = await gate.add("d")
    package = await add_package(gate, tmp_path, CONTENT, kind, version="2.0", tag="beta")
    expected = announced(package, tag="beta")
    path = f"/api/v1/{token}/attributes"
    async with (
        session_of(gate, token) as session,
        observing(gate.ports.coap) as device,
        http(gate.ports.http) as web,
    ):
        assert await session.subscribe("v1/devices/me/attributes") == [1]
        observed = device.observe(path)
        assert json.loads((await device.next(observed)).payload) == {}
        poll = asyncio.create_task(web.ask("GET", f"{path}/updates"))
        await asyncio.sleep(0.1)
        await assign(gate, package)
        assert await told(session) == ("v1/devices/me/attributes", expected)
        assert json.loads((await device.next(observed)).payload) == expected
        assert json.loads((await poll).body) == expected
        prefix = kind.value
        reply = await web.ask("GET", f"{path}?sharedKeys={prefix}_title,{prefix}_version")
        shared = {f"{prefix}_title": "app", f"{prefix}_version": "2.0"}
        assert json.loads(reply.body) == {"shared": shared}
        known = await gate.registry.device("d")
        assert known is not None
        await gate.registry.packages.assign(kind, None, known.device)
        _, change = await told(session)
        assert sorted(change["deleted"]) == sorted(expected)
        assert sorted(json.loads((await device.next(observed)).payload)["deleted"]) == sorted(
            expected
        )
        assert (await web.ask("GET", path)).body == b"{}"


@KINDS
async def test_one_package_after_another(gate: Gate, tmp_path: Path, kind: PackageKind) -> None:
    """That of the profile until there is one of its own; one elsewhere has its address."""
    token, prefix = await gate.add("d"), kind.value
    first = await add_package(gate, tmp_path, CONTENT, kind)
    url = "https://files.example/app.bin"
    second = await add_package(gate, tmp_path, b"", kind, version="2", url=url)
    async with session_of(gate, token) as session:
        assert await session.subscribe("v2/a") == [1]
        await gate.registry.packages.assign(kind, first, await gate.profile("check"))
        assert await told(session) == ("v2/a", announced(first))
        await assign(gate, second)
        _, change = await told(session)
        assert change[f"{prefix}_version"] == "2"
        assert change[f"{prefix}_url"] == url
        assert f"{prefix}_checksum" in change["deleted"]
        await deliver_nothing(session, prefix, b"FAILURE")
        known = await gate.registry.device("d")
        assert known is not None
        await gate.registry.packages.assign(kind, None, known.device)
        _, change = await told(session)
        assert change[f"{prefix}_version"] == "1"
        assert change["deleted"] == [f"{prefix}_url"]


async def deliver_nothing(session: Mqtt, prefix: str, word: bytes) -> None:
    """A request that is answered with an error; the session stays."""
    await session_error(session, f"v2/{prefix}/request/1/chunk/0", b"16", word)
    session.send(b"\xc0\x00")
    assert await session.next() is not None


async def session_error(session: Mqtt, topic: str, body: bytes, word: bytes) -> None:
    session.publish(topic, body)
    assert await session.published() == ("v2/fw/error", word, 1)


@KINDS
@VERSIONS
async def test_chunks(gate: Gate, tmp_path: Path, kind: PackageKind, version: int) -> None:
    """Nobody subscribed, so QoS 1 (7.4); the size is given once; behind the end it is empty."""
    token, prefix = await gate.add("d"), kind.value
    await assign(gate, await add_package(gate, tmp_path, CONTENT, kind))
    size, got = 30_000, []
    async with session_of(gate, token, version) as session:
        for number in range(5):
            body = b"%d" % size if not number else b""
            session.publish(f"v2/{prefix}/request/7/chunk/{number}", body)
            topic, chunk, qos = await session.published()
            assert (topic, qos) == (f"v2/{prefix}/response/7/chunk/{number}", 1)
            got.append(chunk)
        assert [len(chunk) for chunk in got] == [size, size, size, 102_400 - 3 * size, 0]
        assert b"".join(got) == CONTENT
        # Another id knows nothing of that size: the whole, though it is larger than a packet.
        session.publish(f"v2/{prefix}/request/8/chunk/0", b"")
        assert (await session.published()).payload == CONTENT


@VERSIONS
async def test_chunks_in_the_granted_quality(gate: Gate, tmp_path: Path, version: int) -> None:
    """Whoever subscribes with QoS 0 gets its chunks so; a request is acknowledged."""
    token = await gate.add("d")
    await assign(gate, await add_package(gate, tmp_path, CONTENT))
    async with session_of(gate, token, version) as session:
        assert await session.subscribe("v2/fw/response/+/chunk/+", "v2/fw/error", qos=0) == [0, 0]
        await session.deliver("v2/fw/request/1/chunk/2", b"5")
        assert await session.published() == ("v2/fw/response/1/chunk/2", CONTENT[10:15], 0)


@KINDS
@VERSIONS
async def test_errors_over_mqtt(
    gate: Gate, tmp_path: Path, version: int, kind: PackageKind
) -> None:
    """Words on the topic of firmware; one that is too large costs the session."""
    token, prefix = await gate.add("d"), kind.value
    other = next(one for one in PackageKind if one is not kind)
    await assign(gate, await add_package(gate, tmp_path, CONTENT, other))
    async with session_of(gate, token, version) as session:
        await deliver_nothing(session, prefix, b"NOT_FOUND")
        await assign(gate, await add_package(gate, tmp_path, CONTENT, kind))
        session.publish(f"v2/{prefix}/request/1/chunk/0", b"65536")
        assert (await session.published()).payload == CONTENT[:65_536]
        await session_error(
            session, f"v2/{prefix}/request/1/chunk/0", b"65537", b"PAYLOAD_TOO_LARGE"
        )
        expected = [(DISCONNECT, 0x83), CLOSED] if version == 5 else [CLOSED]
        assert await session.outcome() == expected


@pytest.mark.parametrize("body", [b"x", b"-1", b"1.5", b" 1", b"\xff", b"99999999999"])
@VERSIONS
async def test_a_size_that_is_no_number(
    gate: Gate, tmp_path: Path, version: int, body: bytes
) -> None:
    """Is a bad payload like any other: the session ends, and nothing is sent."""
    token = await gate.add("d")
    await assign(gate, await add_package(gate, tmp_path, CONTENT))
    async with session_of(gate, token, version) as session:
        session.publish("v2/fw/request/1/chunk/0", body)
        told = await session.outcome()
        assert told[-1] == CLOSED
        assert PUBLISH not in [kind for kind, _ in told]


@KINDS
async def test_downloads_over_http(gate: Gate, tmp_path: Path, kind: PackageKind) -> None:
    """Title and version must be given and match; 404 where nothing is assigned."""
    token = await gate.add("d")
    path = f"/api/v1/{token}/{FEATURES[kind]}"
    asked = f"{path}?title=app&version=1"
    async with http(gate.ports.http) as web:
        assert (await web.ask("GET", asked)).status == 404
        await assign(gate, await add_package(gate, tmp_path, CONTENT, kind))
        for query, content in (
            ("", CONTENT),
            ("&size=0&chunk=0", CONTENT),
            ("&size=&chunk=", CONTENT),
            ("&size=1000", CONTENT[:1000]),
            ("&size=1000&chunk=102", CONTENT[102_000:]),
            ("&size=1000&chunk=103", b""),
            ("&size=100000&chunk=1", CONTENT[100_000:]),
        ):
            reply = await web.ask("GET", asked + query)
            assert (reply.status, reply.body) == (200, content), query
            assert reply.headers["content-disposition"] == "attachment;filename=app.bin"
            assert reply.headers["x-filename"] == "app.bin"
            assert reply.headers["content-type"] == "application/octet-stream"
        for query in (
            *("", "?title=app", "?version=1", "?title=app&version=2", "?title=App&version=1"),
            *("?title=app&version=1&size=x", "?title=app&version=1&size=1&chunk=-1"),
        ):
            assert (await web.ask("GET", path + query)).status == 400, query


async def blockwise(device: Coap, path: str, query: list[str]) -> bytes:
    """A body of many blocks, fetched one after another (RFC 7959)."""
    body, number = b"", 0
    while True:
        answer = await device.ask(GET, path, query=query, block2=(number, False, 6))
        assert dotted(answer) == "2.05"
        body += bytes(answer.payload)
        block = answer.opt.block2
        if block is None or not block.more:
            return body
        number += 1


@KINDS
async def test_downloads_over_coap(gate: Gate, tmp_path: Path, kind: PackageKind) -> None:
    """All four parameters may be left out; blocks put together are the package."""
    token = await gate.add("d")
    path = f"{kind.value}/{token}"
    async with coap(gate.ports.coap) as device:
        missing = await device.ask(GET, path)
        assert (dotted(missing), missing.payload) == ("4.04", b"")
        await assign(gate, await add_package(gate, tmp_path, CONTENT, kind))
        for query, content in (
            ([], CONTENT),
            (["title=app", "version=1", "size=0", "chunk=0"], CONTENT),
            (["title=app", "size=3000", "chunk=1"], CONTENT[3000:6000]),
            (["version=1", "size=3000", "chunk=34"], CONTENT[102_000:]),
            (["size=3000", "chunk=35"], b""),
        ):
            assert await blockwise(device, path, query) == content, query
        for query in (["title=other"], ["version=2"], ["size=x"], ["chunk=-1"]):
            refused = await device.ask(GET, path, query=query)
            assert (dotted(refused), refused.payload) == ("4.00", b""), query
        assert dotted(await device.ask(DELETE, path)) == "4.05"


async def test_what_a_device_reports(gate: Gate) -> None:
    """Is telemetry like any other."""
    token = await gate.add("d")
    async with session_of(gate, token) as session:
        for state in ("DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED", "FAILED"):
            sent = {"current_fw_title": "app", "current_fw_version": "v1", "fw_state": state}
            await session.deliver("v1/devices/me/telemetry", json.dumps(sent).encode())
            assert await gate.readings("d") == sent
