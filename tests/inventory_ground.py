"""A tree of organisations, people in it, and an inventory over the real store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.errors import Cause, Conflict
from gateway.core.inventory import Inventory
from gateway.core.model import (
    Actor,
    DeviceDraft,
    DeviceRecord,
    Event,
    EventKind,
    Organisation,
    Peer,
    Permission,
    Secret,
    User,
    Wire,
)
from gateway.core.people import People
from gateway.store.sql_inventory import SqlInventory
from gateway.store.sql_people import SqlPeople
from gateway.store.sql_store import SqlStore


def caused(cause: Cause) -> pytest.RaisesExc[Conflict]:
    """Expects a conflict of that cause."""
    return pytest.raises(Conflict, check=lambda exc: exc.cause is cause)


class NoPasswords:
    """Nobody logs in here."""

    async def hash(self, password: Any) -> Any:
        raise AssertionError

    async def verify(self, kept: Any, password: Any) -> bool:
        raise AssertionError


class Ground:
    """`root` above `north` and `south`, `mill` below `north`; an administrator of each."""

    def __init__(self, store: SqlStore, clock: Any, new_token: Callable[[], str]) -> None:
        self.store = store
        self.clock = clock
        self.inventory = Inventory(store, SqlInventory(store), clock=clock, new_token=new_token)
        self.people = People(
            SqlPeople(store), clock=clock, new_token=new_token, hasher=NoPasswords()
        )
        self.root: Actor
        self.north: Actor
        self.south: Actor
        self.mill: Actor

    async def begin(self) -> Ground:
        self.root = await self.people.operator(Peer(Wire.SHELL, "tester"))
        self.north = self.admin(await self.below(self.root, "north"), 101)
        self.south = self.admin(await self.below(self.root, "south"), 102)
        self.mill = self.admin(await self.below(self.north, "mill"), 103)
        return self

    async def below(self, actor: Actor, name: str) -> Organisation:
        return await self.people.save_organisation(actor, name=name, parent=actor.organisation)

    def admin(self, organisation: Organisation, number: int, *permissions: Permission) -> Actor:
        """Somebody of an organisation, with all permissions or those named."""
        email = f"{number}@{organisation.name}.example"
        return Actor(
            peer=Peer(Wire.HTTP, "192.0.2.9:1", actor=email),
            organisation=organisation,
            permissions=frozenset(permissions or Permission),
            user=User(
                id=number,
                uuid="",
                organisation_id=organisation.id,
                email=email,
                role="",
            ),
        )

    async def add(self, name: str, actor: Actor | None = None, **fields: Any) -> DeviceRecord:
        draft = DeviceDraft(name=name, **fields)
        return await self.inventory.create(actor or self.root, draft)

    async def given(self, name: str, customer: Actor, **fields: Any) -> DeviceRecord:
        """A device of the root's that a customer has."""
        return await self.add(name, customer_id=customer.organisation.id, **fields)

    async def offer(self, record: DeviceRecord, key: Secret) -> None:
        """Have the device offer itself to whoever knows the key."""
        peer = Peer(Wire.MQTT, "192.0.2.1:1")
        event = Event(kind=EventKind.DEVICE_CLAIM_OFFER, at=self.clock.now, peer=peer)
        assert await self.store.offer_claim(record.device, key, event, self.clock.now + 1000)
