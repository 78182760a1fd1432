"""Those who begin handshakes and do not end them: bounded, counted, and in nobody's way."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any

import certs
import pytest
from datagrams import client_hello, cookie_in
from lines import SECURE
from plant import Plant, Within, beside
from wires import HOST, POST, coap, dotted, http

from gateway.core.model import EventKind
from gateway.transports.coap import CoapListener

MOST = 20
QUICK = {"handshake_timeout_s": 0.5, "max_handshakes": MOST}


def handshakes(plant: Plant) -> int:
    """How many of DTLS are under way."""
    listener = plant.gate.gateway.coaps
    assert isinstance(listener, CoapListener)
    assert listener._dtls is not None
    return listener._dtls.handshakes


async def reported(plant: Plant) -> list[tuple[str, str, int]]:
    """Reason, wire and count of each report, once the gateway has stopped. No device came of it."""
    async with beside(plant.gate) as people:
        events = await people.registry.events(limit=1000)
        devices = await people.registry.devices(limit=1000)
    assert all(one.device.name.startswith(("inside", "served")) for one in devices)
    return [
        (one.reason, one.peer.wire.value, int(one.detail["count"]))
        for one in events
        if one.kind is EventKind.HANDSHAKE
    ]


async def everybody_else_is_served(plant: Plant) -> None:
    """A request on plain wires."""
    async with http(plant.ports.http) as web:
        assert (await web.ask("GET", "/healthz")).status == 200
    token = await plant.gate.add(f"served-{os.urandom(4).hex()}")
    async with coap(plant.ports.coap) as device:
        answer = await device.ask(POST, f"/api/v1/{token}/telemetry", b'{"n":1}')
        assert dotted(answer) == "2.01"


@pytest.mark.parametrize("wire", ["https", "mqtts"])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "half a hello"])
async def test_half_handshake_flood_over_tls(new_plant: Any, wire: str, sent: bytes) -> None:
    """More open connections without a handshake than there is room for: cut in time, counted;
    sessions that stand, and the plain wires, are not touched."""
    async with new_plant(memory=False, tls=QUICK) as plant:
        identity = await plant.signed("inside")
        async with plant.entered(wire, identity) as device:
            flood = []
            for _ in range(2 * MOST):
                reader, writer = await asyncio.open_connection(HOST, getattr(plant.ports, wire))
                writer.write(sent)
                flood.append((reader, writer))
            await everybody_else_is_served(plant)
            await device.tell(n=1)
            with Within(2.5):
                for reader, writer in flood:
                    with suppress(ConnectionError):
                        assert await reader.read() == b""
                    writer.close()
            # There is room again.
            async with plant.entered(wire, identity):
                pass
    assert ("half_handshake_flood", wire, 2 * MOST) in await reported(plant)


async def test_half_handshakes_over_tls_are_cut_in_time(new_plant: Any) -> None:
    """Nobody holds a place longer than the time for a handshake."""
    async with new_plant(memory=False, tls=QUICK) as plant:
        connections = [await asyncio.open_connection(HOST, plant.ports.mqtts) for _ in range(MOST)]
        with Within(2.5):
            for reader, writer in connections:
                assert await reader.read() == b""
                writer.close()
        async with plant.line("mqtts") as device:
            assert await device.enter() == "CONNACK 2"
    assert ("half_handshake_flood", "mqtts", MOST) in await reported(plant)


async def test_half_handshake_flood_over_dtls(new_plant: Any) -> None:
    """Cookies that came back, and then nothing: bounded, given up in time, and counted."""
    async with new_plant(memory=False, tls=QUICK) as plant:
        identity = await plant.signed("inside")
        async with plant.entered("coaps", identity) as device:
            sockets = [await half(plant) for _ in range(2 * MOST)]
            assert 0 < handshakes(plant) <= MOST
            await everybody_else_is_served(plant)
            await device.tell(n=1)
            async with asyncio.timeout(3):
                while handshakes(plant):
                    await asyncio.sleep(0.02)
            async with plant.entered("coaps", identity):
                pass
            for one in sockets:
                one.close()
    counts = {reason: count for reason, at, count in await reported(plant) if at == "coaps"}
    assert counts["half_handshake_flood"] >= 2 * MOST - 1


async def half(plant: Plant) -> socket.socket:
    """A handshake up to the server's flight, which nobody answers."""
    loop = asyncio.get_running_loop()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.connect((HOST, plant.ports.coaps))
    random = os.urandom(32)
    await loop.sock_sendall(udp, client_hello(random=random))
    cookie = cookie_in(await asyncio.wait_for(loop.sock_recv(udp, 2048), 2))
    again = bytearray(client_hello(cookie, random))
    again[10] = 1  # the record's number
    again[18] = 1  # the message's
    await loop.sock_sendall(udp, bytes(again))
    await asyncio.sleep(0)
    return udp


async def test_spoofed_client_hello(new_plant: Any) -> None:
    """Hellos whose cookie is nobody's, or another address's: no state, no more bytes than they
    sent, and one event of how many."""
    async with new_plant(memory=False, tls=QUICK) as plant:
        loop = asyncio.get_running_loop()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setblocking(False)
        udp.connect((HOST, plant.ports.coaps))
        with udp:
            for _ in range(50):
                hello = client_hello(os.urandom(32))
                await loop.sock_sendall(udp, hello)
                answer = await asyncio.wait_for(loop.sock_recv(udp, 2048), 2)
                assert len(answer) <= len(hello)
                assert cookie_in(answer)
                assert handshakes(plant) == 0
            # A cookie of this address is of no use at another.
            random = os.urandom(32)
            await loop.sock_sendall(udp, client_hello(random=random))
            cookie = cookie_in(await asyncio.wait_for(loop.sock_recv(udp, 2048), 2))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                other.connect((HOST, plant.ports.coaps))
                await loop.sock_sendall(other, client_hello(cookie, random))
                await asyncio.wait_for(loop.sock_recv(other, 2048), 2)
            assert handshakes(plant) == 0
        await everybody_else_is_served(plant)
    assert await reported(plant) == [("spoofed_client_hello", "coaps", 51)]


async def test_hellos_that_nobody_comes_back_from_are_told(new_plant: Any) -> None:
    """A flood of hellos without a cookie leaves no state, and one event."""
    async with new_plant(memory=False, tls=QUICK) as plant:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.setblocking(False)
            udp.connect((HOST, plant.ports.coaps))
            for _ in range(300):
                await loop.sock_sendall(udp, client_hello())
                await asyncio.wait_for(loop.sock_recv(udp, 2048), 2)
            assert handshakes(plant) == 0
    ((reason, wire, count),) = await reported(plant)
    assert (reason, wire, count) == ("spoofed_client_hello", "coaps", 300)


@pytest.mark.parametrize("wire", SECURE)
async def test_garbage_on_a_secure_port_is_met_with_silence(plant: Plant, wire: str) -> None:
    """Plain HTTP, MQTT or CoAP, and random bytes: nothing is answered in clear but an alert."""
    identity = certs.self_signed("after")
    await plant.registered("after", identity)
    port = getattr(plant.ports, wire)
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x10\x0c\0\4MQTT\4\2\0<\0\0", os.urandom(600)):
        if wire == "coaps":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.sendto(garbage, (HOST, port))
            continue
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(garbage)
        writer.write_eof()
        try:
            answer = await asyncio.wait_for(reader.read(), 2)
        except ConnectionError:
            answer = b""
        assert answer[:1] in (b"", b"\x15")
        writer.close()
    async with plant.entered(wire, identity) as device:
        await device.tell(n=1)
