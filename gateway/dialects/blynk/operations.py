"""Blynk's operations as the document shows them."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from gateway.wire.operation import Answer, Operation, Query

TAG: Final = "Blynk device API"


class ErrorText(Struct):
    message: str


class ErrorEnvelope(Struct):
    """How Blynk tells errors."""

    error: ErrorText


TOKEN: Final = Query("token", "The device's auth token.", required=True)
_BAD: Final = Answer("The token is nobody's, or something else is wrong.", ErrorEnvelope)
_MANY: Final = Answer("Too much from this address or device; see Retry-After.", ErrorEnvelope)


def device_operation(
    summary: str,
    *query: Query,
    answer: Any = None,
    media: str = "",
    about: str = "",
    body: Any = None,
) -> Operation:
    """A call of a device, known by the token in its address."""
    return Operation(
        summary=summary,
        tag=TAG,
        about=about,
        query=(TOKEN, *query),
        body=body,
        answers={200: Answer("Done.", answer, media), 400: _BAD, 429: _MANY},
        public=True,
    )


CLAIM: Final = device_operation(
    "Claim a provision token",
    Query("templateId", "The template compiled into the firmware.", required=True),
    Query("build", "When the firmware was built."),
    Query("ver", "Version of the firmware."),
    Query("type", "MCU or NCP."),
    Query("fwType", "Type of the firmware, often the template id."),
    Query("blVer", "Version of the Blynk library."),
    Query("boType", "Type of the board."),
    about="The device is born with this token as its own; the call may be repeated.",
)
