"""The whole administration over a store in memory, behind a real HTTP listener, and who calls it.

    root (the tenant)   `admin`: TENANT_ADMIN
    ├── Acme            `boss`: TENANT_ADMIN of Acme; `user`: CUSTOMER_USER
    │   └── Acme North  `north`: TENANT_ADMIN
    └── Globex          `other`: TENANT_ADMIN of Globex

A test takes the fixture `case`; `await case.get("/api/…", as_="boss")` asks as one of them.
"""

from __future__ import annotations

import json
from typing import Any

import aiohttp
from http_ground import shapes
from msgspec import Struct

from gateway.core.admission_lists import AdmissionLists
from gateway.core.approvals import Approvals
from gateway.core.audit import Audit
from gateway.core.catalogue import Catalogue
from gateway.core.fleet_custody import FleetSecrets
from gateway.core.hook_queues import HookQueues
from gateway.core.importing import Importer
from gateway.core.inventory import Inventory
from gateway.core.logins import Logins
from gateway.core.model import (
    CUSTOMER_USER,
    TENANT_ADMIN,
    Actor,
    DeviceDraft,
    DeviceRecord,
    Organisation,
    Peer,
    Permission,
    Secret,
    User,
    Wire,
)
from gateway.core.people import People
from gateway.core.presence import Attendance
from gateway.core.registry import Registry
from gateway.core.rpc import Rpc
from gateway.core.sessions import Sessions
from gateway.core.tokens import new_token
from gateway.dialects.thingsboard.admin import Administration
from gateway.dialects.thingsboard.admin.admission import AdmissionRoutes
from gateway.dialects.thingsboard.admin.approvals import ApprovalRoutes
from gateway.dialects.thingsboard.admin.audit import AuditRoutes
from gateway.dialects.thingsboard.admin.bulk_import import BulkImportRoutes
from gateway.dialects.thingsboard.admin.claim import ClaimRoutes
from gateway.dialects.thingsboard.admin.hooks import HookRoutes
from gateway.dialects.thingsboard.admin.profiles import ProfileRoutes
from gateway.dialects.thingsboard.admin.provision_profiles import ProvisionProfileRoutes
from gateway.dialects.thingsboard.admin.rpc import RpcRoutes
from gateway.dialects.thingsboard.admin.secrets import SecretRoutes
from gateway.dialects.thingsboard.admin.telemetry import TelemetryRoutes
from gateway.dialects.thingsboard.answers import error_body
from gateway.passwords import Argon2Passwords
from gateway.policy_words import PolicyWords
from gateway.store.audit import SqlAudit
from gateway.store.sql_admission import SqlAdmission
from gateway.store.sql_approvals import SqlApprovals
from gateway.store.sql_fleet_tickets import SqlFleetTickets
from gateway.store.sql_hooks import SqlHooks
from gateway.store.sql_imports import SqlImports
from gateway.store.sql_inventory import SqlInventory
from gateway.store.sql_people import SqlPeople
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_store import SqlStore
from gateway.transports.http import HttpListener
from gateway.wire.router import Gauge, Router

KEY = bytes(range(64))
PASSWORD = "correct horse battery"
SHELL = Peer(Wire.SHELL, "tester", actor="tester")
EVERYTHING = frozenset(Permission)


class Answer(Struct):
    """What came back. `json` is None when it is no JSON."""

    status: int
    text: str
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.text) if self.text else None

    @property
    def message(self) -> str:
        return str(self.json["message"])


class DeskCase:
    """Open it before, close it after. `logins`, `people` and so on are the real services."""

    def __init__(self, store: SqlStore, clock: Any) -> None:
        self.store = store
        self.clock = clock
        kept, registrar = SqlPeople(store), SqlRegistrar(store)
        times = {"clock": clock, "new_token": new_token}
        self.hasher = Argon2Passwords(memory_kib=64, passes=1)
        self.people = People(kept, hasher=self.hasher, **times)
        self.logins = Logins(kept, self.hasher, clock=clock)
        self.inventory = Inventory(store, SqlInventory(store), **times)
        self.catalogue = Catalogue(store, registrar, **times)
        self.registry = Registry(store, registrar, peer=SHELL, **times)
        self.attendance = Attendance(store, clock)
        self.sessions = Sessions(self.attendance)
        self.rpc = Rpc(self.sessions, store, clock)
        self.importer = Importer(SqlImports(store), **times)
        self.audit = Audit(SqlAudit(store))
        self.administration = self._administration()
        self.organisations: dict[str, Organisation] = {}
        self.users: dict[str, User] = {}
        self._tokens: dict[str, str] = {}

    def _administration(self) -> Administration:
        inventory, registry, people = self.inventory, self.registry, self.people
        times = {"clock": self.clock, "new_token": new_token}
        return Administration(
            logins=self.logins,
            people=people,
            inventory=inventory,
            catalogue=self.catalogue,
            registry=registry,
            clock=self.clock,
            jwt_key=KEY,
            counters=(
                TelemetryRoutes(inventory, registry, self.clock),
                RpcRoutes(inventory, registry, people, self.clock),
                ClaimRoutes(inventory, people),
                ProfileRoutes(self.catalogue, people, PolicyWords()),
                AdmissionRoutes(
                    AdmissionLists(SqlAdmission(self.store), clock=self.clock), self.catalogue
                ),
                ProvisionProfileRoutes(self.catalogue, people),
                BulkImportRoutes(self.importer),
                AuditRoutes(self.audit, people),
                SecretRoutes(FleetSecrets(SqlFleetTickets(self.store), **times), self.catalogue),
                ApprovalRoutes(Approvals(SqlApprovals(self.store), clock=self.clock)),
                HookRoutes(
                    HookQueues(SqlHooks(self.store), self.catalogue, clock=self.clock),
                    self.catalogue,
                ),
            ),
        )

    async def open(self) -> None:
        self.operator = await self.people.operator(SHELL)
        await self._settle()
        router = Router(self.administration.routes(), Wire.HTTP, Gauge(100), polls=Gauge(100))
        self.listener = HttpListener(
            router,
            host="127.0.0.1",
            port=0,
            shapes=shapes(lambda status, message: error_body(status, message, self.clock())),
        )
        await self.listener.start()
        self.url = f"http://127.0.0.1:{self.listener.port}"
        self.client = aiohttp.ClientSession()

    async def close(self) -> None:
        await self.client.close()
        await self.listener.stop(1.0)
        await self.rpc.stop()
        self.hasher.close()

    async def _settle(self) -> None:
        root = await self.people.root()
        acme = await self._organisation("Acme", root)
        north = await self._organisation("Acme North", acme)
        globex = await self._organisation("Globex", root)
        await self.user("admin", root, TENANT_ADMIN)
        await self.user("boss", acme, TENANT_ADMIN)
        await self.user("user", acme, CUSTOMER_USER)
        await self.user("north", north, TENANT_ADMIN)
        await self.user("other", globex, TENANT_ADMIN)

    async def _organisation(self, name: str, parent: Organisation) -> Organisation:
        made = await self.people.save_organisation(self.operator, name=name, parent=parent)
        self.organisations[name] = made
        return made

    async def user(self, name: str, organisation: Organisation, role: str) -> User:
        """A user with the password `PASSWORD`."""
        self.users[name] = await self.people.save_user(
            self.operator,
            email=f"{name}@example.com",
            organisation=organisation,
            role=role,
            first_name=name.title(),
            password=Secret(PASSWORD),
        )
        return self.users[name]

    # ── services, without the wire ──────────────────────────────────────────────────────────

    def actor(self, name: str) -> Actor:
        """Somebody with all permissions in the place where the user stands."""
        user = self.users[name]
        places = [*self.organisations.values(), self.operator.organisation]
        place = next(one for one in places if one.id == user.organisation_id)
        return Actor(peer=SHELL, organisation=place, permissions=EVERYTHING, user=user)

    async def device(self, name: str, customer: str | None = None, **draft: Any) -> DeviceRecord:
        """A device of the tenant's, given to a customer if one is named."""
        made = await self.inventory.create(self.operator, DeviceDraft(name=name, **draft))
        if customer is None:
            return made
        place = self.organisations[customer]
        return await self.inventory.assign(self.operator, made, place)

    async def key_without(self, name: str, *lacking: Permission) -> str:
        """A key for scripts of that user, which allows all the user may but this."""
        user = self.users[name]
        allowed = EVERYTHING - frozenset(lacking)
        _, key = await self.logins.add_key(self.operator, user, "script", allowed)
        return f"ApiKey {key.reveal()}"

    # ── calls ───────────────────────────────────────────────────────────────────────────────

    async def bearer(self, name: str) -> str:
        """What `X-Authorization` says for that user, who logs in the first time."""
        if name not in self._tokens:
            body = {"username": f"{name}@example.com", "password": PASSWORD}
            answer = await self.post("/api/auth/login", body, as_=None)
            assert answer.status == 200, answer.text
            self._tokens[name] = answer.json["token"]
        return f"Bearer {self._tokens[name]}"

    async def get(self, path: str, *, as_: str | None = "admin", **options: Any) -> Answer:
        return await self.call("GET", path, as_=as_, **options)

    async def post(
        self, path: str, body: Any = None, *, as_: str | None = "admin", **options: Any
    ) -> Answer:
        return await self.call("POST", path, body, as_=as_, **options)

    async def delete(self, path: str, *, as_: str | None = "admin", **options: Any) -> Answer:
        return await self.call("DELETE", path, as_=as_, **options)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        as_: str | None = "admin",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Ask as somebody; None is nobody. `body` is bytes, or is sent as JSON."""
        shown = dict(headers or {})
        if as_ is not None and not shown:
            shown["X-Authorization"] = await self.bearer(as_)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self.client.request(method, self.url + path, data=data, headers=shown) as got:
            return Answer(got.status, await got.text(), got.headers)
