"""A hook that is a Python function of this process: `package.module:function`.

It takes a dict and gives a dict or None; it may be a coroutine function. One that is not runs in a
thread of its own, so that it may wait; a thread cannot be ended, so those that hang use up what
there is, and further calls fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

import msgspec
import structlog

from gateway.core.model import HookTrouble

log = structlog.get_logger()

MOST_THREADS: Final = 16
MOST_TASKS: Final = 256
LOAD_S: Final = 10.0
"""How long a module may take to be imported before its profile is said to be unusable."""

T = TypeVar("T")
Function: TypeAlias = Callable[[dict[str, Any]], Any]

_BUSY: Final = HookTrouble("too many calls of functions are under way")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Loaded(NamedTuple):
    """A function; `waits`: it is a coroutine function."""

    function: Function
    waits: bool


def load(entry_point: str) -> Loaded | HookTrouble:
    """The function, found as Python finds modules. Runs the module's code: not in the loop."""
    module_name, _, name = entry_point.partition(":")
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, name, None)  # the module may have a __getattr__ of its own
        known = callable(function)
        waits = known and inspect.iscoroutinefunction(function)
    except BaseException as exc:  # also SystemExit, which would end the loop
        return HookTrouble(f"{module_name} cannot be imported ({type(exc).__name__})")
    if not known:
        return HookTrouble(f"{module_name} has no function {name}")
    return Loaded(cast("Function", function), waits)


class FunctionHooks:
    """Calls functions by their names; each is loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[str, Loaded | HookTrouble] = {}
        self._loading: dict[str, asyncio.Future[Loaded | HookTrouble]] = {}
        self._threads = 0
        self._tasks: set[asyncio.Task[object]] = set()

    async def close(self) -> None:
        """End the coroutines that are under way; threads end with the process."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=0.5)

    async def prove(self, entry_point: str) -> HookTrouble | None:
        """Load it anew if it could not be loaded before; why it cannot."""
        if isinstance(self._loaded.get(entry_point), HookTrouble):
            del self._loaded[entry_point]
        try:
            async with asyncio.timeout(LOAD_S):
                found = await self._find(entry_point)
        except TimeoutError:
            module_name = entry_point.partition(":")[0]
            return HookTrouble(f"{module_name} was not imported within {LOAD_S:g} s")
        return found if isinstance(found, HookTrouble) else None

    async def call(
        self, entry_point: str, body: bytes, *, deadline_s: float
    ) -> object | HookTrouble:
        """What it returned. It gets the JSON object `body` as a dict of its own."""
        try:
            async with asyncio.timeout(deadline_s):
                found = await self._find(entry_point)
                if isinstance(found, HookTrouble):
                    return found
                if found.waits:
                    return await self._in_task(found.function, _decode(body))
                return await self._in_thread(found.function, _decode(body))
        except TimeoutError:
            return HookTrouble(f"no answer within {round(deadline_s * 1000)} ms")

    async def _find(self, entry_point: str) -> Loaded | HookTrouble:
        """One thread loads it, however many wait: a module may hang for ever."""
        found = self._loaded.get(entry_point)
        if found is None:
            loading = self._loading.get(entry_point)
            if loading is None:
                loading = self._loading[entry_point] = _threaded(lambda: load(entry_point))
            await asyncio.wait([loading])
            found = self._loaded[entry_point] = loading.result()
            self._loading.pop(entry_point, None)
        return found

    async def _in_task(self, function: Function, told: dict[str, Any]) -> object | HookTrouble:
        if len(self._tasks) >= MOST_TASKS:
            return _BUSY
        task = asyncio.create_task(_guarded(function, told), name="hook.function")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            # Not awaited itself: one that swallows its cancellation holds up nobody.
            await asyncio.wait([task])
            return HookTrouble("it was cancelled") if task.cancelled() else task.result()
        finally:
            task.cancel()

    async def _in_thread(self, function: Function, told: dict[str, Any]) -> object | HookTrouble:
        if self._threads >= MOST_THREADS:
            return _BUSY
        answer = _threaded(lambda: _called(function, told))
        self._threads += 1
        answer.add_done_callback(self._thread_ended)
        await asyncio.wait([answer])
        return answer.result()

    def _thread_ended(self, _: asyncio.Future[object]) -> None:
        self._threads -= 1


def _threaded(work: Callable[[], T]) -> asyncio.Future[T]:
    """What `work`, which raises nothing, gives. To be waited for with `asyncio.wait`: who gives up
    does not end the thread."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        result = work()
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(answer.set_result, result)

    # A daemon, unlike those of a pool: one that hangs must not hold up the end of the process.
    threading.Thread(target=run, name="hook.function", daemon=True).start()
    return answer


async def _guarded(function: Function, told: dict[str, Any]) -> object:
    try:
        return await function(told)
    except asyncio.CancelledError:
        raise
    except BaseException as exc:  # also SystemExit, which would end the loop
        return _raised(function, exc)


def _called(function: Function, told: dict[str, Any]) -> object:
    try:
        result = function(told)
        if inspect.iscoroutine(result):  # a proxy of something else may raise here
            result.close()
            return HookTrouble("it returned a coroutine: define it with `async def`")
    except BaseException as exc:
        return _raised(function, exc)
    return result


def _raised(function: Function, exc: BaseException) -> HookTrouble:
    log.warning("hook.raised", function=_name_of(function), exc_info=exc)
    return HookTrouble(f"it raised {type(exc).__name__}")


def _name_of(function: Function) -> str:
    try:
        return str(function.__qualname__)
    except BaseException:  # an instance has no such name, a proxy may raise anything
        return type(function).__name__
