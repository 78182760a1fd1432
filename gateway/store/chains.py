"""Devices that come with a certificate of their factory (ThingsBoard contract, section 2.8)."""

from __future__ import annotations

from gateway.core.errors import GatehouseError
from gateway.core.model import DeviceCredentialsType, Event, EventKind, RefusalReason
from gateway.core.ports import KnownCredentials
from gateway.store.births import Birth
from gateway.store.decisions import Created, CreateDevice, OpenKnown
from gateway.store.driver import Transaction
from gateway.store.events import event_on, tell
from gateway.store.logins import login_changed


class EnterByChain(CreateDevice):
    """The device of a name gets the certificate it came with, or is born with it.

    Gives `Born`, or the device as it is now.
    """

    __slots__ = ("creates",)

    def __init__(self, birth: Birth, open_known: OpenKnown, *, create: bool) -> None:
        super().__init__(birth, open_known)
        self.creates = create

    async def existing(self, tx: Transaction) -> KnownCredentials | RefusalReason | GatehouseError:
        """One UPDATE decides; only then do we look why it did nothing."""
        new, birth = self.birth.new, self.birth
        place = (new.organisation_id, new.profile_id, new.name)
        await tx.savepoint()
        try:
            changed = await tx.fetch("enter_by_chain", *place, birth.digest, birth.sealed, new.at)
            if changed:
                await self._changed(tx, *changed[0])
            found = await self._found(tx)
        except GatehouseError as exc:
            await tx.rollback_to_savepoint()
            return exc
        await tx.release()
        return found

    async def _changed(self, tx: Transaction, device_id: int, generation: int) -> None:
        new = self.birth.new
        superseded = await login_changed(tx, device_id, generation, new.at)
        event = Event(kind=EventKind.DEVICE_CREDENTIALS, at=new.at, peer=new.peer, subject=new.name)
        told = event_on(event, device_id, superseded=superseded)
        tell(tx, [told])

    async def _found(self, tx: Transaction) -> KnownCredentials | RefusalReason:
        new = self.birth.new
        named = await tx.fetch("device_named", new.organisation_id, new.name)
        if not named:
            return RefusalReason.NO_SUCH_DEVICE
        device_id, owner, _ = named[0]
        if owner != new.profile_id:
            return RefusalReason.OTHER_PROFILE
        row = (await tx.fetch("known_by_id", device_id))[0]
        kind, digest, _ = row[-3:]
        if kind == DeviceCredentialsType.REVOKED:
            return RefusalReason.CREDENTIALS_REVOKED
        if kind == DeviceCredentialsType.X509_CERTIFICATE and digest != self.birth.digest:
            return RefusalReason.CREDENTIALS_TAKEN
        return self.open_known(row)

    async def event(self, tx: Transaction, result: Created) -> Event | None:
        """Of a device that was there its change is told, where there was one."""
        return None if isinstance(result, KnownCredentials) else await super().event(tx, result)
