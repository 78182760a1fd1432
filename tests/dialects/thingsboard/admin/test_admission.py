"""Allow-lists and deny-lists over REST, and policies in `profileData.gatehouse`."""

from __future__ import annotations

from typing import Any

import pytest
from desk_case import DeskCase

from gateway.core.model import (
    PLAIN_POLICY,
    Admission,
    DeviceProfile,
    HookRule,
    Policy,
    Reprovisioning,
)
from gateway.core.registry import ProfileDraft

PAGE = "?pageSize=10&page=0"
DEFAULTS = {"name": "Sensors", "type": "DEFAULT", "transportType": "DEFAULT"}


@pytest.fixture
async def place(case: DeskCase) -> str:
    """The address of the lists of a profile that a file defines."""
    draft = DeviceProfile(id=0, name="fleet", source="fleet.toml")
    await case.registry.save_profile(ProfileDraft(profile=draft))
    stored = await case.registry.profile("fleet")
    assert stored is not None
    return f"/api/deviceProfile/{stored.uuid}/admission"


def entries(**kinds: list[str]) -> dict[str, Any]:
    return {
        "entries": [
            {"kind": kind, "value": value} for kind, values in kinds.items() for value in values
        ]
    }


async def test_lists_are_added_to_paged_searched_and_taken_from(
    case: DeskCase, place: str, clock: Any
) -> None:
    """In their normal forms; what is there already, or is not there, is counted as such."""
    sent = entries(name=["WM-1", "WM-2"], mac=["AA-BB-CC-00-11-22", "aabb.cc00.1122"])
    answer = await case.post(f"{place}/allow", sent)
    assert (answer.status, answer.json) == (200, {"added": 3, "known": 0})
    answer = await case.post(f"{place}/allow", entries(name=["WM-2", "WM-3"]))
    assert answer.json == {"added": 1, "known": 1}
    page = (await case.get(f"{place}/allow?pageSize=2&page=1")).json
    assert page == {
        "data": [
            {"kind": "name", "value": name, "createdTime": clock.now} for name in ("WM-2", "WM-3")
        ],
        "totalPages": 2,
        "totalElements": 4,
        "hasNext": False,
    }
    found = (await case.get(f"{place}/allow{PAGE}&textSearch=CC:")).json
    assert [one["value"] for one in found["data"]] == ["aa:bb:cc:00:11:22"]
    assert (await case.get(f"{place}/deny{PAGE}")).json["totalElements"] == 0
    answer = await case.post(f"{place}/allow/remove", entries(name=["WM-1", "WM-9"]))
    assert answer.json == {"removed": 1, "unknown": 1}
    assert (await case.get(place)).json == {
        "allow": {"name": 2, "serial": 0, "mac": 1},
        "deny": {"name": 0, "serial": 0, "mac": 0},
        "allowListUsed": False,
    }


async def test_a_text_or_a_table_may_be_sent(case: DeskCase, place: str) -> None:
    """A value a line, of the kind that is named; or what the header says."""
    shown = {"X-Authorization": await case.bearer("admin")}
    text = {**shown, "Content-Type": "text/plain; charset=utf-8"}
    answer = await case.post(f"{place}/deny?kind=serial", b"SN-1\nsn-1\nSN-2\n", headers=text)
    assert answer.json == {"added": 2, "known": 0}
    table = {**shown, "Content-Type": "text/csv"}
    body = b"site,name,mac\nA,WM-1,aabbccddeeff\nB,,\n"
    assert (await case.post(f"{place}/deny", body, headers=table)).json["added"] == 2
    assert (await case.get(place)).json["deny"] == {"name": 1, "serial": 2, "mac": 1}
    answer = await case.post(f"{place}/deny", b"name,mac\nWM-7,bad\n", headers=table)
    assert (answer.status, answer.message.startswith("row 2: a MAC")) == (400, True)
    answer = await case.post(f"{place}/deny?kind=odd", b"x", headers=text)
    assert (answer.status, answer.message) == (400, "kind must be name, serial or mac")
    lots = b"".join(b"n%d\n" % number for number in range(10_001))
    answer = await case.post(f"{place}/deny", lots, headers=text)
    assert (answer.status, answer.message) == (400, "At most 10000 entries at once")
    assert (await case.get(place)).json["deny"]["name"] == 1


async def test_what_is_wrong_changes_nothing(case: DeskCase, place: str) -> None:
    """The first fault is named; nothing of the body is repeated."""
    bad = entries(name=["WM-1"], mac=["nothing"])
    answer = await case.post(f"{place}/allow", bad)
    assert (answer.status, answer.message.startswith("entries[1]: a MAC has six")) == (400, True)
    assert "nothing" not in answer.text
    for body in (None, b"", [], {"entries": [{"value": 7}]}, {"entries": [{"kind": "x"}]}):
        assert (await case.post(f"{place}/allow", body)).status == 400
    assert (await case.post(f"{place}/maybe", entries())).status == 404
    assert (await case.get(place)).json["allow"]["name"] == 0


# ── policies ──────────────────────────────────────────────────────────────────────────────────


async def saved(case: DeskCase, as_: str = "admin", **body: Any) -> Any:
    answer = await case.post("/api/deviceProfile", {**DEFAULTS, **body}, as_=as_)
    assert answer.status == 200, answer.text
    return answer.json


async def policy(case: DeskCase, profile: Any) -> Policy:
    found = await case.catalogue.find(case.operator, profile["id"]["id"])
    assert found is not None
    return found.policy


async def test_a_policy_is_saved_told_and_changed_in_part(case: DeskCase) -> None:
    """With the keys of a profile file; what is absent stays, a null puts a key back."""
    sent = {
        "retry_window": "1h",
        "reprovisioning": "reset",
        "admission": {
            "allow": ["WM-*"],
            "allow_list": True,
            "opens_at": "2026-12-01T07:00:00+01:00",
            "max_devices": 5,
        },
    }
    made = await saved(case, profileData={"gatehouse": sent, "ours": 1})
    admission = {**sent["admission"], "opens_at": "2026-12-01T06:00:00Z"}  # type: ignore[dict-item]
    assert made["profileData"]["gatehouse"] == {**sent, "admission": admission}
    assert await policy(case, made) == Policy(
        retry_window_s=3600,
        reprovisioning=Reprovisioning.RESET,
        admission=Admission(
            allow=("WM-*",), allow_list=True, opens_at=1_796_104_800_000, max_devices=5
        ),
    )
    for part in ({}, {"profileData": {"ours": 2}}, {"profileData": {"gatehouse": {}}}):
        again = await saved(case, id=made["id"], **part)
        assert again["profileData"]["gatehouse"] == made["profileData"]["gatehouse"]
    changed = {"admission": {"deny": ["x"]}, "retry_window": None, "detailed_refusals": True}
    again = await saved(case, id=made["id"], profileData={"gatehouse": changed})
    assert again["profileData"]["gatehouse"] == {
        "reprovisioning": "reset",
        "detailed_refusals": True,
        "admission": {"deny": ["x"]},
    }
    again = await saved(case, id=made["id"], profileData={"gatehouse": None})
    assert "gatehouse" not in again["profileData"]
    assert await policy(case, made) == PLAIN_POLICY


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (7, "profileData.gatehouse: it is an object."),
        ({"retry_windows": "1h"}, "it has no setting `retry_windows`. Did you mean"),
        ({"retry_window": "soon"}, 'retry_window must be how long, as in "15m"'),
        ({"admission": []}, "`admission` is a section."),
        ({"admission": {"allow": ["^("]}}, '"^(": it cannot be used: missing )'),
        ({"admission": {"allow": ["a" * 257]}}, "a pattern has 1 to 256 characters"),
        ({"admission": {"allow": ["a"] * 101}}, "at most 100 of them"),
        ({"admission": {"hours": ["07:00-19:00 Mars/Base"]}}, "no such time zone"),
        ({"admission": {"networks": ["10.1.2.3/8"]}}, "write 10.0.0.0/8"),
        ({"admission": {"max_devices": 0}}, "a whole number between 1 and"),
        (
            {
                "admission": {
                    "opens_at": "2026-12-02T00:00:00Z",
                    "closes_at": "2026-12-01T00:00:00Z",
                }
            },
            "closes_at is not after opens_at",
        ),
        ({"hooks": {"before": {"entry_point": "os:abort"}}}, "may stand in a profile file alone"),
    ],
)
async def test_a_policy_that_is_none_is_refused(case: DeskCase, sent: Any, told: str) -> None:
    """With the sentence that a profile file would get; nothing is saved."""
    answer = await case.post("/api/deviceProfile", {**DEFAULTS, "profileData": {"gatehouse": sent}})
    assert answer.status == 400
    assert answer.message.startswith("profileData.gatehouse: ")
    assert told in answer.message
    assert await case.registry.profile("Sensors") is None


async def test_hooks_are_the_root_s_to_set(case: DeskCase) -> None:
    """A customer's administrator sets all else; what a file chose to run stays."""
    hooks = {"before": {"url": "https://erp.example/x", "secret_env": "BIRTH_HOOK_SECRET"}}
    body = {**DEFAULTS, "profileData": {"gatehouse": {"hooks": hooks}}}
    refused = await case.post("/api/deviceProfile", body, as_="boss")
    assert (refused.status, "root organisation" in refused.message) == (400, True)
    made = await saved(case, profileData={"gatehouse": {"hooks": hooks}})
    assert made["profileData"]["gatehouse"]["hooks"] == hooks
    theirs = await saved(case, "boss", profileData={"gatehouse": {"detailed_refusals": True}})
    assert (await policy(case, theirs)).detailed_refusals
    code = HookRule(entry_point="rules:before")
    stored = await case.catalogue.find(case.operator, made["id"]["id"])
    assert stored is not None
    draft = DeviceProfile(id=0, name="coded", policy=Policy(before=code))
    kept = await case.catalogue.save(case.operator, draft)
    again = await saved(
        case,
        id={"entityType": "DEVICE_PROFILE", "id": kept.uuid},
        name="coded",
        profileData={"gatehouse": {"detailed_refusals": True}},
    )
    assert (await policy(case, again)).before == code
