"""Credentials shown → the device they belong to, or not.

Once they are proven they are in use, and that is on disk before the device is let in: nobody is
given them any more, and those that were pending take the older ones' place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from gateway.core.model import (
    AccessToken,
    Certificate,
    Device,
    Event,
    EventKind,
    Identity,
    MqttBasic,
    Peer,
    PresharedKey,
    Secret,
    Wire,
    mqtt_basic_id,
    sha3_id,
)
from gateway.core.ports import Clock, KnownCredentials, Store

FRESH_MS = 1000
"""How long a token that was looked up is known without another look. What a device writes is held
against its credentials once more in the transaction, and a notice that any changed ends it."""
MOST_KEPT = 10_000
SOMEBODY = Peer(Wire.SHELL, "unknown")
"""Who shows something, where nobody says who it is."""

_Known: TypeAlias = KnownCredentials | None
_Find: TypeAlias = Callable[[Secret], Awaitable[_Known]]


class Access:
    """Finds the device behind what a peer shows. None means: not known, or not matching.

    Without a clock every token is looked up in the store.
    """

    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock
        self._kept: dict[str, tuple[Device, int]] = {}
        self._proven: dict[str, tuple[Device, int]] = {}
        """By the ids of certificates and keys: apart, since a token may read like one of those."""
        self._age = 0
        """How often it was told to forget."""

    async def by_token(self, token: Secret, peer: Peer = SOMEBODY) -> Device | None:
        """The device whose access token this is. `peer` shows it."""
        return await self._device(token, self._kept, AccessToken, peer)

    async def by_identity(self, identity: Identity) -> Device | None:
        """The device a handshake proved its peer to be, if its certificate or key still counts."""
        if identity.expires_at and self._clock is not None and self._clock() > identity.expires_at:
            return None
        kinds = (Certificate, PresharedKey)
        return await self._device(identity.id, self._proven, kinds, SOMEBODY)

    async def _device(
        self,
        lookup_id: Secret,
        kept_devices: dict[str, tuple[Device, int]],
        kinds: type | tuple[type, ...],
        peer: Peer,
    ) -> Device | None:
        text = lookup_id.reveal()
        kept = kept_devices.get(text)
        if kept is not None and self._clock is not None:
            left = kept[1] - self._clock()
            if 0 < left <= FRESH_MS:  # more of it: the clock was set back
                return kept[0]
        age = self._age
        known = await self._find(lookup_id)
        if known is None or not isinstance(known.credentials, kinds):
            kept_devices.pop(text, None)
            return None
        if known.repeatable or known.pending:
            return await self._first_use(known, peer)
        if self._clock is not None and age == self._age:  # else it changed while we read
            if len(kept_devices) >= MOST_KEPT:
                kept_devices.clear()
            kept_devices[text] = known.device, self._clock() + FRESH_MS
        return known.device

    async def _find(self, lookup_id: Secret) -> KnownCredentials | None:
        """Those that a device has, else those that it was given and did not use yet."""
        return (
            await self._store.find_credentials(lookup_id)
            or await self._store.find_pending(lookup_id)
            or await self._store.find_credentials(lookup_id)  # taken up between the two looks
        )

    async def _first_use(self, known: KnownCredentials, peer: Peer) -> Device | None:
        """They were proven just now, for the first time. Raises what the store raises."""
        device = known.device
        if not known.pending:
            await self._store.used(device)
            return device
        event = Event(
            kind=EventKind.DEVICE_CREDENTIALS_USE,
            at=0 if self._clock is None else self._clock(),
            peer=peer,
            subject=device.name,
            device_id=device.id,
        )
        await self._store.take_up_pending(device.id, known.credentials.id, event)
        # Of several that show them at once one takes them up; all of them are the device.
        taken = await self._store.find_credentials(known.credentials.id)
        return None if taken is None else taken.device

    def forget(self) -> None:
        """Somebody's credentials changed, or a device or its profile did: look again."""
        self._age += 1
        self._kept.clear()
        self._proven.clear()

    def forget_one(self, lookup_id: Secret) -> None:
        """The next use of these credentials is to be seen as the first."""
        self._age += 1
        self._kept.pop(lookup_id.reveal(), None)
        self._proven.pop(lookup_id.reveal(), None)

    async def by_mqtt(
        self,
        client_id: str,
        username: str | None,
        password: Secret | None,
        peer: Peer = SOMEBODY,
    ) -> Device | None:
        """The device behind a CONNECT by `peer`."""
        shown = (client_id, username or "", password)
        known = await _shown(self._store.find_credentials, *shown)
        if known is None:
            known = await _shown(self._store.find_pending, *shown)
        if known is None:  # nobody's, or taken up between the two looks
            known = await _shown(self._store.find_credentials, *shown)
        if known is not None and (known.repeatable or known.pending):
            return await self._first_use(known, peer)
        return None if known is None else known.device


async def _shown(find: _Find, client_id: str, username: str, password: Secret | None) -> _Known:
    """What a CONNECT proved; the order of steps is ThingsBoard's (contract, 7.1)."""
    if not username:
        return _basic(await find(Secret(sha3_id(client_id))), client_id, username, password)
    # 1. Client id and user name together.
    both = await find(Secret(mqtt_basic_id(client_id, username)))
    if both is not None and isinstance(both.credentials, MqttBasic):
        known = _basic(both, client_id, username, password)
        if known is not None:
            return known
        if not _password_fits(both.credentials, password):
            return None  # the right device with a wrong password: no second try
    # 2. The user name alone: a token, or a user name.
    known = await find(Secret(username))
    if known is None or isinstance(known.credentials, AccessToken):
        return known
    return _basic(known, client_id, username, password)


def _basic(known: _Known, client_id: str, username: str, password: Secret | None) -> _Known:
    """The triple check: what is stored and not empty must be shown and equal."""
    if known is None or not isinstance(known.credentials, MqttBasic):
        return None
    stored = known.credentials
    fits = (
        (not stored.client_id or stored.client_id == client_id)
        and (not stored.username or stored.username == username)
        and _password_fits(stored, password)
    )
    return known if fits else None


def _password_fits(stored: MqttBasic, password: Secret | None) -> bool:
    return not stored.password or stored.password == password
