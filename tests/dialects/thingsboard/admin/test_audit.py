"""The audit log over REST: who reads what of it, and in which shape."""

from __future__ import annotations

import uuid

import pytest
from desk_case import SHELL

from gateway.core.model import Event, EventKind, Outcome, Peer, Permission, Wire
from gateway.dialects.thingsboard.admin.audit import action_type
from gateway.dialects.thingsboard.admin.words import NULL_UUID

LOGS = "/api/audit/logs"
PAGE = "pageSize=100&page=0"


@pytest.fixture
async def logs(case):
    """The rows that somebody reads under a path."""

    async def read(path: str = "", query: str = "", *, as_: str = "admin") -> list[dict]:
        answer = await case.get(f"{LOGS}{path}?{PAGE}&{query}", as_=as_)
        assert answer.status == 200, answer.text
        return answer.json["data"]

    return read


async def _refusal(case, name, device_id=None):
    event = Event(
        kind=EventKind.DEVICE_PROVISION,
        at=case.clock(),
        peer=Peer(Wire.MQTT, "192.0.2.9:1", request="r-77"),
        outcome=Outcome.REFUSED,
        reason="wrong_secret",
        subject=name,
        device_id=device_id,
    )
    await case.store.record(event)
    await case.store.writer.settled()


async def test_a_row_has_thingsboards_shape(case, logs):
    """All members are there: ids with their types, names, what was done, and with which outcome."""
    device = await case.device("meter", "Acme")
    row = next(one for one in await logs() if one["actionType"] == "ASSIGNED_TO_CUSTOMER")
    assert row["entityId"] == {"entityType": "DEVICE", "id": device.device.uuid}
    assert row["entityName"] == "meter"
    assert row["createdTime"] == case.clock()
    assert row["tenantId"] == {"entityType": "TENANT", "id": (await case.people.root()).uuid}
    acme = case.organisations["Acme"].uuid
    assert row["customerId"] == {"entityType": "CUSTOMER", "id": acme}
    assert row["userId"] == {"entityType": "USER", "id": NULL_UUID}
    assert (row["userName"], row["actionStatus"]) == (SHELL.actor, "SUCCESS")
    assert row["actionFailureDetails"] == ""
    assert row["actionData"]["event"] == "device:assign"
    assert row["actionData"]["detail"] == {"customer": "Acme"}
    uuid.UUID(row["id"]["id"])


async def test_a_refusal_says_what_to_do(case, logs):
    """Its reason stands there, in words, with the request it belongs to."""
    await _refusal(case, "stranger")
    row = (await logs(query="actionTypes=PROVISION_FAILURE"))[0]
    assert (row["entityName"], row["actionStatus"]) == ("stranger", "FAILURE")
    assert row["actionFailureDetails"].startswith("wrong_secret: its provision key is known")
    assert "gatehouse profile show" in row["actionFailureDetails"]
    assert row["actionData"]["request"] == "r-77"
    assert await logs(query="actionTypes=PROVISION_SUCCESS") == []


async def test_the_filters_narrow_the_page(case, logs):
    """Time, action and text; the newest first, or the oldest when that is asked for."""
    await case.device("meter-1")
    case.clock.now += 1000
    await case.device("meter-2")
    added = await logs(query="actionTypes=ADDED,DELETED&textSearch=METER-")
    assert [one["entityName"] for one in added] == ["meter-2", "meter-1"]
    query = "actionTypes=ADDED&textSearch=meter&sortProperty=createdTime&sortOrder=ASC"
    assert [one["entityName"] for one in await logs(query=query)] == ["meter-1", "meter-2"]
    since = f"textSearch=meter&actionTypes=ADDED&startTime={case.clock()}"
    assert [one["entityName"] for one in await logs(query=since)] == ["meter-2"]
    until = f"textSearch=meter&actionTypes=ADDED&endTime={case.clock()}"
    assert [one["entityName"] for one in await logs(query=until)] == ["meter-1"]
    assert await logs(query="textSearch=m%25r") == []
    assert await logs(query="actionTypes=ALARM_ACK") == []


async def test_pages_lead_to_the_end(case):
    """Totals are those of the whole, whichever page is read, and the last has none after it."""
    for number in range(5):
        await _refusal(case, f"x{number}")
    query = "actionTypes=PROVISION_FAILURE"
    pages = [(await case.get(f"{LOGS}?pageSize=2&page={page}&{query}")).json for page in range(4)]
    assert [len(one["data"]) for one in pages] == [2, 2, 1, 0]
    assert [one["hasNext"] for one in pages] == [True, True, False, False]
    assert {(one["totalElements"], one["totalPages"]) for one in pages} == {(5, 3)}
    seen = [row["entityName"] for one in pages for row in one["data"]]
    assert seen == ["x4", "x3", "x2", "x1", "x0"]


async def test_one_entity_one_user_one_customer(case, logs):
    """The path narrows to a device, to what a user did, to a customer's devices and people."""
    mine = (await case.device("mine", "Acme")).device.uuid
    await case.device("theirs", "Globex")
    boss = case.users["boss"].uuid
    await case.bearer("boss")
    names = [one["entityName"] for one in await logs(f"/entity/DEVICE/{mine}")]
    assert set(names) == {"mine"}
    did = await logs(f"/user/{boss}")
    assert [(one["actionType"], one["userName"]) for one in did] == [("LOGIN", "boss@example.com")]
    assert did[0]["userId"]["id"] == boss
    acme = case.organisations["Acme"].uuid
    assert did[0]["customerId"]["id"] == acme
    names = {one["entityName"] for one in await logs(f"/customer/{acme}")}
    assert names == {"mine", "boss@example.com"}
    about = await logs(f"/entity/USER/{boss}")
    assert {one["actionType"] for one in about} >= {"LOGIN"}
    assert await logs(f"/user/{NULL_UUID}") == []
    assert await logs(f"/customer/{NULL_UUID}") == []


async def test_below_the_root_one_sees_ones_own(case, logs):
    """Devices at or below the organisation, what its people did, and nothing of a neighbour."""
    await case.device("ours", "Acme")
    await case.device("below", "Acme North")
    await case.device("theirs", "Globex")
    await case.device("tenants")
    await _refusal(case, "stranger")
    for name in ("admin", "other", "north"):
        await case.bearer(name)
    everything = {one["entityName"] for one in await logs()}
    assert everything >= {"ours", "below", "theirs", "tenants", "stranger", "other@example.com"}
    seen = {one["entityName"] for one in await logs(as_="boss")}
    assert seen == {"ours", "below", "north@example.com", "boss@example.com"}
    seen = {one["entityName"] for one in await logs(as_="north")}
    assert seen == {"below", "north@example.com"}


async def test_nothing_out_of_sight_is_there(case, logs):
    """A neighbour's device, user and customer give an empty page, as those that never were do."""
    theirs = (await case.device("theirs", "Globex")).device.uuid
    await case.bearer("other")
    globex, root = case.organisations["Globex"].uuid, (await case.people.root()).uuid
    other = case.users["other"].uuid
    places = [f"/entity/DEVICE/{theirs}", f"/user/{other}", f"/customer/{globex}"]
    for path in [*places, f"/entity/USER/{other}", f"/customer/{root}"]:
        assert await logs(path, as_="boss") == []


async def test_who_sees_own_devices_alone_sees_their_events_alone(case, logs):
    """Without ORG_DEVICES_VIEW the devices of the organisation are out of sight here too."""
    await case.device("ours", "Acme")
    key = await case.key_without("boss", Permission.ORG_DEVICES_VIEW)
    answer = await case.get(f"{LOGS}?{PAGE}", headers={"X-Authorization": key})
    assert answer.status == 200
    assert "ours" not in {one["entityName"] for one in answer.json["data"]}


@pytest.mark.parametrize(
    "path",
    ["", f"/entity/DEVICE/{NULL_UUID}", f"/user/{NULL_UUID}", f"/customer/{NULL_UUID}"],
)
async def test_the_log_needs_a_permission(case, path):
    """401 for nobody, 403 without AUDIT_VIEW, before anything is looked at."""
    url = f"{LOGS}{path}?{PAGE}"
    assert (await case.get(url, as_=None)).status == 401
    refused = await case.get(url, as_="user")
    assert (refused.status, refused.json["errorCode"]) == (403, 20)
    key = await case.key_without("admin", Permission.AUDIT_VIEW)
    assert (await case.get(url, headers={"X-Authorization": key})).status == 403


@pytest.mark.parametrize(
    "bad",
    [
        f"{LOGS}?page=0",
        f"{LOGS}?{PAGE}&startTime=x",
        f"{LOGS}?{PAGE}&sortProperty=userName",
        f"{LOGS}?{PAGE}&actionTypes=%7C%25",
        f"{LOGS}/user/me?{PAGE}",
        f"{LOGS}/customer/1?{PAGE}",
        f"{LOGS}/entity/DEVICE/x?{PAGE}",
    ],
)
async def test_what_cannot_be_asked_is_400(case, bad):
    """Each bad parameter is refused with a message, none breaks anything."""
    answer = await case.get(bad)
    assert (answer.status, answer.json["errorCode"]) == (400, 31), answer.text


def test_every_kind_has_an_action():
    """Whatever is told has a name that ThingsBoard's readers know."""
    known = {
        "ADDED", "DELETED", "UPDATED", "ATTRIBUTES_UPDATED", "RPC_CALL", "CREDENTIALS_UPDATED",
        "ASSIGNED_TO_CUSTOMER", "UNASSIGNED_FROM_CUSTOMER", "LOGIN", "LOGOUT",
        "PROVISION_SUCCESS", "PROVISION_FAILURE",
    }  # fmt: skip
    told = {action_type(kind, one, customer=False) for kind in EventKind for one in Outcome}
    assert told == known
