"""Tickets of single devices over the real store, and devices that claim them."""

from __future__ import annotations

from people import counted_tokens

from gateway.core.inventory import Inventory
from gateway.core.model import Peer, Provisioned, ProvisionRequest, ProvisionToken, Wire
from gateway.core.ports import Template
from gateway.core.provisioning import Provisioner
from gateway.core.tickets import Tickets
from gateway.core.tokens import new_url_token
from gateway.store.sql_inventory import SqlInventory
from gateway.store.sql_tickets import SqlTickets

DEVICE = Peer(Wire.MQTT, "192.0.2.50:40000")


class OneTemplate:
    """Profiles known by their own name, with one shared attribute."""

    def __init__(self, registry, *, open_to_all=True):
        self.registry = registry
        self.open = open_to_all

    async def named(self, name, path):
        profile = await self.registry.profile(name)
        if profile is None:
            return None
        return Template(profile=profile, device_name=f"{name} {{id}}", attributes={"Place": "hall"})

    async def everywhere(self, name):
        return await self.named(name, "") if self.open else None

    def fits(self, profile, name):
        return profile.name == name


class Ground:
    """A store with a template `meter`, the service, and a provisioner that knows the template."""

    def __init__(self, store, registry, clock, actor, *, open_to_all):
        self.store, self.registry, self.clock, self.actor = store, registry, clock, actor
        self.online = set()
        self.inventory = Inventory(
            store, SqlInventory(store), clock=clock, new_token=counted_tokens()
        )
        self.provisioner = Provisioner(
            store,
            clock=clock,
            new_token=counted_tokens(),
            readable=lambda _: True,
            templates=OneTemplate(registry, open_to_all=open_to_all),
        )
        self.tickets = self.service()

    def service(self, **options):
        return Tickets(
            SqlTickets(self.store),
            clock=self.clock,
            new_token=new_url_token,
            is_online=self.is_online,
            **options,
        )

    async def is_online(self, device_id):
        return device_id in self.online

    async def issue(self, organisation=None, owner=None, **more):
        where = organisation or self.actor.organisation
        return await self.tickets.issue(self.actor, where, owner, **more)

    async def claim(self, token, template="meter", hardware=None):
        request = ProvisionRequest(
            proof=ProvisionToken(token, template), peer=DEVICE, hardware=hardware
        )
        return await self.provisioner.provision(request)

    async def born(self):
        issued = await self.issue()
        result = await self.claim(issued.token)
        assert isinstance(result, Provisioned)
        found = await self.inventory.find(self.actor, result.device.uuid)
        return issued.token, found

    async def story(self, device_id):
        """The kinds and reasons of a device's events."""
        events = await self.registry.events(limit=1000)
        return [
            (one.kind, one.reason or one.outcome.value)
            for one in events
            if one.device_id == device_id
        ]
