"""The decisions of provisioning, set-based: one statement per table for a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from gateway.core.errors import GatehouseError
from gateway.core.model import (
    PROVISIONED,
    DeviceProfile,
    Event,
    EventKind,
    Outcome,
    PresharedKey,
    RefusalReason,
)
from gateway.core.pki.model import IssuedCertificate
from gateway.core.ports import KnownCredentials
from gateway.core.terms import NO_TERMS, Terms
from gateway.store.births import Birth, bear, take_back
from gateway.store.certificates import drop_reservation, issued_row, serial_text, write_issued
from gateway.store.driver import Row, Transaction
from gateway.store.events import event_on, tell
from gateway.store.logins import Login, change_login
from gateway.store.retries import Bound, Repeated, Window, open_window, open_windows, repeated
from gateway.store.writer import Decision, SingleDecision


class Born(Struct, frozen=True):
    """The number a device got."""

    device_id: int


OpenKnown: TypeAlias = Callable[[Row], KnownCredentials]
"""Opens a row of `known_by_id`. Raises `StoreUnavailable` when the seal does not open."""

Created: TypeAlias = Born | KnownCredentials | Repeated | RefusalReason


class CreateDevice(Decision[Created]):
    """Gives `Born`, or with `NewDevice.claim_existing` the device that was claimed."""

    __slots__ = ("birth", "open_known")

    creates: bool = True
    """Whether it may be born."""

    def __init__(self, birth: Birth, open_known: OpenKnown) -> None:
        self.birth = birth
        self.open_known = open_known

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[CreateDevice]) -> list[Any]:
        born = iter(await bear(tx, [one.birth for one in decisions if one.creates]))
        outcomes = [next(born) if one.creates else RefusalReason.NAME_TAKEN for one in decisions]
        results = [
            Born(outcome)
            if isinstance(outcome, int)
            else await one.existing(tx)
            if outcome is RefusalReason.NAME_TAKEN
            else outcome
            for one, outcome in zip(decisions, outcomes, strict=True)
        ]
        if any(one.birth.bound is not None for one in decisions):
            results = await _bind(tx, decisions, results)
        await _certify(tx, decisions, results)
        events = [
            event
            for one, result in zip(decisions, results, strict=True)
            if not isinstance(result, GatehouseError)
            and (event := await one.event(tx, result)) is not None
        ]
        tell(tx, events)
        return results

    async def existing(self, tx: Transaction) -> KnownCredentials | RefusalReason | GatehouseError:
        """The name is taken: claim the device that has it, where that is wanted."""
        new = self.birth.new
        if not new.claim_existing:
            return RefusalReason.NAME_TAKEN
        await tx.savepoint()
        try:
            place = (new.organisation_id, new.profile_id, new.name)
            marks = (new.terms.ticket_id, new.at, new.terms.expires_at)
            claimed = await claim(tx, place, marks, self.open_known, fresh_of(self.birth))
        except GatehouseError as exc:
            await tx.rollback_to_savepoint()
            return exc
        await tx.release()
        return claimed

    async def event(self, tx: Transaction, result: Created) -> Event | None:
        """What is told of it; None when it was told already."""
        if isinstance(result, Repeated):
            return None
        new = self.birth.new
        provisioning = new.provision_state == PROVISIONED
        told = Event(
            kind=EventKind.DEVICE_PROVISION if provisioning else EventKind.DEVICE_CREATE,
            at=new.at,
            peer=new.peer,
            subject=new.name,
            device_id=result.device_id if isinstance(result, Born) else None,
        )
        serial = serial_text(new.issued.serial) if new.issued is not None else ""
        if isinstance(result, Born):
            if not (new.warning or serial):
                return told  # most; and they are many
            return event_on(told, result.device_id, warning=new.warning, certificate=serial)
        if isinstance(result, KnownCredentials):
            return event_on(told, result.device.id, certificate=serial)
        return await refused(tx, told, new.organisation_id, result)


# ── answers that may be repeated ──────────────────────────────────────────────────────────────


async def _bind(
    tx: Transaction, decisions: Sequence[CreateDevice], results: Sequence[Any]
) -> list[Any]:
    """Bind the answers of those who are given something. Who made the same request before, or in
    this transaction, gets what was given then, and is not born."""
    windows = [
        window
        for one, result in zip(decisions, results, strict=True)
        if isinstance(result, Born) and (window := _window(one.birth.bound, result.device_id))
    ]
    at = max(one.birth.new.at for one in decisions)
    lost = await open_windows(tx, windows, at) if windows else set()
    bound = []
    for one, result in zip(decisions, results, strict=True):
        try:
            bound.append(await _bound(tx, one, result, lost))
        except GatehouseError as exc:
            bound.append(exc)
    return bound


async def _bound(tx: Transaction, one: CreateDevice, result: Any, lost: Container[int]) -> Any:
    """What becomes of one result; `lost` are devices whose answer is another's."""
    birth = one.birth
    match result:
        case Born(device_id) if device_id in lost:
            await take_back(tx, device_id)
            # Not given any more: it was used, or blocked. Nor is it asked for another device.
            result = RefusalReason.ALREADY_PROVISIONED
        case KnownCredentials(device):
            await bind_claimed(tx, birth.bound, device.id, birth.new.at)
            return result
        case RefusalReason():
            pass
        case _:
            return result
    return await repeated(tx, birth.bound, birth.new.at, one.open_known) or result


def _window(bound: Bound | None, device_id: int) -> Window | None:
    return None if bound is None else (device_id, bound.digest, bound.until)


async def bind_claimed(tx: Transaction, bound: Bound | None, device_id: int, at: int) -> None:
    """The answer of a device that was claimed just now, in place of an older one."""
    window = _window(bound, device_id)
    if window is not None:
        await open_window(tx, window, at)


async def _certify(
    tx: Transaction, decisions: Sequence[CreateDevice], results: Sequence[Any]
) -> None:
    """The certificates of the born count from now on; of the refused's nothing is left."""
    rows: list[Row] = []
    for one, result in zip(decisions, results, strict=True):
        issued = one.birth.new.issued
        if issued is None:
            continue
        if isinstance(result, Born):
            new, digest = one.birth.new, one.birth.digest
            owner = (new.organisation_id, new.name)
            rows.append(issued_row(issued, owner, result.device_id, digest, new.at))
        elif isinstance(result, RefusalReason | Repeated):
            await drop_reservation(tx, issued.serial)
    await write_issued(tx, rows)


class Fresh(Struct, frozen=True):
    """Credentials that a waiting device gets with its claim; `issued` when we signed them."""

    login: Login
    issued: IssuedCertificate | None
    at: int


def fresh_of(birth: Birth) -> Fresh | None:
    """What a device that is claimed in place of a birth gets; None: it keeps what it has.

    As with any claim: what we made for it just now, and nothing it brought.
    """
    new = birth.new
    if new.issued is None and not isinstance(new.credentials, PresharedKey):
        return None
    return Fresh(Login(new.credentials.type.value, birth.digest, birth.sealed), new.issued, new.at)


async def claim(
    tx: Transaction,
    place: tuple[int, int, str],
    marks: tuple[int | None, int, int | None],
    open_known: OpenKnown,
    fresh: Fresh | None,
) -> KnownCredentials | RefusalReason:
    """One UPDATE decides. The credentials are opened before the commit: given, or not claimed.

    `place` is organisation, profile and name; `marks` by which ticket, when, and until when.
    """
    organisation_id, profile_id, name = place
    digest = fresh.login.digest if fresh is not None else None
    claimed = await tx.fetch("claim_device", *place, digest, *marks)
    if not claimed:
        return await why_not_claimed(tx, organisation_id, profile_id, name, fresh)
    return await give_claimed(tx, claimed[0][0], (organisation_id, name), open_known, fresh)


async def give_claimed(
    tx: Transaction,
    device_id: int,
    owner: tuple[int, str],
    open_known: OpenKnown,
    fresh: Fresh | None,
) -> KnownCredentials:
    """The credentials of a device that was claimed just now; those that are `fresh`, if any.

    `owner` of a certificate is named by organisation and device name.
    """
    if fresh is not None:
        if fresh.issued is not None:
            row = issued_row(fresh.issued, owner, device_id, fresh.login.digest, fresh.at)
            await write_issued(tx, [row])
        await change_login(tx, device_id, fresh.login, fresh.at)
    return open_known((await tx.fetch("known_by_id", device_id))[0])


async def why_not_claimed(
    tx: Transaction,
    organisation_id: int,
    profile_id: int | None,
    name: str,
    fresh: Fresh | None,
    customer_id: int | None = None,
) -> RefusalReason:
    """Only now do we look, to tell the operator why. `profile_id` None: any profile would do.

    `customer_id`: whose the device would have had to be, if anybody's.
    """
    named = await tx.fetch("device_named", organisation_id, name)
    if not named:
        return RefusalReason.NO_SUCH_DEVICE
    device_id, owner, state = named[0]
    if profile_id not in (None, owner):
        return RefusalReason.OTHER_PROFILE
    if state is not None:
        return RefusalReason.ALREADY_PROVISIONED if state == PROVISIONED else RefusalReason.BLOCKED
    if await tx.fetch("is_suspended", device_id):
        return RefusalReason.SECRET_QUARANTINED
    if customer_id is not None:
        holder = (await tx.fetch("claiming", device_id))[0][0]
        if holder not in (None, customer_id):
            return RefusalReason.CUSTOMER_HAS_IT
    if fresh is None:
        return RefusalReason.CREDENTIALS_REVOKED
    return RefusalReason.CREDENTIALS_TAKEN


async def refused(
    tx: Transaction, told: Event, organisation_id: int, reason: RefusalReason
) -> Event:
    """The event of a refusal, on the device that has the name, if there is one."""
    named = await tx.fetch("device_named", organisation_id, told.subject)
    return msgspec.structs.replace(
        told,
        outcome=Outcome.REFUSED,
        reason=reason.value,
        device_id=named[0][0] if named else None,
    )


class ClaimDevice(SingleDecision[KnownCredentials | Repeated | RefusalReason]):
    """Marks a waiting device provisioned, once, and tells the event of it either way."""

    __slots__ = ("bound", "event", "fresh", "name", "open_known", "profile", "terms")

    def __init__(
        self,
        profile: DeviceProfile,
        name: str,
        event: Event,
        open_known: OpenKnown,
        fresh: Fresh | None = None,
        terms: Terms = NO_TERMS,
        bound: Bound | None = None,
    ) -> None:
        self.terms = terms
        self.bound = bound
        self.profile = profile
        self.name = name
        self.event = event
        self.open_known = open_known
        self.fresh = fresh

    async def decide(self, tx: Transaction) -> KnownCredentials | Repeated | RefusalReason:
        place = (self.profile.organisation_id, self.profile.id, self.name)
        issued = self.fresh.issued if self.fresh is not None else None
        marks = (self.terms.ticket_id, self.event.at, self.terms.expires_at)
        result = await claim(tx, place, marks, self.open_known, self.fresh)
        if isinstance(result, KnownCredentials):
            serial = serial_text(issued.serial) if issued is not None else ""
            event = event_on(self.event, result.device.id, certificate=serial)
            await bind_claimed(tx, self.bound, result.device.id, self.event.at)
        else:
            again = await repeated(tx, self.bound, self.event.at, self.open_known)
            if again is not None:
                await self._drop(tx)
                return again
            event = await refused(tx, self.event, self.profile.organisation_id, result)
            await self._drop(tx)
        tell(tx, [event])
        return result

    async def _drop(self, tx: Transaction) -> None:
        if self.fresh is not None and self.fresh.issued is not None:
            await drop_reservation(tx, self.fresh.issued.serial)


class RecordEvent(Decision[None]):
    """Writes down what happened, for events that change nothing else."""

    __slots__ = ("written",)

    def __init__(self, event: Event) -> None:
        self.written = event

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[RecordEvent]) -> list[Any]:
        tell(tx, [one.written for one in decisions])
        return [None] * len(decisions)


class Probe(Decision[None]):
    """Can the database commit? A counter goes up, since SQLite writes no page that stays equal."""

    __slots__ = ()

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[Probe]) -> list[Any]:
        await tx.fetch("probe")
        return [None] * len(decisions)
