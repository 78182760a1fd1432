"""JSON Web Tokens of people's logins: HS512, with ThingsBoard's claims (contract, section 17.1).

A token proves which session it belongs to, and no more: whether the session lives, who its user is
and what they may do is looked up for each call. The other claims are for clients that read them.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from gateway.core.model import CUSTOMER_USER, TENANT_ADMIN, Organisation
from gateway.core.ports import Clock
from gateway.dialects.thingsboard.admin.desk import AUTHENTICATION, TOKEN_EXPIRED, Trouble
from gateway.dialects.thingsboard.admin.words import NULL_UUID
from gateway.wire.call import Status

if TYPE_CHECKING:
    from gateway.core.logins import Session

ISSUER: Final = "gatehouse"
REFRESH: Final = "REFRESH_TOKEN"
MOST_TOKEN_CHARACTERS: Final = 4096
_ALGORITHM: Final = "HS512"
_COMMON: Final = ("sub", "userId", "isPublic", "sessionId", "iss", "iat")
"""The claims that a token for refreshing has too."""


class TokenPair(Struct, rename="camel"):
    """`token` goes with each call; `refreshToken` gets another pair when it has expired."""

    token: str
    refresh_token: str

    def __repr__(self) -> str:
        return "TokenPair(***)"


def authority_of(organisation: Organisation) -> str:
    """What ThingsBoard calls users of an organisation, whatever their role lets them do."""
    return TENANT_ADMIN if organisation.parent_id is None else CUSTOMER_USER


def customer_uuid(organisation: Organisation) -> str:
    """An organisation as a customer; the root is none."""
    return NULL_UUID if organisation.parent_id is None else organisation.uuid


def not_logged_in(message: str = "Authentication failed") -> Trouble:
    return Trouble(Status.UNAUTHENTICATED, AUTHENTICATION, message)


class Tokens:
    """Makes and reads tokens. `key`: 64 bytes, as RFC 7518, section 3.2 wants for HS512.

    `access_s`: how long a token is good (ThingsBoard's 2.5 hours).
    """

    def __init__(self, key: bytes, clock: Clock, *, access_s: int = 9000) -> None:
        # Loads OpenSSL's bindings with it: here, once, and neither with the package nor during
        # somebody's login.
        import jwt

        self._jwt = jwt
        self._key = key
        self._clock = clock
        self._access_s = access_s

    def pair(self, session: Session) -> TokenPair:
        """Both tokens of a session; the second lasts as long as the session does."""
        now_s = self._clock() // 1000
        known = _claims(session) | {"iss": ISSUER, "iat": now_s}
        access = known | {"scopes": [authority_of(session.organisation)]}
        refresh = {
            **{name: known[name] for name in _COMMON},
            "scopes": [REFRESH],
            "jti": str(uuid.uuid4()),
        }
        last_s = session.expires_at // 1000
        return TokenPair(
            token=self._sign(access | {"exp": min(now_s + self._access_s, last_s)}),
            refresh_token=self._sign(refresh | {"exp": last_s}),
        )

    def session_of(self, token: str, *, refresh: bool = False) -> str:
        """The id of the session a token belongs to. Raises `Trouble` (401).

        One kind of token is never taken for the other.
        """
        claims = self._read(token)
        session, expires, scopes = (claims.get(name) for name in ("sessionId", "exp", "scopes"))
        if not isinstance(session, str) or not isinstance(expires, int):
            raise not_logged_in()
        if not isinstance(scopes, list) or (REFRESH in scopes) is not refresh:
            raise not_logged_in()
        if expires * 1000 <= self._clock():
            raise Trouble(Status.UNAUTHENTICATED, TOKEN_EXPIRED, "Token has expired")
        return session

    def _sign(self, claims: dict[str, Any]) -> str:
        return self._jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def _read(self, token: str) -> dict[str, Any]:
        """Claims whose signature is ours. The times are looked at here, by our clock."""
        if len(token) > MOST_TOKEN_CHARACTERS:
            raise not_logged_in()
        try:
            return self._jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=ISSUER,
                options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except (self._jwt.PyJWTError, ValueError, RecursionError):
            raise not_logged_in() from None


def _claims(session: Session) -> dict[str, Any]:
    """Who it is, as ThingsBoard writes it; times, issuer and scopes are added."""
    user = session.user
    return {
        "sub": user.email,
        "userId": user.uuid,
        "sessionId": session.id,
        "firstName": user.first_name,
        "lastName": user.last_name,
        "enabled": user.enabled,
        "isPublic": False,
        "tenantId": session.root.uuid,
        "customerId": customer_uuid(session.organisation),
    }
