"""Drives blynk-library-python, which logs in with command 29; the steps are those of
`blynk_steps.py`.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

from blynk_steps import WAIT_S, Device, converse

with contextlib.redirect_stdout(io.StringIO()):
    import BlynkLib

RESPONSE, PING, INTERNAL = 0, 6, 17


class Login29(Device):
    def __init__(self, port: int, token: str, heartbeat: int = 10) -> None:
        super().__init__()
        where = {"server": "127.0.0.1", "port": port}
        self.blynk = BlynkLib.Blynk(token, heartbeat=heartbeat, log=self._logged, **where)
        self.blynk.on("V*", lambda pin, values: self.writes.append((int(pin), values)))
        # It takes the second word of an INTERNAL message for its name.
        self.blynk.on("int_config", lambda words: self.told.append(["config", *words]))

    def _logged(self, *words: Any) -> None:
        if words[:2] == (">", RESPONSE):
            self.statuses.append(words[4])

    def connect(self) -> dict[str, Any]:
        """The library answers a login of status 200 with its INTERNAL message."""
        login = self.next_of(self.statuses)
        connected = self.blynk.state == BlynkLib.CONNECTED
        info = self.next_of(self.statuses) if connected else None
        return {"connected": connected, "login": login, "info": info}

    def read(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.blynk.run()

    def info(self, words: list[str]) -> None:
        self.blynk._send(INTERNAL, *words)

    def write(self, pin: int, values: list[str]) -> None:
        self.blynk.virtual_write(pin, *values)

    def ping(self) -> None:
        self.blynk._send(PING)

    def sync(self, pin: int) -> None:
        self.blynk.sync_virtual(pin)

    def gone(self) -> None:
        self.blynk.conn.settimeout(WAIT_S)
        while self.blynk.conn.recv(1024):
            pass


converse(Login29)
