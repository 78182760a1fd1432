"""A gateway process that is to be troubled, started as a user starts it, and a storm for it."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from wires import POST, VERSIONS, Ports, coap, dotted, http, http_request, mqtt, provision

HERE = Path(__file__).parent

MIB = 2**20
GROWTH = 150 * MIB
SUCCESS = re.compile(rb'{"credentialsValue":"(\w{20})","credentialsType":"ACCESS_TOKEN",')

PROFILES = {
    "create": "ALLOW_CREATE_NEW_DEVICES",
    "check": "CHECK_PRE_PROVISIONED_DEVICES",
}


class Gatehouse:
    """One data folder, and a process that serves it, any number of times.

    What a process writes goes through `cat`, so that a limit on its files does not touch its log.
    """

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.log_path = folder / "log"
        self.database = folder / "data" / "gate.db"
        self.pairs = {name: (secrets.token_hex(10), secrets.token_hex(10)) for name in PROFILES}
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GATEHOUSE_")},
            "PYTHONPATH": str(HERE.parent.parent),
            "GATEHOUSE_STORE_URL": f"sqlite:{self.database}",
            "GATEHOUSE_PROFILES_DIR": str(folder / "profiles"),
            "GATEHOUSE_PROFILES_WATCH": "false",
            "GATEHOUSE_LOG_FORMAT": "json",
        }
        for wire in ("HTTP", "MQTT", "COAP", "HTTPS", "MQTTS", "COAPS"):
            self.environ[f"GATEHOUSE_{wire}_PORT"] = "0"
            self.environ[f"GATEHOUSE_{wire}_HOST"] = "127.0.0.1"
        self.environ |= environ
        self._write_profiles()
        self.process: subprocess.Popen[bytes] | None = None
        self.ports = Ports(0, 0, 0)

    def _write_profiles(self) -> None:
        (self.folder / "profiles").mkdir(exist_ok=True)
        for name, (key, secret) in self.pairs.items():
            (self.folder / "profiles" / f"{name}.toml").write_text(
                f'provision_type = "{PROFILES[name]}"\n'
                f'provision_key = "{key}"\nprovision_secret = "{secret}"\n'
            )

    def start(self) -> None:
        """Start and wait for the ready line."""
        begins = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        assert cat.stdin is not None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--quiet"],
            env=self.environ,
            cwd=self.folder,
            stdout=cat.stdin,
            stderr=cat.stdin,
        )
        cat.stdin.close()
        self._cat = cat
        give_up = time.monotonic() + 15
        while True:
            with self.log_path.open("rb") as log:
                log.seek(begins)
                told = re.search(rb"gatehouse ready (?:\w+=\d+ ?)+\n", log.read())
            if told:
                named = re.findall(r"(\w+)=(\d+)", told[0].decode())
                self.ports = Ports(**{name: int(port) for name, port in named})
                return
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < give_up, self.log()
            time.sleep(0.01)

    @property
    def running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    def signal(self, number: signal.Signals) -> None:
        self.running.send_signal(number)

    def wait(self, within_s: float = 15) -> int:
        """The exit status; all that was logged is then in the log file."""
        status = self.running.wait(within_s)
        self._cat.wait(within_s)
        self.process = None
        return status

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.wait()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def memory(self) -> int:
        """Bytes of resident memory."""
        status = Path(f"/proc/{self.running.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Ask the database beside the process, without writing."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as store:
            return store.execute(query, params).fetchall()

    def add(self, *names: str) -> None:
        """Let devices wait for their claim."""
        subprocess.run(
            [sys.executable, "-m", "gateway", "device", "add", "--profile=check", *names],
            env=self.environ,
            cwd=self.folder,
            check=True,
            capture_output=True,
        )

    def request(self, name: str, profile: str = "create", secret: str | None = None) -> bytes:
        key, right = self.pairs[profile]
        return (
            f'{{"deviceName":"{name}","provisionDeviceKey":"{key}",'
            f'"provisionDeviceSecret":"{secret or right}"}}'
        ).encode()

    async def ready(self) -> tuple[int, bytes]:
        """What `/readyz` says."""
        async with http(self.ports.http) as web:
            reply = await web.ask("GET", "/readyz")
        return reply.status, reply.body


NewGatehouse = Callable[..., Gatehouse]


# ── what strangers may not change ─────────────────────────────────────────────────────────────


@asynccontextmanager
async def memory_stays(
    house: Gatehouse, what: str, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[None]:
    """Print the resident memory before and after, and bound its growth."""
    before = house.memory()
    yield
    after = house.memory()
    with capsys.disabled():
        print(f"\n{what}: {before / MIB:.0f} MiB before, {after / MIB:.0f} MiB after")
    assert after - before < GROWTH


async def good_devices_are_served(house: Gatehouse, label: str) -> None:
    """One new device on each wire."""
    for wire in ("http", "mqtt31", "mqtt311", "mqtt5", "coap"):
        answer = await provision(house.ports, wire, house.request(f"{label}-{wire}"))
        assert SUCCESS.match(answer), (wire, answer)


# ── a storm of devices ────────────────────────────────────────────────────────────────────────

HUNG_UP = (ConnectionError, asyncio.IncompleteReadError, TimeoutError, AssertionError)
"""What a device notices when its gateway goes away."""


class Storm:
    """Devices that provision one after the other on every wire until their gateway goes away.

    `answered` holds the token of each name a SUCCESS arrived for, `asked` every name sent.
    """

    def __init__(self, house: Gatehouse, label: str) -> None:
        self.house = house
        self.label = label
        self.asked: list[str] = []
        self.answered: dict[str, str] = {}
        self.refused: list[tuple[str, bytes]] = []
        self.by_wire = {"http": 0, "mqtt": 0, "coap": 0}

    def next_request(self, wire: str) -> tuple[str, bytes]:
        name = f"{self.label}-{wire}-{len(self.asked)}"
        self.asked.append(name)
        return name, self.house.request(name)

    def took(self, wire: str, name: str, answer: bytes) -> None:
        found = SUCCESS.match(answer)
        if found is None:
            self.refused.append((name, answer))
            return
        self.answered[name] = found[1].decode()
        self.by_wire[wire] += 1

    async def over_http(self) -> None:
        async with http(self.house.ports.http) as web:
            while True:
                name, body = self.next_request("http")
                web.writer.write(http_request("POST", "/api/v1/provision", body))
                self.took("http", name, (await web.read()).body)

    async def over_mqtt(self, version: int) -> None:
        async with mqtt(self.house.ports.mqtt, version) as session:
            assert await session.connect("provision") == 0
            while True:
                name, body = self.next_request("mqtt")
                await session.deliver("/provision/request", body)
                self.took("mqtt", name, (await session.published()).payload)

    async def over_coap(self) -> None:
        async with coap(self.house.ports.coap) as device:
            while True:
                name, body = self.next_request("coap")
                sent = device.datagram(POST, "api/v1/provision", body)
                reply = await device.send(*sent, within_s=3)
                assert dotted(reply) != "5.00"
                self.took("coap", name, reply.payload)

    def devices(self) -> list[Coroutine[Any, Any, None]]:
        """All that rage at once."""
        devices = [self.over_http(), self.over_http(), self.over_coap(), self.over_coap()]
        return devices + [self.over_mqtt(version) for version in VERSIONS.values()]

    @asynccontextmanager
    async def raging(self) -> AsyncIterator[None]:
        """The storm lasts as long as the block, which ends the gateway; what arrived is read."""
        tasks = [asyncio.create_task(_until_gone(device)) for device in self.devices()]
        try:
            yield
        finally:
            await asyncio.wait(tasks, timeout=0.2)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _until_gone(device: Coroutine[Any, Any, None]) -> None:
    with suppress(*HUNG_UP):
        await device


NewStorm = Callable[..., Storm]
