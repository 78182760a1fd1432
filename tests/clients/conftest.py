"""A real gateway process, and the clients other people wrote.

The gateway runs as a user runs it, `gatehouse cert init` and `gatehouse serve`, with ports and
folders of its own. It believes certificates of one factory, which `lab` makes.
A client that is not on this machine skips its tests and says how to get it; with
GATEHOUSE_REQUIRE_CLIENTS=1 it fails them instead.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certs
import pytest
from clients.lab import Lab, Watched
from clients.office import Office
from clients.running import (
    CROWD,
    FAILURE,
    PROFILES,
    Answer,
    RunningGateway,
    environ_of,
    operate,
    ready_ports,
)

HERE = Path(__file__).parent
PROGRAMS = HERE / ".programs"


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

    def __call__(self, *args: str | bytes, given: str = "", timeout_s: float = 40) -> Finished:
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


class Conversation:
    """A driver script that stays: it answers each line of JSON with one."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.log = folder / "driver.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [program.path, *program.first],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env={**os.environ, "PIP_NO_INDEX": "1"},
            )

    def say(self, **line: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self.log.read_text()  # the driver raised, and ended
        return json.loads(answer)

    def close(self) -> None:
        with self._process:
            self._process.kill()


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
def python_driver() -> Callable[..., Program]:
    """Finds a script of `drivers/`, run by the interpreter its libraries are installed for: by
    default ThingsBoard's SDK, with `of="blynk"` those of Blynk."""

    def find(script: str, of: str = "python") -> Program:
        python = PROGRAMS / of / "bin" / "python"
        if not (PROGRAMS / of / ".filled-from").exists():
            missing(f"what {script} drives", "make clients")
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


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    """Starts a program that stays: `watch(program, *args)`; it is killed when the test ends."""
    running: list[Watched] = []

    def start(program: Program, *args: str | bytes) -> Watched:
        command = (program.path, *program.first, *args)
        running.append(Watched(command, tmp_path / f"watched-{len(running)}"))
        return running[-1]

    yield start
    for one in running:
        one.kill()


# ── the gateway ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway process with one profile of each kind; SIGTERM must end it with status 0."""
    folder = tmp_path_factory.mktemp("gateway")
    pairs = {name: (secrets.token_hex(10), secrets.token_hex(10)) for name in PROFILES}
    factory = certs.Authority("Acme")
    environ = environ_of(folder, pairs, factory)
    operate(environ, folder, "cert", "init")
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
            ports = ready_ports(process, log_path)
            database = folder / "data" / "gate.db"
            yield RunningGateway(
                **ports, pairs=pairs, database=database, environ=environ, factory=factory
            )
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(timeout=15)
    logged = log_path.read_text()
    assert status == 0, logged
    assert "Traceback" not in logged
    for _, secret in pairs.values():
        assert secret not in logged


@pytest.fixture(scope="module")
def office(gate: RunningGateway) -> Iterator[Office]:
    """Onboards Blynk devices. In the end none of the secrets it was given may be in the log."""
    made = Office(gate)
    yield made
    logged = gate.log
    assert "blynk" in logged
    assert made.secrets
    for secret in made.secrets:
        assert secret not in logged


@pytest.fixture
def lab(gate: RunningGateway, system_program: FindProgram, tmp_path: Path) -> Lab:
    """Makes devices with keys and certificates, as files that the clients read."""
    return Lab(gate, system_program("openssl", "openssl"), tmp_path)
