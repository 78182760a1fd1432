"""Devices that wait for an operator's word, and what it was."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from gateway.core.model.peers import Wire
from gateway.core.model.traffic import Json


class ApprovalKind(StrEnum):
    """What is waited for."""

    BIRTH = "birth"
    REPROVISIONING = "reprovisioning"


class ApprovalState(StrEnum):
    """What an operator said of a device."""

    WAITING = "waiting"
    APPROVED = "approved"
    """It stands until the device comes and is provisioned, and is gone then."""
    DENIED = "denied"


class Approval(Struct, frozen=True, kw_only=True):
    """A device that asked, as operators see it.

    `bound`: the request is bound to its asker (`Binding`), and so is a yes. `hardware` is a JSON
    object in which the device told of itself; `wire` and `address` are of its latest request, one
    of `tries`. `decided_by` is who said yes or no last.
    """

    id: int
    organisation_id: int
    organisation_name: str
    profile_id: int
    profile_name: str
    name: str
    kind: ApprovalKind
    state: ApprovalState
    bound: bool
    wire: Wire
    address: str
    hardware: Json | None
    asked_at: int
    last_at: int
    tries: int
    decided_by: str = ""
    decided_at: int | None = None
