"""Blynk's operations as the document shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from gateway.wire.operation import Answer, Operation, Query

TAG: Final = "Blynk device API"


class ErrorText(Struct):
    message: str


class ErrorEnvelope(Struct):
    """How Blynk tells errors."""

    error: ErrorText


class MetaAnswer(Struct):
    """A field of metadata. Numbers are numbers, everything else is text."""

    type: str
    value: str | int | float


TOKEN: Final = Query("token", "The device's auth token.", required=True)
_BAD: Final = Answer("The token is nobody's, or something else is wrong.", ErrorEnvelope)
_MANY: Final = Answer("Too much from this address or device; see Retry-After.", ErrorEnvelope)
_TROUBLE: Final = {
    500: Answer("It broke here.", ErrorEnvelope),
    503: Answer("Busy, or the store cannot be written; see Retry-After.", ErrorEnvelope),
}
_OF_BODIES: Final = {
    408: Answer("The body did not arrive in time.", ErrorEnvelope),
    413: Answer("The body is too large.", ErrorEnvelope),
    415: Answer("The body has a Content-Encoding.", ErrorEnvelope),
}
"""What a call may be answered that has a body."""


def device_operation(
    summary: str,
    *query: Query,
    answer: Any = None,
    media: str = "",
    about: str = "",
    body: Any = None,
    besides: Mapping[int, Answer] | None = None,
) -> Operation:
    """A call of a device, known by the token in its address. `besides`: answers of it alone."""
    return Operation(
        summary=summary,
        tag=TAG,
        about=about,
        query=(TOKEN, *query),
        body=body,
        answers={
            200: Answer("Done.", answer, media),
            400: _BAD,
            429: _MANY,
            **_TROUBLE,
            **(_OF_BODIES if body is not None else {}),
            **(besides or {}),
        },
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
    besides={403: Answer("The profile lets there be no more devices.", ErrorEnvelope)},
)

_TEXT: Final = "text/plain"
_PIN: Final = Query("v1", "The value of pin 1; other pins likewise, one or more of them.")
_PIN_NAME: Final = Query("pin", "The pin, such as v1.")
_STREAM_ID: Final = Query("dataStreamId", "The datastream by its id, in place of pins.", int)
_FIELD_ID: Final = Query("metaFieldId", "The field by its id.", int)
_FIELD_NAME: Final = Query("metaFieldName", "The field by its name, in place of its id.")
_VALUE: Final = Query("value", "The value; twice for a location, longitude first.")

IS_CONNECTED: Final = device_operation(
    "Whether the device has a live connection",
    answer=bool,
    about="By MQTT, the binary protocol or an observation. False while the token is pending.",
)
GET: Final = device_operation(
    "Read datastreams",
    Query("v1", "Asks for pin 1; other pins likewise, one or more of them. It needs no value."),
    _STREAM_ID,
    media=_TEXT,
    about="The value alone for one (`100.00000`), an object by pin for several.",
)
GET_ALL: Final = device_operation(
    "Read all datastreams", answer=dict[str, Any], about="By pin; without one by name."
)
UPDATE: Final = device_operation("Write datastreams", _PIN, _STREAM_ID, _VALUE)
BATCH_UPDATE: Final = device_operation("Write several datastreams", _PIN, media=_TEXT)
BATCH: Final = device_operation(
    "Write many values of one datastream",
    _PIN_NAME,
    _STREAM_ID,
    media=_TEXT,
    body=list[tuple[int, int | float | str | list[float]]],
    about="Each with its time in milliseconds; at most 10000. They are history: nobody is told.",
)
SET_PROPERTY: Final = device_operation(
    "Set properties of a datastream",
    _PIN_NAME,
    _STREAM_ID,
    Query("label", "A property, here `label`; others likewise, one or more of them."),
)
LOG_EVENT: Final = device_operation(
    "Tell of an event",
    Query("code", "The event's code in the template.", required=True),
    Query("description", "What happened."),
)
META: Final = device_operation("Read metadata", _FIELD_ID, _FIELD_NAME, answer=MetaAnswer)
SET_META: Final = device_operation("Write metadata", _FIELD_ID, _FIELD_NAME, _VALUE)
