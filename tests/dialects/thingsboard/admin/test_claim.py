"""Devices claimed and given back by users of customers."""

from __future__ import annotations

import pytest

from gateway.core.labelling import Labelling
from gateway.core.model import EventKind, Permission, Secret

KEY = Secret("the-claim-key")
HOUR = 3_600_000


def place(name):
    return f"/api/customer/device/{name}/claim"


@pytest.fixture
async def device(case, clock):
    """Of the tenant, offered with a key."""
    made = await case.device("meter-1")
    labelling = Labelling(case.registry._registrar, clock=clock, peer=case.operator.peer)
    assert await labelling.offer(made.device, KEY, HOUR) is None
    return made


async def test_a_customer_takes_a_device(case, device):
    """200 with the device, which is the customer's now and its user's; the event names the user."""
    answer = await case.post(place("meter-1"), {"secretKey": KEY.reveal()}, as_="user")
    assert answer.status == 200
    assert answer.json["response"] == "SUCCESS"
    told = answer.json["device"]
    assert told["id"] == {"entityType": "DEVICE", "id": device.device.uuid}
    assert told["customerId"]["id"] == case.organisations["Acme"].uuid
    record = await case.inventory.find(case.actor("user"), device.device.uuid)
    assert record.owner_id == case.users["user"].id
    events = await case.registry.last_events()
    [event] = [one for one in events if one.kind is EventKind.DEVICE_CLAIM]
    assert event.peer.actor == "user@example.com"


async def test_a_wrong_key_fails_and_ends_the_offer(case, device):
    """400 with `"FAILURE"`; the right key is of no use afterwards."""
    answer = await case.post(place("meter-1"), {"secretKey": "wrong"}, as_="user")
    assert (answer.status, answer.json) == (400, "FAILURE")
    answer = await case.post(place("meter-1"), {"secretKey": KEY.reveal()}, as_="user")
    assert (answer.status, answer.json) == (400, "FAILURE")


@pytest.mark.parametrize("body", [None, {}])
async def test_no_key_is_an_empty_one(case, device, body):
    """A body may be left out; it is a wrong key then."""
    answer = await case.post(place("meter-1"), body, as_="user")
    assert (answer.status, answer.json) == (400, "FAILURE")


async def test_an_offer_runs_out(case, device, clock):
    """After its time the key is refused."""
    clock.now += HOUR
    answer = await case.post(place("meter-1"), {"secretKey": KEY.reveal()}, as_="user")
    assert (answer.status, answer.json) == (400, "FAILURE")


async def test_what_a_customer_has_is_told(case, device):
    """400 with `"CLAIMED"`, for others and for the customer itself."""
    await case.post(place("meter-1"), {"secretKey": KEY.reveal()}, as_="user")
    for who in ("user", "other"):
        answer = await case.post(place("meter-1"), {"secretKey": KEY.reveal()}, as_=who)
        assert (answer.status, answer.json) == (400, "CLAIMED")


async def test_what_is_not_there_is_told_as_a_wrong_key(case):
    """Nobody learns which names there are."""
    answer = await case.post(place("no-such"), {"secretKey": "x"}, as_="user")
    assert (answer.status, answer.json) == (400, "FAILURE")


async def test_a_device_is_given_back(case, device):
    """200, and it is out of the customer's sight; then it is 404."""
    await case.post(place("meter-1"), {"secretKey": KEY.reveal()}, as_="user")
    answer = await case.delete(place("meter-1"), as_="user")
    assert (answer.status, answer.text) == (200, "")
    assert await case.inventory.find(case.actor("user"), device.device.uuid) is None
    assert (await case.delete(place("meter-1"), as_="user")).status == 404
    assert (await case.delete(place("meter-1"))).status == 200  # the tenant sees it: nothing to do


async def test_the_tenant_takes_a_device_back(case, device):
    """What a customer claimed, an administrator of the tenant may reclaim."""
    await case.post(place("meter-1"), {"secretKey": KEY.reveal()}, as_="user")
    assert (await case.delete(place("meter-1"))).status == 200
    record = await case.inventory.find(case.operator, device.device.uuid)
    assert record.device.customer_id is None


async def test_who_may_claim(case, device):
    """Nobody: 401; the tenant, who is no customer, and whoever lacks the permission: 403."""
    body = {"secretKey": KEY.reveal()}
    assert (await case.post(place("meter-1"), body, as_=None)).status == 401
    assert (await case.post(place("meter-1"), body)).status == 403
    key = {"X-Authorization": await case.key_without("boss", Permission.DEVICES_CLAIM)}
    assert (await case.post(place("meter-1"), body, headers=key)).status == 403
    assert (await case.delete(place("meter-1"), headers=key)).status == 403
    assert (await case.post(place("meter-1"), body, as_="user")).status == 200


@pytest.mark.parametrize("body", [b"[]", b'{"secretKey":7}', b"{", b'{"secretKey":"\xff"}'])
async def test_a_body_that_cannot_be_read(case, device, body):
    """400 as an error, and the offer stands."""
    answer = await case.post(place("meter-1"), body, as_="user")
    assert (answer.status, answer.json["status"]) == (400, 400)
    long = {"secretKey": "k" * 1001}
    assert (await case.post(place("meter-1"), long, as_="user")).json["status"] == 400
    right = {"secretKey": KEY.reveal()}
    assert (await case.post(place("meter-1"), right, as_="user")).status == 200


def test_a_key_is_not_shown():
    """What holds it does not print it."""
    from gateway.dialects.thingsboard.admin.claim import ClaimBody

    assert "swordfish" not in repr(ClaimBody("swordfish"))
