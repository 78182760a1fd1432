"""What the store can do without a wire in front of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.core.access import Access
from gateway.core.model import (
    AccessToken,
    Device,
    Peer,
    Provisioned,
    ProvisionType,
    Reading,
    Secret,
    Wire,
)
from gateway.core.ports import NewDevice
from gateway.core.registry import ProfileDraft, Registry, root_profile
from gateway.core.tokens import new_token
from gateway.opening import open_registry, open_store
from gateway.settings import StoreSettings
from gateway.store.sql_store import SqlStore

pytestmark = pytest.mark.bench

Report = Callable[[str], None]
PEER = Peer(Wire.SHELL, "bench")
SECONDS = 1.5


async def _profile_id(registry: Registry) -> int:
    profile = root_profile("bench", provision_type=ProvisionType.ALLOW_CREATE_NEW_DEVICES)
    await registry.save_profile(ProfileDraft(profile=profile))
    made = await registry.profile("bench")
    assert made is not None
    return made.id


async def _born(store: SqlStore, profile_id: int, token: str) -> Device:
    new = NewDevice(
        organisation_id=1,
        profile_id=profile_id,
        name=f"device-{token}",
        type="bench",
        credentials=AccessToken(Secret(token)),
        provision_state="provisioned",
        peer=PEER,
        at=time.time_ns() // 1_000_000,
    )
    result = await store.create_device(new)
    assert isinstance(result, Provisioned)
    return result.device


async def _rate(at_once: int, work: Callable[[], asyncio.Future[object]]) -> float:
    """How often `work` is done per second with `at_once` of it under way."""
    end = time.perf_counter() + SECONDS
    done = 0

    async def lane() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await work()
            done += 1

    await asyncio.gather(*(lane() for _ in range(at_once)))
    return done / SECONDS


def _config(folder: Path) -> Config:
    return Config(store=StoreSettings(url=f"sqlite:{folder / 'bench.db'}"))


@pytest.mark.parametrize("at_once", [1, 32, 256])
async def test_devices_are_born(tmp_path: Path, report: Report, at_once: int) -> None:
    """Durable devices per second: a device, its credentials and its event each."""
    async with open_store(_config(tmp_path), {}) as store:
        profile_id = await _profile_id(open_registry(store, PEER))
        rate = await _rate(
            at_once, lambda: asyncio.ensure_future(_born(store, profile_id, new_token()))
        )
    report(f"durable devices with {at_once} at once: {rate:,.0f} per second")


async def test_readings_are_saved(tmp_path: Path, report: Report) -> None:
    """Durable readings of one device, 256 under way."""
    async with open_store(_config(tmp_path), {}) as store:
        device = await _born(store, await _profile_id(open_registry(store, PEER)), new_token())
        clock = iter(range(1_700_000_000_000, 1_800_000_000_000))
        rate = await _rate(
            256,
            lambda: asyncio.ensure_future(
                store.save_readings(device, [Reading(next(clock), "temperature", 21.5)])
            ),
        )
    report(f"durable readings with 256 at once: {rate:,.0f} per second")


async def test_a_token_is_looked_up(tmp_path: Path, report: Report) -> None:
    """A device by its access token, among ten thousand."""
    async with open_store(_config(tmp_path), {}) as store:
        profile_id = await _profile_id(open_registry(store, PEER))
        tokens = [new_token() for _ in range(10_000)]
        await asyncio.gather(*(_born(store, profile_id, token) for token in tokens))
        access = Access(store)
        began = time.perf_counter()
        for token in tokens:
            assert await access.by_token(Secret(token)) is not None
        taken = (time.perf_counter() - began) / len(tokens)
    report(f"look up a token among {len(tokens):,}: {taken * 1e6:.1f} µs")
