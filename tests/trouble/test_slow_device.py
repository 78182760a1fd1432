"""Devices that ask to be told things and then do not listen: they are cut, and others hear all."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import AsyncExitStack

import pytest
from beside import ATTRIBUTES, CALLS, beside, born, online, session_of, sockets, until
from house import Gatehouse, NewGatehouse, memory_stays
from wires import (
    GET,
    HOST,
    PUBLISH,
    Mqtt,
    Packet,
    coap,
    connect_packet,
    http_request,
    packet,
)

GOOD = 50
ROUNDS = 330
CALLS_POURED = 150
BULK = "x" * 30_000
LAG_S = 5.0
"""How late a good device may hear of a change, on a machine that is busy with the others."""


@pytest.fixture
def short_of_patience(new_gatehouse: NewGatehouse) -> Gatehouse:
    made = new_gatehouse(GATEHOUSE_HTTP_WRITE_TIMEOUT_S="1")
    made.start()
    return made


def deaf_socket(port: int) -> socket.socket:
    """A TCP connection whose system takes next to nothing while nobody reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((HOST, port))
    return sock


def deaf_session(house: Gatehouse, token: str) -> socket.socket:
    """An MQTT session that subscribed to everything, and stops reading."""
    sock = deaf_socket(house.ports.mqtt)
    sock.sendall(connect_packet(4, "c", token))
    assert sock.recv(4) == b"\x20\x02\x00\x00"
    filters = b"".join(
        len(one).to_bytes(2) + one + b"\0" for one in (ATTRIBUTES.encode(), CALLS.encode())
    )
    sock.sendall(packet(0x82, b"\0\1" + filters))
    assert sock.recv(6) == b"\x90\x04\x00\x01\x00\x00"
    return sock


def deaf_poller(house: Gatehouse, token: str) -> socket.socket:
    """An HTTP client that polls, asks for everything when something came, and reads no answer."""
    sock = deaf_socket(house.ports.http)
    poll = http_request("GET", f"/api/v1/{token}/attributes/updates")
    sock.sendall((poll + http_request("GET", f"/api/v1/{token}/attributes") * 10) * 30)
    return sock


def deaf_observer(house: Gatehouse, token: str) -> socket.socket:
    """A CoAP client that observes and acknowledges nothing."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.connect((HOST, house.ports.coap))
    path = b"\x53api\x02v1\x0d\x07" + token.encode() + b"\x0aattributes"
    sock.send(b"\x44\x01\x00\x07deaf" + b"\x60" + path)
    assert sock.recv(2048)[1] == 0x45
    return sock


class Heard:
    """What a good session heard, and how late at the worst."""

    def __init__(self, told_at: dict[int, float]) -> None:
        self.told_at = told_at
        self.numbers: list[int] = []
        self.late_s = 0.0

    async def listen(self, session: Mqtt, last: int) -> None:
        while not self.numbers or self.numbers[-1] != last:
            got = await session.next(30)
            assert got is not None, "a good session was closed"
            self.take(session, got)

    def take(self, session: Mqtt, got: Packet) -> None:
        assert got.kind == PUBLISH
        number = json.loads(session.opened(got).payload)["n"]
        self.numbers.append(number)
        self.late_s = max(self.late_s, time.monotonic() - self.told_at[number])


async def test_the_deaf_are_cut_and_the_others_hear_all(
    short_of_patience: Gatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten megabytes for each of three that do not read; fifty others are told each change."""
    house = short_of_patience
    deaf = ("session", "poller", "observer")
    house.add(*deaf)
    tokens = dict(zip(deaf, await born(house, *deaf, profile="check"), strict=True))
    good = await born(house, *(f"good-{n}" for n in range(GOOD)))
    told_at: dict[int, float] = {}
    all_heard = [Heard(told_at) for _ in good]
    async with AsyncExitStack() as stack:
        people = await stack.enter_async_context(beside(house))
        listening = []
        for token, heard in zip(good, all_heard, strict=True):
            session = await stack.enter_async_context(session_of(house, token))
            assert await session.subscribe(ATTRIBUTES) == [1]
            listening.append(heard.listen(session, ROUNDS - ROUNDS % 3))
        before = sockets(house)
        makers = (deaf_session, deaf_poller, deaf_observer)
        for name, make in zip(deaf, makers, strict=True):
            stack.enter_context(make(house, tokens[name]))
        await until(lambda: sockets(house) == before + 2, 10, "they were not accepted")
        await until(lambda: online(house, *deaf) == {"session", "observer"}, 5, "they are here")
        tasks = [asyncio.create_task(one) for one in listening]
        async with memory_stays(house, f"{ROUNDS} changes nobody reads", capsys):
            for number in range(1, ROUNDS + 1):
                assert await people.share_with_all("check", bulk=f"{number}{BULK}") == len(deaf)
                if number % 3 == 0:
                    told_at[number] = time.monotonic()
                    assert await people.share_with_all("create", n=number) == GOOD
            await asyncio.gather(*tasks)
        await until(lambda: sockets(house) == before, 10, "a connection that is not read stays")
        await until(lambda: not online(house, *deaf), 10, "the deaf are still taken for present")
    expected = list(range(3, ROUNDS + 1, 3))
    assert all(heard.numbers == expected for heard in all_heard)
    assert max(heard.late_s for heard in all_heard) < LAG_S
    assert "Traceback" not in house.log()


async def test_calls_to_the_deaf_end_in_time(house: Gatehouse) -> None:
    """A call of a device that does not read fails in its time; one of another is answered."""
    deaf_token, good_token = await born(house, "deaf", "good")
    async with beside(house) as people, session_of(house, good_token) as good:
        await good.subscribe(CALLS)
        with deaf_session(house, deaf_token):
            params = json.dumps(BULK)
            for _ in range(CALLS_POURED):
                await people.call("deaf", "m", params=params, persistent=False, lasts_s=2)
            asked = await people.call("good", "m", persistent=False, lasts_s=5)
            topic, _, _ = await good.published()
            await good.deliver(topic.replace("request", "response"), b"1")
            assert await people.state(asked) == ("SUCCESSFUL", "1")
            states = "SELECT count(*) FROM rpc_call WHERE state IN ('TIMEOUT', 'FAILED')"
            await until(lambda: house.rows(states) == [(CALLS_POURED,)], 8, "calls to it go on")
    assert "Traceback" not in house.log()


async def test_a_silent_observer_is_given_up(house: Gatehouse) -> None:
    """With more waiting than may, its observation ends; one that acknowledges is told each."""
    deaf_token, good_token = await born(house, "deaf", "good")
    async with beside(house) as people, coap(house.ports.coap) as good:
        with deaf_observer(house, deaf_token) as sock:
            first = await good.ask(GET, f"api/v1/{good_token}/attributes", observe=0)
            assert first.opt.observe == 0
            good.raw.clear()
            await until(lambda: online(house, "deaf") == {"deaf"}, 5, "it never came")
            for number in range(120):
                await people.share_with_all("create", n=number)
            await until(lambda: len(good.raw) >= 120, 10, "a good observer was not told")
            await until(lambda: not online(house, "deaf"), 5, "the deaf observer is still here")
            assert online(house, "good") == {"good"}
            assert len(sock.recv(2048)) < 1280
    assert len(good.raw) == 120
