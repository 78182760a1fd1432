"""OAuth2 for the Platform API: tokens are given and ended (contract, section 6; RFC 6749, 7009).

What Blynk does otherwise than RFC 6749: parameters may stand in the query, every refusal has status
400, and a user's password is shown with the grant type `user_credentials`.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from msgspec import Struct

from gateway.core.model import Secret
from gateway.core.oauth import Credentials, Later, OAuth, Pair, Refusal
from gateway.dialects.blynk import oauth_words as words
from gateway.dialects.blynk.oauth_words import FlatError, invalid_request
from gateway.wire.call import Call, Format, Reply, pairs_of
from gateway.wire.operation import Answer, Operation, Query
from gateway.wire.route import Route

_encode = msgspec.json.Encoder().encode

TOKEN_PATH: Final = f"{words.PATH}token"
REVOKE_PATH: Final = f"{words.PATH}revoke"
FORM: Final = "application/x-www-form-urlencoded"
MOST_PARAMETERS: Final = 32
_GRANTS: Final[Mapping[str, tuple[str, ...]]] = {
    "client_credentials": (),
    "refresh_token": ("refresh_token",),
    "user_credentials": ("username", "password"),
}
"""The parameters each needs. Those of `user_credentials` are ours: Blynk's are not published."""
_REFUSALS: Final[Mapping[Refusal, Reply]] = {
    Refusal.CLIENT: words.INVALID_CLIENT,
    Refusal.GRANT: words.INVALID_GRANT,
    Refusal.UNAUTHORIZED: words.UNAUTHORIZED,
}


class AccessAnswer(Struct):
    """Access that was given. `expires_in` is in seconds."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str

    def __repr__(self) -> str:
        return "AccessAnswer(***)"


class _Refused(Exception):
    """The request ends here, with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.reason)
        self.reply = reply


class OAuthRoutes:
    """`POST /oauth2/token` and `POST /oauth2/revoke`."""

    def __init__(self, oauth: OAuth) -> None:
        self._oauth = oauth

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                name="blynk.oauth.token",
                handler=self.token,
                http=(f"POST {TOKEN_PATH}",),
                operation=_TOKEN,
            ),
            Route(
                name="blynk.oauth.revoke",
                handler=self.revoke,
                http=(f"POST {REVOKE_PATH}",),
                operation=_REVOKE,
            ),
        )

    async def token(self, call: Call) -> Reply:
        """What is asked is looked at first, then who asks."""
        try:
            said = parameters(call)
            kind = needed(said, "grant_type")
            if kind not in _GRANTS:
                return words.UNSUPPORTED
            values = [needed(said, name) for name in _GRANTS[kind]]
            client = credentials(call, said)
        except _Refused as exc:
            return exc.reply
        found = await self._given(kind, values, client, call)
        return _pair(found) if isinstance(found, Pair) else _refusal(found)

    async def _given(
        self, kind: str, values: list[str], client: Credentials, call: Call
    ) -> Pair | Refusal | Later:
        match kind:
            case "refresh_token":
                return await self._oauth.refreshed(client, Secret(values[0]), call.peer)
            case "user_credentials":
                email, password = values
                return await self._oauth.user_access(client, email, Secret(password), call.peer)
            case _:
                return await self._oauth.client_access(client, call.peer)

    async def revoke(self, call: Call) -> Reply:
        """200 whether there was such a token or not (RFC 7009, section 2.2)."""
        try:
            said = parameters(call)
            token = Secret(needed(said, "token"))
            client = credentials(call, said)
        except _Refused as exc:
            return exc.reply
        refused = await self._oauth.ended(client, token, call.peer)
        return Reply(headers=words.HEADERS) if refused is None else _refusal(refused)


def _pair(pair: Pair) -> Reply:
    access, refresh = pair.access.reveal(), pair.refresh.reveal()
    body = _encode(AccessAnswer(access, "Bearer", pair.expires_s, refresh))
    return Reply(body, format=Format.JSON, headers=words.HEADERS)


def _refusal(why: Refusal | Later) -> Reply:
    return words.later(why.wait_s) if isinstance(why, Later) else _REFUSALS[why]


# ── what is asked ─────────────────────────────────────────────────────────────────────────────


def parameters(call: Call) -> dict[str, str]:
    """Those of the query, and of a form in the body; without those that are empty.

    A body of another type is not looked at: programs send `{}` where Blynk wants nothing. Raises
    `_Refused` when one is given twice (RFC 6749, section 3.2).
    """
    found: dict[str, str] = {}
    given = [*pairs_of(call.query), *_form(call)]
    for name, value in given:
        if name in found:
            raise _Refused(invalid_request("A parameter is given more than once."))
        found[name] = value
    return {name: value for name, value in found.items() if value}


def _form(call: Call) -> list[tuple[str, str]]:
    kind, _, _ = call.headers.get("Content-Type", FORM).partition(";")
    if not call.body or kind.strip().lower() != FORM:
        return []
    try:
        text = call.body.decode()
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise _Refused(invalid_request("The form cannot be read.")) from None


def needed(said: Mapping[str, str], name: str) -> str:
    """The value of a parameter. Raises `_Refused` without one."""
    value = said.get(name)
    if value is None:
        raise _Refused(invalid_request(f"The parameter {name} is missing."))
    return value


def credentials(call: Call, said: Mapping[str, str]) -> Credentials:
    """Who asks: by HTTP Basic, or by the parameters `client_id` and `client_secret`.

    Raises `_Refused`: there is neither, or both (RFC 6749, section 2.3).
    """
    name, secret = said.get("client_id"), said.get("client_secret")
    header = call.headers.get("Authorization")
    if header is None:
        if name is None or secret is None:
            raise _Refused(words.INVALID_CLIENT)
        return Credentials(name, Secret(secret))
    shown = _basic(header)
    if shown is None:
        raise _Refused(words.INVALID_CLIENT)
    if secret is not None or name not in (None, shown.name):
        raise _Refused(invalid_request("The client is named in more than one way."))
    return shown


def _basic(header: str) -> Credentials | None:
    """What HTTP Basic (RFC 7617) says, each half form-encoded (RFC 6749, section 2.3.1)."""
    scheme, _, encoded = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (Base64Error, ValueError):
        return None
    return Credentials(unquote_plus(name), Secret(unquote_plus(secret))) if colon else None


# ── for the document ──────────────────────────────────────────────────────────────────────────


def _flat(about: str) -> Answer:
    return Answer(about, FlatError)


_ERRORS: Final[Mapping[int, Answer]] = {
    400: _flat("Refused; `error` says why"),
    405: _flat("Another method than POST"),
    408: _flat("The body did not arrive in time"),
    413: _flat("The body is too large"),
    415: _flat("The body has a Content-Encoding"),
    429: _flat("Too much from this address or organisation; see Retry-After"),
    500: _flat("It broke, here"),
    503: _flat("Later; see Retry-After"),
}
_CLIENT: Final = (
    Query("client_id", "The client; or HTTP Basic."),
    Query("client_secret", "Its secret; or, better, HTTP Basic."),
)
_TAG: Final = "OAuth2"
_TOKEN: Final = Operation(
    summary="Get access",
    tag=_TAG,
    about="Parameters stand in the query, or in a form in the body; the client shows itself by "
    "HTTP Basic, or by parameters. A refresh token is good for one use.",
    query=(
        Query("grant_type", f"One of {', '.join(_GRANTS)}.", required=True),
        Query("refresh_token", "With refresh_token."),
        Query("username", "With user_credentials: an e-mail address."),
        Query("password", "With user_credentials."),
        *_CLIENT,
    ),
    answers={200: Answer("A pair of tokens, shown this once", AccessAnswer), **_ERRORS},
    public=True,
)
_REVOKE: Final = Operation(
    summary="End access",
    tag=_TAG,
    about="With either token of a pair both end. A token that is not there is no error.",
    query=(Query("token", "An access or a refresh token.", required=True), *_CLIENT),
    answers={200: Answer("It is over"), **_ERRORS},
    public=True,
)
