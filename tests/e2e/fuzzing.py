"""A gateway in a process of its own, and schemathesis asking it everything its document offers.

    python tests/e2e/fuzzing.py [--minutes 10]

What is looked for: answers 5xx, and statuses, media types and bodies that the document does not
know. The token of a device goes with the device API, that of the first administrator with the rest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.simulator.processes import FleetPair, gateway_process

ADMINISTRATOR = "admin@localhost"
PASSWORD = "a password of the tests"
DEVICES, CUSTOMERS = 20, 5

SETTINGS = {
    "GATEHOUSE_LOG_LEVEL": "warning",
    "GATEHOUSE_ADMIN_PASSWORD": PASSWORD,
    "GATEHOUSE_RPC_TIMEOUT_S": "0.05",
    # Else whoever makes up secrets is soon told nothing but to wait.
    "GATEHOUSE_PROVISIONING_WRONG_FREE": "10000",
}
CHECKS = (
    *("not_a_server_error", "status_code_conformance"),
    *("content_type_conformance", "response_schema_conformance"),
)
LEFT_OUT = ("/api/auth/logout", "/api/gatehouse/secrets/{id}/quarantine")
"""They would end the session of all that follows, and shut their devices out."""
MEANT = ("2xx", "3xx", "4xx", "501", "504")
"""No fault: 501 is what EST does not offer, 504 a device that does not answer a call."""
WAIT_MS = 20
"""How long a long poll waits."""
KNOWN = 0.7
"""How often a request is about something that is there."""


class Target:
    """A running gateway: its address, the headers of an administrator, and a device's token."""

    def __init__(self, url: str, pair: FleetPair) -> None:
        self.url = url
        self.headers: dict[str, str] = {}
        self.document = self.ask("/openapi.json")
        self.headers = self._log_in()
        self.tokens = [self._provision(pair, number) for number in range(DEVICES)]
        self.known = self._what_there_is()

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A GET, or with a body a POST."""
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", **self.headers},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def _provision(self, pair: FleetPair, number: int) -> str:
        asked = {
            "deviceName": f"fuzzed-{number}",
            "provisionDeviceKey": pair.key.reveal(),
            "provisionDeviceSecret": pair.secret.reveal(),
        }
        return self.ask("/api/v1/provision", asked)["credentialsValue"]

    def _log_in(self) -> dict[str, str]:
        if "/api/auth/login" not in self.document["paths"]:
            return {}
        login = {"username": ADMINISTRATOR, "password": PASSWORD}
        return {"X-Authorization": f"Bearer {self.ask('/api/auth/login', login)['token']}"}

    def _what_there_is(self) -> dict[str, list[Any]]:
        """Values for parameters, by where they stand."""
        devices = self._ids("/api/tenant/devices")
        for number in range(CUSTOMERS):
            self.ask("/api/customer", {"title": f"Customer {number}"})
        user = self.ask("/api/auth/user")
        return {
            "path.token": self.tokens,
            "path.deviceId": devices,
            "path.entityId": devices,
            "path.entityType": ["DEVICE"],
            "path.scope": ["SERVER_SCOPE", "SHARED_SCOPE", "CLIENT_SCOPE"],
            "path.customerId": self._ids("/api/customers"),
            "path.deviceProfileId": self._ids("/api/deviceProfileInfos"),
            "path.tenantId": [user["tenantId"]["id"]],
            "path.authority": ["1"],
            "path.id": ["1", "2"],
            "query.page": [0, 1],
            "query.pageSize": [1, 10, 100],
        }

    def _ids(self, path: str) -> list[str]:
        page = self.ask(f"{path}?pageSize=100&page=0")
        return [one["id"]["id"] for one in page["data"]]


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    pair = FleetPair.random()
    with gateway_process(folder, pair, settings=SETTINGS) as server:
        yield Target(f"http://127.0.0.1:{server.ports['http']}", pair)


def fuzz(running: Target, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis; its status is 0 when it found nothing."""
    configuration = folder / "schemathesis.toml"
    configuration.write_text(_configuration(running.known), encoding="utf-8")
    left_out = (option for path in LEFT_OUT for option in ("--exclude-path", path))
    headers = (f"{name}:{value}" for name, value in running.headers.items())
    return subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file"),
            *(str(configuration), "--no-color", "run", running.url + "/openapi.json"),
            *("--checks", ",".join(CHECKS), "--generation-database", "none"),
            *("--warnings", "off", "--request-timeout", "10", "--no-shrink"),
            *left_out,
            *(word for header in headers for word in ("--header", header)),
            *options,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def _configuration(known: Mapping[str, list[Any]]) -> str:
    """Most requests are about what there is, and no long poll is long."""
    words = ["[dictionaries]"]
    words += [f"{_word(name)} = {{ values = {json.dumps(known[name])} }}" for name in known]
    words += ["[checks]", f"not_a_server_error.expected-statuses = {json.dumps(MEANT)}"]
    words += ["[parameters]", f'"query.timeout" = {WAIT_MS}']
    words += [
        f'"{name}" = {{ dictionary = "{_word(name)}", probability = {KNOWN} }}' for name in known
    ]
    return "\n".join(words)


def _word(name: str) -> str:
    return name.replace(".", "_")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=10)
    seconds = str(60 * parser.parse_args().minutes)
    with tempfile.TemporaryDirectory() as name, target(Path(name)) as running:
        done = fuzz(
            running,
            Path(name),
            *("--phases", "coverage,fuzzing,stateful", "--max-time", seconds),
            *("--continue-on-failure", "--max-examples", "100000"),
        )
    print(done.stdout, done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
