"""Logging in and out, and who calls (contract, section 17.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from gateway.core.logins import LoginRefusal
from gateway.core.model import Actor, Secret
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import (
    NO_PERMISSION,
    PERMISSION_DENIED,
    TOO_MANY_REQUESTS,
    Desk,
    Trouble,
    body_of,
    json_reply,
)
from gateway.dialects.thingsboard.admin.tokens import TokenPair, Tokens, not_logged_in
from gateway.wire.call import Call, Reply, Status
from gateway.wire.operation import Operation
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.logins import Logins, Session
    from gateway.core.people import People

WRONG: Final = "Invalid username or password"
_EXPIRED: Final = "The initial password has expired; have another one set"
TAG: Final = "Login"


class LoginBody(Struct):
    username: str
    password: str

    def __repr__(self) -> str:
        return "LoginBody(***)"


class RefreshBody(Struct, rename="camel"):
    refresh_token: str

    def __repr__(self) -> str:
        return "RefreshBody(***)"


class PasswordBody(Struct, rename="camel"):
    current_password: str
    new_password: str

    def __repr__(self) -> str:
        return "PasswordBody(***)"


class Callers:
    """Says who calls, by the headers of the call: `desk.Authenticate`.

    `X-Authorization` is ThingsBoard's, `Authorization` is looked at without it. `Bearer` goes
    before a token of a login, `ApiKey` before a key for scripts.
    """

    def __init__(self, logins: Logins, tokens: Tokens) -> None:
        self._logins = logins
        self._tokens = tokens

    async def __call__(self, call: Call) -> Actor:
        scheme, shown = _shown(call.headers)
        if scheme == "bearer":
            session = self._tokens.session_of(shown)
            actor = await self._logins.actor(session, call.peer)
        elif scheme == "apikey" and shown:
            actor = await self._logins.actor_by_key(Secret(shown), call.peer)
        else:
            actor = None
        if actor is None:
            raise not_logged_in()
        return actor


def _shown(headers: Mapping[str, str]) -> tuple[str, str]:
    """The scheme in lower case, and what follows it."""
    text = headers.get("X-Authorization") or headers.get("Authorization") or ""
    scheme, _, shown = text.strip().partition(" ")
    return scheme.lower(), shown.strip()


class LoginRoutes:
    """`/api/auth/…`: everybody may log in; the rest is for whoever did."""

    def __init__(self, logins: Logins, people: People, tokens: Tokens) -> None:
        self._logins = logins
        self._people = people
        self._tokens = tokens

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        return (
            desk.public("login", "POST /api/auth/login", self._login, operation=_LOGIN),
            desk.public("token", "POST /api/auth/token", self._refresh, operation=_TOKEN),
            desk.route(
                "logout", "POST /api/auth/logout", self._logout, needs=(), operation=_LOGOUT
            ),
            desk.route(
                "password.change",
                "POST /api/auth/changePassword",
                self._change_password,
                needs=(),
                operation=_CHANGE_PASSWORD,
            ),
        )

    async def _login(self, call: Call) -> Reply:
        asked = body_of(call, LoginBody)
        session = await self._logins.login(asked.username, Secret(asked.password), call.peer)
        return self._told(session)

    async def _refresh(self, call: Call) -> Reply:
        token = body_of(call, RefreshBody).refresh_token
        session = await self._logins.refresh(
            self._tokens.session_of(token, refresh=True), call.peer
        )
        if session is None:
            raise not_logged_in()
        return json_reply(self._tokens.pair(session))

    async def _logout(self, call: Call, actor: Actor) -> Reply:
        await self._logins.logout(actor)
        return Reply()

    async def _change_password(self, call: Call, actor: Actor) -> Reply:
        """The other sessions of the user are over; this one goes on with new tokens."""
        if not actor.session:
            raise Trouble(Status.FORBIDDEN, PERMISSION_DENIED, NO_PERMISSION)  # a key for scripts
        asked = body_of(call, PasswordBody)
        await self._people.change_own_password(
            actor, Secret(asked.current_password), Secret(asked.new_password)
        )
        session = await self._logins.refresh(actor.session, call.peer)
        if session is None:
            raise not_logged_in()
        return json_reply(self._tokens.pair(session))

    def _told(self, outcome: Session | LoginRefusal) -> Reply:
        """Whether the account exists is not told: neither by the words nor by the wait."""
        if isinstance(outcome, LoginRefusal):
            raise _refusal(outcome)
        return json_reply(self._tokens.pair(outcome))


def _refusal(why: LoginRefusal) -> Trouble:
    if why.wait_s:
        return Trouble(
            Status.LIMITED,
            TOO_MANY_REQUESTS,
            f"Too many attempts to log in; try again in {why.wait_s} s",
            retry_after_s=why.wait_s,
        )
    return not_logged_in(_EXPIRED if why == LoginRefusal.EXPIRED else WRONG)


_LOGIN = Operation(
    summary="Log in",
    tag=TAG,
    about="A wrong password, an unknown user and a disabled one are told alike.",
    body=LoginBody,
    body_example={"username": "admin@example.com", "password": "correct horse battery"},
    answers=answers("The tokens of a new session.", TokenPair, 400, 401, 429),
    public=True,
)
_TOKEN = Operation(
    summary="Get new tokens for a session",
    tag=TAG,
    body=RefreshBody,
    answers=answers("New tokens of the same session.", TokenPair, 400, 401),
    public=True,
)
_LOGOUT = Operation(
    summary="Log out",
    tag=TAG,
    about="All tokens of this session are worth nothing from now on.",
    answers=answers("The session is over.", None, 401),
)
_CHANGE_PASSWORD = Operation(
    summary="Change one's own password",
    tag=TAG,
    about="All other sessions of the user are over. Not with a key for scripts.",
    body=PasswordBody,
    answers=answers("New tokens of this session.", TokenPair, 400, 401, 403),
)
