"""The slow, the silent, the oversized, the wrong and the mad: good devices do not notice them.

No speed is asserted. Memory is, generously: what strangers can make a gateway hold is bounded.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, suppress

import pytest
from house import MIB, SUCCESS, Gatehouse, NewGatehouse, good_devices_are_served, memory_stays
from wires import (
    HOST,
    POST,
    PUBLISH,
    coap,
    connect_packet,
    dotted,
    http,
    http_request,
    mqtt,
    packet,
    provision,
    publish_packet,
)

IDLE = 10_000
FLOOD = 20_000
SHORT = {
    "GATEHOUSE_MQTT_CONNECT_TIMEOUT_S": "0.5",
    "GATEHOUSE_MQTT_PROVISION_IDLE_S": "1",
    "GATEHOUSE_HTTP_READ_TIMEOUT_S": "0.5",
}
NOT_FOUND = b'{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}'


@pytest.fixture
def hasty(new_gatehouse: NewGatehouse) -> Gatehouse:
    """A gateway that soon loses patience."""
    made = new_gatehouse(**SHORT)
    made.start()
    return made


async def closed_within(reader: asyncio.StreamReader, seconds: float) -> bytes:
    """What came before the server hung up, which it must do in time."""
    async with asyncio.timeout(seconds):
        with suppress(ConnectionError):
            return await reader.read()
    return b""


# ── the slow and the silent ───────────────────────────────────────────────────────────────────


async def test_half_a_greeting_is_not_waited_for(hasty: Gatehouse) -> None:
    """Silence, half packets and half requests are hung up on; a slow drip does not buy time."""
    halves = {
        "mqtt": [b"", b"\x10", b"\x10\xff\xff", connect_packet(4, "provision")[:-3]],
        "http": [b"", b"GET", b"POST /api/v1/provision HTTP/1.1\r\nHost: x\r\n"],
    }
    unfinished = http_request("POST", "/api/v1/provision", bytes(100))[:-50]
    cases = [(hasty.ports.mqtt, half) for half in halves["mqtt"]]
    cases += [(hasty.ports.http, half) for half in (*halves["http"], unfinished)]

    async def one(port: int, half: bytes) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        with closing(writer):
            writer.write(half)
            await closed_within(reader, 6)

    await asyncio.gather(*(one(*case) for case in cases), drips(hasty))
    await good_devices_are_served(hasty, "slow")


async def drips(house: Gatehouse) -> None:
    """One byte every tenth of a second, on each wire, until the server has had enough."""
    asked = http_request("POST", "/api/v1/provision", bytes(100))
    for port, whole in ((house.ports.mqtt, connect_packet(4, "c" * 60)), (house.ports.http, asked)):
        reader, writer = await asyncio.open_connection(HOST, port)
        with closing(writer), suppress(ConnectionError):
            for byte in whole[:60]:
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.1)
                if reader.at_eof():
                    break
            else:
                raise AssertionError("six seconds of dripping were put up with")


async def test_a_silent_provisioning_session_is_closed(hasty: Gatehouse) -> None:
    """A session that may only provision and says nothing is told 0xA0 and closed."""
    async with mqtt(hasty.ports.mqtt, 5) as session:
        assert await session.connect("provision") == 0
        told = await session.next(6)
        assert told is not None
        assert (told.kind, told.body[:1]) == (0xE0, b"\xa0")
        assert await session.next() is None


# ── ten thousand idle connections ─────────────────────────────────────────────────────────────


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the sockets of both sides; the server inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + 2000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the hard limit of open files is {hard}, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def idle_connection(port: int, greeting: bytes) -> socket.socket:
    """A bare socket that logged in: the test's own memory is not the question."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, (HOST, port))
    await loop.sock_sendall(sock, greeting)
    assert (await loop.sock_recv(sock, 64))[:1] == b"\x20"
    return sock


async def test_ten_thousand_idle_connections(
    many_files: None, new_gatehouse: NewGatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten thousand idle MQTT sessions are held, good devices served, and all let go again."""
    house = new_gatehouse(GATEHOUSE_MQTT_MAX_CONNECTIONS=str(IDLE + 10))
    house.start()
    greetings = [connect_packet(version, "provision") for version in (3, 4, 5)]
    socks: list[socket.socket] = []
    try:
        async with memory_stays(house, f"{IDLE} idle MQTT sessions", capsys):
            while len(socks) < IDLE:
                batch = (idle_connection(house.ports.mqtt, greetings[n % 3]) for n in range(250))
                socks += await asyncio.gather(*batch)
            await good_devices_are_served(house, "among-idle")
        async with AsyncExitStack() as stack:
            extra = [await stack.enter_async_context(mqtt(house.ports.mqtt)) for _ in range(12)]
            assert await extra[-1].next() is None, "one too many is hung up on"
    finally:
        for sock in socks:
            sock.close()
    await asyncio.sleep(0.5)
    await good_devices_are_served(house, "after-idle")


# ── the oversized and the mad ─────────────────────────────────────────────────────────────────


async def test_oversized_requests(house: Gatehouse, capsys: pytest.CaptureFixture[str]) -> None:
    """What is too large is refused without being held, on each wire, many at once."""

    async def over_http(_: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, house.ports.http)
        with closing(writer), suppress(ConnectionError):
            writer.write(http_request("POST", "/api/v1/provision", bytes(2 * MIB)))
            told = await closed_within(reader, 10)
            assert told.startswith(b"HTTP/1.1 413"), told[:40]

    async def over_mqtt(number: int) -> None:
        version = (3, 4, 5)[number % 3]
        async with mqtt(house.ports.mqtt, version) as session:
            if number % 2:
                assert await session.connect("provision") == 0
            session.send(packet(0x30 if number % 2 else 0x10, bytes(MIB)))
            told = await session.next()
            assert told is None or told.body[:1] == b"\x81"

    async def over_coap(number: int) -> None:
        async with coap(house.ports.coap) as device:
            datagram = device.datagram(POST, "api/v1/provision", bytes(60_000 + number))
            refused = dotted(await device.send(*datagram))
            assert refused in ("4.00", "4.13"), refused
            # Block1: a body announced and begun a hundred times, finished never.
            sent = device.datagram(POST, "api/v1/provision", bytes(1024), block1=(0, True, 6))
            assert dotted(await device.send(*sent)) == "2.31"

    async with memory_stays(house, "300 oversized requests", capsys):
        for form in (over_http, over_mqtt, over_coap):
            await asyncio.gather(*(form(number) for number in range(100)))
    await good_devices_are_served(house, "oversized")


async def test_garbage_at_every_port(house: Gatehouse, capsys: pytest.CaptureFixture[str]) -> None:
    """Random bytes, and good requests with bytes turned over, stop nothing."""
    dice = random.Random(0x6A7E)
    good = house.request("mangled")
    seeds = [
        http_request("POST", "/api/v1/provision", good),
        connect_packet(5, "provision") + publish_packet(5, "/provision/request", good, 1),
    ]

    def garbage(seed: bytes) -> bytes:
        if dice.random() < 0.4:
            return dice.randbytes(dice.randrange(1, 300))
        mangled = bytearray(seed)
        for _ in range(dice.randrange(1, 8)):
            mangled[dice.randrange(len(mangled))] = dice.randrange(256)
        return bytes(mangled)

    async def tcp(port: int, seed: bytes) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        with closing(writer), suppress(ConnectionError, TimeoutError):
            writer.write(garbage(seed))
            writer.write_eof()
            async with asyncio.timeout(1):
                await reader.read(4096)

    async def udp() -> None:
        async with coap(house.ports.coap) as device:
            seed, _ = device.datagram(POST, "api/v1/provision", good)
            for number in range(2000):
                device.transport.sendto(garbage(seed))
                if number % 50 == 0:
                    await asyncio.sleep(0.005)

    async with memory_stays(house, "3200 pieces of garbage", capsys):
        for _ in range(12):
            pairs = [(house.ports.http, seeds[0]), (house.ports.mqtt, seeds[1])] * 50
            await asyncio.gather(*(tcp(*pair) for pair in pairs))
        with suppress(ValueError, ConnectionError):
            await udp()
    await good_devices_are_served(house, "garbage")
    assert "Traceback" not in house.log()


# ── the wrong ─────────────────────────────────────────────────────────────────────────────────


async def flood_http(house: Gatehouse, count: int) -> None:
    """Wrong secrets as quickly as they go, twenty at a time on one connection."""
    async with http(house.ports.http) as web:
        asked = http_request("POST", "/api/v1/provision", house.request("x", secret=WRONG))
        for _ in range(count // 20):
            web.writer.write(asked * 20)
            for _ in range(20):
                assert (await web.read()).body == NOT_FOUND


async def flood_mqtt(house: Gatehouse, count: int) -> None:
    async with mqtt(house.ports.mqtt, 4) as session:
        assert await session.connect("provision") == 0
        asked = publish_packet(4, "/provision/request", house.request("x", secret=WRONG))
        for _ in range(count // 50):
            session.send(asked * 50)
            for _ in range(50):
                got = await session.expect(PUBLISH)
                assert session.opened(got).payload == NOT_FOUND


async def flood_coap(house: Gatehouse, count: int) -> None:
    """Datagrams as NON, fire and forget: what a flooding stranger does."""
    async with coap(house.ports.coap) as device:
        body = house.request("x", secret=WRONG)
        device.datagram_received = lambda *_: None  # type: ignore[method-assign]
        for number in range(count):
            message_id = (number & 0xFFFF).to_bytes(2)
            token = number.to_bytes(4)
            head = b"\x54\x02" + message_id + token
            path = b"\xb3api\x02v1\x09provision"
            device.transport.sendto(head + path + b"\xff" + body)
            if number % 20 == 0:
                await asyncio.sleep(0.005)


WRONG = "wr0ng-s3cret-of-a-stranger"


async def test_a_flood_of_wrong_secrets(
    house: Gatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty thousand wrong secrets over all wires at once, while good devices come in."""
    async with memory_stays(house, f"{FLOOD} wrong secrets", capsys):
        floods = [
            asyncio.create_task(flood(house, FLOOD // 3 // 100 * 100))
            for flood in (flood_http, flood_mqtt, flood_coap)
        ]
        rounds = 0
        while not all(flood.done() for flood in floods):
            await good_devices_are_served(house, f"flood-{rounds}")
            rounds += 1
        await asyncio.gather(*floods)
    assert rounds
    assert house.rows("SELECT count(*) FROM device WHERE name = 'x'") == [(0,)]


# ── secrets ───────────────────────────────────────────────────────────────────────────────────


async def test_no_secret_is_written_down(new_gatehouse: NewGatehouse) -> None:
    """No key, secret, token or password is in the log or in any file of the store, in clear."""
    house = new_gatehouse(GATEHOUSE_LOG_LEVEL="debug")
    house.start()
    house.add("claimed")
    words = [word for pair in house.pairs.values() for word in pair]
    words += [WRONG, "my-own-token-0123456789", "p4ssw0rd-of-device", "TUlJQ2VydFRleHRPZkRldmljZQ"]
    asked = json.loads(house.request("own"))
    answers = []
    for wire in ("http", "mqtt311", "mqtt5", "coap"):
        triple = {"credentialsType": "MQTT_BASIC", "username": wire, "password": words[-2]}
        bodies = [
            asked | {"deviceName": f"{wire}-1"},
            asked | {"deviceName": f"{wire}-2", "token": words[-3] + wire},
            asked | {"deviceName": f"{wire}-3"} | triple,
            asked | {"deviceName": f"{wire}-4", "hash": words[-1] + wire}
            | {"credentialsType": "X509_CERTIFICATE"},
            asked | {"provisionDeviceSecret": WRONG},
            asked | {"deviceName": "own", "token": words[-3] + "http"},
        ]  # fmt: skip
        answers += [
            await provision(house.ports, wire, json.dumps(body).encode()) for body in bodies
        ]
        await misuse(house, words, json.dumps(bodies[0]))
    answers.append(await provision(house.ports, "http", house.request("claimed", "check")))
    words += [found[1].decode() for found in map(SUCCESS.match, answers) if found]
    assert len(words) > 12
    house.running.terminate()
    assert await asyncio.to_thread(house.wait) == 0
    log = house.log()
    assert log.count("\n") > 20
    written = {path: path.read_bytes() for path in house.database.parent.iterdir()}
    for word in words:
        assert word not in log, "a secret is in the log"
        for path, content in written.items():
            assert word.encode() not in content, f"a secret is in {path.name}"


async def misuse(house: Gatehouse, words: list[str], whole: str) -> None:
    """Secrets where they do not belong: in half a body, a path, a topic, a login, a packet."""
    secret = words[1]
    async with http(house.ports.http) as web:
        for body in (whole[:-1], whole.replace("provisionDeviceKey", "x"), f'"{secret}"'):
            assert (await web.ask("POST", "/api/v1/provision", body.encode())).status == 400
        await web.ask("POST", f"/api/v1/{secret}/telemetry", b"{}")
        await web.ask("GET", f"/nowhere/{secret}?secret={secret}")
    async with http(house.ports.http) as web:
        web.writer.write(f"{secret} / {secret}\r\n\r\n".encode())
        await web.reader.read(100)
    async with coap(house.ports.coap) as device:
        for path in (f"api/v1/{secret}/telemetry", f"{secret}/{secret}"):
            await device.ask(POST, path, whole[:-1].encode())
    for version in (4, 5):
        for login in ((secret, secret, secret), ("c", secret, None), (secret, None, None)):
            async with mqtt(house.ports.mqtt, version) as session:
                assert await session.connect(*login) != 0
        async with mqtt(house.ports.mqtt, version) as session:
            await session.connect("provision", secret, secret)
            session.publish(f"/{secret}", secret.encode(), 1)
            await session.outcome()
