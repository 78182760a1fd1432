"""Hooks: what was asked or told, and what is still to be told."""

from __future__ import annotations

from msgspec import Struct

from gateway.core.model.policies import HookRule


class HookTrouble(Struct, frozen=True):
    """A hook gave no answer that counts. `reason` is ours: it holds no address and no secret."""

    reason: str


class Followed(Struct, frozen=True, kw_only=True):
    """A profile whose after-hook is told what happens to its devices.

    `in_file`: a file defines it. Only such a profile may name Python code.
    """

    profile_id: int
    uuid: str
    name: str
    rule: HookRule
    in_file: bool = False


class Delivery(Struct, frozen=True, kw_only=True):
    """An event that a hook is to be told. `body` is JSON, as it is sent.

    `attempts`: how often it was tried in vain. Until `taken_until` (ms) it is ours alone.
    """

    profile_id: int
    seq: int
    device_id: int
    body: str
    attempts: int = 0
    taken_until: int = 0


class DeadDelivery(Struct, frozen=True, kw_only=True):
    """One that was given up. `at`: when (ms)."""

    profile_id: int
    seq: int
    device_id: int
    body: str
    attempts: int
    at: int
    reason: str


class HookBacklog(Struct, frozen=True, kw_only=True):
    """What a profile's after-hook was not told. `last_reason`: why not, the last that is known."""

    waiting: int = 0
    dead: int = 0
    last_reason: str = ""
