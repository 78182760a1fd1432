"""OAuth2 over HTTP: every sentence of the contract's section 6, and who a bearer token is."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from blynk_ground import PASSWORD, BlynkGate, blynk_on
from inside import Gate, NewGate
from msgspec import Struct
from wires import HttpReply, http

from gateway.administration import open_logins
from gateway.core.model import EventKind, Organisation, Outcome, Permission
from gateway.core.oauth_clients import OAuthClients
from gateway.core.oauth_store import OAuthClient, OAuthScope
from gateway.store.sql_oauth import SqlOAuth
from gateway.store.sql_registrar import SqlRegistrar

TOKEN, REVOKE = "/oauth2/token", "/oauth2/revoke"
ONLINE = "/api/v1/organization/device/online"
FORM = "application/x-www-form-urlencoded"
WRONG_CLIENT = {
    "error": "invalid_client",
    "error_description": "Client ID is not found or password is wrong.",
}
NO_SCOPE = {"error": {"message": "Platform API scope is not enabled for this oauth client."}}
USER = "ann@acme.example"


class Program(Struct):
    """A client of an organisation, which knows its secret."""

    blynk: BlynkGate
    client: OAuthClient
    secret: str

    @property
    def basic(self) -> dict[str, str]:
        return basic(self.client.name, self.secret)

    @property
    def named(self) -> dict[str, str]:
        return {"client_id": self.client.name, "client_secret": self.secret}

    async def ask(self, **query: str) -> HttpReply:
        """By HTTP Basic, with parameters in the query."""
        return await send(self.blynk, f"{TOKEN}?{urlencode(query)}", self.basic)

    async def access(self, **query: str) -> dict[str, Any]:
        """A pair of tokens; for the client itself unless something else is asked."""
        reply = await self.ask(**(query or {"grant_type": "client_credentials"}))
        assert reply.status == 200, reply
        return proven_pair(reply)


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{name}:{secret}'.encode()).decode()}"}


async def send(
    blynk: BlynkGate,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    method: str = "POST",
) -> HttpReply:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"{method} {target} HTTP/1.1\r\nHost: gate\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    async with http(blynk.ports.http) as connection:
        return await connection.raw(head.encode() + body)


def proven_pair(reply: HttpReply, lifetime: int = 86_400) -> dict[str, Any]:
    """The body, after a look at all there is to say about it."""
    told: dict[str, Any] = json.loads(reply.body)
    assert set(told) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (told["token_type"], told["expires_in"]) == ("Bearer", lifetime)
    for name in ("access_token", "refresh_token"):
        assert len(told[name]) == 40
        assert told[name].replace("-", "a").replace("_", "a").isalnum()
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["pragma"] == "no-cache"
    return told


def flat(reply: HttpReply, status: int = 400) -> str:
    """The code of an error, whose shape is RFC 6749's."""
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/json"
    told = json.loads(reply.body)
    assert set(told) == {"error", "error_description"}
    assert told["error_description"]
    return str(told["error"])


async def call(blynk: BlynkGate, token: str | None, number: int) -> HttpReply:
    """A call of the Platform API that needs nothing but sight of a device."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return await send(blynk, f"{ONLINE}?deviceId={number}", headers, method="GET")


async def add(
    blynk: BlynkGate,
    organisation: Organisation | None = None,
    *scopes: OAuthScope,
) -> Program:
    clients = OAuthClients(SqlOAuth(blynk.gateway.store), clock=lambda: 1_790_000_000_000)
    where = organisation or blynk.admin.organisation
    client, secret = await clients.add(
        blynk.admin, where, "back office", scopes or (OAuthScope.PLATFORM_API,)
    )
    return Program(blynk, client, secret.reveal())


@pytest.fixture
async def program(blynk: BlynkGate) -> Program:
    return await add(blynk)


@pytest.fixture
async def number(blynk: BlynkGate) -> int:
    """A device of the root organisation."""
    _, record = await blynk.born()
    return record.device.id


@pytest.fixture
async def few(new_gate: NewGate, request: pytest.FixtureRequest) -> AsyncIterator[BlynkGate]:
    """A gateway with settings of [blynk] of its own."""
    async with blynk_on(await new_gate(blynk=request.param)) as running:
        yield running


# ── the token endpoint: how it is asked ───────────────────────────────────────────────────────


async def test_the_query_with_http_basic(program: Program) -> None:
    """Blynk's own way: parameters in the query, an empty body."""
    await program.access()


async def test_the_query_with_the_client_in_it(blynk: BlynkGate, program: Program) -> None:
    query = urlencode({"grant_type": "client_credentials", **program.named})
    proven_pair(await send(blynk, f"{TOKEN}?{query}"))


async def test_a_form_in_the_body(blynk: BlynkGate, program: Program) -> None:
    """RFC 6749's way, with the client in it or not; with and without a charset or a type."""
    for kind in (FORM, f"{FORM}; charset=utf-8", FORM.upper(), None):
        labels = {"Content-Type": kind} if kind else {}
        form = urlencode({"grant_type": "client_credentials"}).encode()
        proven_pair(await send(blynk, TOKEN, program.basic | labels, form))
        form = urlencode({"grant_type": "client_credentials", **program.named}).encode()
        proven_pair(await send(blynk, TOKEN, labels, form))


async def test_a_body_of_another_type_is_not_looked_at(blynk: BlynkGate, program: Program) -> None:
    """Programs send `{}` where there is nothing to send."""
    labels = program.basic | {"Content-Type": "application/json"}
    query = urlencode({"grant_type": "client_credentials"})
    proven_pair(await send(blynk, f"{TOKEN}?{query}", labels, b"{}"))
    asked = json.dumps({"grant_type": "client_credentials"}).encode()
    assert flat(await send(blynk, TOKEN, labels, asked)) == "invalid_request"


async def test_the_client_may_be_form_encoded_in_http_basic(
    blynk: BlynkGate, program: Program
) -> None:
    """As RFC 6749, section 2.3.1, has it."""
    encoded = "".join(f"%{ord(one):02X}" for one in program.client.name)
    shown = basic(encoded, quote(program.secret, safe=""))
    proven_pair(await send(blynk, f"{TOKEN}?grant_type=client_credentials", shown))


async def test_other_methods(blynk: BlynkGate, program: Program) -> None:
    """405, in the shape of the endpoint."""
    for path in (TOKEN, REVOKE):
        for method in ("GET", "PUT", "DELETE"):
            reply = await send(blynk, path, program.basic, method=method)
            assert flat(reply, 405) == "invalid_request"
            assert reply.headers["allow"] == "POST"
    assert flat(await send(blynk, "/oauth2/authorize"), 404) == "invalid_request"


# ── the token endpoint: refusals ──────────────────────────────────────────────────────────────


async def test_wrong_clients_are_told_alike(blynk: BlynkGate, program: Program) -> None:
    """400 and the documented pair: unknown, wrong, missing, empty, or shown another way."""
    name, secret = program.client.name, program.secret
    wrong: list[dict[str, str]] = [
        {},
        basic("oa2-client-id_" + "x" * 32, secret),
        basic(name, "x" * 40),
        basic(name, ""),
        basic("", ""),
        basic(name + "\0", secret),
        basic(name, "x" * 5000),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": f"Basic {b64encode(name.encode()).decode()}"},
        {"Authorization": "Basic Y2Fm6Tp4"},  # no UTF-8
        {"Authorization": f"Bearer {secret}"},
    ]
    for headers in wrong:
        reply = await send(blynk, f"{TOKEN}?grant_type=client_credentials", headers)
        assert (reply.status, json.loads(reply.body)) == (400, WRONG_CLIENT), headers
        assert reply.headers["cache-control"] == "no-store"
    for query in ({"client_id": name}, {"client_secret": secret}, {"client_id": name} | {
        "client_secret": ""
    }):  # fmt: skip
        asked = urlencode({"grant_type": "client_credentials", **query})
        reply = await send(blynk, f"{TOKEN}?{asked}")
        assert json.loads(reply.body) == WRONG_CLIENT


async def test_a_client_is_named_in_one_way(blynk: BlynkGate, program: Program) -> None:
    """HTTP Basic with a secret in the parameters, or another name; the same name is let pass."""
    for query in ({"client_secret": program.secret}, {"client_id": "x"}):
        asked = urlencode({"grant_type": "client_credentials", **query})
        reply = await send(blynk, f"{TOKEN}?{asked}", program.basic)
        assert flat(reply) == "invalid_request"
    await program.access(grant_type="client_credentials", client_id=program.client.name)


async def test_a_parameter_is_given_once(blynk: BlynkGate, program: Program) -> None:
    """Each of them; also once in the query and once in the form, and when one is empty."""
    for name in (
        "grant_type", "client_id", "client_secret", "refresh_token", "username", "password", "foo"
    ):  # fmt: skip
        for pair in (f"{name}=a&{name}=b", f"{name}=a&{name}=a", f"{name}=&{name}=a"):
            reply = await send(blynk, f"{TOKEN}?{pair}", program.basic)
            assert flat(reply) == "invalid_request", pair
        labels = program.basic | {"Content-Type": FORM}
        reply = await send(blynk, f"{TOKEN}?{name}=a", labels, f"{name}=a".encode())
        assert flat(reply) == "invalid_request"


async def test_what_is_missing_is_an_invalid_request(program: Program) -> None:
    """The grant type, or what the grant needs; empty is missing."""
    for query in (
        {},
        {"grant_type": ""},
        {"grant_type": "refresh_token"},
        {"grant_type": "refresh_token", "refresh_token": ""},
        {"grant_type": "user_credentials"},
        {"grant_type": "user_credentials", "username": USER},
        {"grant_type": "user_credentials", "password": "x"},
        {"grant_type": "user_credentials", "username": USER, "password": ""},
    ):
        assert flat(await program.ask(**query)) == "invalid_request", query


async def test_unreadable_forms(blynk: BlynkGate, program: Program) -> None:
    """No text, and more parameters than there are."""
    labels = program.basic | {"Content-Type": FORM}
    for body in (b"\xff\xfe", b"&".join(b"p%d=1" % n for n in range(100))):
        assert flat(await send(blynk, TOKEN, labels, body)) == "invalid_request"


@pytest.mark.parametrize("kind", ["password", "authorization_code", "Client_Credentials", "x"])
async def test_other_grants_are_not_supported(program: Program, kind: str) -> None:
    assert flat(await program.ask(grant_type=kind)) == "unsupported_grant_type"


# ── client_credentials ────────────────────────────────────────────────────────────────────────


async def test_a_client_reaches_its_organisation_and_those_below(blynk: BlynkGate) -> None:
    """And none beside or above; it needs no permission (contract, 6.2)."""
    acme, globex = await blynk.organisation("Acme"), await blynk.organisation("Globex")
    north = await blynk.organisation("North", acme)
    numbers = {}
    for one in (acme, north, globex, blynk.admin.organisation):
        token = await blynk.issue(one)
        assert (await blynk.claim(token)).status == 200
        device = await blynk.device(token)
        assert device is not None
        numbers[one.name] = device.id
    access = (await (await add(blynk, acme)).access())["access_token"]
    seen = {name: (await call(blynk, access, one)).status for name, one in numbers.items()}
    assert seen == {
        "Acme": 200,
        "North": 200,
        "Globex": 404,
        blynk.admin.organisation.name: 404,
    }


async def test_a_client_without_the_scope_is_refused_at_each_call(
    blynk: BlynkGate, number: int
) -> None:
    """403 with the documented text; the token itself is given."""
    program = await add(blynk, None, OAuthScope.GATEWAY_API)
    access = (await program.access())["access_token"]
    reply = await call(blynk, access, number)
    assert (reply.status, json.loads(reply.body)) == (403, NO_SCOPE)


# ── refresh_token ─────────────────────────────────────────────────────────────────────────────


async def test_a_refresh_token_works_once(blynk: BlynkGate, program: Program, number: int) -> None:
    """A new pair; the access token before it is over at once."""
    first = await program.access()
    assert (await call(blynk, first["access_token"], number)).status == 200
    again = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = await program.access(**again)
    assert (await call(blynk, first["access_token"], number)).status == 401
    assert (await call(blynk, second["access_token"], number)).status == 200
    assert flat(await program.ask(**again)) == "invalid_grant"
    third = await program.access(grant_type="refresh_token", refresh_token=second["refresh_token"])
    assert (await call(blynk, third["access_token"], number)).status == 200


async def test_of_a_hundred_refreshes_one_succeeds(program: Program) -> None:
    pair = await program.access()
    again = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    replies = await asyncio.gather(*(program.ask(**again) for _ in range(100)))
    won = [reply for reply in replies if reply.status == 200]
    assert len(won) == 1
    proven_pair(won[0])
    assert {flat(reply) for reply in replies if reply.status != 200} == {"invalid_grant"}


async def test_a_refresh_token_is_its_clients(blynk: BlynkGate, program: Program) -> None:
    """Another client cannot use it, nor use it up; an access token is none."""
    pair, other = await program.access(), await add(blynk)
    again = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    assert flat(await other.ask(**again)) == "invalid_grant"
    wrong = again | {"refresh_token": pair["access_token"]}
    assert flat(await program.ask(**wrong)) == "invalid_grant"
    await program.access(**again)


# ── user_credentials ──────────────────────────────────────────────────────────────────────────


async def test_a_user_scoped_token_acts_as_the_user(blynk: BlynkGate, program: Program) -> None:
    """In the user's organisation, with the role's permissions, over a refresh."""
    acme = await blynk.organisation("Acme")
    role = await blynk.services.people.save_role(
        blynk.admin, name="provider", permissions=[Permission.PROVISION_DEVICES], organisation=acme
    )
    user = await blynk.user(USER, acme, role.name)
    asked = {"grant_type": "user_credentials", "username": USER, "password": PASSWORD}
    pair = await program.access(**asked)
    pair = await program.access(grant_type="refresh_token", refresh_token=pair["refresh_token"])
    shown = {"Authorization": f"Bearer {pair['access_token']}"}
    path = "/api/v1/organization/device/provision/token"
    body = json.dumps({"orgId": acme.id, "ownerId": user.id}).encode()
    assert (await send(blynk, path, shown, body)).status == 200
    reply = await call(blynk, pair["access_token"], 1)
    assert reply.status == 403
    assert USER in json.loads(reply.body)["error"]["message"]


async def test_wrong_users_are_told_alike(blynk: BlynkGate) -> None:
    """A wrong password, nobody, one disabled, and one whom the client does not reach: the same
    bytes."""
    acme, globex = await blynk.organisation("Acme"), await blynk.organisation("Globex")
    await blynk.user(USER, acme)
    await blynk.user("bob@globex.example", globex)
    off = await blynk.user("off@acme.example", acme)
    await blynk.services.people.save_user(
        blynk.admin,
        email=off.email,
        organisation=acme,
        role=off.role,
        uuid=off.uuid,
        enabled=False,
    )
    program = await add(blynk, acme)
    bodies = set()
    for name, password in (
        (USER, "a-wrong-password-1"),
        ("nobody@acme.example", PASSWORD),
        ("not an address", PASSWORD),
        (off.email, PASSWORD),
        ("bob@globex.example", PASSWORD),
        (USER, "x" * 5000),
    ):
        reply = await program.ask(grant_type="user_credentials", username=name, password=password)
        assert flat(reply) == "invalid_grant"
        bodies.add(reply.body)
    assert len(bodies) == 1


async def test_too_many_wrong_passwords(blynk: BlynkGate, program: Program) -> None:
    """429 with Retry-After; the same throttle as at people's own login."""
    await blynk.user(USER, await blynk.organisation("Acme"))
    asked = {"grant_type": "user_credentials", "username": USER}
    for _ in range(10):
        assert flat(await program.ask(**asked, password="wrong-one-1")) == "invalid_grant"
    reply = await program.ask(**asked, password=PASSWORD)
    assert flat(reply, 429) == "temporarily_unavailable"
    assert 1 <= int(reply.headers["retry-after"]) <= 30
    body = json.dumps({"username": USER, "password": PASSWORD}).encode()
    assert (await send(blynk, "/api/auth/login", body=body)).status == 429


async def test_a_client_for_gateways_asks_for_no_user(blynk: BlynkGate) -> None:
    program = await add(blynk, None, OAuthScope.GATEWAY_API)
    reply = await program.ask(grant_type="user_credentials", username=USER, password=PASSWORD)
    assert flat(reply) == "unauthorized_client"


# ── lifetimes and bounds ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("few", [{"access_token_s": 60, "refresh_token_s": 120}], indirect=True)
async def test_lifetimes_are_configured(few: BlynkGate) -> None:
    """`expires_in` says so, and so do the rows that are looked at."""
    program = await add(few)
    proven_pair(await program.ask(grant_type="client_credentials"), lifetime=60)
    columns = "access_until - created_at, refresh_until - created_at"
    rows = await few.gateway.store.driver.read(f"SELECT {columns} FROM oauth_grant")
    assert rows == [(60_000, 120_000)]


@pytest.mark.parametrize("few", [{"bad_tokens": "5:60"}], indirect=True)
async def test_an_address_shows_so_many_wrong_clients(few: BlynkGate) -> None:
    """Then 429, flat, with Retry-After, whatever it shows."""
    program = await add(few)
    wrong = basic(program.client.name, "x" * 40)
    for _ in range(5):
        assert flat(await send(few, f"{TOKEN}?grant_type=client_credentials", wrong))
    for path, query in (
        (TOKEN, {"grant_type": "client_credentials"}),
        (TOKEN, {"grant_type": "refresh_token", "refresh_token": "x"}),
        (REVOKE, {"token": "x"}),
    ):
        reply = await send(few, f"{path}?{urlencode(query)}", program.basic)
        assert flat(reply, 429) == "temporarily_unavailable"
        assert int(reply.headers["retry-after"]) >= 1


@pytest.mark.parametrize("few", [{"requests": "4:60"}], indirect=True)
async def test_an_organisation_calls_so_often(few: BlynkGate) -> None:
    """Its clients together: 429 in the envelope with Retry-After, and flat where tokens are
    given. Another organisation goes on."""
    acme = await few.organisation("Acme")
    one, two, other = await add(few, acme), await add(few, acme), await add(few)
    access = [(await each.access())["access_token"] for each in (one, two)]
    for token in access:
        assert (await call(few, token, 1)).status == 404
    reply = await call(few, access[0], 1)
    assert reply.status == 429
    assert json.loads(reply.body)["error"]["message"]
    assert 1 <= int(reply.headers["retry-after"]) <= 15
    reply = await two.ask(grant_type="client_credentials")
    assert flat(reply, 429) == "temporarily_unavailable"
    assert (await call(few, (await other.access())["access_token"], 1)).status == 404


# ── who a bearer token is ─────────────────────────────────────────────────────────────────────


async def test_who_shows_no_good_token_is_nobody(
    blynk: BlynkGate, program: Program, number: int
) -> None:
    """401 with `WWW-Authenticate: Bearer` and the envelope: missing, malformed, unknown."""
    pair = await program.access()
    token = pair["access_token"]
    for shown in (
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {token}",
        token,
        f"Bearer {token}x",
        f"Bearer {token[:-1]}",
        f"Bearer {token.swapcase()}",
        f"Bearer {pair['refresh_token']}",
        f"Bearer {program.secret}",
        f"Bearer {'x' * 5000}",
        "Bearer gh_" + "x" * 40,
    ):
        headers = {} if shown is None else {"Authorization": shown}
        reply = await send(blynk, f"{ONLINE}?deviceId={number}", headers, method="GET")
        assert reply.status == 401, shown
        assert reply.headers["www-authenticate"] == "Bearer"
        assert set(json.loads(reply.body)) == {"error"}
        assert json.loads(reply.body)["error"]["message"]
    # Neither does a token in the address count: only the header is looked at.
    reply = await send(blynk, f"{ONLINE}?deviceId={number}&access_token={token}", method="GET")
    assert reply.status == 401


async def test_the_scheme_is_of_any_case(blynk: BlynkGate, program: Program, number: int) -> None:
    """RFC 9110, section 11.1."""
    token = (await program.access())["access_token"]
    for scheme in ("Bearer", "bearer", "BEARER"):
        shown = {"Authorization": f"{scheme}   {token}"}
        reply = await send(blynk, f"{ONLINE}?deviceId={number}", shown, method="GET")
        assert reply.status == 200


async def test_an_expired_token_is_unknown(blynk: BlynkGate, program: Program, number: int) -> None:
    token = (await program.access())["access_token"]
    store = blynk.gateway.store

    async def work(tx: Any) -> None:
        await tx.fetch("forget_grants", 2**53, 10)

    assert (await call(blynk, token, number)).status == 200
    await store.driver.transact(work)
    await asyncio.sleep(1.05)
    assert (await call(blynk, token, number)).status == 401


async def test_a_key_for_scripts_is_a_bearer_token_too(blynk: BlynkGate, number: int) -> None:
    """It acts as its user; once revoked it is nobody's."""
    gateway = blynk.gateway
    user = await blynk.user(USER, blynk.admin.organisation)
    logins = open_logins(gateway.config, gateway.store, blynk.services, gateway._logins_ended)
    key, secret = await logins.add_key(blynk.admin, user, "script")
    assert (await call(blynk, secret.reveal(), number)).status == 200
    await logins.revoke_key(blynk.admin, user, key.uuid)
    assert (await call(blynk, secret.reveal(), number)).status == 401


# ── revocation ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
async def test_a_program_ends_its_access(
    blynk: BlynkGate, program: Program, number: int, which: str
) -> None:
    """RFC 7009: by either token, at once; 200 without a body also for one that is not there."""
    pair = await program.access()
    assert (await call(blynk, pair["access_token"], number)).status == 200
    query = urlencode({"token": pair[which], "token_type_hint": which})
    for target, labels, body in (
        (f"{REVOKE}?{query}", program.basic, b""),
        (REVOKE, program.basic | {"Content-Type": FORM}, query.encode()),
    ):
        reply = await send(blynk, target, labels, body)
        assert (reply.status, reply.body) == (200, b"")
        assert (await call(blynk, pair["access_token"], number)).status == 401
    again = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    assert flat(await program.ask(**again)) == "invalid_grant"


async def test_refusals_of_revocation(blynk: BlynkGate, program: Program, number: int) -> None:
    """A wrong client, no token; another client's token stays good and is told as not there."""
    token = (await program.access())["access_token"]
    reply = await send(blynk, f"{REVOKE}?token={token}", basic(program.client.name, "x"))
    assert json.loads(reply.body) == WRONG_CLIENT
    assert flat(await send(blynk, REVOKE, program.basic)) == "invalid_request"
    other = await add(blynk)
    assert (await send(blynk, f"{REVOKE}?token={token}", other.basic)).status == 200
    assert (await call(blynk, token, number)).status == 200


async def test_a_client_that_was_revoked_is_over(
    blynk: BlynkGate, program: Program, number: int
) -> None:
    """By a shell beside the server: a second later its tokens open nothing."""
    token = (await program.access())["access_token"]
    assert (await call(blynk, token, number)).status == 200
    clients = OAuthClients(SqlOAuth(blynk.gateway.store), clock=lambda: 1_790_000_000_000)
    await clients.revoke(blynk.admin, program.client)
    assert json.loads((await program.ask(grant_type="client_credentials")).body) == WRONG_CLIENT
    await asyncio.sleep(1.05)
    assert (await call(blynk, token, number)).status == 401


# ── when it breaks ────────────────────────────────────────────────────────────────────────────


async def test_a_store_that_cannot_be_written(gate_on_disk: Gate, tmp_path: Path) -> None:
    """500, flat; the refresh token was not used up, and works when the store does."""
    async with blynk_on(gate_on_disk) as blynk:
        program = await add(blynk)
        pair = await program.access()
        again = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
        with sqlite3.connect(tmp_path / "gate.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            for query in (again, {"grant_type": "client_credentials"}):
                assert flat(await program.ask(**query), 500) == "server_error"
            other.execute("ROLLBACK")
        await program.access(**again)


async def test_a_body_that_is_too_large(blynk: BlynkGate, program: Program) -> None:
    """413, flat."""
    labels = program.basic | {"Content-Type": FORM}
    reply = await send(blynk, TOKEN, labels, b"a=" + b"x" * 1_048_576)
    assert flat(reply, 413) == "invalid_request"


# ── nothing is told ───────────────────────────────────────────────────────────────────────────


async def test_no_secret_reaches_a_log_or_an_event(
    blynk: BlynkGate,
    program: Program,
    number: int,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of all that was shown: secrets, tokens, passwords; while each call has its line and event."""
    caplog.set_level(logging.DEBUG)
    await blynk.user(USER, await blynk.organisation("Acme"))
    pair = await program.access()
    await call(blynk, pair["access_token"], number)
    asked = {"grant_type": "user_credentials", "username": USER}
    user = await program.access(**asked, password=PASSWORD)
    await program.ask(**asked, password="a-wrong-password-2")
    query = urlencode({"grant_type": "client_credentials", **program.named})
    third = proven_pair(await send(blynk, f"{TOKEN}?{query}"))
    await send(blynk, f"{REVOKE}?token={third['access_token']}", program.basic)
    wrong = basic("a-secret-as-a-name", "another-wrong-secret")
    await send(blynk, f"{TOKEN}?grant_type=client_credentials", wrong)
    secrets = [program.secret, PASSWORD, "a-wrong-password-2", "a-secret-as-a-name"]
    secrets += ["another-wrong-secret"]
    for one in (pair, user, third):
        secrets += [one["access_token"], one["refresh_token"]]
    await blynk.gateway.store.writer.settled()
    events = await SqlRegistrar(blynk.gateway.store).events(after_seq=0, limit=1000, device_id=None)
    told = [one for one in events if one.kind in (EventKind.OAUTH_TOKEN, EventKind.USER_LOGIN)]
    assert {one.outcome for one in told} == {Outcome.SUCCESS, Outcome.REFUSED}
    printed = capfd.readouterr()
    text = repr(events) + caplog.text + printed.out + printed.err
    assert "blynk.oauth.token" in printed.out + printed.err + caplog.text
    assert [one for one in secrets if one in text] == []


async def test_the_document_has_both_endpoints(blynk: BlynkGate) -> None:
    """With the parameters and the flat errors."""
    reply = await send(blynk, "/openapi.json", method="GET")
    paths = json.loads(reply.body)["paths"]
    said = paths[TOKEN]["post"]
    names = {one["name"] for one in said["parameters"]}
    assert {"grant_type", "refresh_token", "username", "password", "client_id"} <= names
    assert set(said["responses"]) >= {"200", "400", "429"}
    assert said["security"] == []
    assert "post" in paths[REVOKE]
