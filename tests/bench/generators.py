"""The load generators: built into a temporary folder, run on a core of their own, understood."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from msgspec import Struct

from gateway.simulator.processes import FleetPair, on_core

_HERE = Path(__file__).parent
_OURS = (
    "telemetry",
    "audience",
    "answering",
    "coap_telemetry",
    "observers",
    "births_coap",
    "births_mqtt",
    "newborn",
    "probe",
)
_WITH_OPENSSL = ("keys", "tls_accept", "dtls_handshakes")
_GIVEN = ("coapgen", "mqttgen")
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_HOUR_MS = 3_600_000


class GeneratorError(Exception):
    """A generator is missing, cannot be built, or its figures are not to be trusted."""


class Load(Struct, frozen=True):
    """What a generator said: good answers, their rate per second, and latencies in ms."""

    answered: int
    rate: float
    p50_ms: float
    p99_ms: float


class Heard(Struct, frozen=True):
    """When the first and the last of many were told, in seconds of the monotonic clock.

    `again`: messages that came once more.
    """

    first: float
    last: float
    again: int


class Lag(Struct, frozen=True):
    """How long somebody waited who asked for nothing but an answer, in ms."""

    p50_ms: float
    p99_ms: float
    max_ms: float


class Generators:
    """Runs the generators here, and those in `sources` (`coapgen.c`, `mqttgen.c`, `post.lua`).

    `core` is the processor they may use; `pair` is what they provision with. Without `sources`
    there is nothing to provision with at full speed.
    """

    def __init__(
        self, sources: Path | None, build: Path, pair: FleetPair, core: int | None
    ) -> None:
        self._build = build
        self._core = core
        self._sources = sources
        self._environ = {
            **os.environ,
            "PROVISION_KEY": pair.key.reveal(),
            "PROVISION_SECRET": pair.secret.reveal(),
        }
        for program in ("cc", "wrk"):
            if shutil.which(program) is None:
                raise GeneratorError(f"the program {program} is not installed")
        files = [_HERE / f"{name}.c" for name in _OURS]
        files += [sources / f"{name}.c" for name in _GIVEN] if sources else []
        for source in files:
            self._make(source)
        self.with_openssl = _has_openssl()
        """Whether the generators of the secure wires are here as well."""
        if self.with_openssl:
            for name in _WITH_OPENSSL:
                self._make(_HERE / f"{name}.c", "-lssl", "-lcrypto")

    def _make(self, source: Path, *libraries: str) -> None:
        command = ("cc", "-O2", "-w", "-o", self._built(source.stem), str(source), *libraries)
        if subprocess.run(command, check=False).returncode:
            raise GeneratorError(f"{source.name} cannot be built")

    # ── provisioning ──────────────────────────────────────────────────────────────────────────

    def http(self, port: int, connections: int, seconds: float) -> Load:
        """wrk. It counts in whole seconds only."""
        assert self._sources is not None
        return self._wrk(self._sources / "post.lua", port, connections, seconds)

    def mqtt(self, mode: str, port: int, sessions: int, seconds: float) -> Load:
        """`cycle1` or `persist1`, as `mqttgen.c` says."""
        return _load(self._run(self._mqttgen(mode, port, sessions, seconds)))

    def coap(
        self, port: int, in_flight: int, seconds: float, *, ports: int = 1024, most: int = 0
    ) -> Load:
        """`most` requests, if that is not 0, and no longer than `seconds`."""
        command = [self._built("coapgen"), "127.0.0.1", port, in_flight, ports, seconds]
        return _load(self._run(map(str, command + ([most] if most else []))))

    @contextmanager
    def idle_sessions(self, port: int, sessions: int, within_s: float) -> Iterator[None]:
        """Hold MQTT sessions open, subscribed and silent, until the `with` ends."""
        with self._until_ready(self._mqttgen("idle", port, sessions, within_s)):
            yield

    def _mqttgen(self, mode: str, port: int, sessions: int, seconds: float) -> list[str]:
        command = (self._built("mqttgen"), mode, "127.0.0.1", port, sessions, seconds)
        return [str(word) for word in command]

    # ── the device API ────────────────────────────────────────────────────────────────────────

    def http_telemetry(
        self, port: int, tokens: Sequence[str], connections: int, seconds: float
    ) -> Load:
        first_ts = int(time.time() * 1000) - _HOUR_MS
        more = {"TOKENS": ",".join(tokens), "FIRST_TS": str(first_ts)}
        return self._wrk(_HERE / "readings.lua", port, connections, seconds, more)

    def coap_telemetry(
        self, port: int, tokens: Sequence[str], in_flight: int, seconds: float, ports: int = 1024
    ) -> Load:
        command = (self._built("coap_telemetry"), "127.0.0.1", port, in_flight, ports, seconds)
        return _load(self._run(map(str, command), {"TOKENS": ",".join(tokens)}))

    def telemetry(
        self, port: int, tokens: Sequence[str], window: int, seconds: float, children: int = 0
    ) -> Load:
        """MQTT sessions; with `children` those of gateways."""
        command = (self._built("telemetry"), "127.0.0.1", port, window, seconds, children)
        return _load(self._run(map(str, command), {"TOKENS": ",".join(tokens)}))

    @contextmanager
    def audience(
        self, program: str, port: int, prefix: str, count: int, payload: str, within_s: float
    ) -> Iterator[Callable[[], Heard]]:
        """`audience` (MQTT) or `observers` (CoAP), ready to be told `payload`, each once.

        What is yielded waits until all were told.
        """
        command = (self._built(program), "127.0.0.1", port, prefix, count, payload, within_s)
        with self._until_ready([str(word) for word in command]) as process:
            yield lambda: _heard(process)

    @asynccontextmanager
    async def answering(self, port: int, token: str) -> AsyncIterator[None]:
        """A device that answers calls, until the `async with` ends."""
        with on_core(self._core):
            process = await asyncio.create_subprocess_exec(
                self._built("answering"), "127.0.0.1", str(port), token, stdout=subprocess.PIPE
            )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(10):
                said = await process.stdout.readline()
            if not said.startswith(b"all "):
                raise GeneratorError("the answering device could not log in")
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    # ── the secure wires ──────────────────────────────────────────────────────────────────────

    def keys(self, kind: str, count: int) -> Path:
        """A file of `requests` or `certificates`, as `keys.c` says; made once."""
        path = self._build / f"{kind}-{count}"
        if not path.exists():
            path.write_text(self._run((self._built("keys"), kind, str(count))))
        return path

    def tls(self, port: int, at_once: int, seconds: float, **who: str) -> Load:
        """Connections to MQTT over TLS. `who` is told by variables, as `tls_accept.c` says."""
        command = (self._built("tls_accept"), "127.0.0.1", port, at_once, seconds)
        return _load(self._run(map(str, command), who))

    def dtls(self, port: int, at_once: int, seconds: float, **who: str) -> Load:
        """DTLS handshakes. `who` is told by variables, as `dtls_handshakes.c` says."""
        command = (self._built("dtls_handshakes"), "127.0.0.1", port, at_once, seconds)
        return _load(self._run(map(str, command), who))

    @contextmanager
    def held(self, wire: str, port: int, count: int, within_s: float) -> Iterator[None]:
        """Hold connections of "mqtts" (its devices: `TOKEN`) or "coaps" until the `with` ends."""
        if wire == "coaps":
            command = (self._built("dtls_handshakes"), "127.0.0.1", port, 32, within_s)
            more = {"KEEP": str(count)}
        else:
            command = (self._built("tls_accept"), "127.0.0.1", port, count, within_s)
            more = {"HOLD": "1", "TOKEN": "bench-token-", "DEVICES": str(count)}
        with self._until_ready([str(word) for word in command], more):
            yield

    def csr_http(self, port: int, requests: Path, connections: int, seconds: float) -> Load:
        more = {"REQUESTS": str(requests)}
        return self._wrk(_HERE / "csr.lua", port, connections, seconds, more)

    def told_mqtt(self, port: int, bodies: Path, sessions: int, seconds: float) -> Load:
        """Provisioning over open sessions, by requests that are written down, a line each."""
        command = (self._built("births_mqtt"), "127.0.0.1", port, sessions, seconds)
        return _load(self._run(map(str, command), {"BODIES": str(bodies)}))

    def told_coap(self, port: int, bodies: Path, at_once: int, seconds: float) -> Load:
        command = (self._built("births_coap"), "127.0.0.1", port, at_once, at_once, seconds)
        return _load(self._run(map(str, command), {"BODIES": str(bodies)}))

    def gated_http(
        self, port: int, connections: int, seconds: float, more: Mapping[str, str]
    ) -> Load:
        """Devices of an allow-list; `more` are the variables of `gated.lua`."""
        return self._wrk(_HERE / "gated.lua", port, connections, seconds, more)

    # ── onboarding ────────────────────────────────────────────────────────────────────────────

    def births_http(self, port: int, connections: int, seconds: float) -> Load:
        """New devices by ThingsBoard's way."""
        return self._wrk(_HERE / "births.lua", port, connections, seconds)

    def issues_http(self, port: int, bearer: str, connections: int, seconds: float) -> Load:
        """Tokens, for devices of the root organisation and its first administrator."""
        more = {"BEARER": bearer, "ORG": "1", "OWNER": "1"}
        return self._wrk(_HERE / "issue.lua", port, connections, seconds, more)

    def claims_http(
        self, port: int, tokens: Path, template: str, connections: int, seconds: float
    ) -> Load:
        more = {"TOKENS": str(tokens), "TEMPLATE": template}
        return self._wrk(_HERE / "claims.lua", port, connections, seconds, more)

    def claims_mqtt(
        self, port: int, tokens: Path, template: str, at_once: int, seconds: float
    ) -> Load:
        more = {"TOKENS": str(tokens), "TEMPLATE": template}
        return self._newborn("claim", port, at_once, seconds, more)

    def births_mqtt(self, port: int, at_once: int, seconds: float) -> Load:
        """By ThingsBoard's way, a connection for each."""
        return self._newborn("birth", port, at_once, seconds, {})

    def _newborn(
        self, kind: str, port: int, at_once: int, seconds: float, more: Mapping[str, str]
    ) -> Load:
        command = (self._built("newborn"), kind, "127.0.0.1", port, at_once, seconds)
        return _load(self._run(map(str, command), more))

    @contextmanager
    def probing(self, port: int, every_ms: float, seconds: float) -> Iterator[Callable[[], Lag]]:
        """Ask over HTTP at that pace. What is yielded waits until the end, and tells."""
        command = (self._built("probe"), "127.0.0.1", port, every_ms, seconds)
        with on_core(self._core):
            process = subprocess.Popen(
                [str(word) for word in command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        try:
            yield lambda: _lag(process)
        finally:
            process.kill()
            process.communicate()

    # ── running them ──────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _until_ready(
        self, command: Sequence[str], more: Mapping[str, str] = {}
    ) -> Iterator[subprocess.Popen[str]]:
        """Start it and wait until it is ready; it is ended with the `with`."""
        with on_core(self._core):
            process = subprocess.Popen(
                command, env={**self._environ, **more}, stdout=subprocess.PIPE, text=True
            )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said.startswith("all "):
                raise GeneratorError(f"not all of them could be opened: {said.strip()}")
            yield process
        finally:
            process.terminate()
            process.communicate()

    def _wrk(
        self,
        script: Path,
        port: int,
        connections: int,
        seconds: float,
        more: Mapping[str, str] = {},
    ) -> Load:
        whole = max(1, round(seconds))
        options = ("-t1", f"-c{connections}", f"-d{whole}s", "--latency", "-s", str(script))
        said = self._run(("wrk", *options, f"http://127.0.0.1:{port}"), more)
        if "Non-2xx" in said or "Socket errors" in said:
            raise GeneratorError(f"wrk met errors:\n{said}")
        return Load(
            answered=int(_number(said, r"(\d+) requests in")),
            rate=_number(said, r"Requests/sec:\s+([\d.]+)"),
            p50_ms=_wrk_ms(said, 50),
            p99_ms=_wrk_ms(said, 99),
        )

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


def _heard(process: subprocess.Popen[str]) -> Heard:
    assert process.stdout is not None
    said = process.stdout.readline()
    _refuse_trouble(said)
    return Heard(
        first=_number(said, r"first=([\d.]+)"),
        last=_number(said, r"last=([\d.]+)"),
        again=int(_number(said, r"again=(\d+)")),
    )


def _lag(process: subprocess.Popen[str]) -> Lag:
    said, complaint = process.communicate()
    if process.returncode:
        raise GeneratorError(f"the probe failed: {complaint.strip()}")
    times = (_number(said, rf"{name}=([\d.]+)ms") for name in ("p50", "p99", "max"))
    return Lag(*times)


def _has_openssl() -> bool:
    """Its headers, that is."""
    command = ("cc", "-E", "-include", "openssl/ssl.h", "-x", "c", os.devnull)
    return not subprocess.run(command, check=False, capture_output=True).returncode


def _load(said: str) -> Load:
    """The line all of our loads end with: `ok=… err=… rate=…/s p50=…ms p99=…ms`."""
    _refuse_trouble(said)
    return Load(
        answered=int(_number(said, r"ok=(\d+)")),
        rate=_number(said, r"rate=([\d.]+)/s"),
        p50_ms=_number(said, r"p50=([\d.]+)ms"),
        p99_ms=_number(said, r"p99=([\d.]+)ms"),
    )


def _refuse_trouble(said: str) -> None:
    for trouble in ("err", "rej", "lost", "wrong"):
        if re.search(rf"\b{trouble}=[1-9]", said):
            raise GeneratorError(f"not everything went well: {said.strip()}")


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
