"""Devices that do as they should: on every wire, for a while, and then once more.

Each life ends in one of two ways: with a goodbye, or as if the power went.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
from ground import World
from speakers import Speaker, Watcher, code_of, part, speaking, watching
from wires import HOST, POST, Published

from gateway.simulator.processes import PROFILE

DONE = '{"done":true}'
"""What every device answers to every call."""
CHILDREN = 20
_LIFE_S = (4.0, 15.0)
_POLL_MS = 3_000
_GOODBYE = 0.6
"""The share of lives that end with one."""

Life = Callable[[], Awaitable[None]]


# ── MQTT ──────────────────────────────────────────────────────────────────────────────────────


class MqttDevice:
    """Telemetry in small bursts, attributes of both scopes, and an answer to every call."""

    def __init__(self, world: World, name: str, version: int) -> None:
        self.world = world
        self.name = name
        self.version = version

    async def life(self) -> None:
        world = self.world
        token = world.token(self.name)
        async with speaking(world.ports.mqtt, self.version, token, self._hear) as speaker:
            granted = await speaker.subscribe(
                "v1/devices/me/attributes",
                "v1/devices/me/attributes/response/+",
                "v1/devices/me/rpc/request/+",
                "v1/devices/me/rpc/response/+",
            )
            world.tally.expect("mqtt sessions", granted, True)
            speaker.say("v1/devices/me/rpc/request/1", '{"method":"getSessionLimits","params":{}}')
            for turn, _ in enumerate(world.lifetime(*_LIFE_S)):
                await asyncio.gather(*(self._measure(speaker) for _ in range(5)))
                if turn % 10 == 0:
                    await self._tell(speaker)
                await world.pause(0.05, 0.3)
            if world.chance.random() < _GOODBYE:
                part(speaker)

    async def _measure(self, speaker: Speaker) -> None:
        number, text = self.world.reading(self.name)
        if await speaker.deliver("v1/devices/me/telemetry", text):
            self.world.tally.unexpected("mqtt readings", "refused")
        else:
            self.world.took("mqtt", self.name, number)

    async def _tell(self, speaker: Speaker) -> None:
        said = await speaker.deliver("v1/devices/me/attributes", '{"firmware":"1.0","ok":true}')
        self.world.tally.expect("mqtt client attributes", said, 0)
        speaker.say("v1/devices/me/attributes/request/1", '{"clientKeys":"firmware"}')

    def _hear(self, speaker: Speaker, heard: Published) -> None:
        tally, topic = self.world.tally, heard.topic
        if topic.startswith("v1/devices/me/rpc/request/"):
            tally.count("mqtt calls answered")
            speaker.say(topic.replace("request", "response"), DONE)
        elif topic == "v1/devices/me/attributes":
            tally.count("mqtt shared attributes heard")
        elif topic.startswith("v1/devices/me/attributes/response/"):
            found = json.loads(heard.payload)
            tally.expect("mqtt attributes asked", found, {"client": {"firmware": 1.0}})
        elif topic == "v1/devices/me/rpc/response/1":
            tally.expect("mqtt session limits", "rateLimits" in json.loads(heard.payload), True)
        else:
            tally.unexpected("mqtt topic", topic)


class GatewayDevice:
    """A gateway whose children come and go; each message has readings of those that are there."""

    def __init__(self, world: World, name: str, version: int) -> None:
        self.world = world
        self.name = name
        self.version = version
        self.children = [f"{name}-child-{number}" for number in range(CHILDREN)]

    async def life(self) -> None:
        world = self.world
        token = world.token(self.name)
        async with speaking(world.ports.mqtt, self.version, token, self._hear) as speaker:
            granted = await speaker.subscribe(
                "v1/gateway/rpc", "v1/gateway/attributes", "v1/gateway/attributes/response"
            )
            world.tally.expect("gateway sessions", granted, True)
            here: set[str] = set()
            for _ in world.lifetime(*_LIFE_S):
                await self._come_and_go(speaker, here)
                await self._measure(speaker, here)
                await world.pause(0.05, 0.2)
            if world.chance.random() < _GOODBYE:
                part(speaker)

    async def _come_and_go(self, speaker: Speaker, here: set[str]) -> None:
        child = self.world.chance.choice(self.children)
        if child in here and len(here) > CHILDREN // 2:
            here.discard(child)
            topic, message = "v1/gateway/disconnect", {"device": child}
        else:
            here.add(child)
            topic, message = "v1/gateway/connect", {"device": child, "type": PROFILE}
        code = await speaker.deliver(topic, json.dumps(message))
        self.world.tally.expect("gateway children come or gone", code, 0)

    async def _measure(self, speaker: Speaker, here: set[str]) -> None:
        taken = {child: self.world.reading(child) for child in sorted(here)}
        parts = (f'"{child}":[{text}]' for child, (_, text) in taken.items())
        code = await speaker.deliver("v1/gateway/telemetry", f"{{{','.join(parts)}}}")
        self.world.tally.expect("gateway messages", code, 0)
        if code == 0:
            for child, (number, _) in taken.items():
                self.world.took("gateway", child, number)

    def _hear(self, speaker: Speaker, heard: Published) -> None:
        told = json.loads(heard.payload)
        if heard.topic == "v1/gateway/rpc":
            self.world.tally.count("gateway calls answered")
            answer = {"device": told["device"], "id": told["data"]["id"], "data": {"done": True}}
            speaker.say("v1/gateway/rpc", json.dumps(answer))
        elif heard.topic == "v1/gateway/attributes":
            self.world.tally.expect("gateway shared attributes heard", "data" in told, True)


# ── HTTP ──────────────────────────────────────────────────────────────────────────────────────


class HttpDevice:
    """Telemetry and attributes by request, calls and changes by long poll."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.url = f"http://{HOST}:{world.ports.http}/api/v1/{world.token(name)}"

    async def life(self) -> None:
        """Its polls are cut when it ends, in the middle of their wait."""
        patience = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(timeout=patience) as web:
            polls = [
                asyncio.create_task(self._poll_calls(web)),
                asyncio.create_task(self._poll_attributes(web)),
            ]
            try:
                for turn, _ in enumerate(self.world.lifetime(*_LIFE_S)):
                    await self._measure(web)
                    if turn % 10 == 0:
                        await self._tell(web)
                    await self.world.pause(0.02, 0.2)
                self._raise_from(polls)
            finally:
                for poll in polls:
                    poll.cancel()
                await asyncio.gather(*polls, return_exceptions=True)

    @staticmethod
    def _raise_from(polls: list[asyncio.Task[None]]) -> None:
        for poll in polls:
            if poll.done():
                poll.result()

    async def _measure(self, web: aiohttp.ClientSession) -> None:
        number, text = self.world.reading(self.name)
        async with web.post(f"{self.url}/telemetry", data=text) as answer:
            if answer.status == 200:
                self.world.took("http", self.name, number)
            else:
                self.world.tally.unexpected("http readings", answer.status)

    async def _tell(self, web: aiohttp.ClientSession) -> None:
        tally = self.world.tally
        async with web.post(f"{self.url}/attributes", data='{"firmware":2}') as answer:
            tally.expect("http client attributes", answer.status, 200)
        async with web.get(f"{self.url}/attributes?clientKeys=firmware") as answer:
            found = await answer.json(content_type=None)
            tally.expect("http attributes asked", found, {"client": {"firmware": 2}})

    async def _poll_calls(self, web: aiohttp.ClientSession) -> None:
        tally = self.world.tally
        while True:
            async with web.get(f"{self.url}/rpc?timeout={_POLL_MS}") as answer:
                tally.expect("http polls for calls", answer.status, 200, 408)
                call = await answer.json(content_type=None) if answer.status == 200 else None
            if call is not None:
                async with web.post(f"{self.url}/rpc/{call['id']}", data=DONE) as answer:
                    tally.expect("http calls answered", answer.status, 200)

    async def _poll_attributes(self, web: aiohttp.ClientSession) -> None:
        while True:
            async with web.get(f"{self.url}/attributes/updates?timeout={_POLL_MS}") as answer:
                self.world.tally.expect("http polls for attributes", answer.status, 200, 408)
                if answer.status == 200:
                    self.world.tally.count("http shared attributes heard")


# ── CoAP ──────────────────────────────────────────────────────────────────────────────────────


class CoapDevice:
    """Confirmable telemetry, and two observations, which it leaves behind when it goes."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.path = f"api/v1/{world.token(name)}"
        self._answers: set[asyncio.Task[None]] = set()

    async def life(self) -> None:
        world = self.world
        async with watching(world.ports.coap) as device:
            await self._register(device)
            for turn, _ in enumerate(world.lifetime(*_LIFE_S)):
                await self._measure(device)
                if turn % 10 == 0:
                    said = await device.ask(POST, f"{self.path}/attributes", b'{"firmware":3}')
                    world.tally.expect("coap client attributes", code_of(said), 0x41)
                await world.pause(0.02, 0.2)
            for answer in self._answers:
                answer.cancel()

    async def _register(self, device: Watcher) -> None:
        tally = self.world.tally

        def changed(message: object) -> None:
            tally.count("coap shared attributes heard")

        code = await device.observe(f"{self.path}/attributes", changed)
        tally.expect("coap observations", code, 0x45)
        code = await device.observe(f"{self.path}/rpc", lambda told: self._called(device, told))
        tally.expect("coap observations", code, 0x43)

    async def _measure(self, device: Watcher) -> None:
        number, text = self.world.reading(self.name)
        answer = await device.ask(POST, f"{self.path}/telemetry", text.encode())
        if code_of(answer) == 0x41:
            self.world.took("coap", self.name, number)
        else:
            self.world.tally.unexpected("coap readings", answer.code)

    def _called(self, device: Watcher, told: object) -> None:
        payload = getattr(told, "payload", b"")
        if payload:
            answer = asyncio.create_task(self._answer(device, json.loads(payload)["id"]))
            self._answers.add(answer)
            answer.add_done_callback(self._answers.discard)

    async def _answer(self, device: Watcher, call_id: int) -> None:
        # Its device may go in the middle of it.
        with suppress(OSError, TimeoutError):
            said = await device.ask(POST, f"{self.path}/rpc/{call_id}", DONE.encode())
            self.world.tally.expect("coap calls answered", code_of(said), 0x41)
