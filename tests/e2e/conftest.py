"""The fixtures of the whole product: a gateway in this process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import certs
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from blynk_ground import BlynkGate, blynk_on
from inside import Gate, NewGate, serving
from plant import Plant, plant_in
from platform_ground import Platform, platform_on

from gateway.clock import now_ms
from gateway.settings import StoreSettings


@pytest.fixture
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways that are started after it live in one moment: what is counted by the minute does not
    fill again, however slow the machine. So it stands before their fixtures."""
    moment = now_ms()
    for name, module in list(sys.modules.items()):
        # Whatever is imported meanwhile takes the true one, from where it is.
        ours = name.startswith("gateway.") and name != "gateway.clock"
        if ours and getattr(module, "now_ms", None) is now_ms:
            monkeypatch.setattr(module, "now_ms", lambda: moment)


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway over a database in memory."""
    async with serving(tmp_path, store=StoreSettings(url="sqlite::memory:")) as running:
        yield running


@pytest.fixture
async def gate_on_disk(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway over a database file, which other processes may open beside it."""
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def new_gate(tmp_path: Path) -> AsyncIterator[NewGate]:
    """Starts gateways with settings of their own."""
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Gate:
            memory = StoreSettings(url="sqlite::memory:")
            running = serving(tmp_path, **{"store": memory, **settings})
            return await stack.enter_async_context(running)

        yield make


# ── secure wires ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def lab() -> certs.Authority:
    """Who signed the gateway's own certificate."""
    return certs.Authority("Lab")


@pytest.fixture(scope="session")
def server(lab: certs.Authority) -> certs.Issued:
    return lab.server()


@pytest.fixture(scope="session")
def factory() -> certs.Authority:
    """Whose devices come with certificates."""
    return certs.Authority("Factory")


NewPlant = Callable[..., AbstractAsyncContextManager[Plant]]


@pytest.fixture
def new_plant(
    tmp_path: Path, lab: certs.Authority, server: certs.Issued, factory: certs.Authority
) -> NewPlant:
    """Starts gateways with secure wires and settings of their own."""
    return partial(plant_in, tmp_path, lab, server, factory)


@pytest.fixture
async def plant(new_plant: NewPlant) -> AsyncIterator[Plant]:
    """A gateway with secure wires over a database in memory."""
    async with new_plant() as running:
        yield running


@pytest.fixture
async def plant_on_disk(new_plant: NewPlant) -> AsyncIterator[Plant]:
    """The same over a database file, which other processes may open beside it."""
    async with new_plant(memory=False) as running:
        yield running


# ── Blynk ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def blynk(gate: Gate) -> AsyncIterator[BlynkGate]:
    """A gateway with templates."""
    async with blynk_on(gate) as running:
        yield running


@pytest.fixture
async def platform(gate: Gate) -> AsyncIterator[Platform]:
    """The same, with organisations whose people and programs ask its Platform API."""
    async with platform_on(gate) as running:
        yield running
