"""A full disk while devices work: nothing acknowledged is lost, and all goes on afterwards."""

from __future__ import annotations

import asyncio
import json
import resource

from beside import (
    ANSWER,
    ATTRIBUTES,
    CALLS,
    STAMP,
    TELEMETRY,
    beside,
    born,
    object_of,
    online,
    session_of,
    until,
)
from house import Gatehouse
from wires import DISCONNECT, PUBACK, Mqtt, http

UNLIMITED = resource.RLIM_INFINITY


def limit_files(house: Gatehouse, size: int) -> None:
    """No file of the process may grow past `size` bytes; a write that would, fails (EFBIG)."""
    resource.prlimit(house.running.pid, resource.RLIMIT_FSIZE, (size, UNLIMITED))


def reading(number: int) -> bytes:
    return object_of([("ts", STAMP + number), ("values", {"n": number})])


async def sent(house: Gatehouse, token: str, first: int, count: int) -> set[int]:
    """The numbers of those readings that were acknowledged, each over MQTT or HTTP."""
    taken = set()
    for number in range(first, first + count):
        if number % 2:
            async with http(house.ports.http) as web:
                reply = await web.ask("POST", f"/api/v1/{token}/telemetry", reading(number))
                acknowledged = reply.status == 200
        else:
            async with session_of(house, token) as session:
                session.publish(TELEMETRY, reading(number), 1)
                told = await session.next()
                acknowledged = told is not None
                assert told is None or told.kind == PUBACK
        if acknowledged:
            taken.add(number)
    return taken


async def until_ready(house: Gatehouse, status: int) -> None:
    for _ in range(100):
        if (await house.ready())[0] == status:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"/readyz is not {status}")


async def is_called(session: Mqtt, method: str) -> str:
    """The next packet is this call; its number."""
    topic, payload, _ = await session.published()
    assert json.loads(payload)["method"] == method
    return topic.rpartition("/")[2]


async def test_nothing_acknowledged_is_lost_to_a_full_disk(house: Gatehouse) -> None:
    """Before, meanwhile and after: a reading is acknowledged if, and only if, it is kept."""
    token, gateway = (*await born(house, "d"), *await born(house, "gw", gateway=True))
    taken = await sent(house, token, 0, 20)
    assert len(taken) == 20
    async with session_of(house, gateway, 5) as session:
        await session.deliver("v1/gateway/telemetry", b'{"child":[{"n":1}]}')
        limit_files(house, 4096)
        assert await sent(house, token, 20, 20) == set()
        for topic in ("telemetry", "attributes"):
            body = b'{"unborn":[{"n":1}]}' if topic == "telemetry" else b'{"unborn":{"n":1}}'
            session.publish(f"v1/gateway/{topic}", body, 1)
            assert (await session.expect(PUBACK)).body[2:3] == b"\x83"
            assert await session.outcome() == []
        await until_ready(house, 503)
        limit_files(house, UNLIMITED)
        await until_ready(house, 200)
        await session.deliver("v1/gateway/telemetry", b'{"born":[{"n":1}]}')
    taken |= await sent(house, token, 40, 20)
    kept = {n for (n,) in house.rows("SELECT whole FROM reading JOIN device ON id = device_id"
                                     " WHERE name = 'd' AND key = 'n'")}  # fmt: skip
    assert kept == taken
    assert len(taken) == 40
    names = {name for (name,) in house.rows("SELECT name FROM device")}
    assert names == {"d", "gw", "child", "born"}
    assert "Traceback" not in house.log()


async def test_calls_and_changes_go_on_after_a_full_disk(house: Gatehouse) -> None:
    """A call stored meanwhile reaches its device, an answer that was not taken is taken later."""
    (token,) = await born(house, "d")
    async with beside(house) as people:
        async with session_of(house, token, 5) as session:
            await session.subscribe(CALLS, ATTRIBUTES)
            early = await people.call("d", "early")
            number = await is_called(session, "early")
            delivered = "SELECT 1 FROM rpc_call WHERE state = 'DELIVERED'"
            await until(lambda: house.rows(delivered) == [(1,)], 10, "it was not delivered")
            limit_files(house, 4096)
            late = await people.call("d", "late")
            session.publish(ANSWER + number, b'"early"', 1)
            assert await session.outcome() == [(DISCONNECT, 0x83), (0, 0)]
        limit_files(house, UNLIMITED)
        await until_ready(house, 200)
        async with session_of(house, token, 5) as session:
            await session.deliver(ANSWER + number, b'"early"')
            await session.subscribe(CALLS, ATTRIBUTES)
            await session.deliver(ANSWER + await is_called(session, "late"), b'"late"')
            await people.share("d", n=1)
            assert (await session.published()).payload == b'{"n":1}'
        assert await people.state(early) == ("SUCCESSFUL", '"early"')
        assert await people.state(late) == ("SUCCESSFUL", '"late"')


async def test_a_call_stored_meanwhile_does_not_wait_for_a_new_session(house: Gatehouse) -> None:
    """A device that stays subscribed through a full disk gets the call once there is room."""
    (token,) = await born(house, "d")
    async with beside(house) as people, session_of(house, token) as session:
        await session.subscribe(CALLS)
        limit_files(house, 4096)
        call = await people.call("d", "late")
        await until(lambda: '"store.unavailable"' in house.log(), 5, "it was not tried")
        limit_files(house, UNLIMITED)
        await until_ready(house, 200)
        await session.deliver(ANSWER + await is_called(session, "late"), b"1")
        assert await people.state(call) == ("SUCCESSFUL", "1")


async def test_presence_is_true_again_after_a_full_disk(house: Gatehouse) -> None:
    """Who came and who went while nothing could be written is known soon after."""
    tokens = dict(zip(("stays", "goes", "comes"), await born(house, "stays", "goes", "comes"),
                      strict=True))  # fmt: skip
    async with session_of(house, tokens["stays"]):
        async with session_of(house, tokens["goes"]):
            await until(lambda: online(house, *tokens) == {"stays", "goes"}, 5, "not written")
            limit_files(house, 4096)
        async with session_of(house, tokens["comes"]):
            await asyncio.sleep(1.2)  # a write was due, and failed
            assert online(house, *tokens) == {"stays", "goes"}
            limit_files(house, UNLIMITED)
            await until(lambda: online(house, *tokens) == {"stays", "comes"}, 5, "not written")
