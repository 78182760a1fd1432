"""Blynk's devices over CoAP (ours): the claim, the device API, and orders that are observed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers.types import Type
from blynk_ground import OTHER_TEMPLATE, TEMPLATE, BlynkGate
from wires import GET, POST, Coap, Observing, coap, dotted, observing

from gateway.core.model import DeviceRecord, Order, Secret

API = "/external/api"
INVALID = b'{"error":{"message":"Invalid token."}}'
NO_TEMPLATE = b'{"error":{"message":"Template is not found."}}'
JSON_FORMAT, TEXT_FORMAT = 50, 0


class Thing:
    """A device over CoAP, whose token goes with each request."""

    def __init__(self, device: Coap, token: str) -> None:
        self.device = device
        self.token = token

    async def ask(self, call: str, *query: str, method: Any = GET, body: bytes = b"") -> Message:
        path = f"{API}/{call}"
        return await self.device.ask(method, path, body, [f"token={self.token}", *query])

    async def told(self, call: str, *query: str, method: Any = GET, body: bytes = b"") -> bytes:
        """The payload of a success, which nobody may keep."""
        answer = await self.ask(call, *query, method=method, body=body)
        assert dotted(answer) == ("2.05" if method == GET else "2.04"), answer.payload
        assert answer.opt.max_age == 0
        return bytes(answer.payload)


@pytest.fixture
async def udp(blynk: BlynkGate) -> AsyncIterator[Coap]:
    async with coap(blynk.ports.coap) as device:
        yield device


@pytest.fixture
async def thing(blynk: BlynkGate, udp: Coap) -> Thing:
    token, _ = await blynk.born()
    return Thing(udp, token)


# ── the claim ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("method", "code"), [(GET, "2.05"), (POST, "2.04")])
@pytest.mark.parametrize("kind", [Type.CON, Type.NON])
async def test_a_claim(blynk: BlynkGate, udp: Coap, method: Any, code: str, kind: Any) -> None:
    """2.05 or 2.04 without a body, not to be kept; the device is there, and may ask again."""
    token = await blynk.issue()
    query = [f"token={token}", f"templateId={TEMPLATE}", "ver=1.2", "build=Oct 1"]
    for _ in range(2):
        answer = await udp.ask(method, f"{API}/provision", query=query, kind=kind)
        assert (dotted(answer), answer.payload, answer.opt.max_age) == (code, b"", 0)
    device = await blynk.device(token)
    assert device is not None
    assert device.name == f"Meter {device.id}"


async def test_refused_claims(blynk: BlynkGate, udp: Coap) -> None:
    """4.00 with the envelope, as JSON, not to be kept; the token can still be claimed."""
    token = await blynk.issue()
    for query, told in (
        ([f"token={token}"], NO_TEMPLATE),
        ([f"token={token}", f"templateId={TEMPLATE}x"], NO_TEMPLATE),
        ([f"token={'A' * 32}", f"templateId={TEMPLATE}"], INVALID),
        ([f"templateId={TEMPLATE}"], INVALID),
        ([], INVALID),
    ):
        answer = await udp.ask(GET, f"{API}/provision", query=query)
        assert (dotted(answer), answer.payload) == ("4.00", told)
        assert (answer.opt.content_format, answer.opt.max_age) == (JSON_FORMAT, 0)
    query = [f"token={token}", f"templateId={TEMPLATE}", f"templateId={OTHER_TEMPLATE}"]
    assert dotted(await udp.ask(GET, f"{API}/provision", query=query)) == "2.05"


async def test_a_datagram_that_is_sent_again(blynk: BlynkGate, udp: Coap) -> None:
    """A device whose answer was lost gets the same one, and there is one device."""
    token = await blynk.issue()
    query = [f"token={token}", f"templateId={TEMPLATE}"]
    datagram, fresh = udp.datagram(GET, f"{API}/provision", query=query)
    assert dotted(await udp.send(datagram, fresh)) == "2.05"
    await udp.send(datagram, fresh)
    first, second = udp.raw
    assert first == second
    assert await blynk.gateway.store.driver.rows("count_devices") == [(1,)]


async def test_a_hundred_claims_give_one_device(blynk: BlynkGate, udp: Coap) -> None:
    token = await blynk.issue()
    query = [f"token={token}", f"templateId={TEMPLATE}"]
    asked = (udp.ask(GET, f"{API}/provision", query=query) for _ in range(100))
    answers = await asyncio.gather(*asked)
    assert {dotted(one) for one in answers} == {"2.05"}
    assert await blynk.gateway.store.driver.rows("count_devices") == [(1,)]


# ── the device API ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", [GET, POST])
async def test_every_call(blynk: BlynkGate, thing: Thing, method: Any) -> None:
    """The same parameters and bodies as over HTTP, by GET and by POST."""

    async def told(call: str, *query: str) -> bytes:
        return await thing.told(call, *query, method=method)

    assert await told("isHardwareConnected") == b"false"
    assert await told("update", "v1=100") == b""
    assert await told("update", "dataStreamId=5", "value=12", "value=11") == b""
    assert await told("get", "v1") == b"100.00000"
    assert await told("get", "v1", "v4") == b'{"v1":100.0,"v4":[12.0,11.0]}'
    assert await told("batch/update", "v0=1", "v2=a b") == b"OK"
    whole = b'{"v0":1,"v1":100.0,"v2":"a b","v4":[12.0,11.0]}'
    assert await told("getAll") == whole
    assert await told("update/property", "pin=v1", "label=Hall") == b""
    assert await told("logEvent", "code=overheated", "description=hot") == b""
    assert await told("device/meta/update", "metaFieldId=1", "value=attic") == b""
    assert await told("device/meta", "metaFieldId=1") == b'{"type":"Text","value":"attic"}'
    over_http = await blynk.ask("GET", f"{API}/getAll", token=thing.token)
    assert over_http.body == whole


async def test_a_batch_with_times(thing: Thing) -> None:
    """A POST may have a body, here too."""
    body = b"[[1790000000000,1],[1790000001000,2.5]]"
    assert await thing.told("batch/update", "pin=v1", method=POST, body=body) == b"OK"
    assert await thing.told("get", "v1") == b"2.50000"


@pytest.mark.parametrize(
    ("call", "query", "text"),
    [
        ("get", ["v9"], "Requested dataStream doesn't exist in the product Water Meter"),
        ("get", ["x"], "Wrong pin format."),
        ("update", ["v1=warm"], "Value doesn't match the Datastream data type."),
        ("batch/update", ["v1=warm"], "Value doesn't match the Datastream data type"),
        ("update/property", ["pin=v9", "label=x"], "No datastream setup for that pin."),
        ("logEvent", [], "Event code is not provided."),
        ("device/meta", ["metaFieldId=99"], "MetaField doesn't exist."),
    ],
)
async def test_mistakes(thing: Thing, call: str, query: list[str], text: str) -> None:
    """4.00 with the envelope."""
    answer = await thing.ask(call, *query)
    assert (dotted(answer), json.loads(answer.payload)) == ("4.00", {"error": {"message": text}})
    assert (answer.opt.content_format, answer.opt.max_age) == (JSON_FORMAT, 0)


async def test_labels(thing: Thing) -> None:
    """A bare value is text, an object JSON."""
    await thing.told("update", "v1=1")
    assert (await thing.ask("get", "v1")).opt.content_format == TEXT_FORMAT
    assert (await thing.ask("getAll")).opt.content_format == JSON_FORMAT


async def test_tokens_that_are_none(blynk: BlynkGate, udp: Coap) -> None:
    """A pending one is good for asking whether the device is there, and for nothing else."""
    pending = Thing(udp, await blynk.issue())
    assert await pending.told("isHardwareConnected") == b"false"
    for one in (pending, Thing(udp, "A" * 32), Thing(udp, "")):
        for call in ("getAll", "reconfigure", "update"):
            answer = await one.ask(call, "v1=1") if call == "update" else await one.ask(call)
            assert (dotted(answer), answer.payload) == ("4.00", INVALID)


# ── orders ────────────────────────────────────────────────────────────────────────────────────


class Watching:
    """A device that was born, and observes its orders."""

    def __init__(self, blynk: BlynkGate, udp: Observing, token: str, record: DeviceRecord) -> None:
        self.blynk = blynk
        self.udp = udp
        self.token = token
        self.record = record

    def observe(self, kind: Any = Type.CON) -> bytes:
        return self.udp.observe(f"{API}/reconfigure", kind, [f"token={self.token}"])

    async def order(self, order: Order, argument: str = "") -> bool:
        return await self.blynk.tickets.order(self.blynk.admin, self.record, order, argument)


@pytest.fixture
async def watching(blynk: BlynkGate) -> AsyncIterator[Watching]:
    token, record = await blynk.born()
    async with observing(blynk.ports.coap) as udp:
        yield Watching(blynk, udp, token, record)


async def test_orders_without_observing(watching: Watching) -> None:
    """A plain GET says that there is none, since none ever waits."""
    answer = await watching.udp.ask(GET, f"{API}/reconfigure", query=[f"token={watching.token}"])
    assert (dotted(answer), answer.payload) == ("2.05", b'{"reconfigure":false}')
    assert (answer.opt.observe, answer.opt.max_age) == (None, 0)
    assert await watching.order(Order.RECONFIGURE) is False


@pytest.mark.parametrize("kind", [Type.CON, Type.NON])
async def test_orders_are_observed(watching: Watching, kind: Any) -> None:
    """First that there is none; then each as it is given, numbered. The device is online."""
    observation = watching.observe(kind)
    first = await watching.udp.next(observation)
    assert (dotted(first), first.payload, first.opt.observe) == (
        *("2.05", b'{"reconfigure":false}', 0),
    )
    assert first.opt.content_format == JSON_FORMAT
    connected = await watching.blynk.ask("GET", f"{API}/isHardwareConnected", token=watching.token)
    assert connected.body == b"true"
    address = "coaps://elsewhere.example:5684"
    for number, (order, argument, told) in enumerate(
        (
            (Order.RECONFIGURE, "", {"reconfigure": True}),
            (Order.REBOOT, "", {"reboot": True}),
            (Order.REDIRECT, address, {"redirect": address}),
        ),
        1,
    ):
        assert await watching.order(order, argument) is True
        answer = await watching.udp.next(observation)
        assert (dotted(answer), json.loads(answer.payload)) == ("2.05", told)
        assert (answer.opt.observe, answer.mtype) == (number, kind)


async def test_an_observation_that_is_cancelled(watching: Watching) -> None:
    """The device is offline again, and hears no more."""
    observation = watching.observe()
    await watching.udp.next(observation)
    query = [f"token={watching.token}"]
    datagram, fresh = watching.udp.datagram(GET, f"{API}/reconfigure", query=query, observe=1)
    watching.udp.transport.sendto(datagram.replace(fresh, observation))
    answer = await watching.udp.next(observation)
    assert (dotted(answer), answer.opt.observe) == ("2.02", None)
    assert await watching.order(Order.RECONFIGURE) is False
    await asyncio.sleep(0.2)
    assert watching.udp.queues[observation].empty()


async def test_the_end_of_a_token_ends_its_observation(watching: Watching) -> None:
    """2.02 without Observe, when the device is provisioned anew and when it is removed."""
    blynk = watching.blynk
    observation = watching.observe()
    await watching.udp.next(observation)
    issued = await blynk.tickets.reprovision(blynk.admin, watching.record)
    watching.token = issued.token.reveal()
    assert (await blynk.claim(watching.token)).status == 200
    last = await watching.udp.next(observation)
    assert (dotted(last), last.opt.observe) == ("2.02", None)

    observation = watching.observe()
    assert dotted(await watching.udp.next(observation)) == "2.05"
    known = await blynk.gateway.store.find_credentials(Secret(watching.token))
    assert known is not None
    assert await blynk.gate.registry.remove_device(known)
    assert dotted(await watching.udp.next(observation)) == "2.02"


async def test_a_newer_observation_takes_the_place_of_an_older(watching: Watching) -> None:
    """A device that came back from another port is told once."""
    older = watching.observe()
    await watching.udp.next(older)
    newer = watching.observe()
    assert dotted(await watching.udp.next(newer)) == "2.05"
    assert dotted(await watching.udp.next(older)) == "2.02"
    await watching.order(Order.RECONFIGURE)
    assert (await watching.udp.next(newer)).payload == b'{"reconfigure":true}'
    assert watching.udp.queues[older].empty()
