"""Devices that are born into more than a profile: a customer's, in groups, of the type they name.

So worked ThingsBoard's provision profiles (contract, section 6). Set-based like `CreateDevice`: it
differs in what goes before and after, and the births of everybody else pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from gateway.core.children import DEFAULT_TYPE
from gateway.core.errors import GatehouseError
from gateway.core.model import BirthRule, DeviceProfile, Event, EventKind, RefusalReason
from gateway.core.ports import KnownCredentials, NewDevice
from gateway.store.births import Birth
from gateway.store.caps import UNBOUNDED, bounds_of, room_in
from gateway.store.decisions import (
    Born,
    Created,
    CreateDevice,
    OpenKnown,
    fresh_of,
    give_claimed,
    why_not_claimed,
)
from gateway.store.driver import Transaction
from gateway.store.events import event_on, tell
from gateway.store.groups import ensure_groups, put_into_groups
from gateway.store.profiles import ensure_default, ensure_profile
from gateway.store.records import profile_from_row
from gateway.store.writer import Decision


class Placed(Struct, frozen=True):
    """A device that was born, with the profile and customer it got."""

    birth: Birth
    device_id: int


class PlaceDevice(Decision[Placed | KnownCredentials | RefusalReason]):
    """Gives `Placed`, or the device that was claimed; with `NewDevice.birth` fulfilled.

    A profile that its type names holds it by its own bounds, beside those of the terms.
    """

    __slots__ = ("birth", "open_known", "rule")

    def __init__(self, birth: Birth, rule: BirthRule, open_known: OpenKnown) -> None:
        self.birth = birth
        self.rule = rule
        self.open_known = open_known

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[PlaceDevice]) -> list[Any]:
        customers = await _living_customers(tx, decisions)
        types = await _types(tx, decisions)
        placing = [one._resolved(types, customers) for one in decisions]
        results = await _decided(tx, placing)
        await _take_back(tx, types.values(), placing, results)
        await _group(tx, decisions, results)
        return [
            Placed(one.birth, result.device_id) if isinstance(result, Born) else result
            for one, result in zip(placing, results, strict=True)
        ]

    @property
    def kind(self) -> tuple[int, str]:
        """The profile that is wanted: its organisation, and its name or ""."""
        return self.birth.new.organisation_id, self.birth.new.type

    def _resolved(
        self, types: Mapping[tuple[int, str], _Type], customers: Mapping[int, str]
    ) -> _Placing:
        new, customer_id = self.birth.new, self.rule.customer_id
        bounds = UNBOUNDED
        if self.rule.profile_by_type:
            found = types[self.kind].profile
            if found.id != new.profile_id:
                bounds = bounds_of(found)
            new = structs.replace(new, profile_id=found.id, type=found.name)
        if customer_id not in customers:
            customer_id = None  # it is no more: its tenant has the device
        birth = structs.replace(self.birth, new=new, customer_id=customer_id)
        told = {
            "customer": customers[customer_id] if customer_id is not None else "",
            "groups": ", ".join(self.rule.groups),
        }
        placing = _Placing(birth, self.open_known, told, any_profile=self.rule.profile_by_type)
        placing.bounds = bounds
        return placing


class _Placing(CreateDevice):
    """A birth whose profile and customer are known. `told` goes into its event.

    `bounds`: of a profile that its type names. `full`: why there is no room for it.
    """

    __slots__ = ("any_profile", "bounds", "creates", "full", "told")

    def __init__(
        self, birth: Birth, open_known: OpenKnown, told: dict[str, str], *, any_profile: bool
    ) -> None:
        super().__init__(birth, open_known)
        self.told = told
        self.any_profile = any_profile
        self.bounds = UNBOUNDED
        self.creates = True
        self.full: RefusalReason | None = None

    async def look_for_room(self, tx: Transaction) -> None:
        """Where there is none, it is not born; a device that waits may be claimed all the same."""
        new = self.birth.new
        room = await room_in(tx, (new.organisation_id, new.profile_id), self.bounds)
        if not room.free:
            self.creates, self.full = False, room.reason

    async def existing(self, tx: Transaction) -> KnownCredentials | RefusalReason | GatehouseError:
        """The name is taken: claim the device that has it, of whichever profile it is."""
        new = self.birth.new
        if self.full and not await tx.fetch("device_named", new.organisation_id, new.name):
            return self.full
        if not self.birth.new.claim_existing:
            return RefusalReason.NAME_TAKEN
        await tx.savepoint()
        try:
            claimed = await self._claim(tx)
        except GatehouseError as exc:
            await tx.rollback_to_savepoint()
            return exc
        await tx.release()
        return claimed

    async def _claim(self, tx: Transaction) -> KnownCredentials | RefusalReason:
        """One UPDATE decides; only then do we look why it did nothing."""
        new, customer_id, fresh = self.birth.new, self.birth.customer_id, fresh_of(self.birth)
        place = (new.organisation_id, None if self.any_profile else new.profile_id, new.name)
        digest = fresh.login.digest if fresh is not None else None
        marks = (new.terms.ticket_id, new.at, new.terms.expires_at)
        claimed = await tx.fetch("claim_any_device", *place, customer_id, digest, *marks)
        if claimed:
            return await give_claimed(
                tx, claimed[0][0], (new.organisation_id, new.name), self.open_known, fresh
            )
        return await why_not_claimed(tx, *place, fresh, customer_id)

    async def event(self, tx: Transaction, result: Created) -> Event | None:
        event = await super().event(tx, result)
        if event is None or isinstance(result, RefusalReason):
            return event
        return event_on(event, event.device_id, **self.told)


# ── what goes before ──────────────────────────────────────────────────────────────────────────


class _Type(Struct):
    """The profile of a type. `made`: by the first of `for_new` who named it."""

    profile: DeviceProfile
    made: bool
    for_new: NewDevice


async def _living_customers(tx: Transaction, decisions: Sequence[PlaceDevice]) -> dict[int, str]:
    """The names of those customers that are still there."""
    wanted = {one.rule.customer_id for one in decisions if one.rule.customer_id is not None}
    found = [await tx.fetch("organisation_lives", number) for number in wanted]
    return {rows[0][0]: rows[0][1] for rows in found if rows}


async def _types(tx: Transaction, decisions: Sequence[PlaceDevice]) -> dict[tuple[int, str], _Type]:
    """The profiles that types name, found or made; "" is the default profile."""
    types: dict[tuple[int, str], _Type] = {}
    for one in decisions:
        if not one.rule.profile_by_type or one.kind in types:
            continue
        (organisation_id, name), at = one.kind, one.birth.new.at
        if name:
            number, made = await ensure_profile(tx, organisation_id, name, at)
        else:
            number, made = await ensure_default(tx, organisation_id, DEFAULT_TYPE, at)
        profile = profile_from_row((await tx.fetch("profile", number))[0])
        types[one.kind] = _Type(profile, made, one.birth.new)
    return types


async def _decided(tx: Transaction, placing: Sequence[_Placing]) -> list[Any]:
    """All at once; rare: one after the other, so that each sees the room there is."""
    if all(one.bounds == UNBOUNDED for one in placing):
        return await CreateDevice.decide_all(tx, placing)
    results: list[Any] = []
    for one in placing:
        if one.bounds != UNBOUNDED:
            await one.look_for_room(tx)
        results += await CreateDevice.decide_all(tx, [one])
    return results


# ── what comes after ──────────────────────────────────────────────────────────────────────────


async def _take_back(
    tx: Transaction, types: Any, placing: Sequence[_Placing], results: Sequence[Any]
) -> None:
    """Remove profiles that were made for the refused; tell of those that were made for the born."""
    born = {
        one.birth.new.profile_id
        for one, result in zip(placing, results, strict=True)
        if isinstance(result, Born)
    }
    for kind in types:
        if not kind.made:
            continue
        if kind.profile.id not in born:
            await tx.fetch("remove_profile", kind.profile.id)
            continue
        new = kind.for_new
        tell(
            tx,
            [
                Event(
                    kind=EventKind.PROFILE_CREATE,
                    at=new.at,
                    peer=new.peer,
                    subject=kind.profile.name,
                )
            ],
        )


async def _group(tx: Transaction, decisions: Sequence[PlaceDevice], results: Sequence[Any]) -> None:
    """Put those that were born or claimed into their groups."""
    numbers: dict[tuple[int, str], int] = {}
    members: list[tuple[int, int]] = []
    for one, result in zip(decisions, results, strict=True):
        device_id = _number(result)
        if device_id is None:
            continue
        organisation_id = one.birth.new.organisation_id
        for name in one.rule.groups:
            place = (organisation_id, name)
            if place not in numbers:
                made = await ensure_groups(tx, organisation_id, (name,), one.birth.new.at)
                numbers[place] = made[name]
            members.append((numbers[place], device_id))
    await put_into_groups(tx, members)


def _number(result: object) -> int | None:
    match result:
        case Born(device_id):
            return device_id
        case KnownCredentials(device):
            return device.id
        case _:
            return None
