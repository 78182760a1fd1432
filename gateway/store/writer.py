"""Group commit: many decisions, one transaction, answers after it.

A store method does not open a transaction. It hands its decision to the `Writer`, which runs
whatever arrived while the previous commit was under way as one transaction and only then wakes the
callers, each with its own result. There is no artificial delay: a lone decision commits at once.

Decisions of one class run together, set-based (`decide_all`). A conflict of one never undoes its
neighbours; when the commit itself fails, none of the batch happened and all callers are told so.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Generic, TypeVar, cast

import structlog

from gateway.core.errors import GatehouseError, Overloaded, StoreUnavailable
from gateway.core.histogram import SECONDS, SIZES, Histogram
from gateway.store.driver import Driver, Transaction

log = structlog.get_logger()

T = TypeVar("T")

_MOST_PER_BATCH = 1024
"""Decisions in one transaction, by weight. Beyond it a batch grows latency, no longer
throughput."""
_QUIET_TURNS = 8
"""Turns of the loop without a new decision after which a batch is closed. Of 0, 1, 2, 4, 8 and 16
this gave most: of short MQTT sessions 9 decisions shared a commit without it, and it brought 19 %
more of them a second, 25 % more requests on open sessions and CoAP, at no cost to a lone one."""
_MOST_TURNS = 64
_LONGEST_S = 0.4
"""How long a transaction may take, as far as can be told before. On PostgreSQL another gateway
waits for its turn so long, and for two seconds at most; those in it wait for its end."""
_UNKNOWN_S = _LONGEST_S / 128
"""What a decision of a kind that was not seen yet takes: a round trip or ten to a server."""
_ON_TRIAL: ContextVar[bool] = ContextVar("on_trial", default=False)


class Decision(ABC, Generic[T]):
    """Something to decide and write in one transaction, giving a `T`.

    Those on the hot path are set-based: one statement per table for all of a class. `weight` is
    what one costs, in units of a small one: it bounds what shares a transaction.
    """

    __slots__ = ()

    weight: int = 1

    @classmethod
    @abstractmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[Any]) -> list[Any]:
        """Decide all of one class, in order. An exception as a result is raised to its caller."""


async def decide_by_kind(
    tx: Transaction,
    decisions: Sequence[Decision[Any]],
    takes_s: dict[type[Decision[Any]], float] | None = None,
) -> list[Any]:
    """Decide all, those of one class together. `takes_s` is told how long one of each took, without
    the wait for the transaction's turn: beside somebody's long ones that is longer than the work,
    and the fewer shared it, the more would wait for it each by itself."""
    groups: dict[type[Decision[Any]], list[int]] = {}
    for index, decision in enumerate(decisions):
        groups.setdefault(type(decision), []).append(index)
    results: list[Any] = [None] * len(decisions)
    for kind, indexes in groups.items():
        began = perf_counter() - tx.waited_s
        decided = await kind.decide_all(tx, [decisions[index] for index in indexes])
        if takes_s is not None:
            takes_s[kind] = (perf_counter() - tx.waited_s - began) / len(indexes)
        for index, result in zip(indexes, decided, strict=True):
            results[index] = result
    return results


class SingleDecision(Decision[T]):
    """One that is decided by itself, inside a savepoint: one which raises leaves no trace."""

    __slots__ = ()

    @abstractmethod
    async def decide(self, tx: Transaction) -> T:
        """Decide this one."""

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[Any]) -> list[Any]:
        results: list[Any] = []
        for decision in decisions:
            await tx.savepoint()
            try:
                results.append(await decision.decide(tx))
            except GatehouseError as exc:
                await tx.rollback_to_savepoint()
                results.append(exc)
            else:
                await tx.release()
        return results


class Tried(GatehouseError):
    """What a decision on trial came to; raised, so that its transaction forgets it."""

    def __init__(self, result: Any) -> None:
        super().__init__("tried")
        self.result = result


class Try(SingleDecision[Any]):
    """Decides `inner` and leaves no trace. Raises `Tried`, or what `inner` raises."""

    __slots__ = ("inner",)

    def __init__(self, inner: Decision[Any]) -> None:
        self.inner = inner

    async def decide(self, tx: Transaction) -> Any:
        result = (await self.inner.decide_all(tx, [self.inner]))[0]
        raise result if isinstance(result, Exception) else Tried(result)


@contextmanager
def on_trial() -> Iterator[None]:
    """Whatever this task submits in here, to any `Writer`, is decided as ever and taken back.

    Its results are those of the decisions; what nobody waits for is dropped.
    """
    token = _ON_TRIAL.set(True)
    try:
        yield
    finally:
        _ON_TRIAL.reset(token)


class Writer:
    """Runs decisions in batches, one batch at a time.

    `max_pending` bounds the decisions that wait; beyond it `submit` raises `Overloaded`.
    `write_told` writes the events that were told in a transaction, at its end.
    `healthy` is False from a failed commit until the next one that succeeds. `sizes` and `times_s`
    tell how many decisions shared a commit, and how long each took from its begin to the disk.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        max_pending: int = 20_000,
        write_told: Callable[[Transaction], Awaitable[None]] | None = None,
    ) -> None:
        self._driver = driver
        self._write_told = write_told
        self._max_pending = max_pending
        self._waiting: list[tuple[Decision[Any], asyncio.Future[Any] | None]] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._takes_s: dict[type[Decision[Any]], float] = {}
        """What a decision of each kind took when it was last decided."""
        self.healthy = True
        self.sizes = Histogram(SIZES)
        self.times_s = Histogram(SECONDS)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="store.writer")

    async def close(self, timeout_s: float = 1.0) -> None:
        """Commit what waits, then stop. What still waits after `timeout_s` is told it failed."""
        self._closing = True
        self._wake.set()
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=timeout_s)
        if self._waiting:
            late, self._waiting = self._waiting, []
            self._fail(late, StoreUnavailable("the store is closing"))
        await self._task
        self._task = None

    @property
    def pending(self) -> int:
        """Decisions that wait for the next batch."""
        return len(self._waiting)

    async def submit(self, decision: Decision[T]) -> T:
        """Queue a decision and return its result after it is durable."""
        if _ON_TRIAL.get() and not isinstance(decision, Try):
            return cast("T", await self._try(decision))
        if len(self._waiting) >= self._max_pending or self._closing:
            raise Overloaded("too many decisions wait for the disk")
        # A writer that was never started has no loop of its own yet.
        loop = self._loop or asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((decision, future))
        self._wake.set()
        return await future

    async def _try(self, decision: Decision[Any]) -> Any:
        try:
            await self.submit(Try(decision))
        except Tried as tried:
            return tried.result
        raise AssertionError("a decision on trial came to its end")

    def submit_unawaited(self, decision: Decision[Any]) -> bool:
        """Queue a decision nobody waits for. False when it was dropped: it gives way first."""
        if _ON_TRIAL.get():
            return True
        if len(self._waiting) >= self._max_pending // 2 or self._closing:
            return False
        self._waiting.append((decision, None))
        self._wake.set()
        return True

    async def settled(self) -> None:
        """Return once all that was submitted before this call is committed (or failed)."""
        if self._waiting or not self._idle.is_set():
            with suppress(StoreUnavailable):
                await self.submit(Nothing())

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
                continue
            self._idle.clear()
            await self._gather()
            size = self._batch_size()
            batch = self._waiting[:size]
            del self._waiting[:size]
            await self._commit(batch)

    def _batch_size(self) -> int:
        """How many of those that wait share the next transaction; at least one."""
        left, left_s, takes_s = _MOST_PER_BATCH, _LONGEST_S, self._takes_s
        for size, (decision, _) in enumerate(self._waiting, 1):
            left -= decision.weight
            left_s -= takes_s.get(type(decision), _UNKNOWN_S)
            if left <= 0 or left_s <= 0:
                return size
        return len(self._waiting)

    async def _gather(self) -> None:
        """Let the loop turn while turns bring decisions: what is ready shares this commit.

        No time is waited for. On an idle loop the turns take some microseconds together; on a
        busy one they serve the sockets that are ready, whose decisions would come a moment late.
        What fills a transaction by itself waits for nobody.
        """
        if self._waiting[0][0].weight >= _MOST_PER_BATCH:
            return
        quiet = 0
        for _ in range(_MOST_TURNS):
            before = len(self._waiting)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == before else 0
            if quiet >= _QUIET_TURNS:
                return

    async def _commit(self, batch: list[tuple[Decision[Any], asyncio.Future[Any] | None]]) -> None:
        decisions = [decision for decision, _ in batch]

        async def work(tx: Transaction) -> list[Any]:
            results = await decide_by_kind(tx, decisions, self._takes_s)
            if tx.told.rows and self._write_told is not None:
                await self._write_told(tx)
            return results

        began = perf_counter()
        try:
            results = cast("list[Any]", await self._driver.transact(work))
        except StoreUnavailable as exc:
            self._fail(batch, exc)
            return
        except Exception as exc:
            if len(batch) > 1:
                # One decision broke the statement of all. Alone, each answers for itself.
                for one in batch:
                    await self._commit([one])
            else:
                log.exception("store.decision_failed", decision=type(batch[0][0]).__name__)
                self._fail(batch, exc)
            return
        self.sizes.add(len(batch))
        self.times_s.add(perf_counter() - began)
        if not self.healthy:
            self.healthy = True
            log.info("store.recovered")
        for (_, future), result in zip(batch, results, strict=True):
            if future is not None and not future.done():
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _fail(
        self, batch: list[tuple[Decision[Any], asyncio.Future[Any] | None]], exc: Exception
    ) -> None:
        """Nothing of the batch is on disk. Said once in the log, and to every caller."""
        if isinstance(exc, StoreUnavailable):
            if self.healthy:
                log.error("store.unavailable", reason=str(exc), decisions=len(batch))
            self.healthy = False
        for _, future in batch:
            if future is not None and not future.done():
                future.set_exception(StoreUnavailable("the decision could not be written"))


class Nothing(Decision[None]):
    """Decides nothing; whoever submits it waits for all before it."""

    __slots__ = ()

    @classmethod
    async def decide_all(cls, tx: Transaction, decisions: Sequence[Any]) -> list[Any]:
        return [None] * len(decisions)
