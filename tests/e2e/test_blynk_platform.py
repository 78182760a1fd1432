"""The Platform API of Blynk: contract, sections 4 and 10. Each answer is held against its documents
(`platform_ground.proven`)."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from inside import Gate, NewGate
from platform_ground import (
    DEVICE,
    ISSUE,
    NO_DEVICE,
    NO_ORGANISATION,
    NO_USER,
    ONLINE,
    RECONFIGURE,
    REPROVISION,
    UNKNOWN,
    Caller,
    Platform,
    platform_on,
    seeds,
)
from wires import http, mqtt

from gateway.core.model import DeviceQuery, Permission

TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
CALLS = (ISSUE, RECONFIGURE, REPROVISION)


@pytest.fixture
async def boss(platform: Platform) -> Caller:
    """Somebody who may do everything in Acme."""
    return await platform.caller(platform.acme)


def whole(caller: Caller) -> dict[str, Any]:
    """A body with all members of all calls, about nothing that is there."""
    assert caller.user is not None
    return {"orgId": caller.organisation.id, "ownerId": caller.user.id, "deviceId": UNKNOWN}


# ── a provision token ─────────────────────────────────────────────────────────────────────────


async def test_a_token_and_a_number_are_reserved(platform: Platform, boss: Caller) -> None:
    """Each call reserves others; no device is there before the token is claimed, then it is."""
    assert boss.user is not None
    asked = {"orgId": platform.acme.id, "ownerId": boss.user.id}
    answers = [await platform.post(boss, ISSUE, **asked) for _ in range(3)]
    tokens = {one.body["token"] for one in answers}
    numbers = {one.body["deviceId"] for one in answers}
    assert len(tokens) == len(numbers) == 3
    assert all(TOKEN.fullmatch(one) for one in tokens)
    page = await platform.services.inventory.page(platform.admin, DeviceQuery())
    assert page.total == 0
    assert (await platform.claim(answers[1].body["token"])).status == 200
    page = await platform.services.inventory.page(platform.admin, DeviceQuery())
    (born,) = page.data
    assert born.device.id == answers[1].body["deviceId"]
    assert (born.device.customer_id, born.owner_id) == (platform.acme.id, boss.user.id)


async def test_who_may_own(platform: Platform, boss: Caller) -> None:
    """A member of the organisation, or of one above it that the caller reaches."""
    north = await platform.member(platform.north)
    asked = {"orgId": platform.north.id}
    assert boss.user is not None
    for owner in (north.id, boss.user.id):
        assert (await platform.post(boss, ISSUE, **asked, ownerId=owner)).status == 200
    above = await platform.member(platform.root)
    aside = await platform.member(platform.globex)
    for owner in (above.id, aside.id, UNKNOWN, 2**63 - 1):
        refused = await platform.post(boss, ISSUE, **asked, ownerId=owner)
        assert (refused.status, refused.message) == (404, NO_USER)


async def test_organisations_out_of_reach_are_not_there(platform: Platform, boss: Caller) -> None:
    """One that is there is answered, to the byte, as one that is not."""
    assert boss.user is not None
    for number in (UNKNOWN, platform.globex.id, platform.root.id, 0, -1, -(2**31)):
        refused = await platform.post(boss, ISSUE, orgId=number, ownerId=boss.user.id)
        assert (refused.status, refused.message) == (404, NO_ORGANISATION)


async def test_what_was_just_removed_is_not_there(platform: Platform) -> None:
    """Also within the moment for which it is known without another look; what was just made is."""
    boss = await platform.caller(platform.root)
    people, admin = platform.services.people, platform.admin
    place = await platform.organisation("Passing")
    owner = await platform.member(platform.root)
    asked = {"orgId": place.id, "ownerId": owner.id}
    issued = await platform.post(boss, ISSUE, **asked)
    assert issued.status == 200
    await people.remove_user(admin, owner)
    refused = await platform.post(boss, ISSUE, **asked)
    assert (refused.status, refused.message) == (404, NO_USER)
    assert boss.user is not None
    asked["ownerId"] = boss.user.id
    assert (await platform.post(boss, ISSUE, **asked)).status == 200
    await people.remove_organisation(admin, place)
    refused = await platform.post(boss, ISSUE, **asked)
    assert (refused.status, refused.message) == (404, NO_ORGANISATION)


async def test_who_was_just_moved_here_may_own(platform: Platform) -> None:
    """What is known of a user from a moment ago refuses nobody who is a member now."""
    boss = await platform.caller(platform.root)
    owner = await platform.member(platform.globex)
    for where in (platform.globex, platform.acme, platform.north):
        await platform.services.people.save_user(
            platform.admin, email=owner.email, organisation=where, role=owner.role, uuid=owner.uuid
        )
        issued = await platform.post(boss, ISSUE, orgId=where.id, ownerId=owner.id)
        assert issued.status == 200


async def test_too_many_tokens_wait(new_gate: NewGate) -> None:
    """Beyond the bound 429 with Retry-After; a claim makes room once the count is taken anew."""
    async with platform_on(await new_gate(blynk={"max_tickets": 2})) as platform:
        boss = await platform.caller(platform.acme)
        body = whole(boss)
        for _ in range(2):
            assert (await platform.call(boss, "POST", ISSUE, body)).status == 200
        refused = await platform.call(boss, "POST", ISSUE, body)
        assert (refused.status, refused.headers["retry-after"]) == (429, "5")
        elsewhere = body | {"orgId": platform.north.id}
        assert (await platform.call(boss, "POST", ISSUE, elsewhere)).status == 200


async def test_too_many_calls(new_gate: NewGate) -> None:
    """An organisation's own number of calls, whoever of it calls; others are not concerned."""
    async with platform_on(await new_gate(blynk={"requests": "3:60"})) as platform:
        boss, client = await platform.caller(platform.acme), await platform.client(platform.acme)
        for caller in (boss, client, boss):
            assert (await platform.get(caller, ONLINE, UNKNOWN)).status == 404
        for path in CALLS:
            refused = await platform.call(boss, "POST", path, b"")
            assert refused.status == 429
            assert 0 < int(refused.headers["retry-after"]) <= 60
        other = await platform.caller(platform.globex)
        assert (await platform.get(other, ONLINE, UNKNOWN)).status == 404


# ── devices that exist ────────────────────────────────────────────────────────────────────────


async def test_a_new_token_for_a_device(platform: Platform, boss: Caller) -> None:
    """The number stays, and the old token works until the new one is first used."""
    record = await platform.device_of(platform.acme, boss.user)
    number = record.device.id
    first = await platform.post(boss, REPROVISION, deviceId=number)
    second = await platform.post(boss, REPROVISION, deviceId=number)
    assert first.body["deviceId"] == second.body["deviceId"] == number
    assert (await platform.claim(first.body["token"])).status == 400, "it was replaced"
    seen = await platform.services.inventory.find_numbered(platform.admin, number)
    assert seen == record
    assert (await platform.claim(second.body["token"])).status == 200
    seen = await platform.services.inventory.find_numbered(platform.admin, number)
    assert seen is not None
    assert (seen.device.name, seen.owner_id) == (record.device.name, record.owner_id)
    assert seen.device.created_at == record.device.created_at
    assert seen.device.credentials_row != record.device.credentials_row


async def test_a_device_that_is_away_is_no_error(platform: Platform, boss: Caller) -> None:
    """One that only ever speaks HTTP is away, however lately it spoke."""
    record = await platform.device_of(platform.acme, boss.user)
    told = await platform.post(boss, RECONFIGURE, deviceId=record.device.id)
    assert (told.status, told.body) == (200, {"deviceIsOffline": True})


async def test_a_device_that_is_here(platform: Platform, boss: Caller) -> None:
    """`deviceIsOffline` and `connected` follow its connection; whose protocol it speaks is one."""
    token = await platform.issue(platform.acme, boss.user)
    await platform.claim(token)
    device = await platform.device(token)
    assert device is not None
    assert (await platform.get(boss, ONLINE, device.id)).body == {"connected": False}
    async with mqtt(platform.ports.mqtt) as session:
        assert await session.connect("c", token) == 0
        assert (await platform.get(boss, ONLINE, device.id)).body == {"connected": True}
        assert (await platform.get(boss, DEVICE, device.id)).body["connected"] is True
        told = await platform.post(boss, RECONFIGURE, deviceId=device.id)
        assert told.body == {"deviceIsOffline": False}
    for _ in range(100):
        told = await platform.get(boss, ONLINE, device.id)
        if not told.body["connected"]:
            break
        await asyncio.sleep(0.02)
    assert told.body == {"connected": False}


async def test_a_reservation_is_no_device(platform: Platform, boss: Caller) -> None:
    """Before its claim the reserved number is unknown to every call about devices."""
    issued = await platform.call(boss, "POST", ISSUE, whole(boss))
    number = issued.body["deviceId"]
    for path in (RECONFIGURE, REPROVISION):
        refused = await platform.post(boss, path, deviceId=number)
        assert (refused.status, refused.message) == (404, NO_DEVICE.format(number))
    for path in (ONLINE, DEVICE):
        assert (await platform.get(boss, path, number)).status == 404


async def test_what_is_told_of_a_device(platform: Platform, boss: Caller) -> None:
    """Where and whose it is, what it said of its hardware, and never its token."""
    assert boss.user is not None
    token = await platform.issue(platform.acme, boss.user)
    await platform.claim(token, ver="1.2", boType="ESP32")
    record = await platform.device(token)
    assert record is not None
    told = await platform.get(boss, DEVICE, record.id)
    assert told.body == {
        "id": record.id,
        "name": f"Meter {record.id}",
        "orgId": platform.acme.id,
        "ownerId": boss.user.id,
        "templateId": record.profile_id,
        "productName": "Water Meter",
        "activatedAt": record.created_at,
        "hardwareInfo": {"version": "1.2", "boardType": "ESP32", "templateId": "TMPLmeter0001"},
        "connected": False,
    }


async def test_a_device_of_another_dialect(gate: Gate, platform: Platform) -> None:
    """A device that was never claimed here is told of too: nobody's own, and no hardware. Without a
    template it could not claim a new token, so it gets none."""
    await gate.add("Valve")
    boss = await platform.caller(platform.root)
    known = await gate.registry.device("Valve")
    assert known is not None
    told = (await platform.get(boss, DEVICE, known.device.id)).body
    assert (told["ownerId"], told["hardwareInfo"]) == (None, {})
    assert (told["orgId"], told["name"]) == (platform.root.id, "Valve")
    refused = await platform.post(boss, REPROVISION, deviceId=known.device.id)
    assert refused.status == 400
    assert refused.message == (
        f"Device with identifier {known.device.id} has no template to claim a token with."
    )


@pytest.mark.parametrize("said", ['{"x":1e999}', '{"x":-1e-999}', "[1]", '"{"', "7"])
async def test_whatever_a_device_says_of_its_hardware(
    platform: Platform, boss: Caller, said: str
) -> None:
    """An object is handed on as it is, be there numbers in it that nobody can read; what is none
    is left out."""
    token = await platform.issue(platform.acme, boss.user)
    await platform.claim(token)
    record = await platform.device(token)
    assert record is not None
    body = f'{{"hardwareInfo":{said}}}'.encode()
    async with http(platform.ports.http) as connection:
        assert (await connection.ask("POST", f"/api/v1/{token}/attributes", body)).status == 200
    told = await platform.get(boss, DEVICE, record.id)
    assert told.status == 200
    expected = json.loads(said)
    assert told.body["hardwareInfo"] == (expected if isinstance(expected, dict) else {})


# ── what is sent ──────────────────────────────────────────────────────────────────────────────

NO_INTEGERS = ("true", "1.0", "1e0", '"101"', "null", "[1]", "{}", "0.5", "99999999999999999999")
NO_OBJECTS = (b"", b"null", b"1", b'"x"', b"[]", b"{", b"{}x", b"\xff\xfe", b"\xef\xbb\xbf{}")


async def test_types_are_strict(platform: Platform, boss: Caller) -> None:
    """A number is a JSON integer within its bits; anything else, and nothing at all, is 400."""
    for path, member, most in (
        (ISSUE, "orgId", 2**31),
        (ISSUE, "ownerId", 2**63),
        (RECONFIGURE, "deviceId", 2**31),
        (REPROVISION, "deviceId", 2**31),
    ):
        others = {name: value for name, value in whole(boss).items() if name != member}
        text = str(others).replace("'", '"')[1:-1]
        for wrong in (*NO_INTEGERS, str(most), str(-most - 1)):
            body = f'{{{text}, "{member}": {wrong}}}'.encode()
            refused = await platform.call(boss, "POST", path, body)
            assert refused.status == 400, (path, member, wrong)
            assert member in refused.message
        assert (await platform.post(boss, path, **others)).status == 400
        for least in (0, -1, -most):
            body = whole(boss) | {member: least}
            assert (await platform.call(boss, "POST", path, body)).status == 404, (path, least)


async def test_bodies_that_are_no_object(platform: Platform, boss: Caller) -> None:
    """Empty, no JSON, JSON of another kind, and JSON that is nested too deep."""
    deep = b'{"orgId":1,"ownerId":1,"deviceId":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    fine = json.dumps(whole(boss)).encode()
    # In a member that is ignored: half a surrogate pair, and what is no UTF-8 at all.
    unreadable = [fine[:-1] + b',"x":"' + text + b'"}' for text in (b"\xed\xa0\x80", b"\xff")]
    for path in CALLS:
        for body in (*NO_OBJECTS, deep, *unreadable):
            assert (await platform.call(boss, "POST", path, body)).status == 400, body[:20]


async def test_what_does_not_matter(platform: Platform, boss: Caller) -> None:
    """Unknown members are ignored, and any Content-Type is taken for JSON, as is none."""
    body = whole(boss) | {"name": ["x"], "": None}
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}):
        done = await platform.call(boss, "POST", ISSUE, body, headers)
        assert done.status == 200
    assert boss.user is not None
    member = (await platform.call(boss, "POST", ISSUE, whole(boss) | {"ORGID": True})).status
    assert member == 200, "names are case sensitive"


async def test_the_number_in_an_address(platform: Platform, boss: Caller) -> None:
    """It is an int32 in decimal; what is not there is 404, and of several the first counts."""
    device = (await platform.device_of(platform.acme)).device
    for path in (ONLINE, DEVICE):
        for text in ("", "x", "1.0", "%2B1", "+1", "0x1", "١", "1_0", str(2**31), "9" * 5000):
            encoded = text.replace("١", "%D9%A1")
            assert (await platform.get(boss, path, encoded)).status == 400, text
        assert (await platform.call(boss, "GET", path)).status == 400
        for number in (0, -1, -(2**31), 2**31 - 1):
            refused = await platform.get(boss, path, number)
            assert (refused.status, refused.message) == (404, NO_DEVICE.format(number))
        assert (await platform.get(boss, path, f"{device.id}&deviceId=x")).status == 200


async def test_other_methods(platform: Platform, boss: Caller) -> None:
    """405 that says which is allowed, whoever asks."""
    async with http(platform.ports.http) as connection:
        for path, allowed in (*((one, "POST") for one in CALLS), (ONLINE, "GET, HEAD")):
            for method in ("PUT", "DELETE", "PATCH", "GET" if path in CALLS else "POST"):
                reply = await connection.ask(method, path)
                assert (reply.status, reply.headers["allow"]) == (405, allowed)
                assert reply.headers["content-type"] == "application/json"


# ── the order of checks ───────────────────────────────────────────────────────────────────────


async def test_who_calls_comes_first(platform: Platform, boss: Caller) -> None:
    """401 with a challenge, whatever else is wrong: no token, another scheme, an unknown one."""
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {boss.bearer}"},
        {"Authorization": boss.bearer},
        {"Authorization": "Bearer " + "x" * 40},
        {"Authorization": f"Bearer {boss.bearer} {boss.bearer}"},
    ):
        for path in CALLS:
            refused = await platform.call(None, "POST", path, b"?", headers)
            assert refused.status == 401, headers
            assert refused.headers["www-authenticate"].startswith("Bearer")
        for path in (ONLINE, DEVICE):
            refused = await platform.call(None, "GET", path, headers=headers)
            assert refused.status == 401


async def test_then_the_body_the_permission_and_the_sight(platform: Platform) -> None:
    """Of somebody who may not: 400 for what cannot be read, else 403 for what is not there."""
    nobody = await platform.caller(platform.acme, [])
    assert nobody.user is not None
    text = "User {} has no permission for '{}' operation."
    for path in CALLS:
        assert (await platform.call(nobody, "POST", path, b"{}")).status == 400
        for body in (whole(nobody), whole(nobody) | {"orgId": UNKNOWN, "deviceId": -1}):
            refused = await platform.call(nobody, "POST", path, body)
            assert refused.status == 403
            assert refused.message == text.format(nobody.user.email, "PROVISION_DEVICES")
    for path in (ONLINE, DEVICE):
        assert (await platform.get(nobody, path, "x")).status == 400
        refused = await platform.get(nobody, path, UNKNOWN)
        assert refused.message == text.format(nobody.user.email, "OWN_DEVICES_VIEW")


async def test_the_organisation_comes_before_the_user(platform: Platform) -> None:
    """And the permission to name somebody else before either."""
    few = await platform.caller(platform.acme, [Permission.PROVISION_DEVICES])
    body = {"orgId": UNKNOWN, "ownerId": UNKNOWN}
    refused = await platform.call(few, "POST", ISSUE, body)
    assert (refused.status, "ORG_VIEW_USERS" in refused.message) == (403, True)
    boss = await platform.caller(platform.acme)
    refused = await platform.call(boss, "POST", ISSUE, body)
    assert (refused.status, refused.message) == (404, NO_ORGANISATION)


# ── when it breaks, and what is told of it all ────────────────────────────────────────────────


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Somebody else writes to the database, and does not end."""
    with sqlite3.connect(database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
async def platform_on_disk(gate_on_disk: Gate) -> AsyncIterator[Platform]:
    async with platform_on(gate_on_disk) as running:
        yield running


async def test_a_store_that_cannot_be_written(platform_on_disk: Platform, tmp_path: Path) -> None:
    """500 in the envelope, and nothing of the call is there afterwards; then it works again."""
    platform = platform_on_disk
    boss = await platform.caller(platform.acme)
    device = (await platform.device_of(platform.acme)).device
    body = whole(boss) | {"deviceId": device.id}
    assert (await platform.call(boss, "POST", ISSUE, body)).status == 200
    with held(tmp_path / "gate.db"):
        calls = (platform.call(boss, "POST", path, body) for path in CALLS)
        for broken in await asyncio.gather(*calls):
            assert (broken.status, broken.message) == (500, "the store cannot be written")
    waiting = await platform.tickets.waiting(platform.admin)
    assert len(waiting) == 1
    for path in CALLS:
        assert (await platform.call(boss, "POST", path, body)).status == 200


async def test_tokens_are_in_no_event(gate: Gate, platform: Platform, boss: Caller) -> None:
    """The events tell who asked for which number, and show neither the token nor the bearer's."""
    issued = await platform.call(boss, "POST", ISSUE, whole(boss))
    number = issued.body["deviceId"]
    events = await gate.registry.last_events(limit=100)
    told = [one for one in events if one.device_id == number]
    assert [(one.kind.value, one.peer.actor) for one in told] == [("ticket:issue", boss.name)]
    assert issued.headers["x-request-id"] == told[0].peer.request
    assert not any(text in repr(events) for text in (issued.body["token"], boss.bearer))


async def test_our_document_says_what_theirs_do(gate: Gate) -> None:
    """Paths, methods, members with their types and formats, and each documented status."""
    async with http(gate.ports.http) as connection:
        ours = json.loads((await connection.ask("GET", "/openapi.json")).body)
    for path, seed in seeds().items():
        theirs, told = seed["paths"][path], ours["paths"][path]
        assert set(theirs) == set(told) == {"post"}
        assert told["post"]["requestBody"]["required"]
        assert shape(told["post"]["requestBody"], ours) == shape(
            theirs["post"]["requestBody"], seed
        )
        for status, response in theirs["post"]["responses"].items():
            answer = told["post"]["responses"][status]
            if "content" in response:
                assert shape(answer, ours)[0] == shape(response, seed)[0]
                assert shape(answer, ours)[1] >= shape(response, seed)[1]


def shape(described: Any, document: Any) -> tuple[Any, set[str]]:
    """The members of a JSON body with their types, and which of the outermost are required."""

    def resolved(schema: Any) -> Any:
        name = schema.get("$ref", "").rpartition("/")[2]
        return document["components"]["schemas"][name] if name else schema

    def members(schema: Any) -> Any:
        found = resolved(schema)
        if found["type"] == "object":
            return {name: members(one) for name, one in found["properties"].items()}
        return found["type"], found.get("format")

    schema = described["content"]["application/json"]["schema"]
    return members(schema), set(resolved(schema).get("required", ()))
