"""Static tokens over the wire: contract, section 12, with the checks and texts of section 4."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiocoap import GET
from blynk_ground import OTHER_TEMPLATE, TEMPLATE
from platform_ground import NO_DEVICE, NO_USER, UNKNOWN, Answer, Caller, Platform
from wires import coap, mqtt

from gateway.clock import now_ms
from gateway.core.model import DeviceProfile, Organisation, Permission
from gateway.core.registry import ProfileDraft
from gateway.core.static_tokens import IssuedPair, StaticTokens
from gateway.dialects.blynk.profile import Templates
from gateway.ticketing import open_static_tokens

LIST = "/api/v1/organization/static-tokens"
CLAIM = f"{LIST}/claim"
UNCLAIM = f"{LIST}/unclaim"
NO_ORGANISATION = "Organization with identifier {} is not found or you don't have access to it."
NO_PAIR = "Static token is not found."
CREATE, VIEW = Permission.ORG_DEVICES_CREATE, Permission.ORG_DEVICES_VIEW
USERS = Permission.ORG_VIEW_USERS


@pytest.fixture
def pairs(platform: Platform) -> StaticTokens:
    store = platform.gateway.store
    return open_static_tokens(store, Templates(store, now_ms))


@pytest.fixture
async def issued(platform: Platform, pairs: StaticTokens) -> IssuedPair:
    """A pair for a meter, made by the root."""
    return await one_pair(platform, pairs)


@pytest.fixture
async def boss(platform: Platform) -> Caller:
    """Somebody who may do everything in Acme."""
    return await platform.caller(platform.acme)


async def one_pair(
    platform: Platform, pairs: StaticTokens, organisation: Organisation | None = None
) -> IssuedPair:
    profile = await platform.gate.registry.profile("Water Meter")
    assert profile is not None
    where = organisation or platform.root
    return (await pairs.issue(platform.admin, profile, where))[0]


async def claimed(platform: Platform, caller: Caller, issued: IssuedPair, **body: Any) -> Answer:
    asked = {"token": issued.claim.reveal(), "orgId": caller.organisation.id, **body}
    return await platform.post(caller, CLAIM, **asked)


# ── claiming ──────────────────────────────────────────────────────────────────────────────────


async def test_the_label_takes_the_device(
    platform: Platform, boss: Caller, issued: IssuedPair
) -> None:
    """The device comes first, by HTTP, in the maker's organisation; the scan moves it, and it is
    the caller's own."""
    token = issued.token.reveal()
    assert (await platform.claim(token)).status == 200
    before = await platform.device(token)
    assert before is not None
    assert before.customer_id is None
    answer = await claimed(platform, boss, issued)
    assert (answer.status, answer.body) == (200, {"deviceId": before.id})
    assert answer.headers["cache-control"] == "no-store"
    found = await platform.services.inventory.find_numbered(platform.admin, before.id)
    assert found is not None
    assert boss.user is not None
    assert (found.device.customer_id, found.owner_id) == (platform.acme.id, boss.user.id)


async def test_the_label_before_the_device(
    platform: Platform, boss: Caller, issued: IssuedPair
) -> None:
    """The number is told at once; the device is born in the holder's organisation."""
    answer = await claimed(platform, boss, issued)
    assert answer.body == {"deviceId": issued.pair.device_id}
    assert (await platform.claim(issued.token.reveal())).status == 200
    device = await platform.device(issued.token.reveal())
    assert device is not None
    assert (device.id, device.customer_id) == (issued.pair.device_id, platform.acme.id)


async def test_the_text_of_a_label_with_an_organisation(
    platform: Platform, pairs: StaticTokens, boss: Caller
) -> None:
    """`{token}+{orgId}`: the number counts where the body has none; it must be one."""
    token = (await one_pair(platform, pairs)).claim.reveal()
    for text in (f"{token}+", f"{token}+x", f"{token}+2147483648", f"{token}+-1"):
        assert (await platform.post(boss, CLAIM, token=text)).status == 400
    answer = await platform.post(boss, CLAIM, token=f"{token}+{platform.acme.id}")
    assert answer.status == 200
    other = (await one_pair(platform, pairs)).claim.reveal()
    body = {"token": f"{other}+{platform.root.id}", "orgId": platform.acme.id}
    assert (await platform.post(boss, CLAIM, **body)).status == 200


async def test_a_client_claims_for_nobody_or_for_somebody(
    platform: Platform, pairs: StaticTokens
) -> None:
    """A program is no person: without `ownerId` the device is nobody's own."""
    client, member = await platform.client(platform.acme), await platform.member(platform.north)
    for more, owner in (({}, None), ({"ownerId": member.id}, member.id)):
        issued = await one_pair(platform, pairs)
        body = {"token": issued.claim.reveal(), "orgId": platform.north.id, **more}
        assert (await platform.post(client, CLAIM, **body)).status == 200
        assert (await platform.claim(issued.token.reveal())).status == 200
        number = issued.pair.device_id
        found = await platform.services.inventory.find_numbered(platform.admin, number)
        assert found is not None
        assert found.owner_id == owner


async def test_of_many_callers_one_gets_it(
    platform: Platform, pairs: StaticTokens, issued: IssuedPair
) -> None:
    """The others hear that it is claimed; the one may ask again."""
    callers = [await platform.caller(platform.acme) for _ in range(10)]
    answers = await asyncio.gather(*(claimed(platform, one, issued) for one in callers))
    assert sorted(one.status for one in answers) == [200, *[400] * 9]
    told = {one.message for one in answers if one.status == 400}
    assert told == {"Static token is already claimed."}
    winner = callers[[one.status for one in answers].index(200)]
    assert (await claimed(platform, winner, issued)).status == 200


async def test_what_is_not_there(
    platform: Platform, pairs: StaticTokens, boss: Caller, issued: IssuedPair
) -> None:
    """Organisations and users out of sight, unknown tokens, ids of nothing: 404, and its text."""
    foreign = await platform.member(platform.globex)
    for number in (platform.globex.id, platform.root.id, UNKNOWN, 0, -1):
        answer = await claimed(platform, boss, issued, orgId=number)
        assert (answer.status, answer.message) == (404, NO_ORGANISATION.format(number))
    for owner in (foreign.id, UNKNOWN, 0, -5, 2**62):
        answer = await claimed(platform, boss, issued, ownerId=owner)
        assert (answer.status, answer.message) == (404, NO_USER)
    for token in ("", "sqr_", issued.token.reveal(), issued.claim.reveal() + "x"):
        answer = await claimed(platform, boss, issued, token=token)
        assert (answer.status, answer.message) == (404, NO_PAIR)
    assert (await claimed(platform, boss, issued)).status == 200


async def test_a_template_that_is_not_for_the_organisation(
    platform: Platform, pairs: StaticTokens, boss: Caller, issued: IssuedPair
) -> None:
    """A device of it could not be born there."""
    section = {"template_id": "TMPLfenced0001", "organisations": [platform.globex.id]}
    profile = DeviceProfile(id=0, name="Fenced", sections={"blynk": section})
    await platform.gate.registry.save_profile(ProfileDraft(profile=profile))
    saved = await platform.gate.registry.profile("Fenced")
    assert saved is not None
    fenced = (await pairs.issue(platform.admin, saved, platform.globex))[0]
    await platform.gateway.feed.look()
    answer = await claimed(platform, boss, fenced)
    assert (answer.status, answer.message) == (404, "Template is not found.")


@pytest.mark.parametrize(
    ("permissions", "other", "lacked"),
    [
        ((VIEW, USERS), False, "ORG_DEVICES_CREATE"),
        ((CREATE, USERS), False, "OWN_DEVICES_VIEW"),
        ((CREATE, VIEW), True, "ORG_VIEW_USERS"),
        ((CREATE, VIEW), False, ""),
        ((CREATE, Permission.OWN_DEVICES_VIEW), False, ""),
        ((CREATE, VIEW, USERS), True, ""),
    ],
)
async def test_who_may_claim(
    platform: Platform,
    issued: IssuedPair,
    permissions: tuple[Permission, ...],
    other: bool,
    lacked: str,
) -> None:
    """The permission is asked for before anything is looked for."""
    caller = await platform.caller(platform.acme, permissions)
    more = {"ownerId": (await platform.member(platform.acme)).id} if other else {}
    answer = await claimed(platform, caller, issued, **more)
    assert answer.status == (403 if lacked else 200)
    if lacked:
        told = f"User {caller.name} has no permission for '{lacked}' operation."
        assert answer.message == told
        hidden = await claimed(platform, caller, issued, orgId=UNKNOWN, **more)
        assert hidden.status == 403


async def test_bodies_that_are_wrong(platform: Platform, boss: Caller, issued: IssuedPair) -> None:
    """400 in the envelope: types are strict, and unknown members ignored."""
    token, number = issued.claim.reveal(), platform.acme.id
    for body in (
        b"",
        b"[]",
        b"{",
        {"orgId": number},
        {"token": token},
        {"token": 5, "orgId": number},
        {"token": None, "orgId": number},
        {"token": token, "orgId": str(number)},
        {"token": token, "orgId": True},
        {"token": token, "orgId": float(number)},
        {"token": token, "orgId": None},
        {"token": token, "orgId": 2**31},
        {"token": token, "orgId": number, "ownerId": None},
        {"token": token, "orgId": number, "ownerId": "1"},
        {"token": token, "orgId": number, "ownerId": 2**63},
    ):
        answer = await platform.call(boss, "POST", CLAIM, body)
        assert answer.status == 400, body
        assert token not in answer.message
    for body in (b"", b"{}", {"token": token, "deviceId": 1}, {"deviceId": "1"}, {"token": 1}):
        assert (await platform.call(boss, "POST", UNCLAIM, body)).status == 400
    assert (await claimed(platform, boss, issued, colour="blue")).status == 200


async def test_nobody_and_wrong_methods(platform: Platform, boss: Caller) -> None:
    """401 comes first; other methods are 405 and say which there are."""
    for method, path, allow in (
        ("GET", CLAIM, "POST"),
        ("PUT", UNCLAIM, "POST"),
        ("POST", LIST, "GET"),
    ):
        answer = await platform.call(boss, method, path, b"{}")
        assert answer.status == 405
        assert allow in answer.headers["allow"]
    for method, path in (("POST", CLAIM), ("POST", UNCLAIM), ("GET", f"{LIST}?orgId=1")):
        for bearer in (None, "nobodys-token"):
            answer = await platform.call(bearer, method, path, b"[" if method == "POST" else None)
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"


# ── giving back ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by_label", [True, False])
async def test_the_device_goes_back(
    platform: Platform, boss: Caller, issued: IssuedPair, by_label: bool
) -> None:
    """By the label's text or by the number of the device; then others may claim it."""
    assert (await platform.claim(issued.token.reveal())).status == 200
    await claimed(platform, boss, issued)
    number = issued.pair.device_id
    body = {"token": f"{issued.claim.reveal()}+1"} if by_label else {"deviceId": number}
    answer = await platform.post(boss, UNCLAIM, **body)
    assert (answer.status, answer.body) == (200, {"deviceId": number})
    device = await platform.device(issued.token.reveal())
    assert device is not None
    assert (device.id, device.customer_id) == (number, None)
    again = await platform.post(boss, UNCLAIM, **body)
    told = NO_PAIR if by_label else NO_DEVICE.format(number)
    assert (again.status, again.message) == (404, told)
    other = await platform.caller(platform.globex)
    assert (await claimed(platform, other, issued)).status == 200


async def test_who_may_give_back(platform: Platform, boss: Caller, issued: IssuedPair) -> None:
    """Without a permission 403, whatever is asked; what others hold is not there."""
    await claimed(platform, boss, issued)
    body = {"token": issued.claim.reveal()}
    powerless = await platform.caller(platform.acme, (CREATE, VIEW))
    answer = await platform.post(powerless, UNCLAIM, **body)
    told = f"User {powerless.name} has no permission for 'ORG_DEVICES_DELETE' operation."
    assert (answer.status, answer.message) == (403, told)
    for stranger in (
        await platform.caller(platform.globex),
        await platform.caller(platform.north),
        await platform.caller(platform.acme, (Permission.OWN_DEVICES_DELETE,)),
        await platform.client(platform.globex),
    ):
        answer = await platform.post(stranger, UNCLAIM, **body)
        assert (answer.status, answer.message) == (404, NO_PAIR)
    client = await platform.client(platform.acme)
    assert (await platform.post(client, UNCLAIM, **body)).status == 200


async def test_a_device_that_is_removed_may_come_back(
    platform: Platform, boss: Caller, issued: IssuedPair
) -> None:
    """Its owner removes it; the hardware, flashed for ever, is another device, to be claimed."""
    token = issued.token.reveal()
    assert (await platform.claim(token)).status == 200
    await claimed(platform, boss, issued)
    record = await platform.services.inventory.find_numbered(platform.admin, issued.pair.device_id)
    assert record is not None
    await platform.services.inventory.remove(platform.admin, record)
    await platform.gateway.feed.look()
    assert (await platform.claim(token)).status == 200
    device = await platform.device(token)
    assert device is not None
    assert device.customer_id is None
    assert device.id > issued.pair.device_id
    answer = await claimed(platform, boss, issued)
    assert (answer.status, answer.body) == (200, {"deviceId": device.id})


# ── the list ──────────────────────────────────────────────────────────────────────────────────


async def test_the_list(
    platform: Platform, pairs: StaticTokens, boss: Caller, issued: IssuedPair
) -> None:
    """Pages of what an organisation made, with the label's token, and never the device's."""
    assert boss.user is not None
    others = [await one_pair(platform, pairs) for _ in range(2)]
    await one_pair(platform, pairs, platform.acme)
    await claimed(platform, boss, issued)
    client = await platform.client(platform.root)

    async def ask(**query: Any) -> Answer:
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        return await platform.call(client, "GET", f"{LIST}?{asked}")

    answer = await ask(orgId=platform.root.id, templateId=TEMPLATE)
    first = answer.body["content"][0]
    assert first.pop("claimedAt") >= first.pop("createdAt") > 0
    assert first == {
        "id": issued.pair.id,
        "token": issued.claim.reveal(),
        "deviceId": issued.pair.device_id,
        "orgId": platform.root.id,
        "templateId": TEMPLATE,
        "state": "CLAIMED",
        "holderOrgId": platform.acme.id,
        "ownerId": boss.user.id,
    }
    assert (answer.body["totalElements"], answer.body["page"]) == (3, 0)
    assert issued.token.reveal() not in repr(answer.body)
    page = (await ask(orgId=platform.root.id, page=1, size=2)).body
    assert [one["id"] for one in page["content"]] == [others[1].pair.id]
    free = (await ask(orgId=platform.root.id, state="UNCLAIMED")).body
    assert [one["id"] for one in free["content"]] == [one.pair.id for one in others]
    assert (await ask(orgId=platform.acme.id)).body["totalElements"] == 1
    for name in (OTHER_TEMPLATE, "TMPLnobody"):
        none = (await ask(orgId=platform.root.id, templateId=name)).body
        assert (none["content"], none["totalElements"]) == ([], 0)
    for query in (
        {},
        {"orgId": "x"},
        {"orgId": 1, "state": "claimed"},
        {"orgId": 1, "page": -1},
        {"orgId": 1, "size": 0},
        {"orgId": 1, "size": 1001},
        {"orgId": 1, "page": "x"},
    ):
        assert (await ask(**query)).status == 400, query


async def test_who_may_list(platform: Platform, issued: IssuedPair) -> None:
    """MANAGE_STATIC_TOKENS; what is out of sight is not there."""
    able = await platform.caller(platform.acme, (Permission.MANAGE_STATIC_TOKENS,))
    for number in (platform.root.id, platform.globex.id, UNKNOWN):
        answer = await platform.call(able, "GET", f"{LIST}?orgId={number}")
        assert (answer.status, answer.message) == (404, NO_ORGANISATION.format(number))
    answer = await platform.call(able, "GET", f"{LIST}?orgId={platform.north.id}")
    assert (answer.status, answer.body["totalElements"]) == (200, 0)
    unable = await platform.caller(platform.acme, (CREATE, VIEW, USERS))
    answer = await platform.call(unable, "GET", f"{LIST}?orgId={platform.acme.id}")
    told = f"User {unable.name} has no permission for 'MANAGE_STATIC_TOKENS' operation."
    assert (answer.status, answer.message) == (403, told)


# ── other wires ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", ["coap", "mqtt"])
async def test_the_device_comes_by_other_wires(
    platform: Platform, boss: Caller, issued: IssuedPair, wire: str
) -> None:
    """Its first word is the same everywhere: it is born where its label was scanned for."""
    await claimed(platform, boss, issued)
    token = issued.token.reveal()
    if wire == "coap":
        query = (f"token={token}", f"templateId={TEMPLATE}")
        async with coap(platform.ports.coap) as thing:
            reply = await thing.ask(GET, "/external/api/provision", query=query)
        assert reply.code.is_successful(), reply
    else:
        async with mqtt(platform.ports.mqtt) as session:
            assert await session.connect("", "device", token) == 0
            await session.deliver("info/mcu", json.dumps({"tmpl": TEMPLATE}).encode())
    device = await platform.device(token)
    assert device is not None
    assert device.customer_id == platform.acme.id
