"""The device API on secure wires, by a certificate alone: no token in any path or CONNECT."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from aiocoap import Message  # type: ignore[attr-defined, unused-ignore]
from contract import add_package, assign
from lines import Coaps, Https, Mqtts, in_blocks
from operating import Operator
from plant import Plant
from wires import GET, POST, Coap, dotted

from gateway.core.model import AttributeScope, PackageKind
from gateway.core.sessions import Slot


async def notified(device: Coap, after: int) -> dict[str, Any]:
    """The payload of the first observed change after so many datagrams."""
    async with asyncio.timeout(2):
        while True:
            for raw in device.raw[after:]:
                message = Message.decode(raw)
                if message.opt.observe is not None:
                    found: dict[str, Any] = json.loads(message.payload)
                    return found
            await asyncio.sleep(0.01)


async def waiting(plant: Plant, slot: Slot) -> None:
    async with asyncio.timeout(2):
        while not any(one.slot is slot for one in plant.gate.gateway.sessions):
            await asyncio.sleep(0.01)


async def test_https(plant: Plant) -> None:
    """Attributes both ways, a poll that hears a change, calls both ways."""
    identity = await plant.signed("d")
    operator = Operator(plant.gate)
    async with plant.entered("https", identity) as device:
        assert isinstance(device, Https)
        web = device.web
        reply = await web.ask("POST", "/api/v1/attributes", b'{"own":1}')
        assert reply.status == 200
        assert await operator.attributes(AttributeScope.CLIENT) == {"own": 1}
        await operator.share(s=2)
        await plant.told()
        reply = await web.ask("GET", "/api/v1/attributes?clientKeys=own&sharedKeys=s")
        assert json.loads(reply.body) == {"client": {"own": 1}, "shared": {"s": 2}}
        poll = asyncio.create_task(web.ask("GET", "/api/v1/attributes/updates?timeout=5000"))
        await waiting(plant, Slot.POLL)
        await operator.share(s=3)
        assert json.loads((await poll).body) == {"s": 3}
        poll = asyncio.create_task(web.ask("GET", "/api/v1/rpc?timeout=5000"))
        await waiting(plant, Slot.POLL)
        calling = asyncio.create_task(operator.call("set", '{"pin":7}'))
        asked = json.loads((await poll).body)
        await web.ask("POST", f"/api/v1/rpc/{asked['id']}", b'{"ok":true}')
        assert await calling == ("SUCCESSFUL", '{"ok":true}')
        reply = await web.ask("POST", "/api/v1/rpc", b'{"method":"getCurrentTime","params":{}}')
        assert list(json.loads(reply.body)) == ["currentTime"]


async def test_coaps(plant: Plant) -> None:
    """The same with observations, and a body in blocks."""
    identity = await plant.signed("d")
    operator = Operator(plant.gate)
    async with plant.entered("coaps", identity) as association:
        assert isinstance(association, Coaps)
        device = association.device
        big = {f"key-{number}": "x" * 20 for number in range(100)}
        assert await in_blocks(device, "/api/v1/attributes", json.dumps(big).encode()) == b""
        assert await operator.attributes(AttributeScope.CLIENT) == big
        first = await device.ask(GET, "/api/v1/attributes", observe=0)
        assert (dotted(first), first.payload) == ("2.05", b"{}")
        seen = len(device.raw)
        await operator.share(s=3)
        assert await notified(device, seen) == {"s": 3}
        await device.ask(GET, "/api/v1/rpc", observe=0)
        seen = len(device.raw)
        calling = asyncio.create_task(operator.call("set", '{"pin":7}'))
        asked = await notified(device, seen)
        answer = await device.ask(POST, f"/api/v1/rpc/{asked['id']}", b'{"ok":true}')
        assert dotted(answer) == "2.01"
        assert await calling == ("SUCCESSFUL", '{"ok":true}')
        body = b'{"method":"getCurrentTime","params":{}}'
        answer = await device.ask(POST, "/api/v1/rpc", body)
        assert list(json.loads(answer.payload)) == ["currentTime"]


async def test_mqtts(plant: Plant) -> None:
    """The topics need no token anyway; user name and password of CONNECT do not matter."""
    identity = await plant.signed("d")
    operator = Operator(plant.gate)
    async with plant.entered("mqtts", identity, token="whatever", version=5) as device:
        assert isinstance(device, Mqtts)
        session = device.session
        assert await session.subscribe("v1/devices/me/attributes", "v1/devices/me/rpc/request/+")
        await session.deliver("v1/devices/me/attributes", b'{"own":1}')
        assert await operator.attributes(AttributeScope.CLIENT) == {"own": 1}
        await operator.share(s=3)
        assert json.loads((await session.published()).payload) == {"s": 3}
        calling = asyncio.create_task(operator.call("set", '{"pin":7}'))
        asked = await session.published()
        number = asked.topic.rpartition("/")[2]
        await session.deliver(f"v1/devices/me/rpc/response/{number}", b'{"ok":true}')
        assert await calling == ("SUCCESSFUL", '{"ok":true}')


async def test_a_package_is_downloaded_over_tls_and_dtls(
    plant_on_disk: Plant, tmp_path: Path
) -> None:
    """Three megabytes over HTTPS, a part of them over CoAPS: each byte as it is."""
    plant = plant_on_disk
    identity = await plant.signed("d")
    content = os.urandom(3_000_000)
    package = await add_package(plant.gate, tmp_path, content, PackageKind.FIRMWARE)
    await assign(plant.gate, package)
    query = f"title={package.title}&version={package.version}"
    async with plant.entered("https", identity) as device:
        assert isinstance(device, Https)
        reply = await device.web.ask("GET", f"/api/v1/firmware?{query}")
        assert (reply.status, reply.body) == (200, content)
    async with plant.entered("coaps", identity) as association:
        assert isinstance(association, Coaps)
        got = b""
        for number in range(20):
            answer = await association.device.ask(
                GET, "/fw", query=query.split("&"), block2=(number, False, 6)
            )
            got += bytes(answer.payload)
        assert got == content[: 20 * 1024]


async def test_a_large_body_goes_up_over_tls(plant: Plant) -> None:
    """Hundreds of kilobytes in one request, in many records."""
    identity = await plant.signed("d")
    async with plant.entered("https", identity) as device:
        assert isinstance(device, Https)
        values = {f"key-{number}": "x" * 200 for number in range(900)}
        reply = await device.web.ask("POST", "/api/v1/telemetry", json.dumps(values).encode())
        assert reply.status == 200
    assert await plant.gate.readings("d") == values
