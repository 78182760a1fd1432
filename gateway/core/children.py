"""Devices that stand behind a gateway: found by name, or born when first mentioned."""

from __future__ import annotations

from gateway.core.model import Device, Peer, RefusalReason, Refused, Secret
from gateway.core.names import is_device_name
from gateway.core.ports import Clock, NewChild, NewToken, Store

DEFAULT_TYPE = "default"
"""The type of a child whose gateway does not name one (ThingsBoard contract, section 9)."""


class Children:
    """Brings the devices of gateways into being. The store decides, once for each name."""

    def __init__(self, store: Store, clock: Clock, new_token: NewToken) -> None:
        self._store = store
        self._clock = clock
        self._new_token = new_token

    async def enter(
        self, gateway: Device, name: str, device_type: str, peer: Peer
    ) -> Device | Refused:
        """The device `name` as `gateway` may speak for it."""
        if not is_device_name(name):
            return Refused(RefusalReason.NAME_INVALID)
        if not is_device_name(device_type):
            return Refused(RefusalReason.TYPE_INVALID)
        return await self._store.child(
            NewChild(
                gateway=gateway,
                name=name,
                type=device_type,
                token=Secret(self._new_token()),
                peer=peer,
                at=self._clock(),
            )
        )
