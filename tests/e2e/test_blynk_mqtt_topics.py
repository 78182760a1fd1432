"""MQTT: each topic of the contract's section 7.3, up and down."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from blynk_ground import SECTION, TEMPLATE, BlynkGate, blynk_on
from blynk_talk import connected, ended, info, noted
from contract import add_package, assign
from inside import Gate
from operating import Operator
from wires import PUBACK, Mqtt, Published, http, mqtt

from gateway.core.model import (
    AttributeScope,
    AttributesSelection,
    Device,
    DeviceProfile,
    Json,
    Secret,
)
from gateway.core.registry import ProfileDraft

VERSIONS = pytest.mark.parametrize("version", [4, 5])
WRONG_VALUE = b"Value doesn't match the Datastream data type."
NO_STREAM = b"Requested dataStream doesn't exist in the product Water Meter"


class Talking:
    """A device that is online and subscribed to everything."""

    def __init__(self, blynk: BlynkGate, session: Mqtt, device: Device, token: str) -> None:
        self.blynk = blynk
        self.session = session
        self.device = device
        self.token = token

    async def values(self) -> dict[str, Any]:
        found = await self.blynk.gateway.store.latest(self.device)
        return {one.key: one.value for one in found}

    async def client_attributes(self) -> dict[str, Any]:
        selection = AttributesSelection(None, ())
        return dict((await self.blynk.gateway.store.attributes(self.device, selection)).client)

    async def shared_attributes(self) -> dict[str, Any]:
        selection = AttributesSelection((), None)
        return dict((await self.blynk.gateway.store.attributes(self.device, selection)).shared)

    async def asked(self, topic: str, payload: bytes, answers: int) -> dict[str, bytes]:
        """What a publish brings, by topic; each at the QoS of the subscription."""
        self.session.publish(topic, payload)
        got = [await self.session.published() for _ in range(answers)]
        assert {one.qos for one in got} == {1}
        return {one.topic: one.payload for one in got}

    async def refused(self, topic: str, payload: bytes, code: int = 0x99) -> bytes:
        """The note of a publish at QoS 1 that is acknowledged and told of."""
        number = self.session.publish(topic, payload, 1)
        note = await self.session.published()
        assert note.topic == "downlink/diag"
        got = await self.session.expect(PUBACK)
        assert got.body[:2] == number.to_bytes(2)
        assert got.body[2:3] == (bytes((code,)) if self.session.version == 5 else b"")
        return note.payload


@pytest.fixture(params=[4, 5])
async def talking(blynk: BlynkGate, request: pytest.FixtureRequest) -> AsyncIterator[Talking]:
    token, record = await blynk.born()
    async with connected(blynk, token, request.param, "downlink/#") as session:
        yield Talking(blynk, session, record.device, token)


# ── datastreams ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "payload", "key", "value"),
    [
        ("Switch", b"1", "Switch", 1),
        ("temperature", b"21.5", "temperature", 21.5),
        ("temperature", b"-40", "temperature", -40.0),
        ("Note", "Größe".encode(), "note", "Größe"),
        ("Note", b"", "note", ""),
        ("Mode", b"2", "Mode", 2),
        ("Place", b"30.5\x0050.45", "Place", Json("[30.5,50.45]")),
    ],
)
async def test_a_value(talking: Talking, name: str, payload: bytes, key: str, value: Any) -> None:
    """It is on disk when it is acknowledged, in the series of the datastream's key."""
    await talking.session.deliver(f"ds/{name}", payload)
    assert await talking.values() == {key: value}
    assert await talking.session.outcome() == []  # and nobody tells the device of it


@pytest.mark.parametrize(
    ("name", "payload", "note"),
    [
        ("Switch", b"on", WRONG_VALUE),
        ("Switch", b"2", WRONG_VALUE),
        ("Switch", b"", WRONG_VALUE),
        ("Switch", b"1\x001", WRONG_VALUE),
        ("Mode", b"3", WRONG_VALUE),
        ("Place", b"30.5", WRONG_VALUE),
        ("Place", b"30.5\x00350", WRONG_VALUE),
        ("Note", b"x" * 1025, WRONG_VALUE),
        ("Note", b"\xff\xfe", b"The payload is not UTF-8 text."),
        ("nothing", b"1", NO_STREAM),
        ("v0", b"1", NO_STREAM),
    ],
)
async def test_a_wrong_value(talking: Talking, name: str, payload: bytes, note: bytes) -> None:
    assert await talking.refused(f"ds/{name}", payload) == note
    assert await talking.values() == {}


async def test_a_batch(talking: Talking) -> None:
    """All of it or nothing."""
    batch = {"Note": "n", "temperature": 10.3, "Place": [30.5, 50.45], "Switch": 1}
    await talking.session.deliver("batch_ds", json.dumps(batch).encode())
    want = {"note": "n", "temperature": 10.3, "Place": Json("[30.5,50.45]"), "Switch": 1}
    assert await talking.values() == want
    wrong = [
        ({"Switch": 0, "Note": 1}, WRONG_VALUE),
        ({"Switch": 0, "Mode": 1.5}, WRONG_VALUE),
        ({"Switch": True}, WRONG_VALUE),
        ({"Switch": 0, "Place": [1]}, WRONG_VALUE),
        ({"Switch": 0, "nothing": 1}, NO_STREAM),
    ]
    for one, note in wrong:
        assert await talking.refused("batch_ds", json.dumps(one).encode()) == note
    shape = b"batch_ds must be a JSON object of datastreams and their values."
    deep = b'{"Switch":' + b"[" * 20_000
    digits = b'{"Switch":' + b"9" * 5_000 + b"}"
    for body in (b"", b"[]", b"{", b'{"Switch":null}', b'{"Switch":{}}', b"\xff", deep):
        assert await talking.refused("batch_ds", body) == shape
    assert await talking.refused("batch_ds", digits) in (shape, WRONG_VALUE)
    assert await talking.values() == want


async def test_values_with_times(talking: Talking) -> None:
    """They are kept with their times; those out of a month are refused, with all beside them."""
    now, day = int(time.time() * 1000), 86_400_000
    points = [[now - 30 * day, 1.5], [now - day, 2.5], [now + 30 * day, 3.5]]
    await talking.session.deliver("ds/temperature/timestamped_batch", json.dumps(points).encode())
    registry = talking.blynk.gateway.registry
    known = await registry.device(talking.device.name)
    assert known is not None
    for away in (-32 * day, 32 * day):
        body = json.dumps([[now, 9.5], [now + away, 9.5]]).encode()
        note = await talking.refused("ds/temperature/timestamped_batch", body)
        assert note == b"Values of a batch may be one month old or ahead at most."
    for wrong in (b"", b"{}", b"[1,2]", b'[["now",1]]', b"[[1]]"):
        note = await talking.refused("ds/temperature/timestamped_batch", wrong)
        assert note == b"Wrong batch format."
    body = json.dumps([[now, "warm"]]).encode()
    assert await talking.refused("ds/temperature/timestamped_batch", body) == WRONG_VALUE
    assert await talking.refused("ds/nothing/timestamped_batch", b"[]") == NO_STREAM
    assert await talking.values() == {"temperature": 3.5}


async def test_erasing(talking: Talking) -> None:
    """The datastream has its default again, or no value."""
    session = talking.session
    await session.deliver("ds/Switch", b"1")
    await session.deliver("ds/temperature", b"20")
    await session.deliver("ds/Switch/erase", b"")
    await session.deliver("ds/temperature/erase", b"")
    assert await talking.values() == {}
    assert await talking.asked("get/ds", b"Switch,temperature", 1) == {"downlink/ds/Switch": b"0"}
    assert await talking.refused("ds/nothing/erase", b"") == NO_STREAM


async def test_asking_for_values(talking: Talking) -> None:
    """Each on its topic; those without a value or default are not told."""
    session = talking.session
    await session.deliver("ds/temperature", b"20")
    await session.deliver("ds/Place", b"30.5\x0050.45")
    some = await talking.asked("get/ds", b" temperature , Place", 2)
    want = {"downlink/ds/temperature": b"20.0", "downlink/ds/Place": b"30.5\x0050.45"}
    assert some == want
    assert await talking.asked("get/ds/all", b"", 3) == want | {"downlink/ds/Switch": b"0"}
    assert await talking.refused("get/ds", b"temperature,nothing") == NO_STREAM
    assert await session.outcome() == []


async def test_answers_need_a_subscription(blynk: BlynkGate) -> None:
    token, _ = await blynk.born()
    async with connected(blynk, token, 5, "downlink/ds/Switch") as session:
        await session.deliver("ds/temperature", b"20")
        session.publish("get/ds/all", b"")
        assert await session.published() == Published("downlink/ds/Switch", b"0", 1)
        session.publish("get/meta", b"Limit")
        assert await session.outcome() == []


async def test_properties(talking: Talking) -> None:
    session = talking.session
    await session.deliver("ds/Switch/prop/color", b"#23C48E")
    await session.deliver("ds/Switch/prop/labels", b"off\x00on")
    assert await talking.client_attributes() | {"hardwareInfo": 0} == {
        "property.Switch.color": "#23C48E",
        "property.Switch.labels": "off,on",
        "hardwareInfo": 0,
    }
    await session.deliver("ds/Switch/prop/color/erase", b"")
    assert "property.Switch.color" not in await talking.client_attributes()
    assert await talking.refused("ds/Switch/prop/no property", b"1") == b"Wrong property format."
    assert await talking.refused("ds/nothing/prop/color", b"1") == NO_STREAM


# ── events and metadata ───────────────────────────────────────────────────────────────────────


async def test_events(talking: Talking) -> None:
    """A reading of their own series; without a text it is the event's name."""
    await talking.session.deliver("event/overheated", b"94 degrees")
    assert await talking.values() == {"event.overheated": "94 degrees"}
    await asyncio.sleep(0.002)
    await talking.session.deliver("event/overheated", b"")
    assert await talking.values() == {"event.overheated": "Too hot"}
    note = await talking.refused("event/frozen", b"")
    assert note == b"Can't find Event with this code in Product template"


async def test_metadata(talking: Talking) -> None:
    """What the device sets is a shared attribute, and told to its connections."""
    session = talking.session
    number = session.publish("meta/Serial", b"A-17", 1)
    got = {await _next(session), await _next(session)}
    assert got == {("puback", number), ("downlink/meta/Serial", b"A-17")}
    assert (await talking.shared_attributes())["Serial"] == "A-17"
    assert await talking.refused("meta/nothing", b"1") == b"MetaField doesn't exist."
    assert await talking.refused("meta/Limit", b"much") == b"Wrong value"
    assert await talking.asked("get/meta", b"Serial,Limit,Device Name", 3) == {
        "downlink/meta/Serial": b"A-17",
        "downlink/meta/Limit": b"10",
        "downlink/meta/Device Name": talking.device.name.encode(),
    }
    assert await talking.refused("get/meta", b"Serial,nothing") == b"MetaField doesn't exist."


async def _next(session: Mqtt) -> tuple[Any, ...]:
    got = await session.next()
    assert got is not None
    if got.kind == PUBACK:
        return "puback", int.from_bytes(got.body[:2])
    return session.opened(got)[:2]


async def test_metadata_that_people_change(talking: Talking) -> None:
    """Fields of the template alone; one that is deleted has its default again."""
    operator = Operator(talking.blynk.gate, talking.device.name)
    await operator.share(Serial="B-2", other=1)
    assert await talking.session.published() == Published("downlink/meta/Serial", b"B-2", 1)
    await operator.share("Serial", "Limit")
    got = {(await talking.session.published())[:2] for _ in range(2)}
    assert got == {("downlink/meta/Serial", b""), ("downlink/meta/Limit", b"10")}


# ── time and place ────────────────────────────────────────────────────────────────────────────


async def test_time(talking: Talking) -> None:
    before = int(time.time() * 1000)
    answer = await talking.asked("get/utc/all/json", b"", 1)
    told = json.loads(answer["downlink/utc/all/json"])
    assert before <= told.pop("time") <= before + 5000
    assert told.pop("iso8601")[10:11] == "T"
    assert told == {"tz_name": "UTC", "tz_rule": "UTC0", "tz_offset": 0, "dst_offset": 0}


async def test_location(talking: Talking) -> None:
    """Latitude first; of a datastream of that type, where no field of metadata has it."""
    note = await talking.refused("get/loc/all", b"")
    assert note == b"The location of the device is not known."
    await talking.session.deliver("ds/Place", b"30.5\x0050.45")
    answer = await talking.asked("get/loc/all", b"", 1)
    assert answer == {"downlink/loc/all": b"50.45,30.5"}


# ── what is told unasked ──────────────────────────────────────────────────────────────────────


async def test_values_that_others_write(talking: Talking) -> None:
    """By HTTP, with the token of the device: its connection hears of it."""
    reply = await talking.blynk.ask("GET", "/external/api/update", token=talking.token, v1="33.5")
    assert reply.status == 200
    assert await talking.session.published() == Published("downlink/ds/temperature", b"33.5", 1)


async def test_calls_write_values(talking: Talking) -> None:
    """ThingsBoard's RPC with a datastream's name, or its pin; other methods have no words."""
    operator = Operator(talking.blynk.gate, talking.device.name)
    registry = talking.blynk.gateway.registry
    known = await operator.known()
    for method, params in (("Switch", "1"), ("v0", "0")):
        call = await registry.calls.save(known, method, params, two_way=False, lasts_s=5)
        assert call is not None
        want = Published("downlink/ds/Switch", params.encode(), 1)
        assert await talking.session.published() == want
        assert (await operator.ended(call))[0] == "SUCCESSFUL"
    for method, params in (("reboot", "{}"), ("v77", "1"), ("Switch", '"on"'), ("Switch", "{}")):
        call = await registry.calls.save(known, method, params, two_way=False, lasts_s=5)
        assert call is not None
        assert (await operator.ended(call))[0] == "FAILED"


async def test_a_call_waits_for_a_subscription(blynk: BlynkGate) -> None:
    """To its datastream, and not just to another one."""
    token, record = await blynk.born()
    operator = Operator(blynk.gate, record.device.name)
    call = await blynk.gateway.registry.calls.save(
        await operator.known(), "Switch", "1", two_way=False, lasts_s=600, persistent=True
    )
    assert call is not None
    async with connected(blynk, token) as session:
        assert await session.outcome() == []
        assert await session.subscribe("downlink/ds/temperature") == [1]
        assert await session.outcome() == []
        assert await session.subscribe("downlink/ds/#") == [1]
        assert await session.published() == Published("downlink/ds/Switch", b"1", 1)


@pytest.fixture
async def firmware(talking: Talking, tmp_path: Path) -> Talking:
    """A device without subscriptions, and firmware that lies elsewhere, for it."""
    assert await talking.session.unsubscribe("downlink/#") in (b"", b"\0")
    package = await add_package(
        talking.blynk.gate, tmp_path, b"", version="0.5.0", url="https://other.example/app.bin"
    )
    await assign(talking.blynk.gate, package, talking.device.name)
    return talking


async def test_firmware(firmware: Talking) -> None:
    """Told without a subscription, at QoS 0; and again to a device that says it has another."""
    want = {"url": "https://other.example/app.bin", "type": "app", "ver": "0.5.0"}
    session = firmware.session
    got = await session.published()
    assert (got.topic, json.loads(got.payload), got.qos) == ("downlink/ota/json", want, 0)
    session.publish("info/mcu", info(ver="0.4.0"))
    got = await session.published()
    assert (got.topic, json.loads(got.payload)) == ("downlink/ota/json", want)
    await session.deliver("info/mcu", info(ver="0.5.0"))
    assert await session.outcome() == []


async def test_firmware_of_all_devices_of_a_template(blynk: BlynkGate, tmp_path: Path) -> None:
    """A device hears of it with its claim."""
    package = await add_package(blynk.gate, tmp_path, b"", version="2", url="https://o.example/a")
    profile = await blynk.gate.registry.profile("Water Meter")
    assert profile is not None
    await blynk.gate.registry.packages.assign(package.kind, package, profile)
    async with connected(blynk, await blynk.issue()) as session:
        session.publish("info/mcu", info(ver="1"))
        assert (await session.published()).topic == "downlink/ota/json"


async def test_firmware_that_lies_here(gate_on_disk: Gate, tmp_path: Path) -> None:
    """Its address is a path at the host the device knows."""
    async with blynk_on(gate_on_disk) as blynk:
        await firmware_here(blynk, tmp_path)


async def firmware_here(blynk: BlynkGate, folder: Path) -> None:
    token, record = await blynk.born()
    package = await add_package(blynk.gate, folder, b"image", version="2 b")
    async with connected(blynk, token) as session:
        await assign(blynk.gate, package, record.device.name)
        told = json.loads((await session.published()).payload)
        assert (told["size"], told["ver"]) == (5, "2 b")
        async with http(blynk.ports.http) as web:
            reply = await web.ask("GET", told["url"])
        assert (reply.status, reply.body) == (200, b"image")


# ── elsewhere, too much, another template ─────────────────────────────────────────────────────


async def test_other_topics(talking: Talking) -> None:
    """MQTT 5 clients hear 0x90; all are told on downlink/diag, and the connection stays."""
    for topic in ("v1/devices/me/telemetry", "downlink/ds/Switch", "ds", "ds/a/b", "dev/T/ds/a"):
        note = await talking.refused(topic, b"{}", 0x90)
        assert note == b"Nothing is served on this topic."
    await talking.session.deliver("ds/Switch", b"1")


async def test_notes_are_bounded(talking: Talking) -> None:
    """A device that makes one mistake after the other is told of some; all are acknowledged."""
    session = talking.session
    for _ in range(100):
        session.publish("ds/nothing", b"1", 1)
    kinds = [(await session.next()) for _ in range(100 + 20)]
    notes = [one for one in kinds if one is not None and one.kind != PUBACK]
    assert 20 <= len(notes) <= 24


async def test_too_much(blynk: BlynkGate) -> None:
    """A message beyond the template's rates is acknowledged, told of and not kept."""
    section = {**SECTION, "template_id": "TMPLslow00001"}
    profile = DeviceProfile(
        id=0, name="Slow", sections={"blynk": section}, limits={"telemetry_messages": "2:60"}
    )
    await blynk.gate.registry.save_profile(ProfileDraft(profile=profile))
    token = await blynk.issue()
    assert (await blynk.claim(token, "TMPLslow00001")).status == 200
    async with connected(blynk, token, 5) as session:
        await session.deliver("ds/Switch", b"1")
        await session.deliver("ds/Switch", b"1")
        number = session.publish("ds/Switch", b"0", 1)
        assert b"Too many requests" in await noted(session, number, 0x97)
        device = await blynk.device(token)
        assert device is not None
        values = await blynk.gateway.store.latest(device)
        assert [one.value for one in values] == [1]


async def test_a_template_that_changes(talking: Talking) -> None:
    """The open connection knows its new datastreams within moments."""
    assert await talking.refused("ds/New", b"1") == NO_STREAM
    registry = talking.blynk.gate.registry
    profile = await registry.profile("Water Meter")
    assert profile is not None
    streams = [*SECTION["datastreams"], {"name": "New", "type": "integer"}]
    changed = DeviceProfile(
        id=0,
        name="Water Meter",
        revision=profile.revision,
        sections={"blynk": {**SECTION, "template_id": TEMPLATE, "datastreams": streams}},
    )
    await registry.save_profile(ProfileDraft(profile=changed))
    async with asyncio.timeout(3):
        while True:
            talking.session.publish("get/ds", b"New,nothing")
            await talking.session.published()
            talking.session.publish("ds/New", b"1", 1)
            got = await _next(talking.session)
            if got[0] == "puback":
                break
            await _next(talking.session)
            await asyncio.sleep(0.05)
    assert (await talking.values())["New"] == 1


@VERSIONS
async def test_a_token_that_dies(blynk: BlynkGate, version: int) -> None:
    """By an operator's hand: the session ends at once."""
    token, record = await blynk.born()
    known = await blynk.gateway.store.find_credentials(Secret(token))
    assert known is not None
    async with connected(blynk, token, version) as session:
        await blynk.services.inventory.remove(blynk.admin, record)
        await ended(session, 0x98)


async def test_what_blynk_writes_thingsboard_reads(talking: Talking) -> None:
    """And the other way round, with the one token."""
    await talking.session.deliver("ds/temperature", b"21.5")
    async with mqtt(talking.blynk.ports.mqtt) as other:
        assert await other.connect("", talking.token) == 0
        await other.deliver("v1/devices/me/telemetry", b'{"temperature":22.5}')
    found = await talking.blynk.gate.readings(talking.device.name)
    assert found["temperature"] == 22.5
    operator = Operator(talking.blynk.gate, talking.device.name)
    shared = await operator.attributes(AttributeScope.SHARED)
    assert shared["Location"] == "cellar"
