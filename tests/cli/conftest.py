"""Commands run as a person runs them: in a folder of their own, beside a server or without one."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

import gateway
from gateway.cli import cli as gatehouse
from gateway.config import load_config
from gateway.core.model import Device, Peer, Wire
from gateway.core.registry import Registry
from gateway.opening import open_registry, open_store
from gateway.store.sql_store import SqlStore

OPEN = 'provision_type = "ALLOW_CREATE_NEW_DEVICES"\n'
_STOP_S = 20
_ROOT = Path(gateway.__file__).parents[1]
"""Where the package is, for a process that starts in another folder."""


def environment(folder: Path) -> dict[str, str]:
    """Settings that keep everything in `folder` and on this machine, on free ports."""
    settings = {
        "GATEHOUSE_STORE_URL": f"sqlite:{folder}/data/gatehouse.db",
        "GATEHOUSE_PROFILES_DIR": str(folder / "profiles"),
    }
    for wire in ("HTTP", "MQTT", "COAP", "HTTPS", "MQTTS", "COAPS"):
        settings |= {f"GATEHOUSE_{wire}_HOST": "127.0.0.1", f"GATEHOUSE_{wire}_PORT": "0"}
    return settings


@dataclass(frozen=True)
class Inside:
    store: SqlStore
    registry: Registry

    async def device(self, name: str) -> Device:
        known = await self.registry.device(name)
        assert known is not None
        return known.device


class Shell:
    """Runs `gatehouse` in this process, in a folder with one profile file, `demo`."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env

    def __call__(self, *args: str, input: str | bytes | None = None, **env: str) -> Result:  # noqa: A002
        return CliRunner().invoke(gatehouse, args, input=input, env=self.env | env)

    def ok(self, *args: str, **env: str) -> str:
        """Standard output of a command that must succeed."""
        result = self(*args, **env)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def json(self, *args: str, **env: str) -> Any:
        return json.loads(self.ok(*args, "--json", **env))

    @asynccontextmanager
    async def inside(self) -> AsyncIterator[Inside]:
        """The store the commands act on, opened beside them."""
        async with open_store(load_config(None, self.env), self.env) as store:
            yield Inside(store, open_registry(store, Peer(Wire.SHELL, "inside")))

    def start(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        """The command in a process of its own, for signals and servers."""
        return subprocess.Popen(
            [sys.executable, "-m", "gateway", *args],
            env=os.environ | self.env | {"PYTHONPATH": str(_ROOT)},
            cwd=self.folder,
            text=True,
            **options,
        )


@pytest.fixture(scope="module")
def _quiet() -> Iterator[None]:
    """Commands set logging up for their process; this one is the tests'."""
    kept = structlog.get_config()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.log.configure", lambda *_: None)
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
            cache_logger_on_first_use=False,
        )
        yield
    structlog.configure(**kept)


def furnished(folder: Path) -> Shell:
    (folder / "profiles").mkdir()
    (folder / "profiles" / "demo.toml").write_text(OPEN)
    return Shell(folder, environment(folder))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _quiet: None) -> Shell:
    monkeypatch.chdir(tmp_path)
    return furnished(tmp_path)


class Server:
    """A `gatehouse serve` in a process of its own; `shell` acts on the same store."""

    def __init__(
        self, shell: Shell, ports: dict[Wire, int], process: subprocess.Popen[str] | None = None
    ) -> None:
        self.shell = shell
        self.ports = ports
        self.process = process

    def url(self, wire: str) -> str:
        return f"{wire}://127.0.0.1:{self.ports[Wire(wire)]}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _quiet: None) -> Iterator[Server]:
    shell = furnished(tmp_path_factory.mktemp("server"))
    with shell.start("serve", "--quiet", stdout=-1, stderr=-3) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            yield Server(shell, ports_told(ready))
        finally:
            process.terminate()
            process.wait(_STOP_S)


def ports_told(ready: str) -> dict[Wire, int]:
    """Where a server listens, out of its ready line."""
    found = dict(re.findall(r"(\w+)=(\d+)", ready))
    assert found, "the server did not start"
    return {Wire(name): int(port) for name, port in found.items()}


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory: pytest.TempPathFactory, _quiet: None) -> Iterator[Server]:
    """The same with a lab certificate, so that it serves the secure wires, too."""
    shell = furnished(tmp_path_factory.mktemp("secure"))
    shell.ok("cert", "init")
    with shell.start("serve", "--quiet", stdout=-1, stderr=-3) as process:
        try:
            assert process.stdout is not None
            yield Server(shell, ports_told(process.stdout.readline()), process)
        finally:
            process.terminate()
            process.wait(_STOP_S)


@pytest.fixture
def waits() -> Callable[..., Result]:
    """Adds a profile whose devices must be added before they may come."""

    def make(shell: Shell, name: str = "valve") -> Result:
        return shell("profile", "add", name, "--type", "CHECK_PRE_PROVISIONED_DEVICES")

    return make
