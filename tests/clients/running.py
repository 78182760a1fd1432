"""A gateway process: how it is set up, and what operators and tests ask of it."""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import certs

ROOT = Path(__file__).parents[2]
CROWD = 20
"""Requests sent at once for one name."""

PROFILES = {
    "create": "ALLOW_CREATE_NEW_DEVICES",
    "pre-provisioned": "CHECK_PRE_PROVISIONED_DEVICES",
    "disabled": "DISABLED",
}
FACTORY = """
provision_type = "X509_CERTIFICATE_CHAIN"
[chain]
certificate = { file = "acme.pem" }
pattern = "^(f-.+)$"
create = true
"""
TEMPLATE = "TMPLmeter0001"
METER = f"""
provision_type = "DISABLED"
[blynk]
template_id = "{TEMPLATE}"
device_name = "Meter {{id}}"
datastreams = [
  {{ pin = 0, name = "Switch", type = "integer", min = 0, max = 1, default = 0 }},
  {{ pin = 1, name = "temperature" }},
  {{ pin = 2, name = "Note", type = "string", key = "note" }},
]
metadata = [{{ name = "Location", default = "cellar" }}, {{ name = "Hotspot Name" }}]
events = [{{ code = "overheated" }}]
"""
"""A profile that is a template of Blynk's."""
FAILURE = {"errorMsg": "Failed to provision device!", "status": "FAILURE"}

Answer = dict[str, Any]


@dataclass(frozen=True)
class RunningGateway:
    """A gateway process: its ports, the pairs of its profiles, and what reached its store."""

    http: int
    mqtt: int
    coap: int
    https: int
    mqtts: int
    coaps: int
    blynk_tcp: int
    pairs: dict[str, tuple[str, str]]
    database: Path
    environ: dict[str, str]
    factory: certs.Authority
    """The profile `factory` believes it: who is called f-… in a certificate of it is a device."""

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def coap_url(self) -> str:
        return f"coap://127.0.0.1:{self.coap}"

    @property
    def https_url(self) -> str:
        return f"https://127.0.0.1:{self.https}"

    @property
    def coaps_url(self) -> str:
        return f"coaps://127.0.0.1:{self.coaps}"

    @property
    def administrator(self) -> tuple[str, str]:
        """The e-mail address and the password of the first administrator."""
        return "admin@localhost", self.environ["GATEHOUSE_ADMIN_PASSWORD"]

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to a POST of JSON; None when it has no body."""
        asked = Request(f"{self.http_url}{path}", json.dumps(body).encode())
        with urlopen(asked, timeout=10) as reply:
            told = reply.read()
        return json.loads(told) if told else None

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.database.parents[1] / "log").read_text()

    @property
    def ca(self) -> str:
        """The file of the authority that signed the gateway's own certificate."""
        return str(self.database.parent / "tls" / "lab-ca.pem")

    def request(self, name: str | None = None, *, profile: str = "create", **more: Any) -> Answer:
        """A provisioning request with the right key and secret of `profile`."""
        key, secret = self.pairs[profile]
        asked = {"provisionDeviceKey": key, "provisionDeviceSecret": secret, **more}
        return asked if name is None else {"deviceName": name, **asked}

    def wrong_request(self, name: str) -> Answer:
        """A provisioning request with the right key and a wrong secret."""
        return {**self.request(name), "provisionDeviceSecret": "not-the-secret"}

    def operate(self, *args: str) -> str:
        """Run a `gatehouse` command on the store of the running gateway; what it printed."""
        return operate(self.environ, self.database.parent, *args)

    def rpc(self, name: str, method: str, params: Any = None) -> Future[Any]:
        """Call a method of a device, as an operator does; the future holds its answer."""
        given = () if params is None else (json.dumps(params),)
        caller = ThreadPoolExecutor(1)
        answer = caller.submit(
            lambda: json.loads(self.operate("device", "rpc", name, method, *given))
        )
        caller.shutdown(wait=False)
        return answer

    def share(self, name: str, **values: Any) -> None:
        """Set shared attributes of a device, as an operator does."""
        pairs = (f"{key}={json.dumps(value)}" for key, value in values.items())
        self.operate("device", "attributes", "set", name, *pairs)

    def offer_firmware(self, file: Path, title: str, version: str, device: str) -> None:
        """Add a firmware and assign it to a device, as an operator does."""
        self.operate("firmware", "add", str(file), "--title", title, "--version", version)
        self.operate("firmware", "assign", title, version, "--device", device)

    def device(self, name: str) -> Answer:
        """What `gatehouse device show` tells of a device."""
        told: Answer = json.loads(self.operate("device", "show", name, "--json"))
        return told

    def token(self, name: str, **more: Any) -> str:
        """The access token of a new device."""
        return self.succeeded(self.provision(name, **more))

    def provision(self, name: str, **more: Any) -> Answer:
        """The answer to a new device, over plain HTTP."""
        asked = json.dumps(self.request(name, **more)).encode()
        with urlopen(Request(f"{self.http_url}/api/v1/provision", asked), timeout=10) as reply:
            told: Answer = json.load(reply)
        assert told["status"] == "SUCCESS", told
        return told

    def pre_provision(self, name: str) -> None:
        """Let `name` wait for its one claim, as an operator does while the gateway runs."""
        self.operate("device", "add", "--profile=pre-provisioned", name)

    def readings(self, name: str) -> dict[str, Any]:
        """The latest readings of a device, read from the store beside the running gateway."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as store:
            rows = store.execute(
                "SELECT key, coalesce(whole, real, text) FROM latest_reading"
                " JOIN device ON device.id = device_id WHERE device.name = ?",
                (name,),
            ).fetchall()
        return dict(rows)

    def wait_for_readings(
        self, name: str, *keys: str, within_s: float = 5, **values: Any
    ) -> dict[str, Any]:
        """The same, once all of `keys` are there, and `values` as given: for readings sent without
        acknowledgement."""
        give_up = time.monotonic() + within_s
        while True:
            found = self.readings(name)
            there = found.keys() >= set(keys) and found.items() >= values.items()
            if there or time.monotonic() > give_up:
                return found
            time.sleep(0.02)

    def client_attributes(self, token: str) -> dict[str, Any]:
        """The client attributes of the device with that access token, asked over HTTP."""
        with urlopen(f"{self.http_url}/api/v1/{token}/attributes", timeout=10) as reply:
            told: dict[str, Any] = json.load(reply).get("client", {})
        return told

    def knows(self, token: str) -> bool:
        """Whether an access token opens the device API."""
        asked = Request(f"{self.http_url}/api/v1/{token}/telemetry", b"{}", method="POST")
        try:
            with urlopen(asked, timeout=10):
                return True
        except HTTPError as refused:
            with refused:
                if refused.code != 401:
                    raise
            return False

    def succeeded(self, answer: Answer) -> str:
        """Check a SUCCESS answer with an access token that works; give back the token."""
        assert answer["status"] == "SUCCESS", answer
        assert answer["credentialsType"] == "ACCESS_TOKEN"
        token: str = answer["credentialsValue"]
        assert self.knows(token)
        return token

    def gave_to_one(self, answers: list[Answer]) -> None:
        """Check what a crowd got that asked for one name: one token, for the others a FAILURE."""
        won = [answer for answer in answers if answer != FAILURE]
        assert len(answers) == CROWD
        assert len(won) == 1, won
        self.succeeded(won[0])


def operate(environ: dict[str, str], folder: Path, *args: str) -> str:
    """Run a `gatehouse` command; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *args],
        env=environ,
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done
    return done.stdout


def environ_of(
    folder: Path, pairs: dict[str, tuple[str, str]], factory: certs.Authority
) -> dict[str, str]:
    """The environment of the gateway; writes the profile files it points to."""
    profiles = folder / "profiles"
    profiles.mkdir()
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GATEHOUSE_")},
        "PYTHONPATH": str(ROOT),
        "GATEHOUSE_STORE_URL": f"sqlite:{folder / 'data' / 'gate.db'}",
        "GATEHOUSE_PROFILES_DIR": str(profiles),
        "GATEHOUSE_LOG_FORMAT": "json",
        "GATEHOUSE_ADMIN_PASSWORD": secrets.token_hex(10),
    }
    environ["GATEHOUSE_BLYNK_TCP_ENABLED"] = "true"
    for wire in ("HTTP", "MQTT", "COAP", "HTTPS", "MQTTS", "COAPS", "BLYNK_TCP"):
        environ[f"GATEHOUSE_{wire}_PORT"] = "0"
        environ[f"GATEHOUSE_{wire}_HOST"] = "127.0.0.1"
    for name, (key, secret) in pairs.items():
        variable = "TEST_" + name.replace("-", "_").upper()
        environ[f"{variable}_KEY"], environ[f"{variable}_SECRET"] = key, secret
        (profiles / f"{name}.toml").write_text(
            f'provision_type = "{PROFILES[name]}"\n'
            f'provision_key = {{ env = "{variable}_KEY" }}\n'
            f'provision_secret = {{ env = "{variable}_SECRET" }}\n'
        )
    (profiles / "acme.pem").write_text(factory.pem)
    (profiles / "factory.toml").write_text(FACTORY)
    (profiles / "meter.toml").write_text(METER)
    return environ


def ready_ports(process: subprocess.Popen[str], log_path: Path) -> dict[str, int]:
    """Wait for the ready line and read the ports from it."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("gatehouse ready "), f"{line}\n{log_path.read_text()}"
    return {name: int(port) for name, port in re.findall(r"(\w+)=(\d+)", line)}
