"""Passwords are hashed with argon2id, in a thread of its own that gives way to the event loop.

The cost is what OWASP's password storage cheat sheet asks for at the least: 19 MiB, two passes,
one lane. argon2 lets go of the interpreter's lock while it works; the thread has a lower priority
than the loop, so that on one core a storm of logins does not hold up devices.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.core.errors import Overloaded
from gateway.core.model import Secret
from gateway.core.tokens import new_token

T = TypeVar("T")

MEMORY_KIB: Final = 19_456
PASSES: Final = 2
_NICENESS = 10


class Argon2Passwords:
    """The core's `PasswordHasher`. `max_waiting` bounds what is under way; beyond, `Overloaded`.

    The costs are for tests alone to lower. `close` waits for what is under way.
    """

    def __init__(
        self, *, max_waiting: int = 256, memory_kib: int = MEMORY_KIB, passes: int = PASSES
    ) -> None:
        self._argon2 = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        self._max_waiting = max_waiting
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "passwords", initializer=_give_way)
        self._nobodys = ""

    async def hash(self, password: Secret) -> Secret:
        text = _bytes(password)
        return Secret(await self._aside(lambda: self._argon2.hash(text)))

    async def verify(self, kept: Secret | None, password: Secret) -> bool:
        text = _bytes(password)
        return await self._aside(lambda: self._fits(kept, text))

    def close(self) -> None:
        self._thread.shutdown()

    def _fits(self, kept: Secret | None, text: bytes) -> bool:
        if not self._nobodys:
            # Whoever comes first pays for it, known or not.
            self._nobodys = self._argon2.hash(new_token())
        try:
            found = self._argon2.verify(kept.reveal() if kept else self._nobodys, text)
        except (VerificationError, InvalidHashError):
            return False
        return found and kept is not None

    async def _aside(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._max_waiting:
            raise Overloaded("too many passwords wait to be hashed")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1


def _bytes(password: Secret) -> bytes:
    return password.reveal().encode("utf-8", "surrogatepass")


def _give_way() -> None:
    """On Linux a thread has a priority of its own; elsewhere this would be the whole process's."""
    if hasattr(os, "sched_getaffinity"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
