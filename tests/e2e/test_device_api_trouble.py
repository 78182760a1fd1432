"""Devices that misbehave: what they leave behind, and what the others notice of them."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable

import pytest
from aiocoap import GET, POST
from inside import Gate
from wires import Mqtt, coap, dotted, http, http_request, mqtt, packet

from gateway.core.model import RpcCall
from gateway.core.rpc import RpcOutcome

RPC = "v1/devices/me/rpc/request/+"


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(8):
        while not true():
            await asyncio.sleep(0.02)


def subscribe_packet(number: int, topic_filter: str, qos: int = 1) -> bytes:
    name = topic_filter.encode()
    return packet(0x82, number.to_bytes(2) + len(name).to_bytes(2) + name + bytes((qos,)))


async def login(client: Mqtt, token: str) -> None:
    assert await client.connect("", token) == 0


async def store_calls(gate: Gate, name: str, count: int, params: str = "{}") -> list[RpcCall]:
    known = await gate.registry.device(name)
    assert known is not None
    made = []
    for _ in range(count):
        call = await gate.registry.calls.save(known, "blink", params, lasts_s=60, persistent=True)
        assert call is not None
        made.append(call)
    return made


async def test_whoever_is_gone_is_forgotten(gate: Gate) -> None:
    """Polls hung up on, observations reset, connections cut: no table has an entry of them."""
    token = await gate.add("meter")
    gateway = gate.gateway
    before = gateway._gauge.now, gateway._polls.now
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", gate.ports.http)
        writer.write(http_request("GET", f"/api/v1/{token}/rpc?timeout=60000"))
        await writer.drain()
        await asyncio.sleep(0.005)
        writer.transport.abort()
    async with coap(gate.ports.coap) as device:
        for path in (f"/api/v1/{token}/rpc", f"/api/v1/{token}/attributes"):
            datagram, asked = device.datagram(GET, path, observe=0)
            await device.send(datagram, asked)
            assert gateway.coap is not None
    async with mqtt(gate.ports.mqtt) as client:
        await login(client, token)
        await client.subscribe(RPC)
        client.writer.transport.abort()
    known = await gate.registry.device("meter")
    assert known is not None
    await gate.registry.remove_device(known)
    await until(lambda: len(gateway.sessions) == 0)
    await until(lambda: (gateway._gauge.now, gateway._polls.now) == before)
    await until(lambda: not gateway.rpc._lines)
    assert not gateway.rpc._offering
    assert not gateway.rpc._tasks


async def test_thousands_of_subscriptions_in_one_breath(gate: Gate) -> None:
    """One client subscribes again and again while calls wait for it; others do not notice."""
    token, other = await gate.add("meter"), await gate.add("other")
    await store_calls(gate, "meter", 60, params=json.dumps("x" * 4000))
    async with mqtt(gate.ports.mqtt) as noisy, mqtt(gate.ports.mqtt) as calm:
        await login(noisy, token)
        await login(calm, other)
        numbers = itertools.cycle(range(1, 65536))
        noisy.send(b"".join(subscribe_packet(next(numbers), RPC) for _ in range(20_000)))
        started = asyncio.get_running_loop().time()
        for _ in range(5):
            await calm.deliver("v1/devices/me/telemetry", b'{"t":1}')
        assert asyncio.get_running_loop().time() - started < 3


async def test_a_device_cannot_answer_for_another(gate: Gate) -> None:
    """The request ids of devices are the same small numbers; an answer counts for its own."""
    token, other = await gate.add("meter"), await gate.add("other")
    known = await gate.registry.device("meter")
    assert known is not None
    async with mqtt(gate.ports.mqtt) as meter, mqtt(gate.ports.mqtt) as liar:
        await login(meter, token)
        await login(liar, other)
        await meter.subscribe(RPC)
        call = RpcCall(device_id=known.device.id, method="blink")
        asked = asyncio.create_task(gate.gateway.rpc.call(call, 5))
        topic = (await meter.published()).topic.replace("request", "response")
        await liar.deliver(topic, b'"mine"')
        await meter.deliver(topic, b'"true"')
        result = await asked
    assert (result.outcome, result.response) == (RpcOutcome.ANSWERED, '"true"')


@pytest.mark.parametrize("number", [1, 65_535, 1_048_575])
@pytest.mark.parametrize("exponent", [0, 6])
async def test_blocks_that_do_not_exist(gate: Gate, number: int, exponent: int) -> None:
    """Blocks far behind the end of a request or a response are a client's mistake, not ours."""
    token = await gate.add("meter")
    async with coap(gate.ports.coap) as device:
        for method, path, options in (
            (POST, f"/api/v1/{token}/telemetry", {"block1": (number, True, exponent)}),
            (POST, f"/api/v1/{token}/telemetry", {"block1": (number, False, exponent)}),
            (GET, f"/api/v1/{token}/rpc", {"block2": (number, False, exponent)}),
            (GET, f"/api/v1/{token}/rpc", {"block2": (number, False, exponent), "observe": 0}),
            (GET, f"/api/v1/{token}/attributes", {"block2": (number, False, exponent)}),
        ):
            answer = await device.ask(method, path, b"x" * 16, **options)
            assert dotted(answer).startswith("4."), (path, options)
    assert len(gate.gateway.sessions) == 0


async def test_every_call_that_waited_comes_once_and_in_turn(gate: Gate) -> None:
    """A hundred calls wait; the device answers each before it acknowledges it."""
    token = await gate.add("meter")
    made = await store_calls(gate, "meter", 100)
    async with mqtt(gate.ports.mqtt) as client:
        await login(client, token)
        client.send(subscribe_packet(7, RPC))
        heard: list[str] = []
        async with asyncio.timeout(20):
            while len(heard) < len(made):
                got = await client.next()
                assert got is not None
                if got.kind != 0x30:
                    continue
                end = 2 + int.from_bytes(got.body[:2])
                number = got.body[2:end].decode().rpartition("/")[2]
                client.publish(f"v1/devices/me/rpc/response/{number}", b"1", 1)
                client.send(packet(0x40, got.body[end : end + 2]))
                heard.append(number)
    assert [int(number) & 0x3FFFFFFF for number in heard] == [call.id for call in made]


async def test_a_poll_of_a_removed_device_ends(gate: Gate) -> None:
    """Whoever waits hears of the removal at once, on every wire."""
    token = await gate.add("meter")
    known = await gate.registry.device("meter")
    assert known is not None
    async with http(gate.ports.http) as one, mqtt(gate.ports.mqtt, 5) as two:
        await login(two, token)
        poll = asyncio.create_task(
            one.ask("GET", f"/api/v1/{token}/attributes/updates?timeout=20000")
        )
        await until(lambda: len(gate.gateway.sessions.of(known.device.id)) == 2)
        await gate.registry.remove_device(known)
        assert (await poll).status == 403
        assert await two.next() is not None
        assert await two.next() is None
