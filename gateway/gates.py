"""What requests pass on their way to a birth, made from the configuration: one of each."""

from __future__ import annotations

from gateway.config import Config
from gateway.core.provisioning import Gates
from gateway.store.sql_store import SqlStore


def open_gates(config: Config, store: SqlStore) -> Gates:
    """The gates of a process over `store`."""
    return Gates()
