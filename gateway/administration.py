"""The REST by which people work from afar."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.logins import Logins
from gateway.core.model import Peer, Wire
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
from gateway.opening import open_registry
from gateway.policy_words import PolicyWords
from gateway.services import Services
from gateway.store.sql_people import SqlPeople
from gateway.store.sql_store import SqlStore


def open_logins(
    config: Config, store: SqlStore, services: Services, ended: defaultdict[str, int]
) -> Logins:
    """Logins of people. In `ended` it is counted how."""
    return Logins(
        SqlPeople(store),
        services.hasher,
        clock=now_ms,
        new_token=new_token,
        access_s=config.admin.access_token_s,
        refresh_s=config.admin.refresh_token_s,
        outcomes=ended,
    )


def open_administration(
    config: Config,
    store: SqlStore,
    services: Services,
    *,
    nudge: Callable[[], None],
    logins: Logins,
) -> Administration:
    """The REST over `services`. `nudge`: look at once for what was changed."""
    people, inventory, catalogue = services.people, services.inventory, services.catalogue
    registry = open_registry(store, Peer(Wire.HTTP, "administration"))
    return Administration(
        logins=logins,
        people=people,
        inventory=inventory,
        catalogue=catalogue,
        registry=registry,
        clock=now_ms,
        jwt_key=store.vault.signing_key,
        counters=(
            ProfileRoutes(catalogue, people, PolicyWords()),
            AdmissionRoutes(services.admission, catalogue),
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
            SecretRoutes(services.secrets, catalogue),
            ApprovalRoutes(services.approvals),
            HookRoutes(services.hooks, catalogue),
        ),
    )
