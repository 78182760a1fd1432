"""Devices that wait for an operator's word."""

from __future__ import annotations

from typing import Protocol

from gateway.core.model import (
    Binding,
    DeviceProfile,
    Json,
    Peer,
    ProvisionRequest,
    RefusalReason,
    Refused,
)

BIRTH = "birth"
REPROVISIONING = "reprovisioning"


class ApprovalStore(Protocol):
    """What is asked of the store."""

    async def await_approval(
        self,
        profile: DeviceProfile,
        name: str,
        kind: str,
        binding: Binding | None,
        hardware: Json | None,
        peer: Peer,
        now: int,
    ) -> int | RefusalReason:
        """Decides: the number of an approval that stands for this request.

        Else APPROVAL_PENDING, and it is in the queue now (once, however often it asks), or
        APPROVAL_DENIED; TOO_MANY_REQUESTS when the queue is full. One that was approved with a
        binding stands for the request with that binding alone.
        """


class Awaiting:
    """Asks whether an operator said yes."""

    def __init__(self, store: ApprovalStore | None = None) -> None:
        self._store = store

    async def ask(
        self,
        profile: DeviceProfile,
        request: ProvisionRequest,
        name: str,
        kind: str,
        binding: Binding | None,
        now: int,
    ) -> int | Refused | None:
        """The number of the operator's yes; None: none is needed; else what the device is told."""
        return None
