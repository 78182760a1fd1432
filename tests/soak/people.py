"""People at a shell beside the server: calls to devices, and changes of shared attributes.

They use the product's own registry on the same store, as `gatehouse` commands do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from crowd import DONE
from ground import World
from msgspec import Struct
from nuisance import SLOW

from gateway.config import Config
from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    DeviceProfile,
    Peer,
    Provisioned,
    RpcCall,
    RpcState,
    Secret,
    Wire,
)
from gateway.core.ports import KnownCredentials
from gateway.core.registry import Registry
from gateway.opening import open_registry, open_store
from gateway.settings import StoreSettings
from gateway.simulator.processes import PROFILE

_CALL_LASTS_S = 2.0
_KEPT_CALL_LASTS_S = 120.0
_SETTLED_S = 30.0
"""A kept call older than this must have met its device, whose lives are half as long."""
_LARGE = "x" * 40_000


@asynccontextmanager
async def office(database: Path) -> AsyncIterator[tuple[Registry, DeviceProfile]]:
    """The store of a running server, opened once more."""
    config = Config(store=StoreSettings(url=f"sqlite:{database}"))
    async with open_store(config, {}) as store:
        registry = open_registry(store, Peer(Wire.SHELL, "soak"))
        profile = await registry.profile(PROFILE)
        assert profile is not None
        yield registry, profile


class Kept(Struct, frozen=True):
    """A persistent call, and when it was made (ms)."""

    known: KnownCredentials
    call: RpcCall


class People:
    """`names` are devices that answer calls."""

    def __init__(
        self, world: World, registry: Registry, profile: DeviceProfile, names: Sequence[str]
    ) -> None:
        self.world = world
        self.registry = registry
        self.profile = profile
        self.names = names
        self.kept: list[Kept] = []
        self._turn = 0

    async def add(self, name: str) -> None:
        added = await self.registry.add_device(
            self.profile, name, token=Secret(self.world.token(name))
        )
        assert isinstance(added, Provisioned)

    async def call(self) -> None:
        """A call that does not wait for its device, which may be away."""
        known = await self._anybody()
        call = await self.registry.calls.save(known, "ping", lasts_s=_CALL_LASTS_S)
        assert call is not None
        ended = await self.registry.calls.end_of(call, _CALL_LASTS_S + 2)
        tally = self.world.tally
        tally.count(f"calls {ended.state.value.lower()}")
        if not ended.state.final:
            tally.unexpected("a call that never ended", ended.state)
        if ended.state is RpcState.SUCCESSFUL and ended.response != DONE:
            tally.unexpected("the answer of a call", ended.response)
        await self.world.pause(0.05, 0.2)

    async def call_and_leave(self) -> None:
        """A call that waits for its device."""
        known = await self._anybody()
        call = await self.registry.calls.save(
            known, "ping", lasts_s=_KEPT_CALL_LASTS_S, persistent=True
        )
        assert call is not None
        self.kept.append(Kept(known, call))
        await self.world.pause(0.5, 2.0)
        await self._look_after()

    async def _look_after(self) -> None:
        """The oldest kept call must be over by now: its device came back more than once."""
        oldest = self.kept[0]
        age_s = (self.kept[-1].call.created_at - oldest.call.created_at) / 1000
        if age_s > _SETTLED_S:
            del self.kept[0]
            ended = await self.registry.calls.end_of(oldest.call, 0.1)
            # Delivered and then cut off: what was asked is never answered, which is no fault.
            state = ended.state
            self.world.tally.expect(
                "kept calls settled", state, RpcState.SUCCESSFUL, RpcState.DELIVERED
            )

    async def share(self) -> None:
        """One device is told much, then all are told a little."""
        self._turn += 1
        known = await self._anybody()
        await self._set(known, AttributesChange({"interval": self._turn}))
        await self._set(
            await self._device(SLOW), AttributesChange({"text": _LARGE + str(self._turn)})
        )
        if self._turn % 20 == 0:
            change = AttributesChange({"night": self._turn})
            told = await self.registry.change_profile_attributes(
                self.profile, AttributeScope.SHARED, change
            )
            self.world.tally.count("changes for all")
            if told < len(self.names):
                self.world.tally.unexpected("changes for all", told)
        await self.world.pause(0.1, 0.3)

    async def _set(self, known: KnownCredentials, change: AttributesChange) -> None:
        done = await self.registry.change_attributes(known, AttributeScope.SHARED, change)
        self.world.tally.expect("changes for one", done is None, False)

    async def _anybody(self) -> KnownCredentials:
        return await self._device(self.world.chance.choice(self.names))

    async def _device(self, name: str) -> KnownCredentials:
        known = await self.registry.device(name)
        assert known is not None
        return known
