"""Devices behind gateways: found by name, or born when first mentioned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from gateway.core.giving import gifts_for_child
from gateway.core.model import (
    PROVISIONED,
    AccessToken,
    Device,
    DeviceProfile,
    Event,
    EventKind,
    ProfileTransport,
    RefusalReason,
    Refused,
)
from gateway.core.ports import NewChild, NewDevice
from gateway.core.terms import NO_TERMS, Terms
from gateway.store.births import Birth, bear
from gateway.store.caps import UNBOUNDED, Bounds, bounds_of, room_in
from gateway.store.credentials import sealed_credentials
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.gifts import give
from gateway.store.identity import uuid7
from gateway.store.profiles import ensure_profile, profile_called
from gateway.store.records import device_from_row, profile_from_row, profile_from_settings
from gateway.store.vault import Vault
from gateway.store.writer import Decision

_json = msgspec.json.Encoder()

_Place: TypeAlias = tuple[int, str]
"""Organisation and name."""


def child_from_row(row: Row, gateway: Device) -> Device | Refused:
    """A row of `child_named`: the device, if `gateway` may speak for it."""
    *columns, transport, settings, suspended = row
    if suspended:
        return Refused(RefusalReason.SECRET_QUARANTINED)
    device = device_from_row(tuple(columns), ProfileTransport(transport))
    if device.id == gateway.id or device.creator_id == gateway.id:
        return device
    if profile_from_settings(settings).gateway_may_adopt:
        return device
    return Refused(RefusalReason.NOT_ITS_GATEWAY)


class EnterChild(Decision[Device | Refused]):
    """The device of a name, or a new one: one look for all, one insert per table for the new.

    A child is held by the bounds of its own profile, and by that of its gateway's profile on their
    organisation: else a gateway had but to name a new type.
    """

    __slots__ = ("digest", "new", "sealed", "uuid")

    def __init__(self, new: NewChild, vault: Vault) -> None:
        self.new = new
        # Here, not in the writer's thread: randomness is the loop's.
        self.uuid = uuid7(new.at)
        self.digest, self.sealed = sealed_credentials(vault, AccessToken(new.token))

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[EnterChild]) -> list[Any]:
        found = await _named(tx, decisions)
        missing: dict[_Place, EnterChild] = {}
        for one in decisions:
            if one.place not in found:
                missing.setdefault(one.place, one)
        full: dict[_Place, RefusalReason] = {}
        if missing:
            full = await _bear_children(tx, list(missing.values()))
            found |= await _named(tx, list(missing.values()))
        return [
            child_from_row(found[one.place], one.new.gateway)
            if one.place in found
            else Refused(full.get(one.place, RefusalReason.CREDENTIALS_TAKEN))
            for one in decisions
        ]

    @property
    def place(self) -> _Place:
        """Where the name is unique."""
        return self.new.gateway.organisation_id, self.new.name

    @property
    def kind(self) -> tuple[int, str, int]:
        """Its organisation, its type, and the profile of its gateway."""
        gateway = self.new.gateway
        return gateway.organisation_id, self.new.type, gateway.profile_id

    def birth(self, profile: DeviceProfile) -> Birth:
        new, gateway = self.new, self.new.gateway
        lasts_s = profile.policy.newborn.expires_after_s
        return Birth(
            NewDevice(
                organisation_id=gateway.organisation_id,
                profile_id=profile.id,
                name=new.name,
                type=new.type,
                credentials=AccessToken(new.token),
                provision_state=PROVISIONED,
                peer=new.peer,
                at=new.at,
                terms=NO_TERMS if lasts_s is None else Terms(expires_at=new.at + lasts_s * 1000),
            ),
            self.uuid,
            self.digest,
            self.sealed,
            customer_id=gateway.customer_id,
            creator_id=gateway.id,
        )

    def event(self, kind: EventKind, subject: str, device_id: int | None = None) -> Event:
        new = self.new
        detail = {"gateway": new.gateway.name}
        return Event(
            kind=kind,
            at=new.at,
            peer=new.peer,
            subject=subject,
            device_id=device_id,
            detail=detail,
        )


class _Kind(Struct):
    """The profile that new children of a type get; None: there is none yet. `event` tells that it
    was made."""

    organisation_id: int
    name: str
    bounds: Bounds
    profile: DeviceProfile | None

    async def ensured(self, tx: Transaction, first: EnterChild) -> DeviceProfile:
        """The profile, made for the first of its children if need be."""
        if self.profile is None:
            number, made = await ensure_profile(tx, self.organisation_id, self.name, first.new.at)
            if made:
                tell(tx, [first.event(EventKind.PROFILE_CREATE, self.name)])
            self.profile = DeviceProfile(
                id=number, name=self.name, organisation_id=self.organisation_id
            )
        return self.profile


async def _named(tx: Transaction, decisions: Sequence[EnterChild]) -> dict[_Place, Row]:
    """The rows of the devices that exist, by organisation and name."""
    names: dict[int, set[str]] = {}
    for one in decisions:
        organisation_id, name = one.place
        names.setdefault(organisation_id, set()).add(name)
    found: dict[_Place, Row] = {}
    for organisation_id, wanted in names.items():
        listed = _json.encode(sorted(wanted)).decode()
        for row in await tx.fetch("children_named", organisation_id, listed):
            found[organisation_id, row[2]] = row
    return found


async def _bear_children(
    tx: Transaction, decisions: Sequence[EnterChild]
) -> dict[_Place, RefusalReason]:
    """Those there is room for are born; why the others are not."""
    kinds = await _kinds(tx, decisions)
    free: list[tuple[EnterChild, DeviceProfile]] = []
    bounded: dict[tuple[int, str, int], list[EnterChild]] = {}
    for one in decisions:
        kind = kinds[one.kind]
        if kind.bounds == UNBOUNDED:
            free.append((one, await kind.ensured(tx, one)))
        else:
            bounded.setdefault(one.kind, []).append(one)
    await _born(tx, free)
    full: dict[_Place, RefusalReason] = {}
    for key, waiting in bounded.items():
        full |= await _bear_bounded(tx, kinds[key], waiting)
    return full


async def _bear_bounded(
    tx: Transaction, kind: _Kind, waiting: Sequence[EnterChild]
) -> dict[_Place, RefusalReason]:
    """The first as there is room; why the others are not born."""
    while waiting:
        profile_id = 0 if kind.profile is None else kind.profile.id
        room = await room_in(tx, (kind.organisation_id, profile_id), kind.bounds)
        if not room.free:
            return {one.place: room.reason for one in waiting}
        some, waiting = waiting[: room.free], waiting[room.free :]
        await _born(tx, [(one, await kind.ensured(tx, one)) for one in some])
    return {}


async def _kinds(
    tx: Transaction, decisions: Sequence[EnterChild]
) -> dict[tuple[int, str, int], _Kind]:
    """What children are to be, by organisation, type and their gateway's profile."""
    found: dict[tuple[int, str], DeviceProfile | None] = {}
    brought: dict[int, Bounds] = {}
    kinds = {}
    for one in decisions:
        if one.kind in kinds:
            continue
        organisation_id, name, bringer = one.kind
        if (organisation_id, name) not in found:
            found[organisation_id, name] = await profile_called(tx, organisation_id, name)
        if bringer not in brought:
            rows = await tx.fetch("profile", bringer)
            brought[bringer] = bounds_of(profile_from_row(rows[0])) if rows else UNBOUNDED
        profile = found[organisation_id, name]
        bounds = _narrowed(profile, brought[bringer])
        kinds[one.kind] = _Kind(organisation_id, name, bounds, profile)
    return kinds


def _narrowed(profile: DeviceProfile | None, brought: Bounds) -> Bounds:
    own = UNBOUNDED if profile is None else bounds_of(profile)
    if brought.in_organisation is None:
        return own
    most = brought.in_organisation
    if own.in_organisation is not None:
        most = min(most, own.in_organisation)
    return Bounds(own.devices, most)


async def _born(tx: Transaction, wanted: Sequence[tuple[EnterChild, DeviceProfile]]) -> None:
    if not wanted:
        return
    outcomes = await bear(tx, [one.birth(profile) for one, profile in wanted])
    born = [
        (*pair, outcome)
        for pair, outcome in zip(wanted, outcomes, strict=True)
        if isinstance(outcome, int)
    ]
    tell(tx, [one.event(EventKind.DEVICE_CREATE, one.new.name, number) for one, _, number in born])
    for one, profile, number in born:
        gifts = gifts_for_child(profile, one.new.name)
        if gifts is not None:
            await give(tx, number, gifts, one.new.at, one.new.peer)
