"""Customers over HTTP."""

from __future__ import annotations

import pytest

UNKNOWN = "5d0c1a6e-0000-4000-8000-00000000dead"
PAGE = "pageSize=10&page=0"


async def saved(case, body, **how):
    answer = await case.post("/api/customer", body, **how)
    assert answer.status == 200, answer.text
    return answer.json


async def titles(case, **how):
    answer = await case.get(f"/api/customers?{PAGE}&sortProperty=title", **how)
    assert answer.status == 200, answer.text
    return [one["title"] for one in answer.json["data"]]


async def test_a_customer_is_answered_whole(case):
    """Contact data and additional information come back as they were sent."""
    sent = {
        "title": "Initech",
        "country": "US",
        "state": "TX",
        "city": "Austin",
        "address": "1 Road",
        "address2": "2nd floor",
        "zip": "73301",
        "phone": "+1",
        "email": "a@b.c",
        "additionalInfo": {"description": "paper"},
    }
    made = await saved(case, sent)
    assert made.pop("id")["entityType"] == "CUSTOMER"
    assert made == {
        **sent,
        "name": "Initech",
        "createdTime": case.clock(),
        "tenantId": {"entityType": "TENANT", "id": case.operator.organisation.uuid},
        "parentCustomerId": None,
        "version": 1,
    }


async def test_a_customer_may_have_customers(case):
    """`parentCustomerId` says where; without it, the caller's organisation does."""
    acme = {"entityType": "CUSTOMER", "id": case.organisations["Acme"].uuid}
    assert (await saved(case, {"title": "One", "parentCustomerId": acme}))[
        "parentCustomerId"
    ] == acme
    assert (await saved(case, {"title": "Two"}, as_="boss"))["parentCustomerId"] == acme


async def test_everybody_lists_the_customers_below(case):
    """Not their own, and nobody's beside."""
    assert await titles(case) == ["Acme", "Acme North", "Globex"]
    assert await titles(case, as_="boss") == ["Acme North"]
    assert await titles(case, as_="other") == []


async def test_a_title_that_is_taken_is_400(case):
    """ThingsBoard's words."""
    answer = await case.post("/api/customer", {"title": "Acme"})
    assert (answer.status, answer.message) == (
        400,
        "Customer with such title already exists!",
    )


@pytest.mark.parametrize("title", [None, "", " "])
async def test_a_customer_needs_a_title(case, title):
    """ThingsBoard's words."""
    answer = await case.post("/api/customer", {"title": title})
    assert (answer.status, answer.message) == (400, "Customer title should be specified!")


async def test_a_change_is_shown_and_a_stale_one_is_409(case):
    """Optimistic, as everywhere: the version that was read must be the one there is."""
    made = await saved(case, {"title": "Initech"})
    changed = await saved(case, {**made, "title": "Initrode", "city": "Dallas"})
    assert (changed["title"], changed["city"]) == ("Initrode", "Dallas")
    answer = await case.post("/api/customer", {**made, "city": "Waco"})
    assert (answer.status, answer.json["errorCode"]) == (409, 35)


async def test_the_short_forms(case):
    """The title as text, and as JSON."""
    acme = case.organisations["Acme"].uuid
    answer = await case.get(f"/api/customer/{acme}/title")
    assert answer.text == "Acme"
    assert answer.headers["Content-Type"].startswith("text/plain")
    answer = await case.get(f"/api/customer/{acme}/shortInfo")
    assert answer.json == {"title": "Acme", "isPublic": False}


async def test_a_customer_is_found_by_its_title(case):
    """And 404 where there is none in sight."""
    answer = await case.get("/api/tenant/customers?customerTitle=Globex")
    assert answer.json["id"]["id"] == case.organisations["Globex"].uuid
    for how in ({"as_": "boss"}, {}):
        title = "Globex" if how else "Unheard"
        answer = await case.get(f"/api/tenant/customers?customerTitle={title}", **how)
        assert (answer.status, answer.message) == (404, "Requested item wasn't found!")


@pytest.mark.parametrize("path", ["/api/customers", "/api/customers/list"])
async def test_several_are_shown_by_their_ids(case, path):
    """Those in sight; the tenant is none of them."""
    ids = [case.organisations["Acme"].uuid, UNKNOWN, case.operator.organisation.uuid]
    answer = await case.get(f"{path}?customerIds={','.join(ids)}")
    assert [one["title"] for one in answer.json] == ["Acme"]


async def test_a_removed_customers_devices_are_taken_back(case):
    """It is gone, and they are the tenant's."""
    device = (await case.device("one", "Globex")).device.uuid
    await case.delete(f"/api/user/{case.users['other'].uuid}")
    globex = case.organisations["Globex"].uuid
    assert (await case.delete(f"/api/customer/{globex}")).status == 200
    assert (await case.get(f"/api/customer/{globex}")).status == 404
    found = (await case.get(f"/api/device/{device}")).json
    assert found["customerId"]["id"] == "13814000-1dd2-11b2-8080-808080808080"


async def test_a_customer_in_use_stays(case):
    """400, and nothing is changed."""
    acme = case.organisations["Acme"].uuid
    answer = await case.delete(f"/api/customer/{acme}")
    assert answer.status == 400
    assert (await case.get(f"/api/customer/{acme}")).status == 200


async def test_the_tenant_is_shown_to_its_own(case):
    """And is no customer."""
    root = case.operator.organisation
    answer = await case.get(f"/api/tenant/{root.uuid}")
    assert (answer.status, answer.json["title"]) == (200, root.name)
    assert (await case.get(f"/api/customer/{root.uuid}")).status == 404
    assert (await case.delete(f"/api/customer/{root.uuid}")).status == 404
