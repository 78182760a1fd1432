"""Lists of devices over HTTP, and devices by name."""

from __future__ import annotations

import pytest

UNKNOWN = "5d0c1a6e-0000-4000-8000-00000000dead"
PAGE = "pageSize=10&page=0"


@pytest.fixture
async def fleet(case):
    """Three sensors, one of them Acme's, and a meter that is Acme North's."""
    for name, customer, profile in (
        ("alpha", None, "sensor"),
        ("beta", "Acme", "sensor"),
        ("gamma", None, "sensor"),
        ("delta", "Acme North", "meter"),
    ):
        await case.device(name, customer, profile_name=profile)
        case.clock.now += 1000
    return case


async def names(case, path, **how):
    answer = await case.get(path, **how)
    assert answer.status == 200, answer.text
    return [device["name"] for device in answer.json["data"]]


@pytest.mark.parametrize("path", ["/api/tenant/devices", "/api/user/devices"])
async def test_pages_lead_to_the_end(fleet, path):
    """Each device is on one page, `hasNext` says whether there is more."""
    seen = []
    for page in range(2):
        answer = await fleet.get(f"{path}?pageSize=3&page={page}")
        assert answer.status == 200
        body = answer.json
        assert set(body) == {"data", "totalPages", "totalElements", "hasNext"}
        assert (body["totalPages"], body["totalElements"]) == (2, 4)
        assert body["hasNext"] is (page == 0)
        seen += [device["name"] for device in body["data"]]
    assert seen == ["alpha", "beta", "gamma", "delta"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sortProperty=name", ["alpha", "beta", "delta", "gamma"]),
        ("sortProperty=name&sortOrder=DESC", ["gamma", "delta", "beta", "alpha"]),
        ("sortProperty=createdTime&sortOrder=desc", ["delta", "gamma", "beta", "alpha"]),
        ("textSearch=ALPH", ["alpha"]),
        ("textSearch=meter", ["delta"]),
        ("type=sensor&sortProperty=name", ["alpha", "beta", "gamma"]),
        ("type=unheard", []),
        ("entityGroupId=1&includeCustomers=true&textSearch=beta", ["beta"]),
    ],
)
async def test_a_list_is_sorted_and_narrowed(fleet, query, expected):
    """As ThingsBoard's parameters say; those nobody knows are tolerated."""
    assert await names(fleet, f"/api/tenant/devices?{PAGE}&{query}") == expected


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "pageSize=10",
        "pageSize=0&page=0",
        "pageSize=1001&page=0",
        "pageSize=ten&page=0",
        "pageSize=10&page=-1",
        "pageSize=10&page=99999999999999999999",
        f"{PAGE}&sortProperty=secret",
        f"{PAGE}&sortOrder=SIDEWAYS",
        f"{PAGE}&textSearch=%00",
        f"{PAGE}&type=%00",
        "deviceName=",
        "deviceName=%00",
    ],
)
async def test_a_list_nobody_can_give_is_400(fleet, query):
    """It names the parameter."""
    answer = await fleet.get(f"/api/tenant/devices?{query}")
    assert (answer.status, answer.json["errorCode"]) == (400, 31)


async def test_everybody_lists_what_is_theirs_and_below(fleet):
    """A customer's people see its devices and those of its customers, and no other's."""
    path = f"/api/tenant/devices?{PAGE}&sortProperty=name"
    assert await names(fleet, path, as_="boss") == ["beta", "delta"]
    assert await names(fleet, path, as_="user") == ["beta", "delta"]
    assert await names(fleet, path, as_="north") == ["delta"]
    assert await names(fleet, path, as_="other") == []


async def test_a_customers_user_narrows_by_a_profile_it_does_not_see(fleet):
    """The type of a device in sight can be asked for, though the profile is the tenant's."""
    assert await names(fleet, f"/api/user/devices?{PAGE}&type=meter", as_="user") == ["delta"]


async def test_a_customers_devices_are_its_own_alone(fleet):
    """Not those of its customers."""
    acme = fleet.organisations["Acme"].uuid
    assert await names(fleet, f"/api/customer/{acme}/devices?{PAGE}") == ["beta"]
    answer = await fleet.get(f"/api/customer/{UNKNOWN}/devices?{PAGE}")
    assert answer.message == f"Customer with id [{UNKNOWN}] is not found"


async def test_infos_name_what_a_device_belongs_to(fleet):
    """The customer's title, the profile's name, and whether it is online."""
    acme = fleet.organisations["Acme"].uuid
    for path in ("/api/tenant/deviceInfos", "/api/deviceInfos/all"):
        assert "beta" in await names(fleet, f"{path}?{PAGE}")
    (info,) = (await fleet.get(f"/api/customer/{acme}/deviceInfos?{PAGE}")).json["data"]
    told = (info["customerTitle"], info["deviceProfileName"], info["active"])
    assert told == ("Acme", "sensor", False)
    assert info["customerIsPublic"] is False
    one = (await fleet.get(f"/api/device/info/{info['id']['id']}")).json
    assert one == info


async def test_a_list_is_not_narrowed_by_who_is_online(fleet):
    """Rather than narrowed by nothing."""
    assert (await fleet.get(f"/api/tenant/deviceInfos?{PAGE}&active=true")).status == 400


@pytest.mark.parametrize("path", ["/api/tenant/devices", "/api/tenant/device"])
async def test_a_device_is_found_by_its_name(fleet, path):
    """Both spellings; percent-encoded names too; 404 without one."""
    await fleet.device("a b/c&d")
    for name, sent in (("alpha", "alpha"), ("a b/c&d", "a%20b%2Fc%26d")):
        answer = await fleet.get(f"{path}?deviceName={sent}")
        assert (answer.status, answer.json["name"]) == (200, name)
    answer = await fleet.get(f"{path}?deviceName=unheard")
    assert (answer.status, answer.message) == (404, "Requested item wasn't found!")


async def test_several_are_shown_by_their_ids(fleet):
    """In the order asked for; what is out of sight is left out; in the old client's writing too."""
    ids = [
        (await fleet.inventory.find_named(fleet.operator, name)).device.uuid
        for name in ("gamma", "alpha")
    ]
    for sent in (",".join([*ids, UNKNOWN]), f"['{ids[0]}',%20'{ids[1]}']"):
        answer = await fleet.get(f"/api/devices?deviceIds={sent}")
        assert [device["name"] for device in answer.json] == ["gamma", "alpha"]
    answer = await fleet.get(f"/api/devices?deviceIds={ids[0]}", as_="boss")
    assert (answer.status, answer.json) == (200, [])
    for sent in ("", "x", ",".join([UNKNOWN[:-4] + f"{n:04x}" for n in range(1001)])):
        answer = await fleet.get(f"/api/devices?deviceIds={sent}")
        assert answer.status == 400


async def test_types_are_the_names_of_profiles(fleet):
    """With the entity type and the tenant that the clients' model has."""
    types = (await fleet.get("/api/device/types")).json
    assert {one["type"] for one in types} >= {"sensor", "meter"}
    assert {one["entityType"] for one in types} == {"DEVICE"}
