"""The examples of Blynk's kind, each run as its reader would run it, against a gateway."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from gateway.simulator.processes import FleetPair, Server, gateway_process

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
TEMPLATE = "TMPLexample01"
TOKEN = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{32}(?![A-Za-z0-9_-])")
LISTENER = {
    "GATEHOUSE_BLYNK_TCP_ENABLED": "true",
    "GATEHOUSE_BLYNK_TCP_HOST": "127.0.0.1",
    "GATEHOUSE_BLYNK_TCP_PORT": "0",
}
PORTS = {"http": "http", "mqtt": "mqtt", "blynk": "blynk_tcp"}
WAYS = tuple(PORTS)


@dataclass(frozen=True)
class Finished:
    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Cloud:
    """A gateway process with the shipped template, and an OAuth client of it."""

    server: Server
    folder: Path
    client: tuple[str, str] = field(repr=False)

    def address(self, way: str) -> str:
        return f"{way}://127.0.0.1:{self.server.ports[PORTS[way]]}"

    def run(self, script: str, *arguments: str, **environ: str) -> Finished:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("GATEHOUSE_")}
        done = subprocess.run(
            (sys.executable, "-W", "error", str(EXAMPLES / script), *arguments),
            env=plain | environ,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )
        assert not TOKEN.search(done.stdout + done.stderr), "a token was printed"
        return Finished(done.returncode, done.stdout, done.stderr)

    def play(self, scenario: str, way: str, *more: str, secret: str = "") -> Finished:
        """The set-up flow."""
        where = ("--gateway", self.address("http"), "--cloud", self.address(way))
        return self.run(
            "blynk_setup.py",
            "--scenario",
            scenario,
            *where,
            *more,
            GATEHOUSE_CLIENT_ID=self.client[0],
            GATEHOUSE_CLIENT_SECRET=secret or self.client[1],
        )

    def operate(self, *arguments: str) -> str:
        return operate(self.folder, *arguments)

    def rows(self, statement: str, *values: Any) -> list[Any]:
        database = self.folder / "data" / "gatehouse.db"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
            return store.execute(statement, values).fetchall()

    def hotspot(self, device: str) -> str:
        """The network that the device with that number told it has joined."""
        asked = "SELECT text FROM attribute WHERE device_id = ? AND key = 'Hotspot Name'"
        return str(self.rows(asked, device)[0][0])

    def temperatures(self, device: str) -> list[Any]:
        asked = "SELECT real FROM latest_reading WHERE device_id = ? AND key = 'temperature'"
        return self.rows(asked, device)


def operate(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        (sys.executable, "-m", "gateway", *arguments),
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "GATEHOUSE_STORE_URL": f"sqlite:{folder}/data/gatehouse.db",
            "GATEHOUSE_PROFILES_DIR": str(folder / "profiles"),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """In the end no token may be in what the gateway logged."""
    folder = tmp_path_factory.mktemp("cloud")
    (folder / "profiles").mkdir()
    shutil.copy(ROOT / "profiles" / "blynk.toml", folder / "profiles")
    (folder / "data").mkdir()
    with gateway_process(folder, FleetPair.random(), settings=LISTENER) as server:
        told = json.loads(operate(folder, "oauth-client", "add", "app", "--json"))
        yield Cloud(server, folder, (told["client_id"], told["client_secret"]))
    logged = (folder / "server.log").read_text()
    assert "Traceback" not in logged
    assert told["client_secret"] not in logged


# ── the set-up flow ───────────────────────────────────────────────────────────────────────────


def number_of(done: Finished) -> str:
    found = re.search(r"the device will be number (\d+)", done.out)
    assert found, done
    return found[1]


@pytest.mark.parametrize("way", WAYS)
def test_a_board_is_set_up(cloud: Cloud, way: str) -> None:
    """It is online, tells its network, and its reading is stored."""
    done = cloud.play("good", way)
    assert (done.status, done.err) == (0, ""), done
    number = number_of(done)
    assert f"app: device {number}: 0 ok" in done.out
    assert cloud.hotspot(number) == "home"
    assert cloud.temperatures(number) == [(21.5,)]


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        ("wrong-password", "722 wrong Wi-Fi credentials"),
        ("wrong-network", "720 network not found"),
        ("unreachable-cloud", "702 cloud not reachable"),
        ("bad-token", "703 invalid token"),
        ("bad-configuration", "700 bad configuration"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_a_mistake_costs_no_token(cloud: Cloud, scenario: str, code: str, way: str) -> None:
    """The board reports its code and is in set-up mode again; the same token is good then."""
    done = cloud.play(scenario, way)
    assert (done.status, done.err) == (0, ""), done
    number = number_of(done)
    wrong, right = (f"device {number}: {what}" for what in (code, "0 ok"))
    assert done.out.index(wrong) < done.out.index(right)
    assert cloud.temperatures(number) == [(21.5,)]


@pytest.mark.parametrize("way", WAYS)
def test_a_board_is_set_up_again(cloud: Cloud, way: str) -> None:
    """With a new token for the same device; the old one is good until then, and not after."""
    done = cloud.play("reprovision", way)
    assert (done.status, done.err) == (0, ""), done
    number = number_of(done)
    called = "cannot tell the device: press its button" if way == "http" else "was told to reconfig"
    assert called in done.out
    assert "the old token opens nothing any more" in done.out
    assert cloud.hotspot(number) == "guests"
    assert cloud.rows("SELECT count(*) FROM credentials WHERE device_id = ?", number) == [(1,)]


@pytest.mark.parametrize("way", WAYS)
def test_a_board_that_is_left_alone_goes_back(cloud: Cloud, way: str) -> None:
    """Reconfigure takes nothing from it: with the token it had it is online again."""
    done = cloud.play("abandoned", way)
    assert (done.status, done.err) == (0, ""), done
    assert f"device {number_of(done)} is back, with the token it had" in done.out


def test_a_wrong_client_is_told(cloud: Cloud) -> None:
    """In one sentence, and with status 1."""
    done = cloud.play("good", "http", secret="not-the-secret")
    assert done.status == 1, done
    assert "Client ID is not found or password is wrong." in done.err


# ── the board alone ───────────────────────────────────────────────────────────────────────────


class Board:
    """A board in a process of its own, and what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line)
            found = re.search(r"http://\S+", line)
            if found:
                self.url = found[0]
                break

    def ask(self, path: str, **query: str) -> tuple[int, Any]:
        try:
            with urlopen(f"{self.url}{path}?{urlencode(query)}", timeout=10) as reply:
                return reply.status, json.load(reply)
        except HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    def says(self, part: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if part in line:
                return line
        raise AssertionError(f"it ended without a line with {part!r}")


@contextmanager
def board_with(*arguments: str) -> Iterator[Board]:
    command = (sys.executable, "-W", "error", str(EXAMPLES / "blynk_board.py"), *arguments)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        alarm = threading.Timer(30, process.kill)
        alarm.start()
        try:
            yield Board(process)
        finally:
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=10)
            alarm.cancel()
        assert (process.returncode, complaints) == (0, "")


def test_a_board_tells_what_it_is() -> None:
    """The classic firmware's fields, and networks with theirs."""
    with board_with("--port", "0") as board:
        status, info = board.ask("/board_info.json")
        assert status == 200
        assert set(info) == {
            *("board", "tmpl_id", "fw_type", "fw_ver", "ssid", "bssid", "mac"),
            *("last_error", "wifi_scan", "static_ip"),
        }
        assert len(info["ssid"]) <= 31
        status, networks = board.ask("/wifi_scan.json")
        assert 0 < len(networks) <= 15
        assert all(set(one) == {"ssid", "bssid", "rssi", "sec", "ch"} for one in networks)
        assert board.ask("/index.php")[0] == 404


def test_a_board_proves_its_configuration() -> None:
    """A token of 32 characters and a network; what is wrong is 500, and its result 700."""
    right = {"ssid": "home", "pass": "x", "blynk": secrets.token_urlsafe(24)}
    invalid = (500, {"status": "error", "msg": "Configuration invalid"})
    with board_with("--port", "0") as board:
        for wrong in ({"blynk": "a" * 31}, {"blynk": "a" * 33}, {"ssid": ""}, {"port_ssl": "x"}):
            assert board.ask("/config", **(right | wrong)) == invalid
            assert board.ask("/board_info.json")[1]["last_error"] == 700
        saved = board.ask("/config", **right, save="1")
        assert saved == (200, {"status": "ok", "msg": "Configuration saved"})
        board.says("722")


def test_a_board_cuts_long_host_names() -> None:
    """After 33 characters, as the field is in the firmware."""
    given = {"ssid": "home", "pass": "12345678", "blynk": secrets.token_urlsafe(24)}
    with board_with("--port", "0", "--claim", "blynk") as board:
        host = "a" * 30 + ".invalid"
        told = board.ask("/config", **given, host=host, port_ssl="9")
        assert told == (200, {"status": "ok", "msg": "Trying to connect..."})
        assert board.says("connects to").strip().endswith(f"connects to {host[:33]}:9")


def test_firmware_without_a_template_does_not_start() -> None:
    done = subprocess.run(
        (sys.executable, str(EXAMPLES / "blynk_board.py"), "--template", "weather"),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    assert "does not start" in done.stderr


def test_a_board_remembers_over_a_restart(cloud: Cloud, tmp_path: Path) -> None:
    """What it was set up with is in its file, for its owner alone, until it is reset."""
    flash = tmp_path / "flash.json"
    issued = json.loads(cloud.operate("ticket", "issue", "--json"))
    arguments = ("--port", "0", "--claim", "mqtt", "--file", str(flash))
    given = {"ssid": "home", "pass": "12345678", "blynk": issued["token"], "host": "127.0.0.1"}
    with board_with(*arguments) as board:
        board.ask("/config", **given, port_ssl=str(cloud.server.ports["mqtt"]))
        board.says("is online")
        wait_for(flash)
    assert flash.stat().st_mode & 0o777 == 0o600
    with board_with(*arguments) as board:
        board.says("is online")
        cloud.operate("device", "reconfigure", f"Weather {issued['device_id']}")
        board.says("is in set-up mode")
        assert board.ask("/reset")[0] == 200
        assert not flash.exists()
        assert board.ask("/reboot")[0] == 200
        board.says("is in set-up mode")


def wait_for(path: Path) -> None:
    for _ in range(100):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} is not there")


# ── a shell ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.clients
def test_the_shell_session_onboards_a_device(cloud: Cloud, tmp_path: Path) -> None:
    """It is made, sends a value, and has another token afterwards; no token is printed."""
    if shutil.which("curl") is None:
        told = "curl is not here; get it with `apt-get install curl`"
        if os.environ.get("GATEHOUSE_REQUIRE_CLIENTS") == "1":
            pytest.fail(told)
        pytest.skip(told)
    command = tmp_path / "gatehouse"
    command.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={ROOT} GATEHOUSE_STORE_URL=sqlite:{cloud.folder}/data/"
        f'gatehouse.db\nexec {sys.executable} -m gateway "$@"\n'
    )
    command.chmod(0o755)
    done = subprocess.run(
        [str(EXAMPLES / "blynk-session.sh")],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("GATEHOUSE_")},
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "GATEHOUSE_HTTP_PORT": str(cloud.server.ports["http"]),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    found = re.fullmatch(
        r"(Weather (\d+)) was made and has sent a value\n"
        r"\1 has a new token and still says 21\.5\d*\n",
        done.stdout,
    )
    assert found, done
    assert cloud.temperatures(found[2]) == [(21.5,)]


# ── the smallest device ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["http", "mqtt"])
def test_a_device_claims_its_token_as_often_as_it_likes(cloud: Cloud, way: str) -> None:
    """The second time it is the same device."""
    issued = json.loads(cloud.operate("ticket", "issue", "--json"))
    for _ in range(2):
        done = cloud.run("blynk_device.py", cloud.address(way), GATEHOUSE_TOKEN=issued["token"])
        assert (done.status, done.err) == (0, ""), done
        assert done.out == "the token is claimed and a reading was sent\n"
    assert cloud.temperatures(str(issued["device_id"])) == [(21.5,)]


@pytest.mark.parametrize(
    ("way", "told"), [("http", "Invalid token."), ("mqtt", "Bad user name or password")]
)
def test_a_token_that_nobody_was_given_is_told(cloud: Cloud, way: str, told: str) -> None:
    done = cloud.run("blynk_device.py", cloud.address(way), GATEHOUSE_TOKEN="x" * 32)
    assert (done.status, done.err) == (1, f"refused: {told}\n"), done


def test_a_template_that_is_not_there_is_told(cloud: Cloud) -> None:
    """Over MQTT it arrives as a text; nothing is claimed."""
    issued = json.loads(cloud.operate("ticket", "issue", "--json"))
    for way in ("http", "mqtt"):
        arguments = (cloud.address(way), "TMPLnobody000")
        done = cloud.run("blynk_device.py", *arguments, GATEHOUSE_TOKEN=issued["token"])
        assert done.status == 1, done
        assert done.err.startswith("refused: "), done
    assert cloud.rows("SELECT id FROM device WHERE id = ?", issued["device_id"]) == []
