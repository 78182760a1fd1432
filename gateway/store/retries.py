"""Answers that may be repeated: whose they are, and until when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from gateway.core.ports import KnownCredentials
from gateway.store.driver import Row, Transaction
from gateway.store.queries import listed
from gateway.store.writer import Decision


class Repeated(Struct, frozen=True):
    """What was given to who made the same request before."""

    known: KnownCredentials


async def repeated(
    tx: Transaction, bound: bytes | None, at: int, open_known: Callable[[Row], KnownCredentials]
) -> Repeated | None:
    """The answer that is bound to `bound` and may still be repeated at `at`."""
    if bound is None:
        return None
    found = await tx.fetch("repeat_bound", bound, at)
    return Repeated(open_known(found[0])) if found else None


class EndRetries(Decision[None]):
    """A credential was used: its provisioning is repeated no more."""

    __slots__ = ("device_id",)

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[EndRetries]) -> list[Any]:
        numbers = listed([one.device_id for one in decisions])
        await tx.fetch("end_retries", numbers)
        return [None] * len(decisions)
