"""Calls of methods of devices."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class RpcState(StrEnum):
    """How far a call to a device came (ThingsBoard's `RpcStatus`)."""

    QUEUED = "QUEUED"
    """It waits for the device to be there."""
    SENT = "SENT"
    DELIVERED = "DELIVERED"
    """The device's side acknowledged it; a two-way call waits for its answer."""
    SUCCESSFUL = "SUCCESSFUL"
    TIMEOUT = "TIMEOUT"
    """Delivered, and never answered."""
    EXPIRED = "EXPIRED"
    """Never delivered."""
    FAILED = "FAILED"
    DELETED = "DELETED"

    @property
    def final(self) -> bool:
        return self not in (RpcState.QUEUED, RpcState.SENT, RpcState.DELIVERED)


class RpcCall(Struct, frozen=True, kw_only=True):
    """A call of a method of a device. `params` and `response` are JSON texts.

    `persistent`: it waits for a device that is away until `expires_at`, and is sent again when its
    delivery was not acknowledged, `retries` times (0: as often as it takes); else it fails at once
    when the device is not there. `uuid` is its outside name; `id` its number, 0 for one that is
    not stored.
    """

    device_id: int
    method: str
    params: str = "{}"
    two_way: bool = True
    persistent: bool = False
    created_at: int = 0
    expires_at: int = 0
    retries: int = 0
    state: RpcState = RpcState.QUEUED
    response: str | None = None
    uuid: str = ""
    id: int = 0
