"""`kill -9` while devices are being signed for: no certificate is out that is not written down."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import certs
import pytest
from beside import until
from house import NewGatehouse
from lines import SECURE, identity_in
from secured import Secured, SigningStorm

KILLS = 4


def number_of(identity: certs.Issued) -> bytes:
    return identity.certificate.serial_number.to_bytes(20)


async def test_what_was_signed_survives_kill_9(
    new_gatehouse: NewGatehouse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every certificate that was answered is ISSUED, its device exists and logs in with it; no key
    is certified twice, no serial number given twice."""
    secured = Secured(new_gatehouse, tmp_path)
    house = secured.house
    given: dict[str, certs.Issued] = {}
    asked = 0
    for kill in range(KILLS):
        storm = SigningStorm(house, f"k{kill}")
        async with storm.raging():
            await asyncio.sleep(random.uniform(0.1, 0.5))
            await until(storm.has_given, 15, "nothing was signed")
            house.kill()
        assert storm.refused == []
        house.start()
        assert house.rows("PRAGMA integrity_check") == [("ok",)]
        given |= storm.given
        asked += len(storm.asked)
        for name in random.sample(list(storm.given), min(2, len(storm.given))):
            for wire in SECURE:
                assert await secured.answer(wire, storm.given[name]) in ("200", "CONNACK 0", "2.01")
    assert given
    written = {
        serial: (state, device)
        for serial, state, device in house.rows(
            "SELECT serial, state, device.name FROM certificate"
            " LEFT JOIN device ON device.id = device_id"
        )
    }
    for name, identity in given.items():
        assert written[number_of(identity)] == ("issued", name)
    assert house.rows("SELECT name FROM device GROUP BY name HAVING count(*) > 1") == []
    assert (
        house.rows(
            "SELECT key_digest FROM certificate WHERE state = 'issued'"
            " GROUP BY key_digest HAVING count(*) > 1"
        )
        == []
    )
    whole = "SELECT count(*) FROM device LEFT JOIN certificate ON device_id = device.id"
    assert house.rows(f"{whole} AND state = 'issued' WHERE serial IS NULL") == [(0,)]
    with capsys.disabled():
        print(f"\n{KILLS} kills: {asked} asked, {len(given)} certificates answered")


async def test_a_key_is_not_lost_to_a_kill(new_gatehouse: NewGatehouse, tmp_path: Path) -> None:
    """A device whose answer was lost asks again with its key and gets a certificate: the one that
    was signed before the kill, or its first."""
    secured = Secured(new_gatehouse, tmp_path)
    storm = SigningStorm(secured.house, "lost")
    async with storm.raging():
        await until(lambda: len(storm.given) >= 5, 15, "nothing was signed")
        secured.house.kill()
    secured.house.start()
    signed = dict(
        secured.house.rows(
            "SELECT device.name, serial FROM certificate JOIN device ON device.id = device_id"
        )
    )
    unheard = [name for name in storm.asked if name not in storm.given]
    assert unheard
    for name in unheard:
        key = storm._keys[name]
        async with secured.line("https") as device:
            request = json.loads(secured.house.request(name))
            answer = await device.provision({**request, "csr": certs.csr(key)})
        identity = identity_in(answer, key)
        assert number_of(identity) == signed.get(name, number_of(identity))
        assert await secured.answer("mqtts", identity) == "CONNACK 0"
    written = secured.house.rows(
        "SELECT device.name, count(*) FROM certificate JOIN device ON device.id = device_id"
        " GROUP BY device.name"
    )
    assert {name: count for name, count in written if name in unheard} == dict.fromkeys(unheard, 1)


async def test_renewals_and_revocations_survive_kill_9(
    new_gatehouse: NewGatehouse, tmp_path: Path
) -> None:
    """A pending certificate is pending after the kill, and one that was used is the only one."""
    secured = Secured(new_gatehouse, tmp_path)
    first, second = await secured.signed("first"), await secured.signed("second")
    renewed = []
    for identity in (first, second):
        key = certs.new_key()
        async with secured.line("mqtts", identity) as device:
            assert await device.enter() == "CONNACK 0"
            renewed.append(identity_in(await device.renew(certs.csr(key)), key))
    assert await secured.answer("coaps", renewed[1]) == "2.01"
    secured.house.kill()
    secured.house.start()
    assert await secured.answer("mqtts", first) == "CONNACK 0"
    assert await secured.answer("mqtts", renewed[0]) == "CONNACK 0"
    assert await secured.answer("mqtts", first) == "CONNACK 5"
    assert await secured.answer("mqtts", second) == "CONNACK 5"
    assert await secured.answer("mqtts", renewed[1]) == "CONNACK 0"
