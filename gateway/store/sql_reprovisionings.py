"""`SqlReprovisionings`: what the provisioning of known devices needs, in SQL."""

from __future__ import annotations

from hmac import compare_digest
from typing import Final

from gateway.core.model import (
    DeviceCredentials,
    Provisioned,
    ProvisionResult,
    Secret,
)
from gateway.core.ports import KnownCredentials
from gateway.core.reprovisioning import Reprovision
from gateway.store.credentials import credentials_from_bytes
from gateway.store.logins import kept_login
from gateway.store.reprovisionings import ForgetReadings, ReprovisionDevice, code_digest
from gateway.store.retries import Repeated
from gateway.store.sql_store import SqlStore

_STEPS: Final = 5
"""Transactions in which readings are forgotten while a device waits for its answer; the sweep does
the rest."""


class SqlReprovisionings:
    """Implements `core.reprovisioning.ReprovisioningStore`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver

    async def provisioned_device(self, organisation_id: int, name: str) -> KnownCredentials | None:
        row = await self._driver.point("device_to_reprovision", organisation_id, name)
        return None if row is None else self._store.known_from_row(row)

    async def pending_of(self, device_id: int) -> DeviceCredentials | None:
        row = await self._driver.point("pending_of_device", device_id)
        if row is None:
            return None
        kind, digest, sealed = row
        return credentials_from_bytes(kind, self._store.vault.open(sealed, digest))

    async def is_armed(self, device_id: int, code: Secret | None, now: int) -> bool:
        row = await self._driver.point("arming", device_id, now)
        if row is None:
            return False
        kept = row[0]
        if code is None:
            return kept is None
        shown = code_digest(self._store.vault, device_id, code)
        return kept is not None and compare_digest(bytes(kept), shown)

    async def reprovision(self, order: Reprovision) -> ProvisionResult:
        store, device = self._store, order.known.device
        login = kept_login(store.vault, order.credentials)
        digest = code_digest(store.vault, device.id, order.code)
        bound = store.bound(order.terms)
        decision = ReprovisionDevice(order, login, digest, bound, store.known_from_row)
        result = await store.writer.submit(decision)
        if isinstance(result, Repeated):
            return Provisioned(result.known.device, result.known.credentials, again=True)
        if order.reset and isinstance(result, Provisioned):
            await self._forget(device.id)
        return result

    async def _forget(self, device_id: int) -> None:
        row = await self._driver.point("forgetting_of", device_id)
        for _ in range(_STEPS if row is not None else 0):
            assert row is not None
            if not await self._store.writer.submit(ForgetReadings(device_id, row[0])):
                break
