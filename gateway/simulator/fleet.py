"""A whole fleet: every device is provisioned, logs in with what it got, and sends readings."""

from __future__ import annotations

import asyncio
import json
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from gateway.core.model import Secret, Wire
from gateway.core.tokens import new_token
from gateway.simulator.device import Credentials, SimulatorError, parse_credentials
from gateway.simulator.losses import (
    GaveUp,
    Losses,
    Ordeal,
    Patience,
    Persistent,
    Source,
    prove,
)
from gateway.simulator.tally import count, percentile

MOST_SAMPLES: Final = 100_000
"""Latencies kept per wire and kind; beyond it a fair sample of them (800 KB each)."""
_NONCE: Final = 32
"""Characters of a nonce."""
_COME_BACK_S: Final = 1.0
"""How long a device that lost its connection waits before it tries again."""


class Plan(Struct, frozen=True, kw_only=True):
    """What the fleet is to do.

    Device `n` of `devices` is named `prefix-n` and speaks the wire whose turn it is. It sends a
    reading every `1 / rate` seconds: `readings` of them, or for `seconds` after it was
    provisioned. At most `concurrency` provisionings are under way at once, and as many readings.

    With `losses` the network is a bad one: each device makes a nonce of its own, asks with it until
    it has credentials, and proves that they log it in.
    """

    devices: int
    wires: Sequence[Wire]
    key: Secret
    secret: Secret
    prefix: str
    rate: float = 1.0
    readings: int | None = None
    seconds: float | None = None
    concurrency: int = 64
    losses: Losses = Losses()


class Samples:
    """Times in seconds: all of them up to `MOST_SAMPLES`, then each as likely as any other."""

    __slots__ = ("_kept", "_seen")

    def __init__(self) -> None:
        self._kept = array("d")
        self._seen = 0

    def add(self, seconds: float) -> None:
        self._seen += 1
        if len(self._kept) < MOST_SAMPLES:
            self._kept.append(seconds)
            return
        at = random.randrange(self._seen)  # noqa: S311 - a sample, not a secret
        if at < MOST_SAMPLES:
            self._kept[at] = seconds

    def percentiles_ms(self, *shares: float) -> list[float | None]:
        """Milliseconds; None of nothing."""
        if not self._kept:
            return [None] * len(shares)
        ordered = sorted(self._kept)
        return [round(percentile(ordered, share) * 1000, 2) for share in shares]


class WireSummary(Struct):
    """What came of the devices of one wire. `refusals` and `errors` count by what was said."""

    devices: int = 0
    provisioned: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    readings: int = 0
    reading_errors: Counter[str] = field(default_factory=Counter)
    ordeal: Ordeal = field(default_factory=Ordeal)
    provision_times: Samples = field(default_factory=Samples)
    reading_times: Samples = field(default_factory=Samples)


class Run:
    """One run of a plan. `summary` may be looked at meanwhile, and after it was cut short."""

    def __init__(
        self, plan: Plan, source: Source, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.plan = plan
        self.summary: Mapping[Wire, WireSummary] = {wire: WireSummary() for wire in plan.wires}
        self.finished = 0
        """Devices that have done all they will do."""
        self.source = source
        self.clock = clock
        self.provision_turns = asyncio.Semaphore(plan.concurrency)
        self.reading_turns = asyncio.Semaphore(plan.concurrency)

    @property
    def complete(self) -> bool:
        """Whether every device was provisioned; with losses also: once, and for good."""
        if self.provisioned != self.plan.devices:
            return False
        ordeals = [one.ordeal for one in self.summary.values()]
        logged_in = sum(one.logged_in for one in ordeals)
        return not self.plan.losses.any or (
            logged_in == self.plan.devices and not any(one.contradictions for one in ordeals)
        )

    @property
    def provisioned(self) -> int:
        return sum(one.provisioned for one in self.summary.values())

    @property
    def readings(self) -> int:
        return sum(one.readings for one in self.summary.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Run the plan to its end, or until `stop`; either way every device is closed."""
        lives = asyncio.create_task(self._live_all())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((lives, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            lives.cancel()
            await asyncio.wait((lives,))
        if not lives.cancelled():
            lives.result()

    async def _live_all(self) -> None:
        wires = self.plan.wires
        async with asyncio.TaskGroup() as group:
            for number in range(1, self.plan.devices + 1):
                life = _Life(self, number, wires[(number - 1) % len(wires)])
                group.create_task(life.live())


class _Life:
    """One device of a run, from its first request to its last reading."""

    __slots__ = ("_device", "_number", "_patience", "_run", "_summary", "_wire")

    def __init__(self, run: Run, number: int, wire: Wire) -> None:
        self._run = run
        self._number = number
        self._wire = wire
        self._summary = run.summary[wire]
        self._device = run.source.device(wire)
        self._patience = Patience() if run.plan.losses.any else None

    async def live(self) -> None:
        self._summary.devices += 1
        try:
            if self._run.plan.losses.any:
                credentials = await self._persist()
            else:
                async with self._run.provision_turns:
                    credentials = await self._provision()
            if credentials is not None:
                await self._work(credentials)
        finally:
            self._run.finished += 1
            await self._device.close()

    def _request(self, **more: str) -> bytes:
        plan = self._run.plan
        body = {
            "deviceName": f"{plan.prefix}-{self._number}",
            "provisionDeviceKey": plan.key.reveal(),
            "provisionDeviceSecret": plan.secret.reveal(),
            **more,
        }
        return json.dumps(body).encode()

    async def _provision(self) -> Credentials | None:
        summary, clock = self._summary, self._run.clock
        began = clock()
        try:
            answer = parse_credentials(await self._device.provision(self._request()))
        except SimulatorError as exc:
            count(summary.errors, str(exc))
            return None
        if isinstance(answer, str):
            count(summary.refusals, answer)
            return None
        summary.provision_times.add(clock() - began)
        summary.provisioned += 1
        return answer

    async def _persist(self) -> Credentials | None:
        """The same over a bad network; what it was given logs in, and stays what it was given."""
        run, summary = self._run, self._summary
        began = run.clock()
        device = Persistent(
            run.source,
            self._wire,
            self._request(nonce=new_token(_NONCE)),
            run.plan.losses,
            summary.ordeal,
            run.provision_turns,
        )
        try:
            credentials = await device.provision()
            summary.provision_times.add(run.clock() - began)
            summary.provisioned += 1
            await prove(self._device, credentials, summary.ordeal, _reading(), run.reading_turns)
            await device.settled()
        except GaveUp as exc:
            count(summary.refusals if exc.refused else summary.errors, exc.said)
            return None
        finally:
            await device.close()
        return credentials

    async def _work(self, credentials: Credentials) -> None:
        """Send readings at the planned times; come back after a lost connection."""
        run, connected = self._run, False
        for due in self._due_times():
            await asyncio.sleep(due - run.clock())
            try:
                async with run.reading_turns:
                    if not connected:
                        await self._heard(self._device.connect(credentials))
                        connected = True
                    await self._read()
            except SimulatorError as exc:
                count(self._summary.reading_errors, str(exc))
                await self._device.close()
                self._device, connected = run.source.device(self._wire), False
                await asyncio.sleep(_COME_BACK_S)

    async def _read(self) -> None:
        began = self._run.clock()
        await self._heard(self._device.telemetry(_reading()))
        self._summary.reading_times.add(self._run.clock() - began)
        self._summary.readings += 1

    async def _heard(self, answer: Awaitable[None]) -> None:
        """On a bad network a device does not wait for as long as it might."""
        await (answer if self._patience is None else self._patience.wait(answer))

    def _due_times(self) -> Iterator[float]:
        """When readings are due, by the clock. What fell behind is not caught up with a burst."""
        plan, clock = self._run.plan, self._run.clock
        began = due = clock()
        sent = 0
        while plan.readings is None or sent < plan.readings:
            if plan.seconds is not None and max(due, clock()) > began + plan.seconds:
                return
            yield due
            sent += 1
            due = max(due + 1 / plan.rate, clock())


def _reading() -> bytes:
    temperature = 20 + random.random() * 5  # noqa: S311 - weather, not a secret
    return b'{"temperature":%.2f,"humidity":%d}' % (temperature, 40 + temperature)
