"""`kill -9` while devices work: what was acknowledged to them is in the store after the restart."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from beside import (
    ANSWER,
    ATTRIBUTES,
    CALLS,
    STAMP,
    TELEMETRY,
    People,
    beside,
    born,
    object_of,
    session_of,
    until,
)
from house import HUNG_UP, Gatehouse, NewGatehouse
from wires import POST, PUBACK, PUBLISH, Mqtt, coap, dotted, http, http_request

from gateway.core.errors import GatehouseError
from gateway.core.model import AttributeScope, ClaimResult

KILLS = 4
IN_FLIGHT = 20
CHILDREN = 40
DEVICES = ("mqtt-3", "mqtt-4", "mqtt-5", "http", "coap", "called", "shared")


class Works:
    """Devices at work until their gateway goes away, and what was acknowledged to them.

    - `readings`: the times of readings, by device; `attributes`: the client attributes.
    - `children`: the times of readings that a gateway sent for each of its children.
    - `answers`: what was answered to stored calls, by their numbers; `claims`: keys by device.
    - `shared`: the last value that people gave a shared attribute.
    """

    def __init__(self, house: Gatehouse, tokens: dict[str, str], gateway: str) -> None:
        self.house = house
        self.tokens = tokens
        self.gateway = gateway
        self.round = 0
        self.readings: dict[str, set[int]] = {name: set() for name in DEVICES}
        self.attributes: dict[str, set[str]] = {name: set() for name in DEVICES}
        self.children: dict[str, set[int]] = {}
        self.answers: dict[int, str] = {}
        self.claims: dict[str, str] = {}
        self.shared = 0
        self._stamp = STAMP

    def stamp(self) -> int:
        self._stamp += 1
        return self._stamp

    # ── what they do ──────────────────────────────────────────────────────────────────────────

    async def send_readings(self, version: int) -> None:
        """Over MQTT, many on their way at once; every fifth is an attribute."""
        name = f"mqtt-{version}"
        async with session_of(self.house, self.tokens[name], version) as session:
            sent: dict[int, int] = {}
            while True:
                while len(sent) < IN_FLIGHT:
                    at = self.stamp()
                    if at % 5:
                        body = object_of([("ts", at), ("values", {"n": at})])
                        sent[session.publish(TELEMETRY, body, 1) & 0xFFFF] = at
                    else:
                        body = object_of([(f"a{at}", at)])
                        sent[session.publish(ATTRIBUTES, body, 1) & 0xFFFF] = at
                at = sent.pop(int.from_bytes((await session.expect(PUBACK)).body[:2]))
                if at % 5:
                    self.readings[name].add(at)
                else:
                    self.attributes[name].add(f"a{at}")

    async def post(self) -> None:
        """Readings and attributes over HTTP."""
        base = f"/api/v1/{self.tokens['http']}"
        async with http(self.house.ports.http) as web:
            while True:
                at = self.stamp()
                body = object_of([("ts", at), ("values", {"n": at})])
                web.writer.write(http_request("POST", f"{base}/telemetry", body))
                if (await web.read()).status == 200:
                    self.readings["http"].add(at)
                body = object_of([(f"a{at}", at)])
                web.writer.write(http_request("POST", f"{base}/attributes", body))
                if (await web.read()).status == 200:
                    self.attributes["http"].add(f"a{at}")

    async def send_datagrams(self) -> None:
        """The same over CoAP."""
        base = f"api/v1/{self.tokens['coap']}"
        async with coap(self.house.ports.coap) as device:
            while True:
                at = self.stamp()
                body = object_of([("ts", at), ("values", {"n": at})])
                sent = device.datagram(POST, f"{base}/telemetry", body)
                if dotted(await device.send(*sent, within_s=1)) == "2.01":
                    self.readings["coap"].add(at)
                sent = device.datagram(POST, f"{base}/attributes", object_of([(f"a{at}", at)]))
                if dotted(await device.send(*sent, within_s=1)) == "2.01":
                    self.attributes["coap"].add(f"a{at}")

    async def speak_for_children(self) -> None:
        """A gateway: readings of old children and new ones in one message, and their claims."""
        async with session_of(self.house, self.gateway) as session:
            while True:
                at = self.stamp()
                names = [f"child-{n}" for n in range(CHILDREN)] + [f"new-{at}"]
                body = object_of((name, [{"ts": at, "values": {"n": at}}]) for name in names)
                await session.deliver("v1/gateway/telemetry", body)
                for name in names:
                    self.children.setdefault(name, set()).add(at)
                claim = {"secretKey": f"key-{at}", "durationMs": 600_000}
                await session.deliver("v1/gateway/claim", object_of([(f"new-{at}", claim)]))
                self.claims[f"new-{at}"] = f"key-{at}"

    async def answer_calls(self) -> None:
        """A device that answers each stored call with its method."""
        async with session_of(self.house, self.tokens["called"]) as session:
            await session.subscribe(CALLS)
            sent: dict[int, tuple[int, str]] = {}
            while True:
                await self._one_step(session, sent)

    async def _one_step(self, session: Mqtt, sent: dict[int, tuple[int, str]]) -> None:
        packet = await session.next()
        assert packet is not None
        if packet.kind == PUBACK:
            number, answer = sent.pop(int.from_bytes(packet.body[:2]))
            self.answers[number] = answer
            return
        assert packet.kind == PUBLISH
        topic, payload, _ = session.opened(packet)
        number = topic.rpartition("/")[2]
        answer = json.dumps({"did": json.loads(payload)["method"]})
        packet_id = session.publish(ANSWER + number, answer.encode(), 1)
        sent[packet_id & 0xFFFF] = (int(number), answer)

    async def be_operated(self, people: People) -> None:
        """People call one device and change attributes of another, whether the gateway lives."""
        while True:
            with suppress(GatehouseError):
                await people.call("called", f"m{self.stamp()}")
                await people.share("shared", setting=self.shared + 1)
                self.shared += 1
            await asyncio.sleep(0.005)

    @asynccontextmanager
    async def at_work(self, people: People) -> AsyncIterator[None]:
        """All of them, as long as the block lasts, which ends the gateway."""
        works = [self.send_readings(version) for version in (3, 4, 5)]
        works += [self.post(), self.send_datagrams(), self.speak_for_children()]
        works += [self.answer_calls(), self.be_operated(people)]
        tasks = [asyncio.create_task(_until_gone(work)) for work in works]
        try:
            yield
        finally:
            await asyncio.wait(tasks, timeout=0.2)
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                assert ended is None or isinstance(ended, asyncio.CancelledError), ended

    def counts(self) -> dict[str, int]:
        return {
            "readings": sum(map(len, self.readings.values())),
            "attributes": sum(map(len, self.attributes.values())),
            "children": len(self.children),
            "answers": len(self.answers),
            "claims": len(self.claims),
            "changes": self.shared,
        }

    def all_have_worked(self) -> bool:
        """Whether everybody was acknowledged something."""
        sent = [self.readings[name] for name in DEVICES[:5]]
        sent += [self.attributes[name] for name in DEVICES[:5]]
        return all(sent) and all(self.counts().values())

    # ── what must be there ────────────────────────────────────────────────────────────────────

    def all_is_stored(self) -> None:
        """Every acknowledged reading and attribute; a gateway's message whole or not at all."""
        house = self.house
        stored: dict[str, set[int]] = {}
        for name, at in house.rows(
            "SELECT name, ts FROM reading JOIN device ON device.id = device_id WHERE key = 'n'"
        ):
            stored.setdefault(name, set()).add(at)
        for name, wanted in (self.readings | self.children).items():
            assert wanted <= stored.get(name, set()), f"{name}: acknowledged readings are lost"
        for n in range(1, CHILDREN):
            assert stored[f"child-{n}"] == stored["child-0"], "half a message is stored"
        kept: dict[str, set[str]] = {}
        for name, key in house.rows(
            "SELECT name, key FROM attribute JOIN device ON device.id = device_id WHERE scope = ?",
            AttributeScope.CLIENT.value,
        ):
            kept.setdefault(name, set()).add(key)
        for name, keys in self.attributes.items():
            assert keys <= kept.get(name, set()), f"{name}: acknowledged attributes are lost"

    def all_answers_are_stored(self) -> None:
        numbers = {
            1 << 30 | number: (state, response)
            for number, state, response in self.house.rows(
                "SELECT id, state, response FROM rpc_call"
            )
        }
        for number, answer in self.answers.items():
            assert numbers[number] == ("SUCCESSFUL", answer)

    async def all_is_told(self) -> None:
        """A device that comes back is told what was changed while its gateway was dead."""
        async with http(self.house.ports.http) as web:
            token = self.tokens["shared"]
            reply = await web.ask("GET", f"/api/v1/{token}/attributes?sharedKeys=setting")
        told = json.loads(reply.body)["shared"]["setting"] if self.shared else 0
        assert told - self.shared in (0, 1)  # the last change may have been cut off here


async def _until_gone(work: Coroutine[Any, Any, None]) -> None:
    with suppress(*HUNG_UP):
        await work


async def test_what_devices_were_acknowledged_survives_kill_9(
    new_gatehouse: NewGatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """After each kill all readings, attributes, answers and claims are there, and devices go on."""
    house = new_gatehouse()
    house.start()
    tokens = dict(zip(DEVICES, await born(house, *DEVICES), strict=True))
    works = Works(house, tokens, (await born(house, "gw", gateway=True))[0])
    async with beside(house) as people:
        for kill in range(KILLS):
            async with works.at_work(people):
                await asyncio.sleep(random.uniform(0.1, 0.6))
                if kill == KILLS - 1:
                    await until(works.all_have_worked, 30, "somebody got nothing done")
                house.kill()
            house.start()
            assert house.rows("PRAGMA integrity_check") == [("ok",)]
            works.all_is_stored()
            works.all_answers_are_stored()
            await works.all_is_told()
        for name, key in works.claims.items():
            assert await people.claim(name, key) is ClaimResult.SUCCESS, name
    with capsys.disabled():
        print(f"\n{KILLS} kills: {works.counts()}")


async def test_calls_that_waited_through_a_kill_are_made(new_gatehouse: NewGatehouse) -> None:
    """Of stored calls, each is answered once, before the kill or after it, and none is lost."""
    house = new_gatehouse()
    house.start()
    (token,) = await born(house, "d")
    made: list[str] = []

    async def answer(session: Mqtt, count: int) -> None:
        for _ in range(count):
            topic, payload, _ = await _next_publish(session)
            made.append(json.loads(payload)["method"])
            session.publish(ANSWER + topic.rpartition("/")[2], b"1", 1)

    async with beside(house) as people:
        calls = [await people.call("d", f"m{n}") for n in range(60)]
        async with session_of(house, token) as session:
            await session.subscribe(CALLS)
            await answer(session, 30)
            house.kill()
        states = dict(house.rows("SELECT method, state FROM rpc_call"))
        again = [method for method, state in states.items() if state in ("QUEUED", "SENT")]
        assert len(again) >= 30
        assert states.keys() - again <= set(made), "a call is taken for delivered that was not"
        house.start()
        before = len(made)
        async with session_of(house, token) as session:
            await session.subscribe(CALLS)
            await answer(session, len(again))
            assert sorted(made[before:]) == sorted(again)
            for call in calls:
                if call.method in again:
                    assert await people.state(call) == ("SUCCESSFUL", "1")


async def _next_publish(session: Mqtt) -> tuple[str, bytes, int]:
    """Passes over acknowledgements."""
    while True:
        packet = await session.next()
        assert packet is not None
        if packet.kind == PUBLISH:
            return session.opened(packet)
        assert packet.kind == PUBACK
