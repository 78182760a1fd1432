"""Credentials shown → the device they belong to, or not."""

from __future__ import annotations

from gateway.core.model import (
    AccessToken,
    Certificate,
    Device,
    Identity,
    MqttBasic,
    PresharedKey,
    Secret,
    mqtt_basic_id,
    sha3_id,
)
from gateway.core.ports import Clock, KnownCredentials, Store

FRESH_MS = 1000
"""How long a token that was looked up is known without another look. What a device writes is held
against its credentials once more in the transaction, and a notice that any changed ends it."""
MOST_KEPT = 10_000


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

    async def by_token(self, token: Secret) -> Device | None:
        """The device whose access token this is."""
        return await self._device(token, self._kept, AccessToken)

    async def by_identity(self, identity: Identity) -> Device | None:
        """The device a handshake proved its peer to be, if its certificate or key still counts."""
        if identity.expires_at and self._clock is not None and self._clock() > identity.expires_at:
            return None
        return await self._device(identity.id, self._proven, (Certificate, PresharedKey))

    async def _device(
        self,
        lookup_id: Secret,
        kept_devices: dict[str, tuple[Device, int]],
        kinds: type | tuple[type, ...],
    ) -> Device | None:
        text = lookup_id.reveal()
        kept = kept_devices.get(text)
        if kept is not None and self._clock is not None:
            left = kept[1] - self._clock()
            if 0 < left <= FRESH_MS:  # more of it: the clock was set back
                return kept[0]
        age = self._age
        known = await self._store.find_credentials(lookup_id)
        if known is None or not isinstance(known.credentials, kinds):
            kept_devices.pop(text, None)
            return None
        if self._clock is not None and age == self._age:  # else it changed while we read
            if len(kept_devices) >= MOST_KEPT:
                kept_devices.clear()
            kept_devices[text] = known.device, self._clock() + FRESH_MS
        return known.device

    def forget(self) -> None:
        """Somebody's credentials changed, or a device or its profile did: look again."""
        self._age += 1
        self._kept.clear()
        self._proven.clear()

    async def by_mqtt(
        self, client_id: str, username: str | None, password: Secret | None
    ) -> Device | None:
        """The device behind a CONNECT; the order of steps is ThingsBoard's (contract, 7.1)."""
        if not username:
            known = await self._store.find_credentials(Secret(sha3_id(client_id)))
            return _basic(known, client_id, username or "", password)
        # 1. Client id and user name together.
        both = await self._store.find_credentials(Secret(mqtt_basic_id(client_id, username)))
        if both is not None and isinstance(both.credentials, MqttBasic):
            device = _basic(both, client_id, username, password)
            if device is not None:
                return device
            if not _password_fits(both.credentials, password):
                return None  # the right device with a wrong password: no second try
        # 2. The user name alone: a token, or a user name.
        known = await self._store.find_credentials(Secret(username))
        if known is None:
            return None
        if isinstance(known.credentials, AccessToken):
            return known.device
        return _basic(known, client_id, username, password)


def _basic(
    known: KnownCredentials | None, client_id: str, username: str, password: Secret | None
) -> Device | None:
    """The triple check: what is stored and not empty must be shown and equal."""
    if known is None or not isinstance(known.credentials, MqttBasic):
        return None
    stored = known.credentials
    fits = (
        (not stored.client_id or stored.client_id == client_id)
        and (not stored.username or stored.username == username)
        and _password_fits(stored, password)
    )
    return known.device if fits else None


def _password_fits(stored: MqttBasic, password: Secret | None) -> bool:
    return not stored.password or stored.password == password
