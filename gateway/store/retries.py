"""Answers that may be repeated: whose they are, and until when.

A window is a row of `retry_window` with the digest of what binds the answer. That no two rows have
one digest decides between requests that came at once, here or at two gateways. One that is closed
stays until its time is over: a copy of the request that the network kept is not taken for another
device without a name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from gateway.core.ports import KnownCredentials
from gateway.store.driver import Row, Transaction
from gateway.store.queries import listed
from gateway.store.writer import Decision

Window: TypeAlias = tuple[int, bytes, int]
"""A row of `retry_window`: device, digest, and until when (ms)."""


class Bound(Struct, frozen=True):
    """What an answer is bound to, as it is kept: the digest, and until when (ms)."""

    digest: bytes
    until: int


class Repeated(Struct, frozen=True):
    """What was given to who made the same request before."""

    known: KnownCredentials


async def repeated(
    tx: Transaction, bound: Bound | None, at: int, open_known: Callable[[Row], KnownCredentials]
) -> Repeated | None:
    """The answer that is bound so and may still be repeated at `at`."""
    if bound is None:
        return None
    found = await tx.fetch("repeat_bound", bound.digest, at)
    return Repeated(open_known(found[0])) if found else None


async def open_windows(tx: Transaction, windows: Sequence[Window], at: int) -> set[int]:
    """Open windows for devices that were just born. The insert decides: those whose answer is bound
    to what another's is get none; they are given back."""
    if await tx.insert_rows("insert_retry_windows", windows) == len(windows):
        return set()
    numbers = listed([window[0] for window in windows])
    opened = {row[0] for row in await tx.fetch("retry_windows_among", numbers)}
    others = [window for window in windows if window[0] not in opened]
    return {one[0] for one in others if not await open_window(tx, one, at)}


async def open_window(tx: Transaction, window: Window, at: int) -> bool:
    """Open one in place of the device's older one. False: the answer is another's."""
    await tx.fetch("make_way_for_retry", window[0], window[1], at)
    return bool(await tx.insert_rows("insert_retry_windows", [window]))


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
