"""Liveness and readiness."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.admin import health
from gateway.admin.health import Health
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Peer, Wire
from gateway.wire.call import Call, Status

CALL = Call(b"", Peer(Wire.HTTP, "192.0.2.1:1"))


@pytest.fixture(autouse=True)
def _probe_always(monkeypatch):
    monkeypatch.setattr(health, "_PROBE_EVERY_S", -1.0)


async def works():
    pass


async def fails():
    raise StoreUnavailable("disk full at /secret/path")


async def hangs():
    await asyncio.sleep(60)


async def test_a_living_process_says_so():
    """Liveness asks nobody."""
    reply = await Health(listening=lambda: False, probe=fails).live(CALL)
    assert reply.status is Status.OK


@pytest.mark.parametrize(
    ("listening", "probe", "status", "checks"),
    [
        (True, works, Status.OK, {"listeners": "ok", "store": "ok"}),
        (False, works, Status.REFUSED, {"listeners": "not accepting", "store": "ok"}),
        (True, fails, Status.REFUSED, {"listeners": "ok", "store": "cannot be written"}),
        (True, hangs, Status.REFUSED, {"listeners": "ok", "store": "did not commit in time"}),
    ],
)
async def test_readiness_is_what_a_device_would_find(listening, probe, status, checks):
    """Ready means: all listeners accept, and the store can be written right now."""
    asked = Health(listening=lambda: listening, probe=probe, timeout_s=0.05)
    reply = await asked.ready(CALL)
    assert reply.status is status
    assert json.loads(reply.body)["checks"] == checks


async def test_asking_often_costs_one_write(monkeypatch):
    """Within a second the last answer is repeated."""
    monkeypatch.setattr(health, "_PROBE_EVERY_S", 1.0)
    probes = []

    async def probe():
        probes.append(1)

    asked = Health(listening=lambda: True, probe=probe)
    for _ in range(5):
        await asked.ready(CALL)
    assert len(probes) == 1
