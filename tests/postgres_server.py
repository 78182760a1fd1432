"""A PostgreSQL server of our own: in a folder that goes with it, on a socket nobody else sees."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

PASSWORD = "hunter2@home"
_URL_PASSWORD = "hunter2%40home"
_SETTINGS = {
    "listen_addresses": "''",
    "fsync": "off",  # nobody cuts the power of a test
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "deadlock_timeout": "50ms",
}


def find_programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; Debian keeps them off the path."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    return newest.parent if newest else None


class PostgresServer:
    """One throw-away server. `stop` and `start` it as often as a test needs."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="gatehouse-pg-"))
        self._user = _somebody()
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        self._numbers = itertools.count(1)
        self.put_back = ""
        """How the database of the tests becomes what it was, once there is one."""
        (self._folder / "password").write_text(PASSWORD)
        (self._folder / "password").chmod(0o644)
        self._run(
            *("initdb", "-D", "data", "-U", "gate", "-A", "scram-sha-256"),
            *("--pwfile", "password", "-E", "UTF8", "--locale", "C", "--no-sync"),
        )

    def start(self) -> None:
        settings = _SETTINGS | {"unix_socket_directories": str(self._folder)}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._run("pg_ctl", "-D", "data", "-w", "-t", "30", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        """At once, as in a crash: what was committed is recovered at the next start."""
        self._run("pg_ctl", "-D", "data", "-w", "-t", "30", "-m", "immediate", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def url(self, database: str) -> str:
        return f"postgresql://gate:{_URL_PASSWORD}@/{database}?host={self._folder}"

    def new_name(self) -> str:
        return f"test_{next(self._numbers)}"

    def _run(self, program: str, *args: str) -> None:
        who = {}
        if self._user is not None:
            who = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        subprocess.run(
            [self._programs / program, *args],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=60,
            **who,
        )


def _somebody() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    names = {one.pw_name: one for one in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]
