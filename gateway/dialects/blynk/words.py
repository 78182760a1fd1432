"""Blynk's texts, and how they are told (contract, sections 2.2, 4.5 and 10)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import structs

from gateway.wire.call import ErrorShape, Format, Reply, Status

_encode = msgspec.json.Encoder().encode

# Verbatim: clients in the field have them, full stops and all.
INVALID_TOKEN_TEXT: Final = "Invalid token."  # noqa: S105
NO_TEMPLATE_TEXT: Final = "Template is not found."
NO_ORGANISATION_TEXT: Final = "Organization is not found or you don't have access to it."
NO_USER_TEXT: Final = "User is not found or you don't have access to him."
NO_DEVICE_TEXT: Final = (
    "Device with identifier {number} is not found or belong to another organization."
)
NO_SCOPE_TEXT: Final = "Platform API scope is not enabled for this oauth client."
NO_PERMISSION_TEXT: Final = "User {email} has no permission for '{operation}' operation."
NO_ROOM_TEXT: Final = "Device limit has been reached."
TOO_MANY_TEXT: Final = "Too many requests. Try again later."

QUIET_HEADERS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
"""Of whatever answers an address that holds a token: neither kept nor told to anybody."""


def envelope(message: str) -> bytes:
    """`{"error":{"message":"…"}}`."""
    return _encode({"error": {"message": message}})


def refused(message: str, status: Status = Status.BAD_REQUEST, *, retry_after_s: int = 0) -> Reply:
    """An error in the envelope, whatever the wire."""
    return Reply(
        envelope(message),
        status,
        Format.JSON,
        message,
        retry_after_s,
        headers=QUIET_HEADERS,
    )


def answered(body: Any) -> Reply:
    """`body` is a struct, or what msgspec makes JSON of."""
    return Reply(_encode(body), format=Format.JSON, headers=QUIET_HEADERS)


DONE: Final = Reply(headers=QUIET_HEADERS)
"""200 without a body; a device in the field takes 204 for a failure."""
INVALID_TOKEN: Final = refused(INVALID_TOKEN_TEXT)
NO_TEMPLATE: Final = refused(NO_TEMPLATE_TEXT)
NO_ROOM: Final = structs.replace(refused(NO_ROOM_TEXT, Status.FORBIDDEN), ack=0x97)
"""Ours, by the example of a limit that Blynk documents (section 10); in MQTT 5: quota exceeded."""


def too_many(retry_after_s: int) -> Reply:
    return refused(TOO_MANY_TEXT, Status.LIMITED, retry_after_s=retry_after_s)


_SENTENCES: Final = {
    401: "Authentication is required.",
    403: "Access is denied.",
    500: "Internal server error.",
}


def _body(status: int, message: str) -> bytes:
    return envelope(message or _SENTENCES.get(status, "The request cannot be served."))


ERRORS: Final = ErrorShape(
    body=_body,
    explained=frozenset({400, 401, 403, 404, 405, 408, 429, 500, 503}),
    too_large=lambda most: envelope(f"The request is larger than {most} bytes."),
)
"""Errors that no handler gave a body, on Blynk's paths."""

PATHS: Final = ("/external/api/", "/api/v1/organization/", "/oauth2/")
"""Where Blynk's HTTP lives. ThingsBoard's paths with these beginnings would need a device token
`organization`, which neither its devices nor ours have."""
