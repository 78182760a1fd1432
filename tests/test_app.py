"""The composed product: opening, reloading, saying what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import certs
import pytest

from gateway.app import Gateway, certificate_readable
from gateway.config import Config, load_config
from gateway.core.errors import ConfigError
from gateway.opening import open_store

DEMO = """
provision_type = "ALLOW_CREATE_NEW_DEVICES"
provision_key = "{key}"
provision_secret = "{secret}"
"""
BODY = '{{"deviceName":"{name}","provisionDeviceKey":"{key}","provisionDeviceSecret":"{secret}"}}'


def settings(folder: Path, **more: str) -> Config:
    (folder / "profiles").mkdir(exist_ok=True)
    environ = {
        "GATEHOUSE_STORE_URL": f"sqlite:{folder}/data/g.db",
        "GATEHOUSE_PROFILES_DIR": f"{folder}/profiles",
        **{f"GATEHOUSE_{wire}_PORT": "0" for wire in ("HTTP", "MQTT", "COAP")},
        **{f"GATEHOUSE_{wire}_HOST": "127.0.0.1" for wire in ("HTTP", "MQTT", "COAP")},
        **more,
    }
    return load_config(None, environ)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    config = settings(tmp_path)
    write(tmp_path, "first-key", "first-secret")
    async with open_store(config, {}) as store:
        running = Gateway(config, store)
        await running.start()
        yield running
        await running.stop(1.0)


def write(folder: Path, key: str, secret: str) -> None:
    (folder / "profiles" / "demo.toml").write_text(DEMO.format(key=key, secret=secret))


async def provision(gateway: Gateway, name: str, key: str, secret: str) -> str:
    assert gateway.http is not None
    url = f"http://127.0.0.1:{gateway.http.port}/api/v1/provision"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=BODY.format(name=name, key=key, secret=secret)) as answer,
    ):
        return str((await answer.json(content_type=None))["status"])


async def until(condition, timeout_s: float = 8.0) -> bool:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while asyncio.get_running_loop().time() < deadline:
        if await condition():
            return True
        await asyncio.sleep(0.1)
    return False


async def test_a_changed_profile_counts_without_a_restart(gateway, tmp_path):
    """A new secret in the file is taken and the old one refused, while serving."""
    assert await provision(gateway, "a", "first-key", "first-secret") == "SUCCESS"
    write(tmp_path, "first-key", "second-secret")

    async def taken():
        return await provision(gateway, "b", "first-key", "second-secret") in ("SUCCESS", "FAILURE")

    assert await until(taken)
    assert await provision(gateway, "c", "first-key", "first-secret") == "NOT_FOUND"


async def test_a_broken_profile_leaves_the_running_one(gateway, tmp_path):
    """A file that cannot be used changes nothing, and the error names it; mended, it counts."""
    (tmp_path / "profiles" / "demo.toml").write_text('provision_type = "ALLOW_CREATE')

    async def told():
        return bool(gateway.profile_errors)

    assert await until(told)
    assert "demo.toml:1" in str(gateway.profile_errors[0])
    assert await provision(gateway, "a", "first-key", "first-secret") == "SUCCESS"
    write(tmp_path, "mended-key", "mended-secret")

    async def mended():
        return not gateway.profile_errors

    assert await until(mended)
    assert await provision(gateway, "b", "mended-key", "mended-secret") == "SUCCESS"


async def test_ready_once_all_listen_and_not_while_draining(gateway):
    """readyz is 200 while serving, and the drained gateway accepts nothing."""
    assert gateway.http is not None
    url = f"http://127.0.0.1:{gateway.http.port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(url + "/readyz") as answer:
            assert answer.status == 200
        async with session.get(url + "/healthz") as answer:
            assert answer.status == 200
    await gateway.stop(1.0)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(url + "/readyz")


@pytest.mark.parametrize("wire", ["HTTP", "MQTT", "COAP"])
async def test_a_taken_port_is_explained(tmp_path, wire):
    """The error names the wire, the address, and the setting that helps."""
    kind = socket.SOCK_DGRAM if wire == "COAP" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        config = settings(tmp_path, **{f"GATEHOUSE_{wire}_PORT": str(port)})
        async with open_store(config, {}) as store:
            running = Gateway(config, store)
            with pytest.raises(ConfigError, match=f"GATEHOUSE_{wire}_PORT") as caught:
                await running.start()
            assert str(port) in str(caught.value)
            await running.stop(1.0)


async def test_a_gateway_with_no_wire_is_refused(tmp_path):
    """With everything switched off there is nothing to serve, and the error says what to enable."""
    off = {f"GATEHOUSE_{wire}_ENABLED": "false" for wire in ("HTTP", "MQTT", "COAP")}
    config = settings(tmp_path, **off)
    async with open_store(config, {}) as store:
        with pytest.raises(ConfigError, match="enabled = true"):
            await Gateway(config, store).start()


async def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    """Where a file is in the way of the data folder, the error says so and what to do."""
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(ConfigError, match="data"):
        async with open_store(settings(tmp_path), {}):
            raise AssertionError("opened")


async def test_a_file_that_is_no_database_is_explained(tmp_path):
    """A store that is something else is named, and left as it was."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "g.db"
    path.write_bytes(b"no database " * 1000)
    (tmp_path / "data" / "master.key").write_text("ab" * 32)
    with pytest.raises(ConfigError, match="cannot be opened"):
        async with open_store(settings(tmp_path), {}):
            raise AssertionError("opened")
    assert path.read_bytes().startswith(b"no database ")


@pytest.mark.parametrize("text", ["testHash", "", "é", "TUlJ"])
def test_unreadable_certificates(text):
    """Text that is no certificate is told apart from one, and nothing is raised."""
    assert not certificate_readable(text)


def test_readable_certificate():
    """A real certificate's base64 DER is readable."""
    from base64 import b64encode
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    assert certificate_readable(b64encode(made.public_bytes(serialization.Encoding.DER)).decode())


STARTED = """
import asyncio, json, os, sys
from gateway.app import Gateway
from gateway.config import load_config
from gateway.opening import open_store

async def main():
    config = load_config(None, os.environ)
    async with open_store(config, {}) as store:
        gateway = Gateway(config, store)
        await gateway.start()
        print(json.dumps([[name for name, _ in gateway.listeners], list(sys.modules)]))
        await gateway.stop(1.0)

asyncio.run(main())
"""
MACHINERY = {
    *("OpenSSL", "re2", "cryptography.x509", "cryptography.x509.ocsp"),
    "cryptography.hazmat.primitives.serialization.pkcs7",
    *(f"gateway.core.pki.{name}" for name in ("authority", "chain", "csr", "issuer", "statements")),
}

AT_THE_GATE = {
    *("cbor2", "re2", "zoneinfo"),
    *("gateway.dialects.thingsboard.cbor", "gateway.dialects.thingsboard.senml"),
}
"""What few profiles and few devices need."""


def started(folder: Path, **more: str) -> tuple[list[str], set[str]]:
    """Wires and modules of a gateway that just started, in a process of its own."""
    write(folder, "first-key", "first-secret")
    wires = ("HTTP", "MQTT", "COAP", "HTTPS", "MQTTS", "COAPS")
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")},
        "GATEHOUSE_STORE_URL": f"sqlite:{folder}/data/g.db",
        "GATEHOUSE_PROFILES_DIR": f"{folder}/profiles",
        **{f"GATEHOUSE_{wire}_PORT": "0" for wire in wires},
        **{f"GATEHOUSE_{wire}_HOST": "127.0.0.1" for wire in wires},
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", STARTED],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    names, modules = json.loads(done.stdout.splitlines()[-1])
    return names, set(modules)


def test_a_gateway_in_the_open_starts_without_the_machinery_of_certificates(tmp_path):
    """What takes time and memory is loaded when a certificate is wanted, not before."""
    (tmp_path / "profiles").mkdir()
    wires, modules = started(tmp_path)
    assert wires == ["http", "mqtt", "coap"]
    assert modules.isdisjoint(MACHINERY)
    assert modules.isdisjoint(AT_THE_GATE)


ADMINISTRATION = {
    *("argon2", "jwt", "prometheus_client", "opentelemetry", "gateway.administration"),
    *("gateway.admin.openapi", "gateway.dialects.thingsboard.admin", "gateway.core.importing"),
}


def test_a_gateway_starts_without_the_administration(tmp_path):
    """It is loaded when somebody first asks for it: no device waits for that."""
    (tmp_path / "profiles").mkdir()
    _, modules = started(tmp_path)
    assert modules.isdisjoint(ADMINISTRATION)


def test_a_gateway_with_a_certificate_starts_with_the_machinery(tmp_path):
    """No device waits for what the first certificate would otherwise load."""
    (tmp_path / "profiles").mkdir()
    certificate, key = certs.Authority("Root").server("localhost").files(tmp_path, "server")
    wires, modules = started(
        tmp_path,
        GATEHOUSE_TLS_CERTIFICATE_FILE=str(certificate),
        GATEHOUSE_TLS_KEY_FILE=str(key),
    )
    assert wires == ["http", "mqtt", "coap", "https", "mqtts", "coaps"]
    assert modules >= MACHINERY
