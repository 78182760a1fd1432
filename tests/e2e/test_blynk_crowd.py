"""Many devices show one token at once, on every wire: it never makes a second device."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from functools import partial

from blynk_ground import TEMPLATE, BlynkGate, blynk_on
from inside import NewGate
from wires import (
    CONNACK,
    DISCONNECT,
    HOST,
    PUBACK,
    Mqtt,
    Packet,
    connect_packet,
    hang_up,
    mqtt,
)

CROWD = 100
MOST_TRIES, MOST_PAUSE_S = 50, 2.0
MCU = json.dumps({"tmpl": TEMPLATE, "ver": "1.0.0", "type": TEMPLATE}).encode()
INTERNAL, LOGIN, OK = 17, 29, 200

Claim = Callable[[BlynkGate, str], Awaitable[bool]]
"""Whether it was answered: False when a newer connection with the same token took its place."""


async def over_http(blynk: BlynkGate, token: str) -> bool:
    reply = await blynk.claim(token)
    assert (reply.status, reply.body) == (200, b"")
    return True


async def over_mqtt(version: int, blynk: BlynkGate, token: str) -> bool:
    async with mqtt(blynk.ports.mqtt, version) as session:
        session.send(connect_packet(version, "", "device", token))
        got = await _next(session)
        if got is None:
            return False
        assert (got.kind, got.body[1]) == (CONNACK, 0)
        session.publish("info/mcu", MCU, 1)
        got = await _next(session)
        assert got is None or got.kind == PUBACK
        return got is not None


async def _next(session: Mqtt) -> Packet | None:
    """None: this session was ended."""
    try:
        got = await session.next()
    except ConnectionError:
        return None
    return None if got is None or got.kind == DISCONNECT else got


async def over_stream(blynk: BlynkGate, token: str) -> bool:
    """By the binary protocol."""
    reader, writer = await asyncio.open_connection(HOST, blynk.ports.blynk_tcp)
    info = "\0".join(("mcu", "1.0.0", "fw-type", TEMPLATE, "h-beat", "45", "tmpl", TEMPLATE))
    try:
        for number, (command, body) in enumerate(((LOGIN, token), (INTERNAL, info)), 1):
            head = bytes((command,)) + number.to_bytes(2) + len(body).to_bytes(2)
            writer.write(head + body.encode())
            try:
                answer = await asyncio.wait_for(reader.readexactly(5), 10)
            except (asyncio.IncompleteReadError, ConnectionError):
                return False
            assert answer == b"\0" + number.to_bytes(2) + OK.to_bytes(2)
        return True
    finally:
        await hang_up(writer)


async def persevere(claim: Claim, blynk: BlynkGate, token: str) -> int:
    """As a device does: connect again until it is answered, later each time, for the newer one
    ends the older. How often it had to."""
    for tries in range(1, MOST_TRIES + 1):
        if await claim(blynk, token):
            return tries
        await asyncio.sleep(random.uniform(0, min(MOST_PAUSE_S, 0.02 * 2**tries)))
    raise AssertionError("it was never answered")


WIRES: tuple[Claim, ...] = (over_http, partial(over_mqtt, 4), partial(over_mqtt, 5), over_stream)


async def test_a_hundred_claims_on_every_wire_give_one_device(new_gate: NewGate) -> None:
    """One device comes of them, and each of the hundred is told of success."""
    async with blynk_on(await new_gate(blynk_tcp={"enabled": True})) as blynk:
        token = await blynk.issue()
        crowd = (persevere(WIRES[n % len(WIRES)], blynk, token) for n in range(CROWD))
        async with asyncio.timeout(60):
            assert len(await asyncio.gather(*crowd)) == CROWD
        assert await blynk.gateway.store.driver.rows("count_devices") == [(1,)]
        assert await blynk.device(token) is not None


async def test_a_hundred_claims_of_a_renewed_token_keep_the_device(new_gate: NewGate) -> None:
    """No second device either, and the old token is nobody's afterwards."""
    async with blynk_on(await new_gate(blynk_tcp={"enabled": True})) as blynk:
        old, record = await blynk.born()
        renewed = (await blynk.tickets.reprovision(blynk.admin, record)).token.reveal()
        crowd = (persevere(WIRES[n % len(WIRES)], blynk, renewed) for n in range(CROWD))
        async with asyncio.timeout(60):
            assert len(await asyncio.gather(*crowd)) == CROWD
        assert await blynk.gateway.store.driver.rows("count_devices") == [(1,)]
        device = await blynk.device(renewed)
        assert device is not None
        assert device.id == record.device.id
        assert await blynk.device(old) is None
