"""The rows of the secure wires: handshakes, signing requests, memory, and who waits meanwhile.

The server's key is on P-256. Devices that log in are many, so that hardly any is known from before.
A rate is as good as the machine is quiet; the processor's time for each says what could be.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from generators import GeneratorError, Load
from lab import Figures, Lab, measured
from stored import add_devices, add_with, count_issued

from gateway.cli.lab_certificate import host_name, make_lab, make_server, utc_now
from gateway.core.model import Certificate, DeviceCredentials, PresharedKey, Secret
from gateway.simulator.processes import Server

DEVICES = 4_000
ACCEPTS_AT_ONCE, HANDSHAKES_AT_ONCE = 64, 64
FLOOD_AT_ONCE = 1_000
IDLE = 10_000
WARM = 200
"""Connections made before memory is read the first time."""
IDLE_WITHIN_S = 120.0
CSR_PER_S = 5_000
"""More keys than anybody signs."""
PROBE_MS = 2.0
_KEY = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
_IDENTITY = "bench-key-"
_BARE = Path(__file__).with_name("bare_openssl.py")


@contextmanager
def secure_gateway(lab: Lab) -> Iterator[tuple[Server, Path]]:
    """A fresh gateway that serves the secure wires as well."""
    certificate, key = lab.place / "server.pem", lab.place / "server.key"
    if not certificate.exists():
        pems = make_server(make_lab(utc_now()), [host_name("localhost")], 30, utc_now())
        certificate.write_bytes(pems[0])
        key.write_bytes(pems[1])
    settings = {
        "GATEHOUSE_TLS_CERTIFICATE_FILE": str(certificate),
        "GATEHOUSE_TLS_KEY_FILE": str(key),
    }
    for wire in ("HTTPS", "MQTTS", "COAPS"):
        settings |= {f"GATEHOUSE_{wire}_HOST": "127.0.0.1", f"GATEHOUSE_{wire}_PORT": "0"}
    with lab.gateway(**settings) as (server, database):
        yield server, database


# ── handshakes ────────────────────────────────────────────────────────────────────────────────


def mqtts_accepts(version: str) -> Callable[[Lab], Figures]:
    """From the TCP connection to CONNACK, each of another device, by its token."""

    def run(lab: Lab) -> Figures:
        with secure_gateway(lab) as (server, database):
            who = _tokens(database)
            return measured(
                f"MQTTS accepts, TLS {version}, {ACCEPTS_AT_ONCE} at once",
                server,
                lambda: lab.generators.tls(
                    server.ports["mqtts"], ACCEPTS_AT_ONCE, lab.seconds, TLS=version, **who
                ),
            )

    return run


def mqtts_accepts_by_certificate(lab: Lab) -> Figures:
    with secure_gateway(lab) as (server, database):
        who = _certificates(lab, database)
        return measured(
            f"MQTTS accepts by certificate, {ACCEPTS_AT_ONCE} at once",
            server,
            lambda: lab.generators.tls(
                server.ports["mqtts"], ACCEPTS_AT_ONCE, lab.seconds, TOKEN="", **who
            ),
        )


def dtls_anonymous(lab: Lab) -> Figures:
    return _dtls(lab, "server's certificate alone", lambda lab, database: {})


def dtls_by_certificate(lab: Lab) -> Figures:
    return _dtls(lab, "client's certificate", _certificates)


def dtls_by_key(lab: Lab) -> Figures:
    return _dtls(lab, "pre-shared key", _preshared)


def _dtls(lab: Lab, title: str, who: Callable[[Lab, Path], dict[str, str]]) -> Figures:
    with secure_gateway(lab) as (server, database):
        known = who(lab, database)
        return measured(
            f"DTLS handshakes, {title}, {HANDSHAKES_AT_ONCE} at once",
            server,
            lambda: lab.generators.dtls(
                server.ports["coaps"], HANDSHAKES_AT_ONCE, lab.seconds, **known
            ),
        )


def _tokens(database: Path) -> dict[str, str]:
    return {"TOKEN": add_devices(database, DEVICES).prefix, "DEVICES": str(DEVICES)}


def _certificates(lab: Lab, database: Path) -> dict[str, str]:
    """Devices with certificates that they signed themselves."""
    path = lab.generators.keys("certificates", DEVICES)
    pems = path.read_text("ascii").split("-----BEGIN CERTIFICATE-----")[1:]
    bodies = ("".join(pem.partition("-----END")[0].split()) for pem in pems)
    add_with(database, {f"certified-{n}": Certificate(body) for n, body in enumerate(bodies)})
    return {"CERTS": str(path)}


def _preshared(_lab: Lab, database: Path) -> dict[str, str]:
    known: dict[str, DeviceCredentials] = {
        f"keyed-{n}": PresharedKey(f"{_IDENTITY}{n:04d}", Secret(_KEY)) for n in range(DEVICES)
    }
    add_with(database, known)
    return {"PSK": f"{_IDENTITY}:{_KEY}", "DEVICES": str(DEVICES)}


# ── signing requests ──────────────────────────────────────────────────────────────────────────


def csr_mqtt(at_once: int) -> Callable[[Lab], Figures]:
    """Open sessions. In the end the store has exactly the certificates that were given."""

    def run(lab: Lab) -> Figures:
        bodies = _bodies(lab, _requests(lab))
        with lab.gateway() as (server, database):

            def load() -> Load:
                port = server.ports["mqtt"]
                told = lab.generators.told_mqtt(port, bodies, at_once, lab.seconds)
                _check_issued(database, told.answered)
                return told

            title = f"signing requests, MQTT open sessions, {at_once} at once"
            return measured(title, server, load)

    return run


def csr_http(at_once: int) -> Callable[[Lab], Figures]:
    """wrk ends in the middle of requests: so many more than it counted may be stored."""

    def run(lab: Lab) -> Figures:
        requests = _requests(lab)
        with lab.gateway() as (server, database):

            def load() -> Load:
                port = server.ports["http"]
                told = lab.generators.csr_http(port, requests, at_once, lab.seconds)
                time.sleep(0.5)
                _check_issued(database, told.answered, spare=at_once)
                return told

            title = f"signing requests, HTTP keep-alive, {at_once} at once"
            return measured(title, server, load)

    return run


def _requests(lab: Lab) -> Path:
    return lab.generators.keys("requests", int(CSR_PER_S * max(1, round(lab.seconds))))


def _bodies(lab: Lab, requests: Path) -> Path:
    """The same, each with the name of a device and the fleet's secret."""
    bodies, pair = requests.with_name(f"{requests.name}-bodies"), lab.pair
    fleet = {
        "provisionDeviceKey": pair.key.reveal(),
        "provisionDeviceSecret": pair.secret.reveal(),
    }
    with bodies.open("w", encoding="ascii") as file:
        for number, csr in enumerate(requests.read_text("ascii").splitlines()):
            # Its lines are written as JSON writes them.
            body = json.dumps({"deviceName": f"signed-{number}", **fleet})
            print(body[:-1] + f',"csr":"{csr}"}}', file=file)
    return bodies


def _check_issued(database: Path, acknowledged: int, spare: int = 0) -> None:
    issued = count_issued(database)
    if not acknowledged <= issued <= acknowledged + spare:
        raise GeneratorError(f"{acknowledged} certificates were given, {issued} are in the store")


# ── memory ────────────────────────────────────────────────────────────────────────────────────


def tls_idle(lab: Lab) -> Figures:
    return _idle(lab, "mqtts", "tls", "MQTTS session")


def dtls_idle(lab: Lab) -> Figures:
    return _idle(lab, "coaps", "dtls", "DTLS session")


def _idle(lab: Lab, wire: str, bare: str, title: str) -> Figures:
    """Memory of the process alone: what the kernel keeps for a socket is not in it."""
    with secure_gateway(lab) as (server, database):
        add_devices(database, IDLE)
        port = server.ports[wire]
        with lab.generators.held(wire, port, WARM, IDLE_WITHIN_S):
            pass
        time.sleep(0.5)
        before = server.memory_kib("RssAnon")
        with lab.generators.held(wire, port, IDLE, IDLE_WITHIN_S):
            time.sleep(0.5)
            grown = server.memory_kib("RssAnon") - before
    return {
        f"memory of an idle {title}, {IDLE:,} held, KiB": grown / IDLE,
        f"what OpenSSL alone keeps for one, by pyOpenSSL ({bare}), KiB": _bare_kib(bare),
    }


def _bare_kib(kind: str) -> float:
    command = (sys.executable, str(_BARE), kind, "1000")
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# ── the others ────────────────────────────────────────────────────────────────────────────────


def lag_in_tls_flood(lab: Lab) -> Figures:
    with secure_gateway(lab) as (server, database):
        who = _tokens(database)
        return _lag(lab, server, "TLS", lambda: _flood_tls(lab, server, who))


def lag_in_dtls_flood(lab: Lab) -> Figures:
    with secure_gateway(lab) as (server, _):
        return _lag(lab, server, "DTLS", lambda: _flood_dtls(lab, server))


def _flood_tls(lab: Lab, server: Server, who: dict[str, str]) -> Load:
    return lab.generators.tls(server.ports["mqtts"], FLOOD_AT_ONCE, lab.seconds, **who)


def _flood_dtls(lab: Lab, server: Server) -> Load:
    return lab.generators.dtls(server.ports["coaps"], FLOOD_AT_ONCE, lab.seconds)


def _lag(lab: Lab, server: Server, kind: str, flood: Callable[[], Load]) -> Figures:
    """What somebody else waits for an answer over HTTP; so long the loop was busy, at most."""
    with lab.generators.probing(server.ports["http"], PROBE_MS, lab.seconds) as outcome:
        told, lag = flood(), outcome()
    title = f"{FLOOD_AT_ONCE:,} {kind} handshakes at once"
    return {
        f"{title}: per second": told.rate,
        f"{title}: others wait, p50 ms": lag.p50_ms,
        f"{title}: others wait, p99 ms": lag.p99_ms,
        f"{title}: others wait, at most, ms": lag.max_ms,
    }


EXPERIMENTS: dict[str, list[Callable[[Lab], Figures]]] = {
    "mqtts-accept": [mqtts_accepts("1.3"), mqtts_accepts("1.2"), mqtts_accepts_by_certificate],
    "dtls": [dtls_anonymous, dtls_by_certificate, dtls_by_key],
    "csr": [csr_mqtt(256), csr_mqtt(32), csr_http(256)],
    "tls-idle": [tls_idle],
    "dtls-idle": [dtls_idle],
    "lag": [lag_in_tls_flood, lag_in_dtls_flood],
}
"""By the name after `--only`."""
