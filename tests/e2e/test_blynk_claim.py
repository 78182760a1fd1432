"""The claim over HTTP: every row of the contract's section 5.2."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from blynk_ground import OTHER_TEMPLATE, SECTION, TEMPLATE, BlynkGate, blynk_on
from inside import serving
from wires import GET, HttpReply, coap, dotted, http, http_request

from gateway.core.model import (
    HARDWARE_INFO,
    PROVISIONED,
    AttributeScope,
    Certificate,
    DeviceCredentials,
    DeviceProfile,
    DeviceRecord,
    Json,
    MqttBasic,
    Peer,
    PresharedKey,
    Provisioned,
    Secret,
    Wire,
)
from gateway.core.ports import NewDevice
from gateway.core.registry import ProfileDraft
from gateway.core.tickets import Issued

PATH = "/external/api/provision"
INVALID = b'{"error":{"message":"Invalid token."}}'
NO_TEMPLATE = b'{"error":{"message":"Template is not found."}}'
MOMENT_DAYS = 1 / 86_400_000
"""A millisecond."""


async def hardware(blynk: BlynkGate, record: DeviceRecord) -> dict[str, Any]:
    """What the device said of itself, as people see it."""
    for one in await blynk.gate.registry.attributes(record):
        if (one.scope, one.key) == (AttributeScope.CLIENT, HARDWARE_INFO):
            assert isinstance(one.value, Json)
            found: dict[str, Any] = json.loads(one.value.text)
            return found
    return {}


async def record_of(blynk: BlynkGate, token: str) -> DeviceRecord:
    device = await blynk.device(token)
    assert device is not None
    found = await blynk.services.inventory.find(blynk.admin, device.uuid)
    assert found is not None
    return found


def answer(reply: HttpReply) -> tuple[int, bytes]:
    return reply.status, reply.body


# ── PENDING and ACTIVE ────────────────────────────────────────────────────────────────────────


async def test_a_pending_token_gives_birth(blynk: BlynkGate) -> None:
    """200 without a body, and the device is there, with the number that was reserved."""
    issued = await blynk.tickets.issue(blynk.admin, blynk.admin.organisation, None)
    reply = await blynk.claim(issued.token.reveal(), ver="1.2", build="Oct 1")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")
    assert reply.headers["cache-control"] == "no-store"
    device = await blynk.device(issued.token.reveal())
    assert device is not None
    assert (device.id, device.name) == (issued.ticket.device_id, f"Meter {device.id}")


async def test_a_hundred_claims_give_one_device(blynk: BlynkGate) -> None:
    """All callers get 200, and there is one device."""
    token = await blynk.issue()
    replies = await asyncio.gather(*(blynk.claim(token) for _ in range(100)))
    assert {reply.status for reply in replies} == {200}
    assert await blynk.gateway.store.driver.rows("count_devices") == [(1,)]


async def test_what_the_device_says_of_its_hardware(blynk: BlynkGate) -> None:
    """All parameters are kept under the names of section 5.3, form-decoded and as given."""
    token = await blynk.issue()
    said = "ver=1.2.0&build=Oct+1+2026&type=MCU&fwType=TMPLmeter0001&blVer=1.3.2&boType=ESP32%2BX"
    async with http(blynk.ports.http) as device:
        reply = await device.ask("GET", f"{PATH}?token={token}&templateId={TEMPLATE}&{said}")
    assert reply.status == 200
    assert await hardware(blynk, await record_of(blynk, token)) == {
        "version": "1.2.0",
        "build": "Oct 1 2026",
        "fwType": "TMPLmeter0001",
        "blynkVersion": "1.3.2",
        "boardType": "ESP32+X",
        "templateId": TEMPLATE,
        "type": "MCU",
    }


async def test_claiming_again_refreshes_the_hardware_alone(blynk: BlynkGate) -> None:
    """200 for an ACTIVE token of the same template, again and again."""
    token, before = await blynk.born()
    for version in ("2.0", "2.1"):
        assert answer(await blynk.claim(token, ver=version)) == (200, b"")
    after = await record_of(blynk, token)
    assert after.device == before.device
    assert await hardware(blynk, after) == {"version": "2.1", "templateId": TEMPLATE}


async def test_odd_values_are_kept_as_given_and_cut(blynk: BlynkGate) -> None:
    """A `type` that is neither MCU nor NCP, and versions of any kind, at most 255 characters."""
    token = await blynk.issue()
    assert (await blynk.claim(token, type="TOASTER", ver="ä" * 300, build="<b>")).status == 200
    assert await hardware(blynk, await record_of(blynk, token)) == {
        "version": "ä" * 255,
        "build": "<b>",
        "templateId": TEMPLATE,
        "type": "TOASTER",
    }


async def test_the_first_of_two_parameters_counts(blynk: BlynkGate) -> None:
    first, second = await blynk.issue(), await blynk.issue()
    query = {"token": [first, second], "templateId": [TEMPLATE, "TMPLnobody000"]}
    assert answer(await blynk.ask("GET", PATH, **query)) == (200, b"")
    assert await blynk.device(first) is not None
    assert await blynk.device(second) is None
    query = {"token": [second, first], "templateId": ["TMPLnobody000", TEMPLATE]}
    assert answer(await blynk.ask("GET", PATH, **query)) == (400, NO_TEMPLATE)


# ── tokens that are none ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "token", ["", "A" * 32, "A", "A" * 5000, "ä", "a b", "' OR 1=1 --", "\0", "\ud7ff\U0001f600"]
)
async def test_tokens_of_nobody(blynk: BlynkGate, token: str) -> None:
    """Unknown, malformed and empty ones alike, byte for byte."""
    reply = await blynk.claim(token)
    assert answer(reply) == (400, INVALID)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"


async def test_no_token_at_all(blynk: BlynkGate) -> None:
    assert answer(await blynk.ask("GET", PATH, templateId=TEMPLATE)) == (400, INVALID)
    assert answer(await blynk.ask("GET", PATH)) == (400, INVALID)


async def test_an_expired_token(blynk: BlynkGate) -> None:
    """It cannot be told from one that never was (section 3.3)."""
    issued = await blynk.tickets.issue(
        blynk.admin, blynk.admin.organisation, None, days=MOMENT_DAYS
    )
    await asyncio.sleep(0.01)
    assert answer(await blynk.claim(issued.token.reveal())) == (400, INVALID)
    later = await blynk.tickets.issue(blynk.admin, blynk.admin.organisation, None)
    assert later.ticket.device_id > issued.ticket.device_id


async def test_a_revoked_token(blynk: BlynkGate) -> None:
    issued = await blynk.tickets.issue(blynk.admin, blynk.admin.organisation, None)
    record = await blynk.tickets.find(blynk.admin, issued.ticket.id)
    assert record is not None
    await blynk.tickets.revoke(blynk.admin, record)
    assert answer(await blynk.claim(issued.token.reveal())) == (400, INVALID)


async def test_the_token_of_a_deleted_device(blynk: BlynkGate) -> None:
    """It is good for nothing from then on (section 3.6)."""
    token, _ = await blynk.born()
    known = await blynk.gateway.store.find_credentials(Secret(token))
    assert known is not None
    assert await blynk.gate.registry.remove_device(known)
    assert answer(await blynk.claim(token)) == (400, INVALID)


@pytest.mark.parametrize(
    "login",
    [
        Certificate("MIIBfakecertificate"),
        MqttBasic("client", "user", Secret("password")),
        PresharedKey("identity", Secret("00" * 32)),
    ],
)
async def test_what_others_are_known_by_is_no_token(
    blynk: BlynkGate, login: DeviceCredentials
) -> None:
    """The fingerprint of a certificate, or the name of a key, can be learned by anybody."""
    profile, store = await blynk.gate.profile("Water Meter"), blynk.gateway.store
    made = await store.create_device(
        NewDevice(
            organisation_id=profile.organisation_id,
            profile_id=profile.id,
            name="other",
            type=profile.name,
            credentials=login,
            provision_state=PROVISIONED,
            peer=Peer(Wire.SHELL, "tester"),
            at=1,
        )
    )
    assert isinstance(made, Provisioned)
    for method in ("GET", "HEAD"):
        query = {"token": login.id.reveal(), "templateId": TEMPLATE, "ver": "6.6.6"}
        assert (await head_or_get(blynk, method, **query)) == 400
    found = await blynk.services.inventory.find(blynk.admin, made.device.uuid)
    assert found is not None
    assert await hardware(blynk, found) == {}


async def test_too_many_bad_tokens(standing_clock: None, blynk: BlynkGate) -> None:
    """After a hundred within a minute: 429 in the envelope, whatever is shown from there."""
    good = await blynk.issue()
    async with http(blynk.ports.http) as stranger:
        for number in range(100):
            reply = await stranger.ask("GET", f"{PATH}?token={number:032}&templateId={TEMPLATE}")
            assert answer(reply) == (400, INVALID)
        reply = await stranger.ask("GET", f"{PATH}?token={good}&templateId={TEMPLATE}")
    assert reply.status == 429
    assert list(json.loads(reply.body)) == ["error"]
    assert int(reply.headers["retry-after"]) > 0
    assert await blynk.device(good) is None


async def test_bad_tokens_in_datagrams_are_counted_apart(
    standing_clock: None, blynk: BlynkGate
) -> None:
    """Anybody may write any address on them: whoever is there over HTTP does not suffer for it."""
    async with coap(blynk.ports.coap) as stranger:
        query = [f"token={'A' * 32}", f"templateId={TEMPLATE}"]
        codes = [dotted(await stranger.ask(GET, PATH, query=query)) for _ in range(101)]
    assert codes == ["4.00"] * 100 + ["4.29"]
    assert (await blynk.claim(await blynk.issue())).status == 200


# ── templates ─────────────────────────────────────────────────────────────────────────────────


async def test_wrong_templates_use_nothing_up(blynk: BlynkGate) -> None:
    """Missing, empty and unknown ones are refused, and the token can still be claimed."""
    token = await blynk.issue()
    for query in ({"token": token}, {"token": token, "templateId": ""}):
        assert answer(await blynk.ask("GET", PATH, **query)) == (400, NO_TEMPLATE)
    for name in ("TMPLnobody000", "tmplmeter0001", f" {TEMPLATE}", "x" * 4000):
        assert answer(await blynk.claim(token, name)) == (400, NO_TEMPLATE)
    assert (await blynk.claim(token)).status == 200


async def save_template(blynk: BlynkGate, **section: Any) -> None:
    name = str(section["template_id"])
    profile = DeviceProfile(id=0, name=name, sections={"blynk": {**SECTION, **section}})
    await blynk.gate.registry.save_profile(ProfileDraft(profile=profile))


async def test_a_template_that_is_not_for_the_organisation(blynk: BlynkGate) -> None:
    """It is as if it were not there, and what is below an organisation it is for may name it."""
    allowed = await blynk.organisation("Allowed")
    below = await blynk.organisation("Below", allowed)
    other = await blynk.organisation("Other")
    await save_template(blynk, template_id="TMPLnarrow001", organisations=[allowed.id])
    await asyncio.sleep(1.1)  # it is noticed within a second
    for organisation, expected in ((allowed, 200), (below, 200), (other, 400)):
        token = await blynk.issue(organisation)
        reply = await blynk.claim(token, "TMPLnarrow001")
        assert reply.status == expected
        assert reply.body == (b"" if expected == 200 else NO_TEMPLATE)


async def test_an_active_token_of_another_template(blynk: BlynkGate) -> None:
    """Refused, and the device is as it was."""
    token, record = await blynk.born()
    for name in (OTHER_TEMPLATE, "TMPLnobody000", ""):
        assert answer(await blynk.claim(token, name)) == (400, NO_TEMPLATE)
    again = await blynk.services.inventory.find(blynk.admin, record.device.uuid)
    assert again == record


# ── provisioning anew ─────────────────────────────────────────────────────────────────────────


async def anew(blynk: BlynkGate, record: DeviceRecord, days: float | None = None) -> Issued:
    return await blynk.tickets.reprovision(blynk.admin, record, days=days)


async def values(blynk: BlynkGate, token: str) -> bytes:
    return (await blynk.ask("GET", "/external/api/getAll", token=token)).body


async def test_a_new_token_counts_from_its_first_claim(blynk: BlynkGate) -> None:
    """Until then the old one works; then it is dead, and number and values have stayed."""
    old, record = await blynk.born()
    await blynk.ask("GET", "/external/api/update", token=old, v1="21.5")
    issued = await anew(blynk, record)
    new = issued.token.reveal()
    assert issued.ticket.device_id == record.device.id
    assert await values(blynk, old) == b'{"v0":0,"v1":21.5}'
    assert await values(blynk, new) == INVALID
    assert answer(await blynk.claim(new)) == (200, b"")
    # At once, though who has the old token may still be remembered.
    late = await blynk.ask("GET", "/external/api/update", token=old, v1="99")
    assert answer(late) == (400, INVALID)
    assert answer(await blynk.claim(old)) == (400, INVALID)
    async with asyncio.timeout(5):
        while await values(blynk, old) != INVALID:
            await asyncio.sleep(0.01)
    assert await values(blynk, new) == b'{"v0":0,"v1":21.5}'
    after = await record_of(blynk, new)
    assert (after.device.id, after.device.name) == (record.device.id, record.device.name)
    assert after.device.created_at == record.device.created_at
    assert answer(await blynk.claim(new)) == (200, b"")


async def test_a_new_token_with_another_template(blynk: BlynkGate) -> None:
    """Refused; the old token stays in force, and the new one can still be claimed."""
    old, record = await blynk.born()
    new = (await anew(blynk, record)).token.reveal()
    for name in (OTHER_TEMPLATE, "TMPLnobody000", ""):
        assert answer(await blynk.claim(new, name)) == (400, NO_TEMPLATE)
    assert await values(blynk, old) == b'{"v0":0}'
    assert (await blynk.claim(old)).status == 200
    assert (await blynk.claim(new)).status == 200


async def test_the_last_of_two_new_tokens_counts(blynk: BlynkGate) -> None:
    old, record = await blynk.born()
    first = (await anew(blynk, record)).token.reveal()
    second = (await anew(blynk, record)).token.reveal()
    assert answer(await blynk.claim(first)) == (400, INVALID)
    assert (await blynk.claim(old)).status == 200
    assert (await blynk.claim(second)).status == 200


async def test_a_new_token_that_expired(blynk: BlynkGate) -> None:
    """Nothing has happened then."""
    old, record = await blynk.born()
    new = (await anew(blynk, record, MOMENT_DAYS)).token.reveal()
    await asyncio.sleep(0.01)
    assert answer(await blynk.claim(new)) == (400, INVALID)
    assert (await blynk.claim(old)).status == 200


# ── methods and restarts ──────────────────────────────────────────────────────────────────────


async def test_head_does_not_claim(blynk: BlynkGate) -> None:
    token = await blynk.issue()
    query = {"token": token, "templateId": TEMPLATE}
    assert await head_or_get(blynk, "HEAD", **query) == 200
    assert await blynk.device(token) is None


async def head_or_get(blynk: BlynkGate, method: str, **query: str) -> int:
    """The status of the answer."""
    async with http(blynk.ports.http) as connection:
        connection.writer.write(http_request(method, f"{PATH}?{urlencode(query)}"))
        async with asyncio.timeout(5):
            return int((await connection.reader.readuntil(b"\r\n\r\n")).split()[1])


async def test_head_tells_what_get_would(blynk: BlynkGate) -> None:
    """Of a pending token, of a new one for a device that exists, and of a device's own."""
    own, record = await blynk.born()
    for token in (await blynk.issue(), own, (await anew(blynk, record)).token.reveal()):
        wrong = "TMPLnobody000" if await blynk.device(token) is None else OTHER_TEMPLATE
        for name in (wrong, "", TEMPLATE):
            query = {"token": token, "templateId": name}
            told = await head_or_get(blynk, "HEAD", **query)
            assert told == await head_or_get(blynk, "GET", **query), name
    query = {"token": (await anew(blynk, record)).token.reveal(), "templateId": OTHER_TEMPLATE}
    assert await head_or_get(blynk, "HEAD", **query) == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_do_not_claim(blynk: BlynkGate, method: str) -> None:
    token = await blynk.issue()
    reply = await blynk.ask(method, PATH, token=token, templateId=TEMPLATE)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert list(json.loads(reply.body)) == ["error"]
    assert await blynk.device(token) is None


async def test_a_restart_between_issue_and_claim(tmp_path: Path) -> None:
    """What was issued before is claimed after, and numbers go on where they were."""
    async with serving(tmp_path) as gate, blynk_on(gate) as before:
        issued = await before.tickets.issue(before.admin, before.admin.organisation, None)
    async with serving(tmp_path) as gate, blynk_on(gate) as after:
        assert answer(await after.claim(issued.token.reveal())) == (200, b"")
        device = await after.device(issued.token.reveal())
        assert device is not None
        assert device.id == issued.ticket.device_id
        later = await after.tickets.issue(after.admin, after.admin.organisation, None)
        assert later.ticket.device_id > device.id
    async with serving(tmp_path) as gate, blynk_on(gate) as again:
        assert answer(await again.claim(issued.token.reveal())) == (200, b"")


async def test_a_template_to_fall_back_to(blynk: BlynkGate) -> None:
    """Where a profile says so, devices that name none or an unknown one are of it, each time."""
    profile = DeviceProfile(
        id=0, name="Any", sections={"blynk": {"template_id": "TMPLany00001", "fallback": True}}
    )
    await blynk.gate.registry.save_profile(ProfileDraft(profile=profile))
    blynk.gateway.feed.nudge()
    for name in ("TMPLnobody000", ""):
        token = await blynk.issue()
        for _ in range(2):
            query = {"token": token, "templateId": name}
            assert await head_or_get(blynk, "HEAD", **query) == 200
            assert (await blynk.claim(token, name)).status == 200
        device = await blynk.device(token)
        assert device is not None
        assert device.type == "Any"
