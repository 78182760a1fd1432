"""The rows of Blynk's ways: tokens issued, claims over HTTP, log-ins over MQTT that claim.

Each run also lets devices be born by ThingsBoard's way, in a fresh gateway on the same processor,
and gives the ratio: the machine's mood is in both. Bounds on how many tokens wait, and on how often
the Platform API is asked, are lifted; all else is as by default.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from full_store import count
from generators import GeneratorError, Load
from lab import Figures, Lab, measured
from stored import count_tickets, issue

import gateway
from gateway.simulator.processes import Server

HTTP_AT_ONCE, MQTT_AT_ONCE = 256, 128
MOST_PER_S = 12_000
"""More claims than anybody answers."""
TEMPLATE = "TMPLbench0001"
PROFILE = f"""
provision_type = "DISABLED"
[blynk]
template_id = "{TEMPLATE}"
metadata = [{{ name = "Location", default = "cellar" }}]
"""
UNBOUNDED = {"GATEHOUSE_BLYNK_MAX_TICKETS": "10000000", "GATEHOUSE_BLYNK_REQUESTS": ""}


@contextmanager
def blynk_gateway(lab: Lab) -> Iterator[tuple[Server, Path]]:
    """A fresh gateway with a template."""
    with tempfile.TemporaryDirectory(dir=lab.place) as fresh:
        profiles = Path(fresh) / "profiles"
        profiles.mkdir()
        (profiles / "meter.toml").write_text(PROFILE)
        with lab.gateway(Path(fresh), **UNBOUNDED) as (server, database):
            yield server, database


def issues(lab: Lab) -> Figures:
    """wrk ends in the middle of requests: so many more than it counted may be stored."""
    with blynk_gateway(lab) as (server, database):
        bearer = _bearer(server, database)

        def load() -> Load:
            port = server.ports["http"]
            told = lab.generators.issues_http(port, bearer, HTTP_AT_ONCE, lab.seconds)
            time.sleep(0.5)
            _check(told, count_tickets(database), spare=HTTP_AT_ONCE)
            return told

        figures = measured(f"Blynk tokens, HTTP, {HTTP_AT_ONCE} at once", server, load)
    return _beside(figures, births_http(lab))


def claims_http(lab: Lab) -> Figures:
    with blynk_gateway(lab) as (server, database):
        tokens = _tokens(lab, database)

        def load() -> Load:
            port = server.ports["http"]
            told = lab.generators.claims_http(port, tokens, TEMPLATE, HTTP_AT_ONCE, lab.seconds)
            time.sleep(0.5)
            _check(told, count(database), spare=HTTP_AT_ONCE)
            return told

        figures = measured(f"Blynk claims, HTTP, {HTTP_AT_ONCE} at once", server, load)
    return _beside(figures, births_http(lab))


def claims_mqtt(lab: Lab) -> Figures:
    """A connection for each device, from TCP to the acknowledgement of `info/mcu`."""
    with blynk_gateway(lab) as (server, database):
        tokens = _tokens(lab, database)

        def load() -> Load:
            port = server.ports["mqtt"]
            told = lab.generators.claims_mqtt(port, tokens, TEMPLATE, MQTT_AT_ONCE, lab.seconds)
            _check(told, count(database))
            return told

        figures = measured(f"Blynk log-ins that claim, MQTT, {MQTT_AT_ONCE} at once", server, load)
    return _beside(figures, births_mqtt(lab))


# ── what they stand beside ────────────────────────────────────────────────────────────────────


def births_http(lab: Lab) -> Figures:
    return _births(
        lab,
        f"ThingsBoard births, HTTP, {HTTP_AT_ONCE} at once",
        lambda to: lab.generators.births_http(to.ports["http"], HTTP_AT_ONCE, lab.seconds),
    )


def births_mqtt(lab: Lab) -> Figures:
    return _births(
        lab,
        f"ThingsBoard births, MQTT, {MQTT_AT_ONCE} at once",
        lambda to: lab.generators.births_mqtt(to.ports["mqtt"], MQTT_AT_ONCE, lab.seconds),
    )


def _births(lab: Lab, title: str, load: Callable[[Server], Load]) -> Figures:
    with lab.gateway() as (server, _):
        return measured(title, server, lambda: load(server))


def _beside(figures: Figures, births: Figures) -> Figures:
    """Both, and their ratios: of the rates, and of the processor's time."""
    ours, theirs = list(figures.values()), list(births.values())
    name = next(iter(figures)).partition(",")[0]
    return {
        **figures,
        **births,
        f"{name} per birth": ours[0] / theirs[0],
        f"{name}, the processor's time per that of a birth": ours[2] / max(theirs[2], 1e-9),
    }


# ── what the load is made of ──────────────────────────────────────────────────────────────────


def _bearer(server: Server, database: Path) -> str:
    """The access token of a new OAuth client."""
    environ = {
        **os.environ,
        "GATEHOUSE_STORE_URL": f"sqlite:{database}",
        "PYTHONPATH": str(Path(gateway.__file__).parents[1]),
    }
    command = (sys.executable, "-m", "gateway", "oauth-client", "add", "bench", "--json")
    made = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    told = json.loads(made.stdout)
    basic = base64.b64encode(f"{told['client_id']}:{told['client_secret']}".encode()).decode()
    url = f"http://127.0.0.1:{server.ports['http']}/oauth2/token?grant_type=client_credentials"
    with urlopen(Request(url, b"", {"Authorization": f"Basic {basic}"}), timeout=10) as answer:
        return str(json.load(answer)["access_token"])


def _tokens(lab: Lab, database: Path) -> Path:
    """A file of more tokens than can be claimed in the time."""
    wanted = int(MOST_PER_S * max(1, round(lab.seconds)))
    path = database.with_suffix(".tokens")
    path.write_text("".join(f"{token}\n" for token in asyncio.run(issue(database, wanted))))
    return path


def _check(told: Load, stored: int, spare: int = 0) -> None:
    if not told.answered <= stored <= told.answered + spare:
        raise GeneratorError(f"{told.answered} were answered, {stored} are in the store")


EXPERIMENTS: dict[str, list[Callable[[Lab], Figures]]] = {
    "blynk-issue": [issues],
    "blynk-http": [claims_http],
    "blynk-mqtt": [claims_mqtt],
}
"""By the name after `--only`."""
