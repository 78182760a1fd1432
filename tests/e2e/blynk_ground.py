"""A gateway with templates, people who may issue tokens, and devices of Blynk's kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from inside import Gate
from wires import HttpReply, http

from gateway.core.model import (
    Actor,
    Device,
    DeviceProfile,
    DeviceRecord,
    Organisation,
    Peer,
    Secret,
    User,
    Wire,
)
from gateway.core.registry import ProfileDraft
from gateway.core.tickets import Tickets
from gateway.services import Services, open_services
from gateway.ticketing import online_here, open_tickets

TEMPLATE = "TMPLmeter0001"
OTHER_TEMPLATE = "TMPLother0001"
PASSWORD = "a-long-password-1"
SECTION: dict[str, Any] = {
    "template_id": TEMPLATE,
    "device_name": "Meter {id}",
    "datastreams": [
        {"pin": 0, "name": "Switch", "type": "integer", "min": 0, "max": 1, "default": 0},
        {"pin": 1, "name": "temperature", "type": "double", "min": -40, "max": 125},
        {"pin": 2, "name": "Note", "type": "string", "key": "note"},
        {"pin": 3, "name": "Mode", "type": "enum", "values": ["off", "eco", "full"]},
        {"pin": 4, "name": "Place", "type": "location"},
    ],
    "metadata": [
        {"name": "Location", "default": "cellar"},
        {"name": "Serial", "type": "Text"},
        {"name": "Limit", "type": "Number", "default": 10},
        {"name": "Hotspot Name"},
    ],
    "events": [{"code": "overheated", "name": "Too hot"}],
}


class BlynkGate:
    """A running gateway whose profile "Water Meter" is a template. `admin` may do everything."""

    def __init__(self, gate: Gate, services: Services, admin: Actor) -> None:
        self.gate = gate
        self.gateway = gate.gateway
        self.ports = gate.ports
        self.services = services
        self.admin = admin
        store = gate.gateway.store
        online = online_here(gate.gateway.sessions, store)
        self.tickets: Tickets = open_tickets(gate.gateway.config, store, online)

    async def issue(
        self, organisation: Organisation | None = None, owner: User | None = None
    ) -> str:
        """A provision token."""
        where = organisation or self.admin.organisation
        return (await self.tickets.issue(self.admin, where, owner)).token.reveal()

    async def ask(self, method: str, path: str, body: bytes = b"", **query: Any) -> HttpReply:
        """One request over a connection of its own."""
        target = f"{path}?{urlencode(query, doseq=True)}" if query else path
        async with http(self.ports.http) as connection:
            return await connection.ask(method, target, body)

    async def claim(self, token: str, template: str = TEMPLATE, **more: Any) -> HttpReply:
        query = {"token": token, "templateId": template, **more}
        return await self.ask("GET", "/external/api/provision", **query)

    async def born(self) -> tuple[str, DeviceRecord]:
        """A device that claimed a token: the token, and what people see of it."""
        token = await self.issue()
        assert (await self.claim(token)).status == 200
        device = await self.device(token)
        assert device is not None
        found = await self.services.inventory.find(self.admin, device.uuid)
        assert found is not None
        return token, found

    async def device(self, token: str) -> Device | None:
        known = await self.gateway.store.find_credentials(Secret(token))
        return None if known is None else known.device

    async def organisation(self, name: str, parent: Organisation | None = None) -> Organisation:
        return await self.services.people.save_organisation(self.admin, name=name, parent=parent)

    async def user(
        self, email: str, organisation: Organisation, role: str = "TENANT_ADMIN"
    ) -> User:
        """A user who may log in with `PASSWORD`."""
        return await self.services.people.save_user(
            self.admin,
            email=email,
            organisation=organisation,
            role=role,
            password=Secret(PASSWORD),
        )


@asynccontextmanager
async def blynk_on(gate: Gate) -> AsyncIterator[BlynkGate]:
    """Templates in the store of a running gateway."""
    templates = {
        "Water Meter": SECTION,
        "Other": {"template_id": OTHER_TEMPLATE, "gateway": True},
    }
    for name, section in templates.items():
        profile = DeviceProfile(id=0, name=name, sections={"blynk": section})
        await gate.registry.save_profile(ProfileDraft(profile=profile))
    services = await asyncio.to_thread(open_services, gate.gateway.store)
    try:
        admin = await services.people.operator(Peer(Wire.SHELL, "tester", "tester"))
        yield BlynkGate(gate, services, admin)
    finally:
        services.close()
