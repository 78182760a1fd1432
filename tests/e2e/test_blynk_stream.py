"""Devices that speak Blynk's binary protocol: log in, claim, write, read, and are told things."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import datetime

import pytest
from blynk_binary import (
    BRIDGE,
    DEBUG_PRINT,
    EVENT_CLEAR,
    EVENT_LOG,
    GROUP,
    HARDWARE,
    HW_LOGIN,
    INTERNAL,
    LOGIN,
    NOTIFY,
    PING,
    PROPERTY,
    REDIRECT,
    RESPONSE,
    SYNC,
    Board,
    Said,
    board,
)
from blynk_ground import OTHER_TEMPLATE, SECTION, TEMPLATE, BlynkGate, blynk_on
from inside import NewGate

from gateway.core.model import (
    Attributes,
    AttributesSelection,
    DeviceProfile,
    EventKind,
    Order,
    RpcCall,
)
from gateway.core.registry import ProfileDraft
from gateway.core.rpc import RpcOutcome
from gateway.core.sessions import Slot

OK, QUOTA, ILLEGAL_COMMAND, NOT_REGISTERED, NOT_ALLOWED = 200, 1, 2, 3, 6
INVALID_TOKEN, ILLEGAL_BODY = 9, 11
INFO = ("ver", "1.4.0", "h-beat", "45", "buff-in", "1024", "dev", "ESP32")


@pytest.fixture
async def blynk(new_gate: NewGate) -> AsyncIterator[BlynkGate]:
    """A gateway that listens for the binary protocol too."""
    gate = await new_gate(blynk_tcp={"enabled": True})
    async with blynk_on(gate) as running:
        yield running


def dial(blynk: BlynkGate):
    return board(blynk.ports.blynk_tcp)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def kept(blynk: BlynkGate, token: str) -> Attributes:
    device = await blynk.device(token)
    assert device is not None
    return await blynk.gateway.store.attributes(device, AttributesSelection())


async def series(blynk: BlynkGate, token: str) -> dict[str, object]:
    device = await blynk.device(token)
    assert device is not None
    return {one.key: one.value for one in await blynk.gateway.store.latest(device, None)}


def slots(blynk: BlynkGate, device_id: int) -> list[Slot]:
    return [one.slot for one in blynk.gateway.sessions.of(device_id)]


# ── logging in ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", [LOGIN, HW_LOGIN])
async def test_a_device_logs_in(blynk: BlynkGate, command: int) -> None:
    """With either command; it is online from then on, and away when it hangs up."""
    token, record = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token, command) == OK
        assert slots(blynk, record.device.id) == [Slot.STREAM]
        assert await device.ask(PING) == OK
    await eventually(lambda: not slots(blynk, record.device.id))


@pytest.mark.parametrize("token", ["", "nobody-has-this-token-0123456789", "ü", "x" * 4000])
async def test_an_unknown_token_is_told_9(blynk: BlynkGate, token: str) -> None:
    """And the connection ends: firmware goes to set-up mode on it."""
    async with dial(blynk) as device:
        assert await device.login(token) == INVALID_TOKEN
        assert await device.is_closed()


async def test_a_removed_device_is_told_9(blynk: BlynkGate) -> None:
    """At once when it is connected, and at its next login."""
    token, record = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        await blynk.services.inventory.remove(blynk.admin, record)
        assert (await device.read()).body == INVALID_TOKEN
        assert await device.is_closed()
    async with dial(blynk) as device:
        assert await device.login(token) == INVALID_TOKEN


async def test_too_many_wrong_tokens(new_gate: NewGate) -> None:
    """An address that shows wrong tokens again and again is told 1, whatever it shows."""
    gate = await new_gate(blynk={"bad_tokens": "2:60"}, blynk_tcp={"enabled": True})
    async with blynk_on(gate) as blynk:
        token, _ = await blynk.born()
        for status in (INVALID_TOKEN, INVALID_TOKEN, QUOTA):
            async with dial(blynk) as device:
                assert await device.login("wrong") == status
        async with dial(blynk) as device:
            assert await device.login(token) == QUOTA


async def test_nothing_is_served_before_the_login(blynk: BlynkGate) -> None:
    async with dial(blynk) as device:
        assert await device.ask(HARDWARE, "vw", 1, 2) == 5
        assert await device.is_closed()


async def test_one_connection_by_this_protocol(blynk: BlynkGate) -> None:
    """A second one displaces the first, which is told nothing: its own next login is good."""
    token, record = await blynk.born()
    async with dial(blynk) as first, dial(blynk) as second:
        assert await first.login(token) == OK
        assert await second.login(token) == OK
        assert await first.is_closed()
        assert await second.ask(PING) == OK
        assert slots(blynk, record.device.id) == [Slot.STREAM]


async def test_a_second_login_is_refused(blynk: BlynkGate) -> None:
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.login(token) == NOT_ALLOWED


# ── the claim ─────────────────────────────────────────────────────────────────────────────────


async def test_the_claim(blynk: BlynkGate) -> None:
    """The login is answered at once; with what it says of itself the device is born, and online."""
    issued = await blynk.tickets.issue(blynk.admin, blynk.admin.organisation, None)
    token, number = issued.token.reveal(), issued.ticket.device_id
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await blynk.device(token) is None
        assert slots(blynk, number) == []
        told = ("mcu", "0.3.1", "fw-type", TEMPLATE, "build", "Jan 19 2024", "blynk", "1.3.2")
        more = ("h-beat", 45, "buff-in", 1024, "dev", "ESP32", "cpu", "XT", "con", "wifi")
        assert await device.ask(INTERNAL, *told, *more, "tmpl", TEMPLATE, "") == OK
        assert slots(blynk, number) == [Slot.STREAM]
        assert await device.ask(HARDWARE, "vw", 1, "21.5") == OK
    born = await blynk.device(token)
    assert born is not None
    assert (born.id, born.name) == (number, f"Meter {number}")
    info = (await kept(blynk, token)).client["hardwareInfo"]
    assert json.loads(info.text) == {
        "version": "0.3.1",
        "fwType": TEMPLATE,
        "build": "Jan 19 2024",
        "blynkVersion": "1.3.2",
        "boardType": "ESP32",
        "templateId": TEMPLATE,
        "bufferSize": 1024,
        "heartbeat": 45,
        "cpu": "XT",
        "connection": "wifi",
        "type": "MCU",
    }
    assert (await series(blynk, token))["temperature"] == 21.5


async def test_what_comes_with_the_claim_is_the_devices(blynk: BlynkGate) -> None:
    """Firmware sends its first values without waiting for any answer."""
    token = await blynk.issue()
    async with dial(blynk) as device:
        device.send(HW_LOGIN, token)
        device.send(INTERNAL, *INFO, "tmpl", TEMPLATE)
        device.send(HARDWARE, "vw", 1, "1")
        device.send(HARDWARE, "vw", 1, "2")
        answers = [await device.read() for _ in range(4)]
    assert answers == [Said(RESPONSE, number, OK) for number in (1, 2, 3, 4)]
    assert (await series(blynk, token))["temperature"] == 2.0


async def test_wrong_templates_use_nothing_up(blynk: BlynkGate) -> None:
    """Told 11; the connection stays, and the right one is taken after it."""
    token = await blynk.issue()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(INTERNAL, *INFO, "tmpl", "TMPLnobody000") == ILLEGAL_BODY
        assert await blynk.device(token) is None
        assert await device.ask(INTERNAL, *INFO, "tmpl", TEMPLATE) == OK
    assert await blynk.device(token) is not None


async def test_a_template_may_be_named_later(blynk: BlynkGate) -> None:
    """Info without one is answered 200 and claims nothing; what it told goes into the claim."""
    token = await blynk.issue()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(INTERNAL, *INFO) == OK
        assert await device.ask(INTERNAL, "tmpl", "") == OK
        assert await blynk.device(token) is None
        assert await device.ask(INTERNAL, "tmpl", TEMPLATE) == OK
    info = json.loads((await kept(blynk, token)).client["hardwareInfo"].text)
    assert (info["templateId"], info["boardType"]) == (TEMPLATE, "ESP32")


@pytest.mark.parametrize("named", [(), ("tmpl", ""), ("tmpl", "TMPLnobody000")])
async def test_a_device_without_a_template_of_here_is_told_of(
    blynk: BlynkGate, named: tuple[str, ...]
) -> None:
    """Its refusal is written down, once a connection however much it says; it may still be born."""
    token = await blynk.issue()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        answer = ILLEGAL_BODY if "TMPLnobody000" in named else OK
        assert await device.ask(INTERNAL, *INFO, *named) == answer
        for _ in range(3):
            assert await device.ask(HARDWARE, "vw", 1, 2) == NOT_REGISTERED
        refused = [
            one.reason
            for one in await blynk.gateway.registry.events(limit=100)
            if one.kind is EventKind.DEVICE_PROVISION
        ]
        assert refused == ["unknown_template"]
        assert await device.ask(INTERNAL, "tmpl", TEMPLATE) == OK
    assert await blynk.device(token) is not None


@pytest.mark.parametrize("told", [INFO, (*INFO, "tmpl", ""), (*INFO, "tmpl", "TMPLnobody000")])
async def test_a_template_to_fall_back_to(blynk: BlynkGate, told: tuple[str, ...]) -> None:
    """Where there is one, devices that name none, or an unknown one, get it."""
    section = {"template_id": "TMPLfallback1", "fallback": True}
    profile = DeviceProfile(id=0, name="Fallback", sections={"blynk": section})
    await blynk.gateway.registry.save_profile(ProfileDraft(profile=profile))
    token = await blynk.issue()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(INTERNAL, *told) == OK
    born = await blynk.device(token)
    assert born is not None
    assert born.name == f"Fallback {born.id}"


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (HARDWARE, ("vw", 1, 2)),
        (SYNC, ()),
        (INTERNAL, ("rtc", "sync")),
        (PROPERTY, (1, "label", "x")),
        (EVENT_LOG, ("overheated",)),
        (BRIDGE, (1, "i", "x")),
        (99, ()),
    ],
)
async def test_before_the_claim_all_else_is_told_3(
    blynk: BlynkGate, command: int, parts: tuple[str | int, ...]
) -> None:
    """And the connection stays; a ping is answered."""
    token = await blynk.issue()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(command, *parts) == NOT_REGISTERED
        assert await device.ask(PING) == OK
        assert await device.ask(INTERNAL, *INFO, "tmpl", TEMPLATE) == OK


async def test_no_claim_in_time(new_gate: NewGate) -> None:
    """The connection ends, however much it says; the token can still be claimed."""
    gate = await new_gate(blynk={"claim_s": 0.5}, blynk_tcp={"enabled": True})
    async with blynk_on(gate) as blynk:
        token = await blynk.issue()
        async with dial(blynk) as device:
            assert await device.login(token) == OK
            async with asyncio.timeout(10):
                while await _answers(device):
                    await asyncio.sleep(0.05)
        assert (await blynk.claim(token)).status == 200


async def test_a_claimed_connection_outlives_the_time_for_it(new_gate: NewGate) -> None:
    gate = await new_gate(blynk={"claim_s": 0.3}, blynk_tcp={"enabled": True})
    async with blynk_on(gate) as blynk:
        token = await blynk.issue()
        async with dial(blynk) as device:
            assert await device.login(token) == OK
            assert await device.ask(INTERNAL, "tmpl", TEMPLATE) == OK
            await asyncio.sleep(2.5)
            assert await device.ask(PING) == OK


async def test_a_ticket_revoked_meanwhile(blynk: BlynkGate) -> None:
    """The claim is told 9, and the connection ends."""
    issued = await blynk.tickets.issue(blynk.admin, blynk.admin.organisation, None)
    async with dial(blynk) as device:
        assert await device.login(issued.token.reveal()) == OK
        waiting = await blynk.tickets.find(blynk.admin, issued.ticket.id)
        assert waiting is not None
        await blynk.tickets.revoke(blynk.admin, waiting)
        assert await device.ask(INTERNAL, "tmpl", TEMPLATE) == INVALID_TOKEN
        assert await device.is_closed()


async def test_a_ticket_claimed_meanwhile_by_http(blynk: BlynkGate) -> None:
    """The connection's own claim succeeds too: it is the same device."""
    token = await blynk.issue()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert (await blynk.claim(token)).status == 200
        assert await device.ask(INTERNAL, *INFO, "tmpl", TEMPLATE) == OK
        assert await device.ask(HARDWARE, "vw", 1, 3) == OK
    assert await blynk.gateway.store.driver.rows("count_devices") == [(1,)]


async def test_a_hundred_claims_give_one_device(blynk: BlynkGate) -> None:
    """A hundred connections log in with one ticket and claim it at once: each is told 200 twice,
    there is one device, and of the connections one is left."""
    token = await blynk.issue()
    async with AsyncExitStack() as stack:
        boards = [await stack.enter_async_context(dial(blynk)) for _ in range(100)]
        logins = await asyncio.gather(*(one.login(token) for one in boards))
        assert logins == [OK] * 100
        claims = await asyncio.gather(
            *(one.ask(INTERNAL, *INFO, "tmpl", TEMPLATE) for one in boards)
        )
        assert claims == [OK] * 100
        assert await blynk.gateway.store.driver.rows("count_devices") == [(1,)]
        device = await blynk.device(token)
        assert device is not None
        assert slots(blynk, device.id) == [Slot.STREAM]
        left = await asyncio.gather(*(_answers(one) for one in boards))
        assert sum(left) == 1


async def _answers(one: Board) -> bool:
    try:
        return await one.ask(PING) == OK
    except (EOFError, ConnectionError):
        return False


async def test_a_device_provisioned_anew(blynk: BlynkGate) -> None:
    """The old token's connection works until the new one is claimed; then it is told 9."""
    token, record = await blynk.born()
    issued = await blynk.tickets.reprovision(blynk.admin, record)
    async with dial(blynk) as old, dial(blynk) as new:
        assert await old.login(token) == OK
        assert await new.login(issued.token.reveal()) == OK
        assert await old.ask(PING) == OK
        assert await new.ask(INTERNAL, "tmpl", OTHER_TEMPLATE) == ILLEGAL_BODY
        assert await old.ask(PING) == OK
        assert await new.ask(INTERNAL, "tmpl", TEMPLATE) == OK
        await _ends(old)
        assert await new.ask(HARDWARE, "vw", 1, 4) == OK
    same = await blynk.device(issued.token.reveal())
    assert same is not None
    assert same.id == record.device.id


async def _ends(one: Board) -> None:
    """It is displaced by the new connection, or told that its token is gone: whichever is first."""
    try:
        assert (await one.read()).body == INVALID_TOKEN
    except (EOFError, ConnectionError):
        return
    assert await one.is_closed()


# ── what a device says of itself ──────────────────────────────────────────────────────────────


async def test_info_of_a_device_is_noted(blynk: BlynkGate) -> None:
    """With its own template or none; one of another template changes nothing and is told 11."""
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(INTERNAL, *INFO) == OK
        info = json.loads((await kept(blynk, token)).client["hardwareInfo"].text)
        assert (info["boardType"], info["templateId"]) == ("ESP32", TEMPLATE)
        assert await device.ask(INTERNAL, "dev", "Nano", "tmpl", OTHER_TEMPLATE) == ILLEGAL_BODY
        assert json.loads((await kept(blynk, token)).client["hardwareInfo"].text) == info
        assert await device.ask(INTERNAL, "ncp", "2.0", "tmpl", TEMPLATE) == OK
    info = json.loads((await kept(blynk, token)).client["hardwareInfo"].text)
    assert info == {"version": "2.0", "templateId": TEMPLATE, "type": "NCP"}


async def test_the_heartbeat_is_the_devices(blynk: BlynkGate) -> None:
    """One that promised a sign of life each second is gone after one and a half and a tick."""
    token, record = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(INTERNAL, "h-beat", "1") == OK
        began = time.monotonic()
        await asyncio.sleep(1.0)
        assert await device.ask(PING) == OK
        assert await device.is_closed()
        assert 2.4 < time.monotonic() - began < 5.0
    assert slots(blynk, record.device.id) == []


@pytest.mark.parametrize("beat", ["-1", "x", "", "1.5", "99999999999"])
async def test_a_heartbeat_that_is_none_changes_nothing(blynk: BlynkGate, beat: str) -> None:
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(INTERNAL, "h-beat", beat) == OK
        assert await device.ask(PING) == OK


# ── values ────────────────────────────────────────────────────────────────────────────────────


async def test_values_are_written(blynk: BlynkGate) -> None:
    """Each is on disk when it is answered, in the same series as ThingsBoard's."""
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        for parts in (
            (0, 1),
            (1, "21.5"),
            (2, "héllo"),
            (2, "hé", ""),
            (3, 2),
            (4, "8.5", "47"),
        ):
            assert await device.ask(HARDWARE, "vw", *parts) == OK
        found = await series(blynk, token)
    assert {name: found[name] for name in ("Switch", "temperature", "note", "Mode")} == {
        "Switch": 1,
        "temperature": 21.5,
        "note": "hé",
        "Mode": 2,
    }
    assert json.loads(found["Place"].text) == [8.5, 47]


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        (("vw", 9, 1), ILLEGAL_BODY),
        (("vw", "x", 1), ILLEGAL_BODY),
        (("vw", "-1", 1), ILLEGAL_BODY),
        (("vw", 1), ILLEGAL_BODY),
        (("vw", 1, "warm"), ILLEGAL_BODY),
        (("vw", 1, "1000"), ILLEGAL_BODY),
        (("vw", 1, 1, 2, 3), ILLEGAL_BODY),
        (("vw",), ILLEGAL_COMMAND),
        (("vr", 9), ILLEGAL_BODY),
        (("dw", 1, 1), ILLEGAL_COMMAND),
        ((), ILLEGAL_COMMAND),
        (("vw", 1, *["1"] * 300), ILLEGAL_BODY),
    ],
)
async def test_what_cannot_be_written_is_told(
    blynk: BlynkGate, parts: tuple[str | int, ...], status: int
) -> None:
    """And nothing is stored, and the connection stays."""
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(HARDWARE, *parts) == status
        assert await device.ask(PING) == OK
    assert await series(blynk, token) == {}


async def test_a_template_that_is_changed_meanwhile(blynk: BlynkGate) -> None:
    """What is new in it counts for connections that are open, too."""
    token, _ = await blynk.born()
    more = {**SECTION, "datastreams": [*SECTION["datastreams"], {"pin": 7, "name": "New"}]}
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(HARDWARE, "vw", 7, 1) == ILLEGAL_BODY
        profile = DeviceProfile(id=0, name="Water Meter", sections={"blynk": more})
        await blynk.gateway.registry.save_profile(ProfileDraft(profile=profile))
        async with asyncio.timeout(10):
            while await device.ask(HARDWARE, "vw", 7, 1) != OK:
                await asyncio.sleep(0.02)
    assert (await series(blynk, token))["New"] == 1.0


async def test_values_are_asked_for(blynk: BlynkGate) -> None:
    """HARDWARE `vw` for each that has a value, or a default; then the RESPONSE."""
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        await device.ask(HARDWARE, "vw", 1, "21.5")
        await device.ask(HARDWARE, "vw", 4, "8.5,47")
        asked = device.send(SYNC, "vr", 1, 2, 4)
        got = [await device.read() for _ in range(3)]
        assert [one.body for one in got] == [("vw", "1", "21.5"), ("vw", "4", "8.5", "47.0"), OK]
        assert got[2].message_id == asked
        assert 0 not in [one.message_id for one in got]
        device.send(SYNC)
        got = [await device.read() for _ in range(4)]
        assert got[0].body == ("vw", "0", "0")
        assert got[3].body == OK
        device.send(HARDWARE, "vr", 1)
        assert [(await device.read()).body for _ in range(2)] == [("vw", "1", "21.5"), OK]
        assert await device.ask(SYNC, "vr", 77) == ILLEGAL_BODY
        assert await device.ask(SYNC, "xx") == ILLEGAL_COMMAND


async def test_a_body_larger_than_the_device_takes_is_not_sent(blynk: BlynkGate) -> None:
    """Firmware hangs up on one."""
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(INTERNAL, "buff-in", 256) == OK
        await device.ask(HARDWARE, "vw", 2, "x" * 300)
        assert await device.ask(SYNC, "vr", 2) == OK


async def test_what_others_write_is_told(blynk: BlynkGate) -> None:
    """By HTTP; what the device itself writes is not told to it."""
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        reply = await blynk.ask("GET", "/external/api/update", token=token, v0=1)
        assert reply.status == 200
        said = await device.read()
        assert (said.command, said.body) == (HARDWARE, ("vw", "0", "1"))
        assert await device.ask(HARDWARE, "vw", 0, 0) == OK
        assert await device.ask(PING) == OK


# ── time, metadata, properties, events ────────────────────────────────────────────────────────


async def test_the_time_is_told(blynk: BlynkGate) -> None:
    """As `rtc` and `utc` ask for it, with the id of the question."""
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK

        async def asked(*parts: str) -> tuple[str, ...]:
            number = device.send(INTERNAL, *parts)
            said = await device.read()
            assert said[:2] == (INTERNAL, number)
            assert isinstance(said.body, tuple)
            return said.body

        word, seconds = await asked("rtc", "sync")
        assert (word, abs(int(seconds) - time.time()) < 5) == ("rtc", True)
        *words, ms = await asked("utc", "time")
        assert (words, abs(int(ms) / 1000 - time.time()) < 5) == (["utc", "time"], True)
        *words, iso = await asked("utc", "iso")
        assert abs(datetime.fromisoformat(iso).timestamp() - time.time()) < 5
        assert await asked("utc", "tz") == ("utc", "tz", "0", "0")
        assert await asked("utc", "tz_name") == ("utc", "tz_name", "UTC")
        assert await asked("utc", "tz_rule") == ("utc", "tz_rule", "UTC0")
        assert await asked("utc", "dst_next") == ("utc", "dst_next")
        assert await device.ask(INTERNAL, "utc", "moon") == ILLEGAL_BODY
        assert await device.ask(INTERNAL, "acon") == ILLEGAL_BODY
        assert await device.ask(INTERNAL) == ILLEGAL_BODY


async def test_metadata(blynk: BlynkGate) -> None:
    """Read with defaults and written; fields the template has not are told 11."""
    token, record = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        for field, value in (("Location", "cellar"), ("Device Name", record.device.name)):
            number = device.send(INTERNAL, "meta", "get", field)
            assert await device.read() == Said(INTERNAL, number, ("meta", field, value))
        assert await device.ask(INTERNAL, "meta", "set", "Hotspot Name", "my home") == OK
        device.send(INTERNAL, "meta", "get", "Hotspot Name")
        assert (await device.read()).body == ("meta", "Hotspot Name", "my home")
        for parts in (("get", "Nothing"), ("set", "Nothing", "x"), ("set", "Limit", "x"), ("set",)):
            assert await device.ask(INTERNAL, "meta", *parts) == ILLEGAL_BODY
    assert (await kept(blynk, token)).shared["Hotspot Name"] == "my home"


async def test_properties_and_events(blynk: BlynkGate) -> None:
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(PROPERTY, 3, "label", "Mode of operation") == OK
        assert await device.ask(PROPERTY, 3, "labels", "off", "eco") == OK
        assert await device.ask(PROPERTY, 9, "label", "x") == ILLEGAL_BODY
        assert await device.ask(PROPERTY, 3, "label") == ILLEGAL_BODY
        assert await device.ask(PROPERTY, 3, "no such/name", "x") == ILLEGAL_BODY
        assert await device.ask(EVENT_LOG, "overheated", "90 degrees") == OK
        assert await device.ask(EVENT_LOG, "overheated") == OK
        assert await device.ask(EVENT_LOG, "nothing") == ILLEGAL_BODY
        assert await device.ask(EVENT_LOG) == ILLEGAL_BODY
    client = (await kept(blynk, token)).client
    assert client["property.Mode.label"] == "Mode of operation"
    assert client["property.Mode.labels"] == "off,eco"
    assert (await series(blynk, token))["event.overheated"] == "Too hot"


@pytest.mark.parametrize("command", [BRIDGE, GROUP, NOTIFY, REDIRECT, DEBUG_PRINT, EVENT_CLEAR])
async def test_what_is_not_served_is_told_6(blynk: BlynkGate, command: int) -> None:
    token, _ = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(command, "x") == NOT_ALLOWED
        assert await device.ask(99, "x") == ILLEGAL_COMMAND
        assert await device.ask(PING) == OK


async def test_rate_limits_are_told_1(new_gate: NewGate) -> None:
    gate = await new_gate(limits={"device_telemetry_messages": "2:60"}, blynk_tcp={"enabled": True})
    async with blynk_on(gate) as blynk:
        token, _ = await blynk.born()
        async with dial(blynk) as device:
            assert await device.login(token) == OK
            said = [await device.ask(HARDWARE, "vw", 1, number) for number in range(3)]
        assert said == [OK, OK, QUOTA]
        assert (await series(blynk, token))["temperature"] == 1.0


# ── orders and calls ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("order", "argument", "said"),
    [
        (Order.RECONFIGURE, "", (INTERNAL, ("dbg", "config"))),
        (Order.REBOOT, "", (INTERNAL, ("dbg", "reboot"))),
        (Order.REDIRECT, "other.example:8443", (REDIRECT, ("other.example", "8443"))),
        (Order.REDIRECT, "tcp://[2001:db8::1]:80", (REDIRECT, ("2001:db8::1", "80"))),
    ],
)
async def test_orders(
    blynk: BlynkGate, order: Order, argument: str, said: tuple[int, tuple[str, ...]]
) -> None:
    """An operator's order reaches the connection in the firmware's words."""
    token, record = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await blynk.tickets.order(blynk.admin, record, order, argument)
        got = await device.read()
        assert (got.command, got.body) == said
        assert got.message_id != 0


async def test_a_redirect_to_another_protocol_is_not_passed_on(blynk: BlynkGate) -> None:
    token, record = await blynk.born()
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        blynk.gateway.rpc.order(record.device.id, Order.REDIRECT, "mqtts://other.example:8883")
        assert await device.ask(PING) == OK


@pytest.mark.parametrize("method", ["Switch", "v0"])
async def test_a_call_of_a_datastream_writes_to_it(blynk: BlynkGate, method: str) -> None:
    """ThingsBoard's RPC; methods and parameters that are none are not sent."""
    token, record = await blynk.born()
    number = record.device.id

    async def called(method: str, params: str) -> RpcOutcome:
        call = RpcCall(device_id=number, method=method, params=params, two_way=False)
        return (await blynk.gateway.rpc.call(call, 1.0)).outcome

    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await called(method, "1") is RpcOutcome.SENT
        said = await device.read()
        assert (said.command, said.body) == (HARDWARE, ("vw", "0", "1"))
        for wrong in (("v9", "1"), ("nothing", "1"), (method, "7"), (method, "{}"), (method, "{")):
            assert await called(*wrong) is RpcOutcome.NOT_CONNECTED


# ── secrets ───────────────────────────────────────────────────────────────────────────────────


async def test_tokens_are_told_to_nobody(
    blynk: BlynkGate, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither the log nor the events of logins and claims, good and bad ones, hold a token."""
    token, wrong = await blynk.issue(), "a-wrong-token-nobody-may-see-1234"
    async with dial(blynk) as device:
        assert await device.login(wrong) == INVALID_TOKEN
    async with dial(blynk) as device:
        assert await device.login(token) == OK
        assert await device.ask(INTERNAL, "tmpl", "TMPLnobody000") == ILLEGAL_BODY
        assert await device.ask(INTERNAL, *INFO, "tmpl", TEMPLATE) == OK
        assert await device.login(token) == NOT_ALLOWED
        device.writer.write(b"\x14\x00\x00\x00\x00" + token.encode())
        assert await device.is_closed()
    logged = "".join(capfd.readouterr())
    assert "device.provisioned" in logged
    events = await blynk.gateway.registry.last_events()
    assert events
    for text in (logged, repr(events)):
        assert token not in text
        assert wrong not in text
