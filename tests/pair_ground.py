"""Pairs of static tokens over the real store, and devices that are made with them."""

from __future__ import annotations

import itertools
from typing import Any

from people import Crowd, counted_tokens

from gateway.core.inventory import Inventory
from gateway.core.model import (
    Actor,
    Device,
    DeviceProfile,
    DeviceRecord,
    Organisation,
    Peer,
    Provisioned,
    ProvisionRequest,
    ProvisionToken,
    Refused,
    Secret,
    User,
    Wire,
)
from gateway.core.ports import Template
from gateway.core.provisioning import Provisioner
from gateway.core.registry import ProfileDraft, Registry
from gateway.core.static_tokens import IssuedPair, StaticTokens
from gateway.store.sql_inventory import SqlInventory
from gateway.store.sql_static_tokens import SqlStaticTokens
from gateway.store.sql_store import SqlStore

METER = "TMPLmeter0001"
FENCED = "TMPLfenced0001"
DEVICE = Peer(Wire.HTTP, "192.0.2.50:40000")


class TwoTemplates:
    """`METER` for all, `FENCED` for devices of the organisations at or below `allowed` (paths)."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.allowed: tuple[str, ...] = ()

    async def named(self, name: str, path: str) -> Template | None:
        profile = await self._registry.profile(name)
        if profile is None or (name == FENCED and not path.startswith(self.allowed)):
            return None
        return Template(profile=profile, device_name=f"{name} {{id}}", attributes={})

    async def everywhere(self, name: str) -> Template | None:
        return await self.named(name, "") if name == METER else None

    def names(self, profile: DeviceProfile) -> tuple[str, ...]:
        return (profile.name,) if profile.name.startswith("TMPL") else ()

    def fits(self, profile: DeviceProfile, name: str) -> bool:
        return name in self.names(profile)


class PairGround:
    """The root makes pairs for `meter`; people of a `Crowd` claim them."""

    def __init__(self, store: SqlStore, registry: Registry, clock: Any, crowd: Crowd) -> None:
        self.store, self.clock, self.crowd = store, clock, crowd
        self.registry = registry
        self.templates = TwoTemplates(registry)
        self.inventory = Inventory(
            store, SqlInventory(store), clock=clock, new_token=counted_tokens()
        )
        counter = itertools.count(1)
        self.kept = SqlStaticTokens(store)
        self.pairs = StaticTokens(
            self.kept, self.templates, clock=clock, new_token=lambda: f"{next(counter):032d}"
        )
        self.provisioner = Provisioner(
            store,
            clock=clock,
            new_token=counted_tokens(),
            readable=lambda _: True,
            templates=self.templates,
        )
        self.meter: DeviceProfile
        self.fenced: DeviceProfile

    async def begin(self) -> PairGround:
        self.meter = await self._profile(METER)
        self.fenced = await self._profile(FENCED)
        return self

    async def _profile(self, name: str) -> DeviceProfile:
        await self.registry.save_profile(ProfileDraft(profile=DeviceProfile(id=0, name=name)))
        found = await self.registry.profile(name)
        assert found is not None
        return found

    async def issue(
        self, organisation: Organisation | None = None, profile: DeviceProfile | None = None
    ) -> IssuedPair:
        where = organisation or self.crowd.root
        operator = self.crowd.operator
        return (await self.pairs.issue(operator, profile or self.meter, where))[0]

    async def born(self, issued: IssuedPair, name: str = METER) -> Device:
        """The hardware with this pair's token comes."""
        result = await self.come(issued.token, name)
        assert isinstance(result, Provisioned), result
        return result.device

    async def come(self, token: Secret, name: str = METER) -> Provisioned | Refused:
        proof = ProvisionToken(token, name)
        return await self.provisioner.provision(ProvisionRequest(proof=proof, peer=DEVICE))

    async def claim(
        self,
        issued: IssuedPair,
        organisation: Organisation,
        owner: User | None = None,
        actor: Actor | None = None,
    ) -> Any:
        who = actor or self.crowd.operator
        return await self.pairs.claim(who, issued.claim, organisation, owner)

    async def unclaim(self, issued: IssuedPair, actor: Actor | None = None) -> None:
        who = actor or self.crowd.operator
        record = await self.pairs.held(who, claim=issued.claim)
        assert record is not None
        await self.pairs.unclaim(who, record)

    async def record(self, device: Device) -> DeviceRecord:
        found = await self.inventory.find(self.crowd.operator, device.uuid)
        assert found is not None
        return found

    async def place(self, device: Device) -> tuple[int | None, int | None]:
        """The customer and the person that a device has."""
        found = await self.record(device)
        return found.device.customer_id, found.owner_id

    async def remove(self, device: Device) -> None:
        await self.inventory.remove(self.crowd.operator, await self.record(device))
