"""The Platform API's operations as the document shows them, with the bodies they take and give."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta, Raw, Struct

from gateway.dialects.blynk.operations import ErrorEnvelope
from gateway.wire.operation import Answer, Operation, Query

TAG: Final = "Blynk Platform API"

Int32: TypeAlias = Annotated[
    int, Meta(ge=-(2**31), le=2**31 - 1, extra_json_schema={"format": "int32"})
]
Int64: TypeAlias = Annotated[
    int, Meta(ge=-(2**63), le=2**63 - 1, extra_json_schema={"format": "int64"})
]


JsonObject: TypeAlias = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
"""Text that is one, handed on as it is."""


class IssueBody(Struct, rename={"org_id": "orgId", "owner_id": "ownerId"}):
    """Where a device is to be, and whose: numbers of an organisation and of a user."""

    org_id: Int32
    owner_id: Int64


class DeviceBody(Struct, rename={"device_id": "deviceId"}):
    """Which device."""

    device_id: Int32


class TokenAnswer(Struct, rename={"device_id": "deviceId"}):
    """A provision token, 32 characters, and the number its device will have, or has."""

    token: str
    device_id: Int32


class ReconfigureAnswer(Struct, rename={"offline": "deviceIsOffline"}):
    offline: bool


class OnlineAnswer(Struct):
    connected: bool


class DeviceAnswer(Struct, rename="camel"):
    """A device, never its token. `owner_id` None: nobody's own. `template_id` is the number of its
    profile; the template's text is in `hardware_info`, an object with what the device said of
    itself when it was provisioned. `activated_at` in ms."""

    id: Int32
    name: str
    org_id: Int32
    owner_id: Int64 | None
    template_id: Int32
    product_name: str
    activated_at: Int64
    hardware_info: JsonObject
    connected: bool


def _error(about: str) -> Answer:
    return Answer(about, ErrorEnvelope)


ERRORS: Final = {
    400: _error("The request lacks something, or has it in another type"),
    401: _error("The bearer token is missing, unknown or expired"),
    403: _error("The client has no Platform API scope, or the user lacks a permission"),
    404: _error("It is not there, or out of the caller's sight"),
    429: _error("Too many requests: come again after `Retry-After`"),
    500: _error("It broke here, or the store cannot be written"),
    503: _error("It is stopping: come again after `Retry-After`"),
}
BODY_ERRORS: Final = {
    408: _error("The body did not arrive in time"),
    413: _error("The body is too large"),
    415: _error("The body has a Content-Encoding"),
}
"""Of requests that have a body."""
OAUTH: Final = ("oauth",)


def platform_operation(
    summary: str, about: str, answer: Answer, *query: Query, body: Any = None
) -> Operation:
    """A call by the bearer of an OAuth token, or of a key for scripts."""
    errors = ERRORS if body is None else ERRORS | BODY_ERRORS
    return Operation(
        summary=summary,
        tag=TAG,
        about=about,
        query=query,
        body=body,
        answers={200: answer, **errors},
        security=OAUTH,
    )


DEVICE_ID: Final = Query("deviceId", "The number of the device.", Int32, required=True)

ISSUE: Final = platform_operation(
    "Get a provision token",
    "Reserves a device number. A user needs `PROVISION_DEVICES`, and for a device that is to be "
    "somebody else's `ORG_VIEW_USERS`. The owner is a member of the organisation, or of one above "
    "it that the caller reaches.",
    Answer("The token, shown this once", TokenAnswer),
    body=IssueBody,
)
RECONFIGURE: Final = platform_operation(
    "Tell a device to go to set-up mode",
    "Told on every channel the device has open at this moment, and kept for none. A user needs "
    "`PROVISION_DEVICES` and `ORG_DEVICES_VIEW`, or `OWN_DEVICES_VIEW` for devices of its own.",
    Answer("Whether it was away", ReconfigureAnswer),
    body=DeviceBody,
)
REPROVISION: Final = platform_operation(
    "Get a new provision token for a device that exists",
    "Number and data of the device stay; its old token is good until the new one is first used. "
    "Permissions are those of reconfiguring.",
    Answer("The token, shown this once", TokenAnswer),
    body=DeviceBody,
)
ONLINE: Final = platform_operation(
    "Whether a device can be told something now",
    "A user needs `ORG_DEVICES_VIEW`, or `OWN_DEVICES_VIEW` for devices of its own.",
    Answer("Whether it has a connection", OnlineAnswer),
    DEVICE_ID,
)
DEVICE: Final = platform_operation(
    "Look at a device",
    "Permissions are those of asking whether it is online.",
    Answer("The device", DeviceAnswer),
    DEVICE_ID,
)
