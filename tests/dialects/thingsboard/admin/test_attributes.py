"""Attributes of devices, set and read by people."""

from __future__ import annotations

import pytest

from gateway.core.model import AttributesChange, AttributeScope, EventKind, Json, Permission

ROOT = "/api/plugins/telemetry/DEVICE"
SHARED, SERVER = "SHARED_SCOPE", "SERVER_SCOPE"


@pytest.fixture
async def device(case):
    return await case.device("meter-1", "Acme")


@pytest.fixture
def path(device):
    return f"{ROOT}/{device.device.uuid}"


async def kept(case, device):
    found = await case.registry.attributes(device)
    return {(one.scope.value, one.key): one.value for one in found}


@pytest.mark.parametrize("address", ["{p}/attributes/{s}", "{p}/{s}", "{short}/{s}"])
async def test_attributes_are_set_at_each_address(case, device, path, address):
    """All three addresses that ThingsBoard has set attributes, with their types."""
    short = path.replace("/DEVICE", "")
    body = {"n": 7, "d": 1.5, "t": "00123", "b": True, "o": {"a": [1]}, "gone": None}
    answer = await case.post(address.format(p=path, s=SHARED, short=short), body)
    assert (answer.status, answer.text) == (200, "")
    assert await kept(case, device) == {
        (SHARED, "n"): 7,
        (SHARED, "d"): 1.5,
        (SHARED, "t"): "00123",
        (SHARED, "b"): True,
        (SHARED, "o"): Json('{"a": [1]}'),
    }


async def test_what_is_set_is_whose_it_is(case, path):
    """The event of a change names the user and the keys, and no value."""
    await case.post(f"{path}/attributes/{SERVER}", {"site": "very-secret"}, as_="boss")
    event = (await case.registry.last_events(limit=1))[0]
    assert event.kind is EventKind.DEVICE_ATTRIBUTES
    assert event.peer.actor == "boss@example.com"
    assert event.detail == {"scope": SERVER, "set": "site"}


async def test_attributes_are_read_by_scope_and_key(case, device, path, clock):
    """Without a scope all are given; keys narrow them; times are those of the change."""
    await case.post(f"{path}/attributes/{SHARED}", {"a": 1, "b": {"x": 2}})
    clock.now += 5
    await case.post(f"{path}/attributes/{SERVER}", {"c": "three"})
    everything = (await case.get(f"{path}/values/attributes")).json
    assert {one["key"] for one in everything} == {"a", "b", "c"}
    shared = (await case.get(f"{path}/values/attributes/{SHARED}?keys=b,c")).json
    assert shared == [{"lastUpdateTs": clock.now - 5, "key": "b", "value": {"x": 2}}]
    assert (await case.get(f"{path}/keys/attributes/{SERVER}")).json == ["c"]
    assert sorted((await case.get(f"{path}/keys/attributes")).json) == ["a", "b", "c"]


async def test_what_a_device_says_is_read_and_not_set(case, device, path):
    """CLIENT_SCOPE is the device's: people read it, and delete from it."""
    change = AttributesChange({"serial": "S-1"})
    await case.registry.change_attributes(device, AttributeScope.CLIENT, change)
    refused = await case.post(f"{path}/attributes/CLIENT_SCOPE", {"serial": "S-2"})
    assert (refused.status, refused.json["errorCode"]) == (400, 31)
    [one] = (await case.get(f"{path}/values/attributes/CLIENT_SCOPE")).json
    assert (one["key"], one["value"]) == ("serial", "S-1")
    assert (await case.delete(f"{path}/CLIENT_SCOPE?keys=serial")).status == 200
    assert (await case.get(f"{path}/values/attributes")).json == []


@pytest.mark.parametrize("short", [False, True])
async def test_attributes_are_deleted(case, path, short):
    """Both addresses delete the keys that are named, and no other."""
    await case.post(f"{path}/attributes/{SHARED}", {"a": 1, "b": 2, "c": 3})
    place = path.replace("/DEVICE", "") if short else path
    assert (await case.delete(f"{place}/{SHARED}?keys=a,b,none")).status == 200
    assert (await case.get(f"{path}/keys/attributes")).json == ["c"]
    assert (await case.delete(f"{place}/{SHARED}")).status == 400


async def test_deleting_the_provision_state_rearms_a_device(case, device, path):
    """`provisionState` of the server scope is the device's own state."""
    await case.post(f"{path}/attributes/{SERVER}", {"provisionState": "provisioned"})
    record = await case.inventory.find(case.operator, device.device.uuid)
    assert record.device.provision_state == "provisioned"
    assert (await case.delete(f"{path}/{SERVER}?keys=provisionState")).status == 200
    record = await case.inventory.find(case.operator, device.device.uuid)
    assert record.device.provision_state is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"7",
        b"{",
        b"{}",
        b'{"a":null}',
        b'{"a":18446744073709551616}',
        b'{"a":"\xff"}',
        b'{"a":[{"b":"\xff"}]}',
        b'{" ":1}',
        b'{"":1}',
        b'{"' + b"k" * 256 + b'":1}',
        b'{"a":1e999}',
        b"[" * 5000,
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
async def test_a_body_that_is_no_flat_object_is_refused(case, device, path, body):
    """It is told as a bad request, and nothing is stored."""
    answer = await case.post(f"{path}/attributes/{SHARED}", body)
    assert (answer.status, answer.json["status"]) == (400, 400)
    assert await kept(case, device) == {}


@pytest.mark.parametrize(
    ("who", "status"),
    [(None, 401), ("other", 404), ("north", 404), ("user", 200), ("boss", 200), ("admin", 200)],
)
async def test_only_those_who_see_a_device_change_it(case, path, who, status):
    """Nobody: 401. Out of sight: 404. Its organisation, and those above: 200."""
    answer = await case.post(f"{path}/attributes/{SHARED}", {"a": 1}, as_=who)
    assert answer.status == status
    assert (await case.get(f"{path}/values/attributes", as_=who)).status == status
    assert (await case.delete(f"{path}/{SHARED}?keys=a", as_=who)).status == status


async def test_without_the_permission_nothing_is_looked_up(case, path):
    """403 whether the device is there or not: the permission comes first."""
    edits = (Permission.ORG_DEVICES_EDIT, Permission.OWN_DEVICES_EDIT)
    key = {"X-Authorization": await case.key_without("admin", *edits)}
    nowhere = f"{ROOT}/8d8b4b1e-0000-4000-8000-000000000000"
    for place in (path, nowhere, f"{ROOT}/no-uuid"):
        answer = await case.post(f"{place}/attributes/{SHARED}", {"a": 1}, headers=key)
        assert (answer.status, answer.json["errorCode"]) == (403, 20)


async def test_a_device_that_is_not_ones_own_may_be_seen_and_not_changed(case, path):
    """With OWN_DEVICES_EDIT alone another's device is 403, since it can be seen."""
    key = {"X-Authorization": await case.key_without("admin", Permission.ORG_DEVICES_EDIT)}
    assert (await case.get(f"{path}/values/attributes", headers=key)).status == 200
    assert (await case.post(f"{path}/{SHARED}", {"a": 1}, headers=key)).status == 403


async def test_wrong_names_are_told(case, path):
    """An unknown scope, and an id that is no UUID, are bad requests."""
    assert (await case.post(f"{path}/attributes/NO_SCOPE", {"a": 1})).status == 400
    assert (await case.get(f"{path}/values/attributes/no_scope")).status == 400
    assert (await case.get(f"{ROOT}/7/values/attributes")).status == 400
    many = ",".join(map(str, range(1001)))
    assert (await case.get(f"{path}/values/attributes?keys={many}")).status == 400
