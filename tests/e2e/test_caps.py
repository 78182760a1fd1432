"""Bounds on the number of devices, told to gateways and to Blynk's devices in their own words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from queue import Queue
from typing import Any

import paho.mqtt.client as paho
from blynk_binary import HW_LOGIN, INTERNAL, board
from blynk_ground import TEMPLATE, BlynkGate, blynk_on
from blynk_talk import connected, info, noted
from contract import add_gateway, gateway_of
from inside import Gate, NewGate
from msgspec import structs
from wires import GET, PUBACK, Mqtt, coap, dotted

from gateway.core.model import Admission, DeviceProfile, EventKind, Policy
from gateway.core.registry import ProfileDraft

CONNECT, TELEMETRY = "v1/gateway/connect", "v1/gateway/telemetry"
NO_ROOM = b'{"error":{"message":"Device limit has been reached."}}'
OK, QUOTA = 200, 1


async def bound(gate: Gate, name: str, most: int | None) -> None:
    """Bound the number of devices of a profile, which is made if it is not there."""
    profile = await gate.registry.profile(name) or DeviceProfile(id=0, name=name)
    bounded = structs.replace(profile, policy=Policy(admission=Admission(max_devices=most)))
    await gate.registry.save_profile(ProfileDraft(profile=bounded))
    gate.gateway.feed.nudge()


async def test_a_gateway_is_told_that_there_is_no_room_for_its_device(gate: Gate) -> None:
    """0x97, as where ThingsBoard's tenant may have no more devices; acknowledged in MQTT 3, and the
    connection stays. The devices that are there are served, in the same message, too, and a place
    that is given up is taken. Each refusal is written down."""
    await bound(gate, "thermostat", 1)
    for version in (4, 5):
        full = 0x97 if version == 5 else 0
        async with gateway_of(gate, version) as session:
            for name, code in (("A", 0), ("B", full)):
                asked = {"device": name, "type": "thermostat"}
                assert await acknowledged(session, CONNECT, asked) == code
            await bound(gate, "default", 1)
            rows = ({"A": [{"t": version}], "C": [{"t": 1}]}, 0), ({"D": [], "A": [{"u": 1}]}, full)
            for sent, code in rows:
                assert await acknowledged(session, TELEMETRY, sent) == code
        assert await gate.readings("A") == {"t": version, "u": 1}
        assert await gate.registry.device("B") is None
        gone = await gate.registry.device("gw")
        assert gone is not None
        assert await gate.registry.remove_device(gone)
    await gate.gateway.store.writer.settled()
    told = [
        (one.subject, one.reason, one.detail)
        for one in await gate.registry.last_events(limit=1000)
        if one.kind is EventKind.DEVICE_CREATE and one.reason
    ]
    assert told == [(name, "profile_full", {"gateway": "gw"}) for name in "BDBD"]


async def test_a_gateway_that_uses_paho_hears_of_it_and_goes_on(gate: Gate) -> None:
    """Its client is told 151, QUOTA_EXCEEDED, with the reason as text, and stays connected."""
    await bound(gate, "thermostat", 1)
    token = await add_gateway(gate)
    told = await asyncio.to_thread(connected_by_paho, gate.ports.mqtt, token, ("A", "B", "A"))
    assert told == [(0, ""), (0x97, "a device was refused: profile_full"), (0, "")]


def connected_by_paho(port: int, token: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """What Paho's client hears of each device that it connects, one after the other."""
    heard: Queue[tuple[int, str]] = Queue()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_publish = lambda _client, _data, _mid, code, properties: heard.put(
        (code.value, getattr(properties, "ReasonString", ""))
    )
    client.username_pw_set(token)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        told = []
        for name in names:
            client.publish(CONNECT, json.dumps({"device": name, "type": "thermostat"}), 1)
            told.append(heard.get(timeout=10))
        return told
    finally:
        client.disconnect()
        client.loop_stop()


async def acknowledged(session: Mqtt, topic: str, value: Any) -> int:
    """The reason code of a publish; 0 of one that has none."""
    session.publish(topic, json.dumps(value).encode(), 1)
    got = await session.expect(PUBACK)
    return got.body[2] if len(got.body) > 2 else 0


async def test_a_token_stays_good_while_there_is_no_room(new_gate: NewGate) -> None:
    """Over each of Blynk's wires, and whoever shows it is not taken for a stranger who guesses."""
    gate = await new_gate(blynk={"bad_tokens": "2:60"}, blynk_tcp={"enabled": True})
    async with blynk_on(gate) as blynk:
        await bound(gate, "Water Meter", 1)
        _, record = await blynk.born()
        token = await blynk.issue()
        for _ in range(3):
            reply = await blynk.claim(token)
            assert (reply.status, reply.body) == (403, NO_ROOM)
        assert await over_coap(blynk, token) == "4.03"
        for version in (4, 5):
            async with connected(blynk, token, version) as session:
                number = session.publish("info/mcu", info(), 1)
                assert await noted(session, number, 0x97) == b"Device limit has been reached."
        async with board(gate.ports.blynk_tcp) as device:
            assert await device.login(token, HW_LOGIN) == OK
            assert await device.ask(INTERNAL, "ver", "1.4.0", "tmpl", TEMPLATE) == QUOTA
            assert await blynk.device(token) is None
            await blynk.services.inventory.remove(blynk.admin, record)
            assert await device.ask(INTERNAL, "ver", "1.4.0", "tmpl", TEMPLATE) == OK
        assert await blynk.device(token) is not None


async def over_coap(blynk: BlynkGate, token: str) -> str:
    async with coap(blynk.ports.coap) as device:
        query = [f"token={token}", f"templateId={TEMPLATE}"]
        return dotted(await device.ask(GET, "/external/api/provision", query=query))
