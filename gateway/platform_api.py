"""Blynk's Platform API, by which programs and people onboard devices: made when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.limits import parse_rate
from gateway.core.logins import Logins
from gateway.core.model import Peer, Wire
from gateway.core.oauth import OAuth
from gateway.core.sessions import Sessions
from gateway.dialects.blynk.bearer import Bearers
from gateway.dialects.blynk.oauth import OAuthRoutes
from gateway.dialects.blynk.platform import PlatformApi
from gateway.dialects.blynk.profile import Templates
from gateway.dialects.blynk.static_tokens import StaticTokenRoutes
from gateway.opening import open_registry
from gateway.services import Services
from gateway.store.sql_oauth import SqlOAuth
from gateway.store.sql_store import SqlStore
from gateway.ticketing import online_here, open_static_tokens, open_tickets
from gateway.wire.route import Route


def open_oauth(config: Config, store: SqlStore, logins: Logins) -> OAuth:
    """Access of programs, as the configuration says."""
    blynk = config.blynk
    return OAuth(
        SqlOAuth(store),
        logins,
        clock=now_ms,
        access_s=blynk.access_token_s,
        refresh_s=blynk.refresh_token_s,
        wrong_clients=parse_rate(blynk.bad_tokens),
        requests=parse_rate(blynk.requests),
    )


def open_platform(
    config: Config,
    store: SqlStore,
    services: Services,
    *,
    logins: Logins,
    sessions: Sessions,
    templates: Templates,
    nudge: Callable[[], None],
) -> Sequence[Route]:
    """Its routes. `nudge`: look at once for what was changed."""
    oauth = open_oauth(config, store, logins)
    authenticate = Bearers(oauth, logins).actor
    is_online = online_here(sessions, store)
    platform = PlatformApi(
        authenticate,
        tickets=open_tickets(config, store, is_online),
        people=services.people,
        inventory=services.inventory,
        registry=open_registry(store, Peer(Wire.HTTP, "platform")),
        templates=templates,
        is_online=is_online,
        clock=now_ms,
        nudge=nudge,
    )
    static_tokens = StaticTokenRoutes(authenticate, open_static_tokens(store, templates))
    return (*OAuthRoutes(oauth).routes(), *platform.routes(), *static_tokens.routes())
