"""Tickets and static tokens over one store, as the configuration says."""

from __future__ import annotations

from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.ports import Templates
from gateway.core.sessions import Sessions
from gateway.core.static_tokens import StaticTokens
from gateway.core.tickets import IsOnline, Tickets
from gateway.core.tokens import new_url_token
from gateway.store.sql_registrar import SqlRegistrar
from gateway.store.sql_static_tokens import SqlStaticTokens
from gateway.store.sql_store import SqlStore
from gateway.store.sql_tickets import SqlTickets


def open_tickets(config: Config, store: SqlStore, is_online: IsOnline | None = None) -> Tickets:
    """Without `is_online` a device is where the gateway processes last wrote that it was."""
    blynk = config.blynk
    return Tickets(
        SqlTickets(store),
        clock=now_ms,
        new_token=new_url_token,
        is_online=is_online or online_as_written(store),
        days=blynk.ticket_days,
        most_waiting=blynk.max_tickets,
        revoke_on_issue=blynk.revoke_on_issue,
    )


def open_static_tokens(store: SqlStore, templates: Templates) -> StaticTokens:
    """Pairs of tokens that devices are made and claimed with."""
    return StaticTokens(SqlStaticTokens(store), templates, clock=now_ms, new_token=new_url_token)


def online_as_written(store: SqlStore) -> IsOnline:
    """For who is no gateway process: what those wrote, at most a second or two ago."""
    registrar = SqlRegistrar(store)

    async def is_online(device_id: int) -> bool:
        found = await registrar.presence([device_id], now_ms())
        return device_id in found and found[device_id].online

    return is_online


def online_here(sessions: Sessions, store: SqlStore) -> IsOnline:
    """For a gateway process: what it sees itself, and what the others wrote."""

    async def is_online(device_id: int) -> bool:
        if sessions.is_reachable(device_id):
            return True
        return await store.is_elsewhere(device_id, sessions.node, now_ms())

    return is_online
