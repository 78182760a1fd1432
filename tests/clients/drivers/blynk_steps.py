"""One Blynk device in a process of its own, step by step: a line of JSON in, a line of JSON out.

{"do": "connect", "port", "token", "heartbeat"} → {"connected", "login", "info"}: two statuses
{"do": "info", "words": [...]}                   → {"status"}: of one more INTERNAL message
{"do": "write", "pin", "values": [...]}          → {"status"}
{"do": "ping"}                                   → {"status"}
{"do": "sync", "pin"}                            → {"values"}: what the server has
{"do": "heard", "pin"}                           → {"values"}: the server's next write to us
{"do": "told"}                                   → {"words"}: the server's next INTERNAL to us
{"do": "gone"}                                   → {"connected": false}: the server hung up
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

WAIT_S = 10.0


class Device:
    """What a library object heard. `read` lets the library read once; the others send."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.writes: list[tuple[int, list[str]]] = []
        self.told: list[list[str]] = []

    def connect(self) -> dict[str, Any]:
        raise NotImplementedError

    def read(self) -> None:
        raise NotImplementedError

    def info(self, words: list[str]) -> None:
        raise NotImplementedError

    def write(self, pin: int, values: list[str]) -> None:
        raise NotImplementedError

    def ping(self) -> None:
        raise NotImplementedError

    def sync(self, pin: int) -> None:
        raise NotImplementedError

    def gone(self) -> None:
        raise NotImplementedError

    def next_of(self, what: list[Any]) -> Any:
        """Wait for the first of them. Raises `TimeoutError`."""
        give_up = time.monotonic() + WAIT_S
        while not what:
            if time.monotonic() > give_up:
                raise TimeoutError
            self.read()
        return what.pop(0)

    def values(self, pin: int) -> list[str]:
        while True:
            written, values = self.next_of(self.writes)
            if written == pin:
                return values


def step(device: Device, what: str, job: dict[str, Any]) -> dict[str, Any]:
    if what in ("info", "write", "ping"):
        getattr(device, what)(**job)
        return {"status": device.next_of(device.statuses)}
    if what == "sync":
        device.sync(job["pin"])
    if what in ("sync", "heard"):
        return {"values": device.values(job["pin"])}
    if what == "told":
        return {"words": device.next_of(device.told)}
    assert what == "gone"
    device.gone()
    return {"connected": False}


def converse(make: Callable[..., Device]) -> None:
    """Until standard input ends."""
    device: Device | None = None
    for line in sys.stdin:
        job = json.loads(line)
        what = job.pop("do")
        if what == "connect":
            device = make(**job)
            told = device.connect()
        else:
            assert device is not None
            told = step(device, what, job)
        print(json.dumps(told), flush=True)
