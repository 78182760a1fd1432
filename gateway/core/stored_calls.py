"""Calls of devices' methods, for people: stored, awaited, listed and forgotten.

Nobody here speaks with a device: a call is a row, and a running gateway on the same store makes it.
"""

from __future__ import annotations

import asyncio

from gateway.core.author import Author
from gateway.core.model import Event, EventKind, Peer, RpcCall
from gateway.core.ports import AboutDevice, Clock, Store
from gateway.core.registrar import Registrar

_POLL_S, _MOST_POLL_S = 0.02, 0.1
"""How often a stored call is looked at: quickly while its answer is likely, then less."""


class StoredCalls:
    """Asks devices, as `peer` (the events' author)."""

    def __init__(self, store: Store, registrar: Registrar, *, clock: Clock, peer: Peer) -> None:
        self._store = store
        self._registrar = registrar
        self._clock = clock
        self._author = Author(clock, peer)

    async def save(
        self,
        known: AboutDevice,
        method: str,
        params: str = "{}",
        *,
        lasts_s: float,
        two_way: bool = True,
        persistent: bool = False,
        retries: int = 0,
    ) -> RpcCall | None:
        """Store a call for a running gateway to make; `params` is JSON. None: no such device.

        It is over after `lasts_s`: that long it waits for the answer, or for the device too.
        """
        now = self._clock()
        call = RpcCall(
            device_id=known.device.id,
            method=method,
            params=params,
            two_way=two_way,
            persistent=persistent,
            created_at=now,
            expires_at=now + round(lasts_s * 1000),
            retries=retries,
        )
        return await self._registrar.save_call(call, self._event(known, method=method))

    async def end_of(self, call: RpcCall, timeout_s: float) -> RpcCall:
        """The call as it ended, or as far as it came in `timeout_s`: QUEUED when unseen."""
        seen, wait_s = call, _POLL_S
        try:
            async with asyncio.timeout(timeout_s):
                while not seen.state.final:
                    await asyncio.sleep(wait_s)
                    wait_s = min(wait_s * 1.05, _MOST_POLL_S)
                    seen = await self._store.stored_call(call.id) or seen
        except TimeoutError:
            pass
        return seen

    async def of(self, known: AboutDevice, *, limit: int = 100) -> list[RpcCall]:
        """A device's calls, newest first."""
        return await self._registrar.calls(known.device.id, limit=limit)

    async def named(self, identity: str) -> RpcCall | None:
        """The stored call of that UUID."""
        return await self._registrar.call_named(identity)

    async def remove(self, known: AboutDevice, call: RpcCall) -> bool:
        """Forget a call; a device that has not got it yet never will. False: it is gone already."""
        event = self._event(known, method=call.method, removed=call.uuid)
        return await self._registrar.remove_call(call, event)

    def _event(self, known: AboutDevice, **detail: str) -> Event:
        return self._author.event(EventKind.DEVICE_RPC, known.device.name, detail, known.device.id)
