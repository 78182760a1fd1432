"""What people do to the device of a running gateway while a test watches it."""

from __future__ import annotations

from typing import Any

from inside import Gate

from gateway.core.model import AttributesChange, AttributeScope, RpcCall
from gateway.core.ports import KnownCredentials


class Operator:
    """Changes attributes of a device and calls it, as the command line does."""

    def __init__(self, gate: Gate, name: str = "d") -> None:
        self._registry = gate.registry
        self._name = name

    async def known(self) -> KnownCredentials:
        known = await self._registry.device(self._name)
        assert known is not None
        return known

    async def share(self, *deleted: str, **values: Any) -> None:
        """Change shared attributes."""
        change = AttributesChange(values, deleted)
        changed = await self._registry.change_attributes(
            await self.known(), AttributeScope.SHARED, change
        )
        assert changed is not None

    async def attributes(self, scope: AttributeScope) -> dict[str, Any]:
        found = await self._registry.attributes(await self.known())
        return {one.key: one.value for one in found if one.scope is scope}

    async def call(self, method: str, params: str = "{}") -> tuple[str, str | None]:
        """Call the device; how it ended, and its answer."""
        stored = await self._registry.calls.save(await self.known(), method, params, lasts_s=5)
        assert stored is not None
        return await self.ended(stored)

    async def store_call(self, method: str) -> RpcCall:
        """A call that waits for the device."""
        stored = await self._registry.calls.save(
            await self.known(), method, lasts_s=600, persistent=True
        )
        assert stored is not None
        return stored

    async def ended(self, call: RpcCall) -> tuple[str, str | None]:
        ended = await self._registry.calls.end_of(call, 5)
        return ended.state.value, ended.response
