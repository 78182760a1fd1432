"""A device says that whoever knows its key may take it (ThingsBoard contract, section 18)."""

from __future__ import annotations

from gateway.core.model import Device, Event, EventKind, Peer, Secret
from gateway.core.ports import Clock, Store

MOST_DURATION_MS = 10 * 365 * 86_400_000
"""Ten years. What a device asks beyond it is cut to it."""


class Claiming:
    """Takes claims from devices. `duration_ms` is how long one stands that says nothing of it."""

    def __init__(self, store: Store, clock: Clock, *, duration_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._duration_ms = duration_ms

    async def offer(self, device: Device, key: Secret, duration_ms: int, peer: Peer) -> bool:
        """Store a claim unless one stands. The device is not told which; people see the event.

        Raises `CredentialsGone` when the device's login is no longer good.
        """
        now = self._clock()
        lasting = min(duration_ms if duration_ms > 0 else self._duration_ms, MOST_DURATION_MS)
        event = Event(
            kind=EventKind.DEVICE_CLAIM_OFFER,
            at=now,
            peer=peer,
            device_id=device.id,
            subject=device.name,
        )
        return await self._store.offer_claim(device, key, event, now + lasting)
