"""Blynk's Platform API, by which programs and people onboard devices: made when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.config import Config
from gateway.core.logins import Logins
from gateway.core.sessions import Sessions
from gateway.services import Services
from gateway.store.sql_store import SqlStore
from gateway.wire.route import Route


def open_platform(
    config: Config,
    store: SqlStore,
    services: Services,
    *,
    logins: Logins,
    sessions: Sessions,
    nudge: Callable[[], None],
) -> Sequence[Route]:
    """Its routes. `nudge`: look at once for what was changed."""
    return ()
