"""The operations on static tokens as the document shows them, with what they take and give.

The bodies are ours: of these calls only addresses and permissions are public (contract, 12).
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, Struct, UnsetType

from gateway.core.static_token_store import StaticState
from gateway.dialects.blynk.platform_operations import Int32, Int64, platform_operation
from gateway.wire.operation import Answer, Query


class ClaimBody(Struct, rename="camel"):
    """`token` is that of the label, also with `+` and the number of the organisation behind it;
    `orgId` may then be left out. Without `ownerId` it is the caller's, where that is a user."""

    token: str
    org_id: Int32 | UnsetType = UNSET
    owner_id: Int64 | UnsetType = UNSET


class UnclaimBody(Struct, rename="camel"):
    """One of the two: the token of the label, or the number of the device."""

    token: str | UnsetType = UNSET
    device_id: Int32 | UnsetType = UNSET


class DeviceNumber(Struct, rename="camel"):
    """The number of the device, which it will have if it is not born yet."""

    device_id: Int32


class PairAnswer(Struct, rename="camel"):
    """A pair, never the device's token. `templateId` is the text compiled into firmware, "" where
    the profile is no template any more; `holderOrgId` and `ownerId` are of who claimed it."""

    id: Int64
    token: str
    device_id: Int32
    org_id: Int32
    template_id: str
    state: StaticState
    holder_org_id: Int32 | None
    owner_id: Int64 | None
    claimed_at: Int64 | None
    created_at: Int64


class PageAnswer(Struct, rename="camel"):
    content: list[PairAnswer]
    page: int
    size: int
    total_elements: int


LIST: Final = platform_operation(
    "List static tokens",
    "Those that an organisation made, in that order. A user needs `MANAGE_STATIC_TOKENS`.",
    Answer("One page", PageAnswer),
    Query("orgId", "The organisation that made them.", Int32, required=True),
    Query("templateId", "Those of one template, as it is called in firmware."),
    Query("state", "`UNCLAIMED` or `CLAIMED`; both without it.", StaticState),
    Query("page", "From 0 on.", Int32),
    Query("size", "1 to 1000; 100 without it.", Int32),
)
CLAIM: Final = platform_operation(
    "Claim a device by its static token",
    "The device moves to the organisation, and is that user's own; before its first connection, "
    "too. A user needs `ORG_DEVICES_CREATE`, `ORG_DEVICES_VIEW` or `OWN_DEVICES_VIEW`, and for "
    "somebody else `ORG_VIEW_USERS`. The same claim may be repeated.",
    Answer("It is claimed", DeviceNumber),
    body=ClaimBody,
)
UNCLAIM: Final = platform_operation(
    "Give a device back to who made it",
    "What it said stays with it; removing the device instead takes that away. A user needs "
    "`ORG_DEVICES_DELETE` or `MANAGE_STATIC_TOKENS`, or `OWN_DEVICES_DELETE` for devices of its "
    "own.",
    Answer("It can be claimed again", DeviceNumber),
    body=UnclaimBody,
)
