"""Devices behind gateways: found by name, or born when first mentioned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.core.model import (
    PROVISIONED,
    AccessToken,
    Device,
    Event,
    EventKind,
    ProfileTransport,
    RefusalReason,
    Refused,
)
from gateway.core.ports import NewChild, NewDevice
from gateway.store.births import Birth, bear
from gateway.store.credentials import sealed_credentials
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.identity import uuid7
from gateway.store.profiles import ensure_profile
from gateway.store.records import device_from_row, profile_from_settings
from gateway.store.vault import Vault
from gateway.store.writer import Decision

_json = msgspec.json.Encoder()


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
    """The device of a name, or a new one: one look for all, one insert per table for the new."""

    __slots__ = ("digest", "new", "sealed", "uuid")

    def __init__(self, new: NewChild, vault: Vault) -> None:
        self.new = new
        # Here, not in the writer's thread: randomness is the loop's.
        self.uuid = uuid7(new.at)
        self.digest, self.sealed = sealed_credentials(vault, AccessToken(new.token))

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[EnterChild]) -> list[Any]:
        found = await _named(tx, decisions)
        missing: dict[tuple[int, str], EnterChild] = {}
        for one in decisions:
            if one.place not in found:
                missing.setdefault(one.place, one)
        if missing:
            await _bear_children(tx, list(missing.values()))
            found |= await _named(tx, list(missing.values()))
        return [
            child_from_row(found[one.place], one.new.gateway)
            if one.place in found
            else Refused(RefusalReason.CREDENTIALS_TAKEN)
            for one in decisions
        ]

    @property
    def place(self) -> tuple[int, str]:
        """Where the name is unique."""
        return self.new.gateway.organisation_id, self.new.name

    def birth(self, profile_id: int) -> Birth:
        new, gateway = self.new, self.new.gateway
        return Birth(
            NewDevice(
                organisation_id=gateway.organisation_id,
                profile_id=profile_id,
                name=new.name,
                type=new.type,
                credentials=AccessToken(new.token),
                provision_state=PROVISIONED,
                peer=new.peer,
                at=new.at,
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


async def _named(tx: Transaction, decisions: Sequence[EnterChild]) -> dict[tuple[int, str], Row]:
    """The rows of the devices that exist, by organisation and name."""
    names: dict[int, set[str]] = {}
    for one in decisions:
        organisation_id, name = one.place
        names.setdefault(organisation_id, set()).add(name)
    found: dict[tuple[int, str], Row] = {}
    for organisation_id, wanted in names.items():
        listed = _json.encode(sorted(wanted)).decode()
        for row in await tx.fetch("children_named", organisation_id, listed):
            found[organisation_id, row[2]] = row
    return found


async def _bear_children(tx: Transaction, decisions: Sequence[EnterChild]) -> None:
    profiles: dict[tuple[int, str], int] = {}
    events: list[Event] = []
    for one in decisions:
        kind = (one.new.gateway.organisation_id, one.new.type)
        if kind not in profiles:
            profiles[kind], made = await ensure_profile(tx, *kind, one.new.at)
            if made:
                events.append(one.event(EventKind.PROFILE_CREATE, one.new.type))
    outcomes = await bear(
        tx,
        [one.birth(profiles[one.new.gateway.organisation_id, one.new.type]) for one in decisions],
    )
    for one, outcome in zip(decisions, outcomes, strict=True):
        if isinstance(outcome, int):
            events.append(one.event(EventKind.DEVICE_CREATE, one.new.name, outcome))
    tell(tx, events)
