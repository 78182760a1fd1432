"""`gatehouse device show` and `list`: who is here, and what stands around a device."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.clock import now_ms
from gateway.core.children import Children
from gateway.core.model import Device, Download, PackageKind, Peer, Reading, Wire
from gateway.core.ports import PresenceUpdate
from gateway.core.tokens import new_token


@pytest.fixture
async def house(shell: Any) -> Any:
    """A gateway `gw` that is online, the device `child` behind it, and `away`, long gone."""
    await asyncio.to_thread(shell.ok, "device", "add", "gw", "away")
    async with shell.inside() as inside:
        gw = await inside.device("gw")
        children = Children(inside.store, now_ms, new_token)
        child = await children.enter(gw, "child", "sensor", Peer(Wire.MQTT, "192.0.2.7:50123"))
        assert isinstance(child, Device)
        now, node = now_ms(), await inside.store.enter_node(now_ms())
        here = PresenceUpdate(
            active_at=now, online=True, connected_at=now, wire="mqtt", address="192.0.2.7:50123"
        )
        behind = PresenceUpdate(active_at=now, online=True, connected_at=now, gateway_id=gw.id)
        past = now - 86_400_000
        gone = PresenceUpdate(active_at=past, online=False, disconnected_at=past)
        away = (await inside.device("away")).id
        await inside.store.save_presence(node, {gw.id: here, child.id: behind, away: gone}, now)
    return shell


def test_who_is_here_is_listed(house: Any) -> None:
    """--online shows those that are connected; every row tells its presence."""
    assert [one["name"] for one in house.json("device", "list", "--online")] == ["gw", "child"]
    online = {one["name"]: one["online"] for one in house.json("device", "list")}
    assert online == {"gw": True, "away": False, "child": True}
    rows = [line.split("\t") for line in house.ok("device", "list", "--all").splitlines()]
    told = {row[1]: row[rows[0].index("presence")] for row in rows[1:]}
    assert told["gw"] == "online"
    assert told["away"].startswith("seen ")
    assert house.ok("device", "list", "--online", "--all").count("\n") == 3


def test_presence_is_shown_with_where_it_came_from(house: Any) -> None:
    """A device that is here tells since when and from where; one behind a gateway tells which."""
    shown = house.json("device", "show", "gw")
    assert (shown["online"], shown["wire"]) == (True, "mqtt")
    assert shown["address"] == "192.0.2.7:50123"
    assert "online since" in house.ok("device", "show", "gw")
    child = house.json("device", "show", "child")
    assert (child["through"], child["creator"]) == ("gw", "gw")
    away = house.json("device", "show", "away")
    assert (away["online"], away["through"], away["creator"]) == (False, None, None)


def test_a_creator_that_is_gone_is_told_by_number(house: Any) -> None:
    """A removed gateway has no name any more."""
    house.ok("device", "remove", "gw", "--yes")
    assert "removed" in house.json("device", "show", "child")["creator"]


async def test_an_update_over_the_air_is_shown(house: Any) -> None:
    """What is assigned, what the device reports, and how much of it was downloaded."""
    (house.folder / "v.bin").write_bytes(bytes(1000))
    add = ("firmware", "add", "v.bin", "--title", "v", "--version", "2")
    await asyncio.to_thread(house.ok, *add)
    await asyncio.to_thread(house.ok, "firmware", "assign", "v", "2", "--device", "gw")
    async with house.inside() as inside:
        gw = await inside.device("gw")
        said = {"current_fw_title": "v", "current_fw_version": 1, "fw_state": "DOWNLOADING"}
        await inside.store.save_readings(gw, [Reading(1, *one) for one in said.items()])
        (package,) = await inside.registry.packages.all()
        part = Download(kind=PackageKind.FIRMWARE, package_id=package.id, sent=250, at=1)
        await inside.store.save_downloads({gw.id: [part]})

    shown = await asyncio.to_thread(house.json, "device", "show", "gw")
    assert shown["firmware"] == {
        "assigned": {"title": "v", "version": "2"},
        "title": "v",
        "version": "1",
        "state": "DOWNLOADING",
        "error": None,
        "downloaded_percent": 25,
    }
    assert shown["software"] is None
    text = await asyncio.to_thread(house.ok, "device", "show", "gw")
    assert "v 2 assigned, runs v 1, DOWNLOADING, 25 % downloaded" in text


def test_a_label_is_shown(shell: Any) -> None:
    """One that was given with `device add`; without one there is none, and one that cannot be is
    refused before anything is added."""
    add = ("device", "add", "--profile", "demo")
    assert shell.json(*add, "pump-1", "pump-2", "--label", "Boiler room")["added"] == 2
    shell.ok(*add, "plain")
    assert shell.json("device", "show", "pump-2")["label"] == "Boiler room"
    assert "Boiler room" in shell.ok("device", "show", "pump-1")
    assert shell.json("device", "show", "plain")["label"] is None
    assert "label" not in shell.ok("device", "show", "plain")
    assert shell(*add, "pump-1", "--label", "Other").exit_code == 1
    assert shell.json("device", "show", "pump-1")["label"] == "Boiler room"
    for wrong in (" ", "a\tb", "x" * 256):
        assert shell(*add, "pump-3", "--label", wrong).exit_code == 2, wrong
    assert shell("device", "show", "pump-3").exit_code == 1
