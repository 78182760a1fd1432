"""The row of people: what a hundred logins at once do to the devices that come meanwhile.

A password's hash takes a processor a tenth of a second. Devices come at a steady pace, far below
what the gateway can do, and gateway and hash share one processor: who waits, waits for the hash.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
from generators import GeneratorError
from lab import Figures, Lab

from gateway.simulator.processes import on_core

LOGINS = 100
DEVICES_AT_ONCE, EVERY_S = 16, 0.05
_WARM_S = 1.0


def logins(lab: Lab) -> Figures:
    password = secrets.token_hex(10)
    with lab.gateway(GATEHOUSE_ADMIN_PASSWORD=password) as (server, _), on_core(lab.load_core):
        address = f"http://127.0.0.1:{server.ports['http']}"
        return asyncio.run(_both(lab, address, password))


async def _both(lab: Lab, address: str, password: str) -> Figures:
    pair = {
        "provisionDeviceKey": lab.pair.key.reveal(),
        "provisionDeviceSecret": lab.pair.secret.reveal(),
    }
    numbers = itertools.count(1)

    async def provision(session: aiohttp.ClientSession) -> None:
        asked = {"deviceName": f"comes-{next(numbers)}", **pair}
        async with session.post("/api/v1/provision", json=asked) as reply:
            if (await reply.json(content_type=None))["status"] != "SUCCESS":
                raise GeneratorError("a device was refused")

    async def log_in(session: aiohttp.ClientSession) -> None:
        asked = {"username": "admin@localhost", "password": password}
        async with session.post("/api/auth/login", json=asked) as reply:
            if reply.status != 200:
                raise GeneratorError(f"a login was answered {reply.status}")
            await reply.read()

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(address, connector=connector) as session:
        await log_in(session)  # what logins need is loaded with the first
        alone = await _waits(lambda: provision(session), lab.seconds)
        done = 0

        async def log_in_again_and_again() -> None:
            nonlocal done
            while True:
                await log_in(session)
                done += 1

        people = [asyncio.create_task(log_in_again_and_again()) for _ in range(LOGINS)]
        await asyncio.sleep(_WARM_S)
        before, began = done, time.perf_counter()
        beside = await _waits(lambda: provision(session), lab.seconds)
        rate = (done - before) / (time.perf_counter() - began)
        for one in people:
            one.cancel()
            with suppress(asyncio.CancelledError):
                await one
    return {
        "logins, 100 at once, per second": rate,
        "a device meanwhile, p50 ms": statistics.median(beside) * 1000,
        "a device meanwhile, p99 ms": _p99(beside) * 1000,
        "a device while nobody logs in, p99 ms": _p99(alone) * 1000,
    }


async def _waits(ask: Callable[[], Awaitable[None]], seconds: float) -> list[float]:
    """How long each device waited, in seconds; they come in turn, evenly."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def come(late_s: float) -> None:
        await asyncio.sleep(late_s)
        while (began := time.perf_counter()) < end:
            await ask()
            took.append(time.perf_counter() - began)
            await asyncio.sleep(max(0.0, began + EVERY_S - time.perf_counter()))

    turns = (number * EVERY_S / DEVICES_AT_ONCE for number in range(DEVICES_AT_ONCE))
    await asyncio.gather(*map(come, turns))
    return took


def _p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98]


EXPERIMENTS = {"logins": [logins]}
