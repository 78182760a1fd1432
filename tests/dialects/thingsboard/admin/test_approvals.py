"""Devices that wait for an operator's word, over REST."""

from __future__ import annotations

import pytest

from gateway.core.awaiting import BIRTH, Asking
from gateway.core.model import (
    Admission,
    DeviceProfile,
    Json,
    Peer,
    Permission,
    Policy,
    ProvisionType,
    Wire,
)
from gateway.core.registry import ProfileDraft
from gateway.store.sql_approvals import SqlApprovals

PAGE = "/api/gatehouse/approvals?pageSize=10&page=0"
ONE = "/api/gatehouse/approvals/"


@pytest.fixture
async def asks(case, clock):
    """A device of the tenant's asks."""
    kind, policy = (
        ProvisionType.ALLOW_CREATE_NEW_DEVICES,
        Policy(admission=Admission(approval=True)),
    )
    draft = DeviceProfile(id=0, name="fleet", provision_type=kind, policy=policy)
    await case.registry.save_profile(ProfileDraft(profile=draft))
    profile = await case.registry.profile("fleet")
    queue = SqlApprovals(case.store)

    async def make(name):
        asking = Asking(
            profile=profile,
            name=name,
            kind=BIRTH,
            binding=None,
            hardware=Json('{"mac":"aa"}'),
            peer=Peer(Wire.HTTP, "192.0.2.7:1"),
            at=clock.now,
        )
        return await queue.await_approval(asking)

    return make


async def test_a_tenant_sees_approves_denies_and_forgets(case, asks, clock):
    """The list by state and name; each decision answers with the device as it stands."""
    await asks("m-1")
    await asks("m-2")
    page = (await case.get(PAGE)).json
    assert (page["totalElements"], page["hasNext"]) == (2, False)
    first, second = page["data"]
    assert first == {
        "id": first["id"],
        "deviceName": "m-1",
        "profileName": "fleet",
        "organisationName": first["organisationName"],
        "kind": "BIRTH",
        "state": "WAITING",
        "bound": False,
        "wire": "http",
        "address": "192.0.2.7:1",
        "hardware": {"mac": "aa"},
        "createdTime": clock.now,
        "lastTime": clock.now,
        "tries": 1,
        "decidedBy": None,
        "decidedTime": None,
    }
    yes = (await case.post(f"{ONE}{first['id']}/approve")).json
    assert (yes["state"], yes["decidedBy"]) == ("APPROVED", "admin@example.com")
    assert (await case.post(f"{ONE}{second['id']}/deny")).json["state"] == "DENIED"
    named = (await case.get(f"{PAGE}&state=approved&deviceName=m-1")).json["data"]
    assert [one["deviceName"] for one in named] == ["m-1"]
    assert (await asks("m-1")).number == first["id"]
    assert (await case.delete(f"{ONE}{second['id']}")).json["deviceName"] == "m-2"
    assert (await case.get(PAGE)).json["totalElements"] == 1


async def test_who_may_not_sees_nothing(case, asks):
    """Customers' administrators have a queue of their own; without the permission there is none."""
    await asks("m-1")
    [one] = (await case.get(PAGE)).json["data"]
    assert (await case.get(PAGE, as_="boss")).json["data"] == []
    assert (await case.post(f"{ONE}{one['id']}/approve", as_="boss")).status == 404
    assert (await case.get(PAGE, as_="user")).status == 403
    assert (await case.get(PAGE, as_=None)).status == 401
    key = await case.key_without("admin", Permission.PROVISION_DEVICES)
    headers = {"X-Authorization": key}
    assert (await case.post(f"{ONE}{one['id']}/approve", headers=headers)).status == 403
    assert (await case.get(PAGE)).json["data"] == [one]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/gatehouse/approvals?page=0", "pageSize"),
        (f"{PAGE}&state=maybe", "state must be one of WAITING, APPROVED, DENIED"),
    ],
)
async def test_a_wrong_query_is_explained(case, path, said):
    """400 with a sentence that names what is wrong."""
    answer = await case.get(path)
    assert answer.status == 400
    assert said in answer.message


async def test_what_is_not_there_is_not_decided(case):
    """404, for what is no number, too."""
    for path in ("7/approve", "7/deny", "seven/approve", f"{10**20}/approve"):
        assert (await case.post(ONE + path)).status == 404
    assert (await case.delete(f"{ONE}7")).status == 404
