"""What people work with, over one store; and the REST by which they do it from afar."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from msgspec import Struct

from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.audit import Audit
from gateway.core.catalogue import Catalogue
from gateway.core.importing import Importer
from gateway.core.inventory import Inventory
from gateway.core.logins import Logins
from gateway.core.model import Peer, Wire
from gateway.core.people import People
from gateway.core.tokens import new_token
from gateway.dialects.thingsboard.admin import Administration
from gateway.dialects.thingsboard.admin.audit import AuditRoutes
from gateway.dialects.thingsboard.admin.bulk_import import BulkImportRoutes
from gateway.dialects.thingsboard.admin.claim import ClaimRoutes
from gateway.dialects.thingsboard.admin.profiles import ProfileRoutes
from gateway.dialects.thingsboard.admin.provision_profiles import ProvisionProfileRoutes
from gateway.dialects.thingsboard.admin.rpc import RpcRoutes
from gateway.dialects.thingsboard.admin.telemetry import TelemetryRoutes
from gateway.opening import open_registry
from gateway.passwords import Argon2Passwords
from gateway.profile_certificates import prove_anchor
from gateway.store.audit import SqlAudit
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
    hasher: Argon2Passwords

    def close(self) -> None:
        self.hasher.close()


def open_services(store: SqlStore) -> Services:
    """Those of `store`, which is open."""
    hasher = Argon2Passwords()
    return Services(
        people=People(SqlPeople(store), clock=now_ms, new_token=new_token, hasher=hasher),
        inventory=Inventory(store, SqlInventory(store), clock=now_ms, new_token=new_token),
        catalogue=Catalogue(
            store,
            SqlRegistrar(store),
            clock=now_ms,
            new_token=new_token,
            prove_anchor=prove_anchor,
        ),
        importer=Importer(SqlImports(store), clock=now_ms, new_token=new_token),
        audit=Audit(SqlAudit(store)),
        hasher=hasher,
    )


def open_administration(
    config: Config,
    store: SqlStore,
    services: Services,
    *,
    nudge: Callable[[], None],
    logins_ended: defaultdict[str, int],
) -> Administration:
    """The REST over `services`. `nudge`: look at once for what was changed. In `logins_ended` it is
    counted how."""
    people, inventory, catalogue = services.people, services.inventory, services.catalogue
    registry = open_registry(store, Peer(Wire.HTTP, "administration"))
    logins = Logins(
        SqlPeople(store),
        services.hasher,
        clock=now_ms,
        new_token=new_token,
        access_s=config.admin.access_token_s,
        refresh_s=config.admin.refresh_token_s,
        outcomes=logins_ended,
    )
    return Administration(
        logins=logins,
        people=people,
        inventory=inventory,
        catalogue=catalogue,
        registry=registry,
        clock=now_ms,
        jwt_key=store.vault.signing_key,
        counters=(
            ProfileRoutes(catalogue, people),
            ProvisionProfileRoutes(catalogue, people),
            TelemetryRoutes(inventory, registry, now_ms),
            RpcRoutes(
                inventory,
                registry,
                people,
                now_ms,
                nudge=nudge,
                timeout_ms=round(config.rpc.timeout_s * 1000),
            ),
            ClaimRoutes(inventory, people),
            BulkImportRoutes(services.importer, max_body_bytes=config.admin.max_import_bytes),
            AuditRoutes(services.audit, people),
        ),
    )
