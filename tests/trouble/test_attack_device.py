"""Devices that are provisioned and mad: what they can make a gateway hold is bounded.

They are logged in, so more doors are open to them than to strangers. Good devices do not notice.
"""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from pathlib import Path

import pytest
from beside import ANSWER, CALLS, TELEMETRY, beside, born, object_of, online, session_of, until
from house import Gatehouse, NewGatehouse, good_devices_are_served, memory_stays
from wires import (
    GET,
    POST,
    PUBACK,
    SUBACK,
    Mqtt,
    coap,
    dotted,
    http,
    mqtt,
    packet,
    publish_packet,
)

FIRST_STORED = 1 << 30
CHILDREN = 10_000
GATEWAY_TOPICS = (
    "connect",
    "disconnect",
    "telemetry",
    "attributes",
    "attributes/request",
    "rpc",
    "claim",
    "nothing",
    "",
)


# ── MQTT ──────────────────────────────────────────────────────────────────────────────────────


async def test_garbage_on_gateway_topics(
    house: Gatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random bytes and mangled messages of a gateway stop nothing, nor do those of a device."""
    dice = random.Random(0x6A7E)
    gateway, plain = (*await born(house, "gw", gateway=True), *await born(house, "plain"))
    seeds = [
        b'{"device":"A","type":"t"}',
        b'{"A":[{"ts":1,"values":{"n":1}}],"B":[{"n":2}]}',
        b'{"A":{"k":"v"},"B":{"k":1}}',
        b'{"id":1,"device":"A","client":true,"keys":["a","b"]}',
        b'{"device":"A","id":1,"data":{"ok":true}}',
        b"[" * 30_000,
        b'{"A":' * 5_000,
        b'{"A":[{"n":1e999}]}',
        b'{"\\ud800":[{"n":1}]}',
    ]

    def garbage() -> bytes:
        if dice.random() < 0.2:
            return dice.randbytes(dice.randrange(300))
        mangled = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(4)):
            mangled[dice.randrange(len(mangled))] = dice.randrange(256)
        return bytes(mangled)

    async def rave(token: str, version: int, count: int) -> None:
        while count > 0:
            async with session_of(house, token, version) as session:
                with suppress(ConnectionError):
                    while count > 0 and not session.reader.at_eof():
                        topic = f"v1/gateway/{dice.choice(GATEWAY_TOPICS)}"
                        session.publish(topic, garbage(), dice.randrange(2))
                        await session.writer.drain()
                        await asyncio.sleep(0.001 if version == 5 else 0.004)
                        count -= 1

    async with memory_stays(house, "1000 pieces of garbage of gateways", capsys):
        for token in (gateway, plain):
            await rave(token, 5, 300)
            await rave(token, 4, 200)
    await good_devices_are_served(house, "garbage")
    assert "Traceback" not in house.log()


async def test_thousands_of_subscriptions(
    house: Gatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each filter that is not served is refused; one that is costs nothing when repeated."""
    tokens = await born(house, *(f"d{n}" for n in range(10)))
    good = CALLS.encode()
    filters = [b"a/%d/#" % n for n in range(999)] + [good]
    body = b"".join(len(one).to_bytes(2) + one + b"\1" for one in filters)

    async def subscribe(token: str) -> None:
        async with session_of(house, token) as session:
            for number in range(1, 21):
                session.send(packet(0x82, number.to_bytes(2) + body))
                codes = (await session.expect(SUBACK)).body[2:]
                assert codes == b"\x80" * 999 + b"\1"
            assert await session.outcome() == []

    async with memory_stays(house, "200000 filters", capsys):
        await asyncio.gather(*(subscribe(token) for token in tokens))
    await good_devices_are_served(house, "filters")


async def test_answers_nobody_asked_for(
    new_gatehouse: NewGatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are taken and forgotten; a call is answered by its own device alone."""
    house = new_gatehouse()
    with (house.folder / "profiles" / "check.toml").open("a") as profile:
        profile.write("gateway_may_adopt = false\n")
    house.start()
    house.add("called")
    (called,) = await born(house, "called", profile="check")
    stranger, gateway = (*await born(house, "x"), *await born(house, "gw", gateway=True))
    async with beside(house) as people:
        calls = [await people.call("called", "m") for _ in range(5)]
        numbers = [*range(3000), *(FIRST_STORED + n for n in range(1000)), 2**31 - 1]
        async with memory_stays(house, "8000 answers nobody asked for", capsys):
            async with session_of(house, stranger) as session:
                await _publish_all(session, [(f"{ANSWER}{n}", b"1") for n in numbers])
            async with session_of(house, gateway) as session:
                bodies = [{"device": "called", "id": n, "data": 1} for n in numbers]
                told = [("v1/gateway/rpc", json.dumps(body).encode()) for body in bodies]
                await _publish_all(session, told)
        assert [await people.state(call, 0.2) for call in calls] == [("QUEUED", None)] * 5
        async with session_of(house, called) as session:
            await session.subscribe(CALLS)
            topics = [(await session.published()).topic for _ in calls]
            for topic in topics:
                await session.deliver(ANSWER + topic.rpartition("/")[2], b'"its own"')
        assert {await people.state(call) for call in calls} == {("SUCCESSFUL", '"its own"')}
    await good_devices_are_served(house, "answers")


async def _publish_all(session: Mqtt, told: list[tuple[str, bytes]], at_once: int = 50) -> None:
    """At QoS 1, so many on their way at once; each must be acknowledged."""
    for start in range(0, len(told), at_once):
        part = told[start : start + at_once]
        session.send(
            b"".join(publish_packet(4, *one, 1, number + 1) for number, one in enumerate(part))
        )
        for _ in part:
            await session.expect(PUBACK)


async def test_giant_names_and_many_keys(
    house: Gatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names over 255 characters and more values than may be in a message are kept nowhere."""
    token = (await born(house, "d"))[0]
    giants = [b'{"%s":1}' % (b"k" * size) for size in (256, 10_000, 60_000)]
    giants += [('{"' + "\N{SNOWMAN}" * 256 + '":1}').encode()]
    giants += [object_of((f"k{n}", n) for n in range(10_001))]
    async with memory_stays(house, "giant names", capsys):
        async with http(house.ports.http) as web:
            for body in giants * 20:
                for what in ("telemetry", "attributes"):
                    reply = await web.ask("POST", f"/api/v1/{token}/{what}", body)
                    assert reply.status == 400
            keys = ",".join(f"k{n}" for n in range(1001))
            reply = await web.ask("GET", f"/api/v1/{token}/attributes?clientKeys={keys}")
            assert reply.status in (400, 414)
        async with session_of(house, token, 5) as session:
            for body in giants[:3] * 20:
                session.publish(TELEMETRY, body, 1)
            assert await session.outcome() == [(PUBACK, 0x99)] * 60
        async with coap(house.ports.coap) as device:
            for body in giants[:1] * 20:
                answer = await device.ask(POST, f"api/v1/{token}/attributes", body)
                assert dotted(answer) == "4.00"
    for table in ("attribute", "reading", "latest_reading"):
        assert house.rows(f"SELECT count(*) FROM {table}") == [(0,)]
    await good_devices_are_served(house, "giants")


async def test_a_gateway_of_too_many_children(
    house: Gatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten thousand are served; one more is refused (0x97), while those before and others go on."""
    (token,) = await born(house, "gw", gateway=True)
    async with session_of(house, token, 5) as session:  # noqa: SIM117 - the two are of two kinds
        async with memory_stays(house, f"{CHILDREN} children of one gateway", capsys):
            for start in range(0, CHILDREN, 1000):
                body = object_of((f"c{n}", [{"n": n}]) for n in range(start, start + 1000))
                await _delivered(session, "v1/gateway/telemetry", body)
            for n in range(CHILDREN, CHILDREN + 30):
                for topic, body in (
                    ("connect", object_of([("device", f"c{n}")])),
                    ("telemetry", object_of([(f"c{n}", [{"n": n}])])),
                ):
                    session.publish(f"v1/gateway/{topic}", body, 1)
            assert await session.outcome() == [(PUBACK, 0x97)] * 60
            await good_devices_are_served(house, "among-children")
            await _delivered(session, "v1/gateway/telemetry", b'{"c0":[{"n":-1}]}')
            session.publish("v1/gateway/disconnect", b'{"device":"c1"}', 1)
            await session.expect(PUBACK)
            await _delivered(session, "v1/gateway/telemetry", b'{"in its place":[{"n":1}]}')
    born_here = "SELECT count(*) FROM device WHERE creator_id IS NOT NULL"
    assert house.rows(born_here) == [(CHILDREN + 1,)]
    present = "SELECT count(*) FROM presence WHERE online = 1"
    await until(lambda: house.rows(present) == [(0,)], 10, "children outlive their gateway")


async def _delivered(session: Mqtt, topic: str, body: bytes) -> None:
    """At QoS 1, acknowledged as a success (MQTT 5 may leave the reason out)."""
    session.publish(topic, body, 1)
    assert (await session.expect(PUBACK)).body[2:] in (b"", b"\0", b"\0\0")


# ── packages ──────────────────────────────────────────────────────────────────────────────────


async def test_titles_that_are_paths(house: Gatehouse, tmp_path: Path) -> None:
    """A title leads nowhere: contents lie under their digest, and the assigned one is given."""
    tokens = await born(house, "d", "none")
    title = "../../../../etc/passwd"
    (tmp_path / "data" / "secret").write_text("not for devices")
    asked = [title, "/etc/passwd", "../secret", "..%2f..%2fsecret", "%2e%2e/secret", "x\0y"]
    async with beside(house) as people:
        package = await people.assign("d", title, b"firmware", tmp_path / "fw")
        assert [one.name for one in (tmp_path / "data" / "packages").iterdir()] == [package.file]
        assert package.file.isalnum()
    async with http(house.ports.http) as web, coap(house.ports.coap) as device:
        for token in tokens:
            for one in asked:
                own = (token, one) == (tokens[0], title)
                query = f"title={_quoted(one)}&version=1"
                reply = await web.ask("GET", f"/api/v1/{token}/firmware?{query}")
                wrong = 400 if token == tokens[0] else 404
                assert (reply.status, reply.body == b"firmware") == ((200 if own else wrong), own)
                answer = await device.ask(GET, f"fw/{token}", query=[f"title={one}", "version=1"])
                code = "2.05" if own else ("4.00" if token == tokens[0] else "4.04")
                assert (dotted(answer), answer.payload == b"firmware") == (code, own)
        for path in ("../secret", "..%2fsecret", "%2e%2e%2fsecret"):
            reply = await web.ask("GET", f"/api/v1/{tokens[0]}/firmware/{path}")
            assert reply.status == 404
            assert b"not for devices" not in reply.body


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


# ── CoAP ──────────────────────────────────────────────────────────────────────────────────────


async def test_floods_of_observations(
    new_gatehouse: NewGatehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    """So many as may observe; the others are told "later", strangers cost nothing more."""
    most = 100  # and there are more devices than that
    house = new_gatehouse(GATEHOUSE_COAP_MAX_OBSERVATIONS=str(most))
    house.start()
    tokens = await born(house, *(f"d{n}" for n in range(150)))
    async with coap(house.ports.coap) as flood, coap(house.ports.coap) as good:
        async with memory_stays(house, "13000 registrations", capsys):
            # One device again and again: the newer stands in place of the older.
            for number in range(5000):
                datagram, _ = flood.datagram(GET, f"api/v1/{tokens[0]}/attributes", observe=0)
                flood.transport.sendto(datagram)
                if number % 20 == 0:
                    await asyncio.sleep(0.002)
            # Strangers, and their guesses.
            for number in range(8_000):
                guess = f"{number:020d}"
                datagram, _ = flood.datagram(GET, f"api/v1/{guess}/attributes", observe=0)
                flood.transport.sendto(datagram)
                if number % 50 == 0:
                    await asyncio.sleep(0.002)
            assert dotted(await good.ask(GET, f"api/v1/{tokens[0]}/attributes")) == "4.04"
        watched = 0
        for token in tokens:
            first = await good.ask(GET, f"api/v1/{token}/attributes", observe=0)
            assert dotted(first) == ("5.03" if first.opt.observe is None else "2.05")
            watched += first.opt.observe is not None
        assert most - 1 <= watched <= most
        names = [f"d{n}" for n in range(150)]
        await until(lambda: len(online(house, *names)) >= most - 1, 5, "they were not kept")
        assert len(online(house, *names)) <= most
        async with beside(house) as people:
            good.raw.clear()
            await people.share_with_all("create", n=1)
            await until(lambda: len(good.raw) >= watched, 5, "an observer was not told")
    await good_devices_are_served(house, "observe")
    assert "Traceback" not in house.log()


async def test_wrong_tokens_as_quickly_as_they_go(house: Gatehouse) -> None:
    """Logins that are refused leave nothing behind: no session, no device, no presence."""
    for number in range(300):
        async with mqtt(house.ports.mqtt, (3, 4, 5)[number % 3]) as session:
            assert await session.connect("c", f"guess-{number}") != 0
            assert await session.next() is None
    for table in ("device", "presence"):
        assert house.rows(f"SELECT count(*) FROM {table}") == [(0,)]
    await good_devices_are_served(house, "guesses")
