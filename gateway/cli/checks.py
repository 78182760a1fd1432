"""What `gatehouse doctor` looks at outside of the database. Nothing here writes anything."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from gateway.config import Config
from gateway.core.errors import ConfigError
from gateway.settings import (
    BlynkTcpSettings,
    CoapSettings,
    CoapsSettings,
    HttpSettings,
    HttpsSettings,
    MqttSettings,
    MqttsSettings,
)

_OLDEST_PYTHON = (3, 11)
_OLDEST_SQLITE = (3, 38, 0)
"""`->>`, which the statements use, came with 3.38."""
_LITTLE_SPACE = 100 * 1024 * 1024
_TOO_LITTLE_SPACE = 10 * 1024 * 1024
SPARE_FILES = 100
"""Files a server opens beside its connections: database, log, libraries."""
_ASK_S = 3.0

_Listening: TypeAlias = (
    HttpSettings
    | MqttSettings
    | CoapSettings
    | HttpsSettings
    | MqttsSettings
    | CoapsSettings
    | BlynkTcpSettings
)


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Finding(Struct, frozen=True):
    """One thing looked at: what was found, and what to do about it (empty when nothing)."""

    check: str
    level: Level
    found: str
    todo: str = ""


def good(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


def doubtful(check: str, found: str, todo: str) -> Finding:
    return Finding(check, Level.WARNING, found, todo)


def wrong(check: str, found: str, todo: str) -> Finding:
    return Finding(check, Level.WRONG, found, todo)


# ── what it runs on ───────────────────────────────────────────────────────────────────────────


def versions() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _OLDEST_PYTHON:
        yield wrong("python", python, "Use Python 3.11 or newer.")
    else:
        yield good("python", python)
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        yield wrong("sqlite", sqlite3.sqlite_version, "Use a Python built with SQLite 3.38.")
    else:
        yield good("sqlite", sqlite3.sqlite_version)


def open_files(config: Config) -> Iterator[Finding]:
    """Whether as many connections as configured can be open at once."""
    if sys.platform == "win32":
        return
    import resource

    # The server raises its own limit as far as the hard one allows.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = SPARE_FILES + most_connections(config)
    if hard != resource.RLIM_INFINITY and hard < need:
        yield doubtful(
            "open files",
            f"limit {hard}; all connections that are configured need {need}",
            f"Raise it (`ulimit -Hn {need}`, LimitNOFILE= in a systemd unit), or lower "
            "max_connections of [http] and [mqtt].",
        )
    else:
        yield good("open files", f"limit {'none' if hard < 0 else hard}, {need} needed at most")


def most_connections(config: Config) -> int:
    """How many streams may be open at once; a secure wire has the bound of its plain one."""
    secure = has_certificate(config)
    http = config.http.enabled + (secure and config.https.enabled)
    mqtt = config.mqtt.enabled + (secure and config.mqtts.enabled)
    blynk = config.blynk_tcp.enabled * config.blynk_tcp.max_connections
    return http * config.http.max_connections + mqtt * config.mqtt.max_connections + blynk


def has_certificate(config: Config) -> bool:
    """Whether a gateway that starts now serves the secure wires: without one they are off."""
    files = config.tls_files
    return files is not None and (bool(config.tls.certificate_file) or files[0].exists())


# ── files ─────────────────────────────────────────────────────────────────────────────────────


def folder(config: Config) -> Iterator[Finding]:
    """The data folder: is it there, for us alone, writable, and on a disk with room?"""
    path = config.data_dir
    if config.server_url is not None:
        return
    if path is None:
        yield doubtful("data folder", "the store is in memory and forgets at exit", _SET_STORE)
        return
    if not path.is_dir():
        yield _missing_folder(path)
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if not os.access(path, os.W_OK | os.X_OK):
        yield wrong("data folder", f"{path} cannot be written", "Give it to the server's user.")
    elif mode & 0o077:
        yield doubtful(
            "data folder", f"{path} has mode {mode:04o}", f"Close it to others: `chmod 700 {path}`."
        )
    else:
        yield good("data folder", f"{path}, mode {mode:04o}")
    yield _space(path)


_SET_STORE = "Set [store] url (GATEHOUSE_STORE_URL) to `sqlite:PATH` to keep it."


def _missing_folder(path: Path) -> Finding:
    if path.exists():
        return wrong("data folder", f"{path} is no folder", "Move it away, or set [store] url.")
    parent = next(one for one in path.absolute().parents if one.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        return wrong(
            "data folder",
            f"{path} is not there, and {parent} cannot be written",
            "Make it and give it to the server's user, or set [store] url.",
        )
    return good("data folder", f"{path}: not yet; made at first start")


def _space(path: Path) -> Finding:
    free = shutil.disk_usage(path).free
    found = f"{free / 2**20:,.0f} MiB free at {path}"
    if free < _TOO_LITTLE_SPACE:
        return wrong("disk space", found, "Make room: without it nothing can be committed.")
    if free < _LITTLE_SPACE:
        return doubtful("disk space", found, "Make room, or lower [store] readings_keep_days.")
    return good("disk space", found)


def master_key(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The key all credentials are sealed with. Losing it loses every credential."""
    from gateway.store.vault import KEY_FILE, parse_master_key

    check = "master key"
    given = environ.get("GATEHOUSE_MASTER_KEY")
    if given:
        try:
            parse_master_key(given, "GATEHOUSE_MASTER_KEY")
            yield good(check, "from GATEHOUSE_MASTER_KEY")
        except ConfigError as exc:
            yield wrong(check, str(exc), "The server does not start without it.")
        return
    if config.server_url is not None:
        todo = "Set it to the key this database was begun with; see `openssl rand -hex 32`."
        yield wrong(check, "GATEHOUSE_MASTER_KEY is not set; a store on a server needs it", todo)
    if config.data_dir is None:
        return
    path = config.data_dir / KEY_FILE
    if path.exists():
        yield _key_file(path)
    elif config.store_path is not None and config.store_path.exists():
        yield wrong(
            check,
            f"{path} is not there, but the database is: its credentials do not open",
            "Restore the file from your backup, or set GATEHOUSE_MASTER_KEY to the key.",
        )
    else:
        yield good(check, f"{path}: not yet; made at first start")


def _key_file(path: Path) -> Finding:
    from gateway.store.vault import parse_master_key

    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        parse_master_key(path.read_text("ascii"), str(path))
    except (OSError, UnicodeDecodeError) as exc:
        return wrong(
            "master key", f"{path}: cannot be read ({type(exc).__name__})", "Restore the file."
        )
    except ConfigError:
        return wrong(
            "master key", f"{path} holds no key of 64 hexadecimal digits", "Restore the file."
        )
    if mode & 0o077:
        return wrong(
            "master key",
            f"{path} has mode {mode:04o}: others may read it",
            f"`chmod 600 {path}`; if somebody did read it, all credentials are to be renewed.",
        )
    return good("master key", f"{path}, mode {mode:04o}")


# ── profile files ─────────────────────────────────────────────────────────────────────────────


def profiles(config: Config) -> Iterator[Finding]:
    """Each file's errors, twins included, and files that tell a secret to everybody."""
    from gateway.opening import VALIDATORS
    from gateway.profiles import read_profiles

    check = "profiles"
    files, errors = read_profiles(config.profiles_dir, validators=VALIDATORS)
    for error in errors:
        yield wrong(check, str(error), "Until then the profile stays as it last was, if it was.")
    for file in files:
        if file.provision_secret is not None and _tells_others(file.path):
            yield doubtful(
                check,
                f"{file.path} may be read by other users of this machine",
                f"If the secret stands in it: `chmod 600 {file.path}`, or take it from the "
                "environment.",
            )
    if files:
        yield good(check, f"{len(files)} usable in {config.profiles_dir}")
    elif not errors:
        yield doubtful(
            check,
            f"no files in {config.profiles_dir}",
            "Put one there, or use `gatehouse profile add`; without one no device is admitted.",
        )


def _tells_others(path: Path) -> bool:
    """A secret may come from the environment; only one in the file itself is told by it."""
    import tomllib

    data = tomllib.loads(path.read_text("utf-8-sig"))
    literal = isinstance(data.get("provision_secret"), str)
    return literal and bool(path.stat().st_mode & 0o044)


# ── ports ─────────────────────────────────────────────────────────────────────────────────────


def ports(config: Config) -> Iterator[Finding]:
    """Whether each address can be listened on, or a server of ours does so already."""
    ours = config.http.enabled and bool(config.http.port) and _asks_ready(config.http)
    plain = (
        ("http", config.http, socket.SOCK_STREAM),
        ("mqtt", config.mqtt, socket.SOCK_STREAM),
        ("coap", config.coap, socket.SOCK_DGRAM),
        ("blynk_tcp", config.blynk_tcp, socket.SOCK_STREAM),
    )
    secure = (
        ("https", config.https, socket.SOCK_STREAM),
        ("mqtts", config.mqtts, socket.SOCK_STREAM),
        ("coaps", config.coaps, socket.SOCK_DGRAM),
    )
    wires: tuple[tuple[str, _Listening, socket.SocketKind], ...] = plain
    if has_certificate(config):
        wires += secure
    for name, settings, kind in wires:
        if settings.enabled:
            yield _port(name, settings, kind, ours=ours)


def _port(
    name: str,
    settings: _Listening,
    kind: socket.SocketKind,
    *,
    ours: bool,
) -> Finding:
    check, where = f"{name} port", f"{settings.host}:{settings.port}"
    if not settings.port:
        return good(check, f"{settings.host}: a free one is picked at start")
    trouble = _cannot_bind(settings.host, settings.port, kind)
    if trouble is None:
        return good(check, f"{where} is free")
    if trouble == errno.EADDRINUSE and ours:
        return good(check, f"{where} is served by Gatehouse, which says it is ready")
    another = f"choose another with GATEHOUSE_{name.upper()}_PORT"
    if trouble == errno.EADDRINUSE:
        flag = "u" if kind is socket.SOCK_DGRAM else "t"
        return wrong(
            check,
            f"{where} is in use, and no ready Gatehouse answers at the HTTP port",
            f"`ss -ln{flag}p | grep {settings.port}` shows by whom; stop that, or {another}.",
        )
    if trouble == errno.EACCES:
        return wrong(check, f"{where} is reserved for root", f"{another.capitalize()}.")
    return wrong(
        check,
        f"{where} cannot be had ({os.strerror(trouble)})",
        f"Set [{name}] host to an address of this machine, or to 0.0.0.0.",
    )


def _cannot_bind(host: str, port: int, kind: socket.SocketKind) -> int | None:
    """The error number of binding there, or None when it can be."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=kind, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            if kind is socket.SOCK_STREAM:
                # As a server does: a connection that just ended does not occupy the port.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except OSError as exc:
        return exc.errno or errno.EINVAL
    return None


def _asks_ready(settings: HttpSettings) -> bool:
    """Whether a gateway at the HTTP port says that it is ready."""
    import http.client

    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    connection = http.client.HTTPConnection(
        local.get(settings.host, settings.host), settings.port, timeout=_ASK_S
    )
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status == 200 and b'"ready"' in answer.read(4096)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
