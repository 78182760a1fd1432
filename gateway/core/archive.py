"""What is kept of devices' past, for people: readings written and forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.core.model import Event, EventKind, Peer, Reading
from gateway.core.ports import AboutDevice, Clock, Store
from gateway.core.registrar import Registrar

MOST_NAMED = 200
"""Characters of the keys that an event names."""


class Archive:
    """Changes what devices said, as `peer` (the events' author)."""

    def __init__(self, store: Store, registrar: Registrar, *, clock: Clock, peer: Peer) -> None:
        self._store = store
        self._registrar = registrar
        self._clock = clock
        self._peer = peer

    async def write_readings(self, known: AboutDevice, readings: Sequence[Reading]) -> None:
        """Store readings on a device's behalf. Raises `CredentialsGone` when its login changed."""
        await self._store.save_readings(known.device, readings)
        keys = list(dict.fromkeys(reading.key for reading in readings))
        await self._store.record(
            self._event(EventKind.DEVICE_UPDATE, known, _keys("written", keys))
        )

    async def forget_readings(
        self, known: AboutDevice, keys: Sequence[str], *, since: int, until: int
    ) -> bool:
        """Forget the readings of `keys` with `since <= ts < until`. False: no such device."""
        event = self._event(EventKind.DEVICE_UPDATE, known, _keys("forgotten", keys))
        return await self._registrar.forget_readings(
            known.device.id, keys, since=since, until=until, event=event
        )

    def _event(self, kind: EventKind, known: AboutDevice, detail: Mapping[str, str]) -> Event:
        return Event(
            kind=kind,
            at=self._clock(),
            peer=self._peer,
            device_id=known.device.id,
            subject=known.device.name,
            detail=detail,
        )


def _keys(done: str, keys: Sequence[str]) -> dict[str, str]:
    return {f"readings {done}": ", ".join(keys)[:MOST_NAMED]}
