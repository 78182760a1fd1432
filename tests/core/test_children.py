"""Devices behind a gateway: found by name, born once, and not just anybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.children import Children
from gateway.core.model import (
    Admission,
    Device,
    Peer,
    Policy,
    Provisioned,
    RefusalReason,
    Refused,
    Wire,
)
from gateway.core.provisioning import Provisioner
from gateway.core.registry import Registry
from gateway.store.sql_store import SqlStore

PEER = Peer(Wire.MQTT, "192.0.2.7:50123")


@pytest.fixture
def children(store: SqlStore, clock: Any, tokens: Callable[[], str]) -> Children:
    return Children(store, clock, tokens)


@pytest.fixture
async def gateways(new_fleet: Callable[..., Any], provisioner: Provisioner) -> list[Device]:
    """Two gateways of one organisation."""
    fleet = await new_fleet(name="gateways")
    born = [await provisioner.provision(fleet.request(name, gateway=True)) for name in ("g1", "g2")]
    assert all(isinstance(one, Provisioned) for one in born)
    return [one.device for one in born]  # type: ignore[union-attr]


async def test_a_child_is_born_when_first_mentioned(
    children: Children, gateways: list[Device], registry: Registry
) -> None:
    """It belongs to a profile of its type, made for it, and knows its gateway."""
    child = await children.enter(gateways[0], "pump", "thermostat", PEER)
    assert isinstance(child, Device)
    assert (child.name, child.type) == ("pump", "thermostat")
    assert child.creator_id == gateways[0].id
    profile = await registry.profile("thermostat")
    assert profile is not None
    assert child.profile_id == profile.id


async def test_many_mentions_at_once_make_one_device(
    children: Children, gateways: list[Device]
) -> None:
    """Of any number of simultaneous first mentions exactly one makes the device."""
    found = await asyncio.gather(
        *(children.enter(gateways[number % 2], "pump", "t", PEER) for number in range(40))
    )
    assert len({child.id for child in found if isinstance(child, Device)}) == 1
    assert not any(isinstance(child, Refused) for child in found)


async def test_an_existing_device_is_taken_over_unless_its_profile_forbids(
    children: Children, gateways: list[Device], new_fleet: Callable[..., Any]
) -> None:
    """As in ThingsBoard by default; with `gateway_may_adopt = false` only its creator may."""
    open_fleet = await new_fleet(name="open")
    closed = await new_fleet(name="closed", gateway_may_adopt=False)
    ours, theirs = await open_fleet.waiting("ours"), await closed.waiting("theirs")
    taken = await children.enter(gateways[0], "ours", "ignored", PEER)
    assert isinstance(taken, Device)
    assert (taken.id, taken.type) == (ours.id, ours.type)
    refused = await children.enter(gateways[0], "theirs", "closed", PEER)
    assert refused == Refused(RefusalReason.NOT_ITS_GATEWAY)
    made = await children.enter(gateways[0], "made", "closed", PEER)
    assert isinstance(made, Device)
    assert made.profile_id == theirs.profile_id
    assert isinstance(await children.enter(gateways[0], "made", "closed", PEER), Device)
    stranger = await children.enter(gateways[1], "made", "closed", PEER)
    assert stranger == Refused(RefusalReason.NOT_ITS_GATEWAY)


@pytest.mark.parametrize(
    ("name", "device_type", "reason"),
    [
        ("a\x00b", "t", RefusalReason.NAME_INVALID),
        ("x" * 256, "t", RefusalReason.NAME_INVALID),
        ("ok", "a\nb", RefusalReason.TYPE_INVALID),
    ],
)
async def test_names_are_held_to_the_rules_of_names(
    children: Children, gateways: list[Device], name: str, device_type: str, reason: RefusalReason
) -> None:
    """A gateway cannot bring in what a device could not be called."""
    assert await children.enter(gateways[0], name, device_type, PEER) == Refused(reason)


async def test_refusals_are_written_down_but_not_all_of_a_flood(
    children: Children,
    gateways: list[Device],
    new_fleet: Callable[..., Any],
    registry: Registry,
    store: SqlStore,
    clock: Any,
) -> None:
    """A gateway mentions a device with all it sends for it: a hundred at once are enough, and the
    next that is written down tells how many were not."""
    policy = Policy(admission=Admission(max_devices=1))
    few = await new_fleet(name="few", policy=policy)
    await few.waiting("theirs")
    found = await asyncio.gather(
        *(children.enter(gateways[0], f"n{number}", "few", PEER) for number in range(130))
    )
    assert set(found) == {Refused(RefusalReason.PROFILE_FULL)}
    clock.now += 1000
    await children.enter(gateways[0], "last", "few", PEER)
    await store.writer.settled()
    events = await registry.events(limit=1000)
    refused = [one for one in events if one.reason == "profile_full"]
    assert len(refused) == 101
    (last,) = [one for one in refused if one.subject == "last"]
    assert dict(last.detail) == {"gateway": "g1", "refusals not written down before": "30"}
