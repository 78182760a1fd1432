"""The device API over HTTP: whose token it is, datastreams and batches (section 10)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from blynk_ground import BlynkGate, blynk_on
from blynk_thing import API, Connection, Thing, posted, thing_of
from inside import NewGate
from wires import http, http_request

from gateway.core.model import Peer, SeriesQuery, Wire
from gateway.core.sessions import Slot

INVALID = "Invalid token."
WRONG_TYPE = "Value doesn't match the Datastream data type."
NO_PIN = "No datastream setup for that pin."
NO_STREAM = "Requested dataStream doesn't exist in the product Water Meter"
NO_TOKEN = "A" * 32

READING = ("isHardwareConnected", "get", "getAll", "device/meta")
WRITING = ("update", "batch/update", "update/property", "logEvent", "device/meta/update")


@pytest.fixture
async def thing(blynk: BlynkGate) -> Thing:
    token, _ = await blynk.born()
    return await thing_of(blynk, token)


# ── whose token it is ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("call", [*READING, *WRITING])
async def test_an_unknown_token(blynk: BlynkGate, call: str) -> None:
    """400 and the text, whichever call, and the same for none, for an empty one and for HEAD."""
    for query in ({"token": NO_TOKEN}, {"token": ""}, {}):
        reply = await blynk.ask("GET", f"{API}/{call}", **query)
        assert (reply.status, json.loads(reply.body)) == (400, {"error": {"message": INVALID}})
    async with http(blynk.ports.http) as connection:
        connection.writer.write(http_request("HEAD", f"{API}/{call}?token={NO_TOKEN}"))
        assert b" 400 " in await connection.reader.readuntil(b"\r\n")


async def test_a_pending_token(blynk: BlynkGate) -> None:
    """`isHardwareConnected` says `false`, and every other call that the token is invalid."""
    token = await blynk.issue()
    reply = await blynk.ask("GET", f"{API}/isHardwareConnected", token=token)
    assert (reply.status, reply.body) == (200, b"false")
    for call in (*READING[1:], *WRITING):
        reply = await blynk.ask("GET", f"{API}/{call}", token=token, v1="1")
        assert (reply.status, json.loads(reply.body)) == (400, {"error": {"message": INVALID}})
    reply = await blynk.ask("POST", f"{API}/batch/update", b"[[1,1]]", token=token, pin="v1")
    assert (reply.status, json.loads(reply.body)) == (400, {"error": {"message": INVALID}})
    assert (await blynk.claim(token)).status == 200


async def test_a_device_that_is_gone(thing: Thing) -> None:
    """Its token is invalid from then on (section 3.6)."""
    await thing.done("update", v1="1")
    assert await thing.blynk.gate.registry.remove_device(thing.known)
    async with asyncio.timeout(5):
        while (await thing.ask("getAll")).status == 200:
            await asyncio.sleep(0.01)
    assert await thing.refusal("getAll") == INVALID


async def test_nobody_polls_a_pending_token_into_a_limit(new_gate: NewGate) -> None:
    """Asking whether the device came is no wrong token, however often."""
    async with blynk_on(await new_gate()) as blynk:
        token = await blynk.issue()
        async with http(blynk.ports.http) as phone:
            for _ in range(150):
                reply = await phone.ask("GET", f"{API}/isHardwareConnected?token={token}")
                assert (reply.status, reply.body) == (200, b"false")


# ── isHardwareConnected ───────────────────────────────────────────────────────────────────────


async def test_a_device_is_connected_while_it_has_a_session(thing: Thing) -> None:
    """`false` for one that only asks over HTTP, `true` with a live connection, then `false`."""
    sessions = thing.blynk.gateway.sessions
    assert await thing.done("isHardwareConnected") == b"false"
    session = sessions.open(
        thing.device, Peer(Wire.MQTT, "192.0.2.1:1"), Connection(), slot=Slot.LIVE
    )
    assert await thing.done("isHardwareConnected") == b"true"
    sessions.close(session)
    assert await thing.done("isHardwareConnected") == b"false"


# ── reading and writing ───────────────────────────────────────────────────────────────────────


async def test_what_is_written_is_read(thing: Thing) -> None:
    """Update answers 200 and nothing; `get` a bare value, or an object for several pins."""
    reply = await thing.ask("update", v1="100")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert await thing.done("get", v1="") == b"100.00000"
    await thing.done("update", v2="a b", v0="1")
    assert json.loads(await thing.done("get", v1="", v2="")) == {"v1": 100.0, "v2": "a b"}
    assert await thing.done("get", v1="", v0="") == b'{"v1":100.0,"v0":1}'
    assert await thing.done("get", v0="") == b"1"
    assert await thing.done("get", v2="") == b"a b"


async def test_datastreams_by_their_ids(thing: Thing) -> None:
    """Ids count from 1 in the order of the template; a location has two values."""
    await thing.done("update", dataStreamId=2, value="21.5")
    await thing.done("update", dataStreamId=5, value=["12", "11"])
    assert await thing.done("get", dataStreamId=2) == b"21.50000"
    assert await thing.done("get", dataStreamId=5) == b"[12.0,11.0]"
    await thing.done("update", v4=["13", "10.5"])
    assert await thing.done("get", v4="") == b"[13.0,10.5]"


async def test_all_of_them(thing: Thing) -> None:
    """By pin: what was written, and defaults; nothing of those that have neither."""
    assert await thing.done("getAll") == b'{"v0":0}'
    await thing.done("batch/update", v1="1", v3="eco", v4="12,11")
    assert await thing.done("getAll") == b'{"v0":0,"v1":1.0,"v3":1,"v4":[12.0,11.0]}'
    assert await thing.done("get", v2="") == b""
    assert await thing.done("get", v2="", v1="") == b'{"v1":1.0}'


@pytest.mark.parametrize(
    ("query", "text"),
    [
        *(({"v": ""}, "Wrong pin format."), ({"V1": ""}, "Wrong pin format.")),
        *(({"x1": ""}, "Wrong pin format."), ({"v01": ""}, "Wrong pin format.")),
        *(({"v1": "", "d1": ""}, "Wrong pin format."), ({}, "Wrong pin format.")),
        *(({"v9": ""}, NO_STREAM), ({"v1": "", "v9": ""}, NO_STREAM)),
        ({"dataStreamId": 9}, NO_STREAM),
        ({"dataStreamId": "x"}, "Wrong dataStreamId format."),
        ({"dataStreamId": ""}, "Wrong dataStreamId format."),
        ({"dataStreamId": "-1"}, "Wrong dataStreamId format."),
    ],
)
async def test_reading_that_cannot_be(thing: Thing, query: dict[str, Any], text: str) -> None:
    assert await thing.refusal("get", **query) == text


@pytest.mark.parametrize(
    ("query", "text"),
    [
        *(({"v": "1"}, "Wrong pin format."), ({"x1": "1"}, "Wrong pin format.")),
        *(({}, "Wrong pin format."), ({"v9": "1"}, NO_PIN), ({"v1": "1", "v9": "1"}, NO_PIN)),
        *(({"v1": ""}, WRONG_TYPE), ({"v1": "warm"}, WRONG_TYPE), ({"v1": "nan"}, WRONG_TYPE)),
        *(({"v1": "126"}, WRONG_TYPE), ({"v1": "-40.1"}, WRONG_TYPE), ({"v1": "1e9"}, WRONG_TYPE)),
        *(({"v0": "0.5"}, WRONG_TYPE), ({"v0": "2"}, WRONG_TYPE), ({"v0": ["1", "1"]}, WRONG_TYPE)),
        *(({"v3": "3"}, WRONG_TYPE), ({"v3": "nap"}, WRONG_TYPE), ({"v2": "x" * 1025}, WRONG_TYPE)),
        *(({"v4": "12"}, WRONG_TYPE), ({"v4": ["181", "0"]}, WRONG_TYPE)),
        ({"v4": ["1", "2", "3"]}, WRONG_TYPE),
        ({"dataStreamId": 2}, WRONG_TYPE),
        ({"dataStreamId": 9, "value": "1"}, NO_PIN),
        ({"dataStreamId": "v1", "value": "1"}, "Wrong dataStreamId format."),
    ],
)
async def test_writing_that_cannot_be(thing: Thing, query: dict[str, Any], text: str) -> None:
    """The text of the first mistake, without a full stop where a batch has none; nothing is
    stored of a call that has one."""
    assert await thing.refusal("update", **query) == text
    own = text.removesuffix(".") if text == WRONG_TYPE else text
    assert await thing.refusal("batch/update", **query) == own
    assert await thing.latest() == {}


async def test_a_batch_in_the_address(thing: Thing) -> None:
    assert await thing.done("batch/update", v0="1", v1="2.5", v2="x") == b"OK"
    assert await thing.latest() == {"Switch": 1, "temperature": 2.5, "note": "x"}


# ── batches ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "Application/JSON; charset=utf-8"]
)
async def test_a_batch_with_times(thing: Thing, content_type: str | None) -> None:
    """Each value is stored at its time, and the newest is what is read."""
    body = b"[[1790000002000, 3], [1790000001000.5, 2.5], [1790000000000, 1]]"
    reply = await posted(thing, body, content_type, pin="v1")
    assert (reply.status, reply.body) == (200, b"OK")
    query = SeriesQuery(key="temperature", since=0, until=1800000000000)
    kept = await thing.blynk.gate.registry.series(thing.known, query)
    assert [(one.ts, one.value) for one in kept] == [
        (1790000000000, 1.0),
        (1790000001000, 2.5),
        (1790000002000, 3.0),
    ]
    assert await thing.done("get", v1="") == b"3.00000"


@pytest.mark.parametrize(
    ("body", "content_type", "query", "text"),
    [
        (b"[[1,1]]", "text/plain", {"pin": "v1"}, "Unknown content type."),
        (b"[[1,1]]", None, {"pin": "1"}, "Wrong pin format."),
        (b"[[1,1]]", None, {}, "Wrong pin format."),
        (b"[[1,1]]", None, {"pin": "v9"}, NO_PIN),
        (b"[[1,1000]]", None, {"pin": "v1"}, WRONG_TYPE.removesuffix(".")),
        (b'[[1,1],[2,"1"]]', None, {"pin": "v1"}, WRONG_TYPE.removesuffix(".")),
        (b"", None, {"pin": "v1"}, "Wrong batch format."),
        (b"{}", None, {"pin": "v1"}, "Wrong batch format."),
        (b"[[1,true]]", None, {"pin": "v1"}, "Wrong batch format."),
        (b"[[-1,1]]", None, {"pin": "v1"}, "Wrong batch format."),
        (b"[" * 200_000, None, {"pin": "v1"}, "Wrong batch format."),
        (b'[[1,"\xff"]]', None, {"pin": "v2"}, "Wrong batch format."),
        (
            json.dumps([[1, 1]] * 10_001).encode(),
            None,
            {"pin": "v1"},
            "Too much data in batch. Maximum batch size is 10000 points.",
        ),
    ],
)
async def test_a_batch_that_cannot_be(
    thing: Thing, body: bytes, content_type: str | None, query: dict[str, str], text: str
) -> None:
    reply = await posted(thing, body, content_type, **query)
    assert (reply.status, json.loads(reply.body)) == (400, {"error": {"message": text}})
    assert await thing.latest() == {}


async def test_the_largest_batch(thing: Thing) -> None:
    """Ten thousand points fit, though they are more than other bodies may have; 2 MB is the end."""
    points = [[1790000000000 + number, number / 1000] for number in range(10_000)]
    body = json.dumps(points).encode()
    assert len(body) > 65536
    reply = await posted(thing, body, "application/json", pin="v1")
    assert (reply.status, reply.body) == (200, b"OK")
    assert await thing.latest() == {"temperature": 9.999}
    reply = await posted(thing, b" " * (2 * 1024 * 1024 + 1), "application/json", pin="v1")
    assert reply.status == 413
    assert "error" in json.loads(reply.body)
