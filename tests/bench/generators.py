"""The C load generators: built into a temporary folder, run on a core of their own, understood."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from gateway.simulator.processes import FleetPair, on_core

_HERE = Path(__file__).parent
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class GeneratorError(Exception):
    """A generator is missing, cannot be built, or its figures are not to be trusted."""


class Load(Struct, frozen=True):
    """What a generator said: good answers, their rate per second, and latencies in ms."""

    answered: int
    rate: float
    p50_ms: float
    p99_ms: float


class Generators:
    """Runs generators found in `sources` (`coapgen.c`, `mqttgen.c`, `post.lua`) and here.

    `core` is the processor they may use; `pair` is what they provision with.
    """

    def __init__(self, sources: Path, build: Path, pair: FleetPair, core: int | None) -> None:
        self._build = build
        self._core = core
        self._script = sources / "post.lua"
        self._environ = {
            **os.environ,
            "PROVISION_KEY": pair.key.reveal(),
            "PROVISION_SECRET": pair.secret.reveal(),
        }
        for program in ("cc", "wrk"):
            if shutil.which(program) is None:
                raise GeneratorError(f"the program {program} is not installed")
        for source in (sources / "coapgen.c", sources / "mqttgen.c", _HERE / "telemetry.c"):
            command = ("cc", "-O2", "-w", "-o", str(build / source.stem), str(source))
            if subprocess.run(command, check=False).returncode:
                raise GeneratorError(f"{source.name} cannot be built")

    def http(self, port: int, connections: int, seconds: float) -> Load:
        """wrk. It counts in whole seconds only."""
        whole = max(1, round(seconds))
        options = ("-t1", f"-c{connections}", f"-d{whole}s", "--latency", "-s", str(self._script))
        said = self._run(("wrk", *options, f"http://127.0.0.1:{port}"))
        if "Non-2xx" in said or "Socket errors" in said:
            raise GeneratorError(f"wrk met errors:\n{said}")
        return Load(
            answered=int(_number(said, r"(\d+) requests in")),
            rate=_number(said, r"Requests/sec:\s+([\d.]+)"),
            p50_ms=_wrk_ms(said, 50),
            p99_ms=_wrk_ms(said, 99),
        )

    def mqtt(self, mode: str, port: int, sessions: int, seconds: float) -> Load:
        """`cycle1` or `persist1`, as `mqttgen.c` says."""
        return _load(self._run(self._mqttgen(mode, port, sessions, seconds)))

    def coap(
        self, port: int, in_flight: int, seconds: float, *, ports: int = 1024, most: int = 0
    ) -> Load:
        """`most` requests, if that is not 0, and no longer than `seconds`."""
        command = [self._built("coapgen"), "127.0.0.1", port, in_flight, ports, seconds]
        return _load(self._run(map(str, command + ([most] if most else []))))

    def telemetry(self, port: int, tokens: Sequence[str], window: int, seconds: float) -> Load:
        command = (self._built("telemetry"), "127.0.0.1", port, window, seconds)
        return _load(self._run(map(str, command), {"TOKENS": ",".join(tokens)}))

    @contextmanager
    def idle_sessions(self, port: int, sessions: int, within_s: float) -> Iterator[None]:
        """Hold MQTT sessions open, subscribed and silent, until the `with` ends."""
        command = self._mqttgen("idle", port, sessions, within_s)
        with on_core(self._core):
            process = subprocess.Popen(
                command, env=self._environ, stdout=subprocess.PIPE, text=True
            )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said.startswith("all "):
                raise GeneratorError(f"not all sessions could be opened: {said.strip()}")
            yield
        finally:
            process.terminate()
            process.communicate()

    def _mqttgen(self, mode: str, port: int, sessions: int, seconds: float) -> list[str]:
        command = (self._built("mqttgen"), mode, "127.0.0.1", port, sessions, seconds)
        return [str(word) for word in command]

    def _built(self, name: str) -> str:
        return str(self._build / name)

    def _run(self, command: Iterator[str] | Sequence[str], more: Mapping[str, str] = {}) -> str:
        with on_core(self._core):
            done = subprocess.run(
                list(command),
                env={**self._environ, **more},
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise GeneratorError(f"a generator failed: {done.stderr.strip()}")
        return done.stdout


def _load(said: str) -> Load:
    """The line all of our generators end with: `ok=… err=… rate=…/s p50=…ms p99=…ms`."""
    for trouble in ("err", "rej", "lost"):
        if re.search(rf"\b{trouble}=[1-9]", said):
            raise GeneratorError(f"not every request was answered well: {said.strip()}")
    return Load(
        answered=int(_number(said, r"(?:ok|acked)=(\d+)")),
        rate=_number(said, r"rate=([\d.]+)/s"),
        p50_ms=_number(said, r"p50=([\d.]+)ms"),
        p99_ms=_number(said, r"p99=([\d.]+)ms"),
    )


def _number(said: str, pattern: str) -> float:
    found = re.search(pattern, said)
    if found is None:
        raise GeneratorError(f"a generator said something unexpected:\n{said}")
    return float(found[1])


def _wrk_ms(said: str, share: int) -> float:
    found = re.search(rf"^\s+{share}%\s+([\d.]+)(us|ms|s)$", said, re.MULTILINE)
    if found is None:
        raise GeneratorError(f"wrk told no latencies:\n{said}")
    return float(found[1]) * _UNITS[found[2]]
