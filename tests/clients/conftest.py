"""A real gateway process, and the clients other people wrote.

The gateway runs as a user runs it, `python -m gateway serve`, with ports and folders of its own.
A client that is not on this machine skips its tests and says how to get it; with
GATEHOUSE_REQUIRE_CLIENTS=1 it fails them instead.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

HERE = Path(__file__).parent
PROGRAMS = HERE / ".programs"
CROWD = 20
"""Requests sent at once for one name."""

PROFILES = {
    "create": "ALLOW_CREATE_NEW_DEVICES",
    "pre-provisioned": "CHECK_PRE_PROVISIONED_DEVICES",
    "disabled": "DISABLED",
}
FAILURE = {"errorMsg": "Failed to provision device!", "status": "FAILURE"}

Answer = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.clients)


# ── the clients ───────────────────────────────────────────────────────────────────────────────


def missing(what: str, remedy: str) -> None:
    """Skip the test, or fail it where every client is required."""
    told = f"{what} is not here; get it with `{remedy}`"
    if os.environ.get("GATEHOUSE_REQUIRE_CLIENTS") == "1":
        pytest.fail(told)
    pytest.skip(told)


@pytest.fixture(scope="session")
def client_missing() -> Callable[[str, str], None]:
    """Says that a program is not here and how to get it: skips the test, or fails it."""
    return missing


@dataclass(frozen=True)
class Finished:
    """What a program printed, and its exit status."""

    status: int
    out: str
    err: str

    def answer(self) -> Answer:
        """The one JSON object it printed."""
        assert self.out.lstrip().startswith("{"), f"no JSON answer: {self}"
        found: Answer = json.loads(self.out)
        return found


@dataclass(frozen=True)
class Program:
    """One program, to be run with arguments; `first` come before them."""

    path: str
    first: tuple[str, ...] = ()

    def __call__(self, *args: str, given: str = "", timeout_s: float = 40) -> Finished:
        done = subprocess.run(
            [self.path, *self.first, *args],
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "PIP_NO_INDEX": "1", "NODE_NO_WARNINGS": "1"},
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def job(self, **job: Any) -> Any:
        """Hand a driver script its job as JSON on standard input; give back the JSON it prints."""
        done = self(given=json.dumps(job))
        assert done.status == 0, done.err
        return json.loads(done.out)


FindProgram = Callable[[str, str], Program]


@pytest.fixture(scope="session")
def system_program() -> FindProgram:
    """Finds a program of the system: `system_program("curl", "curl")`, name and package."""

    def find(name: str, package: str) -> Program:
        path = shutil.which(name)
        if path is None:
            missing(name, f"apt-get install {package}")
        return Program(str(path))

    return find


@pytest.fixture(scope="session")
def python_driver() -> Callable[[str], Program]:
    """Finds a script of `drivers/`, run by the interpreter ThingsBoard's SDK is installed for."""

    def find(script: str) -> Program:
        python = PROGRAMS / "python" / "bin" / "python"
        if not (PROGRAMS / "python" / ".filled-from").exists():
            missing("tb-mqtt-client", "make clients")
        return Program(str(python), (str(HERE / "drivers" / script),))

    return find


@pytest.fixture(scope="session")
def node_driver() -> Callable[[str], Program]:
    """Finds a script of `drivers/`, run by Node with the npm packages in reach."""

    def find(script: str) -> Program:
        node = shutil.which("node")
        modules = PROGRAMS / "npm" / "node_modules"
        if node is None:
            missing("Node.js", "apt-get install nodejs npm && make clients")
        if not modules.exists():
            missing(f"the npm package for {script}", "make clients")
        return Program(str(node), (str(HERE / "drivers" / script), str(modules)))

    return find


@pytest.fixture(scope="session")
def not_found() -> Answer:
    """The answer to a wrong key or secret (contract, section 2.5)."""
    return {"errorMsg": "Provision data was not found!", "status": "NOT_FOUND"}


@pytest.fixture(scope="session")
def failure() -> Answer:
    """The answer to a right pair that gets nothing (contract, section 2.5)."""
    return FAILURE


@pytest.fixture(scope="session")
def all_at_once() -> Callable[[Callable[[], Any]], list[Any]]:
    """Calls a function from twenty threads at once and gives back what each call returned."""

    def call(function: Callable[[], Any]) -> list[Any]:
        with ThreadPoolExecutor(CROWD) as pool:
            return [future.result() for future in [pool.submit(function) for _ in range(CROWD)]]

    return call


# ── the gateway ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class RunningGateway:
    """A gateway process: its ports, the pairs of its profiles, and what reached its store."""

    http: int
    mqtt: int
    coap: int
    pairs: dict[str, tuple[str, str]]
    database: Path
    environ: dict[str, str]

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def coap_url(self) -> str:
        return f"coap://127.0.0.1:{self.coap}"

    def request(self, name: str | None = None, *, profile: str = "create", **more: Any) -> Answer:
        """A provisioning request with the right key and secret of `profile`."""
        key, secret = self.pairs[profile]
        asked = {"provisionDeviceKey": key, "provisionDeviceSecret": secret, **more}
        return asked if name is None else {"deviceName": name, **asked}

    def wrong_request(self, name: str) -> Answer:
        """A provisioning request with the right key and a wrong secret."""
        return {**self.request(name), "provisionDeviceSecret": "not-the-secret"}

    def operate(self, *args: str) -> str:
        """Run a `gatehouse` command on the store of the running gateway; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *args],
            env=self.environ,
            cwd=self.database.parent,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done
        return done.stdout

    def rpc(self, name: str, method: str, params: Any = None) -> Future[Any]:
        """Call a method of a device, as an operator does; the future holds its answer."""
        given = () if params is None else (json.dumps(params),)
        caller = ThreadPoolExecutor(1)
        answer = caller.submit(
            lambda: json.loads(self.operate("device", "rpc", name, method, *given))
        )
        caller.shutdown(wait=False)
        return answer

    def share(self, name: str, **values: Any) -> None:
        """Set shared attributes of a device, as an operator does."""
        pairs = (f"{key}={json.dumps(value)}" for key, value in values.items())
        self.operate("device", "attributes", "set", name, *pairs)

    def offer_firmware(self, file: Path, title: str, version: str, device: str) -> None:
        """Add a firmware and assign it to a device, as an operator does."""
        self.operate("firmware", "add", str(file), "--title", title, "--version", version)
        self.operate("firmware", "assign", title, version, "--device", device)

    def device(self, name: str) -> Answer:
        """What `gatehouse device show` tells of a device."""
        told: Answer = json.loads(self.operate("device", "show", name, "--json"))
        return told

    def token(self, name: str, **more: Any) -> str:
        """The access token of a new device."""
        asked = json.dumps(self.request(name, **more)).encode()
        with urlopen(Request(f"{self.http_url}/api/v1/provision", asked), timeout=10) as reply:
            return self.succeeded(json.load(reply))

    def pre_provision(self, name: str) -> None:
        """Let `name` wait for its one claim, as an operator does while the gateway runs."""
        self.operate("device", "add", "--profile=pre-provisioned", name)

    def readings(self, name: str) -> dict[str, Any]:
        """The latest readings of a device, read from the store beside the running gateway."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as store:
            rows = store.execute(
                "SELECT key, coalesce(whole, real, text) FROM latest_reading"
                " JOIN device ON device.id = device_id WHERE device.name = ?",
                (name,),
            ).fetchall()
        return dict(rows)

    def wait_for_readings(self, name: str, *keys: str, within_s: float = 5) -> dict[str, Any]:
        """The same, once all of `keys` are there: for readings sent without acknowledgement."""
        give_up = time.monotonic() + within_s
        while True:
            found = self.readings(name)
            if found.keys() >= set(keys) or time.monotonic() > give_up:
                return found
            time.sleep(0.02)

    def client_attributes(self, token: str) -> dict[str, Any]:
        """The client attributes of the device with that access token, asked over HTTP."""
        with urlopen(f"{self.http_url}/api/v1/{token}/attributes", timeout=10) as reply:
            told: dict[str, Any] = json.load(reply).get("client", {})
        return told

    def knows(self, token: str) -> bool:
        """Whether an access token opens the device API."""
        asked = Request(f"{self.http_url}/api/v1/{token}/telemetry", b"{}", method="POST")
        try:
            with urlopen(asked, timeout=10):
                return True
        except HTTPError as refused:
            with refused:
                if refused.code != 401:
                    raise
            return False

    def succeeded(self, answer: Answer) -> str:
        """Check a SUCCESS answer with an access token that works; give back the token."""
        assert answer["status"] == "SUCCESS", answer
        assert answer["credentialsType"] == "ACCESS_TOKEN"
        token: str = answer["credentialsValue"]
        assert self.knows(token)
        return token

    def gave_to_one(self, answers: list[Answer]) -> None:
        """Check what a crowd got that asked for one name: one token, for the others a FAILURE."""
        won = [answer for answer in answers if answer != FAILURE]
        assert len(answers) == CROWD
        assert len(won) == 1, won
        self.succeeded(won[0])


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway process with one profile of each kind; SIGTERM must end it with status 0."""
    folder = tmp_path_factory.mktemp("gateway")
    pairs = {name: (secrets.token_hex(10), secrets.token_hex(10)) for name in PROFILES}
    environ = _environ(folder, pairs)
    log_path = folder / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--quiet"],
            env=environ,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with process:
        try:
            ports = _ready(process, log_path)
            yield RunningGateway(
                **ports, pairs=pairs, database=folder / "data" / "gate.db", environ=environ
            )
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(timeout=15)
    logged = log_path.read_text()
    assert status == 0, logged
    assert "Traceback" not in logged
    for _, secret in pairs.values():
        assert secret not in logged


def _environ(folder: Path, pairs: dict[str, tuple[str, str]]) -> dict[str, str]:
    """The environment of the gateway; writes the profile files it points to."""
    profiles = folder / "profiles"
    profiles.mkdir()
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")},
        "PYTHONPATH": str(HERE.parent.parent),
        "GATEHOUSE_STORE_URL": f"sqlite:{folder / 'data' / 'gate.db'}",
        "GATEHOUSE_PROFILES_DIR": str(profiles),
        "GATEHOUSE_LOG_FORMAT": "json",
    }
    for wire in ("HTTP", "MQTT", "COAP"):
        environ[f"GATEHOUSE_{wire}_PORT"] = "0"
        environ[f"GATEHOUSE_{wire}_HOST"] = "127.0.0.1"
    for name, (key, secret) in pairs.items():
        variable = "TEST_" + name.replace("-", "_").upper()
        environ[f"{variable}_KEY"], environ[f"{variable}_SECRET"] = key, secret
        (profiles / f"{name}.toml").write_text(
            f'provision_type = "{PROFILES[name]}"\n'
            f'provision_key = {{ env = "{variable}_KEY" }}\n'
            f'provision_secret = {{ env = "{variable}_SECRET" }}\n'
        )
    return environ


def _ready(process: subprocess.Popen[str], log_path: Path) -> dict[str, int]:
    """Wait for the ready line and read the ports from it."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("gatehouse ready "), f"{line}\n{log_path.read_text()}"
    return {name: int(port) for name, port in re.findall(r"(\w+)=(\d+)", line)}
