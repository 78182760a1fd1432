"""Servers in processes of their own, for measuring: a gateway with a throw-away store, and others.

Everything listens on 127.0.0.1, on ports the system picks, and is gone when the `with` ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

import gateway
from gateway.core.errors import GatehouseError
from gateway.core.model import Secret
from gateway.core.tokens import new_token

PROFILE = "bench"
"""The one profile of a throw-away gateway: any name may be created."""

_START_S = 20.0
_STOP_S = 12.0
"""A gateway ends within 10 s of SIGTERM; a little more on a busy machine."""
_MOST_LINE = 65_536
_WIRES = ("HTTP", "MQTT", "COAP", "HTTPS", "MQTTS", "COAPS")
_PROFILE_FILE = """\
provision_type = "ALLOW_CREATE_NEW_DEVICES"
provision_key = { env = "FLEET_KEY" }
provision_secret = { env = "FLEET_SECRET" }
"""


class ServerFailed(GatehouseError):
    """A server process did not start. The message holds the last line it wrote."""


class Server(Struct, frozen=True):
    """A running server: its process and its ports by name (`http`, `mqtt`, …)."""

    pid: int
    ports: Mapping[str, int]

    def memory_kib(self, field: str = "VmRSS") -> int:
        """A size from `/proc/PID/status`: `VmRSS`, `RssAnon` (no mapped files). Linux only."""
        for line in Path(f"/proc/{self.pid}/status").read_text("ascii").splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
        raise ServerFailed(f"process {self.pid} has no {field}")


class FleetPair(Struct, frozen=True):
    """The key and secret of a throw-away gateway's profile."""

    key: Secret
    secret: Secret

    @classmethod
    def random(cls) -> FleetPair:
        return cls(Secret(new_token()), Secret(new_token()))


@contextlib.contextmanager
def gateway_process(
    folder: Path,
    pair: FleetPair,
    *,
    core: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """`gatehouse serve` with its store in `folder`, and one profile that takes `pair`.

    `core` is the processor it may use. `settings` are more environment variables
    (`GATEHOUSE_LOG_LEVEL`). A second call with the same folder and pair finds the same store.
    Raises `ServerFailed`.
    """
    profiles = folder / "profiles"
    profiles.mkdir(exist_ok=True)
    (profiles / f"{PROFILE}.toml").write_text(_PROFILE_FILE)
    environ = {
        "FLEET_KEY": pair.key.reveal(),
        "FLEET_SECRET": pair.secret.reveal(),
        "GATEHOUSE_STORE_URL": f"sqlite:{folder / 'data' / 'gatehouse.db'}",
        "GATEHOUSE_PROFILES_DIR": str(profiles),
        **{f"GATEHOUSE_{wire}_HOST": "127.0.0.1" for wire in _WIRES},
        **{f"GATEHOUSE_{wire}_PORT": "0" for wire in _WIRES},
        **(settings or {}),
    }
    with server_process(("-m", "gateway", "serve", "--quiet"), folder, environ, core=core) as one:
        yield one


@contextlib.contextmanager
def server_process(
    arguments: Sequence[str], folder: Path, environ: Mapping[str, str], *, core: int | None = None
) -> Iterator[Server]:
    """Run this Python with `arguments` in `folder` until the `with` ends.

    The process tells its ports on standard output, in a line with `ready` and `name=port` words.
    Raises `ServerFailed`.
    """
    complaints = folder / "server.log"
    with complaints.open("wb") as log, on_core(core):
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own arguments
            (sys.executable, *arguments),
            cwd=folder,
            env=_environ(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            process_group=0,  # Ctrl-C is for us; we stop the server when we are done
        )
    try:
        yield Server(process.pid, _ports(process, complaints))
    finally:
        _stop(process)


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    """Ours without any setting for another gateway, and so that `gateway` is found anywhere."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")}
    home = str(Path(gateway.__file__).parents[1])
    ours["PYTHONPATH"] = os.pathsep.join(filter(None, (home, ours.get("PYTHONPATH"))))
    return {**ours, **more}


def _ports(process: subprocess.Popen[bytes], complaints: Path) -> dict[str, int]:
    assert process.stdout is not None
    pipe, heard = process.stdout.fileno(), b""
    deadline = time.monotonic() + _START_S
    while len(heard) < _MOST_LINE:
        wait_s = deadline - time.monotonic()
        if wait_s <= 0 or not select.select([pipe], [], [], wait_s)[0]:
            break
        part = os.read(pipe, 4096)
        heard += part
        for line in heard.decode(errors="replace").splitlines(keepends=True):
            if "ready" in line and line.endswith("\n"):
                words = (word.partition("=") for word in line.split())
                return {name: int(port) for name, _, port in words if port.isdigit()}
        if not part:
            break
    raise ServerFailed(f"the server process did not start: {_last_line(complaints)}")


def _last_line(complaints: Path) -> str:
    lines = complaints.read_text(errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else "it said nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


# ── the machine ───────────────────────────────────────────────────────────────────────────────


def two_cores() -> tuple[int, int] | None:
    """A processor for the server and another one for the load; None where that cannot be had."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    ours = sorted(os.sched_getaffinity(0))
    return (ours[0], ours[1]) if len(ours) > 1 else None


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Run on one processor meanwhile. A process started here stays there, with its threads."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_file_limit() -> int:
    """Let this process, and those it starts, open as many files as the system allows it."""
    try:
        import resource
    except ImportError:
        return 0  # not a Unix: there is no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
