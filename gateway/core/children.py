"""Devices that stand behind a gateway: found by name, or born when first mentioned."""

from __future__ import annotations

import structlog

from gateway.core.limits import Allowance
from gateway.core.model import (
    Device,
    Event,
    EventKind,
    Outcome,
    Peer,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.names import is_device_name
from gateway.core.ports import Clock, NewChild, NewToken, Store

log = structlog.get_logger()

DEFAULT_TYPE = "default"
"""The type of a child whose gateway does not name one (ThingsBoard contract, section 9)."""
_EVENTS_AT_ONCE = 100
_EVENTS_PER_S = 1
"""How many refusals are written down: a gateway mentions a device with all it sends for it."""


class Children:
    """Brings the devices of gateways into being. The store decides, once for each name."""

    def __init__(self, store: Store, clock: Clock, new_token: NewToken) -> None:
        self._store = store
        self._clock = clock
        self._new_token = new_token
        self._refusals = Allowance(_EVENTS_AT_ONCE, _EVENTS_PER_S)

    async def enter(
        self, gateway: Device, name: str, device_type: str, peer: Peer
    ) -> Device | Refused:
        """The device `name` as `gateway` may speak for it.

        One that comes by itself through its gateway is held by the bounds of profiles: PROFILE_FULL
        or ORGANISATION_FULL.
        """
        if not is_device_name(name):
            return Refused(RefusalReason.NAME_INVALID)
        if not is_device_name(device_type):
            return Refused(RefusalReason.TYPE_INVALID)
        now = self._clock()
        found = await self._store.child(
            NewChild(
                gateway=gateway,
                name=name,
                type=device_type,
                token=Secret(self._new_token()),
                peer=peer,
                at=now,
            )
        )
        if isinstance(found, Refused) and self._refusals.take(now):
            await self._tell(gateway, name, found, peer, now)
        return found

    async def _tell(
        self, gateway: Device, name: str, refused: Refused, peer: Peer, now: int
    ) -> None:
        log.info(
            "child.refused",
            wire=peer.wire,
            peer=peer.address,
            device=name,
            gateway=gateway.name,
            reason=refused.reason.value,
        )
        detail = {"gateway": gateway.name, **self._refusals.untold()}
        await self._store.record(
            Event(
                kind=EventKind.DEVICE_CREATE,
                at=now,
                peer=peer,
                subject=name,
                outcome=Outcome.REFUSED,
                reason=refused.reason.value,
                detail=detail,
            )
        )
