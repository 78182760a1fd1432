"""What people work with, over one store."""

from __future__ import annotations

from msgspec import Struct

from gateway.clock import now_ms
from gateway.core.admission_lists import AdmissionLists
from gateway.core.approvals import Approvals
from gateway.core.audit import Audit
from gateway.core.catalogue import Catalogue
from gateway.core.fleet_custody import FleetSecrets
from gateway.core.hook_queues import HookQueues
from gateway.core.importing import Importer
from gateway.core.inventory import Inventory
from gateway.core.people import People
from gateway.core.tokens import new_token
from gateway.passwords import Argon2Passwords
from gateway.profile_certificates import prove_anchor
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


class Services(Struct, frozen=True):
    """Each acts for an `Actor`, whose sight and permissions bound what it does.

    `hasher` has a thread of its own: `close` ends it.
    """

    people: People
    inventory: Inventory
    catalogue: Catalogue
    importer: Importer
    audit: Audit
    secrets: FleetSecrets
    approvals: Approvals
    admission: AdmissionLists
    hooks: HookQueues
    hasher: Argon2Passwords

    def close(self) -> None:
        self.hasher.close()


def open_services(store: SqlStore) -> Services:
    """Those of `store`, which is open."""
    hasher = Argon2Passwords()
    catalogue = Catalogue(
        store,
        SqlRegistrar(store),
        clock=now_ms,
        new_token=new_token,
        prove_anchor=prove_anchor,
    )
    return Services(
        people=People(SqlPeople(store), clock=now_ms, new_token=new_token, hasher=hasher),
        inventory=Inventory(store, SqlInventory(store), clock=now_ms, new_token=new_token),
        catalogue=catalogue,
        importer=Importer(SqlImports(store), clock=now_ms, new_token=new_token),
        audit=Audit(SqlAudit(store)),
        secrets=FleetSecrets(SqlFleetTickets(store), clock=now_ms, new_token=new_token),
        approvals=Approvals(SqlApprovals(store), clock=now_ms),
        admission=AdmissionLists(SqlAdmission(store), clock=now_ms),
        hooks=HookQueues(SqlHooks(store), catalogue, clock=now_ms),
        hasher=hasher,
    )
