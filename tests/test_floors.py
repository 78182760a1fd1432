"""Who may import whom. The one structure that decays silently, so it is a test."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gateway"

FLOORS = {
    "core": {"core"},
    "wire": {"wire", "core"},
    "dialects": {"dialects", "core", "wire"},
    "transports": {"transports", "wire", "core.model", "core.errors"},
    "store": {"store", "core"},
    "sinks": {"sinks", "core.model", "core.ports"},
    "admin": {"admin", "core", "wire"},
    "simulator": {
        "simulator",
        "core.model",
        "core.errors",
        "core.tokens",
        "transports.mqtt",
        "dialects.thingsboard",  # its protobuf schema
    },
    "config": {"settings", "toml_lines", "core.errors", "core.spelling"},
    "settings": {"setting_values", "toml_lines"},
    "setting_values": set(),
    "profiles": {
        "toml_lines",
        "profile_certificates",
        "profile_policies",
        "core.errors",
        "core.model",
        "core.pki.model",
        "core.spelling",
    },
    "profile_policies": {
        "toml_lines",
        "policy_proofs",
        "core.model",
        "core.networks",
        "core.opening_hours",
        "core.spelling",
    },
    "policy_proofs": {
        "toml_lines",
        "core.giving",
        "core.model",
        "core.name_patterns",
        "core.names",
    },
    "policy_words": {
        "toml_lines",
        "profile_policies",
        "core.errors",
        "core.model",
        "core.spelling",
    },
    "profile_certificates": {"toml_lines", "core.errors", "core.model", "core.pki"},
    "log": {"core.model", "core.errors"},
    "toml_lines": {"core.errors", "core.limits", "core.spelling"},
    "passwords": {"core.errors", "core.model", "core.tokens"},
    "clock": set(),
    "metrics": {"core.births", "core.histogram", "core.model", "wire.meters"},
    "tracing": {"core.errors", "wire"},
}
"""Room → what it may import of ours. `app` and `cli` know everything."""

FOREIGN = {
    "core": {"msgspec", "structlog", "cryptography", "OpenSSL", "re2"},
    "wire": {"msgspec", "structlog"},
    "dialects": {"cbor2", "msgspec", "structlog", "google", "grpc_tools", "jwt"},
    "transports": {
        "aiohttp",
        "aiocoap",
        "amqtt",
        "structlog",
        "msgspec",
        "OpenSSL",
        "cryptography",
    },
    "store": {"aiosqlite", "asyncpg", "msgspec", "structlog", "cryptography", "mmh3"},
    "sinks": {"aiohttp", "msgspec", "structlog"},
    "passwords": {"argon2"},
    "admin": {"msgspec"},
    "metrics": {"msgspec", "prometheus_client"},
    "tracing": {"opentelemetry"},
}
"""Room → libraries of others it may import. None of them reaches for a socket or SQL elsewhere."""


def imports(path: Path):
    """Module names imported anywhere in a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def files(room: str):
    single = PACKAGE / f"{room}.py"
    found = [single] if single.exists() else sorted((PACKAGE / room).rglob("*.py"))
    return [path for path in found if not path.name.endswith("_pb2.py")]


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_imports_only_its_floors(room):
    """No room imports one it must not know."""
    allowed = tuple(f"gateway.{name}" for name in FLOORS[room])
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in files(room)
        for name in imports(path)
        if name.startswith("gateway.")
        and not (name + ".").startswith(tuple(f"{a}." for a in allowed))
    ]
    assert files(room)
    assert wrong == []


@pytest.mark.parametrize("room", FOREIGN)
def test_a_room_imports_only_its_libraries(room):
    """No room reaches for a library that belongs to another."""
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in files(room)
        for name in imports(path)
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names
        and top not in FOREIGN[room] | {"gateway"}
    ]
    assert wrong == []


def test_dialects_are_strangers():
    """No dialect imports another."""
    for folder in (PACKAGE / "dialects").iterdir():
        if folder.is_dir():
            for path in folder.rglob("*.py"):
                for name in imports(path):
                    if name.startswith("gateway.dialects."):
                        assert name.split(".")[2] == folder.name, path


def test_only_the_composition_root_reads_the_clock_and_the_environment():
    """Time and settings are handed in; the core asks nobody."""
    for path in (PACKAGE / "core").rglob("*.py"):
        text = path.read_text("utf-8")
        for word in ("datetime.now", "time.time", "os.environ", "import socket", "sqlite3"):
            assert word not in text, f"{path.name}: {word}"


@pytest.mark.parametrize("entrance", ["gateway.app", "gateway.cli.serve"])
def test_certificates_cost_nothing_before_the_first(entrance):
    """The libraries that read, judge and sign certificates are not loaded to begin with."""
    script = f"import sys, {entrance}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert entrance in loaded
    assert loaded.isdisjoint({"OpenSSL", "re2", "cryptography.x509", "gateway.core.pki.csr"})
