"""Tokens of logins: what they say, and what they are not taken for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.logins import Session
from gateway.core.model import Organisation, User
from gateway.dialects.thingsboard.admin.desk import Trouble
from gateway.dialects.thingsboard.admin.tokens import Tokens
from gateway.wire.call import Status

KEY = bytes(range(64))
NOW = 1_790_000_000_000
SESSION_ID = "0c5f5c6e-6f3a-4d5e-9a43-0f1c8e1f2a11"
ROOT = Organisation(id=1, uuid="11111111-0000-4000-8000-000000000001", name="Tenant", path="/1/")
ACME = Organisation(
    id=2, uuid="11111111-0000-4000-8000-000000000002", name="Acme", path="/1/2/", parent_id=1
)
USER = User(
    id=3,
    uuid="11111111-0000-4000-8000-000000000003",
    organisation_id=2,
    email="ada@example.com",
    role="CUSTOMER_USER",
    first_name="Ada",
)


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def tokens(time):
    return Tokens(KEY, time, access_s=9000)


def session(organisation=ACME):
    return Session(
        id=SESSION_ID,
        user=USER,
        organisation=organisation,
        root=ROOT,
        permissions=frozenset(),
        expires_at=NOW + 604_800_000,
    )


def parts(token):
    return [
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        for part in token.split(".")[:2]
    ]


def signed(claims, *, header=None, key=KEY, digest=hashlib.sha512):
    """A token made without the library that reads it."""
    head = header or {"alg": "HS512", "typ": "JWT"}
    coded = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (head, claims)
    ]
    text = b".".join(coded)
    mark = hmac.new(key, text, digest).digest()
    return (text + b"." + base64.urlsafe_b64encode(mark).rstrip(b"=")).decode()


def refused(tokens, token, **how):
    with pytest.raises(Trouble) as caught:
        tokens.session_of(token, **how)
    assert caught.value.status is Status.UNAUTHENTICATED
    return caught.value


def test_the_claims_are_the_contracts(tokens):
    """A token of a customer's user has exactly the claims of section 17.1, signed with HS512."""
    header, claims = parts(tokens.pair(session()).token)
    assert header["alg"] == "HS512"
    assert claims == {
        "sub": "ada@example.com",
        "userId": USER.uuid,
        "scopes": ["CUSTOMER_USER"],
        "tenantId": ROOT.uuid,
        "customerId": ACME.uuid,
        "firstName": "Ada",
        "lastName": "",
        "enabled": True,
        "isPublic": False,
        "sessionId": SESSION_ID,
        "iss": "gatehouse",
        "iat": NOW // 1000,
        "exp": NOW // 1000 + 9000,
    }


def test_somebody_of_the_root_is_an_administrator_of_the_tenant(tokens):
    """Where a user stands says the authority, and the root is no customer."""
    _, claims = parts(tokens.pair(session(ROOT)).token)
    assert claims["scopes"] == ["TENANT_ADMIN"]
    assert claims["customerId"] == "13814000-1dd2-11b2-8080-808080808080"


def test_the_refresh_token_is_another_kind(tokens):
    """It lasts as long as the session, has an id, and tells less."""
    _, claims = parts(tokens.pair(session()).refresh_token)
    assert claims.pop("jti")
    assert claims == {
        "sub": "ada@example.com",
        "userId": USER.uuid,
        "scopes": ["REFRESH_TOKEN"],
        "isPublic": False,
        "sessionId": SESSION_ID,
        "iss": "gatehouse",
        "iat": NOW // 1000,
        "exp": NOW // 1000 + 604_800,
    }


def test_each_kind_opens_its_own_door_alone(tokens):
    """An access token refreshes nothing, and a refresh token lets nobody in."""
    pair = tokens.pair(session())
    assert tokens.session_of(pair.token) == SESSION_ID
    assert tokens.session_of(pair.refresh_token, refresh=True) == SESSION_ID
    assert refused(tokens, pair.token, refresh=True).code == 10
    assert refused(tokens, pair.refresh_token).code == 10


def test_an_expired_token_says_so(tokens, time):
    """After its time the code is 11, so that clients refresh it; by our clock, to the second."""
    pair = tokens.pair(session())
    time.now += 8_999_999
    assert tokens.session_of(pair.token) == SESSION_ID
    time.now += 1
    trouble = refused(tokens, pair.token)
    assert (trouble.code, trouble.message) == (11, "Token has expired")


def test_a_token_outlives_no_session(tokens, time):
    """A session that ends sooner than a token would, ends the token too."""
    time.now = NOW + 604_800_000 - 60_000
    _, claims = parts(tokens.pair(session()).token)
    assert claims["exp"] == NOW // 1000 + 604_800


def test_only_our_signature_counts(tokens):
    """Another key, another algorithm, and none at all are nobody's."""
    _, claims = parts(tokens.pair(session()).token)
    assert tokens.session_of(signed(claims)) == SESSION_ID
    forged = [
        signed(claims, key=bytes(64)),
        signed(claims, header={"alg": "HS256"}, digest=hashlib.sha256),
        signed(claims, header={"alg": "none"}),
        signed(claims, header={"alg": "none"}).rsplit(".", 1)[0] + ".",
        signed(claims | {"iss": "thingsboard.io"}),
        jwt.encode(claims, None, algorithm="none"),
    ]
    for token in forged:
        assert refused(tokens, token).code == 10


@pytest.mark.parametrize(
    "spoilt",
    [
        {"sessionId": 7},
        {"sessionId": None},
        {"exp": "tomorrow"},
        {"exp": None},
        {"exp": 1e400},
        {"scopes": "TENANT_ADMIN"},
        {"scopes": None},
    ],
)
def test_what_we_never_sign_is_refused(tokens, spoilt):
    """Claims of other types are nobody's, even where the key is ours."""
    _, claims = parts(tokens.pair(session()).token)
    refused(tokens, signed(claims | spoilt))


def test_a_pair_hides_itself(tokens):
    """What shows a pair of tokens shows neither."""
    pair = tokens.pair(session())
    assert pair.token not in repr(pair)


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_whatever_is_shown_is_refused_in_the_same_way(text):
    """No text makes anything but a 401."""
    refused(Tokens(KEY, lambda: NOW), text)


def test_a_token_beyond_all_bounds_is_not_read(tokens):
    """Megabytes of token cost nothing."""
    refused(tokens, "a" * 5_000_000 + ".b.c")
