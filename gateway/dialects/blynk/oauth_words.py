"""How the token endpoint speaks: flat, as RFC 6749 has it (contract, section 6.1)."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from gateway.dialects.blynk.words import QUIET_HEADERS, TOO_MANY_TEXT
from gateway.wire.call import ErrorShape, Format, Reply, Status

_encode = msgspec.json.Encoder().encode

PATH: Final = "/oauth2/"
HEADERS: Final = {**QUIET_HEADERS, "Pragma": "no-cache"}
"""RFC 6749, section 5.1."""
WRONG_CLIENT_TEXT: Final = "Client ID is not found or password is wrong."
"""Verbatim Blynk's."""


class FlatError(Struct):
    """An error of RFC 6749, section 5.2."""

    error: str
    error_description: str


def flat(error: str, text: str) -> Reply:
    """A refusal; the status is 400 whatever it says, as Blynk's is."""
    body = _encode(FlatError(error, text))
    return Reply(body, Status.BAD_REQUEST, Format.JSON, text, headers=HEADERS)


INVALID_CLIENT: Final = flat("invalid_client", WRONG_CLIENT_TEXT)
INVALID_GRANT: Final = flat(
    "invalid_grant", "The refresh token, or the user name and password, are wrong or expired."
)
UNAUTHORIZED: Final = flat(
    "unauthorized_client", "This client may not ask for access on behalf of users."
)
UNSUPPORTED: Final = flat(
    "unsupported_grant_type",
    "The grant type is none of client_credentials, refresh_token and user_credentials.",
)


def invalid_request(text: str) -> Reply:
    return flat("invalid_request", text)


def later(wait_s: int) -> Reply:
    """RFC 6749 has no word for it here; this one is of its section 4.1.2.1."""
    body = _encode(FlatError("temporarily_unavailable", TOO_MANY_TEXT))
    return Reply(
        body, Status.LIMITED, Format.JSON, TOO_MANY_TEXT, retry_after_s=wait_s, headers=HEADERS
    )


_ERRORS: Final = {500: "server_error", 503: "temporarily_unavailable"}


def _body(status: int, message: str) -> bytes:
    text = message or "The request cannot be served."
    return _encode(FlatError(_ERRORS.get(status, "invalid_request"), text))


ERRORS: Final = ErrorShape(
    body=_body,
    explained=frozenset({400, 404, 405, 408, 429, 500, 503}),
    too_large=lambda most: _body(413, f"The request is larger than {most} bytes."),
)
"""Errors that no handler gave a body, below `/oauth2/`."""
