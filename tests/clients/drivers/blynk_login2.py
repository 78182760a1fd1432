"""Drives blynklib, which logs in with command 2; the steps are those of `blynk_steps.py`."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from blynk_steps import WAIT_S, Device, converse

with contextlib.redirect_stdout(io.StringIO()):
    import blynklib


class Login2(Device):
    def __init__(self, port: int, token: str, heartbeat: int = 10) -> None:
        super().__init__()
        self.log: list[str] = []
        where = {"server": "127.0.0.1", "port": port}
        with contextlib.redirect_stdout(io.StringIO()):  # its banner
            self.blynk = blynklib.Blynk(token, heartbeat=heartbeat, log=self._logged, **where)
        self.blynk.handle_event("write v*")(lambda pin, values: self.writes.append((pin, values)))
        self.blynk.handle_event("internal_dbg")(self.told.append)

    def _logged(self, *words: Any) -> None:
        """What it does not tell its callers."""
        line = " ".join(map(str, words))
        self.log.append(line)
        if line.startswith("Response status: "):
            self.statuses.append(int(line.rpartition(" ")[2]))

    def connect(self) -> dict[str, Any]:
        """The library tries again for ever; in one second it tries once."""
        connected = bool(self.blynk.connect(timeout=1))
        refused = any("Invalid Auth Token" in line for line in self.log)
        return {
            "connected": connected,
            "login": 9 if refused else 200,
            "info": 200 if connected else None,
        }

    def read(self) -> None:
        self.blynk.read_response(timeout=0.05)

    def info(self, words: list[str]) -> None:
        self.blynk.internal(*words)

    def write(self, pin: int, values: list[str]) -> None:
        self.blynk.virtual_write(pin, *values)

    def ping(self) -> None:
        self.blynk.send(self.blynk.ping_msg())

    def sync(self, pin: int) -> None:
        self.blynk.virtual_sync(pin)

    def gone(self) -> None:
        self.blynk._socket.settimeout(WAIT_S)
        while self.blynk._socket.recv(1024):
            pass


converse(Login2)
