"""Credentials shown → the device they belong to, or not."""

from __future__ import annotations

from gateway.core.model import (
    AccessToken,
    Device,
    MqttBasic,
    Secret,
    mqtt_basic_id,
    sha3_id,
)
from gateway.core.ports import KnownCredentials, Store


class Access:
    """Finds the device behind what a peer shows. None means: not known, or not matching."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def by_token(self, token: Secret) -> Device | None:
        """The device whose access token this is."""
        known = await self._store.find_credentials(token)
        if known is None or not isinstance(known.credentials, AccessToken):
            return None
        return known.device

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
