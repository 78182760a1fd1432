"""Profiles' hooks over REST: what was not told is seen, told again and dropped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from desk_case import DeskCase

from gateway.core.after_hooks import MOST_ATTEMPTS, AfterHooks
from gateway.core.model import (
    DeviceDraft,
    DeviceProfile,
    HookRule,
    HookTrouble,
    OnFailure,
    Policy,
)
from gateway.store.sql_hooks import SqlHooks

ALL = "/api/gatehouse/hooks"
URL = "https://erp.example:8443/hush/{}?key=hush"


class Ear:
    """An after-hook that is down until `up`."""

    def __init__(self) -> None:
        self.up = False
        self.heard: list[int] = []

    async def ask(self, *_: Any, **__: Any) -> object:
        raise AssertionError("an after-hook is told")

    async def tell(self, _rule: HookRule, body: bytes, **_: Any) -> HookTrouble | None:
        if not self.up:
            return HookTrouble("it answered with status 500")
        self.heard.append(json.loads(body)["seq"])
        return None


@pytest.fixture
async def hooked(case: DeskCase) -> DeviceProfile:
    """A profile with both hooks, and two devices that its after-hook did not want to hear of."""
    secret, kinds = "BIRTH_HOOK_SECRET", ("device:create",)
    policy = Policy(
        before=HookRule(url=URL.format("b"), secret_env=secret, on_failure=OnFailure.ALLOW),
        after=HookRule(url=URL.format("a"), secret_env=secret, events=kinds),
    )
    draft = DeviceProfile(id=0, name="meter", policy=policy)
    profile = await case.catalogue.save(case.actor("admin"), draft)
    for name in ("d1", "d2"):
        await case.inventory.create(case.operator, DeviceDraft(name=name, profile_id=profile.id))
    await tell(case, Ear(), 2 * MOST_ATTEMPTS + 2)
    return profile


async def tell(case: DeskCase, ear: Ear, rounds: int = 2) -> None:
    """As the gateway does it; between two rounds all waits are over."""
    after = AfterHooks(SqlHooks(case.store), ear, case.clock)
    for _ in range(rounds):
        await after.look()
        await after.settle()
        case.clock.now += 600_000


async def test_what_was_given_up_is_seen_and_told_again(
    case: DeskCase, hooked: DeviceProfile
) -> None:
    """In pages, in order; of addresses the servers alone are told."""
    [line] = (await case.get(ALL)).json
    assert line == {
        "deviceProfileId": {"id": hooked.uuid, "entityType": "DEVICE_PROFILE"},
        "deviceProfileName": "meter",
        "before": {"place": "https://erp.example:8443", "onFailure": "allow"},
        "after": {"place": "https://erp.example:8443", "events": ["device:create"]},
        "waiting": 0,
        "dead": 2,
        "lastFailure": "it answered with status 500",
    }
    dead = f"{ALL}/{hooked.uuid}/dead"
    first = (await case.get(f"{dead}?limit=1")).json
    rest = (await case.get(f"{dead}?limit=2&after={first['next']}")).json
    assert rest["next"] is None
    found = first["data"] + rest["data"]
    assert [one["event"]["deviceName"] for one in found] == ["d1", "d2"]
    assert {(one["attempts"], one["reason"]) for one in found} == {
        (MOST_ATTEMPTS, "it answered with status 500")
    }
    seqs = [one["seq"] for one in found]
    replay, ear = f"{ALL}/{hooked.uuid}/replay", Ear()
    ear.up = True
    assert (await case.post(replay, {"seq": seqs[1]})).json == {"replayed": 1}
    await tell(case, ear)
    assert (await case.post(replay)).json == {"replayed": 1}
    await tell(case, ear)
    assert (await case.post(replay, {"seq": seqs[0]})).json == {"replayed": 1}, "it was told"
    await tell(case, ear)
    assert ear.heard == [seqs[1], seqs[0], seqs[0]]
    assert (await case.get(dead)).json == {"data": [], "next": None}
    await case.store.writer.settled()
    logs = (await case.get("/api/audit/logs?pageSize=100&page=0")).text
    assert logs.count("hook:replay") == 3
    assert logs.count('"hook:dead"') == 2


async def test_what_was_not_told_is_dropped(case: DeskCase, hooked: DeviceProfile) -> None:
    """What was given up; on demand what waits as well. A profile whose hook is gone has its
    leftovers dropped too."""
    drop = f"{ALL}/{hooked.uuid}/drop"
    [first, _] = (await case.get(f"{ALL}/{hooked.uuid}/dead")).json["data"]
    await case.post(f"{ALL}/{hooked.uuid}/replay", {"seq": first["seq"]})
    assert (await case.post(drop)).json == {"dropped": 1}
    assert (await case.get(ALL)).json[0]["waiting"] == 1
    assert (await case.post(drop, {"waiting": True})).json == {"dropped": 1}
    assert (await case.get(ALL)).json[0]["waiting"] == 0


async def test_what_cannot_be_is_refused(case: DeskCase, hooked: DeviceProfile) -> None:
    """With a sentence that says why; a customer's tenant sees none of the root's hooks."""
    plain = await case.catalogue.save(case.actor("admin"), DeviceProfile(id=0, name="plain"))
    replay = f"{ALL}/{hooked.uuid}/replay"
    assert "no after-hook" in (await case.post(f"{ALL}/{plain.uuid}/replay")).message
    assert "999999" in (await case.post(replay, {"seq": 999_999})).message
    for sent in ({"seq": 0}, {"seq": "1"}, {"seq": 2**64}, [1]):
        assert (await case.post(replay, sent)).status == 400
    assert (await case.get(f"{ALL}/{hooked.uuid}/dead?limit=0")).status == 400
    assert (await case.get(ALL, as_="boss")).json == []
    assert (await case.post(f"{ALL}/{hooked.uuid}/drop", as_="boss")).status == 404
