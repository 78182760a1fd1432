"""Those that do as they should not: wrong tokens, garbage, half requests, slow readers."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import cast

from ground import World
from speakers import Speaker, code_of, speaking
from wires import GET, HOST, Published, coap, connect_packet, http, mqtt

_REST_S = (0.1, 0.4)
_HELD_S = (0.5, 4.0)
_SLEPT_S = (30.0, 60.0)
_WRONG = "nobody-has-this-token"
_MOST_GARBAGE = 600
SLOW = "slow"
"""The device that does not read what it is told."""


class Nuisance:
    """One of each kind, over and over."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def wrong_tokens(self) -> None:
        tally, ports = self.world.tally, self.world.ports
        async with mqtt(ports.mqtt) as session:
            tally.expect("mqtt wrong tokens", await session.connect(username=_WRONG), 5)
        async with http(ports.http) as web:
            answer = await web.ask("POST", f"/api/v1/{_WRONG}/telemetry", b'{"a":1}')
            tally.expect("http wrong tokens", answer.status, 401)
        async with coap(ports.coap) as device:
            said = await device.ask(GET, f"api/v1/{_WRONG}/attributes")
            tally.expect("coap wrong tokens", code_of(said), 0x81)
        await self.world.pause(*_REST_S)

    async def bad_payloads(self) -> None:
        token = self.world.token("http-0")
        async with http(self.world.ports.http) as web:
            answer = await web.ask("POST", f"/api/v1/{token}/telemetry", b"[1, nonsense")
            self.world.tally.expect("http bad payloads", answer.status, 400)
        await self.world.pause(*_REST_S)

    async def garbage(self) -> None:
        """Any bytes at any port; whatever is answered is left lying."""
        ports, size = self.world.ports, self.world.chance.randrange(1, _MOST_GARBAGE)
        for port in (ports.http, ports.mqtt):
            _reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(os.urandom(size))
            await self.world.pause(0.0, 0.05)
            writer.transport.abort()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port_of_ours:
            port_of_ours.sendto(os.urandom(size), (HOST, ports.coap))
        self.world.tally.count("garbage", 3)
        await self.world.pause(*_REST_S)

    async def half_a_word(self) -> None:
        """Begins to speak, says no more, and is gone after a while."""
        ports = self.world.ports
        beginnings = (
            (ports.http, b"POST /api/v1/x/telemetry HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"),
            (ports.mqtt, connect_packet(5, username=self.world.token("mqtt-0"))[:-3]),
            (ports.mqtt, b""),
        )
        port, said = self.world.chance.choice(beginnings)
        _reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(said)
        await self.world.pause(*_HELD_S)
        writer.transport.abort()
        self.world.tally.count("half requests")

    async def slow_reader(self) -> None:
        """Subscribes and then reads nothing for a while. It should find itself cut."""
        token, port = self.world.token(SLOW), self.world.ports.mqtt
        self.world.tally.count("slow readers")
        try:
            async with speaking(port, 4, token, _ignore, receive_buffer=4096) as speaker:
                await speaker.subscribe("v1/devices/me/attributes")
                transport = cast("asyncio.Transport", speaker.mqtt.writer.transport)
                transport.pause_reading()
                await self.world.pause(*_SLEPT_S)
                transport.resume_reading()
                await asyncio.sleep(2.0)
        except ConnectionError:
            self.world.tally.count("slow readers cut")


def _ignore(_speaker: Speaker, _heard: Published) -> None:
    """It hears nothing."""
