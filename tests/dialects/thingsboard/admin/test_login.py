"""Logging in and out over HTTP, and who is taken for whom."""

from __future__ import annotations

import pytest
from desk_case import PASSWORD

from gateway.core.model import Permission

LOGIN = "/api/auth/login"
SELF = "/api/auth/user"


async def tokens(case, name, password=PASSWORD):
    answer = await case.post(
        LOGIN, {"username": f"{name}@example.com", "password": password}, as_=None
    )
    assert answer.status == 200, answer.text
    return answer.json


async def self_with(case, **headers):
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return await case.get(SELF, as_=None, headers=shown)


async def test_the_right_password_gets_two_tokens(case):
    """The answer has the two members of section 17.1 and no other."""
    got = await tokens(case, "admin")
    assert set(got) == {"token", "refreshToken"}


@pytest.mark.parametrize("header", ["X_Authorization", "Authorization"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_a_token_goes_in_either_header(case, header, scheme):
    """`X-Authorization` and `Authorization` are the same to us."""
    token = (await tokens(case, "boss"))["token"]
    answer = await self_with(case, **{header: f"{scheme} {token}"})
    assert (answer.status, answer.json["email"]) == (200, "boss@example.com")


async def test_wrong_passwords_and_unknown_users_are_told_alike(case):
    """401, code 10, `Invalid username or password`, whether there is such a user or not."""
    told = []
    for name in ("admin", "nobody"):
        body = {"username": f"{name}@example.com", "password": "not the right one"}
        answer = await case.post(LOGIN, body, as_=None)
        assert answer.status == 401
        told.append(answer.json)
    assert told[0] == told[1]
    assert told[0]["message"] == "Invalid username or password"
    assert (told[0]["status"], told[0]["errorCode"]) == (401, 10)
    assert told[0]["timestamp"] == case.clock()


async def test_too_many_wrong_passwords_are_429(case):
    """They are throttled, code 33, with a Retry-After; the right password waits with them."""
    body = {"username": "admin@example.com", "password": "not the right one"}
    for _ in range(10):
        assert (await case.post(LOGIN, body, as_=None)).status == 401
    answer = await case.post(LOGIN, {**body, "password": PASSWORD}, as_=None)
    assert (answer.status, answer.json["errorCode"]) == (429, 33)
    wait_s = int(answer.headers["Retry-After"])
    assert wait_s > 0
    case.clock.now += wait_s * 1000
    assert (await case.post(LOGIN, {**body, "password": PASSWORD}, as_=None)).status == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"username":"a"}', b'{"username":1,"password":"x"}', b"\xff"],
)
async def test_what_is_no_login_is_400(case, body):
    """The error names what is missing and repeats nothing of the body."""
    answer = await case.post(LOGIN, body, as_=None)
    assert (answer.status, answer.json["errorCode"]) == (400, 31)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Basic YWRtaW46YWRtaW4=",
        "ApiKey",
        "ApiKey unknown",
        "x" * 4000,
    ],
)
async def test_whatever_else_is_shown_is_nobody(case, header):
    """Headers that name no login are 401, code 10."""
    answer = await self_with(case, X_Authorization=header)
    assert answer.status == 401
    assert (answer.message, answer.json["errorCode"]) == ("Authentication failed", 10)


async def test_an_expired_token_is_refreshed(case):
    """401 with code 11 says that `/api/auth/token` helps; the session is the same."""
    old = await tokens(case, "boss")
    case.clock.now += 9000_000
    answer = await self_with(case, X_Authorization=f"Bearer {old['token']}")
    assert (answer.status, answer.json["errorCode"]) == (401, 11)
    fresh = await case.post("/api/auth/token", {"refreshToken": old["refreshToken"]}, as_=None)
    assert fresh.status == 200
    answer = await self_with(case, X_Authorization=f"Bearer {fresh.json['token']}")
    assert answer.status == 200


async def test_tokens_of_one_kind_do_not_do_for_the_other(case):
    """A refresh token opens nothing, an access token refreshes nothing."""
    got = await tokens(case, "boss")
    answer = await self_with(case, X_Authorization=f"Bearer {got['refreshToken']}")
    assert answer.status == 401
    answer = await case.post("/api/auth/token", {"refreshToken": got["token"]}, as_=None)
    assert answer.status == 401


async def test_logging_out_ends_all_tokens_of_the_session(case):
    """Neither the token nor its refresh is worth anything then; other sessions go on."""
    one, two = await tokens(case, "boss"), await tokens(case, "boss")
    shown = {"X-Authorization": f"Bearer {one['token']}"}
    assert (await case.post("/api/auth/logout", as_=None, headers=shown)).status == 200
    assert (await self_with(case, X_Authorization=shown["X-Authorization"])).status == 401
    body = {"refreshToken": one["refreshToken"]}
    assert (await case.post("/api/auth/token", body, as_=None)).status == 401
    assert (await self_with(case, X_Authorization=f"Bearer {two['token']}")).status == 200


async def test_a_changed_password_ends_the_other_sessions(case):
    """The session that changed it goes on with new tokens; the old password opens nothing."""
    mine, other = await tokens(case, "boss"), await tokens(case, "boss")
    shown = {"X-Authorization": f"Bearer {mine['token']}"}
    body = {"currentPassword": PASSWORD, "newPassword": "quite another one"}
    answer = await case.post("/api/auth/changePassword", body, as_=None, headers=shown)
    assert answer.status == 200, answer.text
    fresh = answer.json["token"]
    assert (await self_with(case, X_Authorization=f"Bearer {fresh}")).status == 200
    assert (await self_with(case, X_Authorization=f"Bearer {other['token']}")).status == 401
    assert (await tokens(case, "boss", "quite another one"))["token"]


async def test_a_wrong_current_password_changes_nothing(case):
    """400 with ThingsBoard's words."""
    body = {"currentPassword": "not the right one", "newPassword": "quite another one"}
    answer = await case.post("/api/auth/changePassword", body, as_="boss")
    assert (answer.status, answer.message) == (400, "Current password doesn't match!")
    assert await tokens(case, "boss")


async def test_a_key_for_scripts_acts_as_its_user(case):
    """`ApiKey` lets in as the user, may no more than the key says, and has no password."""
    key = await case.key_without("boss", Permission.ORG_CREATE)
    answer = await self_with(case, X_Authorization=key)
    assert (answer.status, answer.json["email"]) == (200, "boss@example.com")
    shown = {"X-Authorization": key}
    made = await case.post("/api/customer", {"title": "New"}, as_=None, headers=shown)
    assert made.status == 403
    body = {"currentPassword": PASSWORD, "newPassword": "quite another one"}
    answer = await case.post("/api/auth/changePassword", body, as_=None, headers=shown)
    assert (answer.status, answer.json["errorCode"]) == (403, 20)


async def test_a_disabled_user_is_nobody_at_once(case):
    """Sessions of a user end when an administrator disables it, and it cannot log in."""
    shown = f"Bearer {(await tokens(case, 'user'))['token']}"
    uuid = case.users["user"].uuid
    path = f"/api/user/{uuid}/userCredentialsEnabled?userCredentialsEnabled=false"
    assert (await case.post(path)).status == 200
    assert (await self_with(case, X_Authorization=shown)).status == 401
    body = {"username": "user@example.com", "password": PASSWORD}
    answer = await case.post(LOGIN, body, as_=None)
    assert (answer.status, answer.message) == (401, "Invalid username or password")
    assert (await case.post(path.replace("false", "true"))).status == 200
    assert (await case.post(LOGIN, body, as_=None)).status == 200
