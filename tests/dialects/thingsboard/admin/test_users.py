"""Users over HTTP."""

from __future__ import annotations

import pytest
from desk_case import PASSWORD

UNKNOWN = "5d0c1a6e-0000-4000-8000-00000000dead"
NULL = "13814000-1dd2-11b2-8080-808080808080"
PAGE = "pageSize=10&page=0"


def customer(case, name="Acme"):
    return {"entityType": "CUSTOMER", "id": case.organisations[name].uuid}


async def saved(case, body, **how):
    answer = await case.post("/api/user?sendActivationMail=false", body, **how)
    assert answer.status == 200, answer.text
    return answer.json


async def emails(case, path, **how):
    answer = await case.get(path, **how)
    assert answer.status == 200, answer.text
    return [one["email"].partition("@")[0] for one in answer.json["data"]]


async def test_a_user_is_answered_whole(case):
    """All members the clients' model has, and the role."""
    body = {
        "email": "Ada@Example.com",
        "authority": "CUSTOMER_USER",
        "customerId": customer(case),
        "firstName": "Ada",
        "lastName": "Lovelace",
        "phone": "+44",
        "additionalInfo": {"lang": "en_GB"},
    }
    made = await saved(case, body)
    assert made.pop("id")["entityType"] == "USER"
    assert made == {
        **body,
        "email": "ada@example.com",
        "name": "ada@example.com",
        "role": "CUSTOMER_USER",
        "enabled": True,
        "createdTime": case.clock(),
        "tenantId": {"entityType": "TENANT", "id": case.operator.organisation.uuid},
        "version": 1,
    }


async def test_a_user_logs_in_with_the_password_it_was_given(case):
    """`password` is ours; the answer does not repeat it."""
    body = {"email": "ada@example.com", "authority": "TENANT_ADMIN", "password": PASSWORD}
    made = await saved(case, body)
    assert PASSWORD not in str(made)
    login = {"username": "ada@example.com", "password": PASSWORD}
    assert (await case.post("/api/auth/login", login, as_=None)).status == 200


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"email": None}, "User email should be specified!"),
        ({"authority": None}, "User authority isn't defined!"),
        ({"authority": "SYS_ADMIN"}, "User authority isn't defined!"),
        ({"customerId": None}, "Customer user should be assigned to customer!"),
        ({"authority": "TENANT_ADMIN"}, "Tenant administrator can't be assigned to customer!"),
        ({"email": "boss@example.com"}, "User with this email already present in database!"),
    ],
)
async def test_what_cannot_be_is_400(case, members, message):
    """In ThingsBoard's words."""
    body = {
        "email": "ada@example.com",
        "authority": "CUSTOMER_USER",
        "customerId": customer(case),
    }
    answer = await case.post("/api/user", {**body, **members})
    assert (answer.status, answer.message) == (400, message)


async def test_nobody_gives_more_than_they_have(case):
    """A customer's administrator makes no administrators of the tenant."""
    body = {"email": "ada@example.com", "authority": "TENANT_ADMIN"}
    assert (await case.post("/api/user", body, as_="boss")).status == 403
    body = {"email": "ada@example.com", "authority": "CUSTOMER_USER"}
    there = {**body, "customerId": customer(case, "Globex")}
    assert (await case.post("/api/user", there, as_="boss")).status == 404
    ours = {**body, "customerId": customer(case, "Acme North")}
    assert (await case.post("/api/user", ours, as_="boss")).status == 200


async def test_a_role_may_be_named(case):
    """An administrator of a customer is a CUSTOMER_USER to ThingsBoard, with our role."""
    body = {
        "email": "ada@example.com",
        "authority": "CUSTOMER_USER",
        "customerId": customer(case),
        "role": "TENANT_ADMIN",
        "password": PASSWORD,
    }
    made = await saved(case, body)
    assert (made["authority"], made["role"]) == ("CUSTOMER_USER", "TENANT_ADMIN")
    kept = await saved(case, {"id": made["id"], "email": "ada@example.com", "lastName": "L"})
    assert (kept["role"], kept["lastName"]) == ("TENANT_ADMIN", "L")


async def test_what_is_left_out_stays(case):
    """Names, phone and additional information of a user that is changed."""
    uuid = case.users["user"].uuid
    body = {"id": {"id": uuid}, "email": "user@example.com", "phone": "+44"}
    assert (await saved(case, body))["firstName"] == "User"
    changed = await saved(
        case, {"id": {"id": uuid}, "email": "user@example.com", "additionalInfo": {"a": 1}}
    )
    assert (changed["phone"], changed["additionalInfo"]) == ("+44", {"a": 1})


async def test_a_user_stays_with_its_customer(case):
    """400 rather than silence."""
    uuid = case.users["user"].uuid
    body = {"id": {"id": uuid}, "email": "user@example.com", "customerId": customer(case, "Globex")}
    assert (await case.post("/api/user", body)).status == 400


async def test_everybody_sees_and_names_themselves(case):
    """A customer's user without any permission over users; and nobody else."""
    own = await case.get("/api/auth/user", as_="user")
    assert own.json["authority"] == "CUSTOMER_USER"
    assert own.json["customerId"] == customer(case)
    uuid = own.json["id"]["id"]
    assert (await case.get(f"/api/user/{uuid}", as_="user")).json == own.json
    renamed = await case.post("/api/user", {**own.json, "firstName": "Grace"}, as_="user")
    assert (renamed.status, renamed.json["firstName"]) == (200, "Grace")
    boss = case.users["boss"].uuid
    assert (await case.get(f"/api/user/{boss}", as_="user")).status == 403
    promoted = await case.post("/api/user", {**renamed.json, "role": "TENANT_ADMIN"}, as_="user")
    assert promoted.status == 403


async def test_lists_have_those_in_sight(case):
    """The tenant's, a customer's, and all at or below the caller's organisation."""
    root, acme = case.operator.organisation.uuid, case.organisations["Acme"].uuid
    sort = f"{PAGE}&sortProperty=email"
    assert await emails(case, f"/api/tenant/{root}/users?{sort}") == ["admin"]
    assert await emails(case, f"/api/customer/{acme}/users?{sort}") == ["boss", "user"]
    for path in ("/api/users", "/api/user/users"):
        everybody = await emails(case, f"{path}?{sort}")
        assert everybody == ["admin", "boss", "north", "other", "user"]
        assert await emails(case, f"{path}?{sort}", as_="boss") == ["boss", "north", "user"]
    assert await emails(case, f"/api/users?{sort}&textSearch=NORT") == ["north"]


@pytest.mark.parametrize("path", ["/api/users", "/api/users/list"])
async def test_several_are_shown_by_their_ids(case, path):
    """Those in sight, in the order asked for."""
    ids = [case.users[name].uuid for name in ("user", "boss", "other")]
    answer = await case.get(f"{path}?userIds={','.join([*ids, UNKNOWN])}", as_="boss")
    assert [one["email"] for one in answer.json] == ["user@example.com", "boss@example.com"]


async def test_a_removed_user_is_gone(case):
    """Its sessions too. Nobody removes themselves."""
    assert (await case.get("/api/auth/user", as_="user")).status == 200
    uuid = case.users["user"].uuid
    assert (await case.delete(f"/api/user/{uuid}", as_="boss")).status == 200
    assert (await case.get("/api/auth/user", as_="user")).status == 401
    answer = await case.get(f"/api/user/{uuid}")
    assert (answer.status, answer.message) == (404, f"User with id [{uuid}] is not found")
    assert (await case.delete(f"/api/user/{case.users['boss'].uuid}", as_="boss")).status == 400


async def test_an_administrator_of_the_tenant_has_no_customer(case):
    """The null id stands for none, and is taken back."""
    made = await saved(
        case,
        {
            "email": "ada@example.com",
            "authority": "TENANT_ADMIN",
            "customerId": {"entityType": "CUSTOMER", "id": NULL},
        },
    )
    assert made["customerId"]["id"] == NULL
    assert (await saved(case, {**made, "firstName": "A"}))["firstName"] == "A"
