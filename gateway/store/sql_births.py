"""How devices come in: born, claimed, admitted again; and by what they are known."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from gateway.core.model import (
    Binding,
    Device,
    DeviceCredentials,
    DeviceProfile,
    Event,
    EventKind,
    Provisioned,
    ProvisionResult,
    RefusalReason,
    Refused,
    Secret,
)
from gateway.core.pki.model import IssuedCertificate
from gateway.core.ports import KnownCredentials, NewDevice
from gateway.core.terms import NO_TERMS, Terms
from gateway.store.births import Birth
from gateway.store.chains import EnterByChain
from gateway.store.credentials import sealed_credentials
from gateway.store.decisions import Born, ClaimDevice, Created, CreateDevice, Fresh
from gateway.store.guarded import Guarded, GuardedEntry
from gateway.store.identity import uuid7, uuid_text
from gateway.store.logins import kept_login
from gateway.store.placements import Placed, PlaceDevice
from gateway.store.retries import Bound, EndRetries, Repeated
from gateway.store.sql_certificates import CertificateStore
from gateway.store.writer import Decision


class BirthStore(CertificateStore):
    """The part of `SqlStore` through which devices come in."""

    async def create_device(self, new: NewDevice) -> ProvisionResult:
        digest, sealed = sealed_credentials(self.vault, new.credentials)
        bound = self.bound(new.terms)
        birth = Birth(new, uuid7(new.at), digest, sealed, bound=bound)
        decision: Decision[Any]
        if new.birth is None:
            decision = CreateDevice(birth, self.known_from_row)
        else:
            decision = PlaceDevice(birth, new.birth, self.known_from_row)
        if new.terms.guarded:
            place = (new.organisation_id, new.profile_id)
            told = Event(
                kind=EventKind.DEVICE_PROVISION, at=new.at, peer=new.peer, subject=new.name
            )
            decision = self._guarded(decision, new.terms, place, told, new.issued, bound)
        result = await self.writer.submit(decision)
        if isinstance(result, Placed):
            return _provisioned(result.birth, Born(result.device_id))
        return _provisioned(birth, result)

    def bound(self, terms: Terms) -> Bound | None:
        """By what an answer is found again."""
        return None if terms.binding is None else self._kept_binding(terms.binding)

    def _kept_binding(self, binding: Binding) -> Bound:
        return Bound(self.vault.digest(f"retry|{binding.bound.reveal()}"), binding.until)

    def _guarded(
        self,
        inner: Decision[Any],
        terms: Terms,
        place: tuple[int, int],
        told: Event,
        issued: IssuedCertificate | None,
        bound: Bound | None,
    ) -> Guarded:
        opened = self.known_from_row
        return Guarded(inner, terms, place, told, issued, bound=bound, open_known=opened)

    async def enter_by_chain(self, new: NewDevice, *, create: bool) -> ProvisionResult:
        """A device whose certificate it is already gets it once more, and nothing is written."""
        digest, sealed = sealed_credentials(self.vault, new.credentials)
        birth = Birth(new, uuid7(new.at), digest, sealed)
        enter: Decision[Any] = EnterByChain(birth, self.known_from_row, create=create)
        if new.terms.guarded:
            place = (new.organisation_id, new.profile_id)
            told = Event(
                kind=EventKind.DEVICE_PROVISION, at=new.at, peer=new.peer, subject=new.name
            )
            enter = GuardedEntry(
                enter, new.terms, place, told, None, bound=None, open_known=self.known_from_row
            )
        return _provisioned(birth, await self.writer.submit(enter))

    async def claim_device(
        self,
        profile: DeviceProfile,
        name: str,
        event: Event,
        *,
        fresh: DeviceCredentials | None = None,
        issued: IssuedCertificate | None = None,
        terms: Terms = NO_TERMS,
    ) -> ProvisionResult:
        given = None
        if fresh is not None:
            given = Fresh(kept_login(self.vault, fresh), issued, event.at)
        decision: Decision[Any]
        bound, opened = self.bound(terms), self.known_from_row
        decision = ClaimDevice(profile, name, event, opened, given, terms, bound)
        if terms.guarded:
            place = (profile.organisation_id, profile.id)
            decision = self._guarded(decision, terms, place, event, issued, bound)
        return _claimed(await self.writer.submit(decision), issued)

    async def find_repeat(self, binding: Binding, now: int) -> KnownCredentials | None:
        row = await self.driver.point("repeat_bound", self._kept_binding(binding).digest, now)
        return None if row is None else self.known_from_row(row)

    async def used(self, device: Device) -> None:
        await self.writer.submit(EndRetries(device.id))

    async def find_credentials(self, lookup_id: Secret) -> KnownCredentials | None:
        row = await self.driver.point("known_by_digest", self.vault.digest(lookup_id.reveal()))
        if row is None:
            return None
        known = self.known_from_row(row[:-1])
        return known if row[-1] is None else structs.replace(known, repeatable=True)


def _provisioned(birth: Birth, result: Created) -> ProvisionResult:
    new = birth.new
    if not isinstance(result, Born):
        return _claimed(result, new.issued)
    issuers = new.issued.issuers if new.issued is not None else ()
    return Provisioned(_born(birth, result.device_id), new.credentials, issuers)


def _claimed(
    result: KnownCredentials | Repeated | RefusalReason, issued: IssuedCertificate | None
) -> ProvisionResult:
    if isinstance(result, RefusalReason):
        return Refused(result)
    if isinstance(result, Repeated):
        return Provisioned(result.known.device, result.known.credentials, again=True)
    return Provisioned(result.device, result.credentials, issued.issuers if issued else ())


def _born(birth: Birth, number: int) -> Device:
    new = birth.new
    return Device(
        id=number,
        uuid=uuid_text(birth.uuid),
        name=new.name,
        type=new.type,
        profile_id=new.profile_id,
        organisation_id=new.organisation_id,
        gateway=new.gateway,
        provision_state=new.provision_state,
        credentials_row=1,
        created_at=new.at,
        customer_id=birth.customer_id,
    )
