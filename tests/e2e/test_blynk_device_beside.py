"""The device API over HTTP: properties, events, metadata, and the rest of the product."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from blynk_ground import BlynkGate, blynk_on
from blynk_thing import API, Connection, Thing, posted, thing_of
from inside import NewGate
from wires import http, http_request

from gateway.core.model import AttributeScope, DeviceProfile, Json, Peer, Wire
from gateway.core.registry import ProfileDraft
from gateway.core.sessions import Slot

NO_PIN = "No datastream setup for that pin."
NO_FIELD = "MetaField doesn't exist."


@pytest.fixture
async def thing(blynk: BlynkGate) -> Thing:
    token, _ = await blynk.born()
    return await thing_of(blynk, token)


# ── properties and events ─────────────────────────────────────────────────────────────────────


async def test_properties(thing: Thing) -> None:
    """They are kept as client attributes, of the datastream by pin or id."""
    assert await thing.done("update/property", pin="v1", label="Hall", max="50") == b""
    assert await thing.done("update/property", dataStreamId=4, labels=["a", "b"]) == b""
    found = await thing.attributes(AttributeScope.CLIENT)
    assert {key: value for key, value in found.items() if key != "hardwareInfo"} == {
        "property.temperature.label": "Hall",
        "property.temperature.max": "50",
        "property.Mode.labels": "a,b",
    }


@pytest.mark.parametrize(
    ("query", "text"),
    [
        *(({}, "Wrong pin format."), ({"pin": "x", "label": "a"}, "Wrong pin format.")),
        *(({"pin": "v9", "label": "a"}, NO_PIN), ({"pin": "v1"}, "Wrong property format.")),
        ({"pin": "v1", "a.b": "1"}, "Wrong property format."),
        ({"pin": "v1", "label": "x" * 1025}, "Wrong property format."),
    ],
)
async def test_properties_that_cannot_be(thing: Thing, query: dict[str, Any], text: str) -> None:
    assert await thing.refusal("update/property", **query) == text


async def test_events(thing: Thing) -> None:
    """An event is a reading of its own series, with the description, or its name, as the value."""
    assert await thing.done("logEvent", code="overheated", description="90 degrees") == b""
    assert await thing.latest() == {"event.overheated": "90 degrees"}
    await thing.done("logEvent", code="overheated")
    assert await thing.latest() == {"event.overheated": "Too hot"}
    await thing.done("logEvent", code="overheated", description="ä" * 1000)
    assert await thing.latest() == {"event.overheated": "ä" * 512}
    assert await thing.refusal("logEvent") == "Event code is not provided."
    assert await thing.refusal("logEvent", code="") == "Event code is not provided."
    unknown = "Can't find Event with this code in Product template"
    assert await thing.refusal("logEvent", code="cold") == unknown


# ── metadata ──────────────────────────────────────────────────────────────────────────────────


async def test_metadata_is_read_and_written(thing: Thing) -> None:
    """By id or name; a new device has the template's defaults."""
    shown = await thing.done("device/meta", metaFieldId=1)
    assert shown == b'{"type":"Text","value":"cellar"}'
    assert await thing.done("device/meta/update", metaFieldId=1, value="attic") == b""
    assert json.loads(await thing.done("device/meta", metaFieldId=1))["value"] == "attic"
    await thing.done("device/meta/update", metaFieldName="Hotspot Name", value="home")
    assert json.loads(await thing.done("device/meta", metaFieldId=4))["value"] == "home"
    assert await thing.done("device/meta", metaFieldId=3) == b'{"type":"Number","value":10}'
    await thing.done("device/meta/update", metaFieldId=3, value="2.5")
    assert await thing.done("device/meta", metaFieldId=3) == b'{"type":"Number","value":2.5}'
    assert await thing.done("device/meta", metaFieldId=2) == b'{"type":"Text","value":""}'


async def test_name_and_owner(blynk: BlynkGate) -> None:
    """Every device has them; whoever owns it is told by e-mail address (section 3.4)."""
    owner = await blynk.user("ann@example.com", blynk.admin.organisation)
    token = await blynk.issue(owner=owner)
    await blynk.claim(token)
    thing = await thing_of(blynk, token)
    shown = json.loads(await thing.done("device/meta", metaFieldName="Device Owner"))
    assert shown == {"type": "Email", "value": "ann@example.com"}
    shown = json.loads(await thing.done("device/meta", metaFieldName="Device Name"))
    assert shown == {"type": "Text", "value": f"Meter {thing.device.id}"}
    told = await thing.refusal("device/meta/update", metaFieldName="Device Owner", value="x")
    assert told == "MetaField can't be changed by the device."


@pytest.mark.parametrize(
    ("query", "text"),
    [
        *(({}, "Wrong metaField format."), ({"metaFieldId": "x"}, "Wrong metaField format.")),
        *(
            ({"metaFieldId": 9}, NO_FIELD),
            ({"metaFieldName": "x"}, NO_FIELD),
        ),
    ],
)
async def test_metadata_that_is_not_there(thing: Thing, query: dict[str, Any], text: str) -> None:
    """The same texts, with a full stop for who reads and without for who writes."""
    assert await thing.refusal("device/meta", **query) == text
    told = await thing.refusal("device/meta/update", value="1", **query)
    assert told == text.removesuffix(".")


async def test_metadata_that_does_not_fit(thing: Thing) -> None:
    """A number must be one, and no text is longer than a kilobyte."""
    for value in ("", "many", "nan", "1e400", "9" * 40):
        told = await thing.refusal("device/meta/update", metaFieldId=3, value=value)
        assert told == "Wrong value"
    told = await thing.refusal("device/meta/update", metaFieldId=1, value="x" * 1025)
    assert told == "Wrong value"
    assert await thing.refusal("device/meta/update", metaFieldId=1) == "Wrong value"
    assert json.loads(await thing.done("device/meta", metaFieldId=1))["value"] == "cellar"


async def test_metadata_of_other_kinds(blynk: BlynkGate) -> None:
    """An e-mail address must be one; what devices may not change stays as it was."""
    section = {
        "template_id": "TMPLmeta00001",
        "metadata": [
            {"name": "Contact", "type": "Email"},
            {"name": "Fixed", "default": "as made", "writable": False},
        ],
    }
    profile = DeviceProfile(id=0, name="Kinds", sections={"blynk": section})
    await blynk.gate.registry.save_profile(ProfileDraft(profile=profile))
    await asyncio.sleep(1.1)  # templates are known anew within a second
    token = await blynk.issue()
    assert (await blynk.claim(token, "TMPLmeta00001")).status == 200
    thing = await thing_of(blynk, token)
    await thing.done("device/meta/update", metaFieldId=1, value="ann@example.com")
    shown = b'{"type":"Email","value":"ann@example.com"}'
    assert await thing.done("device/meta", metaFieldId=1) == shown
    for value in ("ann", "a@b@c", "a b@c"):
        told = await thing.refusal("device/meta/update", metaFieldId=1, value=value)
        assert told == "Wrong value"
    told = await thing.refusal("device/meta/update", metaFieldId=2, value="mine")
    assert told == "MetaField can't be changed by the device."
    assert await thing.done("device/meta", metaFieldId=2) == b'{"type":"Text","value":"as made"}'


# ── together with the rest of the product ─────────────────────────────────────────────────────


async def test_thingsboard_sees_what_blynk_wrote(thing: Thing) -> None:
    """Values are telemetry, metadata shared attributes, properties client attributes."""
    await thing.done("update", v1="21.5", v4=["12", "11"])
    await thing.done("device/meta/update", metaFieldId=2, value="SN-1")
    await thing.done("update/property", pin="v1", label="Hall")
    assert await thing.latest() == {"temperature": 21.5, "Place": Json("[12.0,11.0]")}
    reply = await thing.thingsboard(
        "GET", "attributes?sharedKeys=Serial,Location&clientKeys=property.temperature.label"
    )
    assert json.loads(reply.body) == {
        "client": {"property.temperature.label": "Hall"},
        "shared": {"Serial": "SN-1", "Location": "cellar"},
    }


async def test_blynk_sees_what_thingsboard_wrote(thing: Thing) -> None:
    """Telemetry of a datastream's key is its value, whatever its type."""
    body = b'{"temperature":21,"Switch":true,"note":7,"Mode":"odd","Place":{"a":1},"other":1}'
    assert (await thing.thingsboard("POST", "telemetry", body)).status == 200
    assert await thing.done("get", v1="") == b"21.00000"
    assert json.loads(await thing.done("getAll")) == {
        "v0": 1,
        "v1": 21.0,
        "v2": 7,
        "v3": "odd",
        "v4": {"a": 1},
    }


async def test_a_device_of_another_dialect(blynk: BlynkGate) -> None:
    """One whose profile is no template has no datastreams, and can be asked for all the same."""
    token = await blynk.gate.add("plain")
    thing = await thing_of(blynk, token)
    assert await thing.done("isHardwareConnected") == b"false"
    assert await thing.done("getAll") == b"{}"
    unknown = "Requested dataStream doesn't exist in the product check"
    assert await thing.refusal("get", v1="") == unknown
    assert await thing.refusal("update", v1="1") == NO_PIN
    assert await thing.refusal("device/meta", metaFieldId=1) == NO_FIELD
    owner = await thing.done("device/meta", metaFieldName="Device Owner")
    assert owner == b'{"type":"Email","value":""}'


async def test_live_connections_hear_what_is_written(thing: Thing) -> None:
    """The last value of each datastream; history is told to nobody."""
    sessions, outlet = thing.blynk.gateway.sessions, Connection()
    peer = Peer(Wire.MQTT, "192.0.2.1:1")
    session = sessions.open(thing.device, peer, outlet, slot=Slot.LIVE)
    await thing.done("update", v1="1")
    await thing.done("batch/update", v0="1", v2="x")
    assert (await posted(thing, b"[[1,5]]", None, pin="v1")).status == 200
    sessions.close(session)
    assert outlet.told == [("temperature", 1.0), ("Switch", 1), ("Note", "x")]


# ── HEAD, methods and limits ──────────────────────────────────────────────────────────────────


async def head(thing: Thing, target: str) -> int:
    async with http(thing.blynk.ports.http) as connection:
        connection.writer.write(http_request("HEAD", target))
        async with asyncio.timeout(5):
            first = await connection.reader.readuntil(b"\r\n\r\n")
    return int(first.split()[1])


async def test_head_writes_nothing(thing: Thing) -> None:
    """It is answered as if it had, and nothing has changed."""
    before = await thing.blynk.gate.registry.attributes(thing.known)
    for call, query in (
        ("update", "v1=1"),
        ("batch/update", "v1=1"),
        ("update/property", "pin=v1&label=x"),
        ("logEvent", "code=overheated"),
        ("device/meta/update", "metaFieldId=1&value=x"),
    ):
        assert await head(thing, f"{API}/{call}?token={thing.token}&{query}") == 200
    assert await thing.latest() == {}
    assert await thing.blynk.gate.registry.attributes(thing.known) == before
    assert await head(thing, f"{API}/getAll?token={thing.token}") == 200


async def test_a_get_with_a_body(thing: Thing) -> None:
    """A body that a GET has means nothing (RFC 9110, section 9.3.1)."""
    assert (await thing.ask("batch/update", "GET", b"[[1,1]]", v1="3")).body == b"OK"
    assert await thing.latest() == {"temperature": 3.0}


async def test_other_methods(thing: Thing) -> None:
    """405 in the envelope, saying which there are; uploads are not served at all."""
    for call, allowed in (("update", "GET, HEAD"), ("batch/update", "GET, HEAD, POST")):
        reply = await thing.ask(call, "PUT", v1="1")
        assert (reply.status, reply.headers["allow"]) == (405, allowed)
        assert list(json.loads(reply.body)) == ["error"]
    for path in ("upload", "nothing"):
        reply = await thing.ask(path, "POST")
        assert (reply.status, list(json.loads(reply.body))) == (404, ["error"])


async def test_how_much_a_device_may_send(new_gate: NewGate) -> None:
    """429 with the envelope and when to come again; each value counts, as ThingsBoard's do."""
    gate = await new_gate(limits={"device_telemetry_points": "3:60"})
    async with blynk_on(gate) as blynk:
        token, _ = await blynk.born()
        thing = await thing_of(blynk, token)
        await thing.done("batch/update", v0="1", v1="1")
        reply = await thing.ask("batch/update", v0="0", v1="2")
        assert (reply.status, list(json.loads(reply.body))) == (429, ["error"])
        assert int(reply.headers["retry-after"]) > 0
        assert await thing.latest() == {"Switch": 1, "temperature": 1.0}
        await thing.done("update", v1="2")
