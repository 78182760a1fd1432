"""Strangers on secure ports: handshakes begun and left, hellos by the thousand, bogus chains."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path

import certs
import pytest
from datagrams import client_hello, cookie_in
from house import NewGatehouse, good_devices_are_served, memory_stays
from lines import SECURE, Line
from secured import FACTORY, Secured
from wires import HOST, http

ROUNDS = 2000


@pytest.fixture
def secured(new_gatehouse: NewGatehouse, tmp_path: Path) -> Secured:
    return Secured(
        new_gatehouse,
        tmp_path,
        GATEHOUSE_TLS_HANDSHAKE_TIMEOUT_S="1",
        GATEHOUSE_TLS_MAX_HANDSHAKES="300",
    )


async def secure_devices_are_served(secured: Secured, label: str) -> None:
    """A birth by chain on each secure wire."""
    for wire in SECURE:
        identity = FACTORY.issue(f"{label}-{wire}")
        assert await secured.answer(wire, identity) in ("200", "CONNACK 0", "2.01")


async def test_half_handshakes_over_tls_are_in_nobodys_way(
    secured: Secured, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thousand connections that begin a handshake and stop: the plain wires and sessions are
    served meanwhile, newcomers once the time of the half ones is over."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(60)
    inside = FACTORY.issue("inside")
    async with secured.line("mqtts", inside) as device:
        assert await device.enter() == "CONNACK 0"
        async with memory_stays(secured.house, "1000 half TLS handshakes", capsys):
            writers = []
            for number in range(1000):
                port = (secured.house.ports.https, secured.house.ports.mqtts)[number % 2]
                _, writer = await asyncio.open_connection(HOST, port)
                writer.write(hello)
                writers.append(writer)
            await good_devices_are_served(secured.house, "during")
            await device.tell(n=1)
            await asyncio.sleep(1.2)
            await secure_devices_are_served(secured, "after")
            for writer in writers:
                writer.transport.abort()
        await device.tell(n=2)


async def test_half_handshakes_over_dtls_are_in_nobodys_way(
    secured: Secured, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same with cookies that came back, from two thousand addresses."""
    inside = FACTORY.issue("inside")
    loop = asyncio.get_running_loop()
    async with secured.line("coaps", inside) as device:
        assert await device.enter() == "2.01"
        async with memory_stays(secured.house, f"{ROUNDS} half DTLS handshakes", capsys):
            for _ in range(ROUNDS):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                    udp.setblocking(False)
                    udp.connect((HOST, secured.house.ports.coaps))
                    random = os.urandom(32)
                    await loop.sock_sendall(udp, client_hello(random=random))
                    cookie = cookie_in(await asyncio.wait_for(loop.sock_recv(udp, 2048), 5))
                    again = bytearray(client_hello(cookie, random))
                    again[10] = again[18] = 1
                    await loop.sock_sendall(udp, bytes(again))
            await good_devices_are_served(secured.house, "during")
            await device.tell(n=1)
            await asyncio.sleep(1.2)
            await secure_devices_are_served(secured, "after")


async def test_hellos_without_a_cookie_cost_nothing(
    secured: Secured, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty thousand of them, as fast as they can be sent: no memory, and service goes on."""
    async with memory_stays(secured.house, "20000 hellos", capsys):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.connect((HOST, secured.house.ports.coaps))
            for number in range(20_000):
                udp.send(client_hello(os.urandom(number % 33)))
        await good_devices_are_served(secured.house, "during")
        await secure_devices_are_served(secured, "during")


async def test_bogus_chains_by_the_hundred_leave_a_bounded_trace(
    secured: Secured, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everyone is refused; the events of it are fewer than the attempts and say how many."""
    stranger, began = certs.Authority("Nobody's").issue("bogus"), time.monotonic()
    async with memory_stays(secured.house, "250 bogus chains", capsys):
        for _ in range(5):
            told = await asyncio.gather(*(secured.answer("https", stranger) for _ in range(50)))
            assert set(told) == {"401"}
        await secure_devices_are_served(secured, "after")
    refused = "SELECT count(*) FROM event WHERE reason = 'unknown_ca'"
    ((events,),) = secured.house.rows(refused)
    # A hundred at once, and then ten a second.
    assert 100 <= events <= min(250, 101 + 10 * (time.monotonic() - began))
    names = {name for (name,) in secured.house.rows("SELECT name FROM device")}
    assert names == {f"after-{wire}" for wire in SECURE}


async def test_associations_beyond_their_number_push_out_the_silent(
    new_gatehouse: NewGatehouse, tmp_path: Path
) -> None:
    """`max_sessions` of DTLS: the one that was silent longest goes, the others stay."""
    secured = Secured(new_gatehouse, tmp_path, GATEHOUSE_COAPS_MAX_SESSIONS="5")
    identities = [FACTORY.issue(f"d{number}") for number in range(6)]
    async with AsyncExitStack() as stack:
        lines: list[Line] = []
        for identity in identities:
            lines.append(one := await stack.enter_async_context(secured.line("coaps", identity)))
            assert await one.enter() == "2.01"
        async with asyncio.timeout(2):
            await lines[0].ended()
        for one in lines[1:]:
            assert await one.tell(n=1) == "2.01"
    async with http(secured.house.ports.http) as web:
        assert (await web.ask("GET", "/healthz")).status == 200
