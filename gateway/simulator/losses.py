"""A network that loses, doubles and reorders, and devices that persist until they have credentials.

Loss is on the device's side of the wire: a request that is not sent, an answer that is thrown away,
a connection that is dropped with the request on its way. So it needs nothing of the gateway.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from msgspec import Struct, field

from gateway.core.model import Wire
from gateway.simulator.device import (
    Credentials,
    Device,
    SimulatorError,
    Unanswered,
    parse_credentials,
)
from gateway.simulator.tally import count

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
FIRST_PATIENCE_S: Final = 2.0
"""So long a device waits for its first answer, and half as long again after each that did not
come."""
LONGEST_PATIENCE_S: Final = 60.0
MOST_REFUSALS: Final = 5
"""So many refusals a device takes for an answer."""
MOST_ERRORS: Final = 8
"""Failures of the wire, beyond those that are made here, until a device gives up."""
MOST_SILENCES: Final = 16
"""Times that nothing was answered, until a device gives up: one of two answers may be lost."""
LONGEST_WAIT_S: Final = 30.0
"""A gateway that wants a device to wait for longer than this is taken to refuse it."""
_HELD_BACK: Final = 0.1
"""The share of requests that are overtaken, with `reorder`."""
_HOLD_S: Final = 0.5
_HANG_UP_S: Final = 0.01
_TIME: Final = re.compile(rb',"serverTime":[0-9]+')
"""What a profile may let each answer tell, and differs each time."""


class Losses(Struct, frozen=True, kw_only=True):
    """What the network does. `loss`: percent of requests, and of answers; `duplicate`: percent of
    requests that are sent twice. `reorder`: every tenth is overtaken by the next try."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: bool = False

    @property
    def any(self) -> bool:
        return bool(self.loss or self.duplicate or self.reorder)


class Ordeal(Struct):
    """What the devices of one wire went through.

    `told_to_wait`: times that the gateway said when to come again, which they obeyed.
    `repeated`: answers beyond the first, which were the same byte for byte. `contradictions`:
    those that were not. `logged_in`: devices whose credentials the gateway took, at the first
    try or a later one (`logins_retried`).
    """

    sent: int = 0
    requests_lost: int = 0
    answers_lost: int = 0
    hung_up: int = 0
    duplicated: int = 0
    overtaken: int = 0
    retried: int = 0
    told_to_wait: int = 0
    repeated: int = 0
    contradictions: int = 0
    logins_retried: int = 0
    logged_in: int = 0
    logins_failed: Counter[str] = field(default_factory=Counter)


class Source(Protocol):
    """What makes devices: a `gateway.simulator.Fleet`."""

    def device(self, wire: Wire) -> Device: ...


class GaveUp(Exception):
    """A device has no credentials. `refused`: the gateway said so; `wait_s`: and when to come
    again, in so many seconds. `most`: it takes that so often before it gives up."""

    def __init__(self, said: str, *, refused: bool, most: int, wait_s: float = 0.0) -> None:
        super().__init__(said)
        self.said = said
        self.refused = refused
        self.most = most
        self.wait_s = wait_s


class Patience:
    """Waits for answers, longer after each that did not come."""

    __slots__ = ("_silences",)

    def __init__(self) -> None:
        self._silences = 0

    async def wait(self, answer: Awaitable[T]) -> T:
        """Raises `Unanswered` when it does not come in time; the device itself may raise before."""
        try:
            async with asyncio.timeout(self._seconds()):
                return await answer
        except TimeoutError:
            self._silences += 1
            raise Unanswered("no answer in time") from None
        except Unanswered:
            self._silences += 1
            raise

    def _seconds(self) -> float:
        # Whoever provisions or logs in has given up by then; who sends readings has not.
        silences = min(self._silences, MOST_SILENCES)
        return min(FIRST_PATIENCE_S * 1.5**silences, LONGEST_PATIENCE_S)


class Persistent:
    """One device that asks until it has credentials. `body` is its request, the same each time.

    `turns` bounds how many ask at once. Call `close` at the end, whatever came of it.
    """

    def __init__(
        self,
        source: Source,
        wire: Wire,
        body: bytes,
        losses: Losses,
        ordeal: Ordeal,
        turns: asyncio.Semaphore,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._source = source
        self._wire = wire
        self._body = body
        self._losses = losses
        self._ordeal = ordeal
        self._turns = turns
        self._random = rng or random.Random()  # noqa: S311 - a network, not a secret
        self._patience = Patience()
        self._answer: bytes | None = None
        self._astray: set[asyncio.Task[None]] = set()

    async def provision(self) -> Credentials:
        """Ask, and ask again after a pause that grows; raises `GaveUp`."""
        failures: Counter[int] = Counter()  # of each kind, by how many there may be of it
        pause_s = FIRST_PAUSE_S
        while True:
            wait_s = 0.0
            try:
                said = await self._asked()
                if isinstance(said, Credentials):
                    return said
            except GaveUp as failure:
                wait_s = failure.wait_s
                if wait_s:
                    self._ordeal.told_to_wait += 1
                else:
                    failures[failure.most] += 1
                if failures[failure.most] >= failure.most or wait_s > LONGEST_WAIT_S:
                    raise
            self._ordeal.retried += 1
            await asyncio.sleep(wait_s + pause_s * self._random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _asked(self) -> Credentials | None:
        """One try; None when no answer came. Raises `GaveUp` for a try that came to nothing."""
        try:
            async with self._turns:
                answer = await self._try()
            said = None if answer is None else parse_credentials(answer)
        except Unanswered as exc:
            raise GaveUp(str(exc), refused=False, most=MOST_SILENCES) from None
        except SimulatorError as exc:
            wait_s, refused = _wait_in(exc.answer), bool(exc.answer)
            told = f"told to wait {wait_s:g} s" if wait_s > LONGEST_WAIT_S else str(exc)
            most = MOST_REFUSALS if refused else MOST_ERRORS
            raise GaveUp(told, refused=refused, most=most, wait_s=wait_s) from None
        if isinstance(said, str):
            wait_s = _wait_in(answer or b"")
            raise GaveUp(said, refused=True, most=MOST_REFUSALS, wait_s=wait_s)
        return said

    async def settled(self) -> None:
        """Until every copy that is still on its way arrived."""
        while self._astray:
            await asyncio.wait(self._astray)

    async def close(self) -> None:
        """Let go of what is on its way."""
        for task in self._astray:
            task.cancel()
        await self.settled()

    async def _try(self) -> bytes | None:
        """One request over this network; None when no answer reaches the device."""
        ordeal, losses, happens = self._ordeal, self._losses, self._happens
        if happens(losses.loss / 100):
            ordeal.requests_lost += 1
            return None
        if losses.reorder and happens(_HELD_BACK):
            ordeal.overtaken += 1
            self._send_aside(self._random.uniform(0, _HOLD_S))
            return None
        if happens(losses.duplicate / 100):
            ordeal.duplicated += 1
            self._send_aside(0)
        if happens(losses.loss / 100):
            if happens(0.5):
                ordeal.hung_up += 1
                await self._send_and_hang_up()
            else:
                ordeal.answers_lost += 1
                await self._send()
            return None
        return await self._send()

    def _happens(self, share: float) -> bool:
        return self._random.random() < share

    async def _send(self) -> bytes:
        """A request that arrives, and its answer, which is held against all there were."""
        self._ordeal.sent += 1
        device = self._source.device(self._wire)
        try:
            answer = await self._patience.wait(device.provision(self._body))
        finally:
            await device.close()
        self._compare(answer)
        return answer

    async def _send_and_hang_up(self) -> None:
        """The connection goes while the request is on its way, or just after.

        CoAP has none: there the device no longer listens.
        """
        if self._wire is Wire.COAP:
            self._send_aside(0)
            return
        with suppress(TimeoutError, SimulatorError):
            async with asyncio.timeout(self._random.uniform(0, _HANG_UP_S)):
                await self._send()

    def _send_aside(self, later_s: float) -> None:
        """A copy that the network delivers by and by, whatever the device does meanwhile."""
        task = asyncio.create_task(self._arrive(later_s))
        self._astray.add(task)
        task.add_done_callback(self._astray.discard)

    async def _arrive(self, later_s: float) -> None:
        await asyncio.sleep(later_s)
        with suppress(SimulatorError):  # a copy that fails is a copy that was lost
            await self._send()

    def _compare(self, answer: bytes) -> None:
        """A device that is given something else the second time is two devices."""
        try:
            given = isinstance(parse_credentials(answer), Credentials)
        except SimulatorError:
            return
        if not given:
            return
        told = _TIME.sub(b"", answer)
        if self._answer is None:
            self._answer = told
        elif self._answer == told:
            self._ordeal.repeated += 1
        else:
            self._ordeal.contradictions += 1


async def prove(
    device: Device,
    credentials: Credentials,
    ordeal: Ordeal,
    reading: bytes,
    turns: asyncio.Semaphore,
) -> None:
    """Log in with what was given, and send a reading: HTTP and CoAP know no other login.

    Where nothing is answered it is tried again, after a pause that grows; a no is a no. `turns`
    bounds how many log in at once.
    """
    patience, pause_s = Patience(), FIRST_PAUSE_S
    for left in reversed(range(MOST_SILENCES)):
        try:
            async with turns:
                await patience.wait(_log_in(device, credentials, reading))
        except SimulatorError as exc:
            if not (left and isinstance(exc, Unanswered)):
                count(ordeal.logins_failed, str(exc))
                return
        else:
            ordeal.logged_in += 1
            return
        await device.close()
        ordeal.logins_retried += 1
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _log_in(device: Device, credentials: Credentials, reading: bytes) -> None:
    await device.connect(credentials)
    await device.telemetry(reading)


def _wait_in(answer: bytes) -> float:
    """When an answer says to come again, in seconds; 0: it does not."""
    try:
        return max(0.0, float(json.loads(answer)["retryAfter"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0.0
