"""`kill -9` in the middle of it: whatever was answered is true after the restart."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest
from house import HUNG_UP, Gatehouse, NewGatehouse, NewStorm, Storm
from wires import http, mqtt, provision

KILLS = 20


async def test_what_was_answered_survives_kill_9(
    new_gatehouse: NewGatehouse, new_storm: NewStorm, capsys: pytest.CaptureFixture[str]
) -> None:
    """After each of twenty kills every answered credential logs in, once born, with its event."""
    house = new_gatehouse()
    answered: dict[str, str] = {}
    unheard = asked = 0
    wires = {"http": 0, "mqtt": 0, "coap": 0}
    house.start()
    for kill in range(KILLS):
        storm = new_storm(house, f"k{kill}")
        async with storm.raging():
            await asyncio.sleep(random.uniform(0.02, 0.4))
            house.kill()
        assert storm.refused == []
        house.start()
        assert house.rows("PRAGMA integrity_check") == [("ok",)]
        await all_log_in(house, storm.answered)
        unheard += await what_was_not_answered_is_whole(house, storm)
        answered |= storm.answered
        asked += len(storm.asked)
        wires = {wire: count + storm.by_wire[wire] for wire, count in wires.items()}
    assert all(wires.values())
    every_answer_has_its_event(house, answered)
    await all_log_in(house, answered)
    with capsys.disabled():
        print(f"\n{KILLS} kills: {asked} asked, {len(answered)} answered {wires}, {unheard} not")


async def test_a_claim_answered_before_the_kill_stays_claimed(new_gatehouse: NewGatehouse) -> None:
    """Pre-provisioned devices: what was claimed before the kill cannot be claimed after it."""
    house = new_gatehouse()
    house.start()
    house.add(*(f"w{number}" for number in range(60)))
    claimed: list[int] = []

    async def claim(number: int) -> None:
        wire = ("http", "mqtt311", "coap")[number % 3]
        answer = await provision(house.ports, wire, house.request(f"w{number}", "check"))
        assert b"SUCCESS" in answer
        claimed.append(number)
        if len(claimed) == 25:
            house.kill()

    tasks = [asyncio.create_task(claim(number)) for number in range(50)]
    while house.process is not None:
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    house.start()
    assert house.rows("PRAGMA integrity_check") == [("ok",)]
    for number in range(60):
        answer = await provision(house.ports, "http", house.request(f"w{number}", "check"))
        if number in claimed:
            assert b"FAILURE" in answer, f"w{number} was claimed twice"
        if number >= 50:
            assert b"SUCCESS" in answer


@pytest.mark.parametrize("wire", ["http", "coap"])
async def test_an_answer_that_a_kill_swallowed_is_given_again(
    new_gatehouse: NewGatehouse, wire: str
) -> None:
    """Devices with a nonce, some killed before their commit and some after it: asked again after
    the restart, over any wire, each has one credential, those that were answered that of before."""
    house = new_gatehouse()
    house.start()
    told: dict[str, bytes] = {}

    def asked(name: str) -> bytes:
        nonce = f"the-nonce-of-{name:>20}"
        return house.request(name)[:-1] + f',"nonce":"{nonce}"}}'.encode()

    async def ask(name: str) -> None:
        with suppress(*HUNG_UP):
            answer = await provision(house.ports, wire, asked(name))
            if len(told) == 8:
                return  # what arrives later is lost
            told[name] = answer
            if len(told) == 8:
                house.kill()
                for task in tasks:
                    task.cancel()

    names = [f"n{number}" for number in range(40)]
    tasks = [asyncio.create_task(ask(name)) for name in names]
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(told) == 8
    house.start()
    there = {name for (name,) in house.rows("SELECT name FROM device")}
    assert there >= told.keys()
    wires = ("http", "coap", "mqtt5")
    for number, name in enumerate(names):
        answer = await provision(house.ports, wires[number % 3], asked(name))
        assert b"SUCCESS" in answer
        assert told.get(name, answer) == answer
    assert sorted(house.rows("SELECT name FROM device")) == sorted((name,) for name in names)
    assert house.rows("SELECT count(*) FROM credentials") == [(len(names),)]


async def all_log_in(house: Gatehouse, answered: dict[str, str]) -> None:
    """Each token opens HTTP, some an MQTT session."""
    async with http(house.ports.http) as web:
        for name, token in answered.items():
            reply = await web.ask("GET", f"/api/v1/{token}/attributes?clientKeys=x")
            assert reply.status == 200, f"{name} was answered and is unknown after the kill"
    for token in random.sample(list(answered.values()), min(5, len(answered))):
        async with mqtt(house.ports.mqtt) as session:
            assert await session.connect("c", token) == 0


async def what_was_not_answered_is_whole(house: Gatehouse, storm: Storm) -> int:
    """A device whose answer was lost exists with credentials and event, or not at all."""
    unheard = [name for name in storm.asked if name not in storm.answered]
    marks = ",".join("?" * len(unheard))
    born = house.rows(
        "SELECT d.name, (SELECT count(*) FROM credentials WHERE device_id = d.id),"
        " (SELECT count(*) FROM event WHERE device_id = d.id AND kind = 'device:provision'"
        " AND outcome = 'success')"
        f" FROM device d WHERE d.name IN ({marks})",
        *unheard,
    )
    assert all(row[1:] == (1, 1) for row in born), born
    names = {row[0] for row in born}
    for name in unheard:
        answer = await provision(house.ports, "http", house.request(name))
        assert (b"FAILURE" if name in names else b"SUCCESS") in answer, name
    return len(unheard)


def every_answer_has_its_event(house: Gatehouse, answered: dict[str, str]) -> None:
    """One device and one event of success for each name, and for each answered name both."""
    assert house.rows("SELECT name FROM device GROUP BY name HAVING count(*) > 1") == []
    granted = dict(
        house.rows(
            "SELECT subject, count(*) FROM event"
            " WHERE kind = 'device:provision' AND outcome = 'success' GROUP BY subject"
        )
    )
    assert granted.keys() >= answered.keys()
    assert set(granted.values()) == {1}
    assert [(len(granted),)] == house.rows("SELECT count(*) FROM device")
