"""Devices over HTTP, as operators' scripts save, show, list and remove them."""

from __future__ import annotations

import pytest

from gateway.core.model import AccessToken, Secret

NULL = "13814000-1dd2-11b2-8080-808080808080"
UNKNOWN = "5d0c1a6e-0000-4000-8000-00000000dead"


async def saved(case, body, query="", **how):
    answer = await case.post(f"/api/device{query}", body, **how)
    assert answer.status == 200, answer.text
    return answer.json


async def credentials(case, device):
    answer = await case.get(f"/api/device/{device['id']['id']}/credentials")
    assert answer.status == 200, answer.text
    return answer.json


def same(device, **changes):
    return {**device, **changes}


async def test_a_new_device_is_answered_whole(case):
    """All members of section 17.3, with the discriminators its clients need."""
    device = await saved(case, {"name": "one", "type": "sensor", "label": "Roof"})
    profile = device.pop("deviceProfileId")
    assert profile["entityType"] == "DEVICE_PROFILE"
    assert device.pop("id")["entityType"] == "DEVICE"
    assert device.pop("tenantId") == {
        "entityType": "TENANT",
        "id": case.operator.organisation.uuid,
    }
    assert device == {
        "createdTime": case.clock(),
        "name": "one",
        "type": "sensor",
        "label": "Roof",
        "customerId": {"entityType": "CUSTOMER", "id": NULL},
        "deviceData": {
            "configuration": {"type": "DEFAULT"},
            "transportConfiguration": {"type": "DEFAULT"},
        },
        "additionalInfo": None,
        "firmwareId": None,
        "softwareId": None,
        "externalId": None,
        "version": 1,
    }


async def test_a_token_is_made_where_none_is_given(case):
    """20 letters and digits; `accessToken` is taken as it is."""
    made = await credentials(case, await saved(case, {"name": "one"}))
    assert len(made["credentialsId"]) == 20
    assert made["credentialsId"].isalnum()
    given = await credentials(case, await saved(case, {"name": "two"}, "?accessToken=my-token"))
    assert given["credentialsId"] == "my-token"
    assert given["credentialsType"] == "ACCESS_TOKEN"
    assert given["credentialsValue"] is None


async def test_without_a_type_it_is_of_the_default_profile(case):
    """And with one that is named again, of the same."""
    assert (await saved(case, {"name": "one"}))["type"] == "default"
    two = await saved(case, {"name": "two", "type": "sensor"})
    three = await saved(case, {"name": "three", "type": "sensor"})
    assert two["deviceProfileId"] == three["deviceProfileId"]


async def test_the_profile_says_the_type(case):
    """`type` in answers is the profile's name, whatever was asked for beside its id."""
    profile = (await saved(case, {"name": "one", "type": "sensor"}))["deviceProfileId"]
    two = await saved(case, {"name": "two", "type": "other", "deviceProfileId": profile})
    assert two["type"] == "sensor"


async def test_a_profile_that_is_not_there_is_400(case):
    """ThingsBoard's words; out of sight reads the same."""
    body = {"name": "one", "deviceProfileId": {"entityType": "DEVICE_PROFILE", "id": UNKNOWN}}
    answer = await case.post("/api/device", body)
    assert answer.status == 400
    assert answer.message == "Device is referencing non existing device profile!"
    seen = await saved(case, {"name": "two"})
    body = {"name": "three", "deviceProfileId": seen["deviceProfileId"]}
    told = await case.post("/api/device", body, as_="other")
    assert (told.status, told.message) == (400, answer.message)


@pytest.mark.parametrize("name", [None, "", "  "])
async def test_a_device_needs_a_name(case, name):
    """400 with ThingsBoard's words."""
    answer = await case.post("/api/device", {"name": name, "type": "sensor"})
    assert (answer.status, answer.message) == (400, "Device name should be specified!")


async def test_a_name_that_is_taken_is_400(case):
    """Also for a device that is given the name later."""
    await saved(case, {"name": "one"})
    two = await saved(case, {"name": "two"})
    for body in ({"name": "one"}, same(two, name="one")):
        answer = await case.post("/api/device", body)
        assert (answer.status, answer.json["errorCode"]) == (400, 31)
        assert answer.message == "Device with such name already exists!"


async def test_a_name_may_be_made_unique(case):
    """`nameConflictPolicy=UNIQUIFY`, by counting or at random, with the separator asked for."""
    await saved(case, {"name": "one"})
    counted = "?nameConflictPolicy=UNIQUIFY&uniquifyStrategy=INCREMENTAL&uniquifySeparator=-"
    assert (await saved(case, {"name": "one"}, counted))["name"] == "one-1"
    assert (await saved(case, {"name": "one"}, counted))["name"] == "one-2"
    name = (await saved(case, {"name": "one"}, "?nameConflictPolicy=UNIQUIFY"))["name"]
    assert name.startswith("one_")
    assert len(name) > len("one_")


@pytest.mark.parametrize(
    "query",
    ["nameConflictPolicy=REPLACE", "uniquifyStrategy=x", f"uniquifySeparator={'x' * 33}"],
)
async def test_a_policy_nobody_knows_is_400(case, query):
    """Rather than one that was not asked for."""
    assert (await case.post(f"/api/device?{query}", {"name": "one"})).status == 400


async def test_what_is_left_out_stays(case):
    """A change of the label alone keeps profile, additional information, customer and token."""
    acme = {"entityType": "CUSTOMER", "id": case.organisations["Acme"].uuid}
    body = {
        "name": "one",
        "type": "sensor",
        "customerId": acme,
        "additionalInfo": {"gateway": True, "description": "on the roof"},
    }
    one = await saved(case, body, "?accessToken=my-token")
    assert one["customerId"] == acme
    two = await saved(case, {"id": one["id"], "name": "one", "label": "Roof"})
    assert two == same(one, label="Roof", version=two["version"])
    assert two["version"] > one["version"]
    assert (await credentials(case, two))["credentialsId"] == "my-token"
    record = await case.inventory.find_named(case.operator, "one")
    assert record.device.gateway


async def test_what_is_null_is_taken_away(case):
    """null empties the label and the additional information, and takes the customer away."""
    acme = {"entityType": "CUSTOMER", "id": case.organisations["Acme"].uuid}
    one = await saved(
        case,
        {"name": "one", "label": "x", "customerId": acme, "additionalInfo": {"gateway": True}},
    )
    two = await saved(case, same(one, label=None, customerId=None, additionalInfo=None))
    assert (two["label"], two["additionalInfo"]) == (None, None)
    assert two["customerId"]["id"] == NULL


async def test_an_answer_can_be_saved_again(case):
    """What was read is taken back as it is, members of later versions of ThingsBoard with it."""
    one = await saved(case, {"name": "one", "type": "sensor", "additionalInfo": {"a": [1, {}]}})
    two = await saved(case, same(one, ownerId={"id": UNKNOWN}, novelty=[None]))
    assert two == same(one, version=two["version"])


async def test_a_stale_version_is_409(case):
    """Code 35, and nothing is changed."""
    one = await saved(case, {"name": "one"})
    await saved(case, same(one, label="first"))
    answer = await case.post("/api/device", same(one, label="second"))
    assert (answer.status, answer.json["errorCode"]) == (409, 35)
    assert (await case.get(f"/api/device/{one['id']['id']}")).json["label"] == "first"


async def test_packages_are_not_assigned_here(case):
    """A firmware id is refused rather than ignored."""
    package = {"entityType": "OTA_PACKAGE", "id": UNKNOWN}
    assert (await case.post("/api/device", {"name": "one", "firmwareId": package})).status == 400


@pytest.mark.parametrize("spoilt", ["nonsense", "1", "'", "é" * 40])
async def test_what_is_no_uuid_is_400(case, spoilt):
    """It is named by what it should have been, and not repeated."""
    answer = await case.get(f"/api/device/{spoilt}")
    assert (answer.status, answer.message) == (400, "Invalid UUID string: deviceId")


async def test_a_device_that_is_not_there_is_404(case):
    """ThingsBoard's words, with the id."""
    answer = await case.get(f"/api/device/{UNKNOWN}")
    assert (answer.status, answer.json["errorCode"]) == (404, 32)
    assert answer.message == f"Device with id [{UNKNOWN}] is not found"


async def test_a_removed_device_is_gone(case):
    """With its credentials: the token can be another's."""
    one = await saved(case, {"name": "one"}, "?accessToken=my-token")
    assert (await case.delete(f"/api/device/{one['id']['id']}")).status == 200
    assert (await case.get(f"/api/device/{one['id']['id']}")).status == 404
    await saved(case, {"name": "two"}, "?accessToken=my-token")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"device": {"name": "x"}}, "Validation error: credentials must not be null"),
        (
            {"credentials": {"credentialsType": "ACCESS_TOKEN"}},
            "Validation error: device must not be null",
        ),
        (
            {"device": {"name": "x"}, "credentials": {"credentialsId": "t"}},
            "Device credentials type should be specified!",
        ),
        (
            {"device": {"name": "x"}, "credentials": {"credentialsType": "ACCESS_TOKEN"}},
            "Device credentials id should be specified!",
        ),
    ],
)
async def test_a_device_with_credentials_needs_both(case, body, message):
    """400 with ThingsBoard's words, and no device is made."""
    answer = await case.post("/api/device-with-credentials", body)
    assert (answer.status, answer.message) == (400, message)
    assert await case.inventory.find_named(case.operator, "x") is None


async def test_a_device_is_made_with_the_credentials_it_is_given(case):
    """Of any kind; a device that is there gets them as well."""
    basic = {"credentialsType": "MQTT_BASIC", "credentialsValue": '{"clientId":"c"}'}
    body = {"device": {"name": "one"}, "credentials": {**basic, "credentialsId": None}}
    answer = await case.post("/api/device-with-credentials", body)
    assert answer.status == 200, answer.text
    one = answer.json
    assert (await credentials(case, one))["credentialsType"] == "MQTT_BASIC"
    token = {"credentialsType": "ACCESS_TOKEN", "credentialsId": "my-token"}
    body = {"device": one, "credentials": token}
    assert (await case.post("/api/device-with-credentials", body)).status == 200
    assert (await credentials(case, one))["credentialsId"] == "my-token"


async def test_credentials_of_another_device_are_400(case):
    """ThingsBoard's words; no device is made."""
    await case.device("one", credentials=AccessToken(Secret("my-token")))
    answer = await case.post("/api/device?accessToken=my-token", {"name": "two"})
    assert answer.status == 400
    assert answer.message == "Device credentials are already assigned to another device!"
    assert await case.inventory.find_named(case.operator, "two") is None


async def test_a_device_is_given_to_a_customer_and_taken_back(case):
    """The customer sees it from then on, and no longer afterwards."""
    one = (await case.device("one")).device.uuid
    acme = case.organisations["Acme"].uuid
    assert (await case.get(f"/api/device/{one}", as_="user")).status == 404
    answer = await case.post(f"/api/customer/{acme}/device/{one}")
    assert answer.status == 200, answer.text
    assert answer.json["customerId"] == {"entityType": "CUSTOMER", "id": acme}
    assert (await case.get(f"/api/device/{one}", as_="user")).status == 200
    answer = await case.delete(f"/api/customer/device/{one}")
    assert (answer.status, answer.json["customerId"]["id"]) == (200, NULL)
    assert (await case.get(f"/api/device/{one}", as_="user")).status == 404
    answer = await case.delete(f"/api/customer/device/{one}")
    assert (answer.status, answer.message) == (
        400,
        "Device isn't assigned to any customer!",
    )


async def test_the_tenant_is_no_customer(case):
    """Nor is somebody else's customer one of mine."""
    one = (await case.device("one", "Acme")).device.uuid
    for place in (case.operator.organisation.uuid, case.organisations["Globex"].uuid, UNKNOWN):
        answer = await case.post(f"/api/customer/{place}/device/{one}", as_="boss")
        assert (answer.status, answer.message) == (404, f"Customer with id [{place}] is not found")


async def test_a_customers_user_changes_what_it_sees_of_a_profile_it_does_not(case):
    """Read and saved again: the profile is the tenant's and stays."""
    one = (await case.device("one", "Acme", profile_name="sensor")).device.uuid
    seen = (await case.get(f"/api/device/{one}", as_="user")).json
    answer = await case.post("/api/device", same(seen, label="Roof"), as_="user")
    assert answer.status == 200, answer.text
    assert (answer.json["type"], answer.json["label"]) == ("sensor", "Roof")
